//! WASI preview1: the calls that every program makes are ours, all others are wasmtime-wasi's, without files or sockets.

use crate::abi::{OutOfBounds, View, view};
use crate::guest::{GuestState, Stop};
use crate::limits::{IOVEC_MAX, POLL_SUBSCRIPTIONS_MAX, RANDOM_CHUNK_BYTES};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use wasmtime::{Caller, Error, Linker, Result};

const MODULE: &str = "wasi_snapshot_preview1";

/// Error numbers of preview1's `errno`.
mod errno {
    pub(super) const SUCCESS: i32 = 0;
    pub(super) const BADF: i32 = 8;
    pub(super) const FAULT: i32 = 21;
    pub(super) const INVAL: i32 = 28;
    pub(super) const NOTSUP: i32 = 58;
    pub(super) const SPIPE: i32 = 70;
}

const STDIN: i32 = 0;
const STDOUT: i32 = 1;
const STDERR: i32 = 2;

/// Sizes and field offsets of preview1's structures.
mod layout {
    pub(super) const IOVEC: u64 = 8;
    pub(super) const SUBSCRIPTION: u64 = 48;
    pub(super) const EVENT: u64 = 32;
    pub(super) const FDSTAT: usize = 24;
    pub(super) const FILETYPE_CHARACTER_DEVICE: u8 = 2;
    pub(super) const RIGHT_FD_READ: u64 = 1 << 1;
    pub(super) const RIGHT_FD_WRITE: u64 = 1 << 6;
    pub(super) const EVENTTYPE_CLOCK: u8 = 0;
    pub(super) const EVENTTYPE_FD_READ: u8 = 1;
    pub(super) const EVENTTYPE_FD_WRITE: u8 = 2;
    pub(super) const CLOCK_REALTIME: i32 = 0;
    pub(super) const CLOCK_MONOTONIC: i32 = 1;
    pub(super) const CLOCK_THREAD_CPUTIME: i32 = 3;
    pub(super) const SUBSCRIPTION_CLOCK_ABSTIME: u16 = 1;
}

/// A memory fault is an errno in WASI, not a trap.
fn errno_of(result: Result<i32, OutOfBounds>) -> i32 {
    result.unwrap_or(errno::FAULT)
}

/// Links all of preview1.
pub(crate) fn link(linker: &mut Linker<GuestState>) -> Result<()> {
    wasmtime_wasi::p1::add_to_linker_async(linker, GuestState::wasi)?;
    linker.allow_shadowing(true);
    link_process(linker)?;
    link_clocks(linker)?;
    link_descriptors(linker)?;
    linker.allow_shadowing(false);
    Ok(())
}

fn link_process(linker: &mut Linker<GuestState>) -> Result<()> {
    linker.func_wrap(MODULE, "args_sizes_get", |mut caller: Caller<'_, GuestState>, count: i32, size: i32| {
        let (mut memory, state) = view(&mut caller)?;
        Ok::<_, Error>(errno_of(write_sizes(&mut memory, count, size, arguments(state))))
    })?;
    linker.func_wrap(MODULE, "args_get", |mut caller: Caller<'_, GuestState>, pointers: i32, buffer: i32| {
        let (mut memory, state) = view(&mut caller)?;
        Ok::<_, Error>(errno_of(write_strings(&mut memory, pointers, buffer, arguments(state))))
    })?;
    linker.func_wrap(MODULE, "environ_sizes_get", |mut caller: Caller<'_, GuestState>, count: i32, size: i32| {
        let (mut memory, state) = view(&mut caller)?;
        Ok::<_, Error>(errno_of(write_sizes(&mut memory, count, size, environ(state))))
    })?;
    linker.func_wrap(MODULE, "environ_get", |mut caller: Caller<'_, GuestState>, pointers: i32, buffer: i32| {
        let (mut memory, state) = view(&mut caller)?;
        Ok::<_, Error>(errno_of(write_strings(&mut memory, pointers, buffer, environ(state))))
    })?;
    linker.func_wrap(MODULE, "proc_exit", |code: i32| -> Result<()> { Err(Error::from(Stop::Exit(code))) })?;
    linker.func_wrap(MODULE, "sched_yield", || errno::SUCCESS)?;
    linker.func_wrap_async(
        MODULE,
        "random_get",
        |mut caller: Caller<'_, GuestState>, (buffer, length): (i32, i32)| {
            Box::new(async move { random_get(&mut caller, buffer as u32, length as u32).await })
        },
    )?;
    Ok(())
}

