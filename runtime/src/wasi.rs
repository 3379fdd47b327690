//! WASI preview1: the calls that every program makes are ours, all others are wasmtime-wasi's, without files or sockets.

mod clocks;
mod descriptors;
mod files;

use crate::abi::{OutOfBounds, View, view};
use crate::guest::{GuestState, Stop};
use crate::limits::HOST_CHUNK_BYTES;
use crate::parking::arrive;
use std::time::Instant;
use wasmtime::{Caller, Error, Linker, Result};

const MODULE: &str = "wasi_snapshot_preview1";

/// Error numbers of preview1's `errno`.
mod errno {
    pub(super) const SUCCESS: i32 = 0;
    pub(super) const BADF: i32 = 8;
    pub(super) const FAULT: i32 = 21;
    pub(super) const INVAL: i32 = 28;
    pub(super) const NOTDIR: i32 = 54;
    pub(super) const NOTSOCK: i32 = 57;
    pub(super) const NOTSUP: i32 = 58;
    pub(super) const SPIPE: i32 = 70;
}

const STDIN: i32 = 0;
const STDOUT: i32 = 1;

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
    clocks::link(linker)?;
    descriptors::link(linker)?;
    files::link(linker)?;
    linker.allow_shadowing(false);
    Ok(())
}

fn link_process(linker: &mut Linker<GuestState>) -> Result<()> {
    linker.func_wrap(
        MODULE,
        "args_sizes_get",
        |mut caller: Caller<'_, GuestState>, count: i32, size: i32| {
            let (mut memory, state) = view(&mut caller)?;
            Ok::<_, Error>(errno_of(write_sizes(&mut memory, count, size, arguments(state))))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "args_get",
        |mut caller: Caller<'_, GuestState>, pointers: i32, buffer: i32| {
            let (mut memory, state) = view(&mut caller)?;
            Ok::<_, Error>(errno_of(write_strings(&mut memory, pointers, buffer, arguments(state))))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "environ_sizes_get",
        |mut caller: Caller<'_, GuestState>, count: i32, size: i32| {
            let (mut memory, state) = view(&mut caller)?;
            Ok::<_, Error>(errno_of(write_sizes(&mut memory, count, size, environ(state))))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "environ_get",
        |mut caller: Caller<'_, GuestState>, pointers: i32, buffer: i32| {
            let (mut memory, state) = view(&mut caller)?;
            Ok::<_, Error>(errno_of(write_strings(&mut memory, pointers, buffer, environ(state))))
        },
    )?;
    linker.func_wrap_async(MODULE, "proc_exit", |mut caller: Caller<'_, GuestState>, (code,): (i32,)| {
        Box::new(async move {
            arrive(&mut caller).await;
            let exit = Error::from(Stop::Exit(code));
            Err::<(), _>(match caller.data_mut().no_frames.take() {
                Some(no_frames) => exit.context(no_frames),
                None => exit,
            })
        })
    })?;
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
    let mut since = Instant::now();
    while done < length {
        let chunk = (length - done).min(HOST_CHUNK_BYTES as u32);
        let (mut memory, state) = view(caller)?;
        let Ok(bytes) = memory.bytes_mut(buffer + done, chunk) else { return Ok(errno::FAULT) };
        getrandom::fill(bytes).map_err(|error| Error::msg(format!("no randomness: {error}")))?;
        done += chunk;
        if let Some(others) = state.give_way(&mut since)? {
            others.await;
        }
    }
    Ok(errno::SUCCESS)
}
