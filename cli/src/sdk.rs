//! The Go SDK that this program brings along, and its copy in a function's folder.
//!
//! A copy holds the hash of each file as it was written, so that an update knows what its user changed.

use crate::error::{CliError, Result, io};
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The folder of the copy, below the function's own. `go.mod` names it.
pub const FOLDER: &str = "orama";

/// The file of the hashes: a line each, the hash and the file's name.
const SUMS: &str = ".sums";

/// Names and contents of the SDK's files, sorted.
const FILES: [(&str, &str); 29] = [
    ("README.md", include_str!("../../sdk/go/README.md")),
    ("calls.go", include_str!("../../sdk/go/calls.go")),
    ("context.go", include_str!("../../sdk/go/context.go")),
    ("database.go", include_str!("../../sdk/go/database.go")),
    ("go.mod", include_str!("../../sdk/go/go.mod")),
    ("host_other.go", include_str!("../../sdk/go/host_other.go")),
    ("host_wasm.go", include_str!("../../sdk/go/host_wasm.go")),
    ("internal/host/database.go", include_str!("../../sdk/go/internal/host/database.go")),
    ("internal/host/host.go", include_str!("../../sdk/go/internal/host/host.go")),
    ("memory.go", include_str!("../../sdk/go/memory.go")),
    ("orama.go", include_str!("../../sdk/go/orama.go")),
    ("oramalog/log.go", include_str!("../../sdk/go/oramalog/log.go")),
    ("oramatest/cache.go", include_str!("../../sdk/go/oramatest/cache.go")),
    ("oramatest/calls.go", include_str!("../../sdk/go/oramatest/calls.go")),
    ("oramatest/database.go", include_str!("../../sdk/go/oramatest/database.go")),
    ("oramatest/fetch.go", include_str!("../../sdk/go/oramatest/fetch.go")),
    ("oramatest/limits.go", include_str!("../../sdk/go/oramatest/limits.go")),
    ("oramatest/oramatest.go", include_str!("../../sdk/go/oramatest/oramatest.go")),
    ("oramatest/run.go", include_str!("../../sdk/go/oramatest/run.go")),
    ("oramatest/sqlite/go.mod", include_str!("../../sdk/go/oramatest/sqlite/go.mod")),
    ("oramatest/sqlite/go.sum", include_str!("../../sdk/go/oramatest/sqlite/go.sum")),
    ("oramatest/sqlite/guard.go", include_str!("../../sdk/go/oramatest/sqlite/guard.go")),
    ("oramatest/sqlite/rows.go", include_str!("../../sdk/go/oramatest/sqlite/rows.go")),
    ("oramatest/sqlite/sqlite.go", include_str!("../../sdk/go/oramatest/sqlite/sqlite.go")),
    ("oramatest/storage.go", include_str!("../../sdk/go/oramatest/storage.go")),
    ("oramatest/topics.go", include_str!("../../sdk/go/oramatest/topics.go")),
    ("oramatest/web.go", include_str!("../../sdk/go/oramatest/web.go")),
    ("services.go", include_str!("../../sdk/go/services.go")),
    ("web.go", include_str!("../../sdk/go/web.go")),
];

/// What an update did, or would overwrite.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Files with new content.
    pub written: Vec<String>,
    /// Files that the SDK does not have any more.
    pub removed: Vec<String>,
}

fn hash(text: &[u8]) -> String {
    blake3::hash(text).to_hex().to_string()
}

/// Writes the copy, or renews it, in a function's folder.
///
/// # Errors
/// When a file was changed since it was written and `force` is not given; then nothing is written. When a file cannot be written.
pub fn update(project: &Path, force: bool) -> Result<Changes> {
    let dir = project.join(FOLDER);
    let known = sums(&dir)?;
    let mut changes = Changes::default();
    let mut foreign = Vec::new();
    for (name, text) in FILES {
        let Some(found) = read(&dir.join(name))? else {
            changes.written.push(name.to_owned());
            continue;
        };
        if found != text.as_bytes() {
            changes.written.push(name.to_owned());
            if known.get(name) != Some(&hash(&found)) {
                foreign.push(name.to_owned());
            }
        }
    }
    for (name, sum) in known.iter().filter(|(name, _)| FILES.iter().all(|(file, _)| file != name)) {
        if let Some(found) = read(&dir.join(name))? {
            changes.removed.push(name.clone());
            if *sum != hash(&found) {
                foreign.push(name.clone());
            }
        }
    }
    if !foreign.is_empty() && !force {
        let message = format!("changed since they were written to {}: {}", dir.display(), foreign.join(", "));
        return Err(CliError::failed(message)
            .hint("keep your changes elsewhere and try again with --force, which overwrites these files"));
    }
    write(&dir, &changes)?;
    Ok(changes)
}

