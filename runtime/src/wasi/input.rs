//! Standard input: at hand when the guest starts, or arriving while it runs.

use super::descriptors::iovec;
use super::{STDIN, errno};
use crate::abi::{OutOfBounds, View};
use crate::call::{Call, Fault};
use crate::guest::GuestState;
use crate::limits::IOVEC_MAX;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::task::{Context, Poll};

/// Descriptor, buffers, their number, and where the number of bytes goes.
type Arguments = (i32, i32, i32, i32);

/// A read: done, as nearly all are, or one that waits for input.
pub(super) enum Read<'a> {
    Done(Ready<Result<i32, Fault>>),
    Waiting(Pin<Box<dyn Future<Output = Result<i32, Fault>> + Send + 'a>>),
}

impl Future for Read<'_> {
    type Output = Result<i32, Fault>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Done(done) => Pin::new(done).poll(cx),
            Self::Waiting(waiting) => waiting.as_mut().poll(cx),
        }
    }
}

pub(super) fn fd_read<'a>(call: &'a mut Call<'_>, arguments: Arguments) -> Read<'a> {
    if call.state().awaits_input() {
        return Read::Waiting(Box::pin(read_arriving(call, arguments)));
    }
    Read::Done(ready(read(call, arguments)))
}

async fn read_arriving(call: &mut Call<'_>, arguments: Arguments) -> Result<i32, Fault> {
    if arguments.0 == STDIN && call.state().is_open(STDIN) {
        let input = call.state().next_input();
        match Fault::caught(call.ask(input).await)? {
            Ok(arrived) => call.state().take_input(arrived),
            Err(error) => {
                call.log_failure(&error.message);
                return Ok(errno::IO);
            }
        }
    }
    read(call, arguments)
}

fn read(call: &mut Call<'_>, (fd, iovecs, count, read_at): Arguments) -> Result<i32, Fault> {
    if fd != STDIN || !call.state().is_open(fd) {
        return Ok(errno::BADF);
    }
    let (mut memory, state) = call.memory()?;
    Ok(read_input(&mut memory, state, iovecs as u32, count as u32, read_at as u32)?)
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
            // The buffers before this one hold input that must not be lost.
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
