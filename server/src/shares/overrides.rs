//! What operators set for single namespaces beside the node's rates, and how cores learn of it.

use super::Shares;
use super::rate::{OVERRIDABLE, Rates};
use orama_platform::registry::{Registry, RegistryError, SetRates};
use orama_runtime::names::Namespace;
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The rates of the namespaces for which something is set. Nothing that changes often stands in the same cache lines, as each
/// request looks at the count.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Overrides {
    of: RwLock<HashMap<Namespace, Arc<Rates>>>,
    /// Counts the changes. It moves after a change, so whoever sees it moved reads what holds now.
    generation: AtomicU64,
    /// Held from the read of the registry on, so that an older state never replaces a newer one.
    reading: Mutex<()>,
}

impl Shares {
    /// The node's rates with what was set beside them. What this version of the program does not know says nothing.
    #[must_use]
    pub fn rates_with(&self, set: &SetRates) -> Rates {
        let mut rates = Rates::clone(&self.rates);
        for name in OVERRIDABLE {
            if let Some(text) = set.get(&name.to_string())
                && let Ok(rate) = Rates::parse(text)
            {
                rates.set(name, rate);
            }
        }
        rates
    }

    /// Takes over what the registry has set for namespaces now. Cores see it with their next request. Blocks.
    ///
    /// # Errors
    /// As [`Registry::all_rates`]; then everything stays as it was.
    pub fn read_rates(&self, registry: &Registry) -> Result<(), RegistryError> {
        let _reading = self.overrides.reading.lock();
        self.override_rates(&registry.all_rates()?);
        Ok(())
    }

    pub(crate) fn override_rates(&self, all: &HashMap<Namespace, SetRates>) {
        let of = all.iter().map(|(namespace, set)| (namespace.clone(), Arc::new(self.rates_with(set))));
        *self.overrides.of.write() = of.collect();
        self.overrides.generation.fetch_add(1, Ordering::Release);
    }

    /// Moves when rates change.
    pub(super) fn rates_generation(&self) -> u64 {
        self.overrides.generation.load(Ordering::Acquire)
    }

    /// The rates that hold for a namespace, or for who belongs to none. Takes a lock: whoever asks often remembers the answer
    /// as long as [`Self::rates_generation`] stays.
    pub(super) fn rates_of(&self, namespace: Option<&Namespace>) -> Arc<Rates> {
        let set = namespace.and_then(|namespace| self.overrides.of.read().get(namespace).cloned());
        set.unwrap_or_else(|| Arc::clone(&self.rates))
    }
}
