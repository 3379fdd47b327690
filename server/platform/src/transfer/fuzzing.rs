//! What fuzz targets call of archives.

use super::{Manifest, TransferError, archive};
use std::path::Path;

/// Unpacks an archive into an empty folder and checks every part.
///
/// # Errors
/// [`TransferError`]; parts may have been written into the folder.
pub fn unpack(path: &Path, into: &Path) -> Result<Manifest, TransferError> {
    archive::unpack(path, into).map(|(manifest, _)| manifest)
}
