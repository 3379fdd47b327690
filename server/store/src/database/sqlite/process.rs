//! One namespace's SQL process, as the node sees it.
//!
//! The calling thread writes a call to the socket. One thread of the node for each process (`thread.rs`) writes what the socket
//! does not accept at once, and reads the answers. It ends the process if a call exceeds its deadline by too much, if the process
//! is idle for too long, or if it violates the protocol. Calls in progress then fail, and the next call starts another process.

use super::wire::{self, Access, Call, Request};
use crate::limits::DB_KILL_AFTER;
use orama_runtime::child::{Program, frame};
use orama_runtime::names::Namespace;
use orama_runtime::services::{BatchOutcome, Statement};
use parking_lot::{Condvar, Mutex};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

mod thread;

/// How long an idle process may take to checkpoint its log and exit. If it is killed, the next process recovers the log.
const END_PATIENCE: Duration = Duration::from_secs(1);

/// Why a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    /// It was idle.
    Idle,
    /// The node is stopping.
    Stopping,
    /// The namespace was removed.
    Removed,
    /// A call exceeded its deadline.
    Overdue,
    /// It exited by itself.
    Died,
    /// It violated the protocol.
    Nonsense,
    /// It could not be started.
    NotStarted,
}

/// The state of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Serving,
    /// The node has closed its end of the socket and kills the process at this time.
    Ending(Instant, End),
    /// It was killed and has not exited yet.
    Killing(End),
    /// It has exited and was reaped.
    Gone,
}

/// The turns that a call holds: the namespace's and the node's.
pub(super) type Turns = (OwnedSemaphorePermit, OwnedSemaphorePermit);

/// A call in progress. Its turns are released when the process has answered or exited, even if the caller stopped waiting.
struct Pending {
    kill_at: Instant,
    statements: usize,
    writes: bool,
    done: oneshot::Sender<BatchOutcome>,
    turns: Turns,
}

struct State {
    phase: Phase,
    calls: HashMap<u64, Pending>,
    /// Bytes that the socket has not accepted yet.
    outgoing: VecDeque<u8>,
    /// When the thread wakes up without a message.
    looks_at: Instant,
    used_at: Instant,
    /// When it was started, until it reports that it serves.
    starting_since: Option<Instant>,
}

/// A SQL process.
pub(super) struct Process {
    namespace: Namespace,
    idle: Duration,
    /// Its process id; 0 before it was started.
    id: AtomicU32,
    socket: UnixStream,
    /// Wakes the thread.
    nudge: OwnedFd,
    next_id: AtomicU64,
    state: Mutex<State>,
    /// Notified when it has exited.
    gone: Condvar,
}

/// The parameters of a process.
pub(super) struct Start {
    pub(super) program: Program,
    pub(super) namespace: Namespace,
    /// The folder of all databases.
    pub(super) dir: PathBuf,
    /// How long it is kept without calls.
    pub(super) idle: Duration,
    /// Its permit among all processes, held until it has exited.
    pub(super) _place: OwnedSemaphorePermit,
}

impl Process {
    /// Starts a process without waiting for it: calls can be sent at once.
    pub(super) fn start(start: Start) -> io::Result<Arc<Self>> {
        let (socket, theirs) = UnixStream::pair()?;
        socket.set_nonblocking(true)?;
        let now = Instant::now();
        let process = Arc::new(Self {
            namespace: start.namespace.clone(),
            idle: start.idle,
            id: AtomicU32::new(0),
            socket,
            nudge: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            next_id: AtomicU64::new(0),
            state: Mutex::new(State {
                phase: Phase::Serving,
                calls: HashMap::new(),
                outgoing: VecDeque::new(),
                looks_at: now,
                used_at: now,
                starting_since: Some(now),
            }),
            gone: Condvar::new(),
        });
        let folder = start.dir.join(start.namespace.as_str());
        let mut setup = Vec::new();
        frame::write(&mut setup, folder.as_os_str().as_bytes())?;
        process.send(&mut process.state.lock(), &setup);
        let this = Arc::clone(&process);
        std::thread::Builder::new().name("sql".into()).spawn(move || this.live(&start, theirs))?;
        Ok(process)
    }

