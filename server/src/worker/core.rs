//! What one core owns: its memory of functions and keys, its connections, its unwritten records.

use super::Peers;
use super::cache::{CoreCache, Ready, Users};
use super::callers::Callers;
use super::calls::CoreCalls;
use super::cors::Cors;
use super::keeper::Keeper;
use super::memory::CoreMemory;
use super::scheduler::{CoreScheduler, Turns};
use crate::access_log::AccessLog;
use crate::error::ApiError;
use crate::http::{Bodies, Connections, Timeouts};
use crate::limits::RECORD_BATCH_EVERY;
use crate::limits::RECORD_BATCH_MAX;
use crate::metrics::CoreCounters;
use crate::services::Services;
use crate::shares::{Shares, TrustedProxies};
use crate::telemetry::Traces;
use orama_platform::auth::Authority;
use orama_platform::modules::Modules;
use orama_platform::records::{Note, Record, Records, What};
use orama_platform::registry::Registry;
use orama_platform::start_notes::StartNotes;
use orama_runtime::Engine;
use orama_runtime::function::WasmHash;
use orama_runtime::names::Namespace;
use orama_runtime::services::Host;
use orama_store::blocking::{TaskFailed, blocking_on};
use orama_store::clock;
use orama_store::ids::id_from;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::sync::Notify;

/// What all cores share. Nothing in it is locked by a warm invocation.
pub(crate) struct Shared {
    pub(crate) engine: Engine,
    pub(crate) services: Services,
    pub(crate) registry: Registry,
    pub(crate) authority: Authority,
    pub(crate) registry_generation: Arc<AtomicU64>,
    pub(crate) modules: Modules,
    pub(crate) records: Records,
    /// The backplane: whatever waits on the disk or on others runs there.
    pub(crate) backplane: tokio::runtime::Handle,
    pub(crate) control_plane: axum::Router,
    /// The routes of the door for metrics, where there is one.
    pub(crate) operations: Option<axum::Router>,
    pub(crate) access_log: Arc<AccessLog>,
    /// Who may hold how much, and ask how often.
    pub(crate) shares: Arc<Shares>,
    /// Whose word counts on where a request comes from.
    pub(crate) trusted_proxies: TrustedProxies,
    /// Which pages of other origins may call functions that do not say so themselves.
    pub(crate) cors: Option<Arc<Cors>>,
    pub(crate) timeouts: Timeouts,
    pub(crate) body_timeout: Duration,
    pub(crate) drain_grace: Duration,
    /// Invocations that run on one core at once.
    pub(crate) running_max: usize,
    /// Linear memory of guests parked on one core.
    pub(crate) parked_max_bytes: usize,
    pub(crate) start_notes: Arc<StartNotes>,
    pub(crate) peers: Peers,
    pub(crate) websockets: super::websocket::Settings,
    /// Where traces go; none unless it was configured.
    pub(crate) traces: Option<Arc<Traces>>,
}

pub(super) struct Core {
    pub(super) shared: Arc<Shared>,
    pub(super) connections: Rc<Connections>,
    pub(super) cache: RefCell<CoreCache>,
    pub(super) users: RefCell<Users>,
    pub(super) callers: Callers,
    /// Bodies of requests that are arriving.
    pub(super) bodies: Bodies,
    /// What this core's guests reach.
    pub(super) host: Arc<Host>,
    /// What they have of the node's memory.
    pub(super) memory: Arc<CoreMemory>,
    pub(super) counters: Arc<CoreCounters>,
    pub(super) turns: Rc<Turns>,
    pub(super) keeper: Keeper,
    /// Invocations under way.
    pub(super) running: Cell<usize>,
    /// Calls by functions that wait for a place.
    pub(super) waiting_calls: Cell<usize>,
    /// Wakes them when a place is free.
    pub(super) place_left: Notify,
    /// WebSockets that are open.
    pub(super) websockets: Cell<usize>,
    /// The grace period is over: what still runs is ended by the node.
    pub(super) stopping: Cell<bool>,
    /// Ends triggered runs, then.
    pub(super) stop: Notify,
    unwritten: RefCell<Vec<Record>>,
    /// What else happened to functions, and was not handed over.
    notes: RefCell<Vec<Note>>,
    randomness: RefCell<Randomness>,
    /// What decides which traces are recorded; not for secrets.
    sampler: Cell<u64>,
}

/// Random bytes for request ids, taken from the system in bulk.
struct Randomness {
    bytes: [u8; 1024],
    used: usize,
}

impl Randomness {
    fn take<const LENGTH: usize>(&mut self) -> Result<[u8; LENGTH], getrandom::Error> {
        if self.used + LENGTH > self.bytes.len() {
            getrandom::fill(&mut self.bytes)?;
            self.used = 0;
        }
        let mut random = [0; LENGTH];
        random.copy_from_slice(&self.bytes[self.used..self.used + LENGTH]);
        self.used += LENGTH;
        Ok(random)
    }
}

