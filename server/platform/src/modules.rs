//! Loaded code by the hash of its wasm: bounded, one load or compilation at a time for each module.

use crate::limits::{CODE_PATIENCE, MODULE_FETCHES_MAX, RECONCILE_EVERY};
use crate::registry::ModuleRef;
use bytes::Bytes;
use counts::Counts;
use loaded::Loaded;
use makes::Makes;
use orama_runtime::function::{FunctionVersion, WasmHash};
use orama_runtime::names::Namespace;
use orama_runtime::{CompileError, Compiler, LoadedModule, ModuleError};
use orama_store::blob::{BlobError, Blobs};
use orama_store::limits::START_CLEANING_MAX;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use turns::Turns;

mod counts;
mod loaded;
mod makes;
mod turns;

pub use counts::{LOAD_BUCKETS_US, Totals};
pub use loaded::{Bounds, OnEvicted, Usage};

/// Tries of a load for which the system had no room, and the pause before each further one, in which those who hold
/// code that was thrown out let go of it.
const LOAD_TRIES: u32 = 4;
const LOAD_PAUSE: Duration = Duration::from_millis(5);

/// Loads and compiles modules. Clones share everything.
#[derive(Clone)]
pub struct Modules {
    compiler: Compiler,
    loaded: Arc<Loaded<LoadedModule, NotLoaded>>,
    makes: Makes,
    came: Arc<Mutex<Vec<ModuleRef>>>,
    /// Modules that are fetched now.
    fetches: Arc<Semaphore>,
    blobs: Arc<dyn Blobs>,
    turns: Turns,
    counts: Arc<Counts>,
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
    /// The module cannot be had or compiled now, and may be soon.
    #[error("the code of the function is not on this node yet: {0}")]
    Later(String),
    /// Anything else.
    #[error("the code of the function could not be loaded: {0}")]
    Failed(String),
}

/// Why there is no loaded code.
#[derive(Clone)]
enum NotLoaded {
    /// This node has not compiled it, or lost what it had.
    NotMade,
    Failed(LoadError),
}

impl Modules {
    /// Keeps as much code loaded as `bounds` say.
    #[must_use]
    pub fn new(compiler: Compiler, blobs: Arc<dyn Blobs>, bounds: Bounds) -> Self {
        let loaded = Arc::new(Loaded::new(bounds));
        let fetches = Arc::new(Semaphore::new(MODULE_FETCHES_MAX));
        Self {
            compiler,
            loaded,
            makes: Makes::default(),
            came: Arc::default(),
            fetches,
            blobs,
            turns: Turns::default(),
            counts: Arc::default(),
        }
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
                this.compiler.engine().validate_contract(&known, memory_limit_mb).map_err(invalid)?;
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

    /// The code of a deployed function; `None` when this node has not compiled it, or has lost what it had. Blocks, for
    /// milliseconds.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn load(&self, function: &FunctionVersion) -> Result<Option<Arc<LoadedModule>>, LoadError> {
        let loaded = self.loaded.get_or_load(function.wasm_hash, || {
            let begun = Instant::now();
            let found = self.load_artifact(&function.wasm_hash);
            if !matches!(found, Ok(None)) {
                self.counts.loaded(begun.elapsed(), found.is_ok());
            }
            found
                .map_err(|error| NotLoaded::Failed(load_error(&error)))?
                .map(Arc::new)
                .ok_or(NotLoaded::NotMade)
        });
        match loaded {
            Ok(module) => Ok(Some(module)),
            Err(NotLoaded::NotMade) => Ok(None),
            Err(NotLoaded::Failed(error)) => Err(error),
        }
    }

    /// The code of a function that [`Self::load`] did not find: its module is fetched, and compiled in its turn among the
    /// deploys, once for all who want it. That goes on when they do not wait any more.
    ///
    /// # Errors
    /// [`LoadError`]; [`LoadError::Later`] also after [`CODE_PATIENCE`].
    pub async fn make(&self, function: Arc<FunctionVersion>) -> Result<Arc<LoadedModule>, LoadError> {
        match tokio::time::timeout(CODE_PATIENCE, self.join(function, true)).await {
            Ok(made) => made,
            Err(_) => Err(LoadError::Later("it is being fetched and compiled".to_owned())),
        }
    }

