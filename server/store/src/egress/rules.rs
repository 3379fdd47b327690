//! The rules for targets that guests may connect to.

use super::addresses::{embedded, not_public};
use super::guarded::{IsOwn, Servers};
use super::target::EgressTarget;
use orama_runtime::services::ServiceError;
use std::net::IpAddr;
use std::sync::Arc;
use url::{Host, Url};

pub(super) struct Rules {
    pub(super) allow: Vec<EgressTarget>,
    /// Takes precedence over `allow`.
    pub(super) deny: Vec<EgressTarget>,
    pub(super) is_own: IsOwn,
    pub(super) servers: Arc<Servers>,
}

impl Rules {
    /// The host and the port of a URL. An address in the URL is checked here, because it is not resolved.
    pub(super) fn target<'a>(&self, url: &'a Url) -> Result<(&'a str, u16), ServiceError> {
        let incomplete = || ServiceError::invalid("the URL has no host");
        let port = url.port_or_known_default().ok_or_else(incomplete)?;
        match url.host().ok_or_else(incomplete)? {
            Host::Domain(_) => {}
            Host::Ipv4(address) => self.check(None, address.into(), port)?,
            Host::Ipv6(address) => self.check(None, address.into(), port)?,
        }
        Ok((url.host_str().ok_or_else(incomplete)?, port))
    }

    /// Checks that guests may connect to an address; `name` is the name that was resolved to it.
    pub(super) fn check(&self, name: Option<&str>, address: IpAddr, port: u16) -> Result<(), ServiceError> {
        // All addresses that a packet to this address may reach.
        let reached = [Some(address), embedded(address).map(IpAddr::V4)].into_iter().flatten();
        let mut covering = self.allow.iter().filter(|entry| entry.covers(name, address, port)).peekable();
        let denied = |what: &str, then: &str| {
            let of = name.map(|name| format!(" of host {name}")).unwrap_or_default();
            Err(ServiceError::invalid(format!("address {address}{of} is {what}; {then}")))
        };
        if reached.clone().any(|address| self.deny.iter().any(|entry| entry.covers(name, address, port))) {
            return denied("denied", "the operator lists it in egress.deny");
        }
        let is_allowed = covering.peek().is_some();
        if covering.any(EgressTarget::is_exact) {
            return Ok(());
        }
        let exactly = "the operator may allow exactly this host and port with egress.allow";
        if reached.clone().any(|address| self.servers.has(address)) {
            return denied("that of a server of this node", exactly);
        }
        if reached.clone().any(self.is_own) {
            return denied(not_public(address).unwrap_or("this machine's own"), exactly);
        }
        match not_public(address) {
            Some(word) if !is_allowed => denied(word, "the operator may allow it with egress.allow"),
            _ => Ok(()),
        }
    }
}
