//! Processes and folders of tests: bounded waits, and nothing left behind.

use rustix::process::Signal;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, Once, PoisonError, mpsc};
use std::time::{Duration, Instant};

/// Longer than a node takes to start or end on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

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

/// Starts a process that ends with this one, however this one ends.
///
/// Linux ties that to the thread that starts the child, and a test's thread ends with the test. So one thread that
/// lives as long as the process starts them all.
pub fn spawn(mut command: Command) -> std::io::Result<Child> {
    type Order = (Command, mpsc::Sender<std::io::Result<Child>>);
    static KEEPER: LazyLock<Mutex<mpsc::Sender<Order>>> = LazyLock::new(|| {
        let (orders, inbox) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in inbox {
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(orders)
    });
    // SAFETY: the closure makes one system call and touches no memory of this process.
    unsafe {
        command.pre_exec(|| Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?));
    }
    let (answer, started) = mpsc::channel();
    lock(&KEEPER).send((command, answer)).expect("the keeper lives as long as the process");
    started.recv().expect("the keeper answers")
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

/// Waits until `done` says so.
#[track_caller]
pub fn eventually(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits for a child to end by itself.
#[track_caller]
pub fn wait(child: &mut Child) -> ExitStatus {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if begun.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the process did not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs a command to its end.
#[track_caller]
pub fn output(mut command: Command) -> Output {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    spawn(command).unwrap().wait_with_output().unwrap()
}
