//! A circuit breaker for each backend, so that a backend that is down costs little time and is used again when it is back.
//!
//! Every call to a backend over the network begins with [`Breaker::enter`] and reports its result to its [`Attempt`].
//! After [`BACKEND_FAILURES_MAX`] failures in a row the circuit is open: calls are refused at once. After a pause
//! that grows with each failure, one trial call at a time finds out whether the backend is back.

use crate::limits::{
    BACKEND_FAILURES_MAX, BACKEND_PAUSE_MIN, BACKEND_RETRY_EARNED_BY, BACKEND_RETRY_PAUSE_MIN,
};
use crate::limits::{BACKEND_PAUSE_MAX, BACKEND_RETRIES_SAVED_MAX, BACKEND_RETRY_PAUSE_MAX};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The circuit breaker of one backend. Clones share it.
#[derive(Debug, Clone)]
pub struct Breaker(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    state: Mutex<State>,
    reached: AtomicU64,
    failed: AtomicU64,
    refused: AtomicU64,
    retried: AtomicU64,
}

#[derive(Debug)]
struct State {
    /// Failures since the last success.
    failures: u32,
    /// Set while the circuit is open: the time of the next trial call, and the pause after it.
    open: Option<Open>,
    /// The budget of retries, in parts of [`BACKEND_RETRY_EARNED_BY`].
    saved: u32,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    probe_at: Instant,
    pause: Duration,
    is_probed: bool,
}

/// The circuit is open: the backend failed recently, so it is not called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("circuit open: the backend failed recently and will be retried shortly")]
pub struct Refused;

/// Counts of a backend's calls since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Calls {
    /// The backend answered, possibly with a refusal.
    pub reached: u64,
    /// The backend did not answer.
    pub failed: u64,
    /// Not sent, because the circuit was open.
    pub refused: u64,
    /// Retries.
    pub retried: u64,
}

/// A call in progress. If it is dropped without a result, because its caller gave up, it counts as neither success nor failure.
#[derive(Debug)]
pub struct Attempt {
    breaker: Breaker,
    is_probe: bool,
}

impl Breaker {
    /// A closed circuit. The name is for the log. Its part before the first `/` is the kind, which is public in metrics and
    /// readiness.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        let state =
            State { failures: 0, open: None, saved: BACKEND_RETRIES_SAVED_MAX * BACKEND_RETRY_EARNED_BY };
        Self(Arc::new(Inner {
            name: name.into(),
            state: Mutex::new(state),
            reached: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            retried: AtomicU64::new(0),
        }))
    }

    /// The backend's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The kind of the backend.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.0.name.split_once('/').map_or(&self.0.name, |(kind, _)| kind)
    }

    /// Begins a call.
    ///
    /// # Errors
    /// [`Refused`] while the circuit is open.
    pub fn enter(&self) -> Result<Attempt, Refused> {
        let mut state = self.0.state.lock();
        let is_probe = match &mut state.open {
            None => false,
            Some(open) if !open.is_probed && Instant::now() >= open.probe_at => {
                open.is_probed = true;
                true
            }
            Some(_) => {
                self.0.refused.fetch_add(1, Ordering::Relaxed);
                return Err(Refused);
            }
        };
        Ok(Attempt { breaker: self.clone(), is_probe })
    }

    /// Takes a retry from the budget. Retries are bounded by a part of the successful calls, so that they do not overload a
    /// failing backend.
    #[must_use]
    pub fn may_retry(&self) -> bool {
        let mut state = self.0.state.lock();
        let Some(saved) = state.saved.checked_sub(BACKEND_RETRY_EARNED_BY) else { return false };
        if state.open.is_some() {
            return false;
        }
        state.saved = saved;
        self.0.retried.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Whether the circuit is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.0.state.lock().open.is_some()
    }

    /// The counts of calls.
    #[must_use]
    pub fn calls(&self) -> Calls {
        let Inner { reached, failed, refused, retried, .. } = &*self.0;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Calls { reached: load(reached), failed: load(failed), refused: load(refused), retried: load(retried) }
    }
}

impl Attempt {
    /// Reports success: the backend answered, possibly with a refusal.
    pub fn reached(mut self) {
        self.is_probe = false;
        self.breaker.0.reached.fetch_add(1, Ordering::Relaxed);
        let mut state = self.breaker.0.state.lock();
        state.failures = 0;
        state.saved = (state.saved + 1).min(BACKEND_RETRIES_SAVED_MAX * BACKEND_RETRY_EARNED_BY);
        if state.open.take().is_some() {
            drop(state);
            tracing::info!(backend = self.breaker.name(), "circuit closed: the backend answers again");
        }
    }

