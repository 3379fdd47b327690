//! A free list that threads share without meeting at one lock: each has a part of its own, and looks into the others' only when
//! its own is empty.

use parking_lot::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Parts of a list. Threads beyond so many share one.
const SHARDS: usize = 32;

static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static HOME: usize = THREADS.fetch_add(1, Ordering::Relaxed) % SHARDS;
}

/// Keeps the locks of two threads out of one cache line.
#[repr(align(128))]
struct Shard<T>(Mutex<Vec<T>>);

/// The list.
pub(crate) struct Shards<T>(Box<[Shard<T>]>);

impl<T> Default for Shards<T> {
    fn default() -> Self {
        Self((0..SHARDS).map(|_| Shard(Mutex::default())).collect())
    }
}

impl<T> Shards<T> {
    fn home(&self) -> &Shard<T> {
        &self.0[HOME.with(|home| *home)]
    }

    /// Adds an item to this thread's part.
    pub(crate) fn give(&self, item: T) {
        self.home().0.lock().push(item);
    }

    /// The item that this thread gave last among those that fit.
    pub(crate) fn take(&self, fits: impl Fn(&T) -> bool) -> Option<T> {
        let mut items = self.home().0.lock();
        items.iter().rposition(fits).map(|at| items.remove(at))
    }

    /// The item that was given first: this thread's, or another's if it has none.
    pub(crate) fn take_oldest(&self) -> Option<T> {
        let others = self.0.iter();
        std::iter::once(self.home()).chain(others).find_map(|shard| {
            let mut items = shard.0.lock();
            (!items.is_empty()).then(|| items.remove(0))
        })
    }

    /// The number of items of all threads.
    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(|shard| shard.0.lock().len()).sum()
    }

    /// The number of items of this thread.
    pub(crate) fn len_here(&self) -> usize {
        self.home().0.lock().len()
    }

    /// Calls `change` with each item of all threads, and keeps those for which it returns true.
    pub(crate) fn retain(&self, mut change: impl FnMut(&mut T) -> bool) {
        for shard in &self.0 {
            shard.0.lock().retain_mut(&mut change);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_takes_what_fits_of_its_own_and_then_the_oldest_of_all() {
        let shards = Shards::default();
        for item in [1, 2, 3, 4] {
            shards.give(item);
        }
        assert_eq!(shards.take(|item| item % 2 == 1), Some(3));
        assert_eq!(shards.take(|item| *item > 4), None);
        let (here, elsewhere) = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                shards.give(9);
                (shards.take(|item| *item == 4), shards.take_oldest(), shards.take_oldest())
            });
            let (fitting, first, second) = thread.join().unwrap();
            ((first, second), fitting)
        });
        assert_eq!(elsewhere, None, "an item of another thread was searched");
        assert_eq!(here, (Some(9), Some(1)));
        assert_eq!(shards.len(), 2);
        shards.retain(|item| {
            *item += 10;
            *item > 12
        });
        assert_eq!((shards.take_oldest(), shards.take_oldest()), (Some(14), None));
    }
}
