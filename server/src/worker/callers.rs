//! Who calls, as one core knows it: identities by credential, what each party runs here, and the tokens that this core has taken
//! for it.
//!
//! A warm request asks nobody: counts of one core are its own, and of the node's buckets it takes some tokens at once.

use super::core::Core;
use crate::bearer::{Sent, sent};
use crate::credentials::{KeyHash, NotAccepted, hash_of_both};
use crate::error::ApiError;
use crate::shares::{Kind, Meter, NoRoom, Party, PartyId, RateKind, Shares, address_key, fits};
use hashlink::LruCache;
use http::HeaderMap;
use orama_platform::auth::{self, Credential, Known};
use orama_runtime::invocation::Caller;
use orama_runtime::limits::CALL_DEPTH_MAX;
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
    /// Those of them that functions called, by their depth: 1 to [`CALL_DEPTH_MAX`].
    calls: [Cell<usize>; CALL_DEPTH_MAX as usize],
    meter: RefCell<Meter>,
}

impl Local {
    pub(super) fn running(&self) -> usize {
        self.running.get()
    }

    pub(super) fn set_running(&self, running: usize) {
        self.running.set(running);
    }

    /// The calls under way here of at least a depth.
    pub(super) fn calls_from(&self, depth: u32) -> usize {
        let deeper = self.calls.get((depth as usize).saturating_sub(1)..).unwrap_or_default();
        deeper.iter().map(Cell::get).sum()
    }

    /// Counts a call of a depth as begun, or as ended.
    pub(super) fn count_call(&self, depth: u32, change: impl Fn(usize) -> usize) {
        if let Some(calls) = (depth as usize).checked_sub(1).and_then(|at| self.calls.get(at)) {
            calls.set(change(calls.get()));
        }
    }
}

/// A known credential and whom its requests count for.
#[derive(Clone)]
pub(super) struct Identity {
    pub(super) credential: Arc<Credential>,
    pub(super) key: Rc<Local>,
    pub(super) namespace: Rc<Local>,
}

/// Who sends a request.
#[derive(Default)]
pub(super) struct Visitor {
    /// `None` without a credential of this node.
    pub(super) identity: Option<Identity>,
    /// Why something else that came as a credential is none of this node. Public functions ignore it.
    pub(super) foreign: Option<ApiError>,
}

impl Visitor {
    pub(super) fn credential(&self) -> Option<&Credential> {
        self.identity.as_ref().map(|identity| &*identity.credential)
    }
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
        let local = Rc::new(Local { party, running: Cell::new(0), calls: Default::default(), meter });
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
        credential.shown = Arc::from(&*credential.shown);
        credential.caller = credential.caller.map(|caller| Arc::new(Caller::clone(&caller)));
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

    /// The same for a call of a depth. Only calls of that depth or deeper count, so that a namespace's first one always may.
    pub(super) fn may_call(&self, limit: usize, running: usize, local: &Local, depth: u32) -> bool {
        fits(limit, running, local.calls_from(depth), 1, self.shares.percent(local.party.scope()))
    }
}

impl Core {
    /// Who sent a request with these headers.
    ///
    /// # Errors
    /// As [`Self::visitor`].
    pub(super) async fn visitor_of(&self, headers: &HeaderMap, client: IpAddr) -> Result<Visitor, ApiError> {
        self.visitor(&sent(headers)?, client).await
    }

    /// The address that a request counts for.
    pub(super) fn client(&self, headers: &HeaderMap, peer: IpAddr) -> IpAddr {
        self.shared.trusted_proxies.client(peer, headers)
    }

    /// Whose credentials these are. What is no credential of this node is only noted: whether that matters depends on what is
    /// asked for.
    ///
    /// # Errors
    /// 401 for a credential of this node that is not good, 429 for an address from which too many such came, 400 for a token
    /// and a key of different namespaces.
    pub(super) async fn visitor<T: AsRef<str>>(
        &self,
        sent: &Sent<T>,
        client: IpAddr,
    ) -> Result<Visitor, ApiError> {
        let hash = match (&sent.token, &sent.key) {
            (None, None) => return Ok(Visitor { identity: None, foreign: foreign(sent) }),
            (Some(one), None) | (None, Some(one)) => auth::key_hash(one.as_ref()),
            (Some(token), Some(key)) => hash_of_both(token.as_ref(), key.as_ref()),
        };
        let found = {
            let mut cache = self.cache.borrow_mut();
            cache.refresh(&self.shared.registry_generation);
            cache.credentials.find(&hash)
        };
        match found {
            Some(Ok(identity)) => Ok(Visitor { identity: Some(identity), foreign: foreign(sent) }),
            // Boxed, so that it adds nothing to what a request holds whose credentials are remembered.
            _ => Box::pin(self.unremembered(sent, client)).await,
        }
    }

