//! Child processes that end with this one, however this one ends.

use rustix::process::Signal;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

/// Longer than anything here takes to start or end on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Starts a process that ends with this one.
///
/// Linux ties that to the thread that starts the child, and a test's thread ends with the test. So one thread that
/// lives as long as the process starts them all.
///
/// # Errors
/// When the process cannot be started.
///
/// # Panics
/// When the thread that starts processes is gone.
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
    let keeper = KEEPER.lock().unwrap_or_else(PoisonError::into_inner);
    keeper.send((command, answer)).expect("the keeper lives as long as the process");
    drop(keeper);
    started.recv().expect("the keeper answers")
}

/// A new folder `PID-COUNT-WHAT` in `all`; those of processes that are over are removed.
///
/// # Panics
/// When it cannot be made.
#[must_use]
pub fn new_dir(all: &Path, what: &str) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    static CLEANED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
    let mut cleaned = CLEANED.lock().unwrap_or_else(PoisonError::into_inner);
    if !cleaned.iter().any(|dir| dir == all) {
        for entry in fs::read_dir(all).into_iter().flatten().flatten() {
            let owner = entry.file_name().to_string_lossy().split('-').next().map(str::to_owned);
            if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        cleaned.push(all.to_owned());
    }
    drop(cleaned);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let dir = all.join(format!("{}-{count}-{what}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    dir
}

/// Waits for a child to end by itself.
///
/// # Panics
/// When it does not.
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

/// Waits until `done` says so.
///
/// # Panics
/// When it never does.
#[track_caller]
pub fn eventually(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
