//! Code that is loaded, in the order of its use: within its bounds, and one load at a time for each module.

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
    /// Bytes of code together.
    pub bytes: u64,
    /// Modules; each takes mappings and a file descriptor.
    pub modules: usize,
}

/// What is loaded now, and what was since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Modules loaded.
    pub modules: u64,
    /// Bytes of their code.
    pub bytes: u64,
    /// How many were thrown out to make room.
    pub evicted: u64,
}

/// Whoever holds loaded code is told what was thrown out, so that it lets go of it.
pub type OnEvicted = Box<dyn Fn(&Arc<[WasmHash]>) + Send + Sync>;

/// What can be kept.
pub(super) trait Code {
    /// Its size.
    fn bytes(&self) -> usize;
    /// Says that it is not kept any more.
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
    /// One load at a time for each module.
    loads: SingleFlight<WasmHash, Result<Arc<M>, E>>,
    /// Read by each invocation, so alone on its cache lines.
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
    /// What was loaded since [`Age`] moved.
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

    /// Says who is told of what was thrown out; once, before anything is loaded.
    pub(super) fn on_evicted(&self, tell: OnEvicted) {
        // A second one would be a mistake of this program that tests show.
        let _ = self.on_evicted.set(tell);
    }

    /// Moves each time when a part of what may be loaded was loaded anew. Who uses a module says so
    /// ([`Self::get`]) when this has moved since it last did; then what is used is never among the oldest.
    pub(super) fn age(&self) -> u64 {
        self.age.0.load(Ordering::Relaxed)
    }

    /// The module, where it is loaded; it is the most recently used one now.
    pub(super) fn get(&self, hash: &WasmHash) -> Option<Arc<M>> {
        self.state.lock().modules.get(hash).map(Arc::clone)
    }

    /// The module, loaded by `load` where it is not there. Blocks while another thread loads the same one.
    pub(super) fn get_or_load(
        &self,
        hash: WasmHash,
        load: impl FnOnce() -> Result<Arc<M>, E>,
    ) -> Result<Arc<M>, E> {
        if let Some(module) = self.get(&hash) {
            return Ok(module);
        }
        self.loads.run(&hash, || {
            // Another load may have ended since the look.
            if let Some(module) = self.get(&hash) {
                return Ok(module);
            }
            let module = load()?;
            self.insert(hash, Arc::clone(&module));
            Ok(module)
        })
    }

    /// Keeps a module.
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
        // The newest stays also where it alone is too large.
        while state.modules.len() > 1
            && (state.bytes > self.bounds.bytes || state.modules.len() > self.bounds.modules)
        {
            gone.extend(state.remove_oldest());
        }
        drop(state);
        self.tell(gone);
    }

    /// Throws out the modules that were not used for longest, a part of all, at least one: when the system has no room
    /// for another. Returns how many went.
    pub(super) fn make_room(&self) -> usize {
        let mut state = self.state.lock();
        let wanted = (state.modules.len() / MODULES_AGES as usize).max(1);
        let gone: Vec<_> = (0..wanted).map_while(|_| state.remove_oldest()).collect();
        drop(state);
        let count = gone.len();
        self.tell(gone);
        count
    }

    /// Lets go of a module that is not needed any more.
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

    /// Outside the lock: unmapping takes its time, and whoever is told may ask again.
    fn tell(&self, gone: Vec<(WasmHash, Arc<M>)>) {
        if gone.is_empty() {
            return;
        }
        // First, so that whoever looks it up now and is told before it keeps it does not keep it.
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
