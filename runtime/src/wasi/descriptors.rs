//! The three descriptors of a guest: standard input, standard output, and standard error, whose lines are log messages.

use super::{STDIN, STDOUT, errno, errno_of, input, layout};
use crate::abi::{OutOfBounds, View, view};
use crate::call::{Call, Fault, Functions};
use crate::guest::GuestState;
use crate::limits::{HOST_CHUNK_BYTES, IOVEC_MAX};
use std::time::Instant;
use wasmtime::{Caller, Error, Result};

pub(super) fn link(functions: &mut Functions<'_>) -> Result<()> {
    functions.add("fd_read", errno::FAULT, input::fd_read)?;
    functions.add("fd_write", errno::FAULT, fd_write)?;
    functions.add_start_up_sync(
        "fd_fdstat_get",
        |mut caller: Caller<'_, GuestState>, fd: i32, at: i32| {
            if !caller.data().is_open(fd) {
                return Ok(errno::BADF);
            }
            let rights = if fd == STDIN { layout::RIGHT_FD_READ } else { layout::RIGHT_FD_WRITE };
            let mut stat = [0u8; layout::FDSTAT];
            stat[0] = layout::FILETYPE_CHARACTER_DEVICE;
            stat[8..16].copy_from_slice(&rights.to_le_bytes());
            let (mut memory, _) = view(&mut caller)?;
            Ok::<_, Error>(errno_of(memory.write(at as u32 as u64, &stat).map(|()| errno::SUCCESS)))
        },
    )?;
    functions.add_start_up_sync(
        "fd_fdstat_set_flags",
        |caller: Caller<'_, GuestState>, fd: i32, _flags: i32| {
            if caller.data().is_open(fd) { errno::SUCCESS } else { errno::BADF }
        },
    )?;
    functions.add_start_up_sync("fd_prestat_get", |_fd: i32, _at: i32| errno::BADF)?;
    functions.add_start_up_sync("fd_prestat_dir_name", |_fd: i32, _at: i32, _length: i32| errno::BADF)?;
    functions.add_start_up_sync("fd_close", |mut caller: Caller<'_, GuestState>, fd: i32| {
        let open = usize::try_from(fd).ok().and_then(|fd| caller.data_mut().open.get_mut(fd));
        if open.is_some_and(std::mem::take) { errno::SUCCESS } else { errno::BADF }
    })?;
    functions.add_start_up_sync(
        "fd_seek",
        |caller: Caller<'_, GuestState>, fd: i32, _offset: i64, _whence: i32, _at: i32| {
            if caller.data().is_open(fd) { errno::SPIPE } else { errno::BADF }
        },
    )
}

/// Pointer and length of one buffer of an `iovec` array. The buffer is within the memory.
pub(super) fn iovec(memory: &View<'_>, iovecs: u32, index: u32) -> Result<(u32, u32), OutOfBounds> {
    let at = u64::from(iovecs) + u64::from(index) * layout::IOVEC;
    let (pointer, length) = (memory.u32(at)?, memory.u32(at + 4)?);
    memory.bytes(pointer, length).map(|_| (pointer, length))
}

async fn fd_write(
    call: &mut Call<'_>,
    (fd, iovecs, count, written_at): (i32, i32, i32, i32),
) -> Result<i32, Fault> {
    if fd == STDIN || !call.state().is_open(fd) {
        return Ok(errno::BADF);
    }
    if count as u32 > IOVEC_MAX {
        return Ok(errno::INVAL);
    }
    let (mut written, mut since_look, mut since) = (0u32, 0u32, None);
    for index in 0..count as u32 {
        let (memory, _) = call.memory()?;
        let (mut pointer, mut left) = match iovec(&memory, iovecs as u32, index) {
            Ok(buffer) => buffer,
            Err(_) if written > 0 => break,
            Err(error) => return Err(error.into()),
        };
        // The total of overlapping buffers can exceed what the result can report.
        let Some(total) = written.checked_add(left) else { break };
        while left > 0 {
            let chunk = left.min(HOST_CHUNK_BYTES as u32);
            write_chunk(call, fd, pointer, chunk)?;
            pointer = pointer.wrapping_add(chunk);
            left -= chunk;
            since_look += chunk;
            if since_look >= HOST_CHUNK_BYTES as u32 {
                since_look = 0;
                call.yield_if_due(since.get_or_insert_with(Instant::now)).await?;
            }
        }
        written = total;
    }
    let (mut memory, _) = call.memory()?;
    memory.write(u64::from(written_at as u32), &written.to_le_bytes())?;
    Ok(errno::SUCCESS)
}

fn write_chunk(call: &mut Call<'_>, fd: i32, pointer: u32, length: u32) -> Result<(), Fault> {
    let (memory, state) = call.memory()?;
    let bytes = memory.bytes(pointer, length)?;
    if fd == STDOUT {
        state.write_output(bytes)?;
    } else {
        state.logs.push_stderr(bytes);
    }
    Ok(())
}
