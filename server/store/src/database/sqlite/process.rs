//! One namespace's SQL process, as the node sees it.
//!
//! The calling thread writes a call to a lane, and reads the answer (`waiting.rs`). One thread of the node for each process
//! (`thread.rs`) sleeps meanwhile. It writes what a lane does not accept at once, and reads the answers that nobody waits for. It
//! ends the process if a call exceeds its deadline by too much, if the process is idle for too long, or if it violates the
//! protocol. Calls in progress then fail, and the next call starts another process.

use super::lanes::{self, AWAKE_FOR_ANSWER, LANES, lanes_of};
use super::wire::{self, Access, Call, Cancel};
use crate::limits::DB_KILL_AFTER;
use crate::readiness::has_loop;
use orama_runtime::child::{Program, frame};
use orama_runtime::names::Namespace;
use orama_runtime::services::{BatchOutcome, ErrorCode, ServiceError, Statement};
use parking_lot::{Condvar, Mutex};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use std::collections::VecDeque;
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

mod incoming;
mod thread;
mod waiting;

use incoming::Incoming;
pub(super) use waiting::Waiting;

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
    /// The node has closed its end of the control socket and kills the process at this time.
    Ending(Instant, End),
    /// It was killed and has not exited yet.
    Killing(End),
    /// It has exited and was reaped.
    Gone,
}

/// The turns that a call holds: the namespace's and the node's.
pub(super) type Turns = (OwnedSemaphorePermit, OwnedSemaphorePermit);

/// A call in progress. Its lane and its turns are released when the process has answered or exited, even if the caller stopped
/// waiting.
struct Pending {
    id: u64,
    kill_at: Instant,
    statements: usize,
    writes: bool,
    /// Bytes that the lane has not accepted yet.
    unsent: VecDeque<u8>,
    /// What the caller had read of the answer when it stopped waiting.
    abandoned: Option<Incoming>,
    /// Receives the error if the process ends.
    lost: oneshot::Sender<ServiceError>,
    turns: Turns,
}

/// An outcome, and the CPU that it came from if it was quick.
type Decoded = (BatchOutcome, Option<u32>);

struct State {
    phase: Phase,
    /// The calls on the lanes.
    calls: [Option<Pending>; LANES],
    /// When the last quick answer came on each lane, and from which CPU.
    quick: [Option<(Instant, u32)>; LANES],
    /// When the thread wakes up without a message.
    looks_at: Instant,
    used_at: Instant,
    /// When it was started, until it serves.
    starting_since: Option<Instant>,
    /// Whether it has reported that it serves.
    is_ready: bool,
}

impl State {
    fn is_idle(&self) -> bool {
        self.phase == Phase::Serving && self.calls.iter().all(Option::is_none)
    }

    /// The lane that the next call takes.
    fn free_lane(&self, access: Access) -> Option<usize> {
        lanes_of(access).find(|lane| self.calls[*lane].is_none())
    }

    /// Whether the last answer on that lane was quick, came just now, and came from another CPU.
    fn was_quick(&self, access: Access, now: Instant) -> bool {
        let quick = self.free_lane(access).and_then(|lane| self.quick[lane]);
        quick.is_some_and(|(at, cpu)| {
            now.saturating_duration_since(at) < AWAKE_FOR_ANSWER && cpu != lanes::cpu()
        })
    }

    /// It serves. Gives calls that waited for it time to answer that their deadline has passed.
    fn has_started(&mut self) {
        if self.starting_since.take().is_some() {
            let kill_at = Instant::now() + DB_KILL_AFTER;
            self.calls().for_each(|call| call.kill_at = call.kill_at.max(kill_at));
        }
    }

    fn calls(&mut self) -> impl Iterator<Item = &mut Pending> {
        self.calls.iter_mut().flatten()
    }
}

/// A SQL process.
pub(super) struct Process {
    namespace: Namespace,
    idle: Duration,
    /// Its process id; 0 before it was started.
    id: AtomicU32,
    control: UnixStream,
    lanes: Vec<UnixStream>,
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

/// Why a call was not sent.
pub(super) enum NotSent {
    /// The process accepts no more calls.
    Ended(Turns),
    /// The call has failed.
    Failed(ServiceError),
}

impl Process {
    /// Starts a process without waiting for it: calls can be sent at once.
    pub(super) fn start(start: Start) -> io::Result<Arc<Self>> {
        let (mut control, theirs) = UnixStream::pair()?;
        let (lanes, their_lanes) = lanes::make()?;
        lanes::send(&control, &their_lanes)?;
        let folder = start.dir.join(start.namespace.as_str());
        frame::write(&mut control, folder.as_os_str().as_bytes())?;
        control.set_nonblocking(true)?;
        let now = Instant::now();
        let process = Arc::new(Self {
            namespace: start.namespace.clone(),
            idle: start.idle,
            id: AtomicU32::new(0),
            control,
            lanes,
            nudge: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            next_id: AtomicU64::new(0),
            state: Mutex::new(State {
                phase: Phase::Serving,
                calls: Default::default(),
                quick: Default::default(),
                looks_at: now,
                used_at: now,
                starting_since: Some(now),
                is_ready: false,
            }),
            gone: Condvar::new(),
        });
        let this = Arc::clone(&process);
        std::thread::Builder::new().name("sql".into()).spawn(move || this.live(&start, theirs))?;
        Ok(process)
    }

