//! One namespace's SQL process, as the node sees it.
//!
//! The thread that makes a call writes it to the socket. A thread of the node's for each process (`thread.rs`) writes what the
//! socket does not take at once, and reads the answers. It ends the process when a call is not done long after its deadline,
//! when nobody used the process for long, and when it breaks the protocol. Then the calls under way fail, and the next call gets
//! another process.

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

/// How long a process has to bring its log into its file when it is not needed any more. A killed one leaves that to the next.
const END_PATIENCE: Duration = Duration::from_secs(1);

/// Why a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    /// Nobody needs it.
    Idle,
    /// The node stops.
    Stopping,
    /// The namespace is removed.
    Removed,
    /// A call ran on after its deadline.
    Overdue,
    /// It ended by itself.
    Died,
    /// It said what it cannot say.
    Nonsense,
    /// It did not start.
    NotStarted,
}

/// Where a process is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Serving,
    /// Its socket is closed on this side; it is killed when it has not ended by then.
    Ending(Instant, End),
    /// It is killed.
    Killing(End),
    /// It is gone and waited for.
    Gone,
}

/// A turn to write or read, and a place among all calls.
pub(super) type Turns = (OwnedSemaphorePermit, OwnedSemaphorePermit);

/// A call under way. Its turns are given back when the process has answered it or is gone, whether or not somebody waits.
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
    /// What the socket has not taken yet.
    outgoing: VecDeque<u8>,
    /// When the thread looks again by itself.
    looks_at: Instant,
    used_at: Instant,
    /// When it was started, until it says that it serves.
    starting_since: Option<Instant>,
}

/// A SQL process.
pub(super) struct Process {
    namespace: Namespace,
    idle: Duration,
    /// Its number, when it was started; 0 before.
    id: AtomicU32,
    socket: UnixStream,
    /// Wakes the thread.
    nudge: OwnedFd,
    next_id: AtomicU64,
    state: Mutex<State>,
    /// Told when it is gone.
    gone: Condvar,
}

/// What a process is started with.
pub(super) struct Start {
    pub(super) program: Program,
    pub(super) namespace: Namespace,
    /// The folder of all databases.
    pub(super) dir: PathBuf,
    /// How long it stays without calls.
    pub(super) idle: Duration,
    /// Its place among all processes, until it is gone.
    pub(super) _place: OwnedSemaphorePermit,
}

impl Process {
    /// Starts a process. Does not wait for it: calls can be made at once.
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

    /// Makes a call: its number, and what will be its outcome. Gives the turns back when the process takes no calls any more.
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
        // One that has passed already is told so by the process, which others use too.
        let kill_at = deadline.max(now) + DB_KILL_AFTER;
        let writes = access.writes();
        state.calls.insert(id, Pending { kill_at, statements: statements.len(), writes, done, turns });
        state.used_at = now;
        self.send(&mut state, &frame);
        self.look_by(&state, kill_at);
        Ok((id, outcome))
    }

    /// Nobody waits for a call any more.
    pub(super) fn abandon(&self, id: u64) {
        let mut state = self.state.lock();
        let kill_at = Instant::now() + DB_KILL_AFTER;
        let Some(call) = state.calls.get_mut(&id) else { return };
        call.kill_at = call.kill_at.min(kill_at);
        let kill_at = call.kill_at;
        self.cancel(&mut state, id);
        self.look_by(&state, kill_at);
    }

    /// Whether it takes calls.
    pub(super) fn is_serving(&self) -> bool {
        self.state.lock().phase == Phase::Serving
    }

    /// Whether it is gone, and no zombie.
    pub(super) fn is_gone(&self) -> bool {
        self.state.lock().phase == Phase::Gone
    }

    /// Its number; 0 as long as it was not started.
    #[cfg(test)]
    pub(super) fn id(&self) -> u32 {
        self.id.load(Ordering::Relaxed)
    }

    /// When it was last used, if it has nothing to do now.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let state = self.state.lock();
        (state.phase == Phase::Serving && state.calls.is_empty()).then_some(state.used_at)
    }

    /// Ends it if it has nothing to do.
    pub(super) fn end_if_idle(&self) {
        let mut state = self.state.lock();
        if state.phase == Phase::Serving && state.calls.is_empty() {
            self.end(&mut state, Instant::now() + END_PATIENCE, End::Idle);
        }
    }

    /// Interrupts its calls and ends it, by force at a time.
    pub(super) fn stop(&self, by: Instant) {
        let mut state = self.state.lock();
        if state.phase == Phase::Serving {
            let ids: Vec<_> = state.calls.keys().copied().collect();
            ids.into_iter().for_each(|id| self.cancel(&mut state, id));
            self.end(&mut state, by, End::Stopping);
        }
    }

    /// Kills it, as its namespace goes.
    pub(super) fn kill(&self) {
        let mut state = self.state.lock();
        if state.phase != Phase::Gone {
            state.phase = Phase::Killing(End::Removed);
            self.wake();
        }
    }

    /// Waits until it is gone; `false` when it is not by then.
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
        // What is left in the socket is still read; what is not yet in it is a call that is given up.
        state.outgoing.clear();
        let _ = self.socket.shutdown(Shutdown::Write);
        self.wake();
    }

    fn cancel(&self, state: &mut State, id: u64) {
        if let Ok(frame) = wire::request(&Request::Cancel(id)) {
            self.send(state, &frame);
        }
    }

    /// Sends now what the socket takes, and the rest when it takes more.
    fn send(&self, state: &mut State, mut bytes: &[u8]) {
        while state.outgoing.is_empty() && !bytes.is_empty() {
            match send(&self.socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                // It is dying, which its end of the socket will say.
                Err(_) => return,
            }
        }
        if !bytes.is_empty() {
            state.outgoing.extend(bytes);
            self.wake();
        }
    }

    /// Sees to it that the thread looks at a time.
    fn look_by(&self, state: &State, time: Instant) {
        if time < state.looks_at {
            self.wake();
        }
    }

    fn wake(&self) {
        // Refused only when it is woken already.
        let _ = rustix::io::write(&self.nudge, &1_u64.to_ne_bytes());
    }
}
