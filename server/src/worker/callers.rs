//! Who calls, as one core knows it: identities by credential, what each party runs here, and the tokens that this core has taken
//! for it.
//!
//! A warm request asks nobody: counts of one core are its own, and of the node's buckets it takes some tokens at once.

use super::core::Core;
use crate::bearer::bearer;
use crate::credentials::KeyHash;
use crate::error::ApiError;
use crate::shares::{Kind, Meter, NoRoom, Party, PartyId, RateKind, Shares, address_key, fits};
use hashlink::LruCache;
use http::HeaderMap;
use orama_platform::auth::{self, Credential};
use orama_runtime::invocation::Caller;
use orama_runtime::names::Namespace;
use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

/// Parties of which a core keeps its own counts, some 100 bytes each.
const LOCALS_MAX: usize = 16_384;
/// Credentials that were good once, 32 bytes each.
const GOOD_MAX: usize = 16_384;

/// A party on one core.
pub(super) struct Local {
    pub(super) party: Arc<Party>,
    /// Its invocations under way here.
    running: Cell<usize>,
    meter: RefCell<Meter>,
}

impl Local {
    pub(super) fn running(&self) -> usize {
        self.running.get()
    }

    pub(super) fn set_running(&self, running: usize) {
        self.running.set(running);
    }
}

/// A known credential and whom its requests count for.
#[derive(Clone)]
pub(super) struct Identity {
    pub(super) credential: Arc<Credential>,
    pub(super) key: Rc<Local>,
    pub(super) namespace: Rc<Local>,
}

/// All parties of a core.
pub(super) struct Callers {
    shares: Arc<Shares>,
    locals: RefCell<LruCache<PartyId, Rc<Local>>>,
    /// Hashes of credentials that were good when they were last looked up. Another look-up is not a guess.
    good: RefCell<LruCache<KeyHash, ()>>,
}

impl Callers {
    pub(super) fn new(shares: Arc<Shares>) -> Self {
        Self {
            shares,
            locals: RefCell::new(LruCache::new(LOCALS_MAX)),
            good: RefCell::new(LruCache::new(GOOD_MAX)),
        }
    }

    /// The party of an id; `namespace` is whose rates hold for it.
    fn local(&self, id: PartyId, namespace: Option<&Namespace>) -> Rc<Local> {
        let mut locals = self.locals.borrow_mut();
        if let Some(local) = locals.get(&id) {
            return Rc::clone(local);
        }
        let party = self.shares.party(id.clone());
        let meter = RefCell::new(Meter::new(&self.shares, Arc::clone(&party), namespace.cloned()));
        let local = Rc::new(Local { party, running: Cell::new(0), meter });
        locals.insert(id, Rc::clone(&local));
        local
    }

    pub(super) fn namespace(&self, namespace: &Namespace) -> Rc<Local> {
        self.local(PartyId::Namespace(namespace.clone()), Some(namespace))
    }

    pub(super) fn address(&self, address: IpAddr) -> Rc<Local> {
        self.local(PartyId::Address(address_key(address)), None)
    }

    /// The identity of a credential that was looked up.
    pub(super) fn recognise(&self, hash: KeyHash, credential: &Credential) -> Identity {
        // Cloned, because an `Arc` that cores share makes them contend for its reference count.
        let mut credential = credential.clone();
        credential.caller = credential.caller.map(|caller| Arc::new(Caller::clone(&caller)));
        self.good.borrow_mut().insert(hash, ());
        let key = self.local(PartyId::Key(hash), Some(&credential.namespace));
        let namespace = self.namespace(&credential.namespace);
        Identity { credential: Arc::new(credential), key, namespace }
    }

    /// Takes a token for one request.
    ///
    /// # Errors
    /// 429 when the party has none.
    pub(super) fn admit(&self, local: &Local) -> Result<(), ApiError> {
        self.take(RateKind::Requests, local)
    }

    /// Takes a token of a kind.
    ///
    /// # Errors
    /// 429 when the party has none.
    pub(super) fn take(&self, kind: RateKind, local: &Local) -> Result<(), ApiError> {
        Ok(local.meter.borrow_mut().take(&self.shares, kind)?)
    }

    /// Whether a party may have one more invocation on a core that runs `running` of at most `limit`.
    ///
    /// # Errors
    /// [`NoRoom`], which is counted.
    pub(super) fn may_run(&self, limit: usize, running: usize, local: &Local) -> Result<(), NoRoom> {
        let scope = local.party.scope();
        if fits(limit, running, local.running(), 1, self.shares.percent(scope)) {
            return Ok(());
        }
        Err(self.shares.refuse(Kind::Invocations, scope))
    }
}

impl Core {
    /// Who sent a request with these headers: `None` without a credential.
    ///
    /// # Errors
    /// As [`Self::identity_of`].
    pub(super) async fn identity(
        &self,
        headers: &HeaderMap,
        peer: IpAddr,
    ) -> Result<Option<Identity>, ApiError> {
        match bearer(headers)? {
            Some(text) => self.identity_of(text, self.client(headers, peer)).await.map(Some),
            None => Ok(None),
        }
    }

    /// The address that a request counts for.
    pub(super) fn client(&self, headers: &HeaderMap, peer: IpAddr) -> IpAddr {
        self.shared.trusted_proxies.client(peer, headers)
    }

