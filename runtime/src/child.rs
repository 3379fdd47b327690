//! Runs this very program as a confined child process, for work that a thread could neither bound nor end.
//!
//! The parent: [`Program::this`] names the program, [`Process::spawn`] starts it with one end of a socket pair,
//! [`Process::kill`] and [`Process::wait`] end it. The child: [`dispatch`] is the first call of `main`; it hands the socket
//! to the [`Kind`] that was asked for, which gives itself [`Limits`], then keeps itself to its files and system calls
//! ([`restrict`]), and only then reads what a tenant sent. [`frame`] is how both talk.
//!
//! A child inherits its end of the socket pair and nothing else: no descriptor, no variable but `TZ` and one for its
//! allocator. It ends when its parent does: by the end of the socket, which its kind must watch for, and by a signal at the
//! parent's death. It ignores the signals that a terminal or a service manager sends to all processes of a node, as a node
//! that drains still needs it.

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

mod confine;
pub mod frame;
mod seccomp;

pub use confine::{Held, Limits, restrict};

/// The first argument of a child. No command line may use the word for anything else.
pub const CHILD_ARGUMENT: &str = "__child";

/// Says which kind a test program is to become; see [`Program::of_test`].
const TEST_VARIABLE: &str = "ORAMA_TEST_CHILD";

/// Spawns that wait for their turn; each takes about a millisecond, and whoever asks waits for its own.
const SPAWNS_WAITING_MAX: usize = 64;

/// Whether `main` calls [`dispatch`], so that this program can be its own child.
static DISPATCHES: AtomicBool = AtomicBool::new(false);

/// Why there is no child.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// The program would run its own `main` instead of a child's.
    #[error(
        "this program cannot run children: its main function must call orama_runtime::child::dispatch first"
    )]
    NoDispatch,
    /// The system.
    #[error("cannot start a child process: {0}")]
    Spawn(#[source] io::Error),
}

/// A kind of child, by its name on the command line.
#[derive(Clone, Copy)]
pub struct Kind {
    /// One word in lower case; `ps` shows it.
    pub name: &'static str,
    /// The child's work: the socket to the parent, and what the parent named it by. It must return or end the process
    /// ([`end_now`]) when the socket ends.
    pub run: fn(UnixStream, &str) -> ExitCode,
}

/// Becomes a child when this process was started as one, and returns its exit code; `None` in any other process. `main`
/// calls it before anything else: before it reads arguments, and while there is no other thread.
#[must_use]
pub fn dispatch(kinds: &[Kind]) -> Option<ExitCode> {
    let mut words = std::env::args_os().skip(1);
    if words.next().is_none_or(|word| word != CHILD_ARGUMENT) {
        DISPATCHES.store(true, Ordering::Relaxed);
        return None;
    }
    let name = words.next().unwrap_or_default();
    let label = words.next().unwrap_or_default();
    Some(become_child(kinds, &name.to_string_lossy(), &label.to_string_lossy()))
}

/// What the entry test of a test program calls; see [`Program::of_test`]. Does nothing in an ordinary run of the tests.
pub fn dispatch_in_test(kinds: &[Kind]) {
    let Some(name) = std::env::var_os(TEST_VARIABLE) else { return };
    let code = become_child(kinds, &name.to_string_lossy(), "test");
    end_now(if code == ExitCode::SUCCESS { 0 } else { 1 });
}

fn become_child(kinds: &[Kind], name: &str, label: &str) -> ExitCode {
    let Some(kind) = kinds.iter().find(|kind| kind.name == name) else { return ExitCode::FAILURE };
    confine::leave_parent(kind.name);
    match std::io::stdin().as_fd().try_clone_to_owned() {
        Ok(socket) => (kind.run)(UnixStream::from(socket), label),
        Err(_) => ExitCode::FAILURE,
    }
}

/// Ends a child at once, whatever its other threads do: nothing of it is worth tidying up.
pub fn end_now(code: i32) -> ! {
    // SAFETY: it ends the process and touches no memory of it.
    unsafe { libc::_exit(code) }
}

/// The program that children are made from.
#[derive(Debug, Clone)]
pub struct Program {
    /// Before the kind and the label, or instead of them.
    arguments: Vec<OsString>,
    /// Whether it is a test program, which takes the kind from a variable.
    is_test: bool,
}

