//! Keeps a core's parked guests: takes the used ones away after their answers, and starts others when the core is idle.
//!
//! Nothing here comes before a request that waits: a guest is started only after the loop had nothing else to do, and it
//! gives way as every guest does. Where there is no such moment, nothing is started and requests run on demand.

use super::core::Core;
use crate::limits::{PARKED_NAMESPACE_PART, PARKED_SLOTS_PART};
use crate::metrics::CoreCounters;
use orama_platform::start_notes::StartNotes;
use orama_runtime::function::FunctionVersion;
use orama_runtime::names::Namespace;
use orama_runtime::pool::{Pool, Totals};
use orama_runtime::{LoadedModule, Parked, SpentInstance};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// Pause after a moment in which the core was busy, at first and at most.
const BUSY_PAUSE: Duration = Duration::from_millis(1);
const BUSY_PAUSE_MAX: Duration = Duration::from_millis(64);
/// How often pools are looked through for guests that are not wanted any more.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long an empty pool that nobody asked is kept.
const POOL_FORGOTTEN: Duration = Duration::from_secs(120);

/// A pool, and whether it waits for guests to be started.
pub(super) struct Kept {
    pub(super) pool: RefCell<Pool>,
    queued: Cell<bool>,
}

pub(super) struct Keeper {
    totals: Rc<Totals>,
    /// The same of each namespace that has a pool.
    namespaces: RefCell<HashMap<Namespace, Rc<Totals>>>,
    /// By version id, which never means another version.
    pools: RefCell<HashMap<Box<str>, Rc<Kept>>>,
    /// Pools that may want more. Not what keeps them: code that was thrown out would wait here for its turn.
    wanting: RefCell<VecDeque<Weak<Kept>>>,
    refiller: Cell<Option<Waker>>,
    spent: RefCell<Vec<SpentInstance>>,
    undertaker: Cell<Option<Waker>>,
    /// Counts invocations.
    arrivals: Cell<u64>,
    memory_max_bytes: usize,
    counters: Arc<CoreCounters>,
    notes: Arc<StartNotes>,
    /// The registry's count when the pools were last compared with it.
    generation: Cell<u64>,
}

