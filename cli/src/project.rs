//! A function's folder: its manifest, its sources, and whether its module is older than the sources.

use crate::error::{CliError, Result, io};
use crate::manifest::{self, Manifest};
use std::ffi::OsStr;
use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The manifest's file name.
pub const MANIFEST: &str = "function.yaml";

/// The module's file name.
pub const MODULE: &str = "function.wasm";

/// How many levels of folders below the function's own are searched for sources.
const MAX_DEPTH: usize = 16;

/// A function's folder.
pub struct Project {
    dir: PathBuf,
}

/// The state of the module.
#[derive(Debug, PartialEq, Eq)]
pub enum Module {
    /// The module is newer than every source, or there are no sources.
    Fresh,
    /// The module must be built; the text says why.
    Stale(String),
    /// There is neither a module nor a source.
    Missing,
}

impl Project {
    /// Opens a folder.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(dir: &Path) -> Result<Self> {
        match fs::metadata(dir) {
            Ok(found) if found.is_dir() => Ok(Self { dir: dir.to_owned() }),
            Ok(_) => Err(CliError::failed(format!("{} is not a folder", dir.display()))),
            Err(error) => Err(io("open", dir, error)),
        }
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The path of the module.
    pub fn module_path(&self) -> PathBuf {
        self.dir.join(MODULE)
    }

    /// Reads and checks `function.yaml`.
    ///
    /// # Errors
    /// When the file is missing, cannot be read, or is not valid. The message names file, line and column.
    pub fn manifest(&self) -> Result<Manifest> {
        let path = self.dir.join(MANIFEST);
        let mut text = String::new();
        // One byte more than the limit, so that the parser refuses a larger file.
        let limit = manifest::MAX_BYTES as u64 + 1;
        match fs::File::open(&path).and_then(|file| file.take(limit).read_to_string(&mut text)) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(CliError::failed(format!("there is no {MANIFEST} in {}", self.dir.display()))
                    .hint(
                        "go to a function's folder, name one, or start one with `orama function init <name>`",
                    ));
            }
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                return Err(CliError::failed(format!("{} is not UTF-8 text", path.display()))
                    .hint("save the file in the encoding UTF-8"));
            }
            Err(error) => return Err(io("read", &path, error)),
        }
        manifest::parse(&text).map_err(|error| {
            let at = error.at;
            CliError::failed(format!("{}:{}:{}: {}", path.display(), at.line, at.column, error.message))
        })
    }

    /// The Go files of the folder itself, without tests, sorted.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn go_files(&self) -> Result<Vec<PathBuf>> {
        let mut files: Vec<PathBuf> = entries(&self.dir)?
            .into_iter()
            .filter(|path| path.extension() == Some(OsStr::new("go")) && !is_test(path))
            .collect();
        files.sort();
        Ok(files)
    }

    /// Compares the module with the sources.
    ///
    /// # Errors
    /// When a file or folder cannot be read.
    pub fn module(&self) -> Result<Module> {
        let path = self.module_path();
        let built = match fs::metadata(&path).and_then(|found| found.modified()) {
            Ok(time) => Some(time),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(io("read", &path, error)),
        };
        let has_sources = !self.go_files()?.is_empty();
        match built {
            None if has_sources => Ok(Module::Stale(format!("there is no {MODULE} yet"))),
            None => Ok(Module::Missing),
            Some(_) if !has_sources => Ok(Module::Fresh),
            Some(built) => Ok(match newer_source(&self.dir, built, 0)? {
                Some(path) => {
                    let shown = path.strip_prefix(&self.dir).unwrap_or(&path);
                    Module::Stale(format!("{} changed", shown.display()))
                }
                None => Module::Fresh,
            }),
        }
    }
}

