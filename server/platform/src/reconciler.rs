//! The reconciler: compares what the registry names with what this node has. It compiles what is new and removes what is gone.

use crate::Platform;
use crate::clean::{clean, clean_unreferenced};
use crate::limits::BLOBS_REPAIR_EVERY;
use crate::limits::{BLOBS_RETRY_EVERY, PREWARM_WAITING_MAX, RECONCILE_EVERY};
use crate::registry::{ModuleRef, RegistryError};
use orama_runtime::function::FunctionVersion;
use orama_store::blocking::blocking;
use orama_store::part::PartError;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Runs as long as the node. Compiles modules that the registry newly names, ahead of their first invocation. Removes modules
/// that it no longer names. Retries failed removals and pins.
pub async fn reconcile(platform: Arc<Platform>) {
    let (prewarm, waiting) = mpsc::channel(PREWARM_WAITING_MAX);
    tokio::spawn(prewarm_each(Arc::clone(&platform), waiting));
    let changes = platform.registry.generation();
    let (mut seen, mut known) = (None, None::<Arc<Known>>);
    let (mut retried, mut repaired) = (Instant::now(), Instant::now());
    loop {
        let count = changes.load(Ordering::Acquire);
        let arrivals = Arc::new(platform.modules.take_arrivals());
        if seen != Some(count) || !arrivals.is_empty() {
            let (looking, before, new) = (Arc::clone(&platform), known.clone(), Arc::clone(&arrivals));
            match blocking(move || Ok::<_, PartError>(look(&looking, before.as_deref(), &new)?)).await {
                Ok((now, new)) => {
                    (seen, known) = (Some(count), Some(Arc::new(now)));
                    // If the queue is full, a module is compiled at its first invocation.
                    new.into_iter().for_each(|function| drop(prewarm.try_send(function)));
                }
                Err(error) => {
                    tracing::warn!(%error, "the modules that the registry names could not be looked up; the node retries");
                    arrivals.iter().cloned().for_each(|module| platform.modules.note_arrival(module));
                }
            }
        }
        let is_repair = repaired.elapsed() >= BLOBS_REPAIR_EVERY;
        if is_repair || retried.elapsed() >= BLOBS_RETRY_EVERY {
            let tended = Arc::clone(&platform);
            if let Err(error) = blocking(move || tend(&tended, is_repair)).await {
                tracing::warn!(%error, "pins could not be compared with the registry; the node retries");
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

/// Removes modules that the registry no longer names. Looks at those that it named `before` and at `arrivals`. Returns the
/// modules that it names now, and a function of each new one. Blocks.
fn look(
    platform: &Platform,
    before: Option<&Known>,
    arrivals: &[ModuleRef],
) -> Result<(Known, Vec<Arc<FunctionVersion>>), RegistryError> {
    let in_use = platform.registry.modules_in_use()?;
    let mut new = Vec::new();
    // At the start, no module counts as new: each is loaded at its first invocation.
    if let Some(before) = before {
        let gone = before.iter().chain(arrivals).filter(|module| !in_use.contains_key(module));
        gone.for_each(|module| clean(platform, module));
        for (_, (namespace, name, version)) in in_use.iter().filter(|(module, _)| !before.contains(module)) {
            // The version may be deleted already.
            new.extend(platform.registry.function(namespace, name, Some(*version)).ok().flatten());
        }
    }
    Ok((in_use.into_keys().collect(), new))
}

/// Retries failed removals. A repair also compares every blob and every pin with the registry. Blocks.
fn tend(platform: &Platform, is_repair: bool) -> Result<(), PartError> {
    platform.blobs.retry_removals();
    platform.storage.retry_removals();
    if !is_repair {
        return Ok(());
    }
    clean_unreferenced(platform);
    platform.storage.clean_unreferenced();
    let modules = platform.blobs.repair(&platform.registry.wasm_cids_in_use()?);
    // If the repair of modules fails, objects are repaired all the same.
    let objects = platform.storage.repair();
    let count = *modules.as_ref().unwrap_or(&0) + *objects.as_ref().unwrap_or(&0);
    if count > 0 {
        tracing::warn!(count, "kubo had lost blobs or their pins; they are restored");
    }
    modules?;
    objects?;
    Ok(())
}

async fn prewarm_each(platform: Arc<Platform>, mut waiting: mpsc::Receiver<Arc<FunctionVersion>>) {
    while let Some(function) = waiting.recv().await {
        platform.modules.prewarm(function).await;
    }
}