    async fn join(
        &self,
        function: Arc<FunctionVersion>,
        is_waited_for: bool,
    ) -> Result<Arc<LoadedModule>, LoadError> {
        let (this, hash) = (self.clone(), function.wasm_hash);
        let work = async move {
            if is_waited_for {
                tracing::warn!(function = %function.name, version = function.version, "no valid compiled code: compiling again");
            }
            let begun = Instant::now();
            let made = this.make_anew(&function).await;
            this.note_came(ModuleRef { wasm_hash: hash, wasm_cid: function.wasm_cid.clone() });
            this.counts.loaded(begun.elapsed(), made.is_ok());
            made
        };
        self.makes.join(hash, work).await
    }

    /// [`Self::make`] ahead of the first invocation, when nobody compiles anything. A failure is left to that invocation.
    pub async fn prewarm(&self, function: Arc<FunctionVersion>) {
        while !self.turns.is_idle() {
            tokio::time::sleep(RECONCILE_EVERY).await;
        }
        let (this, wanted) = (self.clone(), Arc::clone(&function));
        let known = tokio::task::spawn_blocking(move || this.load(&wanted)).await;
        if let Ok(Ok(None)) = known
            && let Err(error) = self.join(Arc::clone(&function), false).await
        {
            tracing::debug!(%error, function = %function.name, "a function deployed elsewhere is not ready yet");
        }
    }

    /// Notes that this node keeps something of a module now, which may be deleted elsewhere already.
    pub fn note_came(&self, module: ModuleRef) {
        let mut came = self.came.lock().unwrap_or_else(PoisonError::into_inner);
        if came.len() < START_CLEANING_MAX {
            came.push(module);
        }
    }

    /// What was noted since the last call.
    #[must_use]
    pub fn take_came(&self) -> Vec<ModuleRef> {
        std::mem::take(&mut *self.came.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn make_anew(&self, function: &FunctionVersion) -> Result<Arc<LoadedModule>, LoadError> {
        let busy = || LoadError::Later("too many modules are being compiled".to_owned());
        let place = self.turns.place(&function.namespace).ok_or_else(busy)?;
        // Fetched before the turn, and not kept in memory until then: the store has it on the disk now.
        {
            let stopping = |_| LoadError::Failed("the node is stopping".to_owned());
            let _fetch = self.fetches.acquire().await.map_err(stopping)?;
            let this = self.clone();
            let (cid, hash) = (function.wasm_cid.clone(), function.wasm_hash);
            made_blocking(move || this.stored(&cid, &hash).map(drop)).await?;
        }
        let turn = place.turn().await;
        let this = self.clone();
        let (cid, hash) = (function.wasm_cid.clone(), function.wasm_hash);
        made_blocking(move || {
            // A task that was begun goes on when nobody waits for it any more, and keeps its turn so long.
            let _turn = turn;
            // A deploy of the same module may have been before in the queue.
            if let Some(module) = this.loaded.get(&hash) {
                return Ok(module);
            }
            let wasm = this.stored(&cid, &hash)?;
            let module = this.compile(&wasm).map(Arc::new).map_err(|error| match &error {
                CompileError::Store(cause) => load_error(cause),
                CompileError::Module(_) => LoadError::Failed(error.to_string()),
            })?;
            this.loaded.insert(hash, Arc::clone(&module));
            Ok(module)
        })
        .await
    }

    /// The bytes of a module.
    fn stored(&self, cid: &str, hash: &WasmHash) -> Result<Bytes, LoadError> {
        let failed = |why: &dyn std::fmt::Display| LoadError::Failed(why.to_string());
        let wasm = self.blobs.get(cid).map_err(|error| match error {
            BlobError::Unavailable(_) => LoadError::Later(error.to_string()),
            error => failed(&error),
        })?;
        let wasm = wasm.ok_or_else(|| failed(&"the module is not in the blob store"))?;
        if WasmHash::of(&wasm) != *hash {
            return Err(failed(&"the stored module is not the one that was deployed"));
        }
        Ok(wasm)
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
    /// after that whether it [was thrown out](LoadedModule::is_evicted) already: from then on it is told.
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

    /// What was compiled and loaded since the node started.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.counts.totals()
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
            LoadError::Later(why) | LoadError::Failed(why) => PrepareError::Internal(why),
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
        self.counts.compiled(begun.elapsed(), result.is_ok());
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

async fn made_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LoadError> + Send + 'static,
) -> Result<T, LoadError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(LoadError::Failed(format!("a task failed: {error}"))))
}