/// Finds a file that may be part of the build and is not older than `built`. Any file counts, as `//go:embed` may include it: an
/// unnecessary build costs seconds, and a missing one deploys old code.
fn newer_source(dir: &Path, built: SystemTime, depth: usize) -> Result<Option<PathBuf>> {
    let mut paths = entries(dir)?;
    paths.sort();
    for path in paths {
        let found = match fs::metadata(&path) {
            Ok(found) => found,
            // A temporary file of an editor that was just removed, or a dangling link: not a source.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(io("read", &path, error)),
        };
        if found.is_dir() && depth < MAX_DEPTH && !path.is_symlink() {
            if let Some(newer) = newer_source(&path, built, depth + 1)? {
                return Ok(Some(newer));
            }
        } else if !found.is_dir() && is_source(&path) && found.modified().is_ok_and(|time| time >= built) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

fn is_source(path: &Path) -> bool {
    let name = path.file_name();
    name != Some(OsStr::new(MANIFEST)) && name != Some(OsStr::new(MODULE)) && !is_test(path)
}

fn is_test(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().ends_with(b"_test.go"))
}

/// The paths in a folder, without hidden files.
fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let listed: std::io::Result<Vec<PathBuf>> =
        fs::read_dir(dir).and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect());
    let mut paths = listed.map_err(|error| io("read", dir, error))?;
    paths.retain(|path| path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b".")));
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn folder(files: &[(&str, u64)]) -> (tempfile::TempDir, Project) {
        let dir = tempfile::tempdir().unwrap();
        for (name, seconds) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let file = fs::File::create(&path).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(*seconds)).unwrap();
        }
        let project = Project::open(dir.path()).unwrap();
        (dir, project)
    }

    #[test]
    fn a_module_is_stale_when_a_source_is_not_older() {
        type Files = &'static [(&'static str, u64)];
        let cases: [(Files, Option<&str>); 10] = [
            (&[("function.go", 10), (MODULE, 20)], None),
            (&[("function.go", 30), (MODULE, 20)], Some("function.go")),
            (&[("function.go", 20), (MODULE, 20)], Some("function.go")),
            (&[("function.go", 10), ("go.mod", 30), (MODULE, 20)], Some("go.mod")),
            (&[("function.go", 10), ("go.sum", 30), (MODULE, 20)], Some("go.sum")),
            (&[("function.go", 10), ("inner/part.go", 30), (MODULE, 20)], Some("inner/part.go")),
            (&[("function.go", 10), ("texts/hello.txt", 30), (MODULE, 20)], Some("texts/hello.txt")),
            (&[("function.go", 10), (MANIFEST, 30), (MODULE, 20)], None),
            (&[("function.go", 10), ("function_test.go", 30), (MODULE, 20)], None),
            (&[("function.go", 10), (".git/index", 30), (MODULE, 20)], None),
        ];
        for (files, newer) in cases {
            let (_dir, project) = folder(files);
            let expected = newer.map_or(Module::Fresh, |name| Module::Stale(format!("{name} changed")));
            assert_eq!(project.module().unwrap(), expected, "{files:?}");
        }
    }

    #[test]
    fn without_a_module_it_is_built_and_without_sources_it_is_taken_as_it_is() {
        let (_dir, project) = folder(&[("function.go", 10)]);
        assert!(matches!(project.module().unwrap(), Module::Stale(why) if why.contains("no function.wasm")));
        let (_dir, project) = folder(&[(MODULE, 10), (MANIFEST, 30), ("notes.txt", 40)]);
        assert_eq!(project.module().unwrap(), Module::Fresh);
        let (_dir, project) = folder(&[(MANIFEST, 10), ("only_test.go", 10)]);
        assert_eq!(project.module().unwrap(), Module::Missing);
    }

    #[test]
    fn a_bad_manifest_is_named_with_file_line_and_column() {
        let (dir, project) = folder(&[]);
        assert!(project.manifest().unwrap_err().to_string().contains("there is no function.yaml"));
        fs::write(dir.path().join(MANIFEST), "name: hello\nmemory: 900\n").unwrap();
        let error = project.manifest().unwrap_err().to_string();
        assert!(error.contains("function.yaml:2:9: memory must be between"), "{error}");
    }
}
