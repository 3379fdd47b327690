//! Fair rotation: keys take turns, the items of a key go in order, and each key has a bounded number of items at work.
//!
//! The dispatcher of events and the queue of compilations use it. A core's scheduler does not: it is on the hot path, waits by
//! wakers, and prefers guests that have not waited yet.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Items that wait, and how many of each key are at work.
pub(crate) struct Rotation<K, T> {
    keys: HashMap<K, Flow<T>>,
    /// Keys with an item that may be next, each once.
    order: VecDeque<K>,
    /// Items of one key at work at once.
    at_once: usize,
}

struct Flow<T> {
    items: VecDeque<T>,
    at_work: usize,
    is_in_order: bool,
}

impl<K: Hash + Eq + Clone, T> Rotation<K, T> {
    /// An empty rotation that has at most `at_once` items of a key at work.
    pub(crate) fn new(at_once: usize) -> Self {
        Self { keys: HashMap::new(), order: VecDeque::new(), at_once }
    }

    /// Adds an item behind those of its key.
    pub(crate) fn push(&mut self, key: &K, item: T) {
        let new = || Flow { items: VecDeque::new(), at_work: 0, is_in_order: false };
        self.keys.entry(key.clone()).or_insert_with(new).items.push_back(item);
        self.put_in_order(key);
    }

    /// The next item, which is at work from now until [`Self::done`].
    pub(crate) fn next(&mut self) -> Option<(K, T)> {
        loop {
            let key = self.order.pop_front()?;
            let Some(flow) = self.keys.get_mut(&key) else { continue };
            flow.is_in_order = false;
            let Some(item) = flow.items.pop_front() else { continue };
            flow.at_work += 1;
            self.put_in_order(&key);
            return Some((key, item));
        }
    }

    /// An item of a key is not at work any more.
    pub(crate) fn done(&mut self, key: &K) {
        if let Some(flow) = self.keys.get_mut(key) {
            flow.at_work = flow.at_work.saturating_sub(1);
            self.put_in_order(key);
        }
    }

    fn put_in_order(&mut self, key: &K) {
        let Some(flow) = self.keys.get_mut(key) else { return };
        if flow.items.is_empty() {
            if flow.at_work == 0 {
                self.keys.remove(key);
            }
        } else if !flow.is_in_order && flow.at_work < self.at_once {
            flow.is_in_order = true;
            self.order.push_back(key.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_take_turns_however_many_items_one_of_them_has() {
        let mut rotation = Rotation::new(usize::MAX);
        for item in 0..3 {
            rotation.push(&"flood", item);
        }
        rotation.push(&"calm", 10);
        let order: Vec<_> = std::iter::from_fn(|| rotation.next()).collect();
        assert_eq!(order, [("flood", 0), ("calm", 10), ("flood", 1), ("flood", 2)]);
    }

    #[test]
    fn a_key_with_its_share_at_work_waits_and_leaves_no_trace_when_it_is_done() {
        let mut rotation = Rotation::new(2);
        for item in 0..4 {
            rotation.push(&"a", item);
        }
        rotation.push(&"b", 10);
        assert_eq!(rotation.next(), Some(("a", 0)));
        assert_eq!(rotation.next(), Some(("b", 10)));
        assert_eq!(rotation.next(), Some(("a", 1)));
        assert_eq!(rotation.next(), None, "two of its items are at work");
        rotation.done(&"a");
        assert_eq!(rotation.next(), Some(("a", 2)));
        for key in ["a", "a", "b"] {
            rotation.done(&key);
        }
        assert_eq!(rotation.next(), Some(("a", 3)));
        rotation.done(&"a");
        assert!(rotation.keys.is_empty() && rotation.order.is_empty());
    }
}