    /// Sends a call. Returns its number and a receiver of its outcome, or the turns if the process accepts no more calls.
    pub(super) fn call(
        &self,
        access: Access,
        statements: &[Statement],
        deadline: Instant,
        turns: Turns,
    ) -> Result<(u64, oneshot::Receiver<BatchOutcome>), (Turns, Option<io::Error>)> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        let frame = match Call::frame(id, access, deadline.saturating_duration_since(now), statements) {
            Ok(frame) => frame,
            Err(error) => return Err((turns, Some(error))),
        };
        let mut state = self.state.lock();
        if state.phase != Phase::Serving {
            return Err((turns, None));
        }
        let (done, outcome) = oneshot::channel();
        // If it has passed, the process answers so; it also serves other calls.
        let kill_at = deadline.max(now) + DB_KILL_AFTER;
        let writes = access.writes();
        state.calls.insert(id, Pending { kill_at, statements: statements.len(), writes, done, turns });
        state.used_at = now;
        self.send(&mut state, &frame);
        self.look_by(&state, kill_at);
        Ok((id, outcome))
    }

    /// Cancels a call.
    pub(super) fn abandon(&self, id: u64) {
        let mut state = self.state.lock();
        let kill_at = Instant::now() + DB_KILL_AFTER;
        let Some(call) = state.calls.get_mut(&id) else { return };
        call.kill_at = call.kill_at.min(kill_at);
        let kill_at = call.kill_at;
        self.cancel(&mut state, id);
        self.look_by(&state, kill_at);
    }

    /// Whether it accepts calls.
    pub(super) fn is_serving(&self) -> bool {
        self.state.lock().phase == Phase::Serving
    }

    /// Whether it has exited and was reaped.
    pub(super) fn is_gone(&self) -> bool {
        self.state.lock().phase == Phase::Gone
    }

    /// Its process id; 0 before it was started.
    #[cfg(test)]
    pub(super) fn id(&self) -> u32 {
        self.id.load(Ordering::Relaxed)
    }

    /// When it was last used, if it is idle.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let state = self.state.lock();
        (state.phase == Phase::Serving && state.calls.is_empty()).then_some(state.used_at)
    }

    /// Ends it if it is idle.
    pub(super) fn end_if_idle(&self) {
        let mut state = self.state.lock();
        if state.phase == Phase::Serving && state.calls.is_empty() {
            self.end(&mut state, Instant::now() + END_PATIENCE, End::Idle);
        }
    }

    /// Interrupts its calls and lets it exit; it is killed at the given time.
    pub(super) fn stop(&self, by: Instant) {
        let mut state = self.state.lock();
        if state.phase == Phase::Serving {
            let ids: Vec<_> = state.calls.keys().copied().collect();
            ids.into_iter().for_each(|id| self.cancel(&mut state, id));
            self.end(&mut state, by, End::Stopping);
        }
    }

    /// Kills it because its namespace is removed.
    pub(super) fn kill(&self) {
        let mut state = self.state.lock();
        if state.phase != Phase::Gone {
            state.phase = Phase::Killing(End::Removed);
            self.wake();
        }
    }

    /// Waits until it has exited. Returns `false` if it has not by then.
    pub(super) fn wait_until(&self, by: Instant) -> bool {
        let mut state = self.state.lock();
        while state.phase != Phase::Gone {
            if self.gone.wait_until(&mut state, by).timed_out() {
                return state.phase == Phase::Gone;
            }
        }
        true
    }

    fn end(&self, state: &mut State, by: Instant, why: End) {
        state.phase = Phase::Ending(by, why);
        // The process still reads what is in the socket. A call that is not yet in it is cancelled.
        state.outgoing.clear();
        let _ = self.socket.shutdown(Shutdown::Write);
        self.wake();
    }

    fn cancel(&self, state: &mut State, id: u64) {
        if let Ok(frame) = wire::request(&Request::Cancel(id)) {
            self.send(state, &frame);
        }
    }

    /// Sends what the socket accepts now, and queues the rest.
    fn send(&self, state: &mut State, mut bytes: &[u8]) {
        while state.outgoing.is_empty() && !bytes.is_empty() {
            match send(&self.socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                // The process is exiting; the end of its socket will show that.
                Err(_) => return,
            }
        }
        if !bytes.is_empty() {
            state.outgoing.extend(bytes);
            self.wake();
        }
    }

    /// Ensures that the thread wakes up at a time.
    fn look_by(&self, state: &State, time: Instant) {
        if time < state.looks_at {
            self.wake();
        }
    }

    fn wake(&self) {
        // Fails only if the thread is being woken already.
        let _ = rustix::io::write(&self.nudge, &1_u64.to_ne_bytes());
    }
}
