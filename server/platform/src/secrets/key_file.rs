//! The file that holds the master keys.

use super::keys::{KEY_HEX_DIGITS, MasterKeys};
use orama_store::causes::Problem;
use orama_store::files::write_atomic;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use zeroize::Zeroizing;

const HEADER: &str = "# Master key of the node's secrets: 64 hex digits. Whoever has it can read them; without it nobody can.\n\
                      # With several keys, one a line, the first encrypts and the others only decrypt.\n";

/// Marks a file with an unfinished rotation: the keys after the first are removed when no secret needs them.
const ROTATION_MARK: &str = "# Rotation under way: the node removes the keys below when it has finished.";

/// The content of a key file.
pub(super) struct KeyFile {
    pub(super) keys: MasterKeys,
    /// Whether a rotation is unfinished.
    pub(super) rotating: bool,
}

/// Reads a key file. `None` if there is none.
///
/// # Errors
/// A message that does not repeat the file's content.
pub(super) fn read(path: &Path) -> Result<Option<KeyFile>, Problem> {
    let text = match fs::read(path) {
        Ok(bytes) => Zeroizing::new(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Problem::of(error)),
    };
    let text = std::str::from_utf8(&text)
        .map_err(|error| Problem::caused("not a key file: it is not text", error))?;
    let lines = || text.lines().map(str::trim);
    let keys = MasterKeys::parse(lines().filter(|line| !line.is_empty() && !line.starts_with('#')))?;
    Ok(Some(KeyFile { keys, rotating: lines().any(|line| line == ROTATION_MARK) }))
}

/// Logs a warning if other users can read a key file.
pub(super) fn warn_of_readers(path: &Path) {
    if fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o007 != 0) {
        tracing::warn!(file = %path.display(), "other users of this machine can read the master key; run chmod 600 on the file");
    }
}

/// Replaces a key file atomically and durably.
///
/// # Errors
/// The system's error. The file then has the old keys or the new ones.
pub(super) fn write(path: &Path, file: &KeyFile) -> io::Result<()> {
    let keys = 1 + file.keys.others().len();
    // Allocated at its full size: growing would leave a copy of a key in freed memory.
    let mut text = Zeroizing::new(String::with_capacity(
        HEADER.len() + ROTATION_MARK.len() + 1 + keys * (KEY_HEX_DIGITS + 1),
    ));
    text.push_str(HEADER);
    for (index, key) in file.keys.all().enumerate() {
        if index == 1 && file.rotating {
            text.push_str(ROTATION_MARK);
            text.push('\n');
        }
        text.push_str(&key.to_hex());
        text.push('\n');
    }
    write_atomic(path, text.as_bytes())
}
