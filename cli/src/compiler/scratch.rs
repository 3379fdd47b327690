//! The folders that builds write to, which go with the builds, also when Ctrl-C ends them.

use parking_lot::Mutex;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The folders of the builds that run.
static CURRENT: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// A hidden folder beside the module that is built.
pub struct Scratch(tempfile::TempDir);

impl Scratch {
    /// Makes the folder. It is hidden, so that Go does not take it for a package, and in the same folder as the module, so that a
    /// rename moves the module.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub fn new(dir: &Path) -> io::Result<Self> {
        // Absolute, as the compiler runs in the function's folder. Locked, so that a signal finds what was made.
        let mut current = CURRENT.lock();
        let made = tempfile::Builder::new().prefix(".orama-build-").tempdir_in(std::path::absolute(dir)?)?;
        current.insert(made.path().to_owned());
        Ok(Self(made))
    }

    /// The folder's absolute path.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        CURRENT.lock().remove(self.0.path());
    }
}

/// Removes the folders of the builds that run. No build begins afterwards: the process is about to end.
pub fn remove_now() {
    let current = CURRENT.lock();
    for path in &*current {
        // What cannot be removed stays: the process ends in any case.
        drop(fs::remove_dir_all(path));
    }
    std::mem::forget(current);
}

/// Has SIGINT and SIGTERM remove the folders before they end the process. For commands that wait for no signal themselves.
///
/// # Errors
/// When the signals cannot be caught.
pub fn remove_on_signals() -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::Builder::new().name("build-signals".into()).spawn(move || {
        for signal in signals.forever() {
            remove_now();
            drop(signal_hook::low_level::emulate_default_handler(signal));
        }
    })?;
    Ok(())
}
