//! Snapshots: a program's start, run once. Invocations go on from there in copy-on-write memory.
//!
//! A program of Go is run up to the first call that could tell it about a request, where parking stops it too (see `parking`).
//! Its memory and globals are kept in a file beside the module's artifact. An instance that maps the file and calls the loop
//! that resumes goroutines makes that call once more, and goes on. A reactor is run up to the end of its `_initialize`, and an
//! instance goes on with its handler. [`make`] makes and proves a snapshot; it runs in the compiling process.
//!
//! What must not be the same in two instances is made anew in each: the states of Go's random generator are overwritten, and the
//! monotonic clock goes on from the snapshot's time.

use crate::function::FunctionVersion;
use crate::guest::{GuestState, MonotonicClock};
use crate::limits::{
    SNAPSHOT_RANDOM_STATES_MAX, SNAPSHOTS_DESCRIPTORS_SHARE, SNAPSHOTS_LOADED_MAX, SNAPSHOTS_OF_MODULE_MAX,
    SNAPSHOTS_OWNER_PART,
};
use crate::memory::{MemoryImage, WASM_PAGE_BYTES};
use crate::module::Entry;
use parking_lot::{Mutex, RwLock};
use rustix::process::{Resource, getrlimit};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use wasmtime::{Error, Global, Instance, Memory, Store, Val};

pub(crate) mod make;
pub(crate) mod rehearsal;

/// Bytes of a generator's state that are filled anew: its buffer of 32 words, and its seed of 4.
pub(crate) const RANDOM_STATE_BYTES: usize = (32 + 4) * 8;

/// Whose a start is, and what it depends on besides its module. Two namespaces never share a snapshot: it holds the seeds of a
/// program's hash tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SnapshotKey {
    /// Stands for the namespace.
    pub(crate) owner: u64,
    start: [u8; 32],
}

impl SnapshotKey {
    /// The key of a function: its namespace, its name (the program's argument), environment and memory limit.
    #[must_use]
    pub fn of(function: &FunctionVersion) -> Self {
        let namespace = function.namespace.as_str().as_bytes();
        let mut hasher = blake3::Hasher::new();
        let mut add = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
        };
        add(namespace);
        add(&function.memory_limit_mb.to_le_bytes());
        add(function.name.as_str().as_bytes());
        for (name, value) in &function.env {
            add(name.as_bytes());
            add(value.as_bytes());
        }
        let [a, b, c, d, e, f, g, h, ..] = *blake3::hash(namespace).as_bytes();
        let owner = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        Self { owner, start: *hasher.finalize().as_bytes() }
    }

    /// The 32 bytes that stand for all of it.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.start
    }
}

/// Where and how an instance goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Facts {
    /// The size of the memory, in bytes.
    pub(crate) memory_bytes: u64,
    /// The globals, in the order of [`Resume::globals`].
    pub(crate) globals: Vec<u64>,
    /// The addresses of random generators' states.
    pub(crate) random: Vec<u32>,
    /// What the monotonic clock showed last, in nanoseconds.
    pub(crate) clock_ns: u64,
    /// What a run with a small input took from the start, and from the snapshot, in microseconds.
    pub(crate) start_us: u64,
    pub(crate) resumed_us: u64,
}

impl Facts {
    /// Whether an instance of the module can have this state, within a memory of `limit_bytes`.
    pub(crate) fn fits(&self, resume: &Resume, limit_bytes: u64) -> bool {
        let end = |at: &u32| u64::from(*at) + RANDOM_STATE_BYTES as u64;
        self.memory_bytes.is_multiple_of(WASM_PAGE_BYTES)
            && self.memory_bytes <= limit_bytes
            && self.globals.len() == resume.globals.len()
            && self.random.len() <= SNAPSHOT_RANDOM_STATES_MAX
            && self.random.iter().all(|at| end(at) <= self.memory_bytes)
    }
}

/// The exports of a module through which an instance goes on from a snapshot.
pub(crate) struct Resume {
    pub(crate) entry: Entry,
    pub(crate) globals: Vec<wasmtime::ModuleExport>,
    /// Of a program of Go: not 0 once it has drawn random numbers of its own. `None` for a reactor.
    pub(crate) random: Option<wasmtime::ModuleExport>,
    /// The number of imported functions.
    pub(crate) imported: u32,
}

/// A start that was kept.
pub struct Snapshot {
    pub(crate) facts: Facts,
    pub(crate) image: Arc<MemoryImage>,
    /// `None` where the image is no file.
    pub(crate) _place: Option<Place>,
}

/// The place of a loaded snapshot among those of the process, each of which has a file open. Dropping it frees the place.
pub(crate) struct Place {
    owner: u64,
}

/// Places taken, by owner.
static PLACES_TAKEN: Mutex<BTreeMap<u64, u64>> = Mutex::new(BTreeMap::new());

impl Place {
    /// Takes a place; `None` when the process has as many as its open files allow, or the owner its part of them.
    pub(crate) fn take(owner: u64) -> Option<Self> {
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let most = (files / SNAPSHOTS_DESCRIPTORS_SHARE).min(SNAPSHOTS_LOADED_MAX);
        let mut taken = PLACES_TAKEN.lock();
        let own = taken.get(&owner).copied().unwrap_or(0);
        let is_free = taken.values().sum::<u64>() < most && own < most.div_ceil(SNAPSHOTS_OWNER_PART);
        is_free.then(|| {
            taken.insert(owner, own + 1);
            Self { owner }
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = PLACES_TAKEN.lock();
        if let Some(own) = taken.get_mut(&self.owner) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.owner);
            }
        }
    }
}

