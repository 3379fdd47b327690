//! The file that holds the master keys.

use super::keys::{KEY_HEX_DIGITS, MasterKeys};
use orama_store::files::write_atomic;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use zeroize::Zeroizing;

const HEADER: &str = "# Master key of the node's secrets: 64 hex digits. Whoever has it can read them; without it nobody can.\n\
                      # With several keys, one a line, the first encrypts and the others only decrypt.\n";

/// Stands in a file whose other keys are to be removed when no secret needs them any more.
const ROTATION_MARK: &str = "# Rotation under way: the node removes the keys below when it has finished.";

/// What a key file says.
pub(super) struct KeyFile {
    pub(super) keys: MasterKeys,
    /// A rotation has begun and not ended.
    pub(super) rotating: bool,
}

/// Reads a key file; `None` when there is none.
///
/// # Errors
/// A message that repeats nothing of the file.
pub(super) fn read(path: &Path) -> Result<Option<KeyFile>, String> {
    let text = match fs::read(path) {
        Ok(bytes) => Zeroizing::new(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let text = std::str::from_utf8(&text).map_err(|_| "not a key file: it is not text")?;
    let lines = || text.lines().map(str::trim);
    let keys = MasterKeys::parse(lines().filter(|line| !line.is_empty() && !line.starts_with('#')))?;
    Ok(Some(KeyFile { keys, rotating: lines().any(|line| line == ROTATION_MARK) }))
}

/// Says so in the log when others can read a key file.
pub(super) fn warn_of_readers(path: &Path) {
    if fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o007 != 0) {
        tracing::warn!(file = %path.display(), "every user of this machine can use the master key of the secrets; chmod 600 would prevent it");
    }
}

/// Replaces a key file, durably and at once.
///
/// # Errors
/// What the system says. The file may then hold the old keys or the new ones.
pub(super) fn write(path: &Path, file: &KeyFile) -> io::Result<()> {
    let keys = 1 + file.keys.others().len();
    // Room for all of it at once: growing would leave a part behind.
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
