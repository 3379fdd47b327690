//! What one core counts of one party's rates: it takes tokens in advance, and remembers which rates hold.

use super::rate::{Limited, RATE_KINDS, RateKind, Rates};
use super::{Party, Shares};
use orama_runtime::names::Namespace;
use std::sync::Arc;

/// A party's tokens on one core.
#[derive(Debug)]
pub(crate) struct Meter {
    party: Arc<Party>,
    /// Whose rates hold: the namespace itself, or that of the key; none for an address.
    namespace: Option<Namespace>,
    rates: Arc<Rates>,
    /// The count of changes that `rates` belongs to.
    generation: u64,
    /// Taken and not used, of each kind.
    tokens: [u32; RATE_KINDS.len()],
}

impl Meter {
    pub(crate) fn new(shares: &Shares, party: Arc<Party>, namespace: Option<Namespace>) -> Self {
        // Before the rates are read: a change in between is seen the next time.
        let generation = shares.rates_generation();
        let rates = shares.rates_of(namespace.as_ref());
        shares.settle(&rates, &party);
        Self { party, namespace, rates, generation, tokens: Default::default() }
    }

    /// Takes a token. Where the core has none, it takes some of the party's bucket, so that cores rarely meet there.
    ///
    /// # Errors
    /// [`Limited`] when the party has none.
    pub(crate) fn take(&mut self, shares: &Shares, kind: RateKind) -> Result<(), Limited> {
        let generation = shares.rates_generation();
        if generation != self.generation {
            // What was taken under other rates may be more than these allow.
            (self.generation, self.tokens) = (generation, Default::default());
            self.rates = shares.rates_of(self.namespace.as_ref());
            shares.settle(&self.rates, &self.party);
        }
        let left = &mut self.tokens[kind as usize];
        if *left == 0 {
            *left = shares.tokens(kind, self.rates.of(kind, self.party.scope()), &self.party)?;
        }
        *left -= 1;
        Ok(())
    }
}
