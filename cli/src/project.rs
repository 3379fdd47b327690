//! A function's folder: its manifest, its sources and its module.

use crate::error::{CliError, Result, io};
use crate::manifest::{self, Manifest};
use crate::migrations;
use orama_server::platform::migrations::Migration;
use std::ffi::OsStr;
use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

/// The manifest's file name.
pub const MANIFEST: &str = "function.yaml";

/// The module's file name.
pub const MODULE: &str = "function.wasm";

/// A function's folder.
pub struct Project {
    dir: PathBuf,
}

/// What the module is built from.
#[derive(Debug, PartialEq, Eq)]
pub enum Source {
    /// Go files.
    Go,
    /// A package of Rust.
    Rust,
    /// Nothing: the module is given, if there is one.
    None,
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
        self.manifest_for(None)
    }

    /// Reads the module.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub fn module(&self) -> Result<Vec<u8>> {
        let path = self.module_path();
        fs::read(&path).map_err(|error| {
            io("read", &path, error).hint(format!(
                "write Go or Rust code into the folder, or build {MODULE} with another compiler"
            ))
        })
    }

    /// The migrations of the folder that a manifest names; none where it names none.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn migrations(&self, manifest: &Manifest) -> Result<Vec<Migration>> {
        let dir = manifest.migrations.as_ref().map(|dir| self.dir.join(dir));
        dir.map_or_else(|| Ok(Vec::new()), |dir| migrations::read(&dir))
    }

    /// The same as it is in one of its environments.
    ///
    /// # Errors
    /// As [`Self::manifest`], and when there is no such environment.
    pub fn manifest_for(&self, environment: Option<&str>) -> Result<Manifest> {
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
        manifest::parse_for(&text, environment).map_err(|error| {
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

    /// What the folder has to build from.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn source(&self) -> Result<Source> {
        Ok(if !self.go_files()?.is_empty() {
            Source::Go
        } else if self.dir.join("Cargo.toml").is_file() {
            Source::Rust
        } else {
            Source::None
        })
    }
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

    fn folder(files: &[&str]) -> (tempfile::TempDir, Project) {
        let dir = tempfile::tempdir().unwrap();
        for name in files {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let project = Project::open(dir.path()).unwrap();
        (dir, project)
    }

    #[test]
    fn go_files_and_a_cargo_toml_are_sources_and_nothing_else_is() {
        let cases: [(&[&str], Source); 5] = [
            (&["function.go", MODULE], Source::Go),
            (&["function.go", "Cargo.toml"], Source::Go),
            (&["Cargo.toml", MODULE], Source::Rust),
            (&[MODULE, MANIFEST, "notes.txt"], Source::None),
            (&["only_test.go", ".hidden.go"], Source::None),
        ];
        for (files, expected) in cases {
            let (_dir, project) = folder(files);
            assert_eq!(project.source().unwrap(), expected, "{files:?}");
        }
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
