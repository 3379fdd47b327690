//! Loads and compiles modules. Keeps a bounded amount of code loaded, and loads or compiles each module once for all who need it.

use crate::limits::{CODE_PATIENCE, MODULE_FETCHES_MAX, RECONCILE_EVERY};
use crate::registry::ModuleRef;
use bytes::Bytes;
use counts::Counts;
use error::is_no_room;
use loaded::Loaded;
use orama_runtime::function::{FunctionVersion, WasmHash};
use orama_runtime::names::Namespace;
use orama_runtime::{CompileError, Compiler, LoadedModule};
use orama_store::blob::Blobs;
use orama_store::blocking::blocking;
use orama_store::limits::START_CLEANING_MAX;
use orama_store::single_flight::SharedTasks;
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use turns::{For, Turns};

mod counts;
mod error;
mod loaded;
mod starts;
mod turns;

pub use counts::{LOAD_BUCKETS_US, Totals};
pub use error::{LoadError, LoadFailure, NotYet, PrepareError};
pub use loaded::{Bounds, OnEvicted, Usage};

/// Tries to load an artifact while the system has no room for it.
const LOAD_TRIES: u32 = 4;
/// Pause before each further try. Meanwhile the cores drop the code that was evicted.
const LOAD_PAUSE: Duration = Duration::from_millis(5);

/// Loads and compiles modules. Clones share everything.
#[derive(Clone)]
pub struct Modules {
    compiler: Compiler,
    loaded: Arc<Loaded<LoadedModule, NotLoaded>>,
    /// Compilations in flight, for invocations and ahead of them.
    compilations: SharedTasks<WasmHash, Result<Arc<LoadedModule>, LoadError>>,
    /// Snapshots in the making, by module and by what else the start depends on.
    starts: SharedTasks<starts::Wanted, starts::Found>,
    /// Modules that arrived on this node since the reconciler last looked.
    arrivals: Arc<Mutex<Vec<ModuleRef>>>,
    /// Permits to fetch a module.
    fetches: Arc<Semaphore>,
    blobs: Arc<dyn Blobs>,
    turns: Turns,
    counts: Arc<Counts>,
}

/// A module that is ready to be invoked.
#[derive(Debug, Clone, Copy)]
pub struct Prepared {
    /// The hash of its wasm.
    pub wasm_hash: WasmHash,
    /// Whether the node compiled it now; `false` if it had the code already.
    pub compiled: bool,
}

/// Why there is no loaded code.
#[derive(Clone)]
enum NotLoaded {
    /// This node has no valid artifact of it.
    NotCompiled,
    Failed(LoadError),
}

impl Modules {
    /// Keeps code loaded within `bounds`.
    #[must_use]
    pub fn new(compiler: Compiler, blobs: Arc<dyn Blobs>, bounds: Bounds) -> Self {
        let loaded = Arc::new(Loaded::new(bounds));
        let fetches = Arc::new(Semaphore::new(MODULE_FETCHES_MAX));
        Self {
            compiler,
            loaded,
            compilations: SharedTasks::default(),
            starts: SharedTasks::default(),
            arrivals: Arc::default(),
            fetches,
            blobs,
            turns: Turns::default(),
            counts: Arc::default(),
        }
    }

    /// Validates a module and compiles it, unless this node has its code already.
    ///
    /// # Errors
    /// [`PrepareError`].
    pub async fn prepare(
        &self,
        namespace: &Namespace,
        wasm: Bytes,
        memory_limit_mb: u32,
    ) -> Result<Prepared, PrepareError> {
        let place = self.turns.place(namespace, For::Compilation).ok_or(PrepareError::Busy)?;
        let (this, known) = (self.clone(), wasm.clone());
        let (wasm_hash, is_known) = blocking(move || {
            let wasm_hash = WasmHash::of(&known);
            let is_known = this.find(wasm_hash)?.is_some();
            if is_known {
                this.compiler.engine().validate_contract(&known, memory_limit_mb)?;
            }
            Ok::<_, PrepareError>((wasm_hash, is_known))
        })
        .await?;
        if is_known {
            return Ok(Prepared { wasm_hash, compiled: false });
        }
        let turn = place.turn().await;
        let this = self.clone();
        let compiled = blocking(move || {
            // This task continues when its caller stops waiting. It keeps the turn until it ends.
            let _turn = turn;
            this.compiler.validate(&wasm, memory_limit_mb)?;
            // A deploy that was ahead in the queue may have compiled the same module.
            if this.find(wasm_hash)?.is_some() {
                return Ok(false);
            }
            let module = this.compile(&wasm)?;
            this.loaded.insert(wasm_hash, Arc::new(module));
            Ok::<_, PrepareError>(true)
        })
        .await?;
        Ok(Prepared { wasm_hash, compiled })
    }