impl Program {
    /// This program, as it was when it was started: `/proc/self/exe` is the file itself, also after an update replaced it.
    ///
    /// # Errors
    /// [`ChildError::NoDispatch`]
    pub fn this() -> Result<Self, ChildError> {
        match DISPATCHES.load(Ordering::Relaxed) {
            true => Ok(Self { arguments: vec![CHILD_ARGUMENT.into()], is_test: false }),
            false => Err(ChildError::NoDispatch),
        }
    }

    /// This test program. `entry` is the path of a test in it that calls [`dispatch_in_test`] and nothing else.
    #[must_use]
    pub fn of_test(entry: &str) -> Self {
        let arguments = [entry, "--exact", "--nocapture", "--test-threads=1"];
        Self { arguments: arguments.into_iter().map(Into::into).collect(), is_test: true }
    }

    /// Neither a shell nor a search path is involved, and no code runs between the fork and the start of the program: the
    /// standard library uses `posix_spawn`, which copies no page tables of a large parent.
    fn command(&self, kind: &str, label: &str, socket: OwnedFd) -> Command {
        let mut command = Command::new("/proc/self/exe");
        command.arg0("orama").args(&self.arguments).env_clear();
        // mimalloc commits a GiB at its start, all of which would count as the child's memory.
        command.env("MIMALLOC_ARENA_EAGER_COMMIT", "0");
        // What local time is for SQL.
        command.envs(std::env::var_os("TZ").map(|zone| ("TZ", zone)));
        match self.is_test {
            true => command.env(TEST_VARIABLE, kind),
            false => command.args([kind, label]),
        };
        command.stdin(Stdio::from(socket)).stdout(Stdio::null()).stderr(Stdio::null());
        // Signals to the node's group, such as a terminal's Ctrl-C, are the node's alone.
        command.process_group(0);
        command
    }
}

/// A child process. Dropping it kills it and waits for its end, so that none is left as a zombie.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    /// `None` when its end was collected: then its number may be another process'.
    child: Mutex<Option<Child>>,
}

impl Process {
    /// Starts a child and gives it `socket`; the caller has the other end of the pair. `label` tells the operator in `ps`
    /// what the child is for, such as a namespace. Blocks for a millisecond or so.
    ///
    /// # Errors
    /// [`ChildError::Spawn`]
    pub fn spawn(program: &Program, kind: Kind, label: &str, socket: UnixStream) -> Result<Self, ChildError> {
        let command = program.command(kind.name, label, socket.into());
        let child = spawn_on_lasting_thread(command).map_err(ChildError::Spawn)?;
        let pid = Pid::from_child(&child);
        Ok(Self { pid, child: Mutex::new(Some(child)) })
    }

    /// The process' number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Ends it with SIGKILL, if it has not ended. Does not wait.
    pub fn kill(&self) {
        if self.child.lock().is_some() {
            // It can have ended, but its number is its own until it was waited for.
            let _ = rustix::process::kill_process(self.pid, Signal::KILL);
        }
    }

    /// Waits for its end and says how it ended; `None` when that was told before. Blocks as long as it runs.
    pub fn wait(&self) -> Option<ExitStatus> {
        // Without the lock, so that another thread can kill it meanwhile.
        while let Err(rustix::io::Errno::INTR) =
            rustix::process::waitid(WaitId::Pid(self.pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
        {
        }
        let mut child = self.child.lock().take()?;
        child.wait().ok()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if self.child.lock().is_some() {
            self.wait();
        }
    }
}

/// A program to start, and who waits for it.
type Spawn = (Command, mpsc::SyncSender<io::Result<Child>>);

/// Starts children on a thread that lives as long as this process: the kernel's signal at the parent's death comes when the
/// thread ends that started the child.
fn spawn_on_lasting_thread(command: Command) -> io::Result<Child> {
    static SPAWNER: LazyLock<Option<mpsc::SyncSender<Spawn>>> = LazyLock::new(|| {
        let (spawns, waiting) = mpsc::sync_channel::<Spawn>(SPAWNS_WAITING_MAX);
        let run = move || {
            for (mut command, done) in waiting {
                if let Err(mpsc::SendError(Ok(mut child))) = done.send(command.spawn()) {
                    // Nobody waits for it any more.
                    let _ = child.kill();
                    let _ = child.wait();
                }
            }
        };
        std::thread::Builder::new().name("children".into()).spawn(run).ok().map(|_| spawns)
    });
    let lost = || io::Error::other("the thread that starts children has ended");
    let spawner = SPAWNER.as_ref().ok_or_else(lost)?;
    let (done, child) = mpsc::sync_channel(1);
    spawner.send((command, done)).map_err(|_| lost())?;
    child.recv().map_err(|_| lost())?
}

#[cfg(test)]
mod tests;
