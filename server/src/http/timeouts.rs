//! How long a connection may take, watched by one sweep a second over all of a core's connections: a timer for each
//! request would cost more than many requests do.

use super::peer::{self, Heard};
use rustix::net::sockopt;
use std::cell::{Cell, RefCell};
use std::os::fd::{BorrowedFd, RawFd};
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

/// How often connections are looked at; timeouts are late by up to this.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Time for the answer to leave after a connection was asked to close, in sweeps.
const CLOSING_SWEEPS: u32 = 5;

/// Sweeps between two looks whether a client whose input has ended is still there.
const PROBE_EVERY_SWEEPS: u32 = 5;

/// The longest waits, in whole seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeouts {
    pub(crate) header_s: u32,
    pub(crate) idle_s: u32,
    /// For a client to take some of its answer.
    pub(crate) send_s: u32,
}

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Waiting for a request.
    Idle,
    /// Some of a request's head has arrived.
    Head,
    /// A request is being answered; the request has limits of its own.
    Handling,
    /// An answer is on its way to the client.
    Sending,
    /// An answer is sent as a function writes it, and has limits of its own.
    Streaming,
    /// It is no longer HTTP; its new owner looks after it.
    Taken,
}

/// What a connection was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Go,
    /// Close after the answer that is under way.
    Close,
    /// Close now: the head did not arrive in time.
    HeadTimeout,
    /// Close now.
    Drop,
}

/// One connection, as the sweep sees it.
pub(crate) struct ConnectionState {
    phase: Cell<Phase>,
    since_sweep: Cell<u32>,
    verdict: Cell<Verdict>,
    /// A request was answered before all of its body was read.
    pub(crate) unread_body: Cell<bool>,
    /// The socket, as long as it is open.
    socket: Cell<Option<RawFd>>,
    /// Everything that was written is with the system.
    flushed: Cell<bool>,
    /// Bytes came while an answer was sent.
    early_bytes: Cell<bool>,
    /// Whether the client of the request that is answered understands interim answers.
    pub(crate) knows_interim: Cell<bool>,
    /// The client's input has ended.
    ended: Cell<bool>,
    /// When it was last probed.
    probed_sweep: Cell<Option<u32>>,
    /// Unacknowledged bytes when that was last looked at.
    unsent_bytes: Cell<usize>,
    waker: RefCell<Option<Waker>>,
}

/// All connections of one core.
pub(crate) struct Connections {
    all: RefCell<Vec<Rc<ConnectionState>>>,
    sweep: Cell<u32>,
    timeouts: Timeouts,
    draining: Cell<bool>,
}

/// Says that a socket is open. Dropped before it is closed.
pub(super) struct OpenSocket(Rc<ConnectionState>);

impl Drop for OpenSocket {
    fn drop(&mut self) {
        self.0.socket.set(None);
    }
}

/// An answer that is sent as it is written. Dropped at its end.
pub(crate) struct Streaming {
    connections: Rc<Connections>,
    state: Rc<ConnectionState>,
}

impl Drop for Streaming {
    fn drop(&mut self) {
        // What was written last is on its way.
        self.connections.enter(&self.state, Phase::Sending);
    }
}

impl ConnectionState {
    pub(crate) fn verdict(&self) -> Verdict {
        self.verdict.get()
    }

    pub(crate) fn keep_waker(&self, waker: &Waker) {
        let mut kept = self.waker.borrow_mut();
        if !kept.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
            *kept = Some(waker.clone());
        }
    }

    /// Tells which socket is this connection's, until what is returned is dropped.
    pub(super) fn opened(self: &Rc<Self>, socket: RawFd) -> OpenSocket {
        self.socket.set(Some(socket));
        OpenSocket(Rc::clone(self))
    }

    fn socket(&self) -> Option<BorrowedFd<'_>> {
        // SAFETY: `OpenSocket` takes the number away before the socket is closed, on this thread.
        self.socket.get().map(|fd| unsafe { BorrowedFd::borrow_raw(fd) })
    }

    fn tell(&self, verdict: Verdict) {
        self.verdict.set(verdict);
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Whether the client is known to have gone. One that has only ended its input may still be there.
    fn has_left(&self) -> bool {
        let Some(socket) = self.socket() else { return false };
        if !self.ended.get() {
            match peer::listen(socket) {
                Heard::Nothing => return false,
                Heard::Gone => return true,
                Heard::EndOfInput => self.ended.set(true),
            }
        }
        peer::has_failed(socket)
    }

    /// Whether the client of a request that is answered has gone. One that has only ended its input still gets its answer.
    fn is_gone(&self, now: u32) -> bool {
        if self.has_left() {
            return true;
        }
        let Some(socket) = self.socket().filter(|_| self.ended.get()) else { return false };
        let probed = self.probed_sweep.get();
        let is_due = probed.is_none_or(|probed| now.wrapping_sub(probed) >= PROBE_EVERY_SWEEPS);
        // Nothing may be written into another answer.
        let is_quiet = self.flushed.get() && peer::unsent_bytes(socket) == 0;
        if !(is_due && is_quiet && self.knows_interim.get()) {
            return false;
        }
        self.probed_sweep.set(Some(now));
        // A client on the same machine has answered by now, others have by the next sweep.
        !peer::probe(socket) || peer::has_failed(socket)
    }

    /// Whether the client has taken something of its answer since this was last asked.
    pub(super) fn has_taken_some(&self) -> bool {
        let unsent = self.socket().map_or(0, peer::unsent_bytes);
        unsent < self.unsent_bytes.replace(unsent)
    }

    /// Whether the client has all that a function has written so far.
    fn waits_for_more(&self) -> bool {
        self.phase.get() == Phase::Streaming
            && self.flushed.get()
            && self.socket().is_none_or(|socket| peer::unsent_bytes(socket) == 0)
    }

    /// Has the system throw away what the client does not take; it would keep it for minutes.
    pub(super) fn forget_unsent(&self) {
        if let Some(socket) = self.socket() {
            // Refused only for a socket that is broken already.
            let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
        }
    }
}

