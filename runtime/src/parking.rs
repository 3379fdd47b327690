//! Parked guests: they have started and wait for an invocation at the first call that could see or show part of a request.
//!
//! Before that, a guest may only call functions of the start-up set: the monotonic clock, randomness, arguments, environment, and
//! descriptors as long as no data flows through them. Every other host function waits in [`arrive`]; the constructors in
//! `call` see to it.

use crate::engine::Engine;
use crate::function::FunctionVersion;
use crate::guest::{Arrival, GuestState, Stop};
use crate::instance::{Ended, SLICE_TICKS, finish, start};
use crate::invocation::{Failure, Invocation};
use crate::module::LoadedModule;
use crate::reclaim::GuestStore;
use crate::services::Host;
use parking_lot::{Mutex, MutexGuard};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};
use wasmtime::{AsContextMut, Caller};

/// Hands the invocation over to a guest that waits for it.
#[derive(Default)]
pub(crate) struct Slot(Mutex<Stage>);

#[derive(Default)]
enum Stage {
    #[default]
    Starting,
    Waiting {
        memory_bytes: usize,
    },
    Given(Invocation),
}

impl Slot {
    /// Only one thread at a time owns a guest, so the lock is always free.
    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.0.lock()
    }

    /// The size of the guest's memory if it waits.
    fn waiting(&self) -> Option<usize> {
        match *self.stage() {
            Stage::Waiting { memory_bytes } => Some(memory_bytes),
            Stage::Starting | Stage::Given(_) => None,
        }
    }

    fn poll_given(&self) -> Poll<Invocation> {
        let mut stage = self.stage();
        match std::mem::take(&mut *stage) {
            Stage::Given(invocation) => Poll::Ready(invocation),
            other => {
                *stage = other;
                Poll::Pending
            }
        }
    }
}

/// Waits for the invocation. Returns at once for a guest that was started for one.
///
/// # Errors
/// [`Stop::Snapshot`] where the guest runs for a snapshot.
pub(crate) async fn arrive(caller: &mut Caller<'_, GuestState>) -> Result<(), Stop> {
    let slot = match caller.data_mut().arrival.take() {
        None => return Ok(()),
        Some(Arrival::Snapshot) => return Err(Stop::Snapshot),
        Some(Arrival::Parked(slot)) => slot,
    };
    let memory_bytes = caller.data().memory.map_or(0, |memory| memory.data_size(&*caller));
    *slot.stage() = Stage::Waiting { memory_bytes };
    let invocation = poll_fn(|_| slot.poll_given()).await;
    caller.data_mut().begin(invocation);
    // The slice of the start has expired.
    caller.as_context_mut().set_epoch_deadline(SLICE_TICKS);
    Ok(())
}

type Guest = Pin<Box<dyn Future<Output = (GuestStore, wasmtime::Result<()>)> + Send>>;

/// A guest that waits for its only invocation. It may move to another thread. Dropping it ends the guest.
pub struct Parked {
    guest: Guest,
    slot: Arc<Slot>,
    start_time: Duration,
    memory_bytes: usize,
}

/// Why a guest could not be parked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotParked {
    /// It ended before it could see a request.
    #[error("the function ends without reading its input")]
    Ended,
    /// It failed. [`Failure::Overloaded`] and [`Failure::Internal`] are the node's fault, all others the guest's.
    #[error("the function fails during its start: {0}")]
    Failed(#[source] Failure),
}

impl NotParked {
    /// Whether another attempt would end the same way.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        !matches!(self, Self::Failed(Failure::Overloaded | Failure::Internal(_)))
    }
}

impl Engine {
    /// Starts a guest and runs it until it waits for its invocation. The guest yields as in [`Engine::run`], and its start has
    /// the timeout and the memory limit of an invocation.
    ///
    /// # Errors
    /// [`NotParked`] when the guest ended instead.
    pub async fn park(
        &self,
        module: &Arc<LoadedModule>,
        function: &Arc<FunctionVersion>,
        host: &Arc<Host>,
    ) -> Result<Parked, NotParked> {
        let slot = Arc::new(Slot::default());
        let state = GuestState::starting(Arc::clone(function), Arc::clone(host), Arc::clone(&slot));
        let (mut store, module) = (self.store(state), Arc::clone(module));
        let mut guest: Guest = Box::pin(async move {
            let ended = start(&module, None, &mut store).await;
            (store, ended)
        });
        let mut start_time = Duration::ZERO;
        let parked = poll_fn(|context| {
            let begun = Instant::now();
            let polled = guest.as_mut().poll(context);
            start_time += begun.elapsed();
            match (polled, slot.waiting()) {
                (Poll::Ready((store, ended)), _) => Poll::Ready(Err(finish(store, ended))),
                (Poll::Pending, Some(memory_bytes)) => Poll::Ready(Ok(memory_bytes)),
                (Poll::Pending, None) => Poll::Pending,
            }
        })
        .await;
        match parked {
            Ok(memory_bytes) => Ok(Parked { guest, slot, start_time, memory_bytes }),
            Err(ended) => Err(match ended.outcome.result {
                Ok(()) => NotParked::Ended,
                Err(failure) => NotParked::Failed(failure),
            }),
        }
    }
}

impl Parked {
    /// Time that the guest's start took on the thread.
    #[must_use]
    pub fn start_time(&self) -> Duration {
        self.start_time
    }

    /// Size of the guest's linear memory. The part that it has touched is smaller.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// Gives the guest its invocation, which begins now, and runs it like [`Engine::run`].
    pub async fn run(self, invocation: Invocation) -> Ended {
        *self.slot.stage() = Stage::Given(invocation);
        let (store, ended) = self.guest.await;
        finish(store, ended)
    }
}

#[cfg(test)]
mod tests;
