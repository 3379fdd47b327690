//! Shares of what is scarce: how much of each kind is in use, by whom, and who may have more of it.
//!
//! Each kind has a limit for the node. Within it a party, which is a namespace or the address of a client without a credential,
//! may hold at most as much as is still free ([`fits`]). A party that is alone therefore gets half, each of n gets one in
//! n + 1, and something is always free for whoever comes next. Nothing has to be configured for each party, and no party can
//! shut another one out.
//!
//! A [`Permit`] is what a party holds. It is taken after the check that the caller may, and dropping it gives it back.

use orama_runtime::names::Namespace;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

mod address;
mod meter;
mod overrides;
mod parties;
mod places;
mod rate;
mod settings;

pub use address::TrustedProxies;
pub use rate::{Limited, OVERRIDABLE, OfScopes, RATE_KINDS, Rate, RateKind, RateName, Rates};
pub use settings::ShareSettings;

pub(crate) use address::address_key;
pub(crate) use meter::Meter;
pub(crate) use parties::{Party, PartyId};
pub(crate) use places::Places;

use overrides::Overrides;
use parties::Parties;
use places::Functions;

/// What is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Invocations under way. Each core counts its own, as each has its own part of the instance slots.
    Invocations,
    /// Bytes of requests' bodies that have arrived and are held.
    BodyBytes,
    /// Bytes of answers that their clients have not taken yet.
    AnswerBytes,
    /// Connections.
    Connections,
    /// Open WebSockets.
    WebSockets,
    /// Requests that the control plane is answering.
    ControlRequests,
    /// Linear memory of guests.
    GuestMemoryBytes,
}

/// Every kind, in the order of their numbers.
pub const KINDS: [Kind; 7] = [
    Kind::Invocations,
    Kind::BodyBytes,
    Kind::AnswerBytes,
    Kind::Connections,
    Kind::WebSockets,
    Kind::ControlRequests,
    Kind::GuestMemoryBytes,
];

impl Kind {
    /// The metrics' word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invocations => "invocations",
            Self::BodyBytes => "body_bytes",
            Self::AnswerBytes => "answer_bytes",
            Self::Connections => "connections",
            Self::WebSockets => "websockets",
            Self::ControlRequests => "control_requests",
            Self::GuestMemoryBytes => "guest_memory_bytes",
        }
    }

    /// What there is too much of, for messages.
    #[must_use]
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Invocations => "running functions",
            Self::BodyBytes => "bytes of requests that are on their way",
            Self::AnswerBytes => "bytes of answers that were not read yet",
            Self::Connections => "connections",
            Self::WebSockets => "open WebSockets",
            Self::ControlRequests => "requests to the control plane",
            Self::GuestMemoryBytes => "bytes of memory of running functions",
        }
    }
}

/// Whose limit was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The node's.
    Node,
    /// A namespace's.
    Namespace,
    /// That of a client's address.
    Address,
    /// That of a key or token.
    Key,
    /// That of a function.
    Function,
}

/// Every scope, in the order of their numbers.
pub const SCOPES: [Scope; 5] = [Scope::Node, Scope::Namespace, Scope::Address, Scope::Key, Scope::Function];

impl Scope {
    /// The word that clients and metrics are given.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Namespace => "namespace",
            Self::Address => "address",
            Self::Key => "key",
            Self::Function => "function",
        }
    }
}

/// More than a share allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", words(*kind, *scope))]
pub struct NoRoom {
    /// Of what.
    pub kind: Kind,
    /// Whose limit was met.
    pub scope: Scope,
}

fn words(kind: Kind, scope: Scope) -> String {
    let whose = match scope {
        Scope::Node => "this node",
        Scope::Namespace => "this namespace",
        Scope::Address | Scope::Key => "this client",
        Scope::Function => return "the function runs as often at once as its `concurrency` allows; try again when a run has ended".to_owned(),
    };
    format!("{whose} has too many {}; try again when some are done", kind.noun())
}

/// Whether a party that holds `theirs` may have `more` where `used` of `limit` are taken. `percent` is the most that one party
/// may hold of all when it is alone: with 50 it may hold as much as it leaves free.
#[must_use]
pub fn fits(limit: usize, used: usize, theirs: usize, more: usize, percent: u32) -> bool {
    // However small the share is, the first one fits if there is one.
    if theirs == 0 && more == 1 && used < limit {
        return true;
    }
    let free = limit.saturating_sub(used).saturating_sub(more) as u128;
    // With everything allowed to one, only the node's own limit counts.
    let (part, rest) = (u128::from(percent), u128::from(100_u32.saturating_sub(percent)));
    (theirs as u128 + more as u128) * rest <= free * part
}