/// What is known of a function's start.
#[derive(Clone)]
pub enum Start {
    /// Invocations go on from a snapshot.
    Snapshot(Arc<Snapshot>),
    /// There can be none; the text says why.
    Whole(Arc<str>),
}

/// What is known of the starts of a module's functions.
#[derive(Default)]
pub struct Starts {
    /// In the order in which they became known.
    known: RwLock<Vec<(SnapshotKey, Start)>>,
    /// Counts the changes.
    changes: AtomicU64,
}

impl Starts {
    /// Changes when something is learned, so that a core need not look each time.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// What is known of a start.
    #[must_use]
    pub fn get(&self, key: &SnapshotKey) -> Option<Start> {
        self.known.read().iter().find(|(known, _)| known == key).map(|(_, start)| start.clone())
    }

    /// Notes what a start is. Of each namespace at most [`SNAPSHOTS_OF_MODULE_MAX`] are known; its oldest is forgotten then.
    pub(crate) fn put(&self, key: SnapshotKey, start: Start) {
        let mut known = self.known.write();
        known.retain(|(other, _)| *other != key);
        let own = || known.iter().enumerate().filter(|(_, (other, _))| other.owner == key.owner);
        if own().count() >= SNAPSHOTS_OF_MODULE_MAX
            && let Some((oldest, _)) = own().next()
        {
            known.remove(oldest);
        }
        known.push((key, start));
        self.changes.fetch_add(1, Ordering::Release);
    }
}

impl Snapshot {
    /// What a run with a small input took from the start of the program, when the snapshot was made.
    #[must_use]
    pub fn start_time(&self) -> Duration {
        Duration::from_micros(self.facts.start_us)
    }

    /// What it took from the snapshot.
    #[must_use]
    pub fn resumed_time(&self) -> Duration {
        Duration::from_micros(self.facts.resumed_us)
    }

    /// The size of an instance's memory at first, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.facts.memory_bytes
    }

    /// Gives a new instance the state that memory does not hold, and what each instance has of its own.
    pub(crate) fn restore(
        &self,
        resume: &Resume,
        store: &mut Store<GuestState>,
        instance: &Instance,
        memory: Memory,
    ) -> wasmtime::Result<()> {
        for (export, value) in resume.globals.iter().zip(&self.facts.globals) {
            let global = exported_global(instance, store, export)?;
            let value = match global.ty(&*store).content() {
                wasmtime::ValType::I32 => Val::I32(*value as i32),
                _ => Val::I64(value.cast_signed()),
            };
            global.set(&mut *store, value)?;
        }
        // A rehearsal has to end as the run from the start does.
        if store.data().rehearsal.is_none() {
            self.reseed(store, memory)?;
        }
        store.data_mut().clock = Some(MonotonicClock::from(self.facts.clock_ns));
        Ok(())
    }

    fn reseed(&self, store: &mut Store<GuestState>, memory: Memory) -> wasmtime::Result<()> {
        let mut fresh = [0; SNAPSHOT_RANDOM_STATES_MAX * RANDOM_STATE_BYTES];
        let needed = self.facts.random.len() * RANDOM_STATE_BYTES;
        let fresh = fresh.get_mut(..needed).unwrap_or_default();
        getrandom::fill(fresh)
            .map_err(|error| Error::from(error).context("the system gave no random bytes"))?;
        for (at, state) in self.facts.random.iter().zip(fresh.chunks_exact(RANDOM_STATE_BYTES)) {
            memory.write(&mut *store, *at as usize, state)?;
        }
        Ok(())
    }
}

/// A global of an instance.
pub(crate) fn exported_global(
    instance: &Instance,
    store: &mut Store<GuestState>,
    export: &wasmtime::ModuleExport,
) -> wasmtime::Result<Global> {
    instance
        .get_module_export(&mut *store, export)
        .and_then(wasmtime::Extern::into_global)
        .ok_or_else(|| Error::msg("a global of the snapshot is not exported"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::WasmHash;
    use crate::names::{FunctionName, Namespace};

    fn key(namespace: &str, name: &str) -> SnapshotKey {
        let (namespace, name) = (Namespace::new(namespace).unwrap(), FunctionName::new(name).unwrap());
        SnapshotKey::of(&FunctionVersion::new(namespace, name, WasmHash::from_bytes([0; 32])))
    }

    #[test]
    fn a_namespace_displaces_only_its_own_starts_of_a_module() {
        let starts = Starts::default();
        let why = || Start::Whole("for a test".into());
        starts.put(key("a", "f"), why());
        for index in 0..=SNAPSHOTS_OF_MODULE_MAX {
            starts.put(key("b", &format!("f{index}")), why());
        }
        assert!(starts.get(&key("a", "f")).is_some());
        assert!(starts.get(&key("b", "f0")).is_none(), "the oldest of its own is still known");
        assert!(starts.get(&key("b", "f1")).is_some());
        assert!(starts.get(&key("c", "f1")).is_none(), "another namespace's start was found");
    }

    #[test]
    fn no_namespace_takes_all_places() {
        let (mut taken, a, b) = (Vec::new(), key("places-a", "f").owner, key("places-b", "f").owner);
        while let Some(place) = Place::take(a) {
            taken.push(place);
        }
        let part = taken.len();
        assert!(part > 0 && Place::take(b).is_some(), "{part}");
        taken.pop();
        assert!(Place::take(a).is_some());
    }
}