    /// The same for credentials that this core does not remember as good.
    async fn unremembered<T: AsRef<str>>(&self, sent: &Sent<T>, client: IpAddr) -> Result<Visitor, ApiError> {
        let (token, key) = (sent.token.as_ref().map(AsRef::as_ref), sent.key.as_ref().map(AsRef::as_ref));
        let found = match (token, key) {
            (Some(token), Some(key)) => self.identity_of_both(token, key, client).await,
            (token, key) => self.identity_of(token.or(key).unwrap_or_default(), client).await,
        };
        match found {
            Ok(identity) => Ok(Visitor { identity: Some(identity), foreign: foreign(sent) }),
            Err(NotAccepted { error, is_foreign: false }) => Err(self.failed(error, client)),
            Err(NotAccepted { error, is_foreign: true }) => {
                // Beside a token of somebody else, the key counts alone.
                let identity = match (token, key) {
                    (Some(_), Some(key)) => {
                        let found = self.identity_of(key, client).await;
                        Some(found.map_err(|why| self.failed(why.error, client))?)
                    }
                    _ => None,
                };
                Ok(Visitor { identity, foreign: Some(error) })
            }
        }
    }

    /// Whose credential a text is.
    async fn identity_of(&self, text: &str, client: IpAddr) -> Result<Identity, NotAccepted> {
        let hash = auth::key_hash(text);
        let generation = {
            let mut cache = self.cache.borrow_mut();
            let generation = cache.refresh(&self.shared.registry_generation);
            if let Some(found) = cache.credentials.find(&hash) {
                return found;
            }
            generation
        };
        let known = self.look_up(generation, hash, text, client).await?;
        let identity = self.callers.recognise(hash, &known.credential);
        self.cache.borrow_mut().credentials.keep(generation, hash, identity.clone(), known.expires_s);
        Ok(identity)
    }

    /// Whose a token and an API key are that came together. The request counts for the key.
    async fn identity_of_both(
        &self,
        token: &str,
        key: &str,
        client: IpAddr,
    ) -> Result<Identity, NotAccepted> {
        let both = hash_of_both(token, key);
        let generation = {
            let mut cache = self.cache.borrow_mut();
            let generation = cache.refresh(&self.shared.registry_generation);
            if let Some(Ok(identity)) = cache.credentials.find(&both) {
                return Ok(identity);
            }
            generation
        };
        // The token first: where it is somebody else's, its error says so.
        let token = self.look_up(generation, auth::key_hash(token), token, client).await?;
        let hash = auth::key_hash(key);
        let key = self.look_up(generation, hash, key, client).await?;
        let joined = Credential::joined(&token.credential, &key.credential).map_err(ApiError::from)?;
        let identity = self.callers.recognise(hash, &joined);
        let expires_s = token.expires_s.min(key.expires_s);
        self.cache.borrow_mut().credentials.keep(generation, both, identity.clone(), expires_s);
        Ok(identity)
    }

    /// Asks the node's authority for a credential that this core does not remember, and remembers a refusal.
    async fn look_up(
        &self,
        generation: u64,
        hash: KeyHash,
        text: &str,
        client: IpAddr,
    ) -> Result<Known, NotAccepted> {
        if let Some(Err(why)) = self.cache.borrow_mut().credentials.find(&hash) {
            return Err(why);
        }
        self.shared.authority.screen(text)?;
        if self.callers.good.borrow_mut().get(&hash).is_none() {
            // Looking it up costs more than an address may have that has used up its requests or its guesses.
            let address = self.callers.address(client);
            for kind in [RateKind::FailedCredentials, RateKind::Requests] {
                self.shared.shares.has_token(kind, &address.party).map_err(ApiError::from)?;
            }
        }
        let (authority, asked) = (self.shared.authority.clone(), text.to_owned());
        match self.ask(move || authority.find(&asked)).await? {
            Ok(known) => {
                self.callers.good.borrow_mut().insert(hash, ());
                Ok(known)
            }
            Err(error) => {
                let why = NotAccepted::from(error);
                if why.error.status == http::StatusCode::UNAUTHORIZED {
                    self.callers.good.borrow_mut().remove(&hash);
                }
                self.cache.borrow_mut().credentials.keep_refusal(generation, hash, &why);
                Err(why)
            }
        }
    }

    /// Counts a request with a bad credential; the answer to it.
    pub(super) fn failed(&self, error: ApiError, client: IpAddr) -> ApiError {
        if error.status != http::StatusCode::UNAUTHORIZED {
            return error;
        }
        let address = self.callers.address(client);
        if let Err(limited) = self.callers.take(RateKind::FailedCredentials, &address) {
            return limited;
        }
        self.shared.registry.record_bad_credential(address_key(client));
        error
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

fn foreign<T>(sent: &Sent<T>) -> Option<ApiError> {
    sent.foreign.map(ApiError::unauthorized)
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
