//! One namespace's SQL process, as the node sees it.
//!
//! A call is written to the socket by the thread that makes it; what the socket does not take at once, and every answer, is
//! this process' thread's in the node. The thread also ends the process: when a call is not done long after its deadline, when
//! nobody used it for long, when it says what it cannot say. Then the calls under way fail, and the next call gets another
//! process.

use super::layout;
use super::wire::{self, ANSWER_MAX_BYTES, Answer, Call, Outcome, Request};
use crate::limits::DB_KILL_AFTER;
use orama_runtime::child::{self, ChildError, Program, frame};
use orama_runtime::names::Namespace;
use orama_runtime::services::{BatchOutcome, ErrorCode, ServiceError, Statement};
use parking_lot::{Condvar, Mutex};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// How long a process has to bring its log into its file when it is not needed any more. A killed one leaves that to the next.
const END_PATIENCE: Duration = Duration::from_secs(1);

/// How soon after a call the thread looks again whether there is more to do: within [`DB_KILL_AFTER`], so that a new call
/// need not wake it for the sake of its deadline.
const LOOK_EVERY: Duration = Duration::from_millis(900);

/// Bytes that are taken from the socket at once.
const READ_BYTES: usize = 64 << 10;

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
        writes: bool,
        statements: &[Statement],
        deadline: Instant,
        turns: Turns,
    ) -> Result<(u64, oneshot::Receiver<BatchOutcome>), (Turns, Option<io::Error>)> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        let frame = match Call::frame(id, writes, deadline.saturating_duration_since(now), statements) {
            Ok(frame) => frame,
            Err(error) => return Err((turns, Some(error))),
        };
        let mut state = self.state.lock();
        if state.phase != Phase::Serving {
            return Err((turns, None));
        }
        let (done, outcome) = oneshot::channel();
        let kill_at = deadline + DB_KILL_AFTER;
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

    /// The thread: starts the process, serves, and ends it.
    fn live(&self, start: &Start, theirs: UnixStream) {
        let spawned =
            layout::prepare(&start.dir, &self.namespace).map_err(ChildError::Spawn).and_then(|_| {
                child::Process::spawn(&start.program, super::PROCESS, self.namespace.as_str(), theirs)
            });
        let process = match spawned {
            Ok(process) => process,
            Err(error) => {
                tracing::error!(namespace = %self.namespace, %error, "a namespace's SQL process did not start");
                return self.finish(&End::NotStarted);
            }
        };
        self.id.store(process.id(), Ordering::Relaxed);
        let end = self.serve();
        {
            // No more calls; those under way fail when it is gone.
            let mut state = self.state.lock();
            if state.phase == Phase::Serving {
                state.phase = Phase::Killing(end.clone());
            }
        }
        process.kill();
        let status = process.wait();
        self.report(&end, status);
        self.finish(&end);
    }

    fn report(&self, end: &End, status: Option<ExitStatus>) {
        let status = status.map_or_else(|| "unknown".to_owned(), |status| status.to_string());
        let (namespace, process) = (&self.namespace, self.id.load(Ordering::Relaxed));
        match end {
            End::Idle | End::Stopping | End::Removed | End::NotStarted => {}
            End::Overdue => {
                tracing::warn!(%namespace, process, "a SQL process was killed: a call ran on after its deadline")
            }
            End::Died => {
                tracing::warn!(%namespace, process, %status, "a SQL process ended; its calls under way failed")
            }
            End::Nonsense => {
                tracing::error!(%namespace, process, "a SQL process was killed: it broke the protocol")
            }
        }
    }

    fn finish(&self, end: &End) {
        let calls = {
            let mut state = self.state.lock();
            state.phase = Phase::Gone;
            std::mem::take(&mut state.calls)
        };
        self.gone.notify_all();
        let now = Instant::now();
        for Pending { kill_at, writes, done, turns, .. } in calls.into_values() {
            drop(turns);
            let is_overdue = *end == End::Overdue && kill_at <= now + DB_KILL_AFTER;
            let error = if is_overdue { super::deadline_exceeded() } else { lost(end, writes) };
            // Whoever gave it up does not hear it.
            let _ = done.send(super::refused(error));
        }
    }

    fn serve(&self) -> End {
        let mut incoming = Incoming::default();
        loop {
            let (timeout, has_outgoing) = match self.look() {
                Ok(look) => look,
                Err(end) => return end,
            };
            let wanted = if has_outgoing { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
            let mut polled = [PollFd::new(&self.socket, wanted), PollFd::new(&self.nudge, PollFlags::IN)];
            match poll(&mut polled, Some(&timeout)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return End::Nonsense,
            }
            let [ready, nudged] = polled.map(|polled| polled.revents());
            if nudged.contains(PollFlags::IN) {
                // The count does not matter.
                let _ = rustix::io::read(&self.nudge, &mut [0; 8]);
            }
            if ready.contains(PollFlags::OUT) {
                self.flush();
            }
            if ready.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR)
                && let Err(end) = self.receive(&mut incoming)
            {
                return end;
            }
        }
    }

    /// What is due now, and how long there is nothing to do.
    fn look(&self) -> Result<(Timespec, bool), End> {
        let now = Instant::now();
        let mut state = self.state.lock();
        if state.phase == Phase::Serving && state.calls.is_empty() && now >= state.used_at + self.idle {
            self.end(&mut state, now + END_PATIENCE, End::Idle);
        }
        let next_kill = state.calls.values().map(|call| call.kill_at).min();
        if next_kill.is_some_and(|at| at <= now) {
            return Err(End::Overdue);
        }
        let at = match &state.phase {
            Phase::Serving => {
                let is_busy = now < state.used_at + LOOK_EVERY;
                let look = if is_busy { now + LOOK_EVERY } else { state.used_at + self.idle };
                next_kill.map_or(look, |kill| kill.min(now + LOOK_EVERY))
            }
            Phase::Ending(by, why) if *by <= now => return Err(why.clone()),
            Phase::Ending(by, _) => *by,
            Phase::Killing(why) => return Err(why.clone()),
            Phase::Gone => return Err(End::Died),
        };
        state.looks_at = at;
        let left = at.saturating_duration_since(now);
        let timeout = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
        Ok((timeout, !state.outgoing.is_empty()))
    }

    fn flush(&self) {
        let mut state = self.state.lock();
        while let (bytes @ [_, ..], _) = state.outgoing.as_slices() {
            match send(&self.socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(sent) => drop(state.outgoing.drain(..sent)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => return state.outgoing.clear(),
            }
        }
        // What a large call took is given back.
        state.outgoing.shrink_to(READ_BYTES);
    }

    /// Takes what is there, and tells those who wait.
    fn receive(&self, incoming: &mut Incoming) -> Result<(), End> {
        match recv(&self.socket, &mut *incoming.scratch, RecvFlags::DONTWAIT) {
            Ok((_, 0)) => return Err(self.why_it_ended()),
            Ok((_, received)) => incoming.take(received),
            Err(Errno::INTR | Errno::AGAIN) => return Ok(()),
            Err(_) => return Err(self.why_it_ended()),
        }
        while let Some(message) = incoming.next_message()? {
            self.deliver(&message)?;
        }
        Ok(())
    }

    fn why_it_ended(&self) -> End {
        match &self.state.lock().phase {
            Phase::Ending(_, why) | Phase::Killing(why) => why.clone(),
            Phase::Serving | Phase::Gone => End::Died,
        }
    }

    fn deliver(&self, message: &[u8]) -> Result<(), End> {
        let message = message.get(frame::HEADER_BYTES..).unwrap_or_default();
        let (answer, rows) = wire::read_answer(message).map_err(|_| End::Nonsense)?;
        let outcome = match answer {
            Answer::Ready { files, calls } => {
                report_confinement(files, calls);
                return Ok(());
            }
            Answer::Outcome(outcome) => outcome,
        };
        self.deliver_outcome(outcome, rows)
    }

    fn deliver_outcome(&self, mut outcome: Outcome, rows: &[u8]) -> Result<(), End> {
        if let Some(note) = outcome.note.take() {
            tracing::error!(namespace = %self.namespace, note, "a namespace's database failed");
        }
        let (id, statements) = (outcome.id, self.statements_of(outcome.id).ok_or(End::Nonsense)?);
        let outcome = outcome.into_batch(rows, statements).ok_or(End::Nonsense)?;
        let mut state = self.state.lock();
        let Pending { done, turns, .. } = state.calls.remove(&id).ok_or(End::Nonsense)?;
        state.used_at = Instant::now();
        drop(state);
        drop(turns);
        // Whoever gave it up does not hear it.
        let _ = done.send(outcome);
        Ok(())
    }

    fn statements_of(&self, id: u64) -> Option<usize> {
        self.state.lock().calls.get(&id).map(|call| call.statements)
    }
}

