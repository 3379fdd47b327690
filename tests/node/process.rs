//! Processes and folders of tests: bounded waits, and nothing left behind.

use orama_test_support::children;
pub use orama_test_support::children::{eventually, spawn, wait};
pub use orama_test_support::lock;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The binary under test.
const ORAMA: &str = env!("CARGO_BIN_EXE_orama-under-test");

/// A new folder for a node's home or a user's project; folders of test runs that are over are removed.
pub fn new_dir(what: &str) -> PathBuf {
    children::new_dir(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("node-tests"), what)
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

/// A process' children, of all its threads.
pub fn children_of(process: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().map(|id| id.parse().unwrap()).collect::<Vec<_>>()).collect()
}
