//! Clocks and timers: `clock_*` and `poll_oneoff`.

use super::{STDIN, errno, errno_of, layout};
use crate::abi::{OutOfBounds, View, view};
use crate::call::{Call, Fault, Functions};
use crate::guest::{GuestState, MonotonicClock, Stop};
use crate::limits::POLL_SUBSCRIPTIONS_MAX;
use std::future::poll_fn;
use std::sync::OnceLock;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use wasmtime::{Caller, Error, Result};

fn monotonic_ns() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    // Some guests read 0 as "not set".
    1 + START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

fn realtime_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64
}

fn clock_ns(clock: i32, state: &mut GuestState) -> Result<u64, i32> {
    match (clock, &mut state.rehearsal) {
        (layout::CLOCK_REALTIME, Some(rehearsal)) => return Ok(rehearsal.realtime_ns()),
        (layout::CLOCK_MONOTONIC, Some(rehearsal)) => return Ok(rehearsal.monotonic_ns()),
        _ => {}
    }
    match clock {
        layout::CLOCK_REALTIME => Ok(realtime_ns()),
        layout::CLOCK_MONOTONIC => Ok(state.clock.as_ref().map_or_else(monotonic_ns, MonotonicClock::now_ns)),
        // A guest shares its thread with others, so it has no CPU time of its own.
        2..=layout::CLOCK_THREAD_CPUTIME => Err(errno::NOTSUP),
        _ => Err(errno::INVAL),
    }
}

pub(super) fn link(functions: &mut Functions<'_>) -> Result<()> {
    functions.add_start_up_sync(
        "clock_res_get",
        |mut caller: Caller<'_, GuestState>, clock: i32, at: i32| {
            let (mut memory, state) = view(&mut caller)?;
            Ok::<_, Error>(match clock_ns(clock, state) {
                Ok(_) => {
                    errno_of(memory.write(at as u32 as u64, &1u64.to_le_bytes()).map(|()| errno::SUCCESS))
                }
                Err(errno) => errno,
            })
        },
    )?;
    functions.add_start_up("clock_time_get", errno::FAULT, clock_time_get)?;
    functions.add("poll_oneoff", errno::FAULT, poll_oneoff)
}

async fn clock_time_get(call: &mut Call<'_>, (clock, _precision, at): (i32, i64, i32)) -> Result<i32, Fault> {
    // The monotonic clock says nothing about a request. The time of day does.
    if clock != layout::CLOCK_MONOTONIC {
        call.arrive().await?;
    }
    let now = match clock_ns(clock, call.state()) {
        Ok(now) => now,
        Err(errno) => return Ok(errno),
    };
    let (mut memory, _) = call.memory()?;
    memory.write(at as u32 as u64, &now.to_le_bytes())?;
    Ok(errno::SUCCESS)
}

/// The wait for input: its time is not known.
const UNTIL_INPUT: Duration = Duration::MAX;

/// One event that a guest waits for.
struct Subscription {
    userdata: u64,
    kind: u8,
    /// The time left to wait; or the errno of the event. A descriptor is always ready, but for input that is still to come.
    wait: Result<Duration, i32>,
}

impl Subscription {
    fn is_for_input(&self) -> bool {
        self.kind == layout::EVENTTYPE_FD_READ && self.wait == Ok(UNTIL_INPUT)
    }
}

fn subscription(
    memory: &View<'_>,
    at: u64,
    state: &mut GuestState,
) -> Result<Result<Subscription, i32>, OutOfBounds> {
    let userdata = memory.u64(at)?;
    let kind = memory.bytes((at + 8) as u32, 1)?.first().copied().unwrap_or_default();
    let id = memory.u32(at + 16)? as i32;
    let wait = match kind {
        layout::EVENTTYPE_CLOCK => {
            let timeout = memory.u64(at + 24)?;
            let absolute = memory.u16(at + 40)? & layout::SUBSCRIPTION_CLOCK_ABSTIME != 0;
            clock_ns(id, state)
                .map(|now| Duration::from_nanos(if absolute { timeout.saturating_sub(now) } else { timeout }))
        }
        layout::EVENTTYPE_FD_READ if id == STDIN && state.is_open(id) => {
            Ok(if state.awaits_input() { UNTIL_INPUT } else { Duration::ZERO })
        }
        layout::EVENTTYPE_FD_WRITE if id != STDIN && state.is_open(id) => Ok(Duration::ZERO),
        layout::EVENTTYPE_FD_READ | layout::EVENTTYPE_FD_WRITE => Err(errno::BADF),
        _ => return Ok(Err(errno::INVAL)),
    };
    Ok(Ok(Subscription { userdata, kind, wait }))
}