/// What a call is told whose process is gone.
fn lost(end: &End, writes: bool) -> ServiceError {
    match end {
        End::Removed => ServiceError::unavailable("the namespace was removed"),
        End::Stopping => ServiceError::unavailable("the node is stopping"),
        End::NotStarted => {
            ServiceError::unavailable("the database's process could not be started; try again")
        }
        _ if writes => ServiceError::new(
            ErrorCode::Unavailable,
            "the database's process ended during the call: whether its changes were kept is not known; look before trying again",
        ),
        _ => ServiceError::unavailable("the database's process ended during the call; try again"),
    }
}

/// Says once in a node's life which walls the kernel does not have.
fn report_confinement(files: bool, calls: bool) {
    static REPORTED: AtomicBool = AtomicBool::new(false);
    if (files && calls) || REPORTED.swap(true, Ordering::Relaxed) {
        return;
    }
    tracing::warn!(
        landlock = files,
        seccomp = calls,
        "this kernel cannot confine SQL processes wholly: SQLite's own guard alone keeps a tenant's SQL to its database"
    );
}

/// Bytes of messages on their way.
struct Incoming {
    scratch: Box<[u8]>,
    bytes: Vec<u8>,
}

impl Default for Incoming {
    fn default() -> Self {
        Self { scratch: vec![0; READ_BYTES].into(), bytes: Vec::new() }
    }
}

impl Incoming {
    fn take(&mut self, received: usize) {
        self.bytes.extend_from_slice(self.scratch.get(..received).unwrap_or_default());
    }

    /// The next whole message with its header. No memory is taken for what is only announced.
    fn next_message(&mut self) -> Result<Option<Vec<u8>>, End> {
        let Some((header, rest)) = self.bytes.split_first_chunk() else { return Ok(None) };
        let length = usize::try_from(u32::from_le_bytes(*header)).unwrap_or(usize::MAX);
        if length > ANSWER_MAX_BYTES {
            return Err(End::Nonsense);
        }
        if rest.len() < length {
            return Ok(None);
        }
        let behind = self.bytes.split_off(frame::HEADER_BYTES + length);
        Ok(Some(std::mem::replace(&mut self.bytes, behind)))
    }
}
