//! Atomic file writes, and folders that only their owner can enter.

use std::fs::{self, DirBuilder, File, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Mode of folders: only the owner may enter.
const DIR_MODE: u32 = 0o700;

/// Mode of files: only the owner may read and write.
pub const FILE_MODE: u32 = 0o600;

/// Prefix of temporary files; [`remove_temporary`] deletes those that a crash left. It is distinctive, because the operator may
/// use the home folder for other files too.
const TEMPORARY_PREFIX: &str = ".orama-tmp-";

/// The lock file's name in the home folder.
const LOCK_FILE: &str = "node.lock";

/// Creates a folder and its parents with mode 0700. An existing folder keeps its mode, because it may belong to the operator.
///
/// # Errors
/// The system's error, for example if there is a file of that name.
pub fn create_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(DIR_MODE).create(path)
}

/// Creates a folder for the node alone. Removes the access of others from an existing one.
///
/// # Errors
/// The system's error, for example if there is a file of that name.
pub fn private_dir(path: &Path) -> io::Result<()> {
    create_dir(path)?;
    if fs::metadata(path)?.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(path, Permissions::from_mode(DIR_MODE))?;
    }
    Ok(())
}

/// Replaces a file atomically and durably: after a crash it has the old content or the new. Its mode is 0600.
///
/// # Errors
/// The system's error. The file then keeps its old content.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(TEMPORARY_PREFIX).tempfile_in(dir)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    // The rename is durable only when the folder is synced.
    File::open(dir)?.sync_all()
}

/// Deletes temporary files that a crash left in a folder. Must not be called while files are written there.
///
/// # Errors
/// The system's error.
pub fn remove_temporary(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(TEMPORARY_PREFIX.as_bytes()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Why a home folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeLockError {
    /// Another node is running on it.
    #[error("another node is running on {}; stop it, or give this one its own folder with --home", home.display())]
    Taken {
        /// The home folder.
        home: PathBuf,
    },
    /// The folder or the lock file cannot be created.
    #[error("cannot use the home folder {}: {source}", home.display())]
    Unusable {
        /// The home folder.
        home: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// The exclusive lock of a home folder, held until it is dropped. The system releases it when the process ends, so a crash leaves
/// nothing to clean up.
#[derive(Debug)]
pub struct HomeLock {
    file: File,
}

impl Drop for HomeLock {
    fn drop(&mut self) {
        // Closing the file is not enough. A process that another thread is just starting has the descriptor too, until it
        // executes its program, and the lock is held while any descriptor is open.
        if let Err(error) = self.file.unlock() {
            tracing::warn!(%error, "the lock of the home folder ends with this process");
        }
    }
}

impl HomeLock {
    /// Creates the home folder if it is missing, locks it, and removes temporary files that a crash left.
    ///
    /// # Errors
    /// [`HomeLockError`]
    pub fn acquire(home: &Path) -> Result<Self, HomeLockError> {
        let unusable = |source| HomeLockError::Unusable { home: home.to_owned(), source };
        create_dir(home).map_err(unusable)?;
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(home.join(LOCK_FILE))
            .map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => {
                let lock = Self { file };
                // A temporary credentials file may contain a key. Nothing else writes here, because the folder is locked.
                remove_temporary(home).map_err(unusable)?;
                Ok(lock)
            }
            Err(TryLockError::WouldBlock) => Err(HomeLockError::Taken { home: home.to_owned() }),
            Err(TryLockError::Error(source)) => Err(unusable(source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use orama_test_support::children::while_some_are_started;
    use std::time::Duration;

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn private_folders_are_closed_to_others() {
        let dir = tempfile::tempdir().unwrap();
        let open = dir.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, Permissions::from_mode(0o755)).unwrap();
        create_dir(&open).unwrap();
        assert_eq!(mode(&open), 0o755, "an operator's own folder keeps its mode");
        private_dir(&open).unwrap();
        assert_eq!(mode(&open), 0o700);
        private_dir(&dir.path().join("a/b")).unwrap();
        assert_eq!((mode(&dir.path().join("a")), mode(&dir.path().join("a/b"))), (0o700, 0o700));
    }

    #[test]
    fn a_file_is_replaced_whole_and_leftovers_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        write_atomic(&path, b"old").unwrap();
        write_atomic(&path, b"new").unwrap();
        fs::write(dir.path().join(format!("{TEMPORARY_PREFIX}left")), b"ha").unwrap();
        remove_temporary(dir.path()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(mode(&path), 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_home_belongs_to_one_node_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        let lock = HomeLock::acquire(&home).unwrap();
        let message = HomeLock::acquire(&home).unwrap_err().to_string();
        assert!(message.contains("another node is running on") && message.contains("--home"), "{message}");
        drop(lock);
        HomeLock::acquire(&home).unwrap();
    }

    #[test]
    fn a_home_is_free_at_once_although_processes_are_being_started() {
        let dir = tempfile::tempdir().unwrap();
        while_some_are_started(|| {
            for _ in 0..300 {
                let lock = HomeLock::acquire(dir.path()).unwrap();
                // Long enough for a process to be started meanwhile.
                std::thread::sleep(Duration::from_micros(500));
                drop(lock);
            }
        });
    }
}
