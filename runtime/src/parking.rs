//! Guests that have started and wait for an invocation: everything up to the first call in which they could see, or
//! show, anything of a request is behind them.
//!
//! The calls that a start may make are those on the clock that only runs, on randomness, arguments, environment and
//! on descriptors without touching what flows through them. Every other host function begins with [`arrive`].

use crate::engine::Engine;
use crate::function::FunctionVersion;
use crate::guest::GuestState;
use crate::instance::{Ended, SLICE_TICKS, finish, start};
use crate::invocation::{Failure, Invocation};
use crate::module::LoadedModule;
use crate::services::Host;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};
use wasmtime::{AsContextMut, Caller, Store};

/// Where a guest that starts waits, and where it is given what it is to do.
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
    /// Only one thread at a time has a guest, so the lock is always free.
    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The size of its memory when it waits.
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

/// Waits until there is an invocation; at once for a guest that was started for one.
pub(crate) async fn arrive(caller: &mut Caller<'_, GuestState>) {
    let Some(slot) = caller.data_mut().slot.take() else { return };
    let memory_bytes = caller.data().memory.map_or(0, |memory| memory.data_size(&*caller));
    *slot.stage() = Stage::Waiting { memory_bytes };
    let invocation = poll_fn(|_| slot.poll_given()).await;
    caller.data_mut().begin(invocation);
    // The slice that it had is long over.
    caller.as_context_mut().set_epoch_deadline(SLICE_TICKS);
}

type Guest = Pin<Box<dyn Future<Output = (Store<GuestState>, wasmtime::Result<()>)> + Send>>;

/// A guest that waits for its one invocation. May be moved to another thread; dropping it ends the guest.
pub struct Parked {
    guest: Guest,
    slot: Arc<Slot>,
    start_time: Duration,
    memory_bytes: usize,
}

/// Why a guest does not wait for an invocation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotParked {
    /// It ended by itself before it could see a request.
    #[error("it ends without having looked at its input")]
    Ended,
    /// It failed. [`Failure::Overloaded`] and [`Failure::Internal`] are the node's doing, all others the guest's.
    #[error("its start fails: {0}")]
    Failed(Failure),
}

impl NotParked {
    /// Whether another try would end as this one did.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        !matches!(self, Self::Failed(Failure::Overloaded | Failure::Internal(_)))
    }
}

impl Engine {
    /// Starts a guest of a function up to where it waits for an invocation. It gives way to others as in
    /// [`Engine::run`], and has as much time and memory for it as an invocation.
    ///
    /// # Errors
    /// [`NotParked`], when it ended instead.
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
            let ended = start(&module, &mut store).await;
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
    /// Time on the thread that its start took.
    #[must_use]
    pub fn start_time(&self) -> Duration {
        self.start_time
    }

    /// Size of its linear memory; what it touched of it is less.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// Gives the guest its invocation, which begins now; as [`Engine::run`] from here on.
    pub async fn run(self, invocation: Invocation) -> Ended {
        *self.slot.stage() = Stage::Given(invocation);
        let (store, ended) = self.guest.await;
        finish(store, ended)
    }
}

#[cfg(test)]
mod tests;
