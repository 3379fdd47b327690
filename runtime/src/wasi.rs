//! WASI preview1. The calls that every program makes are implemented here; wasmtime-wasi provides the others. There are no
//! files and no sockets.

mod clocks;
mod descriptors;
mod files;
mod input;

use crate::abi::{OutOfBounds, View, view};
use crate::call::{BadPointer, Call, Fault, Functions};
use crate::guest::{GuestState, Stop};
use crate::limits::HOST_CHUNK_BYTES;
use std::time::Instant;
use wasmtime::{Caller, Error, Linker, Result};

const MODULE: &str = "wasi_snapshot_preview1";

/// Error numbers of preview1's `errno`.
mod errno {
    pub(super) const SUCCESS: i32 = 0;
    pub(super) const BADF: i32 = 8;
    pub(super) const FAULT: i32 = 21;
    pub(super) const INVAL: i32 = 28;
    pub(super) const IO: i32 = 29;
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

/// A range outside the memory is an errno in WASI, not a trap.
fn errno_of(result: Result<i32, OutOfBounds>) -> i32 {
    result.unwrap_or(errno::FAULT)
}

/// Links all of preview1.
pub(crate) fn link(linker: &mut Linker<GuestState>) -> Result<()> {
    wasmtime_wasi::p1::add_to_linker_async(linker, GuestState::wasi)?;
    linker.allow_shadowing(true);
    let functions = &mut Functions::new(linker, MODULE, BadPointer::Fails);
    link_process(functions)?;
    clocks::link(functions)?;
    descriptors::link(functions)?;
    files::link(functions)?;
    linker.allow_shadowing(false);
    Ok(())
}

fn link_process(functions: &mut Functions<'_>) -> Result<()> {
    functions.add_start_up_sync(
        "args_sizes_get",
        |mut caller: Caller<'_, GuestState>, count: i32, size: i32| {
            let (mut memory, state) = view(&mut caller)?;
            Ok::<_, Error>(errno_of(write_sizes(&mut memory, count, size, arguments(state))))
        },
    )?;
    functions.add_start_up_sync(
        "args_get",
        |mut caller: Caller<'_, GuestState>, pointers: i32, buffer: i32| {
            let (mut memory, state) = view(&mut caller)?;
            Ok::<_, Error>(errno_of(write_strings(&mut memory, pointers, buffer, arguments(state))))
        },
    )?;
    functions.add_start_up_sync(
        "environ_sizes_get",
        |mut caller: Caller<'_, GuestState>, count: i32, size: i32| {
            let (mut memory, state) = view(&mut caller)?;
            Ok::<_, Error>(errno_of(write_sizes(&mut memory, count, size, environ(state))))
        },
    )?;
    functions.add_start_up_sync(
        "environ_get",
        |mut caller: Caller<'_, GuestState>, pointers: i32, buffer: i32| {
            let (mut memory, state) = view(&mut caller)?;
            Ok::<_, Error>(errno_of(write_strings(&mut memory, pointers, buffer, environ(state))))
        },
    )?;
    functions.add_start_up_sync("sched_yield", || errno::SUCCESS)?;
    functions.add_start_up("random_get", errno::FAULT, random_get)?;
    functions.add("proc_exit", (), proc_exit)
}

/// The strings of one array, each in parts. Writing a string adds its terminating zero.
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

async fn proc_exit(call: &mut Call<'_>, (code,): (i32,)) -> Result<(), Fault> {
    let exit = Error::from(Stop::Exit(code));
    Err(Fault::Trap(match call.state().no_frames.take() {
        Some(no_frames) => exit.context(no_frames),
        None => exit,
    }))
}

async fn random_get(call: &mut Call<'_>, (buffer, length): (i32, i32)) -> Result<i32, Fault> {
    let (buffer, length) = (buffer as u32, length as u32);
    let (memory, state) = call.memory()?;
    memory.bytes(buffer, length)?;
    if let Some(rehearsal) = &mut state.rehearsal {
        rehearsal.random_calls += 1;
    }
    let mut done = 0;
    let mut since = Instant::now();
    while done < length {
        let chunk = (length - done).min(HOST_CHUNK_BYTES as u32);
        let (mut memory, state) = call.memory()?;
        let bytes = memory.bytes_mut(buffer + done, chunk)?;
        match &mut state.rehearsal {
            Some(rehearsal) => rehearsal.fill(bytes),
            None => getrandom::fill(bytes)
                .map_err(|error| Error::from(error).context("the system gave no random bytes"))?,
        }
        done += chunk;
        call.yield_if_due(&mut since).await?;
    }
    Ok(errno::SUCCESS)
}
