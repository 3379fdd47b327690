//! How long a connection may take, watched by one sweep a second over all of a core's connections: a timer for each
//! request would cost more than many requests do.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

/// How often connections are looked at; timeouts are late by up to this.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Time for the answer to leave after a connection was asked to close, in sweeps.
const CLOSING_SWEEPS: u32 = 5;

/// The longest waits, in whole seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeouts {
    pub(crate) header_s: u32,
    pub(crate) idle_s: u32,
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
    waker: RefCell<Option<Waker>>,
}

/// All connections of one core.
pub(crate) struct Connections {
    all: RefCell<Vec<Rc<ConnectionState>>>,
    sweep: Cell<u32>,
    timeouts: Timeouts,
    draining: Cell<bool>,
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

    fn tell(&self, verdict: Verdict) {
        self.verdict.set(verdict);
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
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

    pub(crate) fn enter(&self, state: &ConnectionState, phase: Phase) {
        state.phase.set(phase);
        state.since_sweep.set(self.sweep.get());
    }

    /// Bytes arrived: if the connection was idle, a head has begun.
    pub(crate) fn bytes_arrived(&self, state: &ConnectionState) {
        if state.phase.get() == Phase::Idle {
            self.enter(state, Phase::Head);
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
            let waited = now.wrapping_sub(state.since_sweep.get());
            let verdict = match (state.phase.get(), state.verdict()) {
                (Phase::Handling, _) => continue,
                (Phase::Head, _) if waited > self.timeouts.header_s => Verdict::HeadTimeout,
                (Phase::Idle, Verdict::Go) if waited > self.timeouts.idle_s => {
                    state.since_sweep.set(now);
                    Verdict::Close
                }
                (Phase::Idle, Verdict::Close) if waited > CLOSING_SWEEPS => Verdict::Drop,
                _ => continue,
            };
            state.tell(verdict);
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
        let connections = Connections::new(Timeouts { header_s: 2, idle_s: 4 });
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
        let connections = Connections::new(Timeouts { header_s: 2, idle_s: 40 });
        let state = connections.open();
        for _ in 0..3 {
            connections.bytes_arrived(&state);
            connections.sweep();
        }
        assert_eq!(state.verdict(), Verdict::HeadTimeout);
    }

    #[test]
    fn a_request_being_answered_is_left_alone() {
        let connections = Connections::new(Timeouts { header_s: 1, idle_s: 1 });
        let state = connections.open();
        connections.enter(&state, Phase::Handling);
        connections.bytes_arrived(&state);
        swept(&connections, 100);
        assert_eq!(state.verdict(), Verdict::Go);
        connections.drain();
        assert_eq!(state.verdict(), Verdict::Close);
        assert_eq!(connections.open().verdict(), Verdict::Close);
    }
}
