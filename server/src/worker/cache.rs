//! What a core remembers, so that a warm request asks nobody: credentials by key, and functions with their loaded
//! code.
//!
//! The registry counts its changes, and the count moves before a change is acknowledged. A core that sees another
//! count than the one its memory belongs to forgets everything and asks again; so no core answers from before a
//! change that its client knows of. What was not used for longest goes where there is too much, and code goes when the
//! node threw it out ([`orama_platform::modules`]).

use super::callers::{Identity, Local};
use super::cors::Cors;
use super::keeper::Kept;
use crate::credentials::CredentialMemory;
use crate::error::ApiError;
use crate::limits::CREDENTIALS_KNOWN_MAX;
use crate::shares::Places;
use hashlink::linked_hash_map::RawEntryMut;
use hashlink::{LinkedHashMap, LruCache};
use orama_platform::records;
use orama_platform::registry::Traffic;
use orama_runtime::LoadedModule;
use orama_runtime::function::{FunctionVersion, WasmHash};
use orama_runtime::names::Namespace;
use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

/// Functions that a core caches. An entry is about 400 bytes beside what is shared.
const ENTRIES_MAX: usize = 16_384;
/// Names that a core remembers as unknown functions, at most some hundred bytes each.
const UNKNOWN_MAX: usize = 4_096;
/// Functions whose `cors` a core remembers without their code, a few hundred bytes each beside what is shared.
const CORS_MAX: usize = 4_096;

/// A function ready to run.
pub(super) struct Ready {
    pub(super) function: Arc<FunctionVersion>,
    /// Names it in records.
    pub(super) recorded: Arc<records::Function>,
    pub(super) module: Arc<LoadedModule>,
    /// Guests that are ready for it.
    pub(super) kept: Rc<Kept>,
    /// The age ([`orama_platform::modules::Modules::age`]) in which the node last heard that this code is in use.
    pub(super) noted_at: Cell<u64>,
    /// Its namespace, for which its invocations count.
    pub(super) tenant: Rc<Local>,
    /// Which pages of other origins may call it.
    pub(super) cors: Option<Arc<Cors>>,
    /// Where its invocations on all cores are counted, if it bounds them.
    pub(super) places: Option<Arc<Places>>,
    /// How its calls are spread over versions, where they are and it was asked for by its name alone.
    pub(super) traffic: Option<Arc<Traffic>>,
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

/// A function as its callers name it.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    namespace: Namespace,
    /// As the path has it: `name`, `name@version` or `name@alias`.
    path_name: Box<str>,
}

pub(super) struct CoreCache {
    generation: u64,
    pub(super) credentials: CredentialMemory<Identity>,
    /// Functions that a recent lookup did not find, each with the moment until which that is remembered.
    unknown_functions: LruCache<Key, (Instant, ApiError)>,
    cors: LruCache<Key, Option<Arc<Cors>>>,
    /// The one not used for longest comes first.
    functions: LinkedHashMap<Rc<Key>, Rc<Ready>>,
    /// Which functions have which code.
    by_code: HashMap<WasmHash, HashSet<Rc<Key>>>,
}

impl Default for CoreCache {
    fn default() -> Self {
        Self {
            generation: 0,
            credentials: CredentialMemory::new(CREDENTIALS_KNOWN_MAX),
            unknown_functions: LruCache::new(UNKNOWN_MAX),
            cors: LruCache::new(CORS_MAX),
            functions: LinkedHashMap::new(),
            by_code: HashMap::new(),
        }
    }
}

impl CoreCache {
    /// Forgets everything if the registry has changed; returns the count that what is looked up next belongs to.
    pub(super) fn refresh(&mut self, registry_generation: &AtomicU64) -> u64 {
        let now = self.credentials.refresh(registry_generation);
        if now != self.generation {
            self.generation = now;
            self.unknown_functions.clear();
            self.cors.clear();
            self.functions.clear();
            self.by_code.clear();
        }
        now
    }

