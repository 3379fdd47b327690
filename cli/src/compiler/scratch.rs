//! The folder that a build writes to, which goes with the build, also when Ctrl-C ends it.

use parking_lot::Mutex;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The folder of the build that runs.
static CURRENT: Mutex<Option<PathBuf>> = Mutex::new(None);

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
        *current = Some(made.path().to_owned());
        Ok(Self(made))
    }

    /// The folder's absolute path.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        *CURRENT.lock() = None;
    }
}

/// Has SIGINT and SIGTERM remove the folder before they end the process. For commands that wait for no signal themselves.
///
/// # Errors
/// When the signals cannot be caught.
pub fn remove_on_signals() -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::Builder::new().name("build-signals".into()).spawn(move || {
        for signal in signals.forever() {
            // Stays locked, so that no build begins any more. What cannot be removed stays: the process ends in any case.
            let current = CURRENT.lock();
            if let Some(path) = &*current {
                drop(fs::remove_dir_all(path));
            }
            drop(signal_hook::low_level::emulate_default_handler(signal));
        }
    })?;
    Ok(())
}
