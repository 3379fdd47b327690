//! How many invocations of one function are under way, for functions that bound it (`concurrency` of `function.yaml`).
//!
//! One number for each such function, which all cores change: a limit of 1 cannot be divided among cores. It belongs to that
//! function alone and stands in a cache line of its own, so functions without a limit, and each other's, do not meet there.

use super::{Kind, NoRoom, Scope, Shares};
use orama_runtime::names::{FunctionName, Namespace};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

/// The places of one function on this node, all of its versions together.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Places {
    taken: AtomicU32,
}

impl Places {
    /// Gives a place back that [`Shares::take_place`] gave.
    pub(crate) fn leave(&self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The functions that bound their invocations and that somebody knows now.
#[derive(Debug, Default)]
pub(super) struct Functions {
    known: HashMap<(Namespace, FunctionName), Weak<Places>>,
    /// Count of them at which those that nobody knows any more are taken out.
    prune_at: usize,
}

impl Functions {
    fn places(&mut self, namespace: &Namespace, name: &FunctionName) -> Arc<Places> {
        let key = (namespace.clone(), name.clone());
        if let Some(places) = self.known.get(&key).and_then(Weak::upgrade) {
            return places;
        }
        if self.known.len() >= self.prune_at {
            self.known.retain(|_, places| places.strong_count() > 0);
            self.prune_at = (2 * self.known.len()).max(64);
        }
        let places = Arc::new(Places::default());
        self.known.insert(key, Arc::downgrade(&places));
        places
    }
}

impl Shares {
    /// The places of a function. Whoever runs it holds them, so all get the same as long as one invocation is under way.
    pub(crate) fn places(&self, namespace: &Namespace, name: &FunctionName) -> Arc<Places> {
        self.functions.lock().places(namespace, name)
    }

    /// Takes one of at most `limit` places.
    ///
    /// # Errors
    /// [`NoRoom`], which is counted.
    pub(crate) fn take_place(&self, places: &Places, limit: u32) -> Result<(), NoRoom> {
        if places.taken.fetch_add(1, Ordering::Relaxed) < limit {
            return Ok(());
        }
        places.leave();
        Err(self.refuse(Kind::Invocations, Scope::Function))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shares::{KINDS, Limits, Rates};

    fn shares() -> Arc<Shares> {
        Shares::new(Limits { of_node: [16; KINDS.len()], namespace_percent: 50 }, Rates::default())
    }

    fn names(namespace: &str, name: &str) -> (Namespace, FunctionName) {
        (Namespace::new(namespace).unwrap(), FunctionName::new(name).unwrap())
    }

    #[test]
    fn a_function_has_so_many_places_whoever_asks() {
        let shares = shares();
        let (shop, cart) = names("shop", "cart");
        let [one, other] = [(); 2].map(|()| shares.places(&shop, &cart));
        shares.take_place(&one, 2).unwrap();
        shares.take_place(&other, 2).unwrap();
        assert_eq!(shares.take_place(&one, 2).map_err(|refused| refused.scope), Err(Scope::Function));
        assert_eq!(shares.refused(Kind::Invocations, Scope::Function), 1);
        other.leave();
        shares.take_place(&one, 2).unwrap();
        let (_, pay) = names("shop", "pay");
        shares.take_place(&shares.places(&shop, &pay), 1).unwrap();
        let (blog, _) = names("blog", "cart");
        shares.take_place(&shares.places(&blog, &cart), 1).unwrap();
    }

    #[test]
    fn many_threads_never_have_more_places_than_there_are() {
        let shares = shares();
        let (shop, cart) = names("shop", "cart");
        let (most, inside) = (AtomicU32::new(0), AtomicU32::new(0));
        let run = || {
            let places = shares.places(&shop, &cart);
            for _ in 0..10_000 {
                if shares.take_place(&places, 3).is_ok() {
                    most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    inside.fetch_sub(1, Ordering::SeqCst);
                    places.leave();
                }
            }
        };
        std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(run))));
        assert!((1..=3).contains(&most.into_inner()));
        assert_eq!(shares.places(&shop, &cart).taken.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_nobody_knows_any_more_takes_no_room() {
        let shares = shares();
        for number in 0..1000 {
            let (shop, name) = names("shop", &format!("f{number}"));
            drop(shares.places(&shop, &name));
        }
        assert!(shares.functions.lock().known.len() <= 64);
    }
}