    /// Why there was no such function a moment ago.
    pub(super) fn unknown_function(
        &mut self,
        namespace: &Namespace,
        path_name: &str,
        now: Instant,
    ) -> Option<ApiError> {
        if self.unknown_functions.is_empty() {
            return None;
        }
        let key = Key { namespace: namespace.clone(), path_name: path_name.into() };
        let (until, error) = self.unknown_functions.get(&key)?;
        (now < *until).then(|| error.clone())
    }

    /// Keeps that there was no such function when the registry's count was `generation`.
    pub(super) fn keep_unknown_function(
        &mut self,
        generation: u64,
        (namespace, path_name): (&Namespace, &str),
        error: ApiError,
        until: Instant,
    ) {
        if generation == self.generation {
            let key = Key { namespace: namespace.clone(), path_name: path_name.into() };
            self.unknown_functions.insert(key, (until, error));
        }
    }

    /// The `cors` that holds for a function, as far as it was looked up without the function's code.
    pub(super) fn cors(&mut self, namespace: &Namespace, path_name: &str) -> Option<Option<Arc<Cors>>> {
        let key = Key { namespace: namespace.clone(), path_name: path_name.into() };
        self.cors.get(&key).cloned()
    }

    /// Keeps the `cors` that held for a function when the registry's count was `generation`.
    pub(super) fn keep_cors(
        &mut self,
        generation: u64,
        (namespace, path_name): (&Namespace, &str),
        cors: Option<Arc<Cors>>,
    ) {
        if generation == self.generation {
            self.cors.insert(Key { namespace: namespace.clone(), path_name: path_name.into() }, cors);
        }
    }

    pub(super) fn function(&mut self, namespace: &Namespace, path_name: &str) -> Option<&Rc<Ready>> {
        // As `Key` is hashed, without making one.
        let hash = self.functions.hasher().hash_one((namespace, path_name));
        let found = self
            .functions
            .raw_entry_mut()
            .from_hash(hash, |key| key.namespace == *namespace && *key.path_name == *path_name);
        match found {
            RawEntryMut::Occupied(mut entry) => {
                entry.to_back();
                Some(entry.into_mut())
            }
            RawEntryMut::Vacant(_) => None,
        }
    }

    /// Keeps a function that was looked up when the registry's count was `generation`.
    pub(super) fn keep_function(&mut self, generation: u64, path_name: &str, ready: Rc<Ready>) {
        if generation != self.generation {
            return;
        }
        let key = Rc::new(Key { namespace: ready.function.namespace.clone(), path_name: path_name.into() });
        let code = ready.function.wasm_hash;
        if let Some(before) = self.functions.insert(Rc::clone(&key), ready) {
            self.forget_code(&key, &before);
        }
        self.by_code.entry(code).or_default().insert(key);
        if self.functions.len() > ENTRIES_MAX
            && let Some((key, ready)) = self.functions.pop_front()
        {
            self.forget_code(&key, &ready);
        }
    }

    /// Forgets the functions that have this code; returns them.
    pub(super) fn remove_code(&mut self, hashes: &[WasmHash]) -> Vec<Rc<Ready>> {
        let keys = hashes.iter().filter_map(|hash| self.by_code.remove(hash)).flatten();
        keys.filter_map(|key| self.functions.remove(&key)).collect()
    }

    /// Forgets the functions whose code was thrown out; returns them.
    pub(super) fn remove_evicted(&mut self) -> Vec<Rc<Ready>> {
        let evicted = self.functions.values().filter(|ready| ready.module.is_evicted());
        let hashes: Vec<_> = evicted.map(|ready| ready.function.wasm_hash).collect();
        self.remove_code(&hashes)
    }

    fn forget_code(&mut self, key: &Rc<Key>, ready: &Ready) {
        if let Some(keys) = self.by_code.get_mut(&ready.function.wasm_hash) {
            keys.remove(key);
            if keys.is_empty() {
                self.by_code.remove(&ready.function.wasm_hash);
            }
        }
    }
}

#[cfg(test)]
mod tests;
