//! Finds functions below a folder, and tells files that are no sources.

use crate::project::{MANIFEST, MODULE};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// Folders in which tools keep what they make or fetch, and tests their data. There may be very many in them.
const SKIPPED: [&str; 4] = ["node_modules", "target", "testdata", "vendor"];

/// How deep functions may lie.
const DEPTH_MAX: usize = 16;

/// The folders below one, itself first, without hidden ones and those of [`SKIPPED`]. Links are not followed, and what cannot be
/// read is left out.
pub fn folders(root: &Path) -> impl Iterator<Item = PathBuf> {
    WalkDir::new(root)
        .max_depth(DEPTH_MAX)
        .into_iter()
        .filter_entry(|entry| {
            entry.depth() == 0 || (entry.file_type().is_dir() && !is_skipped(entry.file_name()))
        })
        .filter_map(|entry| Some(entry.ok()?.into_path()))
}

/// The folders with a manifest below one.
pub fn functions(root: &Path) -> impl Iterator<Item = PathBuf> {
    folders(root).filter(|dir| dir.join(MANIFEST).is_file())
}

fn is_skipped(name: &OsStr) -> bool {
    is_hidden(name) || SKIPPED.iter().any(|skipped| name == *skipped)
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

/// Whether a change of a file, or of a folder, cannot change a module: hidden ones, tests of Go, what editors keep beside a file.
/// A module counts only where it is given, not built.
pub fn is_no_source(path: &Path, is_built: bool) -> bool {
    let Some(name) = path.file_name() else { return true };
    let bytes = name.as_encoded_bytes();
    is_skipped(name)
        || bytes.ends_with(b"_test.go")
        || bytes.ends_with(b"~")
        // Vim writes it to find out whether it may.
        || bytes == b"4913"
        || (is_built && name == MODULE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn functions_are_found_at_any_depth_and_not_among_what_tools_keep() {
        let root = tempfile::tempdir().unwrap();
        for dir in ["a", "group/b", "group/b/inner", ".hidden/c", "node_modules/d", "a/testdata/e", "none"] {
            fs::create_dir_all(root.path().join(dir)).unwrap();
            if dir != "none" {
                fs::write(root.path().join(dir).join(MANIFEST), "").unwrap();
            }
        }
        let mut found: Vec<PathBuf> =
            functions(root.path()).map(|dir| dir.strip_prefix(root.path()).unwrap().to_owned()).collect();
        found.sort();
        assert_eq!(found, ["a", "group/b", "group/b/inner"].map(PathBuf::from));
    }

    #[test]
    fn what_editors_and_builds_leave_is_no_source() {
        for name in
            ["function_test.go", ".function.go.swp", "function.go~", "4913", ".orama-build-x", "target"]
        {
            assert!(is_no_source(&Path::new("/f").join(name), true), "{name}");
        }
        for name in ["function.go", "page.html", "go.mod", "function.yaml"] {
            assert!(!is_no_source(&Path::new("/f").join(name), true), "{name}");
        }
        assert!(is_no_source(Path::new("/f/function.wasm"), true));
        assert!(!is_no_source(Path::new("/f/function.wasm"), false));
    }
}
