//! The input of a command: files and standard input, read up to a limit.

use crate::error::{CliError, Result, io};
use std::fs::File;
use std::io::{Read, stdin};
use std::path::Path;

/// The argument that means standard input.
pub const STANDARD_INPUT: &str = "-";

/// Reads a file: all of it, or `limit` + 1 bytes of a larger one. The caller refuses those.
///
/// # Errors
/// When the file cannot be read.
pub fn file(path: &Path, limit: usize) -> Result<Vec<u8>> {
    File::open(path).and_then(|file| bounded(file, limit)).map_err(|error| io("read", path, error))
}

/// Reads standard input in the same way.
///
/// # Errors
/// When it cannot be read.
pub fn standard_input(limit: usize) -> Result<Vec<u8>> {
    bounded(stdin().lock(), limit)
        .map_err(|error| CliError::failed("cannot read standard input").caused_by(error))
}

fn bounded(reader: impl Read, limit: usize) -> std::io::Result<Vec<u8>> {
    let mut data = Vec::new();
    reader.take(limit as u64 + 1).read_to_end(&mut data)?;
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_over_the_limit_is_read_and_no_more() {
        assert_eq!(bounded(&b"12345"[..], 5).unwrap(), b"12345");
        assert_eq!(bounded(&b"1234567890"[..], 5).unwrap(), b"123456");
        let error = file(Path::new("/nonexistent/file"), 5).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/file"), "{error}");
    }
}