    /// Whose credential a text is.
    ///
    /// # Errors
    /// 401 for one that is not known, 429 for an address from which too many such came.
    pub(super) async fn identity_of(&self, text: &str, client: IpAddr) -> Result<Identity, ApiError> {
        let hash = auth::key_hash(text);
        let generation = {
            let mut cache = self.cache.borrow_mut();
            let generation = cache.refresh(&self.shared.registry_generation);
            match cache.credentials.find(&hash) {
                Some(Ok(identity)) => return Ok(identity),
                Some(Err(error)) => {
                    drop(cache);
                    return Err(self.failed(error, client));
                }
                None => generation,
            }
        };
        if let Err(error) = self.shared.authority.screen(text) {
            return Err(self.failed(error.into(), client));
        }
        if self.callers.good.borrow_mut().get(&hash).is_none() {
            let address = self.callers.address(client);
            self.shared.shares.has_token(RateKind::FailedCredentials, &address.party)?;
        }
        let (authority, asked) = (self.shared.authority.clone(), text.to_owned());
        let known = match self.ask(move || authority.find(&asked)).await? {
            Ok(known) => known,
            Err(error) => {
                let error = ApiError::from(error);
                if error.status == http::StatusCode::UNAUTHORIZED {
                    self.callers.good.borrow_mut().remove(&hash);
                }
                self.cache.borrow_mut().credentials.keep_refusal(generation, hash, &error);
                return Err(self.failed(error, client));
            }
        };
        let identity = self.callers.recognise(hash, &known.credential);
        self.cache.borrow_mut().credentials.keep(generation, hash, identity.clone(), known.expires_s);
        Ok(identity)
    }

    /// Counts a request with a bad credential; the answer to it.
    fn failed(&self, error: ApiError, client: IpAddr) -> ApiError {
        if error.status != http::StatusCode::UNAUTHORIZED {
            return error;
        }
        let address = self.callers.address(client);
        self.callers.take(RateKind::FailedCredentials, &address).err().unwrap_or(error)
    }

    /// Takes tokens for a request; returns the party of the client's address, where it has shown no credential.
    ///
    /// # Errors
    /// 429
    pub(super) fn admit(
        &self,
        identity: Option<&Identity>,
        client: IpAddr,
    ) -> Result<Option<Rc<Local>>, ApiError> {
        if let Some(identity) = identity {
            self.callers.admit(&identity.key)?;
            self.callers.admit(&identity.namespace)?;
            return Ok(None);
        }
        let address = self.callers.address(client);
        self.callers.admit(&address)?;
        Ok(Some(address))
    }

    /// The parties that a request of a namespace counts for in the node's shares.
    pub(super) fn parties(namespace: &Local, address: Option<&Rc<Local>>) -> [Option<Arc<Party>>; 2] {
        [Some(Arc::clone(&namespace.party)), address.map(|local| Arc::clone(&local.party))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shares::{KINDS, Limits, Rate, Rates};

    #[test]
    fn a_core_takes_tokens_in_advance_and_never_more_than_there_are() {
        let mut rates = Rates::default();
        rates.requests.namespace = Some(Rate::new(100_000, 1, 1_000));
        let limits = Limits { of_node: [16; KINDS.len()], namespace_percent: 50 };
        let shares = Shares::new(limits, rates);
        let cores = [Callers::new(Arc::clone(&shares)), Callers::new(shares)];
        let namespace = Namespace::new("shop").unwrap();
        let locals = [cores[0].namespace(&namespace), cores[1].namespace(&namespace)];
        let mut admitted = 0;
        let refused = loop {
            match cores[admitted % 2].admit(&locals[admitted % 2]) {
                Ok(()) => admitted += 1,
                Err(error) => break error,
            }
        };
        assert!((1_000..200_000).contains(&admitted), "{admitted}");
        assert_eq!((refused.code, refused.scope), ("RATE_LIMITED", Some("namespace")));
    }

    #[test]
    fn rates_that_an_operator_sets_hold_for_the_next_request_of_every_core() {
        let limits = Limits { of_node: [16; KINDS.len()], namespace_percent: 50 };
        let shares = Shares::new(limits, Rates::DEFAULT);
        let cores = [Callers::new(Arc::clone(&shares)), Callers::new(Arc::clone(&shares))];
        let namespace = Namespace::new("shop").unwrap();
        let locals = [cores[0].namespace(&namespace), cores[1].namespace(&namespace)];
        let admitted = |of: usize| (0..of).filter(|at| cores[at % 2].admit(&locals[at % 2]).is_ok()).count();
        assert_eq!(admitted(20), 20, "and both have taken more than these");
        let set = |rates: &[(&str, &str)]| {
            let rates = rates.iter().map(|(name, rate)| ((*name).to_owned(), (*rate).to_owned())).collect();
            shares.override_rates(&std::collections::HashMap::from([(namespace.clone(), rates)]));
        };
        set(&[("requests_per_namespace", "1/h burst 7"), ("of_a_later_version", "1/h")]);
        // What was taken a moment ago may stand for one of them.
        assert!((6..=7).contains(&admitted(20)));
        set(&[("requests_per_namespace", "off")]);
        assert_eq!(admitted(20), 20);
        set(&[("requests_per_namespace", "1/h burst 7")]);
        assert!(admitted(20) < 7, "what was taken before counts");
        set(&[]);
        assert!(admitted(100_000) > 20, "no debt is left under the node's own rate");
        let other = Namespace::new("other").unwrap();
        cores[0].admit(&cores[0].namespace(&other)).unwrap();
    }

    #[test]
    fn half_of_a_core_is_left_by_one_namespace() {
        let limits = Limits { of_node: [16; KINDS.len()], namespace_percent: 50 };
        let callers = Callers::new(Shares::new(limits, Rates::default()));
        let local = callers.namespace(&Namespace::new("shop").unwrap());
        while callers.may_run(16, local.running(), &local).is_ok() {
            local.set_running(local.running() + 1);
        }
        assert_eq!(local.running(), 8);
        let other = callers.namespace(&Namespace::new("other").unwrap());
        callers.may_run(16, 8, &other).unwrap();
    }
}
