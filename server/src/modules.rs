//! Loaded code by the hash of its wasm: bounded memory, one load or compilation at a time for each module.

use crate::backend::blob::Blobs;
use crate::metrics::Metrics;
use bytes::Bytes;
use moka::sync::Cache;
use orama_runtime::function::{FunctionVersion, WasmHash};
use orama_runtime::limits::COMPILES_WAITING_MAX;
use orama_runtime::{CompileError, Compiler, LoadedModule};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tokio::sync::Semaphore;

/// Loads and compiles modules. Clones share everything.
#[derive(Clone)]
pub struct Modules {
    compiler: Compiler,
    loaded: Cache<WasmHash, Arc<LoadedModule>>,
    blobs: Arc<dyn Blobs>,
    /// One compilation at a time: each uses every compiling thread.
    compiling: Arc<Semaphore>,
    /// Bounds the modules that wait in memory for their turn.
    waiting: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

/// A module that is ready to be invoked.
#[derive(Debug, Clone, Copy)]
pub struct Prepared {
    /// Its identity.
    pub wasm_hash: WasmHash,
    /// Whether it had to be compiled; `false` when its code was there already.
    pub compiled: bool,
}

/// Why a deployed module could not be made ready.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The module cannot run; the message says why.
    #[error("{0}")]
    Invalid(String),
    /// Too many modules wait to be compiled.
    #[error("too many modules are being compiled; try again soon")]
    Busy,
    /// The node failed.
    #[error("{0}")]
    Internal(String),
}

/// Why a deployed function's code could not be loaded.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the code of the function could not be loaded: {0}")]
pub struct LoadError(String);

impl Modules {
    /// `generation` is the registry's: it is moved when a module is thrown out, so that cores let go of it too.
    #[must_use]
    pub fn new(
        compiler: Compiler,
        blobs: Arc<dyn Blobs>,
        cache_mb: u32,
        generation: Arc<AtomicU64>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let loaded = Cache::builder()
            .weigher(|_: &WasmHash, module: &Arc<LoadedModule>| {
                u32::try_from(module.image_bytes()).unwrap_or(u32::MAX)
            })
            .max_capacity(u64::from(cache_mb) << 20)
            .eviction_listener(move |_, _, cause| {
                if cause == moka::notification::RemovalCause::Size {
                    generation.fetch_add(1, Ordering::Release);
                }
            })
            .build();
        Self {
            compiler,
            loaded,
            blobs,
            compiling: Arc::new(Semaphore::new(1)),
            waiting: Arc::new(Semaphore::new(COMPILES_WAITING_MAX)),
            metrics,
        }
    }

    /// Validates a module and makes sure that its code is compiled and loads.
    ///
    /// # Errors
    /// [`PrepareError`].
    pub async fn prepare(&self, wasm: Bytes, memory_limit_mb: u32) -> Result<Prepared, PrepareError> {
        let _place = self.waiting.try_acquire().map_err(|_| PrepareError::Busy)?;
        let this = self.clone();
        let checked = wasm.clone();
        let wasm_hash = blocking(move || {
            let engine = this.compiler.engine();
            engine
                .validate(&checked, memory_limit_mb)
                .map_err(|error| PrepareError::Invalid(error.to_string()))?;
            Ok(WasmHash::of(&checked))
        })
        .await?;
        let this = self.clone();
        if blocking(move || this.find(wasm_hash)).await?.is_some() {
            return Ok(Prepared { wasm_hash, compiled: false });
        }
        let _turn = self.compiling.acquire().await.map_err(|_| PrepareError::Busy)?;
        let this = self.clone();
        let compiled = blocking(move || {
            // The one before in the queue may have brought the same module.
            if this.find(wasm_hash)?.is_some() {
                return Ok(false);
            }
            let module = this.compile(&wasm).map_err(PrepareError::from)?;
            this.loaded.insert(wasm_hash, Arc::new(module));
            Ok(true)
        })
        .await?;
        Ok(Prepared { wasm_hash, compiled })
    }

    /// The code of a deployed function; compiled again from the stored module if its artifact is lost or damaged.
    /// Blocks, for milliseconds from disk and for seconds when it compiles.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn load(&self, function: &FunctionVersion) -> Result<Arc<LoadedModule>, LoadError> {
        let failed = |why: &dyn std::fmt::Display| LoadError(why.to_string());
        self.loaded
            .try_get_with(function.wasm_hash, || {
                if let Some(module) = self.compiler.load(&function.wasm_hash).map_err(|error| failed(&error))? {
                    return Ok(Arc::new(module));
                }
                tracing::warn!(function = %function.name, version = function.version, "no valid compiled code: compiling again");
                let wasm = self.blobs.get(&function.wasm_cid).map_err(|error| failed(&error))?;
                let wasm = wasm.ok_or_else(|| failed(&"the module is not in the blob store"))?;
                if WasmHash::of(&wasm) != function.wasm_hash {
                    return Err(failed(&"the stored module is not the one that was deployed"));
                }
                self.compile(&wasm).map(Arc::new).map_err(|error| failed(&error))
            })
            .map_err(|error: Arc<LoadError>| LoadError::clone(&error))
    }

    /// Tells that a core still uses a module, so that it is not the one thrown out.
    pub fn note_use(&self, hash: &WasmHash) {
        drop(self.loaded.get(hash));
    }

    /// Drops what is kept of a module that no function uses any more.
    pub fn forget(&self, hash: &WasmHash) {
        self.loaded.invalidate(hash);
        if let Err(error) = self.compiler.forget(hash) {
            tracing::warn!(%error, "compiled code of a deleted function could not be removed");
        }
    }

    /// Modules loaded now, and their size in bytes.
    #[must_use]
    pub fn loaded(&self) -> (u64, u64) {
        self.loaded.run_pending_tasks();
        (self.loaded.entry_count(), self.loaded.weighted_size())
    }

    /// A module that is loaded, or whose artifact loads.
    fn find(&self, hash: WasmHash) -> Result<Option<Arc<LoadedModule>>, PrepareError> {
        if let Some(module) = self.loaded.get(&hash) {
            return Ok(Some(module));
        }
        let found = self.compiler.load(&hash).map_err(|error| PrepareError::Internal(error.to_string()))?;
        Ok(found.map(|module| {
            let module = Arc::new(module);
            self.loaded.insert(hash, Arc::clone(&module));
            module
        }))
    }

    fn compile(&self, wasm: &[u8]) -> Result<LoadedModule, CompileError> {
        let begun = Instant::now();
        let result = self.compiler.compile(wasm);
        self.metrics.compiled(begun.elapsed(), result.is_ok());
        result
    }
}

impl From<CompileError> for PrepareError {
    fn from(error: CompileError) -> Self {
        match error {
            CompileError::Module(error) => Self::Invalid(error.to_string()),
            CompileError::Store(_) => Self::Internal(error.to_string()),
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PrepareError> + Send + 'static,
) -> Result<T, PrepareError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(PrepareError::Internal(format!("a task failed: {error}"))))
}