/// What one party may hold when it is alone, in percent of the node's limit: a namespace what is configured. An address gets
/// two thirds of that, so that a client without a credential cannot use up what the function's own namespace has.
const fn percent_of(scope: Scope, namespace_percent: u32) -> u32 {
    match scope {
        Scope::Address if namespace_percent < 100 => namespace_percent * 2 / 3,
        _ => namespace_percent,
    }
}

/// One kind: its limit and what is taken of it. 128 bytes are two cache lines, which the processor fetches together.
#[derive(Debug)]
#[repr(align(128))]
struct Pot {
    limit: usize,
    used: AtomicUsize,
    refused: [AtomicU64; SCOPES.len()],
}

/// The limits of a node, in the order of [`KINDS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Of each kind.
    pub of_node: [usize; KINDS.len()],
    /// What a namespace may hold when it is alone, in percent; 100 sets no bound for parties.
    pub namespace_percent: u32,
}

/// All shares of a node.
#[derive(Debug)]
pub struct Shares {
    pots: [Pot; KINDS.len()],
    namespace_percent: u32,
    rates: Arc<Rates>,
    overrides: Overrides,
    limited: [[AtomicU64; SCOPES.len()]; RATE_KINDS.len()],
    parties: Mutex<Parties>,
    functions: Mutex<Functions>,
    began: Instant,
}

impl Shares {
    /// Shares within `limits` and `rates`.
    #[must_use]
    pub fn new(limits: Limits, rates: Rates) -> Arc<Self> {
        let pots =
            limits.of_node.map(|limit| Pot { limit, used: AtomicUsize::new(0), refused: Default::default() });
        let namespace_percent = limits.namespace_percent.clamp(1, 100);
        Arc::new(Self {
            pots,
            namespace_percent,
            rates: Arc::new(rates),
            overrides: Overrides::default(),
            limited: Default::default(),
            parties: Mutex::default(),
            functions: Mutex::default(),
            began: Instant::now(),
        })
    }

    // A kind's number is its place in `KINDS`, so the index is always there.
    fn pot(&self, kind: Kind) -> &Pot {
        &self.pots[kind as usize]
    }

    /// The node's limit of a kind.
    #[must_use]
    pub fn limit(&self, kind: Kind) -> usize {
        self.pot(kind).limit
    }

    /// What is taken of a kind now.
    #[must_use]
    pub fn used(&self, kind: Kind) -> usize {
        self.pot(kind).used.load(Ordering::Relaxed)
    }

