//! What a command is fed with: files and standard input, read no further than a limit.

use crate::error::{CliError, Result, io};
use std::fs::File;
use std::io::{Read, stdin};
use std::path::Path;

/// The argument that stands for standard input.
pub const STANDARD_INPUT: &str = "-";

/// A file's bytes: all of them, or more than `limit` when there are more.
pub fn file(path: &Path, limit: usize) -> Result<Vec<u8>> {
    File::open(path).and_then(|file| bounded(file, limit)).map_err(|error| io("read", path, &error))
}

/// The same of standard input.
pub fn standard_input(limit: usize) -> Result<Vec<u8>> {
    bounded(stdin().lock(), limit)
        .map_err(|error| CliError::failed(format!("cannot read standard input: {error}")))
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