    /// Reports a failure: the backend did not answer in time, or reported that it cannot work now.
    pub fn failed(mut self, why: &dyn std::fmt::Display) {
        let was_probe = std::mem::take(&mut self.is_probe);
        self.breaker.0.failed.fetch_add(1, Ordering::Relaxed);
        let mut state = self.breaker.0.state.lock();
        state.failures = state.failures.saturating_add(1);
        let is_too_much = state.failures >= BACKEND_FAILURES_MAX;
        let now = Instant::now();
        match &mut state.open {
            Some(open) if was_probe => {
                let pause = (open.pause * 2).min(BACKEND_PAUSE_MAX);
                *open = Open { probe_at: now + jittered(pause), pause, is_probed: false };
            }
            // The call had begun before the circuit opened.
            Some(_) => {}
            None if is_too_much => {
                let pause = BACKEND_PAUSE_MIN;
                state.open = Some(Open { probe_at: now + jittered(pause), pause, is_probed: false });
                drop(state);
                tracing::warn!(backend = self.breaker.name(), error = %why, "the backend does not answer");
            }
            None => {}
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.is_probe
            && let Some(open) = &mut self.breaker.0.state.lock().open
        {
            open.is_probed = false;
        }
    }
}

/// The pause before a retry, counted from 1: exponential with jitter.
#[must_use]
pub fn retry_pause(retry: u32) -> Duration {
    let doubled = BACKEND_RETRY_PAUSE_MIN
        .saturating_mul(1_u32.checked_shl(retry.saturating_sub(1)).unwrap_or(u32::MAX));
    jittered(doubled.min(BACKEND_RETRY_PAUSE_MAX))
}

/// A random time between half and all of a time.
fn jittered(time: Duration) -> Duration {
    // Without random bytes there is no jitter, which is no reason to fail.
    let part = getrandom::u32().unwrap_or(u32::MAX);
    time / 2 + (time / 2).mul_f64(f64::from(part) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(breaker: &Breaker) {
        breaker.enter().unwrap().failed(&"down");
    }

    fn opened() -> Breaker {
        let breaker = Breaker::new("test");
        for _ in 0..BACKEND_FAILURES_MAX {
            assert!(!breaker.is_open());
            fail(&breaker);
        }
        breaker
    }

    fn probe(breaker: &Breaker) -> Attempt {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            match breaker.enter() {
                Ok(attempt) => return attempt,
                Err(Refused) => assert!(Instant::now() < until, "the circuit stays open"),
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn failures_in_a_row_open_the_circuit_and_others_do_not() {
        let breaker = Breaker::new("test");
        for _ in 0..10 * BACKEND_FAILURES_MAX {
            fail(&breaker);
            breaker.enter().unwrap().reached();
        }
        assert!(!breaker.is_open());
        let breaker = opened();
        assert_eq!(breaker.enter().err(), Some(Refused));
        let calls = breaker.calls();
        assert_eq!((calls.failed, calls.refused), (u64::from(BACKEND_FAILURES_MAX), 1));
    }

    #[test]
    fn one_call_at_a_time_finds_out_and_closes_the_circuit() {
        let breaker = opened();
        let first = probe(&breaker);
        std::thread::sleep(BACKEND_PAUSE_MIN);
        assert_eq!(breaker.enter().err(), Some(Refused), "a second one beside it");
        // One whose caller gave up lets the next one try.
        drop(first);
        probe(&breaker).failed(&"still down");
        assert_eq!(breaker.enter().err(), Some(Refused));
        probe(&breaker).reached();
        assert!(!breaker.is_open());
        breaker.enter().unwrap().reached();
    }

    #[test]
    fn a_call_from_before_does_not_close_or_prolong_what_opened_since() {
        let breaker = Breaker::new("test");
        let early = breaker.enter().unwrap();
        for _ in 0..BACKEND_FAILURES_MAX {
            fail(&breaker);
        }
        early.failed(&"late");
        assert!(breaker.is_open());
        probe(&breaker).reached();
    }

    #[test]
    fn retries_are_a_part_of_what_succeeds() {
        let breaker = Breaker::new("test");
        let mut retries = 0;
        while breaker.may_retry() {
            retries += 1;
        }
        assert_eq!(retries, BACKEND_RETRIES_SAVED_MAX);
        for _ in 0..3 * BACKEND_RETRY_EARNED_BY {
            breaker.enter().unwrap().reached();
        }
        while breaker.may_retry() {
            retries += 1;
        }
        assert_eq!(retries, BACKEND_RETRIES_SAVED_MAX + 3);
        assert!(!opened().may_retry(), "not while the circuit is open");
    }

    #[test]
    fn pauses_grow_to_a_bound_and_differ() {
        for retry in [1, 2, 5, 40, u32::MAX] {
            assert!(retry_pause(retry) <= BACKEND_RETRY_PAUSE_MAX);
            assert!(retry_pause(retry) >= BACKEND_RETRY_PAUSE_MIN / 2);
        }
        let pauses: std::collections::HashSet<_> = (0..100).map(|_| retry_pause(4)).collect();
        assert!(pauses.len() > 50);
    }
}
