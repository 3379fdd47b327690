//! The rest of a request's body that is larger than what waits in memory: it arrives while its function runs.
//!
//! Nothing is read ahead of the function but what the HTTP library has buffered, so a large body takes little memory however
//! slowly it is read. A client that is waited for must send at the least pace of other bodies, and holds its function's place
//! no longer than that.

use super::body::{BodyLimits, body_too_large, broke_off, poll_data, too_slow, took_too_long};
use crate::error::ApiError;
use crate::limits::{BODY_WINDOW, BODY_WINDOW_LEAST_BYTES};
use crate::shares::Permit;
use bytes::Bytes;
use hyper::body::{Body, Incoming};
use orama_runtime::services::{Answer, Scheduler, Wait};
use parking_lot::Mutex;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// A body of which a part may still have to arrive. Clones share it.
#[derive(Clone)]
pub(crate) struct Upload {
    // Locked by one core alone: its run and its connection are there.
    arrival: Arc<Mutex<Arrival>>,
    scheduler: Arc<dyn Scheduler>,
}

/// How a body was left when its run was over.
#[derive(Debug)]
pub(crate) enum Left {
    /// All of it was read.
    Whole,
    /// A part of it was not read.
    Unread,
    /// It could not be read.
    Failed(ApiError),
}

struct Arrival {
    /// `None` when it is over.
    body: Option<Incoming>,
    failed: Option<ApiError>,
    limits: BodyLimits,
    /// What came before the run, and what was handed out since.
    bytes: usize,
    before: usize,
    pace: Pace,
    /// The room that it takes until it is closed.
    permit: Option<Permit>,
}

/// How long a run has waited for its client.
struct Pace {
    waited: Duration,
    since: Option<Instant>,
    /// The time waited and the bytes that had come when the window began.
    window: (Duration, usize),
}

impl Upload {
    /// The rest of a body of which `before` bytes have come.
    pub(crate) fn new(
        body: Incoming,
        before: usize,
        limits: BodyLimits,
        permit: Permit,
        scheduler: Arc<dyn Scheduler>,
    ) -> Self {
        let pace = Pace { waited: Duration::ZERO, since: None, window: (Duration::ZERO, before) };
        let arrival = Arrival {
            body: Some(body),
            failed: None,
            limits,
            bytes: before,
            before,
            pace,
            permit: Some(permit),
        };
        Self { arrival: Arc::new(Mutex::new(arrival)), scheduler }
    }

    /// Whether the end has not been handed out.
    pub(crate) fn has_more(&self) -> bool {
        let arrival = self.arrival.lock();
        arrival.body.is_some() || arrival.failed.is_some()
    }

    /// The bytes that have come since the run began.
    pub(crate) fn bytes(&self) -> usize {
        let arrival = self.arrival.lock();
        arrival.bytes - arrival.before
    }

    /// The next bytes, at least one; `None` at the end.
    ///
    /// # Errors
    /// 413 over the limit, 408 when the client sends too little, 400 when it breaks off; from then on, each time.
    pub(crate) fn next(&self) -> Answer<Result<Option<Bytes>, ApiError>> {
        let Self { arrival, scheduler } = self.clone();
        Box::pin(async move {
            let mut window_end = None;
            let _waiting = Waiting(&arrival);
            poll_fn(|cx| arrival.lock().poll_within_window(cx, &*scheduler, &mut window_end)).await
        })
    }

    /// Lets go of the body when the run is over.
    pub(crate) fn close(&self) -> Left {
        let mut arrival = self.arrival.lock();
        arrival.permit = None;
        match (arrival.failed.take(), arrival.body.take()) {
            (Some(error), _) => Left::Failed(error),
            (None, Some(_)) => Left::Unread,
            (None, None) => Left::Whole,
        }
    }
}

/// Stops the clock when nobody waits any more: from then on the client waits for the function.
struct Waiting<'a>(&'a Mutex<Arrival>);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.lock().pace.stop();
    }
}

impl Pace {
    fn stop(&mut self) {
        self.waited += self.since.take().map_or(Duration::ZERO, |since| since.elapsed());
    }
}

impl Arrival {
    /// Polls for the next bytes, and looks at the client's pace at the end of each window.
    fn poll_within_window(
        &mut self,
        cx: &mut Context<'_>,
        scheduler: &dyn Scheduler,
        window_end: &mut Option<Wait>,
    ) -> Poll<Result<Option<Bytes>, ApiError>> {
        loop {
            if let Poll::Ready(next) = self.poll_next(cx) {
                return Poll::Ready(next);
            }
            let end = window_end.get_or_insert_with(|| scheduler.sleep(self.left_of_window()));
            ready!(end.as_mut().poll(cx));
            *window_end = None;
            self.end_window();
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ApiError>> {
        if let Some(error) = &self.failed {
            return Poll::Ready(Err(error.clone()));
        }
        let Some(body) = &mut self.body else { return Poll::Ready(Ok(None)) };
        let data = loop {
            match poll_data(body, cx) {
                Poll::Ready(Some(Ok(data))) if data.is_empty() => {}
                Poll::Ready(data) => break data,
                Poll::Pending => {
                    self.pace.since.get_or_insert_with(Instant::now);
                    return Poll::Pending;
                }
            }
        };
        self.pace.stop();
        Poll::Ready(match data {
            Some(Ok(data)) => {
                self.bytes += data.len();
                if self.bytes > self.limits.bytes {
                    Err(self.fail(body_too_large(self.limits.bytes)))
                } else {
                    Ok(Some(data))
                }
            }
            Some(Err(error)) => Err(self.fail(error)),
            // The connection was dropped.
            None if self.body.as_ref().is_some_and(|body| body.size_hint().lower() > 0) => {
                Err(self.fail(broke_off("its connection was closed")))
            }
            None => {
                self.body = None;
                Ok(None)
            }
        })
    }

    fn fail(&mut self, error: ApiError) -> ApiError {
        self.body = None;
        self.failed = Some(error.clone());
        error
    }

    fn left_of_window(&self) -> Duration {
        let window = BODY_WINDOW.min(self.limits.timeout);
        window.saturating_sub(self.waited() - self.pace.window.0)
    }

    fn waited(&self) -> Duration {
        self.pace.waited + self.pace.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Gives the body up where too little came while the run waited for it.
    fn end_window(&mut self) {
        let waited = self.waited();
        let patience = self.limits.patience();
        let came = self.bytes - self.pace.window.1;
        if waited >= patience {
            self.fail(took_too_long(patience));
        } else if self.left_of_window() == Duration::ZERO {
            if came < BODY_WINDOW_LEAST_BYTES {
                self.fail(too_slow(BODY_WINDOW.min(self.limits.timeout)));
            } else {
                self.pace.window = (waited, self.bytes);
            }
        }
    }
}