/// The strings of one array, each as the parts it is made of; a terminating zero is added to each.
fn arguments(state: &GuestState) -> impl Iterator<Item = [&str; 3]> + Clone {
    std::iter::once([state.function.name.as_str(), "", ""])
}

fn environ(state: &GuestState) -> impl Iterator<Item = [&str; 3]> + Clone {
    state.function.env.iter().map(|(name, value)| [name.as_str(), "=", value.as_str()])
}

fn write_sizes<'a>(
    memory: &mut View<'_>,
    count_at: i32,
    size_at: i32,
    strings: impl Iterator<Item = [&'a str; 3]>,
) -> Result<i32, OutOfBounds> {
    let (mut count, mut size) = (0u32, 0u32);
    for parts in strings {
        count += 1;
        size += parts.iter().map(|part| part.len() as u32).sum::<u32>() + 1;
    }
    memory.write(count_at as u32 as u64, &count.to_le_bytes())?;
    memory.write(size_at as u32 as u64, &size.to_le_bytes())?;
    Ok(errno::SUCCESS)
}

fn write_strings<'a>(
    memory: &mut View<'_>,
    pointers: i32,
    buffer: i32,
    strings: impl Iterator<Item = [&'a str; 3]>,
) -> Result<i32, OutOfBounds> {
    let (mut pointer, mut at) = (pointers as u32 as u64, buffer as u32 as u64);
    for parts in strings {
        memory.write(pointer, &(at as u32).to_le_bytes())?;
        pointer += 4;
        for part in parts {
            memory.write(at, part.as_bytes())?;
            at += part.len() as u64;
        }
        memory.write(at, &[0])?;
        at += 1;
    }
    Ok(errno::SUCCESS)
}

async fn random_get(caller: &mut Caller<'_, GuestState>, buffer: u32, length: u32) -> Result<i32> {
    let (memory, _) = view(caller)?;
    if memory.bytes(buffer, length).is_err() {
        return Ok(errno::FAULT);
    }
    let mut done = 0;
    while done < length {
        let chunk = (length - done).min(RANDOM_CHUNK_BYTES as u32);
        let (mut memory, state) = view(caller)?;
        let Ok(bytes) = memory.bytes_mut(buffer + done, chunk) else { return Ok(errno::FAULT) };
        getrandom::fill(bytes).map_err(|error| Error::msg(format!("no randomness: {error}")))?;
        done += chunk;
        if done < length {
            if Instant::now() >= state.deadline {
                return Err(Error::from(Stop::Timeout));
            }
            state.scheduler.yield_now().await;
        }
    }
    Ok(errno::SUCCESS)
}

fn monotonic_ns() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    // Guests may take 0 for "not set".
    1 + START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

fn realtime_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64
}

fn clock_ns(clock: i32) -> Result<u64, i32> {
    match clock {
        layout::CLOCK_REALTIME => Ok(realtime_ns()),
        layout::CLOCK_MONOTONIC => Ok(monotonic_ns()),
        // A guest shares its thread with others: there is no CPU time of its own to show.
        2..=layout::CLOCK_THREAD_CPUTIME => Err(errno::NOTSUP),
        _ => Err(errno::INVAL),
    }
}

fn link_clocks(linker: &mut Linker<GuestState>) -> Result<()> {
    linker.func_wrap(MODULE, "clock_res_get", |mut caller: Caller<'_, GuestState>, clock: i32, at: i32| {
        let (mut memory, _) = view(&mut caller)?;
        Ok::<_, Error>(match clock_ns(clock) {
            Ok(_) => errno_of(memory.write(at as u32 as u64, &1u64.to_le_bytes()).map(|()| errno::SUCCESS)),
            Err(errno) => errno,
        })
    })?;
    linker.func_wrap(
        MODULE,
        "clock_time_get",
        |mut caller: Caller<'_, GuestState>, clock: i32, _precision: i64, at: i32| {
            let (mut memory, _) = view(&mut caller)?;
            Ok::<_, Error>(match clock_ns(clock) {
                Ok(now) => errno_of(memory.write(at as u32 as u64, &now.to_le_bytes()).map(|()| errno::SUCCESS)),
                Err(errno) => errno,
            })
        },
    )?;
    linker.func_wrap_async(
        MODULE,
        "poll_oneoff",
        |mut caller: Caller<'_, GuestState>, (subscriptions, events, count, events_at): (i32, i32, i32, i32)| {
            Box::new(async move {
                poll_oneoff(&mut caller, subscriptions as u32, events as u32, count as u32, events_at as u32).await
            })
        },
    )?;
    Ok(())
}

