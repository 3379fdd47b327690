//! The sockets between a node and a SQL process, beside the control socket: a lane for each call that can run at once.
//!
//! One thread of the process serves one lane, and the caller itself reads the answer. So a call wakes one thread on its way in
//! and one on its way out, and no other. Waking a thread that sleeps on another CPU costs more than a short query. So where
//! calls follow each other at once, both sides look for the next message for a moment before they sleep ([`AWAKE_FOR_ANSWER`]).

use super::wire::Access;
use crate::limits::DB_READERS_MAX;
use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use rustix::thread::sched_getcpu;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Lanes of a process: the first for the one writer, the others for readers.
pub(super) const LANES: usize = 1 + DB_READERS_MAX;

/// How long a caller stays awake for the answer: a short call, of a process that has to be woken.
pub(super) const AWAKE_FOR_ANSWER: Duration = Duration::from_micros(50);

/// How long the process stays awake for the next call: what it costs, at most, to sleep and to be woken.
pub(super) const AWAKE_FOR_CALL: Duration = Duration::from_micros(25);

/// The CPU that this thread runs on. Two threads that share one do not stay awake for each other.
pub(super) fn cpu() -> u32 {
    u32::try_from(sched_getcpu()).unwrap_or(u32::MAX)
}

/// The lanes that a call may take.
pub(super) const fn lanes_of(access: Access) -> Range<usize> {
    if access.writes() { 0..1 } else { 1..LANES }
}

/// Makes the lanes. Returns the node's ends, which do not block, and the process' ends.
pub(super) fn make() -> io::Result<(Vec<UnixStream>, Vec<UnixStream>)> {
    let pairs: Vec<_> = (0..LANES).map(|_| UnixStream::pair()).collect::<io::Result<_>>()?;
    pairs.iter().try_for_each(|(ours, _)| ours.set_nonblocking(true))?;
    Ok(pairs.into_iter().unzip())
}

/// Sends the process its ends, with one byte.
pub(super) fn send(control: &UnixStream, theirs: &[UnixStream]) -> io::Result<()> {
    let theirs: Vec<_> = theirs.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(LANES))];
    let mut message = SendAncillaryBuffer::new(&mut space);
    if !message.push(SendAncillaryMessage::ScmRights(&theirs)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    sendmsg(control, &[IoSlice::new(&[0])], &mut message, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives the process' ends. Blocks.
///
/// # Errors
/// The socket's; [`io::ErrorKind::InvalidData`] if they do not come.
pub(super) fn receive(control: &UnixStream) -> io::Result<Vec<UnixStream>> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(LANES))];
    let mut message = RecvAncillaryBuffer::new(&mut space);
    recvmsg(control, &mut [IoSliceMut::new(&mut [0])], &mut message, RecvFlags::CMSG_CLOEXEC)?;
    let mut lanes = Vec::with_capacity(LANES);
    for part in message.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = part {
            lanes.extend(descriptors.map(UnixStream::from));
        }
    }
    if lanes.len() == LANES { Ok(lanes) } else { Err(io::ErrorKind::InvalidData.into()) }
}