impl Connections {
    pub(crate) fn new(timeouts: Timeouts) -> Self {
        Self { all: RefCell::default(), sweep: Cell::new(0), timeouts, draining: Cell::new(false) }
    }

    /// Connections open now.
    pub(crate) fn count(&self) -> usize {
        self.all.borrow().len()
    }

    pub(crate) fn open(&self) -> Rc<ConnectionState> {
        let state = Rc::new(ConnectionState {
            phase: Cell::new(Phase::Idle),
            since_sweep: Cell::new(self.sweep.get()),
            verdict: Cell::new(if self.draining.get() { Verdict::Close } else { Verdict::Go }),
            unread_body: Cell::new(false),
            socket: Cell::new(None),
            flushed: Cell::new(true),
            early_bytes: Cell::new(false),
            knows_interim: Cell::new(false),
            ended: Cell::new(false),
            probed_sweep: Cell::new(None),
            unsent_bytes: Cell::new(0),
            waker: RefCell::default(),
        });
        self.all.borrow_mut().push(Rc::clone(&state));
        state
    }

    pub(crate) fn closed(&self, state: &Rc<ConnectionState>) {
        let mut all = self.all.borrow_mut();
        if let Some(index) = all.iter().position(|other| Rc::ptr_eq(other, state)) {
            all.swap_remove(index);
        }
    }

    /// Begins an answer that is sent as it is written.
    pub(super) fn stream(self: &Rc<Self>, state: &Rc<ConnectionState>) -> Streaming {
        self.enter(state, Phase::Streaming);
        Streaming { connections: Rc::clone(self), state: Rc::clone(state) }
    }

    pub(crate) fn enter(&self, state: &ConnectionState, phase: Phase) {
        state.phase.set(phase);
        state.since_sweep.set(self.sweep.get());
    }

    /// Bytes arrived: if the connection was idle, a head has begun.
    pub(crate) fn bytes_arrived(&self, state: &ConnectionState) {
        match state.phase.get() {
            Phase::Idle => self.enter(state, Phase::Head),
            Phase::Sending | Phase::Streaming => state.early_bytes.set(true),
            Phase::Head | Phase::Handling | Phase::Taken => {}
        }
    }

    /// Something is being written, and so many bytes of it were taken by the system.
    pub(super) fn bytes_left(&self, state: &ConnectionState, bytes: usize) {
        state.flushed.set(false);
        if bytes > 0 && matches!(state.phase.get(), Phase::Sending | Phase::Streaming) {
            state.since_sweep.set(self.sweep.get());
        }
    }

    /// Everything that was written is with the system: an answer has been sent.
    pub(super) fn flushed(&self, state: &ConnectionState) {
        state.flushed.set(true);
        if state.phase.get() == Phase::Sending {
            let next = if state.early_bytes.take() { Phase::Head } else { Phase::Idle };
            self.enter(state, next);
        }
    }

    /// Whether connections are being closed.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Asks every connection to close after the answer that is under way, also those that come later.
    pub(crate) fn drain(&self) {
        self.draining.set(true);
        for state in self.all.borrow().iter() {
            if state.verdict() == Verdict::Go {
                state.tell(Verdict::Close);
            }
        }
    }

    /// Closes every connection now, whatever it is doing.
    pub(crate) fn drop_all(&self) {
        for state in self.all.borrow().iter() {
            state.tell(Verdict::Drop);
        }
    }

    /// Looks at every connection once.
    fn sweep(&self) {
        let now = self.sweep.get().wrapping_add(1);
        self.sweep.set(now);
        for state in self.all.borrow().iter() {
            if let Some(verdict) = self.look_at(state, now) {
                state.tell(verdict);
            }
        }
    }

