//! Loaded code by the hash of its wasm: bounded, one load or compilation at a time for each module.

use crate::backend::blob::Blobs;
use crate::metrics::Metrics;
use bytes::Bytes;
use loaded::Loaded;
use orama_runtime::function::{FunctionVersion, WasmHash};
use orama_runtime::names::Namespace;
use orama_runtime::{CompileError, Compiler, LoadedModule, ModuleError};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use turns::Turns;

mod loaded;
mod turns;

pub use loaded::{Bounds, OnEvicted, Usage};

/// Tries of a load for which the system had no room, and the pause before each further one, in which those who hold
/// code that was thrown out let go of it.
const LOAD_TRIES: u32 = 4;
const LOAD_PAUSE: Duration = Duration::from_millis(5);

/// Loads and compiles modules. Clones share everything.
#[derive(Clone)]
pub struct Modules {
    compiler: Compiler,
    loaded: Arc<Loaded<LoadedModule, LoadError>>,
    blobs: Arc<dyn Blobs>,
    turns: Turns,
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
    /// Too many modules wait to be compiled, of all or of the namespace.
    #[error("too many modules are being compiled; try again soon")]
    Busy,
    /// The node failed.
    #[error("{0}")]
    Internal(String),
}

/// Why a deployed function's code could not be loaded.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LoadError {
    /// The system gives the process no more files, mappings or memory.
    #[error("the code of the function could not be loaded: {0}")]
    NoRoom(String),
    /// Anything else.
    #[error("the code of the function could not be loaded: {0}")]
    Failed(String),
}

impl Modules {
    /// Keeps as much code loaded as `bounds` say.
    #[must_use]
    pub fn new(compiler: Compiler, blobs: Arc<dyn Blobs>, bounds: Bounds, metrics: Arc<Metrics>) -> Self {
        let loaded = Arc::new(Loaded::new(bounds));
        Self { compiler, loaded, blobs, turns: Turns::default(), metrics }
    }

    /// Validates a module and makes sure that its code is compiled and loads.
    ///
    /// # Errors
    /// [`PrepareError`].
    pub async fn prepare(
        &self,
        namespace: &Namespace,
        wasm: Bytes,
        memory_limit_mb: u32,
    ) -> Result<Prepared, PrepareError> {
        let place = self.turns.place(namespace).ok_or(PrepareError::Busy)?;
        let (this, known) = (self.clone(), wasm.clone());
        let (wasm_hash, is_known) = blocking(move || {
            let wasm_hash = WasmHash::of(&known);
            let is_known = this.find(wasm_hash)?.is_some();
            if is_known {
                this.compiler.engine().validate_known(&known, memory_limit_mb).map_err(invalid)?;
            }
            Ok((wasm_hash, is_known))
        })
        .await?;
        if is_known {
            return Ok(Prepared { wasm_hash, compiled: false });
        }
        let turn = place.turn().await;
        let this = self.clone();
        let compiled = blocking(move || {
            // A task that was begun goes on when nobody waits for it any more, and keeps its turn so long.
            let _turn = turn;
            this.compiler.validate(&wasm, memory_limit_mb).map_err(invalid)?;
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
        self.loaded.get_or_load(function.wasm_hash, || {
            let begun = Instant::now();
            let loaded = self.load_anew(function).map(Arc::new);
            self.metrics.module_loaded(begun.elapsed(), loaded.is_ok());
            loaded
        })
    }

    fn load_anew(&self, function: &FunctionVersion) -> Result<LoadedModule, LoadError> {
        let failed = |why: &dyn std::fmt::Display| LoadError::Failed(why.to_string());
        let hash = &function.wasm_hash;
        if let Some(module) = self.load_artifact(hash).map_err(|error| load_error(&error))? {
            return Ok(module);
        }
        tracing::warn!(function = %function.name, version = function.version, "no valid compiled code: compiling again");
        let wasm = self.blobs.get(&function.wasm_cid).map_err(|error| failed(&error))?;
        let wasm = wasm.ok_or_else(|| failed(&"the module is not in the blob store"))?;
        if WasmHash::of(&wasm) != *hash {
            return Err(failed(&"the stored module is not the one that was deployed"));
        }
        self.compile(&wasm).map_err(|error| match &error {
            CompileError::Store(cause) => load_error(cause),
            CompileError::Module(_) => failed(&error),
        })
    }

    /// Loads an artifact. Where the system has no room, what was not used for longest goes, and it is tried again.
    fn load_artifact(&self, hash: &WasmHash) -> io::Result<Option<LoadedModule>> {
        let mut tries = 1;
        loop {
            match self.compiler.load(hash) {
                Err(error) if is_no_room(&error) && tries < LOAD_TRIES => {
                    tries += 1;
                    let thrown_out = self.loaded.make_room();
                    tracing::debug!(%error, thrown_out, "no room to load a function's code");
                    std::thread::sleep(LOAD_PAUSE);
                }
                result => return result,
            }
        }
    }

    /// Moves when those who use loaded code should tell so again, by [`Self::note_use`].
    #[must_use]
    pub fn age(&self) -> u64 {
        self.loaded.age()
    }

    /// Tells that a core still uses a module, so that it is not the one thrown out.
    pub fn note_use(&self, hash: &WasmHash) {
        drop(self.loaded.get(hash));
    }

    /// Says who is told of code that was thrown out; once, before anything is loaded. Who looks code up and keeps it looks
    /// after that whether it [was thrown out](LoadedModule::is_thrown_out) already: from then on it is told.
    pub fn on_evicted(&self, tell: OnEvicted) {
        self.loaded.on_evicted(tell);
    }

    /// Drops what is kept of a module that no function uses any more.
    pub fn forget(&self, hash: &WasmHash) {
        self.loaded.remove(hash);
        if let Err(error) = self.compiler.forget(hash) {
            tracing::warn!(%error, "compiled code of a deleted function could not be removed");
        }
    }

    /// What is loaded now.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.loaded.usage()
    }

    /// How much may be loaded.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        self.loaded.bounds()
    }

    /// A module that is loaded, or whose artifact loads.
    fn find(&self, hash: WasmHash) -> Result<Option<Arc<LoadedModule>>, PrepareError> {
        if let Some(module) = self.loaded.get(&hash) {
            return Ok(Some(module));
        }
        let found = self.load_artifact(&hash).map_err(|error| match load_error(&error) {
            LoadError::NoRoom(_) => PrepareError::Busy,
            LoadError::Failed(why) => PrepareError::Internal(why),
        })?;
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

/// Whether the process has as much of something as the system gives it; see [`Compiler::load`].
fn is_no_room(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::OutOfMemory
}

fn load_error(error: &io::Error) -> LoadError {
    if is_no_room(error) {
        LoadError::NoRoom(error.to_string())
    } else {
        LoadError::Failed(error.to_string())
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

fn invalid(error: ModuleError) -> PrepareError {
    PrepareError::Invalid(error.to_string())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PrepareError> + Send + 'static,
) -> Result<T, PrepareError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(PrepareError::Internal(format!("a task failed: {error}"))))
}
