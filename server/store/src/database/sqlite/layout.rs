//! The files of a namespace's database: a folder of its own, the only one that its SQL process can open.

use crate::files;
use orama_runtime::names::Namespace;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// The database's name in its folder.
pub(super) const FILE: &str = "data.db";

/// The files of a database, in the order of a move: the logs first, so that an interrupted move can continue.
const SUFFIXES: [&str; 4] = ["-journal", "-shm", "-wal", ""];

/// The path of a namespace's database, if it has one. Moves nothing, because a node may have it open.
///
/// # Errors
/// The system's error; [`io::ErrorKind::ResourceBusy`] if a move from an older layout is unfinished.
pub fn file_of(dir: &Path, namespace: &Namespace) -> io::Result<PathBuf> {
    let old = dir.join(format!("{namespace}.db"));
    let folder = dir.join(namespace.as_str());
    if !old.try_exists()? {
        return Ok(folder.join(FILE));
    }
    if folder.join(format!("{FILE}-wal")).try_exists()? {
        let message = format!(
            "the move of {} to {} is unfinished; invoke a function of the namespace that uses its database, then try again",
            old.display(),
            folder.display()
        );
        return Err(io::Error::new(io::ErrorKind::ResourceBusy, message));
    }
    Ok(old)
}

/// Bytes of a namespace's database and its log, in either layout; 0 where there is none.
pub(super) fn used_bytes(dir: &Path, namespace: &Namespace) -> io::Result<u64> {
    let (old, new) = (dir.join(namespace.as_str()), dir.join(namespace.as_str()).join(FILE));
    let mut bytes = 0;
    for file in [old.with_extension("db"), new] {
        for suffix in ["", "-wal"] {
            let mut name = file.clone().into_os_string();
            name.push(suffix);
            bytes += match fs::metadata(name) {
                Ok(found) => found.len(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
                Err(error) => return Err(error),
            };
        }
    }
    Ok(bytes)
}

/// Creates a namespace's folder if it is missing.
pub(super) fn prepare(dir: &Path, namespace: &Namespace) -> io::Result<PathBuf> {
    let folder = dir.join(namespace.as_str());
    files::private_dir(&folder)?;
    adopt(dir, namespace, &folder)?;
    File::open(dir)?.sync_all()?;
    Ok(folder)
}

/// Deletes all files of a namespace.
pub(super) fn remove(dir: &Path, namespace: &Namespace) -> io::Result<()> {
    for suffix in SUFFIXES {
        gone(fs::remove_file(dir.join(format!("{namespace}.db{suffix}"))))?;
    }
    gone(fs::remove_dir_all(dir.join(namespace.as_str())))?;
    File::open(dir)?.sync_all()
}

fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Moves the files of an older layout, where all namespaces shared one folder. No process may have them open.
fn adopt(dir: &Path, namespace: &Namespace, folder: &Path) -> io::Result<()> {
    let old = |suffix| dir.join(format!("{namespace}.db{suffix}"));
    if !old("").try_exists()? {
        return Ok(());
    }
    files::private_dir(folder)?;
    let new = folder.join(FILE);
    if new.try_exists()? {
        let message = format!("both {} and {} exist; keep one of them", old("").display(), new.display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
    }
    for suffix in SUFFIXES {
        gone(fs::rename(old(suffix), folder.join(format!("{FILE}{suffix}"))))?;
        // Synced in this order: a database without its log has lost the commits in the log.
        File::open(folder)?.sync_all()?;
    }
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_an_older_layout_are_moved_also_after_a_move_that_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let namespace = Namespace::new("shop").unwrap();
        let write = |name: &str| fs::write(dir.path().join(name), name).unwrap();
        write("shop.db");
        write("shop.db-wal");
        write("shopping.db");
        // An interrupted move that has moved the log.
        fs::create_dir(dir.path().join("shop")).unwrap();
        fs::rename(dir.path().join("shop.db-wal"), dir.path().join("shop/data.db-wal")).unwrap();
        assert_eq!(file_of(dir.path(), &namespace).unwrap_err().kind(), io::ErrorKind::ResourceBusy);
        prepare(dir.path(), &namespace).unwrap();
        let file = file_of(dir.path(), &namespace).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "shop.db");
        assert_eq!(fs::read_to_string(dir.path().join("shop/data.db-wal")).unwrap(), "shop.db-wal");
        let other = Namespace::new("shopping").unwrap();
        assert_eq!(file_of(dir.path(), &other).unwrap(), dir.path().join("shopping.db"));
        write("shop.db");
        assert_eq!(prepare(dir.path(), &namespace).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        remove(dir.path(), &namespace).unwrap();
        remove(dir.path(), &namespace).unwrap();
        let left: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["shopping.db"]);
    }
}
