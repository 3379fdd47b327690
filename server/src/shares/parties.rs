//! Who takes part in the shares: namespaces, addresses, and keys.

use super::rate::{Bucket, RATE_KINDS};
use super::{KINDS, Kind, RateKind, Scope};
use hashlink::LinkedHashMap;
use orama_runtime::names::Namespace;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// Parties of each scope that a node knows, some 300 bytes each. Of more, those that hold nothing and were not seen for longest
/// are forgotten.
const PARTIES_MAX: usize = 16_384;
/// How many are looked at to find one that may be forgotten.
const FORGETTING_TRIES: usize = 8;

/// Who it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum PartyId {
    /// A namespace, whoever acts for it.
    Namespace(Namespace),
    /// An address, as [`super::address_key`] gives it.
    Address(IpAddr),
    /// A key or token, by its hash.
    Key([u8; 32]),
}

impl PartyId {
    pub(crate) fn scope(&self) -> Scope {
        match self {
            Self::Namespace(_) => Scope::Namespace,
            Self::Address(_) => Scope::Address,
            Self::Key(_) => Scope::Key,
        }
    }
}

/// What one party holds of each kind, and its buckets.
#[derive(Debug)]
pub(crate) struct Party {
    scope: Scope,
    used: [AtomicUsize; KINDS.len()],
    buckets: [Bucket; RATE_KINDS.len()],
}

impl Party {
    fn new(scope: Scope) -> Self {
        Self { scope, used: Default::default(), buckets: Default::default() }
    }

    pub(crate) fn scope(&self) -> Scope {
        self.scope
    }

    pub(super) fn used(&self, kind: Kind) -> &AtomicUsize {
        &self.used[kind as usize]
    }

    pub(super) fn bucket(&self, kind: RateKind) -> &Bucket {
        &self.buckets[kind as usize]
    }
}

/// The parties that a node knows. Scopes are apart, so that many addresses do not make it forget a namespace.
#[derive(Debug, Default)]
pub(super) struct Parties {
    namespaces: LinkedHashMap<PartyId, Arc<Party>>,
    addresses: LinkedHashMap<PartyId, Arc<Party>>,
    keys: LinkedHashMap<PartyId, Arc<Party>>,
}

impl Parties {
    pub(super) fn party(&mut self, id: PartyId) -> Arc<Party> {
        let scope = id.scope();
        let known = match scope {
            Scope::Address => &mut self.addresses,
            Scope::Key => &mut self.keys,
            Scope::Node | Scope::Namespace | Scope::Function => &mut self.namespaces,
        };
        if let Some(party) = known.to_back(&id) {
            return Arc::clone(party);
        }
        if known.len() >= PARTIES_MAX {
            forget_one(known);
        }
        let party = Arc::new(Party::new(scope));
        known.insert(id, Arc::clone(&party));
        party
    }
}

/// Forgets the party that was not seen for longest. One that is held is passed over a few times.
fn forget_one(known: &mut LinkedHashMap<PartyId, Arc<Party>>) {
    for attempt in 0..FORGETTING_TRIES {
        let Some((id, party)) = known.pop_front() else { return };
        if Arc::strong_count(&party) == 1 || attempt + 1 == FORGETTING_TRIES {
            return;
        }
        known.insert(id, party);
    }
}