    fn look_at(&self, state: &ConnectionState, now: u32) -> Option<Verdict> {
        let waited = now.wrapping_sub(state.since_sweep.get());
        match (state.phase.get(), state.verdict()) {
            (Phase::Handling, Verdict::Go | Verdict::Close) if state.is_gone(now) => Some(Verdict::Drop),
            (Phase::Streaming, Verdict::Go | Verdict::Close) if state.has_left() => Some(Verdict::Drop),
            (Phase::Sending | Phase::Streaming, Verdict::Go | Verdict::Close) => {
                if state.has_taken_some() || state.waits_for_more() {
                    state.since_sweep.set(now);
                } else if waited > self.timeouts.send_s {
                    state.forget_unsent();
                    return Some(Verdict::Drop);
                }
                None
            }
            (Phase::Head, _) if waited > self.timeouts.header_s => Some(Verdict::HeadTimeout),
            (Phase::Idle, Verdict::Go) if waited > self.timeouts.idle_s => {
                state.since_sweep.set(now);
                Some(Verdict::Close)
            }
            (Phase::Idle, Verdict::Close) if waited > CLOSING_SWEEPS => Some(Verdict::Drop),
            _ => None,
        }
    }

    /// Sweeps for as long as the core lives.
    pub(crate) async fn watch(&self) {
        loop {
            monoio::time::sleep(SWEEP_EVERY).await;
            self.sweep();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn swept(connections: &Connections, times: u32) {
        for _ in 0..times {
            connections.sweep();
        }
    }

    #[test]
    fn an_idle_connection_is_asked_to_close_and_then_dropped() {
        let connections = Connections::new(Timeouts { header_s: 2, idle_s: 4, send_s: 9 });
        let state = connections.open();
        swept(&connections, 4);
        assert_eq!(state.verdict(), Verdict::Go);
        swept(&connections, 1);
        assert_eq!(state.verdict(), Verdict::Close);
        swept(&connections, CLOSING_SWEEPS + 1);
        assert_eq!(state.verdict(), Verdict::Drop);
        connections.closed(&state);
        assert_eq!(connections.count(), 0);
    }

    #[test]
    fn a_slow_head_times_out_however_often_bytes_arrive() {
        let connections = Connections::new(Timeouts { header_s: 2, idle_s: 40, send_s: 9 });
        let state = connections.open();
        for _ in 0..3 {
            connections.bytes_arrived(&state);
            connections.sweep();
        }
        assert_eq!(state.verdict(), Verdict::HeadTimeout);
    }

    #[test]
    fn a_request_being_answered_is_left_alone() {
        let connections = Connections::new(Timeouts { header_s: 1, idle_s: 1, send_s: 1 });
        let state = connections.open();
        connections.enter(&state, Phase::Handling);
        connections.bytes_arrived(&state);
        swept(&connections, 100);
        assert_eq!(state.verdict(), Verdict::Go);
        connections.drain();
        assert_eq!(state.verdict(), Verdict::Close);
        assert_eq!(connections.open().verdict(), Verdict::Close);
    }

    #[test]
    fn an_answer_that_is_not_taken_is_given_up_and_one_that_is_taken_slowly_is_not() {
        let connections = Connections::new(Timeouts { header_s: 1, idle_s: 1, send_s: 3 });
        let state = connections.open();
        connections.enter(&state, Phase::Sending);
        for _ in 0..20 {
            swept(&connections, 3);
            connections.bytes_left(&state, 1);
        }
        // The next request has begun to arrive; that is no reason to write anything.
        connections.bytes_arrived(&state);
        swept(&connections, 3);
        assert_eq!(state.verdict(), Verdict::Go);
        swept(&connections, 1);
        assert_eq!(state.verdict(), Verdict::Drop);
    }

    #[test]
    fn a_stream_may_pause_but_its_client_must_take_what_was_written() {
        let connections = Rc::new(Connections::new(Timeouts { header_s: 1, idle_s: 1, send_s: 3 }));
        let state = connections.open();
        let streaming = connections.stream(&state);
        connections.flushed(&state);
        connections.bytes_arrived(&state);
        swept(&connections, 100);
        assert_eq!(state.verdict(), Verdict::Go);
        connections.bytes_left(&state, 1);
        swept(&connections, 3);
        assert_eq!(state.verdict(), Verdict::Go);
        swept(&connections, 1);
        assert_eq!(state.verdict(), Verdict::Drop);
        drop(streaming);
        assert_eq!(state.phase.get(), Phase::Sending);
    }

    #[test]
    fn what_came_while_an_answer_was_sent_is_the_next_head() {
        let connections = Connections::new(Timeouts { header_s: 2, idle_s: 40, send_s: 9 });
        let state = connections.open();
        connections.enter(&state, Phase::Sending);
        connections.bytes_arrived(&state);
        connections.flushed(&state);
        swept(&connections, 3);
        assert_eq!(state.verdict(), Verdict::HeadTimeout);
    }
}
