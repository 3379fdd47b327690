//! Messages between parent and child: a length in four bytes, little endian, and so many bytes.

use std::io::{self, Read, Write};

/// The length in front of a message.
pub const HEADER_BYTES: usize = 4;

/// Bytes taken at once for a message that is announced: a peer gets no more memory than it fills.
const STEP_BYTES: usize = 256 << 10;

/// The header of a message.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] for one of 4 GiB and more.
pub fn header(length: usize) -> io::Result<[u8; HEADER_BYTES]> {
    u32::try_from(length).map(u32::to_le_bytes).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// Writes a message. Blocks while the other side does not read.
///
/// # Errors
/// The socket's.
pub fn write(to: &mut impl Write, message: &[u8]) -> io::Result<()> {
    // Together, as a short message is one packet then.
    let mut bytes = Vec::with_capacity(HEADER_BYTES + message.len());
    bytes.extend_from_slice(&header(message.len())?);
    bytes.extend_from_slice(message);
    to.write_all(&bytes)
}

/// Reads a message of at most `max` bytes; `None` at the end of the socket. Blocks.
///
/// # Errors
/// The socket's; [`io::ErrorKind::InvalidData`] for a longer one; [`io::ErrorKind::UnexpectedEof`] for one that is not whole.
pub fn read(from: &mut impl Read, max: usize) -> io::Result<Option<Vec<u8>>> {
    let mut header = [0; HEADER_BYTES];
    let mut have = 0;
    while let Some(rest @ [_, ..]) = header.get_mut(have..) {
        match from.read(rest) {
            Ok(0) if have == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => have += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let length = usize::try_from(u32::from_le_bytes(header)).unwrap_or(usize::MAX);
    if length > max {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = Vec::new();
    while message.len() < length {
        let have = message.len();
        let step = (length - have).min(STEP_BYTES.max(have));
        message.try_reserve_exact(step).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        message.resize(have + step, 0);
        from.read_exact(message.get_mut(have..).unwrap_or_default())?;
    }
    Ok(Some(message))
}
