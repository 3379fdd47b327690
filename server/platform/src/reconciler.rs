//! What a node does about what others deploy and delete, and what it could not do when they did.

use crate::Platform;
use crate::clean::{clean, clean_unreferenced};
use crate::limits::BLOBS_REPAIR_EVERY;
use crate::limits::{BLOBS_RETRY_EVERY, PREWARM_WAITING_MAX, RECONCILE_EVERY};
use crate::registry::ModuleRef;
use orama_runtime::function::FunctionVersion;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Goes on as long as the node runs: modules that are named now are compiled ahead of their first invocation, those that are
/// not any more are removed, and removals and pins that failed are tried again.
pub async fn reconcile(platform: Arc<Platform>) {
    let (prewarm, waiting) = mpsc::channel(PREWARM_WAITING_MAX);
    tokio::spawn(prewarm_each(Arc::clone(&platform), waiting));
    let changes = platform.registry.generation();
    let (mut seen, mut known) = (None, None::<Arc<Known>>);
    let (mut retried, mut repaired) = (Instant::now(), Instant::now());
    loop {
        let count = changes.load(Ordering::Acquire);
        let came = Arc::new(platform.modules.take_came());
        if seen != Some(count) || !came.is_empty() {
            let (looking, before, new) = (Arc::clone(&platform), known.clone(), Arc::clone(&came));
            match tokio::task::spawn_blocking(move || look(&looking, before.as_deref(), &new)).await {
                Ok(Ok((now, new))) => {
                    (seen, known) = (Some(count), Some(Arc::new(now)));
                    // Those for which there is no room are compiled when they are asked for.
                    new.into_iter().for_each(|function| drop(prewarm.try_send(function)));
                }
                Ok(Err(error)) => {
                    tracing::warn!(error, "modules of other nodes could not be looked up");
                    came.iter().cloned().for_each(|module| platform.modules.note_came(module));
                }
                Err(error) => tracing::error!(%error, "following other nodes failed"),
            }
        }
        let is_repair = repaired.elapsed() >= BLOBS_REPAIR_EVERY;
        if is_repair || retried.elapsed() >= BLOBS_RETRY_EVERY {
            let tended = Arc::clone(&platform);
            let done = tokio::task::spawn_blocking(move || tend(&tended, is_repair)).await;
            if let Err(error) = done {
                tracing::error!(%error, "tending the blobs failed");
            }
            retried = Instant::now();
            if is_repair {
                repaired = retried;
            }
        }
        tokio::time::sleep(RECONCILE_EVERY).await;
    }
}

type Known = HashSet<ModuleRef>;

/// Removes what was named `before`, or `came` to this node since, and is not named any more; returns what is, and what of it is
/// new. Blocks.
fn look(
    platform: &Platform,
    before: Option<&Known>,
    came: &[ModuleRef],
) -> Result<(Known, Vec<Arc<FunctionVersion>>), String> {
    let in_use = platform.registry.modules_in_use().map_err(|error| error.to_string())?;
    let mut new = Vec::new();
    // What was there at the start is loaded when it is asked for.
    if let Some(before) = before {
        let gone = before.iter().chain(came).filter(|module| !in_use.contains_key(module));
        gone.for_each(|module| clean(platform, module));
        for (_, (namespace, name, version)) in in_use.iter().filter(|(module, _)| !before.contains(module)) {
            // It may be gone again.
            new.extend(platform.registry.function(namespace, name, Some(*version)).ok().flatten());
        }
    }
    Ok((in_use.into_keys().collect(), new))
}

/// Tries again what failed; at times looks at everything. Blocks.
fn tend(platform: &Platform, is_repair: bool) {
    platform.blobs.retry_removals();
    platform.storage.retry_removals();
    if !is_repair {
        return;
    }
    clean_unreferenced(platform);
    platform.storage.clean_unreferenced();
    let modules = platform.registry.wasm_cids_in_use().map_err(|error| error.to_string());
    let modules = modules.and_then(|named| platform.blobs.repair(&named).map_err(|error| error.to_string()));
    for repaired in [modules, platform.storage.repair()] {
        match repaired {
            Ok(0) => {}
            Ok(count) => tracing::warn!(count, "blobs that the server had lost are pinned again"),
            Err(error) => tracing::warn!(error, "pins could not be compared with what must be pinned"),
        }
    }
}

async fn prewarm_each(platform: Arc<Platform>, mut waiting: mpsc::Receiver<Arc<FunctionVersion>>) {
    while let Some(function) = waiting.recv().await {
        platform.modules.prewarm(function).await;
    }
}