impl Core {
    pub(super) fn new(shared: Arc<Shared>, counters: Arc<CoreCounters>, turns: Rc<Turns>) -> Self {
        let connections = Rc::new(Connections::new(shared.timeouts));
        let scheduler = CoreScheduler { backplane: shared.backplane.clone() };
        let memory = Arc::new(CoreMemory::new(Arc::clone(&shared.shares)));
        let host = shared.services.host(
            Arc::new(scheduler),
            Arc::new(CoreCalls),
            Arc::<CoreMemory>::clone(&memory),
            &shared.shares,
        );
        let host = Arc::new(host);
        let keeper =
            Keeper::new(shared.parked_max_bytes, Arc::clone(&counters), Arc::clone(&shared.start_notes));
        let callers = Callers::new(Arc::clone(&shared.shares));
        Self {
            shared,
            connections,
            cache: RefCell::default(),
            users: RefCell::default(),
            callers,
            bodies: Bodies::default(),
            host,
            memory,
            counters,
            turns,
            keeper,
            running: Cell::new(0),
            waiting_calls: Cell::new(0),
            place_left: Notify::new(),
            websockets: Cell::new(0),
            stopping: Cell::new(false),
            stop: Notify::new(),
            unwritten: RefCell::default(),
            notes: RefCell::default(),
            randomness: RefCell::new(Randomness { bytes: [0; 1024], used: 1024 }),
            sampler: Cell::new(clock::now_ms().cast_unsigned()),
        }
    }

    /// The id of a new request.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub(super) fn request_id(&self) -> Result<String, ApiError> {
        let random = self.randomness.borrow_mut().take().map_err(ApiError::internal)?;
        Ok(id_from(&random).to_string())
    }

    /// Whether anything of a namespace whose functions the registry has no more is under way.
    pub(super) fn runs_in(&self, namespace: &Namespace) -> bool {
        // What is only remembered is not under way.
        self.cache.borrow_mut().refresh(&self.shared.registry_generation);
        self.users.borrow().is_in(namespace)
    }

    /// Forgets code that was thrown out. What still runs keeps it until it ends.
    pub(super) fn let_go_of(&self, hashes: &[WasmHash]) {
        let gone = self.cache.borrow_mut().remove_code(hashes);
        self.drop_code(gone);
    }

    /// Forgets all code that was evicted, whether this core was told of it or not.
    pub(super) fn let_go_of_evicted(&self) {
        let gone = self.cache.borrow_mut().remove_evicted();
        self.drop_code(gone);
    }

    fn drop_code(&self, gone: Vec<Rc<Ready>>) {
        for ready in &gone {
            self.keeper.let_go_of(&ready.function.id);
        }
        let modules: Vec<_> = gone.iter().map(|ready| Arc::clone(&ready.module)).collect();
        drop(gone);
        if !modules.is_empty() {
            // Unmapping takes up to a millisecond.
            self.shared.backplane.spawn_blocking(move || drop(modules));
        }
    }

    /// The next number of a sequence that looks random: SplitMix64.
    pub(super) fn next_random(&self) -> u64 {
        let state = self.sampler.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.sampler.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Random bits for a trace; none where the system gives no randomness.
    pub(super) fn random_bits(&self) -> Option<u64> {
        let mut pool = self.randomness.borrow_mut();
        pool.take::<8>().ok().map(u64::from_le_bytes)
    }

    /// Runs blocking work on the backplane while this core serves others.
    ///
    /// # Errors
    /// 500 when the work panicked.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        Ok(blocking_on(&self.shared.backplane, || Ok::<_, TaskFailed>(work())).await?)
    }

    /// Takes an invocation's record; it is handed over with others, soon.
    pub(super) fn record(self: &Rc<Self>, record: Record) {
        let waiting = {
            let mut unwritten = self.unwritten.borrow_mut();
            unwritten.push(record);
            unwritten.len()
        };
        self.hand_over_soon(waiting);
    }

    /// Counts something that happened to a function besides a run.
    pub(super) fn tally(self: &Rc<Self>, ready: &Ready, what: What) {
        let (function, version) = (&ready.recorded, ready.function.version);
        let waiting = {
            let mut notes = self.notes.borrow_mut();
            let is_same = |note: &&mut Note| {
                Arc::ptr_eq(&note.function, function) && note.version == version && note.what == what
            };
            if let Some(note) = notes.iter_mut().find(is_same) {
                note.times += 1;
                return;
            }
            notes.push(Note { function: Arc::clone(function), version, what, times: 1 });
            notes.len()
        };
        self.hand_over_soon(waiting);
    }

    /// Counts a request that was refused.
    pub(super) fn tally_refusal(self: &Rc<Self>, ready: &Ready, error: &ApiError) {
        self.tally(ready, What::Refused(error.code));
    }

    fn hand_over_soon(self: &Rc<Self>, waiting: usize) {
        if waiting >= RECORD_BATCH_MAX {
            self.hand_over_records();
        } else if waiting == 1 {
            let core = Rc::clone(self);
            monoio::spawn(async move {
                monoio::time::sleep(RECORD_BATCH_EVERY).await;
                core.hand_over_records();
            });
        }
    }

    /// Hands over the records gathered so far.
    pub(super) fn hand_over_records(&self) {
        let batch = self.unwritten.take();
        if !batch.is_empty() {
            self.shared.records.submit(batch);
        }
        let notes = self.notes.take();
        if !notes.is_empty() {
            self.shared.records.note(notes);
        }
    }
}
