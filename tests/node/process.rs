//! Processes and folders of tests: bounded waits, and nothing left behind.

pub use orama_test_support::children::{eventually, spawn, wait};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

/// The binary under test.
const ORAMA: &str = env!("CARGO_BIN_EXE_orama");

/// A new folder for a node's home or a user's project; folders of test runs that are over are removed.
pub fn new_dir(what: &str) -> PathBuf {
    static CLEANED: Once = Once::new();
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("node-tests");
    CLEANED.call_once(|| {
        for entry in fs::read_dir(&all).into_iter().flatten().flatten() {
            let owner = entry.file_name().to_string_lossy().split('-').next().map(str::to_owned);
            if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    });
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let dir = all.join(format!("{}-{count}-{what}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    dir
}

/// Locks although a test that failed may have held it.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `orama`, with nothing of the caller's own Orama in its environment.
pub fn orama(arguments: &[&str]) -> Command {
    let mut command = Command::new(ORAMA);
    command.args(arguments).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ORAMA_") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a command to its end.
#[track_caller]
pub fn output(mut command: Command) -> Output {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    spawn(command).unwrap().wait_with_output().unwrap()
}