async fn poll_oneoff(
    call: &mut Call<'_>,
    (subscriptions_at, events_at, count, event_count_at): (i32, i32, i32, i32),
) -> Result<i32, Fault> {
    let (subscriptions_at, count) = (subscriptions_at as u32, count as u32);
    if count == 0 || count > POLL_SUBSCRIPTIONS_MAX {
        return Ok(errno::INVAL);
    }
    let mut subscriptions = Vec::with_capacity(count as usize);
    let (memory, state) = call.memory()?;
    for index in 0..u64::from(count) {
        let at = u64::from(subscriptions_at) + index * layout::SUBSCRIPTION;
        match subscription(&memory, at, state)? {
            Ok(subscription) => subscriptions.push(subscription),
            Err(errno) => return Ok(errno),
        }
    }
    // A subscription with an error is due at once.
    let mut wait = subscriptions.iter().map(|s| s.wait.unwrap_or_default()).min().unwrap_or_default();
    if subscriptions.iter().any(Subscription::is_for_input) {
        if has_input_within(call, wait).await? {
            wait = Duration::ZERO;
            let for_input = subscriptions.iter_mut().filter(|subscription| subscription.is_for_input());
            for_input.for_each(|subscription| subscription.wait = Ok(wait));
        }
    } else if let Some(rehearsal) = &mut state.rehearsal {
        rehearsal.wait(wait);
    } else if wait > Duration::ZERO {
        let left = state.deadline.saturating_duration_since(Instant::now());
        let sleep = state.host.scheduler.sleep(wait.min(left));
        sleep.await;
        if wait >= left {
            return Err(Stop::Timeout.into());
        }
    }
    let (mut memory, _) = call.memory()?;
    Ok(write_events(&mut memory, &subscriptions, wait, events_at as u32, event_count_at as u32)?)
}

/// Waits until input has arrived, ended or broken off, for `wait` at most; whether it has.
async fn has_input_within(call: &mut Call<'_>, wait: Duration) -> Result<bool, Fault> {
    let mut input = call.state().next_input();
    let left = call.state().deadline.saturating_duration_since(Instant::now());
    let mut sleep = None;
    let arrived = poll_fn(|cx| {
        if let Poll::Ready(arrived) = input.as_mut().poll(cx) {
            return Poll::Ready(Some(arrived));
        }
        if wait == Duration::ZERO {
            return Poll::Ready(None);
        }
        let sleep = sleep.get_or_insert_with(|| call.state().host.scheduler.sleep(wait.min(left)));
        sleep.as_mut().poll(cx).map(|()| None)
    });
    match arrived.await {
        Some(Ok(arrived)) => call.state().take_input(arrived),
        // The read that follows is told.
        Some(Err(_)) => {}
        None if wait >= left => return Err(Stop::Timeout.into()),
        None => return Ok(false),
    }
    Ok(true)
}

fn write_events(
    memory: &mut View<'_>,
    subscriptions: &[Subscription],
    waited: Duration,
    events_at: u32,
    event_count_at: u32,
) -> Result<i32, OutOfBounds> {
    let mut written = 0u32;
    for subscription in subscriptions {
        let error = match subscription.wait {
            Ok(wait) if wait > waited => continue,
            Ok(_) => errno::SUCCESS,
            Err(errno) => errno,
        };
        let mut event = [0u8; layout::EVENT as usize];
        event[0..8].copy_from_slice(&subscription.userdata.to_le_bytes());
        event[8..10].copy_from_slice(&(error as u16).to_le_bytes());
        event[10] = subscription.kind;
        if subscription.kind != layout::EVENTTYPE_CLOCK {
            // The number of bytes that can be read or written without waiting: at least one.
            event[16..24].copy_from_slice(&1u64.to_le_bytes());
        }
        memory.write(u64::from(events_at) + u64::from(written) * layout::EVENT, &event)?;
        written += 1;
    }
    memory.write(u64::from(event_count_at), &written.to_le_bytes())?;
    Ok(errno::SUCCESS)
}
