//! Guarded addresses: this machine's own and those of the node's servers. Guests reach them only where the operator names host
//! and port.

use super::resolver::{LookUp, on_a_thread};
use crate::limits::{SERVER_NAMES_EVERY, SERVER_NAMES_REMEMBERED};
use parking_lot::RwLock;
use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Weak};
use std::time::Instant;
use tokio::sync::OnceCell;
use url::Host;

/// Whether an address belongs to this machine.
pub(super) type IsOwn = fn(IpAddr) -> bool;

/// Addresses for documentation, which no machine has (RFC 5737, RFC 3849).
const NOBODYS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

/// Asks the system at each call, so that a new address counts at once. A socket can be bound only to the machine's own addresses,
/// including those that only a route makes local.
pub(super) fn is_own(address: IpAddr) -> bool {
    let address = address.to_canonical();
    if address.is_loopback() || address.is_unspecified() {
        return true;
    }
    if !can_bind(address) {
        return false;
    }
    // With `ip_nonlocal_bind` the system binds to any address, so the list of interfaces decides.
    let binds_any =
        NOBODYS.iter().any(|nobodys| nobodys.is_ipv4() == address.is_ipv4() && can_bind(*nobodys));
    !binds_any || is_of_an_interface(address)
}

/// Whether a socket can be bound to an address. If the system cannot tell, for example for lack of descriptors, the answer is
/// yes.
fn can_bind(address: IpAddr) -> bool {
    match UdpSocket::bind((address, 0)) {
        Ok(_) => true,
        Err(error) => {
            let no_such_family = rustix::io::Errno::AFNOSUPPORT.raw_os_error();
            error.kind() != io::ErrorKind::AddrNotAvailable && error.raw_os_error() != Some(no_such_family)
        }
    }
}

fn is_of_an_interface(address: IpAddr) -> bool {
    match if_addrs::get_if_addrs() {
        Ok(interfaces) => interfaces.iter().any(|interface| interface.ip() == address),
        Err(error) => {
            tracing::error!(%error, "the machine's addresses cannot be listed; functions reach no address for now");
            true
        }
    }
}

/// The servers that the node itself uses.
#[derive(Default)]
pub(super) struct Servers {
    addresses: HashSet<IpAddr>,
    names: Vec<String>,
    /// The addresses of the names, each with the time when it was last resolved.
    resolved: RwLock<HashMap<IpAddr, Instant>>,
    /// Whether the names were resolved at least once.
    known: OnceCell<()>,
}

impl Servers {
    pub(super) fn new(hosts: Vec<Host>) -> Self {
        let mut servers = Self::default();
        for host in hosts {
            match host {
                Host::Ipv4(address) => drop(servers.addresses.insert(address.into())),
                Host::Ipv6(address) => drop(servers.addresses.insert(IpAddr::V6(address).to_canonical())),
                Host::Domain(name) => servers.names.push(name),
            }
        }
        servers.names.sort_unstable();
        servers.names.dedup();
        servers
    }

    /// Whether an address belongs to a server, on any port: besides the configured port, a server has ports for its cluster.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.addresses.contains(&address) || self.resolved.read().contains_key(&address)
    }

    /// Waits until the names were resolved at least once.
    pub(super) async fn known(&self, look_up: &LookUp) {
        self.known.get_or_init(|| self.resolve(look_up)).await;
    }

    /// Resolves the names. Earlier addresses of a name are kept for some time, because it may not resolve, or because a name
    /// server may rotate addresses.
    async fn resolve(&self, look_up: &LookUp) {
        for name in &self.names {
            let found = on_a_thread(Arc::clone(look_up), name.clone(), 0, ()).await;
            self.learn(found.unwrap_or_default(), Instant::now());
        }
    }

    fn learn(&self, found: Vec<SocketAddr>, now: Instant) {
        if found.is_empty() {
            return;
        }
        let mut resolved = self.resolved.write();
        resolved.retain(|_, seen| now.saturating_duration_since(*seen) < SERVER_NAMES_REMEMBERED);
        resolved.extend(found.into_iter().map(|address| (address.ip().to_canonical(), now)));
    }
}

/// Resolves the names of servers periodically until the list is dropped.
pub(super) async fn keep_resolved(servers: Weak<Servers>, look_up: LookUp) {
    while let Some(servers) = servers.upgrade().filter(|servers| !servers.names.is_empty()) {
        if servers.known.initialized() {
            servers.resolve(&look_up).await;
        } else {
            servers.known(&look_up).await;
        }
        drop(servers);
        tokio::time::sleep(SERVER_NAMES_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The address from which this machine reaches the outside, if it has one.
    fn outward() -> Option<IpAddr> {
        let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
        socket.connect("198.51.100.1:9").ok()?;
        Some(socket.local_addr().ok()?.ip())
    }

    #[test]
    fn the_machines_own_addresses_are_known_and_no_others() {
        for address in ["127.0.0.1", "127.255.0.1", "0.0.0.0", "::ffff:127.0.0.1", "::1", "::"] {
            assert!(is_own(address.parse().unwrap()), "{address}");
        }
        for address in ["8.8.8.8", "192.0.2.1", "2001:4860:4860::8888"] {
            assert!(!is_own(address.parse().unwrap()), "{address}");
        }
        if let Some(address) = outward() {
            assert!(is_own(address), "{address}");
            assert!(is_of_an_interface(address), "{address}");
        }
        assert!(!is_of_an_interface(NOBODYS[0]));
    }

    #[test]
    fn a_server_is_known_by_every_address_that_its_name_had_lately() {
        let hosts = ["10.0.0.1", "[::ffff:10.0.0.2]", "db.internal"];
        let servers = Servers::new(hosts.iter().map(|host| Host::parse(host).unwrap()).collect());
        let has = |address: &str| servers.has(address.parse().unwrap());
        assert!(has("10.0.0.1") && has("::ffff:10.0.0.1") && has("10.0.0.2") && !has("10.0.0.3"));
        let start = Instant::now();
        servers.learn(vec!["10.0.0.3:0".parse().unwrap()], start);
        servers.learn(vec!["10.0.0.4:0".parse().unwrap()], start + SERVER_NAMES_EVERY);
        assert!(has("10.0.0.3") && has("10.0.0.4"));
        servers.learn(Vec::new(), start + SERVER_NAMES_REMEMBERED * 2);
        assert!(has("10.0.0.4"), "a name that does not resolve keeps its addresses");
        servers.learn(vec!["10.0.0.5:0".parse().unwrap()], start + SERVER_NAMES_REMEMBERED);
        assert!(!has("10.0.0.3") && has("10.0.0.4") && has("10.0.0.5"));
    }
}
