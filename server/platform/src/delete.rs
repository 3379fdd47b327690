//! Use case: delete a function, or one version of it.

use crate::Platform;
use crate::clean::clean;
use crate::registry::RegistryError;
use orama_runtime::names::{FunctionName, Namespace};

/// Deletes one version, or all of a function with its triggers; returns how many versions there were. Blocks.
///
/// # Errors
/// [`RegistryError`].
pub fn delete(
    platform: &Platform,
    namespace: &Namespace,
    name: &FunctionName,
    version: Option<u32>,
) -> Result<usize, RegistryError> {
    let deleted = platform.registry.delete(namespace, name, version)?;
    for module in &deleted.modules {
        clean(platform, module);
    }
    if deleted.whole
        && let Err(error) = platform.events.remove_function(namespace, name)
    {
        // A job that stays is dropped when its turn comes.
        tracing::error!(%error, %namespace, %name, "events of a deleted function could not be removed");
    }
    Ok(deleted.versions)
}
