//! Child processes that end with this one, however this one ends.

use rustix::process::Signal;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
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

/// Runs `what` while other threads start processes, one after another. Each of them holds copies of all descriptors of this
/// process from its fork until it executes its program, two milliseconds later.
///
/// # Panics
/// When no process could be started.
pub fn while_some_are_started<T>(what: impl FnOnce() -> T) -> T {
    // Two threads, so that nearly always at least one child is between its fork and its program.
    const STARTERS: usize = 2;
    let is_over = AtomicBool::new(false);
    let start = || {
        let mut started = 0;
        while !is_over.load(Ordering::Relaxed) {
            let mut command = Command::new("true");
            // SAFETY: the closure sleeps and touches no memory of this process.
            unsafe {
                command.pre_exec(|| {
                    std::thread::sleep(Duration::from_millis(2));
                    Ok(())
                });
            }
            assert!(command.status().unwrap().success());
            started += 1;
        }
        started
    };
    std::thread::scope(|scope| {
        let starters: Vec<_> = (0..STARTERS).map(|_| scope.spawn(start)).collect();
        // Stops the starters even if `what` panics.
        let over = Over(&is_over);
        let done = what();
        drop(over);
        let started: Vec<u32> = starters.into_iter().map(|starter| starter.join().unwrap()).collect();
        assert!(started.iter().all(|count| *count > 0), "no process was started");
        done
    })
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
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
