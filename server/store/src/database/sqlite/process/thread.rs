//! The node's thread for one SQL process: starts it, watches over it, and ends it.

use super::{DB_KILL_AFTER, Decoded, End, Incoming, Pending, Phase, Process, Start, State, send_some};
use crate::database::sqlite::wire::{self, Ready};
use crate::database::sqlite::{PROCESS, deadline_exceeded, layout};
use crate::readiness::is_readable;
use orama_runtime::child::{self, ChildError, frame};
use orama_runtime::services::{ErrorCode, ServiceError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::os::unix::net::UnixStream;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often the thread of an active process wakes up. Within [`DB_KILL_AFTER`], so a new call need not wake it to make it notice
/// the deadline.
const LOOK_EVERY: Duration = Duration::from_millis(900);

/// How long a process may take to start. On an idle machine it takes some milliseconds.
const START_PATIENCE: Duration = Duration::from_secs(10);

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
        for Pending { kill_at, writes, lost: done, turns, .. } in calls.into_iter().flatten() {
            drop(turns);
            let is_overdue = *end == End::Overdue && kill_at <= now + DB_KILL_AFTER;
            // A cancelled call has no receiver.
            let _ = done.send(if is_overdue { deadline_exceeded() } else { lost(end, writes) });
        }
    }

    fn serve(&self) -> End {
        let mut incoming = Incoming::default();
        loop {
            match self.look().and_then(|(timeout, lanes)| self.wait(&timeout, &lanes, &mut incoming)) {
                Ok(()) => {}
                Err(End::Died) => return self.why_it_ended(),
                Err(end) => return end,
            }
        }
    }

    /// Waits for what is due, and for the control socket and the lanes that were named.
    fn wait(
        &self,
        timeout: &Timespec,
        lanes: &[(usize, PollFlags)],
        incoming: &mut Incoming,
    ) -> Result<(), End> {
        let mut polled =
            vec![PollFd::new(&self.control, PollFlags::IN), PollFd::new(&self.nudge, PollFlags::IN)];
        polled.extend(lanes.iter().map(|(lane, flags)| PollFd::new(&self.lanes[*lane], *flags)));
        match poll(&mut polled, Some(timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return Err(End::Nonsense),
        }
        let ready: Vec<_> = polled.iter().map(PollFd::revents).collect();
        let [control, nudge, ready @ ..] = ready.as_slice() else { return Err(End::Nonsense) };
        if !nudge.is_empty() {
            // The value only wakes the thread.
            let _ = rustix::io::read(&self.nudge, &mut [0; 8]);
        }
        for ((lane, _), _) in lanes.iter().zip(ready).filter(|(_, ready)| !ready.is_empty()) {
            self.serve_lane(*lane)?;
        }
        if !control.is_empty()
            && let Some(message) = incoming.read(&self.control)?
        {
            self.is_ready(&message)?;
        }
        Ok(())
    }

    /// Does what is due. Returns the time until the next wake-up, and which lanes to wait for.
    fn look(&self) -> Result<(Timespec, Vec<(usize, PollFlags)>), End> {
        let now = Instant::now();
        let mut state = self.state.lock();
        if state.is_idle() && now >= state.used_at + self.idle {
            self.end(&mut state, now + super::END_PATIENCE, End::Idle);
        }
        let next_kill = self.next_kill(&mut state, now)?;
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
        let lanes = state.calls.iter().enumerate().filter_map(|(lane, call)| {
            let call = call.as_ref()?;
            let reads = if call.abandoned.is_some() { PollFlags::IN } else { PollFlags::empty() };
            let writes = if call.unsent.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            Some((lane, reads | writes)).filter(|(_, flags)| !flags.is_empty())
        });
        Ok((timeout, lanes.collect()))
    }

    /// When the next call is overdue. One whose answer waits for its caller is not.
    fn next_kill(&self, state: &mut State, now: Instant) -> Result<Option<Instant>, End> {
        // A busy machine may take long to start it, so deadlines are not enforced before.
        let first = state.starting_since.map(|since| since + START_PATIENCE);
        let mut next: Option<Instant> = None;
        for (call, socket) in state.calls.iter_mut().zip(&self.lanes) {
            let Some(call) = call else { continue };
            let at = first.map_or(call.kill_at, |first| call.kill_at.max(first));
            if at <= now {
                if call.abandoned.is_some() || !is_readable(socket) {
                    return Err(End::Overdue);
                }
                call.kill_at = now + LOOK_EVERY;
            }
            let at = at.max(call.kill_at);
            next = Some(next.map_or(at, |next| next.min(at)));
        }
        Ok(next)
    }

    /// Sends what was not sent of a call, and reads the answer of one that nobody waits for.
    fn serve_lane(&self, lane: usize) -> Result<(), End> {
        let socket = &self.lanes[lane];
        let mut state = self.state.lock();
        let Some(call) = &mut state.calls[lane] else { return Ok(()) };
        send_some(socket, &mut call.unsent);
        let Some(incoming) = &mut call.abandoned else { return Ok(()) };
        let (id, statements) = (call.id, call.statements);
        let Some(message) = incoming.read(socket)? else { return Ok(()) };
        drop(state);
        let (_, quick_on) = self.decode(id, statements, &message)?;
        self.release(lane, quick_on);
        Ok(())
    }

    fn why_it_ended(&self) -> End {
        match &self.state.lock().phase {
            Phase::Ending(_, why) | Phase::Killing(why) => why.clone(),
            Phase::Serving | Phase::Gone => End::Died,
        }
    }

    fn is_ready(&self, message: &[u8]) -> Result<(), End> {
        let Ready { files, calls } = wire::read_ready(content(message)).map_err(|_| End::Nonsense)?;
        report_confinement(files, calls);
        let mut state = self.state.lock();
        state.has_started();
        // Once.
        if std::mem::replace(&mut state.is_ready, true) { Err(End::Nonsense) } else { Ok(()) }
    }

    /// The outcome in an answer to a call of so many statements.
    pub(super) fn decode(&self, id: u64, statements: usize, message: &[u8]) -> Result<Decoded, End> {
        let (mut outcome, rows) = wire::read_outcome(content(message)).map_err(|_| End::Nonsense)?;
        if outcome.id != id {
            return Err(End::Nonsense);
        }
        if let Some(note) = outcome.note.take() {
            tracing::error!(namespace = %self.namespace, note, "a namespace's database failed");
        }
        let quick_on = outcome.quick_on;
        Ok((outcome.into_batch(rows, statements).ok_or(End::Nonsense)?, quick_on))
    }
}

/// What follows a message's header.
fn content(message: &[u8]) -> &[u8] {
    message.get(frame::HEADER_BYTES..).unwrap_or_default()
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
