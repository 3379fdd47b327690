//! Each core's cache of secrets, so that `get_secret` takes no lock that another core may hold.
//!
//! The registry advances the generation of secrets before it acknowledges a change. A core that sees another generation than that
//! of its cache empties the cache.

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

/// Approximate size of an entry without its name and value, in bytes.
const ENTRY_BYTES: usize = 128;

/// `None` means that the secret does not exist.
type Known = Option<Arc<SecretValue>>;

/// The secrets service of one core.
pub struct CoreSecrets {
    store: Arc<SecretStore>,
    backplane: tokio::runtime::Handle,
    /// Locked by this core alone, so it is never contended.
    memory: Arc<Mutex<Memory>>,
}

impl CoreSecrets {
    /// An empty cache for one core, which reads `store` on the backplane.
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

/// Logs the cause and returns what the guest is told.
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

/// The entries of one namespace.
#[derive(Default)]
struct Names {
    known: HashMap<Box<str>, Known>,
    bytes: usize,
}

impl Memory {
    /// Empties the cache if secrets have changed.
    fn refresh(&mut self, generation: u64) -> &Self {
        if generation != self.generation {
            *self = Self { generation, ..Self::default() };
        }
        self
    }

    fn get(&self, namespace: &Namespace, name: &str) -> Option<&Known> {
        self.namespaces.get(namespace)?.known.get(name)
    }

    /// Adds the result of a lookup that began in `generation`. A namespace that exceeds its share, for example by asking for
    /// names that do not exist, loses its own entries and no others.
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
            // Two invocations looked it up at the same time.
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
