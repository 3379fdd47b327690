//! What a core remembers, so that a warm request asks nobody: credentials by key, and functions with their loaded
//! code.
//!
//! The registry counts its changes, and the count moves before a change is acknowledged. A core that sees another
//! count than the one its memory belongs to forgets everything and asks again; so no core answers from before a
//! change that its client knows of.

use super::keeper::Kept;
use crate::auth::Known;
use orama_runtime::LoadedModule;
use orama_runtime::function::FunctionVersion;
use orama_runtime::names::Namespace;
use std::cell::Cell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Entries of each kind; at more, the memory starts anew. A function's entry is about 200 bytes beside what is shared.
const ENTRIES_MAX: usize = 16_384;

/// A function ready to run.
pub(super) struct Ready {
    pub(super) function: Arc<FunctionVersion>,
    pub(super) module: Arc<LoadedModule>,
    /// Guests that are ready for it.
    pub(super) kept: Rc<Kept>,
    /// The second in which the node's cache of loaded modules last heard that this one is in use.
    pub(super) noted_s: Cell<u64>,
    /// See [`Users`].
    pub(super) _user: Rc<Namespace>,
}

/// Who may act in a namespace on this core: everything that holds a function of it, from before that function was
/// looked up. So when nobody is left and the registry has none of its functions any more, nothing acts there again.
#[derive(Default)]
pub(super) struct Users {
    all: Vec<Weak<Namespace>>,
    /// Length at which those that are gone are taken out.
    prune_at: usize,
}

impl Users {
    pub(super) fn enter(&mut self, namespace: &Namespace) -> Rc<Namespace> {
        if self.all.len() >= self.prune_at {
            self.all.retain(|user| user.strong_count() > 0);
            self.prune_at = (2 * self.all.len()).max(64);
        }
        let user = Rc::new(namespace.clone());
        self.all.push(Rc::downgrade(&user));
        user
    }

    pub(super) fn is_in(&self, namespace: &Namespace) -> bool {
        self.all.iter().filter_map(Weak::upgrade).any(|user| *user == *namespace)
    }
}

#[derive(Default)]
pub(super) struct CoreCache {
    generation: u64,
    credentials: HashMap<[u8; 32], Known>,
    /// By namespace, then by the name as the path has it: `name` or `name@version`.
    functions: HashMap<Namespace, HashMap<Box<str>, Rc<Ready>>>,
    function_count: usize,
}

impl CoreCache {
    /// Forgets everything if the registry has changed; returns the count that what is looked up next belongs to.
    pub(super) fn refresh(&mut self, registry_generation: &AtomicU64) -> u64 {
        let now = registry_generation.load(Ordering::Acquire);
        if now != self.generation {
            *self = Self { generation: now, ..Self::default() };
        }
        now
    }

    pub(super) fn credential(&self, key_hash: &[u8; 32]) -> Option<&Known> {
        self.credentials.get(key_hash)
    }

    pub(super) fn function(&self, namespace: &Namespace, path_name: &str) -> Option<&Rc<Ready>> {
        self.functions.get(namespace)?.get(path_name)
    }

    /// Keeps a credential that was looked up when the registry's count was `generation`.
    pub(super) fn keep_credential(&mut self, generation: u64, key_hash: [u8; 32], known: Known) {
        if generation == self.generation {
            if self.credentials.len() >= ENTRIES_MAX {
                self.credentials.clear();
            }
            self.credentials.insert(key_hash, known);
        }
    }

    /// Keeps a function that was looked up when the registry's count was `generation`.
    pub(super) fn keep_function(&mut self, generation: u64, path_name: &str, ready: Rc<Ready>) {
        if generation == self.generation {
            if self.function_count >= ENTRIES_MAX {
                self.functions.clear();
                self.function_count = 0;
            }
            self.function_count += 1;
            let namespace = ready.function.namespace.clone();
            self.functions.entry(namespace).or_default().insert(path_name.into(), ready);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Credential, Role};

    fn credential() -> Known {
        let namespace = Namespace::new("default").unwrap();
        let credential = Credential { namespace, role: Role::Admin, key_id: "k".to_owned(), caller: None };
        Known { credential: Arc::new(credential), expires_s: u64::MAX }
    }

    #[test]
    fn a_change_of_the_registry_empties_the_memory() {
        let registry = AtomicU64::new(0);
        let mut cache = CoreCache::default();
        let generation = cache.refresh(&registry);
        cache.keep_credential(generation, [1; 32], credential());
        cache.refresh(&registry);
        assert!(cache.credential(&[1; 32]).is_some());
        registry.fetch_add(1, Ordering::Release);
        cache.refresh(&registry);
        assert!(cache.credential(&[1; 32]).is_none());
    }

    #[test]
    fn what_was_looked_up_before_a_change_is_not_kept() {
        let registry = AtomicU64::new(0);
        let mut cache = CoreCache::default();
        let before = cache.refresh(&registry);
        registry.fetch_add(1, Ordering::Release);
        cache.refresh(&registry);
        cache.keep_credential(before, [1; 32], credential());
        assert!(cache.credential(&[1; 32]).is_none());
    }

    #[test]
    fn a_namespace_is_used_for_as_long_as_someone_holds_it() {
        let (a, b) = (Namespace::new("a").unwrap(), Namespace::new("b").unwrap());
        let mut users = Users::default();
        let kept = users.enter(&a);
        for _ in 0..1000 {
            users.enter(&b);
        }
        assert!(users.is_in(&a) && !users.is_in(&b));
        assert!(users.all.len() < 200, "those that are gone are taken out");
        drop(kept);
        assert!(!users.is_in(&a));
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut cache = CoreCache::default();
        for n in 0..=ENTRIES_MAX as u64 {
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&n.to_le_bytes());
            cache.keep_credential(0, hash, credential());
        }
        assert_eq!(cache.credentials.len(), 1);
    }
}
