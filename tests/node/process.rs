//! Processes and folders of tests: bounded waits, and nothing left behind.

pub use orama_test_support::children::{eventually, spawn, wait};
pub use orama_test_support::lock;
use orama_test_support::{children, tools};
use rustix::process::{Pid, Signal, kill_process_group};
use std::cell::RefCell;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

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

/// Runs a command, which must end with this code. Standard output and standard error.
#[track_caller]
pub fn run(code: i32, command: Command) -> (String, String) {
    let shown = format!("{:?}", command.get_args().collect::<Vec<_>>());
    let output = output(command);
    let (stdout, stderr) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(code), "{shown}\n{stdout}\n{stderr}");
    (stdout, stderr)
}

/// Lets a command find the compilers that the tests' own tools brought, as if they were installed.
pub fn add_compilers(command: &mut Command) {
    let found = ["go", "tinygo"].iter().filter_map(|tool| Some(tools::find(tool)?.parent()?.to_owned()));
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.env("PATH", std::env::join_paths(std::env::split_paths(&path).chain(found)).unwrap());
}

/// A process' children, of all its threads.
pub fn children_of(process: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().map(|id| id.parse().unwrap()).collect::<Vec<_>>()).collect()
}

/// A program that runs in a folder of its own. Both are gone when it is dropped; the folder stays where a test fails.
pub struct InFolder {
    child: RefCell<Child>,
    dir: PathBuf,
}

impl InFolder {
    /// Starts a program whose home is the folder, and which says there in `log` what it has to say.
    pub fn start(mut command: Command, dir: PathBuf) -> Self {
        let log = fs::File::create(dir.join("log")).unwrap();
        command.current_dir(&dir).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        command.env("HOME", &dir).env_remove("XDG_DATA_HOME").env_remove("XDG_CONFIG_HOME");
        // A browser is started by a script, and must not survive it.
        command.process_group(0);
        Self { child: RefCell::new(spawn(command).unwrap()), dir }
    }

    /// Fails, with what it said, when it has ended.
    pub fn must_run(&self) {
        let ended = self.child.borrow_mut().try_wait().unwrap();
        assert!(ended.is_none(), "{ended:?}: {}", fs::read_to_string(self.dir.join("log")).unwrap());
    }
}

impl Drop for InFolder {
    fn drop(&mut self) {
        let child = self.child.get_mut();
        if let Some(group) = Pid::from_raw(child.id().cast_signed()) {
            // One that has ended cannot be ended again.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = child.wait();
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}
