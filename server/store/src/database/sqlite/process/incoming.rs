//! What has arrived of a message of a SQL process.

use super::End;
use crate::database::sqlite::wire::ANSWER_MAX_BYTES;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use std::os::unix::net::UnixStream;

/// Bytes that are read of a message at first. Most answers are shorter.
const FIRST_BYTES: usize = 4 << 10;

/// Bytes that are read at once of a longer one: what a socket holds.
const STEP_BYTES: usize = 256 << 10;

/// A message that arrives on a socket, on which nothing follows it.
#[derive(Debug, Default)]
pub(super) struct Incoming(Vec<u8>);

impl Incoming {
    /// Reads once, without waiting. Returns the message with its header when it is complete; memory grows only with bytes that
    /// have arrived.
    ///
    /// # Errors
    /// [`End::Nonsense`]; [`End::Died`] at the end of the socket.
    pub(super) fn read(&mut self, socket: &UnixStream) -> Result<Option<Vec<u8>>, End> {
        let step = self.missing()?.map_or(FIRST_BYTES, |missing| missing.min(STEP_BYTES));
        self.0.reserve(step);
        match recv(socket, spare_capacity(&mut self.0), RecvFlags::DONTWAIT) {
            Ok((_, 0)) => return Err(End::Died),
            Ok(_) => {}
            Err(Errno::INTR | Errno::AGAIN) => return Ok(None),
            Err(_) => return Err(End::Died),
        }
        Ok((self.missing()? == Some(0)).then(|| std::mem::take(&mut self.0)))
    }

    /// Reads what is there of a socket that has ended. Returns the message if it is complete.
    pub(super) fn read_rest(&mut self, socket: &UnixStream) -> Option<Vec<u8>> {
        loop {
            let before = self.0.len();
            match self.read(socket) {
                Ok(None) if self.0.len() > before => {}
                read => return read.ok().flatten(),
            }
        }
    }

    /// Bytes up to the end of the message; `None` before its header is there.
    fn missing(&self) -> Result<Option<usize>, End> {
        let Some((header, rest)) = self.0.split_first_chunk() else { return Ok(None) };
        let length = usize::try_from(u32::from_le_bytes(*header)).unwrap_or(usize::MAX);
        if length > ANSWER_MAX_BYTES {
            return Err(End::Nonsense);
        }
        length.checked_sub(rest.len()).map(Some).ok_or(End::Nonsense)
    }
}
