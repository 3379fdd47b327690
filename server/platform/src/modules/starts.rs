//! Keeps the starts of functions: makes each snapshot once, in the background, in turn with the compilations.

use super::turns::For;
use super::{LoadError, Modules};
use crate::start_notes::StartNotes;
use orama_runtime::function::{FunctionVersion, StartMode, WasmHash};
use orama_runtime::{LoadedModule, SnapshotKey, Start};
use orama_store::blocking::{TaskFailed, blocking};
use std::sync::Arc;

/// Why a start is not kept for now. The function runs as before.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotKept {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Make(#[from] orama_runtime::CompileError),
    #[error(transparent)]
    Task(#[from] TaskFailed),
}

/// A module, and what else a start depends on.
pub(super) type Wanted = (WasmHash, [u8; 32]);

/// What became known of a start; nothing where there is no turn or no module yet.
pub(super) type Found = Result<Option<Start>, Arc<NotKept>>;

/// Whether to look for a snapshot. With `start: snapshot` the node looks in any case, because its author is told why there is
/// none.
fn may_have_snapshot(module: &LoadedModule, function: &FunctionVersion) -> bool {
    function.start == StartMode::Snapshot || (function.start.may_resume() && module.can_resume())
}

impl Modules {
    /// Makes the snapshot of a function's start, unless it was tried before, and notes what became of it. All callers wait for
    /// the same snapshot, which takes its turn among the compilations. It continues when they stop waiting.
    pub async fn keep_start(&self, function: Arc<FunctionVersion>, notes: Arc<StartNotes>) {
        if !function.start.may_resume() {
            return;
        }
        let key = (function.wasm_hash, *SnapshotKey::of(&function).as_bytes());
        let (this, wanted) = (self.clone(), Arc::clone(&function));
        let work = async move { this.find_or_make_start(wanted).await.map_err(Arc::new) };
        match self.starts.join(key, work).await {
            Some(Ok(Some(start))) => notes.put_start(&function.id, &start),
            Some(Err(error)) => {
                tracing::warn!(%error, function = %function.name, version = function.version, "the start of a function could not be kept");
            }
            // Too many wait, or the module is not there: whoever needs it next asks again.
            Some(Ok(None)) | None => {}
        }
    }

    async fn find_or_make_start(&self, function: Arc<FunctionVersion>) -> Result<Option<Start>, NotKept> {
        let Some(place) = self.turns.place(&function.namespace, For::Snapshot) else { return Ok(None) };
        let (this, wanted) = (self.clone(), Arc::clone(&function));
        let module = blocking(move || Ok::<_, NotKept>(this.load(&wanted)?)).await?;
        let Some(module) = module else { return Ok(None) };
        if !may_have_snapshot(&module, &function) {
            return Ok(None);
        }
        if let Some(start) = module.starts().get(&SnapshotKey::of(&function)) {
            return Ok(Some(start));
        }
        let turn = place.turn().await;
        let this = self.clone();
        blocking(move || {
            // This task continues when its callers stop waiting. It keeps the turn until it ends.
            let _turn = turn;
            Ok(Some(this.compiler.make_start(&module, &function)?))
        })
        .await
    }

    /// Removes the stored snapshots of a module. Those that are loaded stay in use.
    pub fn forget_starts(&self, hash: &WasmHash) {
        if let Err(error) = self.compiler.forget_starts(hash) {
            tracing::warn!(%error, "snapshots of a deleted version could not be removed");
        }
    }

    /// Looks for a start that was kept before. A file that cannot be read is no reason not to run the function. Blocks.
    pub(super) fn look_for_start(&self, module: &LoadedModule, function: &FunctionVersion) {
        if !may_have_snapshot(module, function) {
            return;
        }
        if let Err(error) = self.compiler.find_start(module, function) {
            tracing::warn!(%error, function = %function.name, "the snapshot of a function's start could not be read");
        }
    }
}