fn write(dir: &Path, changes: &Changes) -> Result<()> {
    for (name, text) in FILES.iter().filter(|(name, _)| changes.written.iter().any(|written| written == name))
    {
        put(&dir.join(name), text)?;
    }
    for name in &changes.removed {
        let path = dir.join(name);
        fs::remove_file(&path).map_err(|error| io("remove", &path, error))?;
    }
    let sums: String =
        FILES.iter().map(|(name, text)| format!("{}  {name}\n", hash(text.as_bytes()))).collect();
    put(&dir.join(SUMS), &sums)
}

fn put(path: &PathBuf, text: &str) -> Result<()> {
    let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
    folder.and_then(|()| fs::write(path, text)).map_err(|error| io("write", path, error))
}

fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io("read", path, error)),
    }
}

/// The hashes of the files as they were written. Empty for a folder that is no copy.
fn sums(dir: &Path) -> Result<BTreeMap<String, String>> {
    let text = read(&dir.join(SUMS))?.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    // A name out of the folder is not one that was written; it must not be removed either.
    let is_inside =
        |name: &str| Path::new(name).components().all(|part| matches!(part, std::path::Component::Normal(_)));
    let lines = text.lines().filter_map(|line| line.split_once("  "));
    Ok(lines
        .filter(|(_, name)| is_inside(name))
        .map(|(sum, name)| (name.to_owned(), sum.to_owned()))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_sdk_is_brought_along() {
        let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sdk/go");
        let mut names = Vec::new();
        for folder in ["", "internal/host", "oramalog", "oramatest", "oramatest/sqlite"] {
            for entry in fs::read_dir(sdk.join(folder)).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(&sdk).unwrap().to_str().unwrap().to_owned();
                if path.is_file() && !name.ends_with("_test.go") {
                    names.push(name);
                }
            }
        }
        names.sort();
        assert_eq!(names, FILES.map(|(name, _)| name));
    }

    #[test]
    fn an_update_renews_old_files_and_refuses_to_overwrite_changed_ones() {
        let dir = tempfile::tempdir().unwrap();
        let copy = dir.path().join(FOLDER);
        assert_eq!(update(dir.path(), false).unwrap().written.len(), FILES.len());
        assert_eq!(update(dir.path(), false).unwrap(), Changes::default());

        // As an older SDK left it: a file with other content, one that is gone now, and one that is missing.
        fs::write(copy.join("memory.go"), "old").unwrap();
        fs::write(copy.join("gone.go"), "gone").unwrap();
        fs::remove_file(copy.join("web.go")).unwrap();
        let sums = format!(
            "{}  memory.go\n{}  gone.go\n{}  ../go.mod\n",
            hash(b"old"),
            hash(b"gone"),
            hash(b"mine")
        );
        fs::write(copy.join(SUMS), sums).unwrap();
        fs::write(dir.path().join("go.mod"), "mine").unwrap();
        let changes = update(dir.path(), false).unwrap();
        assert_eq!(
            (changes.written, changes.removed),
            (vec!["memory.go".into(), "web.go".into()], vec!["gone.go".into()])
        );
        assert!(!copy.join("gone.go").exists() && dir.path().join("go.mod").exists());

        fs::write(copy.join("orama.go"), "package orama // mine").unwrap();
        fs::remove_file(copy.join("web.go")).unwrap();
        let error = update(dir.path(), false).unwrap_err().to_string();
        assert!(error.contains("orama.go") && !error.contains("web.go"), "{error}");
        assert!(!copy.join("web.go").exists(), "something was written");
        assert_eq!(update(dir.path(), true).unwrap().written, ["orama.go", "web.go"]);
        assert_eq!(update(dir.path(), false).unwrap(), Changes::default());
    }
}