/// One thing a guest waits for.
struct Subscription {
    userdata: u64,
    kind: u8,
    /// `Ok` with the time still to wait (zero for a descriptor, which is always ready), else the event's error.
    wait: Result<Duration, i32>,
}

fn subscription(memory: &View<'_>, at: u64) -> Result<Result<Subscription, i32>, OutOfBounds> {
    let userdata = memory.u64(at)?;
    let kind = memory.bytes((at + 8) as u32, 1)?.first().copied().unwrap_or_default();
    let id = memory.u32(at + 16)? as i32;
    let wait = match kind {
        layout::EVENTTYPE_CLOCK => {
            let timeout = memory.u64(at + 24)?;
            let absolute = memory.u16(at + 40)? & layout::SUBSCRIPTION_CLOCK_ABSTIME != 0;
            clock_ns(id).map(|now| {
                Duration::from_nanos(if absolute { timeout.saturating_sub(now) } else { timeout })
            })
        }
        layout::EVENTTYPE_FD_READ if id == STDIN => Ok(Duration::ZERO),
        layout::EVENTTYPE_FD_WRITE if id == STDOUT || id == STDERR => Ok(Duration::ZERO),
        layout::EVENTTYPE_FD_READ | layout::EVENTTYPE_FD_WRITE => Err(errno::BADF),
        _ => return Ok(Err(errno::INVAL)),
    };
    Ok(Ok(Subscription { userdata, kind, wait }))
}

async fn poll_oneoff(
    caller: &mut Caller<'_, GuestState>,
    subscriptions_at: u32,
    events_at: u32,
    count: u32,
    event_count_at: u32,
) -> Result<i32> {
    if count == 0 || count > POLL_SUBSCRIPTIONS_MAX {
        return Ok(errno::INVAL);
    }
    let mut subscriptions = Vec::with_capacity(count as usize);
    let (memory, state) = view(caller)?;
    for index in 0..u64::from(count) {
        match subscription(&memory, u64::from(subscriptions_at) + index * layout::SUBSCRIPTION) {
            Ok(Ok(subscription)) => subscriptions.push(subscription),
            Ok(Err(errno)) => return Ok(errno),
            Err(OutOfBounds { .. }) => return Ok(errno::FAULT),
        }
    }
    // An error is an event at once.
    let wait = subscriptions.iter().map(|s| s.wait.unwrap_or_default()).min().unwrap_or_default();
    if wait > Duration::ZERO {
        let left = state.deadline.saturating_duration_since(Instant::now());
        let sleep = state.scheduler.sleep(wait.min(left));
        sleep.await;
        if wait >= left {
            return Err(Error::from(Stop::Timeout));
        }
    }
    let (mut memory, _) = view(caller)?;
    Ok(errno_of(write_events(&mut memory, &subscriptions, wait, events_at, event_count_at)))
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
            // Bytes that can be read or written without waiting: at least one.
            event[16..24].copy_from_slice(&1u64.to_le_bytes());
        }
        memory.write(u64::from(events_at) + u64::from(written) * layout::EVENT, &event)?;
        written += 1;
    }
    memory.write(u64::from(event_count_at), &written.to_le_bytes())?;
    Ok(errno::SUCCESS)
}

