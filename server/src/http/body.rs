//! Reads a request's body within its limits of size, time and memory.
//!
//! Room is taken by what has arrived, not by what was announced. When there is none left, the body that arrives slowest is given
//! up so that the others can go on.

use crate::error::ApiError;
use crate::limits::{BODY_COUNTED_FROM_BYTES, BODY_WINDOW, BODY_WINDOW_LEAST_BYTES};
use crate::shares::{NoRoom, Permit};
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use hyper::body::{Body, Incoming};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// The slowest upload that is waited for, in bytes a second beyond the fixed time.
const SLOWEST_BYTES_PER_S: usize = 1 << 20;
/// A body that has just begun is not called slow yet.
const JUST_BEGUN: Duration = Duration::from_secs(1);
/// How long a body waits for the room of one that was given up, and how often it looks.
const ROOM_PATIENCE: Duration = Duration::from_secs(1);
const ROOM_LOOK_EVERY: Duration = Duration::from_millis(20);

/// A body that has arrived, and the room that it takes as long as it is held.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) bytes: Bytes,
    pub(crate) permit: Permit,
    /// What comes after the bytes, where the body is too large to be waited for.
    pub(crate) rest: Option<Incoming>,
}

/// What a body may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyLimits {
    pub(crate) bytes: usize,
    /// Up to so many bytes are waited for. The rest of a larger body is left to the caller.
    pub(crate) whole_bytes: usize,
    /// From its first byte to its last, and a second more for each MiB of `bytes`.
    pub(crate) timeout: Duration,
}

impl BodyLimits {
    /// The longest that a body is waited for.
    pub(super) fn patience(&self) -> Duration {
        self.timeout + Duration::from_secs((self.bytes / SLOWEST_BYTES_PER_S) as u64)
    }
}

/// The bodies that are arriving on a core.
#[derive(Debug, Default)]
pub(crate) struct Bodies(RefCell<Vec<Rc<Arriving>>>);

/// A body that has not arrived at once.
#[derive(Debug)]
struct Arriving {
    since: Instant,
    permit: RefCell<Permit>,
    /// Bytes that have come.
    bytes: Cell<usize>,
    given_up: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Arriving {
    fn bytes_per_s(&self, now: Instant) -> u64 {
        let ms = now.duration_since(self.since).as_millis().max(1);
        u64::try_from(self.bytes.get() as u128 * 1000 / ms).unwrap_or(u64::MAX)
    }
}

/// Takes a body off the list when it is not awaited any more.
struct Listed<'a>(&'a Bodies, Rc<Arriving>);

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.0.0.borrow_mut().retain(|other| !Rc::ptr_eq(other, &self.1));
    }
}

impl Bodies {
    fn enter(&self, permit: Permit, bytes: usize) -> Listed<'_> {
        let arriving = Rc::new(Arriving {
            since: Instant::now(),
            permit: RefCell::new(permit),
            bytes: Cell::new(bytes),
            given_up: Cell::new(false),
            waker: RefCell::default(),
        });
        self.0.borrow_mut().push(Rc::clone(&arriving));
        Listed(self, arriving)
    }

    /// Gives up the slowest body that stands in the way of one of `theirs`; `false` when there is none.
    fn give_up_slowest(&self, for_whom: &Rc<Arriving>, refused: NoRoom) -> bool {
        let now = Instant::now();
        let all = self.0.borrow();
        let theirs = for_whom.permit.borrow();
        let slowest = all
            .iter()
            .filter(|other| !Rc::ptr_eq(other, for_whom) && !other.given_up.get())
            .filter(|other| now.duration_since(other.since) > JUST_BEGUN)
            .filter(|other| {
                let permit = other.permit.borrow();
                permit.amount() > 0 && permit.shares_limit(theirs.parties(), refused.scope)
            })
            .min_by_key(|other| other.bytes_per_s(now))
            .filter(|other| other.bytes_per_s(now) < for_whom.bytes_per_s(now));
        let Some(slowest) = slowest else { return false };
        slowest.given_up.set(true);
        if let Some(waker) = slowest.waker.take() {
            waker.wake();
        }
        true
    }
}

/// What has arrived. One that comes in one piece is not copied.
#[derive(Default)]
enum Gathered {
    #[default]
    Nothing,
    One(Bytes),
    Many(BytesMut),
}

impl Gathered {
    fn len(&self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::One(bytes) => bytes.len(),
            Self::Many(bytes) => bytes.len(),
        }
    }

    fn push(&mut self, data: Bytes, limit_bytes: usize) -> Result<(), ApiError> {
        if data.len() > limit_bytes.saturating_sub(self.len()) {
            return Err(body_too_large(limit_bytes));
        }
        *self = match std::mem::take(self) {
            Self::Nothing => Self::One(data),
            Self::One(first) => {
                let mut all = BytesMut::from(first);
                all.extend_from_slice(&data);
                Self::Many(all)
            }
            Self::Many(mut all) => {
                all.extend_from_slice(&data);
                Self::Many(all)
            }
        };
        Ok(())
    }

    fn finish(self) -> Bytes {
        match self {
            Self::Nothing => Bytes::new(),
            Self::One(bytes) => bytes,
            Self::Many(bytes) => bytes.freeze(),
        }
    }
}

