//! The node's thread for one SQL process: starts it, reads its answers, and ends it.

use super::{DB_KILL_AFTER, End, Pending, Phase, Process, Start};
use crate::database::sqlite::wire::{self, ANSWER_MAX_BYTES, Answer, Outcome};
use crate::database::sqlite::{PROCESS, deadline_exceeded, layout, refused};
use orama_runtime::child::{self, ChildError, frame};
use orama_runtime::services::{ErrorCode, ServiceError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::os::unix::net::UnixStream;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often the thread of an active process wakes up. Within [`DB_KILL_AFTER`], so a new call need not wake it to make it notice
/// the deadline.
const LOOK_EVERY: Duration = Duration::from_millis(900);

/// How long a process may take to start. On an idle machine it takes some milliseconds.
const START_PATIENCE: Duration = Duration::from_secs(10);

/// Bytes read from the socket at once.
const READ_BYTES: usize = 64 << 10;

impl Process {
    /// The thread: starts the process, serves it, and ends it.
    pub(super) fn live(&self, start: &Start, theirs: UnixStream) {
        let spawned = layout::prepare(&start.dir, &self.namespace)
            .map_err(ChildError::Spawn)
            .and_then(|_| child::Process::spawn(&start.program, PROCESS, self.namespace.as_str(), theirs));
        let process = match spawned {
            Ok(process) => process,
            Err(error) => {
                tracing::error!(namespace = %self.namespace, %error, "a namespace's SQL process could not be started");
                return self.finish(&End::NotStarted);
            }
        };
        self.id.store(process.id(), Ordering::Relaxed);
        let end = self.serve();
        {
            // Accepts no more calls; those in progress fail when it has exited.
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
                tracing::warn!(%namespace, process, "killed a SQL process: a call exceeded its deadline")
            }
            End::Died => {
                tracing::warn!(%namespace, process, %status, "a SQL process exited; its calls in progress failed")
            }
            End::Nonsense => {
                tracing::error!(%namespace, process, "killed a SQL process: it violated the protocol")
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
            let error = if is_overdue { deadline_exceeded() } else { lost(end, writes) };
            // A cancelled call has no receiver.
            let _ = done.send(refused(error));
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
                // The value only wakes the thread.
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

    /// Does what is due. Returns the time until the next wake-up.
    fn look(&self) -> Result<(Timespec, bool), End> {
        let now = Instant::now();
        let mut state = self.state.lock();
        if state.phase == Phase::Serving && state.calls.is_empty() && now >= state.used_at + self.idle {
            self.end(&mut state, now + super::END_PATIENCE, End::Idle);
        }
        // A busy machine may take long to start it, so deadlines are not enforced before.
        let first = state.starting_since.map(|since| since + START_PATIENCE);
        let next_kill = state.calls.values().map(|call| call.kill_at).min();
        let next_kill = next_kill.map(|at| first.map_or(at, |first| at.max(first)));
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
        // Frees the memory of a large call.
        state.outgoing.shrink_to(READ_BYTES);
    }

    /// Reads answers and passes them to their callers.
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
                self.has_started();
                return Ok(());
            }
            Answer::Outcome(outcome) => outcome,
        };
        self.deliver_outcome(outcome, rows)
    }

    /// After the start: gives calls that waited for it time to answer that their deadline has passed.
    fn has_started(&self) {
        let mut state = self.state.lock();
        state.starting_since = None;
        let kill_at = Instant::now() + DB_KILL_AFTER;
        state.calls.values_mut().for_each(|call| call.kill_at = call.kill_at.max(kill_at));
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
        // One that answers has started, although on a busy machine its word for it may come later.
        state.starting_since = None;
        drop(state);
        drop(turns);
        // A cancelled call has no receiver.
        let _ = done.send(outcome);
        Ok(())
    }

    fn statements_of(&self, id: u64) -> Option<usize> {
        self.state.lock().calls.get(&id).map(|call| call.statements)
    }
}

/// The error of a call whose process has exited.
fn lost(end: &End, writes: bool) -> ServiceError {
    match end {
        End::Removed => ServiceError::unavailable("the namespace was removed"),
        End::Stopping => ServiceError::unavailable("the node is stopping"),
        End::NotStarted => {
            ServiceError::unavailable("the namespace's SQL process could not be started; try again")
        }
        _ if writes => ServiceError::new(
            ErrorCode::Unavailable,
            "the namespace's SQL process ended during the call: it is not known whether its changes were committed; check before you try again",
        ),
        _ => ServiceError::unavailable("the namespace's SQL process ended during the call; try again"),
    }
}

/// Logs once for each node which kinds of confinement the kernel lacks.
fn report_confinement(files: bool, calls: bool) {
    static REPORTED: AtomicBool = AtomicBool::new(false);
    if (files && calls) || REPORTED.swap(true, Ordering::Relaxed) {
        return;
    }
    tracing::warn!(
        landlock = files,
        seccomp = calls,
        "this kernel cannot fully confine SQL processes: only SQLite's authorizer restricts tenants' SQL to its database"
    );
}

/// A buffer of received bytes.
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

    /// Returns the next complete message with its header. Memory grows only with bytes that have arrived.
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
