//! Loaded code by the hash of its wasm: bounded, one load or compilation at a time for each module.

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
use turns::Turns;

mod counts;
mod error;
mod loaded;
mod turns;

pub use counts::{LOAD_BUCKETS_US, Totals};
pub use error::{LoadError, LoadFailure, NotYet, PrepareError};
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
    /// Compilations in flight for invocations and ahead of them.
    compilations: SharedTasks<WasmHash, Result<Arc<LoadedModule>, LoadError>>,
    /// Modules of which this node keeps something since the reconciler last looked.
    arrivals: Arc<Mutex<Vec<ModuleRef>>>,
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

/// Why there is no loaded code.
#[derive(Clone)]
enum NotLoaded {
    /// This node has not compiled it, or lost what it had.
    NotCompiled,
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
            compilations: SharedTasks::default(),
            arrivals: Arc::default(),
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
            // A task that was begun goes on when nobody waits for it any more, and keeps its turn so long.
            let _turn = turn;
            this.compiler.validate(&wasm, memory_limit_mb)?;
            // The one before in the queue may have brought the same module.
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
                self.counts.record_load(begun.elapsed(), found.is_ok());
            }
            found
                .map_err(|error| NotLoaded::Failed(error.into()))?
                .map(Arc::new)
                .ok_or(NotLoaded::NotCompiled)
        });
        match loaded {
            Ok(module) => Ok(Some(module)),
            Err(NotLoaded::NotCompiled) => Ok(None),
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
                tracing::warn!(function = %function.name, version = function.version, "no valid compiled code: compiling again");
            }
            let begun = Instant::now();
            let made = this.make_anew(&function).await;
            this.note_arrival(ModuleRef { wasm_hash: hash, wasm_cid: function.wasm_cid.clone() });
            this.counts.record_load(begun.elapsed(), made.is_ok());
            made
        };
        self.compilations.join(hash, work).await.unwrap_or_else(|| Err(LoadFailure::Task.into()))
    }

    /// [`Self::make`] ahead of the first invocation, when nobody compiles anything. A failure is left to that invocation.
    pub async fn prewarm(&self, function: Arc<FunctionVersion>) {
        while !self.turns.is_idle() {
            tokio::time::sleep(RECONCILE_EVERY).await;
        }
        let (this, wanted) = (self.clone(), Arc::clone(&function));
        let known = blocking(move || this.load(&wanted)).await;
        if let Ok(None) = known
            && let Err(error) = self.join(Arc::clone(&function), false).await
        {
            tracing::debug!(%error, function = %function.name, "a function deployed elsewhere is not ready yet");
        }
    }

    /// Notes that this node keeps something of a module from now on. Another node may have deleted its function already, so the
    /// reconciler looks at it.
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
        let place = self.turns.place(&function.namespace).ok_or(NotYet::Busy)?;
        // Fetched before the turn, and not kept in memory until then: the store has it on the disk now.
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
            // A task that was begun goes on when nobody waits for it any more, and keeps its turn so long.
            let _turn = turn;
            // A deploy of the same module may have been before in the queue.
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

    /// The bytes of a module.
    fn stored(&self, cid: &str, hash: &WasmHash) -> Result<Bytes, LoadError> {
        let wasm = self.blobs.get(cid)?.ok_or(LoadFailure::Missing)?;
        if WasmHash::of(&wasm) != *hash {
            return Err(LoadFailure::Different.into());
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
                    let evicted = self.loaded.make_room();
                    tracing::debug!(%error, evicted, "no room to load a function's code");
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
