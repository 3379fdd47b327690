//! The sockets between a node and a SQL process, beside the control socket: a lane for each call that can run at once.
//!
//! One thread of the process serves one lane, and the caller itself reads the answer. So a call wakes one thread on its way in and
//! one on its way out, and no other.

use super::wire::Access;
use crate::limits::DB_READERS_MAX;
use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

/// Lanes of a process: the first for the one writer, the others for readers.
pub(super) const LANES: usize = 1 + DB_READERS_MAX;

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