fn wake(waker: &Cell<Option<Waker>>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

impl Keeper {
    pub(super) fn new(memory_max_bytes: usize, counters: Arc<CoreCounters>, notes: Arc<StartNotes>) -> Self {
        Self {
            totals: Rc::default(),
            namespaces: RefCell::default(),
            pools: RefCell::default(),
            wanting: RefCell::default(),
            refiller: Cell::default(),
            spent: RefCell::default(),
            undertaker: Cell::default(),
            arrivals: Cell::new(0),
            memory_max_bytes,
            counters,
            notes,
            generation: Cell::new(0),
        }
    }

    /// The pool of a function version.
    pub(super) fn pool(&self, function: &Arc<FunctionVersion>, module: &Arc<LoadedModule>) -> Rc<Kept> {
        let mut pools = self.pools.borrow_mut();
        let kept = pools.get(function.id.as_str());
        // Code that was thrown out and loaded again is not what waits there.
        if let Some(kept) = kept.filter(|kept| Arc::ptr_eq(kept.pool.borrow().module(), module)) {
            return Rc::clone(kept);
        }
        let mut namespaces = self.namespaces.borrow_mut();
        let of_namespace = namespaces.entry(function.namespace.clone()).or_default();
        let totals = [&self.totals, of_namespace].map(Rc::clone);
        let pool = Pool::new(Arc::clone(function), Arc::clone(module), totals, Instant::now());
        let kept = Rc::new(Kept { pool: RefCell::new(pool), queued: Cell::new(false) });
        pools.insert(function.id.as_str().into(), Rc::clone(&kept));
        kept
    }

    /// A guest for an invocation that came at `now`, if one waits.
    pub(super) fn take(&self, kept: &Rc<Kept>, now: Instant) -> Option<Parked> {
        self.arrivals.set(self.arrivals.get() + 1);
        let parked = {
            let mut pool = kept.pool.borrow_mut();
            if pool.is_disabled() {
                return None;
            }
            pool.take(now)
        };
        if parked.is_some() {
            self.tell_totals();
        }
        self.want(kept);
        parked
    }

    fn tell_totals(&self) {
        self.counters.set_parked(self.totals.guests(), self.totals.memory_bytes());
    }

    /// A pool may want more guests.
    fn want(&self, kept: &Rc<Kept>) {
        if !kept.queued.replace(true) {
            self.wanting.borrow_mut().push_back(Rc::downgrade(kept));
            wake(&self.refiller);
        }
    }

    /// Takes an instance that has ended; it is dropped when what is under way now has gone on.
    pub(super) fn bury(&self, instance: SpentInstance) {
        self.spent.borrow_mut().push(instance);
        wake(&self.undertaker);
    }

    /// Makes room for a guest that has to run now, beside `running` others in `slots`: drops those that have ended, and one that
    /// is parked if that is not enough.
    pub(super) fn make_room(&self, running: usize, slots: usize) {
        // The guest gets the slot that was used a moment ago, whose pages the processor still has in its cache.
        drop(self.spent.take());
        if running + self.totals.guests() > slots {
            self.give_up_one();
        }
    }

    fn give_up_one(&self) {
        let pools = self.pools.borrow();
        let longest_unused = pools.values().filter(|kept| !kept.pool.borrow().is_empty());
        if let Some(kept) = longest_unused.min_by_key(|kept| kept.pool.borrow().used_at()) {
            kept.pool.borrow_mut().drop_one();
        }
    }

    /// Drops what is parked for a namespace.
    pub(super) fn forget(&self, namespace: &Namespace) {
        self.pools.borrow_mut().retain(|_, kept| kept.pool.borrow().function().namespace != *namespace);
    }

    /// Drops the pool of a version whose code was thrown out.
    pub(super) fn let_go_of(&self, version_id: &str) {
        if let Some(kept) = self.pools.borrow_mut().remove(version_id) {
            kept.pool.borrow_mut().drain();
        }
    }

    /// Drops everything: the node is stopping.
    pub(super) fn close(&self) {
        self.wanting.borrow_mut().clear();
        for (_, kept) in self.pools.borrow_mut().drain() {
            kept.pool.borrow_mut().disable();
        }
    }

    /// Whether there is room for another guest of this function.
    fn has_room(&self, core: &Core, namespace: &Namespace) -> bool {
        let slots = core.shared.running_max;
        let guests_max = slots / PARKED_SLOTS_PART;
        if core.running.get() + self.totals.guests() >= slots
            || self.totals.guests() >= guests_max
            || self.totals.memory_bytes() >= self.memory_max_bytes
        {
            return false;
        }
        self.namespaces.borrow().get(namespace).is_none_or(|theirs| {
            theirs.guests() < guests_max.div_ceil(PARKED_NAMESPACE_PART)
                && theirs.memory_bytes() < self.memory_max_bytes.div_ceil(PARKED_NAMESPACE_PART)
        })
    }

    /// Drops guests that are not wanted any more, and pools that nobody asks.
    fn look_through(&self, now: Instant) {
        self.pools.borrow_mut().retain(|_, kept| {
            let mut pool = kept.pool.borrow_mut();
            pool.shrink(now);
            let is_used = !pool.is_empty() || now.duration_since(pool.used_at()) < POOL_FORGOTTEN;
            // Who holds it would go on filling it, and nobody would look through it.
            (is_used || Rc::strong_count(kept) > 1) && !pool.module().is_evicted()
        });
        self.namespaces.borrow_mut().retain(|_, totals| Rc::strong_count(totals) > 1);
    }
}

/// Drops used instances as long as the core runs.
pub(super) async fn bury_all(core: Rc<Core>) {
    poll_fn(|cx| {
        drop(core.keeper.spent.take());
        core.keeper.undertaker.set(Some(cx.waker().clone()));
        Poll::<()>::Pending
    })
    .await;
}

/// Starts guests that pools want as long as the core runs.
pub(super) async fn refill_all(core: Rc<Core>) {
    let keeper = &core.keeper;
    let mut pause = BUSY_PAUSE;
    loop {
        let kept = poll_fn(|cx| match keeper.wanting.borrow_mut().pop_front() {
            Some(kept) => Poll::Ready(kept),
            None => {
                keeper.refiller.set(Some(cx.waker().clone()));
                Poll::Pending
            }
        })
        .await;
        let Some(kept) = kept.upgrade() else { continue };
        kept.queued.set(false);
        // Paused pools are asked for again by their next request.
        if !kept.pool.borrow().needs_refill(Instant::now()) {
            continue;
        }
        if is_idle(&core).await {
            pause = BUSY_PAUSE;
            refill(&core, &kept).await;
        } else {
            monoio::time::sleep(pause).await;
            pause = (2 * pause).min(BUSY_PAUSE_MAX);
        }
        if !kept.pool.borrow().is_disabled() {
            keeper.want(&kept);
        }
    }
}

/// Whether nothing came while the loop went round once.
async fn is_idle(core: &Core) -> bool {
    let before = core.keeper.arrivals.get();
    core.turns.next_round().await;
    core.keeper.arrivals.get() == before && !core.turns.is_contended()
}

async fn refill(core: &Core, kept: &Kept) {
    let (function, module) = {
        let pool = kept.pool.borrow();
        (Arc::clone(pool.function()), Arc::clone(pool.module()))
    };
    if !core.keeper.has_room(core, &function.namespace) {
        kept.pool.borrow_mut().pause(Instant::now());
        return;
    }
    let parked = core.turns.count(core.shared.engine.park(&module, &function, &core.host)).await;
    let mut pool = kept.pool.borrow_mut();
    match parked {
        Ok(parked) => pool.add(parked, Instant::now()),
        Err(why) => {
            if why.is_permanent() {
                core.keeper.notes.put(&function.id, format!("started by the request: {why}"));
            }
            pool.record_failure(&why, Instant::now());
        }
    }
    core.keeper.tell_totals();
}

/// Lets go, once in a while, of what is not wanted any more.
pub(super) async fn look_through_all(core: Rc<Core>) {
    loop {
        monoio::time::sleep(LOOK_EVERY).await;
        let keeper = &core.keeper;
        keeper.look_through(Instant::now());
        core.memory.give_back_spare();
        let generation = core.shared.registry_generation.load(Ordering::Acquire);
        if keeper.generation.replace(generation) != generation {
            drop_replaced(&core).await;
        }
        keeper.tell_totals();
    }
}

/// Drops the guests of versions that are not in use any more.
async fn drop_replaced(core: &Core) {
    let parked: Vec<_> = {
        let pools = core.keeper.pools.borrow();
        let pools = pools.values().map(|kept| kept.pool.borrow());
        pools.filter(|pool| !pool.is_empty()).map(|pool| Arc::clone(pool.function())).collect()
    };
    if parked.is_empty() {
        return;
    }
    let registry = core.shared.registry.clone();
    let replaced = core.ask(move || {
        let is_in_use = |parked: &Arc<FunctionVersion>| {
            let in_use = registry.is_in_use(&parked.namespace, &parked.name, parked.version);
            // Whatever the registry cannot tell is left for the next look.
            in_use.unwrap_or(true)
        };
        parked.into_iter().filter(|parked| !is_in_use(parked)).collect::<Vec<_>>()
    });
    // The work on the backplane fails only with the node.
    for version in replaced.await.unwrap_or_default() {
        if let Some(kept) = core.keeper.pools.borrow().get(version.id.as_str()) {
            kept.pool.borrow_mut().drain();
        }
    }
}