    /// How often a kind was refused because of a scope's limit.
    #[must_use]
    pub fn refused(&self, kind: Kind, scope: Scope) -> u64 {
        self.pot(kind).refused.get(scope as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// What one party of a scope may hold when it is alone, in percent.
    #[must_use]
    pub(crate) fn percent(&self, scope: Scope) -> u32 {
        percent_of(scope, self.namespace_percent)
    }

    /// Counts a refusal, and says what it is.
    pub(crate) fn refuse(&self, kind: Kind, scope: Scope) -> NoRoom {
        if let Some(count) = self.pot(kind).refused.get(scope as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        NoRoom { kind, scope }
    }

    /// The party of an id. The same id has the same party as long as somebody holds it or it was seen recently.
    pub(crate) fn party(&self, id: PartyId) -> Arc<Party> {
        self.parties.lock().party(id)
    }

    /// The party of a namespace.
    pub(crate) fn namespace(&self, namespace: &Namespace) -> Arc<Party> {
        self.party(PartyId::Namespace(namespace.clone()))
    }

    /// A permit for nothing yet.
    pub(crate) fn permit(self: &Arc<Self>, kind: Kind, parties: [Option<Arc<Party>>; 2]) -> Permit {
        Permit { shares: Arc::clone(self), kind, parties, amount: 0 }
    }

    fn take(&self, kind: Kind, more: usize, parties: &[Option<Arc<Party>>]) -> Result<(), NoRoom> {
        let pot = self.pot(kind);
        let used = pot.used.fetch_add(more, Ordering::Relaxed);
        if used.saturating_add(more) > pot.limit {
            pot.used.fetch_sub(more, Ordering::Relaxed);
            return Err(self.refuse(kind, Scope::Node));
        }
        for (index, party) in parties.iter().enumerate() {
            let Some(party) = party else { continue };
            let theirs = party.used(kind).fetch_add(more, Ordering::Relaxed);
            if !fits(pot.limit, used, theirs, more, self.percent(party.scope())) {
                pot.used.fetch_sub(more, Ordering::Relaxed);
                for taken in parties.iter().take(index + 1).flatten() {
                    taken.used(kind).fetch_sub(more, Ordering::Relaxed);
                }
                return Err(self.refuse(kind, party.scope()));
            }
        }
        Ok(())
    }

    fn give_back(&self, kind: Kind, less: usize, parties: &[Option<Arc<Party>>]) {
        self.pot(kind).used.fetch_sub(less, Ordering::Relaxed);
        for party in parties.iter().flatten() {
            party.used(kind).fetch_sub(less, Ordering::Relaxed);
        }
    }

    /// Takes tokens for about a millisecond of a party's bucket, or at least one; returns how many.
    ///
    /// # Errors
    /// [`Limited`] when it has none.
    fn tokens(&self, kind: RateKind, rate: Option<&Rate>, party: &Party) -> Result<u32, Limited> {
        let Some(rate) = rate else { return Ok(u32::MAX) };
        let count = rate.batch();
        let now = self.began.elapsed();
        let bucket = party.bucket(kind);
        if count > 1 && bucket.take(rate, count, now).is_ok() {
            return Ok(count);
        }
        bucket.take(rate, 1, now).map(|()| 1).map_err(|wait| self.limit_met(kind, party.scope(), wait))
    }

    /// What a party took under other rates holds it back no longer than these do.
    fn settle(&self, rates: &Rates, party: &Party) {
        let now = self.began.elapsed();
        for kind in RATE_KINDS {
            if let Some(rate) = rates.of(kind, party.scope()) {
                party.bucket(kind).settle(rate, now);
            }
        }
    }

    /// Whether the bucket of an address holds a token; takes none.
    ///
    /// # Errors
    /// [`Limited`] when it has none.
    pub(crate) fn has_token(&self, kind: RateKind, party: &Party) -> Result<(), Limited> {
        let Some(rate) = self.rates.of(kind, party.scope()) else { return Ok(()) };
        let looked = party.bucket(kind).look(rate, self.began.elapsed());
        looked.map_err(|wait| self.limit_met(kind, party.scope(), wait))
    }

    fn limit_met(&self, kind: RateKind, scope: Scope, wait: Duration) -> Limited {
        if let Some(count) = self.limited.get(kind as usize).and_then(|counts| counts.get(scope as usize)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        Limited { kind, scope, wait }
    }

    /// How often a rate was met.
    #[must_use]
    pub fn limited(&self, kind: RateKind, scope: Scope) -> u64 {
        let count = self.limited.get(kind as usize).and_then(|counts| counts.get(scope as usize));
        count.map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

/// What a party holds of a kind. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Permit {
    shares: Arc<Shares>,
    kind: Kind,
    parties: [Option<Arc<Party>>; 2],
    amount: usize,
}

impl Permit {
    /// What it is for.
    pub(crate) fn amount(&self) -> usize {
        self.amount
    }

    /// Whether somebody whose limit was met at `scope` is behind this permit as well as behind `other`.
    pub(crate) fn shares_limit(&self, other: &[Option<Arc<Party>>], scope: Scope) -> bool {
        let of = |parties: &[Option<Arc<Party>>]| {
            parties.iter().flatten().find(|party| party.scope() == scope).map(Arc::as_ptr)
        };
        scope == Scope::Node || of(&self.parties) == of(other)
    }

    /// Who holds it.
    pub(crate) fn parties(&self) -> &[Option<Arc<Party>>; 2] {
        &self.parties
    }

    /// A permit of the same parties for nothing.
    pub(crate) fn empty(&self) -> Self {
        let Self { shares, kind, parties, .. } = self;
        Self { shares: Arc::clone(shares), kind: *kind, parties: parties.clone(), amount: 0 }
    }

    /// Takes more.
    ///
    /// # Errors
    /// [`NoRoom`]; then it is for as much as before.
    pub(crate) fn grow(&mut self, more: usize) -> Result<(), NoRoom> {
        self.shares.take(self.kind, more, &self.parties)?;
        self.amount += more;
        Ok(())
    }

    /// Makes it one for `amount`.
    ///
    /// # Errors
    /// As [`Self::grow`].
    pub(crate) fn set(&mut self, amount: usize) -> Result<(), NoRoom> {
        match amount.checked_sub(self.amount) {
            Some(0) => Ok(()),
            Some(more) => self.grow(more),
            None => {
                self.shares.give_back(self.kind, self.amount - amount, &self.parties);
                self.amount = amount;
                Ok(())
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.amount > 0 {
            self.shares.give_back(self.kind, self.amount, &self.parties);
        }
    }
}

#[cfg(test)]
mod tests;
