//! Removes modules that no version runs any more.
//!
//! A deploy holds its module in the blob store until the registry names it. A removal looks at the registry and
//! removes while no hold can be taken. So either the deploy holds first and the removal leaves the module alone, or the removal
//! is done first and the deploy stores the module anew.

use crate::Platform;
use crate::registry::ModuleRef;
use orama_runtime::function::WasmHash;
use orama_store::limits::START_CLEANING_MAX;
use orama_store::part::PartError;

/// Removes a module's bytes and code if nothing names it, and otherwise its snapshots, which are made again. A failure is logged:
/// the next start tries again. Blocks.
pub fn clean(platform: &Platform, module: &ModuleRef) {
    let cid = module.wasm_cid.as_str();
    let outcome = platform.blobs.holds().unless_held(cid, || -> Result<(), PartError> {
        if !platform.registry.is_wasm_referenced(cid)? {
            platform.modules.forget(&module.wasm_hash);
            platform.blobs.remove(cid)?;
        } else {
            // A version that is gone may have had an environment of its own, which its snapshot holds.
            platform.modules.forget_starts(&module.wasm_hash);
        }
        Ok(())
    });
    if let Some(Err(error)) = outcome {
        tracing::warn!(%error, cid, "a module that is no longer used could not be removed");
    }
}

/// Removes stored modules that nothing names: what deploys and deletes left that a crash cut short. Looks at a bounded
/// number of them. Blocks for milliseconds, or seconds on a cold disk; it may run while the node serves.
pub fn clean_unreferenced(platform: &Platform) {
    let cids = match platform.blobs.list(START_CLEANING_MAX) {
        Ok(cids) => cids,
        Err(error) => {
            tracing::warn!(%error, "stored modules could not be listed");
            return;
        }
    };
    let in_use = match platform.registry.wasm_cids_in_use() {
        Ok(in_use) => in_use,
        Err(error) => {
            tracing::warn!(%error, "stored modules could not be compared with the registry");
            return;
        }
    };
    // One that was deployed meanwhile is found out by `clean`.
    for wasm_cid in cids.into_iter().filter(|cid| !in_use.contains(cid)) {
        if platform.registry.is_wasm_referenced(&wasm_cid).unwrap_or(true) {
            continue;
        }
        // The code is kept under another hash, which only the bytes tell. A damaged file has no code.
        let bytes = platform.blobs.get(&wasm_cid).ok().flatten().unwrap_or_default();
        let wasm_hash = WasmHash::of(&bytes);
        tracing::info!(cid = wasm_cid, "a module that no function uses is removed");
        clean(platform, &ModuleRef { wasm_hash, wasm_cid });
    }
}