fn link_descriptors(linker: &mut Linker<GuestState>) -> Result<()> {
    linker.func_wrap_async(
        MODULE,
        "fd_read",
        |mut caller: Caller<'_, GuestState>, (fd, iovecs, count, read_at): (i32, i32, i32, i32)| {
            Box::new(async move {
                if fd != STDIN {
                    return Ok(errno::BADF);
                }
                let (mut memory, state) = view(&mut caller)?;
                Ok::<_, Error>(errno_of(read_input(&mut memory, state, iovecs as u32, count as u32, read_at as u32)))
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "fd_write",
        |mut caller: Caller<'_, GuestState>, fd: i32, iovecs: i32, count: i32, written_at: i32| {
            fd_write(&mut caller, fd, iovecs as u32, count as u32, written_at as u32)
        },
    )?;
    linker.func_wrap(MODULE, "fd_fdstat_get", |mut caller: Caller<'_, GuestState>, fd: i32, at: i32| {
        let rights = match fd {
            STDIN => layout::RIGHT_FD_READ,
            STDOUT | STDERR => layout::RIGHT_FD_WRITE,
            _ => return Ok(errno::BADF),
        };
        let mut stat = [0u8; layout::FDSTAT];
        stat[0] = layout::FILETYPE_CHARACTER_DEVICE;
        stat[8..16].copy_from_slice(&rights.to_le_bytes());
        let (mut memory, _) = view(&mut caller)?;
        Ok::<_, Error>(errno_of(memory.write(at as u32 as u64, &stat).map(|()| errno::SUCCESS)))
    })?;
    linker.func_wrap(MODULE, "fd_fdstat_set_flags", |fd: i32, _flags: i32| {
        if (STDIN..=STDERR).contains(&fd) { errno::SUCCESS } else { errno::BADF }
    })?;
    linker.func_wrap(MODULE, "fd_prestat_get", |_fd: i32, _at: i32| errno::BADF)?;
    linker.func_wrap(MODULE, "fd_prestat_dir_name", |_fd: i32, _at: i32, _length: i32| errno::BADF)?;
    linker.func_wrap(MODULE, "fd_close", |fd: i32| {
        if (STDIN..=STDERR).contains(&fd) { errno::SUCCESS } else { errno::BADF }
    })?;
    linker.func_wrap(MODULE, "fd_seek", |fd: i32, _offset: i64, _whence: i32, _at: i32| {
        if (STDIN..=STDERR).contains(&fd) { errno::SPIPE } else { errno::BADF }
    })?;
    Ok(())
}

fn read_input(
    memory: &mut View<'_>,
    state: &mut GuestState,
    iovecs: u32,
    count: u32,
    read_at: u32,
) -> Result<i32, OutOfBounds> {
    if count > IOVEC_MAX {
        return Ok(errno::INVAL);
    }
    let mut total = 0u32;
    for index in 0..u64::from(count) {
        let at = u64::from(iovecs) + index * layout::IOVEC;
        let (pointer, length) = (memory.u32(at)?, memory.u32(at + 4)?);
        let rest = state.invocation.input.get(state.input_read..).unwrap_or_default();
        let taken = rest.len().min(length as usize);
        memory.bytes_mut(pointer, taken as u32)?.copy_from_slice(&rest[..taken]);
        state.input_read += taken;
        total += taken as u32;
        if taken < length as usize {
            break;
        }
    }
    memory.write(u64::from(read_at), &total.to_le_bytes())?;
    Ok(errno::SUCCESS)
}

fn fd_write(caller: &mut Caller<'_, GuestState>, fd: i32, iovecs: u32, count: u32, written_at: u32) -> Result<i32> {
    if fd != STDOUT && fd != STDERR {
        return Ok(errno::BADF);
    }
    if count > IOVEC_MAX {
        return Ok(errno::INVAL);
    }
    let (mut memory, state) = view(caller)?;
    let mut total = 0u32;
    for index in 0..u64::from(count) {
        let at = u64::from(iovecs) + index * layout::IOVEC;
        let (Ok(pointer), Ok(length)) = (memory.u32(at), memory.u32(at + 4)) else { return Ok(errno::FAULT) };
        let Ok(bytes) = memory.bytes(pointer, length) else { return Ok(errno::FAULT) };
        if fd == STDOUT {
            state.write_output(bytes)?;
        } else {
            state.logs.push_stderr(bytes);
        }
        total = total.wrapping_add(length);
    }
    Ok(errno_of(memory.write(u64::from(written_at), &total.to_le_bytes()).map(|()| errno::SUCCESS)))
}
