//! Which address a request counts for.

use http::header::HOST;
use http::{HeaderMap, HeaderValue};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv6Addr};

const FORWARDED_FOR: http::HeaderName = http::HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: http::HeaderName = http::HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: http::HeaderName = http::HeaderName::from_static("x-forwarded-proto");

/// What counts as one address: an IPv4 address, or the /64 of an IPv6 one, as that is what one customer is given.
pub(crate) fn address_key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

/// The proxies whose `X-Forwarded-For` is believed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Addresses and networks.
    ///
    /// # Errors
    /// A sentence that names the entry that is neither.
    pub fn parse(entries: &[String]) -> Result<Self, String> {
        let parse = |entry: &String| {
            let network = entry.parse().or_else(|_| entry.parse::<IpAddr>().map(IpNet::from));
            network.map_err(|_| {
                format!(
                    "expected addresses or networks such as \"10.0.0.5\" or \"10.1.0.0/16\", got {entry:?}"
                )
            })
        };
        entries.iter().map(parse).collect::<Result<_, _>>().map(Self)
    }

    /// The networks in words.
    pub(crate) fn texts(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(IpNet::to_string)
    }

    /// Whether an address is one of theirs.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The address of a request's client: the connection's own, or what a trusted proxy says that it had before it. Each proxy
    /// adds to the end, so the client is the last entry that is no trusted proxy.
    pub(crate) fn client(&self, connection: IpAddr, headers: &HeaderMap) -> IpAddr {
        if self.0.is_empty() || !self.contains(connection) {
            return connection;
        }
        let mut client = connection;
        let values: Vec<_> = headers.get_all(FORWARDED_FOR).iter().collect();
        let entries = values.iter().rev().filter_map(|value| value.to_str().ok());
        for entry in entries.flat_map(|value| value.rsplit(',')) {
            // What is no address was not written by a proxy that can be trusted.
            let Ok(address) = entry.trim().parse::<IpAddr>() else { break };
            client = address;
            if !self.contains(address) {
                break;
            }
        }
        client
    }

    /// The scheme and the host that a request's client asked for: the request's own, or what a trusted proxy says.
    pub(crate) fn asked_for<'h>(
        &self,
        connection: IpAddr,
        headers: &'h HeaderMap,
    ) -> (&'static str, Option<&'h HeaderValue>) {
        let is_proxy = !self.0.is_empty() && self.contains(connection);
        let forwarded = |name| headers.get(name).filter(|_| is_proxy);
        let is_https =
            forwarded(FORWARDED_PROTO).is_some_and(|scheme| scheme.as_bytes().eq_ignore_ascii_case(b"https"));
        let host = forwarded(FORWARDED_HOST).or_else(|| headers.get(HOST));
        (if is_https { "https" } else { "http" }, host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trusted_proxies_say_what_the_client_asked_for() {
        let headers: HeaderMap =
            [(HOST, "node:6001"), (FORWARDED_HOST, "shop.example"), (FORWARDED_PROTO, "HTTPS")]
                .map(|(name, value)| (name, HeaderValue::from_static(value)))
                .into_iter()
                .collect();
        let proxies = TrustedProxies::parse(&["10.0.0.0/8".to_owned()]).unwrap();
        let (none, proxied) = (HeaderMap::new(), &headers);
        let asked = |from: &str, headers| proxies.asked_for(from.parse().unwrap(), headers);
        assert_eq!(asked("10.1.2.3", proxied), ("https", Some(&HeaderValue::from_static("shop.example"))));
        assert_eq!(asked("11.1.2.3", proxied), ("http", Some(&HeaderValue::from_static("node:6001"))));
        assert_eq!(asked("10.1.2.3", &none), ("http", None));
    }

    fn client(proxies: &[&str], connection: &str, forwarded: &[&'static str]) -> String {
        let proxies: Vec<_> = proxies.iter().map(|&entry| entry.to_owned()).collect();
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(FORWARDED_FOR, HeaderValue::from_static(value));
        }
        let proxies = TrustedProxies::parse(&proxies).unwrap();
        proxies.client(connection.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn only_trusted_proxies_say_who_the_client_is() {
        assert_eq!(client(&[], "10.0.0.1", &["1.2.3.4"]), "10.0.0.1");
        assert_eq!(client(&["10.0.0.2"], "10.0.0.1", &["1.2.3.4"]), "10.0.0.1");
        assert_eq!(client(&["10.0.0.0/8"], "10.0.0.1", &["1.2.3.4"]), "1.2.3.4");
        assert_eq!(client(&["10.0.0.0/8"], "::ffff:10.0.0.1", &["1.2.3.4"]), "1.2.3.4");
        assert_eq!(client(&["10.0.0.0/8"], "10.0.0.1", &[]), "10.0.0.1");
        // What the client itself claimed stands before what the proxy saw.
        assert_eq!(client(&["10.0.0.0/8"], "10.0.0.1", &["9.9.9.9, 1.2.3.4"]), "1.2.3.4");
        assert_eq!(client(&["10.0.0.0/8"], "10.0.0.1", &["9.9.9.9", "1.2.3.4, 10.0.0.7"]), "1.2.3.4");
        assert_eq!(client(&["10.0.0.0/8"], "10.0.0.1", &["1.2.3.4, nonsense"]), "10.0.0.1");
        assert!(
            TrustedProxies::parse(&["proxy.internal".to_owned()]).unwrap_err().contains("proxy.internal")
        );
    }

    #[test]
    fn one_customer_counts_once() {
        let key = |text: &str| address_key(text.parse().unwrap()).to_string();
        assert_eq!(key("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(key("2001:db8:1:2:ffff::1"), "2001:db8:1:2::");
        assert_eq!(key("::ffff:192.0.2.1"), "192.0.2.1");
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
    }
}
