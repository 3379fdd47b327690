//! Holds, which keep a blob from being removed before the registry names it.

use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

/// The held blobs of a store, and those being removed. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Holds(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    used: Mutex<HashMap<String, Use>>,
    removed: Condvar,
}

#[derive(Debug)]
enum Use {
    /// Number of holds.
    Held(usize),
    Removing,
}

/// Keeps a blob from being removed until it is dropped. The blob need not exist yet.
#[derive(Debug)]
pub struct Hold {
    holds: Holds,
    cid: String,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut used = self.holds.0.used.lock();
        if let Some(Use::Held(count)) = used.get_mut(&self.cid) {
            *count -= 1;
            if *count == 0 {
                used.remove(&self.cid);
            }
        }
    }
}

/// A removal in progress.
struct Removing<'a>(&'a Holds, &'a str);

impl Drop for Removing<'_> {
    fn drop(&mut self) {
        self.0.0.used.lock().remove(self.1);
        self.0.0.removed.notify_all();
    }
}

impl Holds {
    /// Holds a blob: until the hold is dropped, [`Self::unless_held`] does nothing for it. Waits for a removal in progress.
    /// Blocks.
    #[must_use]
    pub fn hold(&self, cid: &str) -> Hold {
        let mut used = self.lock_unless_removing(cid);
        if let Use::Held(count) = used.entry(cid.to_owned()).or_insert(Use::Held(0)) {
            *count += 1;
        }
        Hold { holds: self.clone(), cid: cid.to_owned() }
    }

    /// Runs `work`, which may remove the blob, unless the blob is held. No hold can be taken meanwhile, and only one call runs
    /// for each blob. `None` if it is held. Blocks.
    pub fn unless_held<T>(&self, cid: &str, work: impl FnOnce() -> T) -> Option<T> {
        match self.lock_unless_removing(cid).entry(cid.to_owned()) {
            Entry::Occupied(_) => return None,
            Entry::Vacant(entry) => entry.insert(Use::Removing),
        };
        let _removing = Removing(self, cid);
        Some(work())
    }

    fn lock_unless_removing(&self, cid: &str) -> MutexGuard<'_, HashMap<String, Use>> {
        let is_removed = |used: &mut HashMap<String, Use>| matches!(used.get(cid), Some(Use::Removing));
        let mut used = self.0.used.lock();
        self.0.removed.wait_while(&mut used, is_removed);
        used
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn what_is_held_is_not_removed() {
        let holds = Holds::default();
        let (first, second) = (holds.hold("a"), holds.clone().hold("a"));
        let remove = || holds.unless_held("a", || true);
        assert_eq!(remove(), None);
        assert_eq!(holds.unless_held("b", || true), Some(true), "another one is free");
        drop(first);
        assert_eq!(remove(), None);
        drop(second);
        assert_eq!(remove(), Some(true));
        assert!(holds.0.used.lock().is_empty());
    }

    #[test]
    fn a_slow_removal_holds_up_those_alone_who_want_the_same() {
        let holds = Holds::default();
        let (begun, has_begun) = mpsc::channel();
        let (end, ends) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            let removing = &holds;
            scope.spawn(move || {
                removing.unless_held("a", || {
                    begun.send(()).unwrap();
                    ends.recv().unwrap();
                })
            });
            has_begun.recv().unwrap();
            drop(holds.hold("b"));
            assert_eq!(holds.unless_held("c", || true), Some(true));
            let (held, is_held) = mpsc::channel();
            scope.spawn({
                let holds = &holds;
                move || {
                    let hold = holds.hold("a");
                    held.send(()).unwrap();
                    hold
                }
            });
            assert!(is_held.recv_timeout(Duration::from_millis(50)).is_err());
            end.send(()).unwrap();
            is_held.recv().unwrap();
        });
        assert!(holds.0.used.lock().is_empty());
    }
}
