//! What the system knows of the other side of a connection while nobody reads from it.

use rustix::io::Errno;
use rustix::ioctl::{Getter, ioctl};
use rustix::net::sockopt::socket_error;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::os::fd::BorrowedFd;

/// Linux' `SIOCOUTQ`: bytes that the other side has not acknowledged.
const SIOCOUTQ: rustix::ioctl::Opcode = 0x5411;

/// An interim answer, which a client of HTTP/1.1 has to skip. If nobody is there any more, the system learns so from the
/// other side's refusal.
const PROBE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What the other side has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nothing, or it has sent more.
    Nothing,
    /// It sends nothing more. Whether it still reads cannot be told.
    EndOfInput,
    /// The connection is broken.
    Gone,
}

/// Looks without reading.
pub(super) fn listen(socket: BorrowedFd<'_>) -> Heard {
    let mut byte = [0_u8; 1];
    match recv(socket, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((_, 0)) => Heard::EndOfInput,
        Ok(_) | Err(Errno::AGAIN | Errno::INTR) => Heard::Nothing,
        Err(_) => Heard::Gone,
    }
}

/// Whether the connection has failed since this was last asked.
pub(super) fn has_failed(socket: BorrowedFd<'_>) -> bool {
    !matches!(socket_error(socket), Ok(Ok(())))
}

/// Bytes that were given to the system and not acknowledged by the other side.
pub(super) fn unsent_bytes(socket: BorrowedFd<'_>) -> usize {
    // SAFETY: this request writes one `int` to where the getter points.
    let asked = unsafe { ioctl(socket, Getter::<SIOCOUTQ, i32>::new()) };
    asked.ok().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(0)
}

/// Sends the interim answer; `false` when the connection is broken. Only where nothing else is on its way.
pub(super) fn probe(socket: BorrowedFd<'_>) -> bool {
    match send(socket, PROBE, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
        Ok(_) | Err(Errno::AGAIN | Errno::INTR) => true,
        Err(_) => false,
    }
}
