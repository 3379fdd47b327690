//! The three descriptors that a guest has: input, output, and standard error, whose lines are log messages.

use super::{MODULE, STDIN, STDOUT, errno, errno_of, layout};
use crate::abi::{OutOfBounds, View, view};
use crate::guest::GuestState;
use crate::limits::{HOST_CHUNK_BYTES, IOVEC_MAX};
use crate::parking::arrive;
use std::time::Instant;
use wasmtime::{Caller, Error, Linker, Result};

pub(super) fn link(linker: &mut Linker<GuestState>) -> Result<()> {
    linker.func_wrap_async(
        MODULE,
        "fd_read",
        |mut caller: Caller<'_, GuestState>, (fd, iovecs, count, read_at): (i32, i32, i32, i32)| {
            Box::new(async move {
                arrive(&mut caller).await;
                if fd != STDIN || !caller.data().is_open(fd) {
                    return Ok(errno::BADF);
                }
                let (mut memory, state) = view(&mut caller)?;
                Ok::<_, Error>(errno_of(read_input(
                    &mut memory,
                    state,
                    iovecs as u32,
                    count as u32,
                    read_at as u32,
                )))
            })
        },
    )?;
    linker.func_wrap_async(
        MODULE,
        "fd_write",
        |mut caller: Caller<'_, GuestState>, (fd, iovecs, count, written_at): (i32, i32, i32, i32)| {
            Box::new(async move {
                arrive(&mut caller).await;
                fd_write(&mut caller, fd, iovecs as u32, count as u32, written_at as u32).await
            })
        },
    )?;
    linker.func_wrap(MODULE, "fd_fdstat_get", |mut caller: Caller<'_, GuestState>, fd: i32, at: i32| {
        if !caller.data().is_open(fd) {
            return Ok(errno::BADF);
        }
        let rights = if fd == STDIN { layout::RIGHT_FD_READ } else { layout::RIGHT_FD_WRITE };
        let mut stat = [0u8; layout::FDSTAT];
        stat[0] = layout::FILETYPE_CHARACTER_DEVICE;
        stat[8..16].copy_from_slice(&rights.to_le_bytes());
        let (mut memory, _) = view(&mut caller)?;
        Ok::<_, Error>(errno_of(memory.write(at as u32 as u64, &stat).map(|()| errno::SUCCESS)))
    })?;
    linker.func_wrap(
        MODULE,
        "fd_fdstat_set_flags",
        |caller: Caller<'_, GuestState>, fd: i32, _flags: i32| {
            if caller.data().is_open(fd) { errno::SUCCESS } else { errno::BADF }
        },
    )?;
    linker.func_wrap(MODULE, "fd_prestat_get", |_fd: i32, _at: i32| errno::BADF)?;
    linker.func_wrap(MODULE, "fd_prestat_dir_name", |_fd: i32, _at: i32, _length: i32| errno::BADF)?;
    linker.func_wrap(MODULE, "fd_close", |mut caller: Caller<'_, GuestState>, fd: i32| {
        let open = usize::try_from(fd).ok().and_then(|fd| caller.data_mut().open.get_mut(fd));
        if open.is_some_and(std::mem::take) { errno::SUCCESS } else { errno::BADF }
    })?;
    linker.func_wrap(
        MODULE,
        "fd_seek",
        |caller: Caller<'_, GuestState>, fd: i32, _offset: i64, _whence: i32, _at: i32| {
            if caller.data().is_open(fd) { errno::SPIPE } else { errno::BADF }
        },
    )?;
    Ok(())
}

/// One buffer of an `iovec` array: its pointer and length, within the memory.
fn iovec(memory: &View<'_>, iovecs: u32, index: u32) -> Result<(u32, u32), OutOfBounds> {
    let at = u64::from(iovecs) + u64::from(index) * layout::IOVEC;
    let (pointer, length) = (memory.u32(at)?, memory.u32(at + 4)?);
    memory.bytes(pointer, length).map(|_| (pointer, length))
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
    let mut total = 0;
    for index in 0..count {
        let (pointer, length) = match iovec(memory, iovecs, index) {
            Ok(buffer) => buffer,
            // What was read before must not be lost.
            Err(_) if total > 0 => break,
            Err(error) => return Err(error),
        };
        let rest = state.invocation.input.get(state.input_read + total..).unwrap_or_default();
        let taken = rest.len().min(length as usize);
        memory.bytes_mut(pointer, taken as u32)?.copy_from_slice(&rest[..taken]);
        total += taken;
        if taken < length as usize {
            break;
        }
    }
    memory.write(u64::from(read_at), &(total as u32).to_le_bytes())?;
    state.input_read += total;
    state.limiter.denied &= total == 0;
    state.limiter.no_room &= total == 0;
    Ok(errno::SUCCESS)
}

async fn fd_write(
    caller: &mut Caller<'_, GuestState>,
    fd: i32,
    iovecs: u32,
    count: u32,
    written_at: u32,
) -> Result<i32> {
    if fd == STDIN || !caller.data().is_open(fd) {
        return Ok(errno::BADF);
    }
    if count > IOVEC_MAX {
        return Ok(errno::INVAL);
    }
    let (mut total, mut since_look) = (0u32, 0u32);
    let mut since = None;
    for index in 0..count {
        let (memory, _) = view(caller)?;
        let Ok((mut pointer, mut left)) = iovec(&memory, iovecs, index) else {
            if total > 0 {
                break;
            }
            return Ok(errno::FAULT);
        };
        // Overlapping buffers can add up to more than can be told as written.
        let Some(with_this) = total.checked_add(left) else { break };
        while left > 0 {
            let chunk = left.min(HOST_CHUNK_BYTES as u32);
            let (memory, state) = view(caller)?;
            let Ok(bytes) = memory.bytes(pointer, chunk) else { return Ok(errno::FAULT) };
            if fd == STDOUT {
                state.write_output(bytes)?;
            } else {
                state.logs.push_stderr(bytes);
            }
            pointer = pointer.wrapping_add(chunk);
            left -= chunk;
            since_look += chunk;
            if since_look >= HOST_CHUNK_BYTES as u32 {
                since_look = 0;
                if let Some(others) = state.give_way(since.get_or_insert_with(Instant::now))? {
                    others.await;
                }
            }
        }
        total = with_this;
    }
    let (mut memory, _) = view(caller)?;
    Ok(errno_of(memory.write(u64::from(written_at), &total.to_le_bytes()).map(|()| errno::SUCCESS)))
}
