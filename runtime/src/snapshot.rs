//! Snapshots: a program's start, run once. Invocations go on from there in copy-on-write memory.
//!
//! A program of Go is run up to the first call that could tell it about a request, where parking stops it too (see `parking`).
//! Its memory and globals are kept in a file beside the module's artifact. An instance that maps the file and calls the loop
//! that resumes goroutines makes that call once more, and goes on. [`make`] makes and proves a snapshot; it runs in the compiling
//! process.
//!
//! What must not be the same in two instances is made anew in each: the states of Go's random generator are overwritten, and the
//! monotonic clock goes on from the snapshot's time.

use crate::function::FunctionVersion;
use crate::guest::{GuestState, MonotonicClock};
use crate::limits::{
    SNAPSHOT_RANDOM_STATES_MAX, SNAPSHOTS_DESCRIPTORS_SHARE, SNAPSHOTS_LOADED_MAX, SNAPSHOTS_OF_MODULE_MAX,
};
use crate::memory::{MemoryImage, WASM_PAGE_BYTES};
use parking_lot::RwLock;
use rustix::process::{Resource, getrlimit};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use wasmtime::{Error, Global, Instance, Memory, Store, Val};

pub(crate) mod make;
pub(crate) mod rehearsal;

/// Bytes of a generator's state that are filled anew: its buffer of 32 words, and its seed of 4.
pub(crate) const RANDOM_STATE_BYTES: usize = (32 + 4) * 8;

/// What the start of a function depends on, besides its module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SnapshotKey([u8; 32]);

impl SnapshotKey {
    /// The key of a function: its name (the program's argument), environment and memory limit.
    #[must_use]
    pub fn of(function: &FunctionVersion) -> Self {
        let mut hasher = blake3::Hasher::new();
        let mut add = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
        };
        add(&function.memory_limit_mb.to_le_bytes());
        add(function.name.as_str().as_bytes());
        for (name, value) in &function.env {
            add(name.as_bytes());
            add(value.as_bytes());
        }
        Self(*hasher.finalize().as_bytes())
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
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
    pub(crate) function: wasmtime::ModuleExport,
    pub(crate) globals: Vec<wasmtime::ModuleExport>,
    /// Not 0 once the program has drawn random numbers of its own.
    pub(crate) random: wasmtime::ModuleExport,
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
pub(crate) struct Place(());

static PLACES_TAKEN: AtomicU64 = AtomicU64::new(0);

impl Place {
    /// Takes a place; `None` when as many are taken as the process may have.
    pub(crate) fn take() -> Option<Self> {
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let most = (files / SNAPSHOTS_DESCRIPTORS_SHARE).min(SNAPSHOTS_LOADED_MAX);
        let more = |taken: u64| (taken < most).then_some(taken + 1);
        PLACES_TAKEN.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok().map(|_| Self(()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        PLACES_TAKEN.fetch_sub(1, Ordering::AcqRel);
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

    /// Notes what a start is. At most [`SNAPSHOTS_OF_MODULE_MAX`] are known; the oldest is forgotten then.
    pub(crate) fn put(&self, key: SnapshotKey, start: Start) {
        let mut known = self.known.write();
        known.retain(|(other, _)| *other != key);
        if known.len() >= SNAPSHOTS_OF_MODULE_MAX {
            known.remove(0);
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
