//! The places of invocations under way on a core, and those that are kept for calls by functions.

use super::cache::Ready;
use super::callers::Local;
use super::core::Core;
use crate::shares::{Kind, NoRoom, Party, Scope};
use orama_runtime::limits::CALL_DEPTH_MAX;
use std::rc::Rc;
use std::sync::Arc;

/// One place in so many is reserved for calls by functions.
const RESERVED_SHARE: usize = 8;

/// Counts an invocation as long as it is under way: for the core, for the namespace, for the client's address where
/// a stranger calls, and for the function where it bounds its invocations.
pub(super) struct Running {
    pub(super) core: Rc<Core>,
    pub(super) ready: Rc<Ready>,
    pub(super) address: Option<Rc<Local>>,
    /// Functions that called each other up to this one; 0 where no function called it.
    call_depth: u32,
}

/// Places of a core that callers of a depth leave to calls of greater depths, so that a call never waits for callers that wait
/// for theirs: one for each depth, where the core has enough.
fn reserved(limit: usize, depth: u32) -> usize {
    (limit / RESERVED_SHARE).min(CALL_DEPTH_MAX as usize).saturating_sub(depth as usize)
}

/// Counts a call that waits for a place.
struct Waiting<'a>(&'a Core);

impl<'a> Waiting<'a> {
    fn begin(core: &'a Core) -> Self {
        core.waiting_calls.set(core.waiting_calls.get() + 1);
        Self(core)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting_calls.set(self.0.waiting_calls.get() - 1);
    }
}

impl Running {
    /// # Errors
    /// [`NoRoom`] when too many are under way.
    pub(super) fn enter(
        core: &Rc<Core>,
        ready: &Rc<Ready>,
        address: Option<&Rc<Local>>,
    ) -> Result<Self, NoRoom> {
        let (running, limit) = (core.running.get(), core.shared.running_max);
        // What cannot wait for calls leaves its place in time, unless calls are waiting for one now.
        let spares = ready.module.may_call() || core.waiting_calls.get() > 0;
        let limit = if spares { limit - reserved(limit, 0) } else { limit };
        if running >= limit {
            return Err(core.shared.shares.refuse(Kind::Invocations, Scope::Node));
        }
        core.callers.may_run(limit, running, &ready.tenant)?;
        if let Some(address) = address {
            core.callers.may_run(limit, running, address)?;
        }
        // The last check, as it takes what it finds.
        if let Some(places) = &ready.places {
            core.shared.shares.take_place(places, ready.function.concurrency)?;
        }
        Ok(Self::new(core, ready, address.cloned(), 0))
    }

    /// For a function that another one calls. Waits for a place where that other one cannot hold up who would leave one.
    ///
    /// # Errors
    /// [`NoRoom`] when too many are under way and no place is reserved for such a depth, and when the function itself has too
    /// many.
    pub(super) async fn enter_call(core: &Rc<Core>, ready: &Rc<Ready>, depth: u32) -> Result<Self, NoRoom> {
        let limit = core.shared.running_max;
        let has_reserve = reserved(limit, depth - 1) > 0;
        let limit = limit - reserved(limit, depth);
        loop {
            let running = core.running.get();
            if running < limit && core.callers.may_call(limit, running, &ready.tenant, depth) {
                if let Some(places) = &ready.places {
                    core.shared.shares.take_place(places, ready.function.concurrency)?;
                }
                return Ok(Self::new(core, ready, None, depth));
            }
            if !has_reserve {
                return Err(core.shared.shares.refuse(Kind::Invocations, Scope::Node));
            }
            let _waiting = Waiting::begin(core);
            core.place_left.notified().await;
        }
    }

    fn new(core: &Rc<Core>, ready: &Rc<Ready>, address: Option<Rc<Local>>, call_depth: u32) -> Self {
        let this = Self { core: Rc::clone(core), ready: Rc::clone(ready), address, call_depth };
        this.count(|running| running + 1);
        this
    }

    /// The namespace that it counts for.
    pub(super) fn party(&self) -> Arc<Party> {
        Arc::clone(&self.ready.tenant.party)
    }

    fn count(&self, change: impl Fn(usize) -> usize) {
        let running = change(self.core.running.get());
        self.core.running.set(running);
        self.core.counters.set_running(running);
        for local in std::iter::once(&self.ready.tenant).chain(&self.address) {
            local.set_running(change(local.running()));
        }
        self.ready.tenant.count_call(self.call_depth, change);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.count(|running| running - 1);
        if let Some(places) = &self.ready.places {
            places.leave();
        }
        if self.core.waiting_calls.get() > 0 {
            self.core.place_left.notify_waiters();
        }
    }
}