    /// Checks that the module of a version fits a smaller memory limit.
    ///
    /// # Errors
    /// [`PrepareError`].
    pub async fn check_memory(
        &self,
        function: &FunctionVersion,
        memory_limit_mb: u32,
    ) -> Result<(), PrepareError> {
        let _fetch = self.fetches.acquire().await.map_err(|_| PrepareError::Busy)?;
        let (this, cid, hash) = (self.clone(), function.wasm_cid.clone(), function.wasm_hash);
        blocking(move || {
            let wasm = this.stored(&cid, &hash)?;
            Ok(this.compiler.engine().validate_contract(&wasm, memory_limit_mb)?)
        })
        .await
    }

    /// Returns the code of a deployed function, or `None` if this node has no valid artifact of it. Blocks for milliseconds.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn load(&self, function: &FunctionVersion) -> Result<Option<Arc<LoadedModule>>, LoadError> {
        let loaded = self.loaded.get_or_load(function.wasm_hash, || {
            let begun = Instant::now();
            let found = self.load_artifact(&function.wasm_hash);
            if !matches!(found, Ok(None)) {
                self.counts.record_load(begun.elapsed(), found.is_ok());
            }
            found
                .map_err(|error| NotLoaded::Failed(error.into()))?
                .map(Arc::new)
                .ok_or(NotLoaded::NotCompiled)
        });
        match loaded {
            Ok(module) => {
                self.look_for_start(&module, function);
                Ok(Some(module))
            }
            Err(NotLoaded::NotCompiled) => Ok(None),
            Err(NotLoaded::Failed(error)) => Err(error),
        }
    }

    /// Fetches and compiles the module of a function whose code [`Self::load`] did not find. All callers wait for the same
    /// compilation, which takes its turn among the deploys. It continues when they stop waiting.
    ///
    /// # Errors
    /// [`LoadError`]. A caller that has waited for [`CODE_PATIENCE`] gets [`LoadError::Later`].
    pub async fn make(&self, function: Arc<FunctionVersion>) -> Result<Arc<LoadedModule>, LoadError> {
        match tokio::time::timeout(CODE_PATIENCE, self.join(function, true)).await {
            Ok(made) => made,
            Err(_) => Err(NotYet::UnderWay.into()),
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
                tracing::warn!(function = %function.name, version = function.version, "no valid compiled code; the node compiles it now");
            }
            let begun = Instant::now();
            let made = this.make_anew(&function).await;
            this.note_arrival(ModuleRef { wasm_hash: hash, wasm_cid: function.wasm_cid.clone() });
            this.counts.record_load(begun.elapsed(), made.is_ok());
            made
        };
        self.compilations.join(hash, work).await.unwrap_or_else(|| Err(LoadFailure::Task.into()))
    }

    /// Compiles a function's module ahead of its first invocation, once no other compilation runs or waits. If that fails, the
    /// invocation tries again.
    pub async fn prewarm(&self, function: Arc<FunctionVersion>) {
        while !self.turns.is_idle() {
            tokio::time::sleep(RECONCILE_EVERY).await;
        }
        let (this, wanted) = (self.clone(), Arc::clone(&function));
        let known = blocking(move || this.load(&wanted)).await;
        if let Ok(None) = known
            && let Err(error) = self.join(Arc::clone(&function), false).await
        {
            tracing::debug!(%error, function = %function.name, "a function could not be compiled ahead of its first invocation");
        }
    }

    /// Notes that this node has stored or compiled a module. Another node may have deleted its function meanwhile, so the
    /// reconciler compares the module with the registry.
    pub fn note_arrival(&self, module: ModuleRef) {
        let mut arrivals = self.arrivals.lock();
        if arrivals.len() < START_CLEANING_MAX {
            arrivals.push(module);
        }
    }

    /// Takes the modules that arrived since the last call.
    #[must_use]
    pub fn take_arrivals(&self) -> Vec<ModuleRef> {
        std::mem::take(&mut *self.arrivals.lock())
    }

    async fn make_anew(&self, function: &FunctionVersion) -> Result<Arc<LoadedModule>, LoadError> {
        let place = self.turns.place(&function.namespace, For::Compilation).ok_or(NotYet::Busy)?;
        // Fetch before the turn, so that no compilation waits for the network. The store keeps the bytes on disk until then.
        {
            let _fetch = self.fetches.acquire().await.map_err(|_| LoadFailure::Task)?;
            let this = self.clone();
            let (cid, hash) = (function.wasm_cid.clone(), function.wasm_hash);
            blocking(move || this.stored(&cid, &hash).map(drop)).await?;
        }
        let turn = place.turn().await;
        let this = self.clone();
        let (cid, hash) = (function.wasm_cid.clone(), function.wasm_hash);
        blocking(move || {
            // This task continues when its caller stops waiting. It keeps the turn until it ends.
            let _turn = turn;
            // A deploy that was ahead in the queue may have compiled the same module.
            if let Some(module) = this.loaded.get(&hash) {
                return Ok(module);
            }
            let wasm = this.stored(&cid, &hash)?;
            let module = this.compile(&wasm).map(Arc::new)?;
            this.loaded.insert(hash, Arc::clone(&module));
            Ok(module)
        })
        .await
    }

    /// Reads a module from the store and checks its hash.
    fn stored(&self, cid: &str, hash: &WasmHash) -> Result<Bytes, LoadError> {
        let wasm = self.blobs.get(cid)?.ok_or(LoadFailure::Missing)?;
        if WasmHash::of(&wasm) != *hash {
            return Err(LoadFailure::Different.into());
        }
        Ok(wasm)
    }

    /// Loads an artifact. If the system has no room for it, evicts the least recently used modules and tries again.
    fn load_artifact(&self, hash: &WasmHash) -> io::Result<Option<LoadedModule>> {
        let mut tries = 1;
        loop {
            match self.compiler.load(hash) {
                Err(error) if is_no_room(&error) && tries < LOAD_TRIES => {
                    tries += 1;
                    let evicted = self.loaded.make_room();
                    tracing::debug!(%error, evicted, "no room to load a function's code; the node tries again");
                    std::thread::sleep(LOAD_PAUSE);
                }
                result => return result,
            }
        }
    }

    /// The age of the loaded code, a counter. After it advances, a core calls [`Self::note_use`] at its next use of a module.
    #[must_use]
    pub fn age(&self) -> u64 {
        self.loaded.age()
    }

    /// Notes that a core uses a module, so that it is not the next to be evicted.
    pub fn note_use(&self, hash: &WasmHash) {
        drop(self.loaded.get(hash));
    }

    /// Sets who is told of evicted code. Called once, before anything is loaded.
    ///
    /// A holder may be told of an eviction after it looked the code up and before it keeps it. So it checks
    /// [`LoadedModule::is_evicted`] when it keeps the code. It is told of every later eviction.
    pub fn on_evicted(&self, tell: OnEvicted) {
        self.loaded.on_evicted(tell);
    }

    /// Removes the code and the artifact of a module that no function uses any more.
    pub fn forget(&self, hash: &WasmHash) {
        self.loaded.remove(hash);
        if let Err(error) = self.compiler.forget(hash) {
            tracing::warn!(%error, "compiled code that no function uses could not be removed");
        }
    }

    /// What is loaded now.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.loaded.usage()
    }

    /// Counts of compilations and loads since the node started.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.counts.totals()
    }

    /// How much may be loaded.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        self.loaded.bounds()
    }

    /// Returns a module that is loaded, or loads its artifact. `None` if there is no valid artifact.
    fn find(&self, hash: WasmHash) -> Result<Option<Arc<LoadedModule>>, PrepareError> {
        if let Some(module) = self.loaded.get(&hash) {
            return Ok(Some(module));
        }
        let found = self.load_artifact(&hash).map_err(LoadError::from)?;
        Ok(found.map(|module| {
            let module = Arc::new(module);
            self.loaded.insert(hash, Arc::clone(&module));
            module
        }))
    }

    fn compile(&self, wasm: &[u8]) -> Result<LoadedModule, CompileError> {
        let begun = Instant::now();
        let result = self.compiler.compile(wasm);
        self.counts.record_compilation(begun.elapsed(), result.is_ok());
        result
    }
}
