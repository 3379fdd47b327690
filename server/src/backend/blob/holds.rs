//! What keeps a blob from being removed while somebody is about to name it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many times each blob of a store is held. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Holds(Arc<Mutex<HashMap<String, usize>>>);

/// Keeps a blob from being removed for as long as it lives. The blob need not be there yet.
#[derive(Debug)]
pub struct Hold {
    holds: Holds,
    cid: String,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut holds = self.holds.lock();
        if let Some(count) = holds.get_mut(&self.cid) {
            *count -= 1;
            if *count == 0 {
                holds.remove(&self.cid);
            }
        }
    }
}

impl Holds {
    /// Holds a blob: until the hold is dropped, [`Self::unless_held`] does nothing for it. Waits for one that runs.
    #[must_use]
    pub fn hold(&self, cid: &str) -> Hold {
        *self.lock().entry(cid.to_owned()).or_insert(0) += 1;
        Hold { holds: self.clone(), cid: cid.to_owned() }
    }

    /// Runs `work`, which may remove the blob, unless it is held; nobody can take a hold meanwhile. `None` when it is
    /// held. `work` should take milliseconds.
    pub fn unless_held<T>(&self, cid: &str, work: impl FnOnce() -> T) -> Option<T> {
        let holds = self.lock();
        if holds.contains_key(cid) { None } else { Some(work()) }
    }

    // Nothing that can panic leaves the counts half changed.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    }
}
