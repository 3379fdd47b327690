//! What one core remembers of secrets, so that `get_secret` asks nobody and meets no other core.
//!
//! The registry counts the changes of secrets, and the count moves before a change is acknowledged. A core that sees
//! another count than the one its memory belongs to forgets everything.

use super::SecretStore;
use crate::limits::{SECRETS_REMEMBERED_BYTES, SECRETS_REMEMBERED_NAMESPACE_BYTES};
use crate::registry::RegistryError;
use orama_runtime::names::{Namespace, SecretName};
use orama_runtime::services::{Answer, ErrorCode, SecretValue, Secrets, ServiceError};
use orama_store::blocking::blocking_on;
use orama_store::causes::Causes;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What an entry takes beside its name and its value, roughly.
const ENTRY_BYTES: usize = 128;

/// `None` stands for a secret that is known not to be there.
type Known = Option<Arc<SecretValue>>;

/// The secrets as one core's guests reach them.
pub struct CoreSecrets {
    store: Arc<SecretStore>,
    backplane: tokio::runtime::Handle,
    /// Only this core locks it, so that it is free whenever it is asked for.
    memory: Arc<Mutex<Memory>>,
}

impl CoreSecrets {
    /// The memory of one core, which asks `store` on the backplane.
    pub fn new(store: Arc<SecretStore>, backplane: tokio::runtime::Handle) -> Self {
        Self { store, backplane, memory: Arc::default() }
    }
}

impl Secrets for CoreSecrets {
    fn get(
        &self,
        namespace: &Namespace,
        name: &str,
    ) -> Answer<Result<Option<Arc<SecretValue>>, ServiceError>> {
        let generation = self.store.generation.load(Ordering::Acquire);
        if let Some(known) = self.memory.lock().refresh(generation).get(namespace, name) {
            return Box::pin(ready(Ok(known.clone())));
        }
        // No secret can have another name.
        let Ok(name) = SecretName::new(name) else { return Box::pin(ready(Ok(None))) };
        let (store, namespace, memory) =
            (Arc::clone(&self.store), namespace.clone(), Arc::clone(&self.memory));
        let (wanted_of, wanted) = (namespace.clone(), name.clone());
        let reading = blocking_on(&self.backplane, move || {
            store.get(&wanted_of, &wanted).map_err(|error| unreadable(&wanted_of, &wanted, &error))
        });
        Box::pin(async move {
            let found = reading.await?.map(Arc::new);
            memory.lock().keep(generation, namespace, name.as_str(), found.clone());
            Ok(found)
        })
    }
}

/// The cause is for the node's log.
fn unreadable(namespace: &Namespace, name: &SecretName, error: &RegistryError) -> ServiceError {
    tracing::error!(%namespace, %name, error = %Causes(error), "a secret could not be read");
    let message = format!("the secret {:?} could not be read; the node's log tells why", name.as_str());
    ServiceError::new(ErrorCode::Internal, message)
}

#[derive(Default)]
struct Memory {
    generation: u64,
    namespaces: HashMap<Namespace, Names>,
    bytes: usize,
}

/// What is remembered of one namespace.
#[derive(Default)]
struct Names {
    known: HashMap<Box<str>, Known>,
    bytes: usize,
}

impl Memory {
    /// Forgets everything if secrets have changed.
    fn refresh(&mut self, generation: u64) -> &Self {
        if generation != self.generation {
            *self = Self { generation, ..Self::default() };
        }
        self
    }

    fn get(&self, namespace: &Namespace, name: &str) -> Option<&Known> {
        self.namespaces.get(namespace)?.known.get(name)
    }

    /// Keeps what was looked up when the registry's count was `generation`. A namespace that asks for more than its
    /// share, such as names that are not there, forgets its own and nobody else's.
    fn keep(&mut self, generation: u64, namespace: Namespace, name: &str, found: Known) {
        if generation != self.generation {
            return;
        }
        let bytes = ENTRY_BYTES + name.len() + found.as_ref().map_or(0, |value| value.reveal().len());
        if self.bytes + bytes > SECRETS_REMEMBERED_BYTES {
            *self = Self { generation, ..Self::default() };
        }
        let names = self.namespaces.entry(namespace).or_default();
        if names.known.contains_key(name) {
            // Two invocations asked at once.
            return;
        }
        if names.bytes + bytes > SECRETS_REMEMBERED_NAMESPACE_BYTES {
            self.bytes -= names.bytes;
            *names = Names::default();
        }
        names.known.insert(name.into(), found);
        names.bytes += bytes;
        self.bytes += bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(name: &str) -> Namespace {
        Namespace::new(name).unwrap()
    }

    fn value(bytes: usize) -> Known {
        Some(Arc::new(SecretValue::new("x".repeat(bytes))))
    }

    #[test]
    fn a_namespace_that_asks_for_too_much_forgets_only_its_own() {
        let mut memory = Memory::default();
        memory.keep(0, namespace("quiet"), "kept", value(10));
        for n in 0..3 * SECRETS_REMEMBERED_NAMESPACE_BYTES / ENTRY_BYTES {
            memory.keep(0, namespace("loud"), &format!("missing{n}"), None);
        }
        assert!(memory.get(&namespace("quiet"), "kept").is_some());
        let loud = &memory.namespaces[&namespace("loud")];
        assert!(loud.bytes <= SECRETS_REMEMBERED_NAMESPACE_BYTES && !loud.known.is_empty());
        assert_eq!(memory.bytes, memory.namespaces.values().map(|names| names.bytes).sum::<usize>());
    }

    #[test]
    fn all_of_it_is_bounded() {
        let mut memory = Memory::default();
        for n in 0..2 * SECRETS_REMEMBERED_BYTES / 65_536 {
            memory.keep(0, namespace(&format!("n{n}")), "s", value(65_536));
            assert!(memory.bytes <= SECRETS_REMEMBERED_BYTES);
        }
        assert!(memory.bytes > 0);
    }

    #[test]
    fn what_was_read_before_a_change_is_not_kept() {
        let mut memory = Memory::default();
        memory.keep(0, namespace("a"), "s", value(1));
        assert!(memory.refresh(0).get(&namespace("a"), "s").is_some());
        assert!(memory.refresh(1).get(&namespace("a"), "s").is_none());
        memory.keep(0, namespace("a"), "s", value(1));
        assert!(memory.refresh(1).get(&namespace("a"), "s").is_none());
        assert_eq!(memory.bytes, 0);
    }
}