/// Reads all of `body`, or the beginning of a large one: nothing where its length is announced. One that has arrived with
/// its head, as most do, costs no timer and no copy.
///
/// # Errors
/// 413 over the limit, before a byte is read where the length is announced; 408 when it takes too long or brings too little; 400
/// when it breaks off; 503 when there is no room for it.
pub(crate) async fn read_body(
    mut body: Incoming,
    limits: BodyLimits,
    bodies: &Bodies,
    mut permit: Permit,
) -> Result<Received, ApiError> {
    if body.size_hint().lower() > limits.bytes as u64 {
        return Err(body_too_large(limits.bytes));
    }
    if body.size_hint().lower() > limits.whole_bytes as u64 {
        return Ok(Received { bytes: Bytes::new(), permit, rest: Some(body) });
    }
    let mut gathered = Gathered::default();
    while !body.is_end_stream() && gathered.len() <= limits.whole_bytes {
        match poll_fn(|cx| Poll::Ready(poll_data(&mut body, cx))).await {
            Poll::Ready(Some(data)) => gathered.push(data?, limits.bytes)?,
            Poll::Ready(None) => break,
            Poll::Pending => return read_rest(body, gathered, limits, bodies, permit).await,
        }
    }
    if gathered.len() > BODY_COUNTED_FROM_BYTES {
        permit.set(gathered.len())?;
    }
    Ok(received(body, gathered, permit, limits))
}

/// What has been gathered, with the body itself where that is not all.
fn received(body: Incoming, gathered: Gathered, permit: Permit, limits: BodyLimits) -> Received {
    let rest = (gathered.len() > limits.whole_bytes).then_some(body);
    Received { bytes: gathered.finish(), permit, rest }
}

pub(super) fn poll_data(body: &mut Incoming, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ApiError>>> {
    loop {
        match std::task::ready!(Pin::new(&mut *body).poll_frame(cx)) {
            None => return Poll::Ready(None),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Poll::Ready(Some(Ok(data)));
                }
            }
            Some(Err(error)) => {
                return Poll::Ready(Some(Err(broke_off(error))));
            }
        }
    }
}

/// Reads what did not arrive at once.
async fn read_rest(
    mut body: Incoming,
    mut gathered: Gathered,
    limits: BodyLimits,
    bodies: &Bodies,
    permit: Permit,
) -> Result<Received, ApiError> {
    let listed = bodies.enter(permit, gathered.len());
    let arriving = &listed.1;
    let patience = limits.patience();
    let deadline = arriving.since + patience;
    let window = BODY_WINDOW.min(limits.timeout);
    let (mut window_end, mut window_begin_bytes) = (arriving.since + window, gathered.len());
    while gathered.len() <= limits.whole_bytes {
        let until = window_end.min(deadline);
        let left = until.saturating_duration_since(Instant::now());
        let next = poll_fn(|cx| {
            if arriving.given_up.get() {
                return Poll::Ready(Err(gave_up()));
            }
            *arriving.waker.borrow_mut() = Some(cx.waker().clone());
            poll_data(&mut body, cx).map(Option::transpose)
        });
        match monoio::time::timeout(left, next).await {
            Ok(Ok(Some(data))) => {
                gathered.push(data, limits.bytes)?;
                arriving.bytes.set(gathered.len());
                make_room(bodies, arriving, gathered.len()).await?;
            }
            Ok(Ok(None)) => break,
            Ok(Err(error)) => return Err(error),
            Err(_) if Instant::now() >= deadline => {
                return Err(took_too_long(patience));
            }
            Err(_) => {
                if gathered.len() - window_begin_bytes < BODY_WINDOW_LEAST_BYTES {
                    return Err(too_slow(window));
                }
                (window_end, window_begin_bytes) = (window_end + window, gathered.len());
            }
        }
    }
    let permit = take_permit(arriving);
    drop(listed);
    Ok(received(body, gathered, permit, limits))
}

/// The refusal of a body whose end did not come.
pub(super) fn broke_off(why: impl fmt::Display) -> ApiError {
    ApiError::bad_request("BAD_BODY", format!("the request's body broke off: {why}"))
}

/// The refusal of a body over its limit.
pub(super) fn body_too_large(limit_bytes: usize) -> ApiError {
    ApiError::too_large("the request's body", limit_bytes)
}

/// The refusal of a body that takes longer than its time.
pub(super) fn took_too_long(patience: Duration) -> ApiError {
    not_in_time(format!("the request's body did not arrive within {} s", patience.as_secs()))
}

/// The refusal of a body of which too little comes.
pub(super) fn too_slow(window: Duration) -> ApiError {
    not_in_time(format!(
        "the request's body arrives too slowly: less than {BODY_WINDOW_LEAST_BYTES} bytes in {} s",
        window.as_secs()
    ))
}

fn not_in_time(why: String) -> ApiError {
    ApiError::new(StatusCode::REQUEST_TIMEOUT, "REQUEST_TIMEOUT", why)
}

/// The permit itself; what is left on the list until it is taken off holds nothing.
fn take_permit(arriving: &Arriving) -> Permit {
    let mut permit = arriving.permit.borrow_mut();
    let empty = permit.empty();
    std::mem::replace(&mut permit, empty)
}

fn gave_up() -> ApiError {
    ApiError::overloaded("the node has no room for slow requests now; try again")
}

/// Takes room for what has arrived, that of a slower body if there is no other.
async fn make_room(bodies: &Bodies, arriving: &Rc<Arriving>, bytes: usize) -> Result<(), ApiError> {
    let begun = Instant::now();
    loop {
        let refused = match arriving.permit.borrow_mut().set(bytes) {
            Ok(()) => return Ok(()),
            Err(refused) => refused,
        };
        if begun.elapsed() > ROOM_PATIENCE || !bodies.give_up_slowest(arriving, refused) {
            return Err(refused.into());
        }
        monoio::time::sleep(ROOM_LOOK_EVERY).await;
    }
}
