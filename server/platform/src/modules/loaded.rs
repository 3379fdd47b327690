//! The cache of loaded code. It is bounded and evicts the least recently used module first. Concurrent loads of one module are
//! single-flight.

use crate::limits::{MODULE_OVERHEAD_BYTES, MODULES_AGES};
use hashlink::LruCache;
use orama_runtime::LoadedModule;
use orama_runtime::function::WasmHash;
use orama_store::single_flight::SingleFlight;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// How much may be loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of all code.
    pub bytes: u64,
    /// Number of modules; each takes mappings and file descriptors.
    pub modules: usize,
}

/// What is loaded now, and what was evicted since the node started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Modules loaded.
    pub modules: u64,
    /// Bytes of their code.
    pub bytes: u64,
    /// Modules evicted since the node started.
    pub evicted: u64,
}

/// Tells the holders of loaded code which modules were evicted or removed, so that they drop them.
pub type OnEvicted = Box<dyn Fn(&Arc<[WasmHash]>) + Send + Sync>;

/// What the cache can hold.
pub(super) trait Code {
    /// Size of the code, in bytes.
    fn bytes(&self) -> usize;
    /// Marks the code as no longer in the cache.
    fn evict(&self);
}

impl Code for LoadedModule {
    fn bytes(&self) -> usize {
        self.image_bytes()
    }

    fn evict(&self) {
        LoadedModule::evict(self);
    }
}

/// Loaded code by the hash of its wasm.
pub(super) struct Loaded<M, E> {
    bounds: Bounds,
    state: Mutex<State<M>>,
    loads: SingleFlight<WasmHash, Result<Arc<M>, E>>,
    /// Every invocation reads it, so it has its cache lines to itself.
    age: Age,
    on_evicted: OnceLock<OnEvicted>,
}

#[repr(align(128))]
#[derive(Default)]
struct Age(AtomicU64);

struct State<M> {
    modules: LruCache<WasmHash, Arc<M>>,
    bytes: u64,
    evicted: u64,
    /// What was loaded since [`Age`] last advanced.
    young: Bounds,
}

impl<M: Code, E: Clone> Loaded<M, E> {
    pub(super) fn new(bounds: Bounds) -> Self {
        let state =
            State { modules: LruCache::new_unbounded(), bytes: 0, evicted: 0, young: Bounds::default() };
        Self {
            bounds,
            state: Mutex::new(state),
            loads: SingleFlight::default(),
            age: Age::default(),
            on_evicted: OnceLock::new(),
        }
    }

    /// Sets who is told of evicted modules. Called once, before anything is loaded.
    pub(super) fn on_evicted(&self, tell: OnEvicted) {
        // A second call would be a bug of the node, which tests would show.
        let _ = self.on_evicted.set(tell);
    }

    /// A counter that advances each time one in [`MODULES_AGES`] of the bounds was newly loaded. A user of a module calls
    /// [`Self::get`] once in each age, so a module in use is never the least recently used.
    pub(super) fn age(&self) -> u64 {
        self.age.0.load(Ordering::Relaxed)
    }

    /// Returns the module if it is loaded, and marks it as the most recently used.
    pub(super) fn get(&self, hash: &WasmHash) -> Option<Arc<M>> {
        self.state.lock().modules.get(hash).map(Arc::clone)
    }

    /// Returns the module; calls `load` if it is not loaded. Blocks while another thread loads the same one.
    pub(super) fn get_or_load(
        &self,
        hash: WasmHash,
        load: impl FnOnce() -> Result<Arc<M>, E>,
    ) -> Result<Arc<M>, E> {
        if let Some(module) = self.get(&hash) {
            return Ok(module);
        }
        self.loads.run(&hash, || {
            // Another load may have ended since the first look-up.
            if let Some(module) = self.get(&hash) {
                return Ok(module);
            }
            let module = load()?;
            self.insert(hash, Arc::clone(&module));
            Ok(module)
        })
    }

    /// Adds a module, and evicts others until all are within the bounds.
    pub(super) fn insert(&self, hash: WasmHash, module: Arc<M>) {
        let mut state = self.state.lock();
        let bytes = weight(&*module);
        state.bytes += bytes;
        let mut gone = Vec::new();
        if let Some(before) = state.modules.insert(hash, module) {
            state.bytes -= weight(&*before);
            gone.push((hash, before));
        }
        let State { young, .. } = &mut *state;
        *young = Bounds { bytes: young.bytes + bytes, modules: young.modules + 1 };
        if young.bytes >= self.bounds.bytes / MODULES_AGES
            || young.modules as u64 >= self.bounds.modules as u64 / MODULES_AGES
        {
            *young = Bounds::default();
            self.age.0.fetch_add(1, Ordering::Relaxed);
        }
        // The newest module stays, even if it alone exceeds the bounds.
        while state.modules.len() > 1
            && (state.bytes > self.bounds.bytes || state.modules.len() > self.bounds.modules)
        {
            gone.extend(state.remove_oldest());
        }
        drop(state);
        self.tell(gone);
    }

    /// Evicts the least recently used modules because the system has no room for another: one in [`MODULES_AGES`] of all, and at
    /// least one. Returns how many it evicted.
    pub(super) fn make_room(&self) -> usize {
        let mut state = self.state.lock();
        let wanted = (state.modules.len() / MODULES_AGES as usize).max(1);
        let gone: Vec<_> = (0..wanted).map_while(|_| state.remove_oldest()).collect();
        drop(state);
        let count = gone.len();
        self.tell(gone);
        count
    }

    /// Removes a module that no function uses any more.
    pub(super) fn remove(&self, hash: &WasmHash) {
        let mut state = self.state.lock();
        if let Some(module) = state.modules.remove(hash) {
            state.bytes -= weight(&*module);
            drop(state);
            self.tell(vec![(*hash, module)]);
        }
    }

    pub(super) fn usage(&self) -> Usage {
        let state = self.state.lock();
        Usage { modules: state.modules.len() as u64, bytes: state.bytes, evicted: state.evicted }
    }

    pub(super) fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Marks modules as evicted and tells the holders. Called without the lock: unmapping takes time, and a holder may call back.
    fn tell(&self, gone: Vec<(WasmHash, Arc<M>)>) {
        if gone.is_empty() {
            return;
        }
        // Marked first: a holder that is told before it keeps a module sees the mark and does not keep it.
        gone.iter().for_each(|(_, module)| module.evict());
        if let Some(tell) = self.on_evicted.get() {
            tell(&gone.iter().map(|(hash, _)| *hash).collect());
        }
    }
}

impl<M: Code> State<M> {
    fn remove_oldest(&mut self) -> Option<(WasmHash, Arc<M>)> {
        let (hash, module) = self.modules.remove_lru()?;
        self.bytes -= weight(&*module);
        self.evicted += 1;
        Some((hash, module))
    }
}

fn weight(module: &impl Code) -> u64 {
    (module.bytes() + MODULE_OVERHEAD_BYTES) as u64
}

#[cfg(test)]
mod tests;
