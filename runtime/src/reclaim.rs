//! The reclaim thread: it drops large guests, so that their cores need not.
//!
//! A guest that has touched 250 MB takes 12 to 45 ms to drop, and whoever else runs on its core would wait.

use crate::guest::GuestState;
use crate::limits::{RECLAIM_FROM_BYTES, RECLAIM_QUEUE};
use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use wasmtime::Store;

/// The process's thread that drops large guests. It is not the engine's, because a guest would have to count its references,
/// which all cores share.
static RECLAIMER: OnceLock<Reclaimer> = OnceLock::new();

const IDLE_LOOK_EVERY: Duration = Duration::from_micros(200);

/// Serving threads have priority when both want a core.
const RECLAIM_NICENESS: i32 = 10;

struct Reclaimer {
    queue: SyncSender<Store<GuestState>>,
    /// Guests that were handed over and still have their slot.
    pending: Arc<AtomicUsize>,
}

/// Starts the thread if there is none.
///
/// # Errors
/// When the system gives no thread.
pub(crate) fn start() -> io::Result<()> {
    if RECLAIMER.get().is_none() {
        // Where two engines start at once, the thread of one of them ends with its queue.
        let _ = RECLAIMER.set(Reclaimer::start()?);
    }
    Ok(())
}

/// Whether large guests are about to give their slots back.
pub(crate) fn is_busy() -> bool {
    RECLAIMER.get().is_some_and(|reclaimer| reclaimer.pending.load(Ordering::Acquire) > 0)
}

/// Waits until large guests have given their slots back. Blocks, for tens of milliseconds.
///
/// A process with bounds on its memory runs guests one after the other. The next one may not fit beside the last.
pub(crate) fn wait_until_idle() {
    while is_busy() {
        std::thread::sleep(IDLE_LOOK_EVERY);
    }
}

impl Reclaimer {
    fn start() -> io::Result<Self> {
        let (queue, guests) = mpsc::sync_channel(RECLAIM_QUEUE);
        let pending = Arc::new(AtomicUsize::new(0));
        let dropped = Arc::clone(&pending);
        std::thread::Builder::new().name("reclaim".to_owned()).spawn(move || {
            // Only a sandbox refuses this. The thread then takes as much of a core as those that serve.
            let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), RECLAIM_NICENESS);
            for guest in guests {
                drop::<Store<GuestState>>(guest);
                dropped.fetch_sub(1, Ordering::AcqRel);
            }
        })?;
        Ok(Self { queue, pending })
    }

    /// Drops a guest on the thread, and here if the queue is full.
    fn take(&self, guest: Store<GuestState>) {
        self.pending.fetch_add(1, Ordering::AcqRel);
        if self.queue.try_send(guest).is_err() {
            // The error has dropped it.
            self.pending.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// A guest's store. A large one is dropped by the [`Reclaimer`].
///
/// Its store is `None` only while it is dropped.
pub(crate) struct GuestStore(Option<Store<GuestState>>);

impl GuestStore {
    pub(crate) fn new(store: Store<GuestState>) -> Self {
        Self(Some(store))
    }
}

impl Deref for GuestStore {
    type Target = Store<GuestState>;

    fn deref(&self) -> &Self::Target {
        match &self.0 {
            Some(store) => store,
            None => unreachable!("the store is there until it is dropped"),
        }
    }
}

impl DerefMut for GuestStore {
    fn deref_mut(&mut self) -> &mut Self::Target {
        match &mut self.0 {
            Some(store) => store,
            None => unreachable!("the store is there until it is dropped"),
        }
    }
}

impl Drop for GuestStore {
    fn drop(&mut self) {
        let Some(store) = self.0.take() else { return };
        let bytes = store.data().memory.map_or(0, |memory| memory.data_size(&store));
        if bytes >= RECLAIM_FROM_BYTES
            && let Some(reclaimer) = RECLAIMER.get()
        {
            reclaimer.take(store);
        }
    }
}