    /// Sends a call on a lane. The turns are the caller's, so one of their lanes is free.
    pub(super) fn call(
        self: &Arc<Self>,
        access: Access,
        statements: &[Statement],
        deadline: Instant,
        turns: Turns,
    ) -> Result<Waiting, NotSent> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        let stays_awake = has_loop() && self.state.lock().was_quick(access, now);
        let left = deadline.saturating_duration_since(now);
        let frame = Call::frame(id, access, stays_awake, left, statements).map_err(|_| {
            let message = "the call's statements and arguments are too large";
            NotSent::Failed(ServiceError::new(ErrorCode::PayloadTooLarge, message))
        })?;
        let mut state = self.state.lock();
        if state.phase != Phase::Serving {
            return Err(NotSent::Ended(turns));
        }
        let Some(lane) = state.free_lane(access) else { return Err(NotSent::Failed(failed())) };
        let mut unsent = VecDeque::from(frame);
        send_some(&self.lanes[lane], &mut unsent);
        let has_unsent = !unsent.is_empty();
        let (lost, is_lost) = oneshot::channel();
        let (statements, writes) = (statements.len(), access.writes());
        // If it has passed, the process answers so; it also serves other calls.
        let kill_at = deadline.max(now) + DB_KILL_AFTER;
        state.calls[lane] =
            Some(Pending { id, kill_at, statements, writes, unsent, abandoned: None, lost, turns });
        state.used_at = now;
        if has_unsent || kill_at < state.looks_at {
            self.wake();
        }
        drop(state);
        Ok(Waiting::new(Arc::clone(self), lane, id, statements, stays_awake, is_lost))
    }

    /// Cancels a call, of whose answer so much has arrived. The thread reads the rest.
    fn abandon(&self, lane: usize, id: u64, arrived: Incoming) {
        let mut state = self.state.lock();
        let Some(call) = state.calls.get_mut(lane).and_then(Option::as_mut) else { return };
        if call.id != id {
            return;
        }
        call.kill_at = call.kill_at.min(Instant::now() + DB_KILL_AFTER);
        call.abandoned = Some(arrived);
        self.cancel(&mut state, lane, id);
        self.wake();
    }

    /// Releases a lane and its turns, after the answer.
    fn release(&self, lane: usize, quick_on: Option<u32>) {
        let now = Instant::now();
        let mut state = self.state.lock();
        state.quick[lane] = quick_on.map(|cpu| (now, cpu));
        let call = state.calls.get_mut(lane).and_then(Option::take);
        state.used_at = now;
        // One that answers has started, although on a busy machine its word for it may come later.
        state.has_started();
        drop(state);
        drop(call);
    }

    /// Has it killed, unless it ends already.
    fn fail(&self, end: End) {
        let mut state = self.state.lock();
        if state.phase == Phase::Serving {
            state.phase = Phase::Killing(end);
            self.wake();
        }
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

    /// Whether something of an answer waits on a lane.
    #[cfg(test)]
    pub(super) fn has_answered(&self, lane: usize) -> bool {
        crate::readiness::is_readable(&self.lanes[lane])
    }

    /// When it was last used, if it is idle.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let state = self.state.lock();
        state.is_idle().then_some(state.used_at)
    }

    /// Ends it if it is idle.
    pub(super) fn end_if_idle(&self) {
        let mut state = self.state.lock();
        if state.is_idle() {
            self.end(&mut state, Instant::now() + END_PATIENCE, End::Idle);
        }
    }

    /// Lets it interrupt its calls and exit; it is killed at the given time.
    pub(super) fn stop(&self, by: Instant) {
        let mut state = self.state.lock();
        if state.phase == Phase::Serving {
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
        state.calls().for_each(|call| call.unsent.clear());
        let _ = self.control.shutdown(Shutdown::Write);
        self.wake();
    }

    fn cancel(&self, state: &mut State, lane: usize, id: u64) {
        let frame = wire::cancel(Cancel { lane: lane as u8, id }).unwrap_or_default();
        let mut unsent = VecDeque::from(frame);
        send_some(&self.control, &mut unsent);
        // An honest one reads them at all times, and before it does there is one for each lane at most.
        if !unsent.is_empty() && state.phase == Phase::Serving {
            state.phase = Phase::Killing(End::Nonsense);
        }
    }

    fn wake(&self) {
        // Fails only if the thread is being woken already.
        let _ = rustix::io::write(&self.nudge, &1_u64.to_ne_bytes());
    }
}

fn failed() -> ServiceError {
    ServiceError::new(ErrorCode::Internal, "the database failed")
}

/// Sends what a socket accepts now.
fn send_some(socket: &UnixStream, unsent: &mut VecDeque<u8>) {
    while let (bytes @ [_, ..], _) = unsent.as_slices() {
        match send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(sent) => drop(unsent.drain(..sent)),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return,
            // The process is exiting; the end of its socket will show that.
            Err(_) => break,
        }
    }
    // Frees the memory of a large call.
    *unsent = VecDeque::new();
}
