//! The entries of `egress.allow` and `egress.deny`.

use ipnet::IpNet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use url::Host;

/// One entry of `egress.allow` or `egress.deny`: `host`, `host:port`, `address`, `address:port`, `[v6]:port` or
/// `address/prefix`.
#[derive(Clone, PartialEq, Eq)]
pub struct EgressTarget {
    target: Target,
    /// Any port if it is not given.
    port: Option<u16>,
}

#[derive(Clone, PartialEq, Eq)]
enum Target {
    /// All addresses of this name, in lower case without a dot at its end.
    Name(String),
    /// All addresses in this network.
    Net(IpNet),
}

impl FromStr for EgressTarget {
    type Err = String;

    /// # Errors
    /// A message with the entry and the accepted forms.
    fn from_str(entry: &str) -> Result<Self, String> {
        parse(entry).ok_or_else(|| {
            format!(
                "{entry:?} is no target: expected a host, an IP address (both with or without a port, IPv6 with a port \
                 as [::1]:80) or a network such as 10.0.0.0/8"
            )
        })
    }
}

fn parse(entry: &str) -> Option<EgressTarget> {
    let net = |address: IpAddr| Target::Net(address.to_canonical().into());
    if let Ok(address) = entry.parse() {
        return Some(EgressTarget { target: net(address), port: None });
    }
    if entry.contains('/') {
        return Some(EgressTarget { target: Target::Net(entry.parse().ok()?), port: None });
    }
    let (host, port) = match entry.rsplit_once(':').filter(|_| !entry.ends_with(']')) {
        None => (entry, None),
        Some((host, port)) => {
            let digits = port.bytes().all(|byte| byte.is_ascii_digit());
            (host, Some(port.parse().ok().filter(|port| digits && *port > 0)?))
        }
    };
    // Parsed like the host of a URL, so that both are normalised alike. Only IPv6 addresses have brackets.
    let target = match Host::parse(host).ok()? {
        Host::Ipv4(address) => net(address.into()),
        Host::Ipv6(address) => net(address.into()),
        Host::Domain(name) => {
            let is_host = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
            let name = without_dot(&name);
            if name.is_empty() || !name.bytes().all(is_host) {
                return None;
            }
            Target::Name(name.to_owned())
        }
    };
    Some(EgressTarget { target, port })
}

/// Removes the dot of the root at the end of a name.
fn without_dot(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

impl EgressTarget {
    /// Whether the entry covers an address and port. `name` is the name that was resolved; `None` if the URL has the address.
    pub(super) fn covers(&self, name: Option<&str>, address: IpAddr, port: u16) -> bool {
        let covers = match &self.target {
            Target::Name(own) => name.is_some_and(|name| without_dot(name).eq_ignore_ascii_case(own)),
            Target::Net(net) => net.contains(&address.to_canonical()),
        };
        covers && self.port.is_none_or(|own| own == port)
    }

    /// Whether the entry names exactly one host and one port. Only such an entry opens a guarded address.
    pub(super) fn is_exact(&self) -> bool {
        let is_one_host = match &self.target {
            Target::Name(_) => true,
            Target::Net(net) => net.prefix_len() == net.max_prefix_len(),
        };
        is_one_host && self.port.is_some()
    }
}

/// As an entry says it; an address is a network of its own.
impl fmt::Display for EgressTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.target, self.port) {
            (Target::Name(name), None) => f.write_str(name),
            (Target::Name(name), Some(port)) => write!(f, "{name}:{port}"),
            (Target::Net(net), None) => write!(f, "{net}"),
            (Target::Net(net), Some(port)) => write!(f, "{}", SocketAddr::new(net.addr(), port)),
        }
    }
}

impl fmt::Debug for EgressTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            Target::Name(name) => f.write_str(name)?,
            Target::Net(net) => write!(f, "{net}")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, " port {port}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_an_entry() {
        for (entry, shown) in [
            ("push.internal", "push.internal"),
            ("Push.Internal.", "push.internal"),
            ("push_2.internal:9000", "push_2.internal port 9000"),
            ("localhost:80", "localhost port 80"),
            ("müller.example", "xn--mller-kva.example"),
            ("10.1.2.3", "10.1.2.3/32"),
            ("127.0.0.1:9000", "127.0.0.1/32 port 9000"),
            ("::1", "::1/128"),
            ("[::1]", "::1/128"),
            ("[::1]:9000", "::1/128 port 9000"),
            ("::ffff:10.0.0.1", "10.0.0.1/32"),
            ("10.1.0.0/16", "10.1.0.0/16"),
            ("fd00::/8", "fd00::/8"),
            ("0.0.0.0/0", "0.0.0.0/0"),
        ] {
            assert_eq!(format!("{:?}", entry.parse::<EgressTarget>().unwrap()), shown, "{entry}");
        }
        for bad in [
            "",
            " ",
            ":80",
            "a:",
            "a:0",
            "a:65536",
            "a:+1",
            "a:b",
            "http://a",
            "a/b",
            "10.0.0.0/33",
            "10.0.0.0/8:80",
            "*.internal",
            "a b",
            "a@b",
            "[::1",
            "[::1]x:1",
            "[fe80::1%eth0]:1",
            "256.0.0.1",
            "::1:90000x",
            ".",
            "a?b",
        ] {
            let message = bad.parse::<EgressTarget>().unwrap_err();
            assert!(message.starts_with(&format!("{bad:?} is no target")), "{message}");
        }
    }

    #[test]
    fn an_entry_covers_its_target_and_port_and_nothing_else() {
        let covers = |entry: &str, name: Option<&str>, address: &str, port| {
            let entry: EgressTarget = entry.parse().unwrap();
            entry.covers(name, address.parse().unwrap(), port)
        };
        assert!(covers("push.internal", Some("PUSH.internal."), "10.0.0.1", 80));
        assert!(!covers("push.internal", Some("a.push.internal"), "10.0.0.1", 80));
        assert!(!covers("push.internal", Some("xpush.internal"), "10.0.0.1", 80));
        assert!(!covers("push.internal", None, "10.0.0.1", 80));
        assert!(covers("push.internal:81", Some("push.internal"), "10.0.0.1", 81));
        assert!(!covers("push.internal:81", Some("push.internal"), "10.0.0.1", 80));
        for name in [None, Some("any.name")] {
            assert!(covers("10.1.0.0/16", name, "10.1.255.255", 1));
            assert!(covers("10.1.0.0/16", name, "::ffff:10.1.0.1", 1));
            assert!(!covers("10.1.0.0/16", name, "10.2.0.0", 1));
            assert!(covers("127.0.0.1:9000", name, "127.0.0.1", 9000));
            assert!(!covers("127.0.0.1:9000", name, "127.0.0.1", 9001));
            assert!(!covers("127.0.0.1:9000", name, "127.0.0.2", 9000));
            assert!(covers("[::1]:9000", name, "::1", 9000));
            assert!(!covers("[::1]:9000", name, "127.0.0.1", 9000));
        }
    }
    #[test]
    fn an_entry_is_exact_when_it_names_one_host_and_one_port() {
        for (entry, exact) in [
            ("push.internal:9000", true),
            ("10.0.0.1:80", true),
            ("[::1]:80", true),
            ("push.internal", false),
            ("10.0.0.1", false),
            ("10.0.0.1/32", false),
            ("0.0.0.0/0", false),
        ] {
            assert_eq!(entry.parse::<EgressTarget>().unwrap().is_exact(), exact, "{entry}");
        }
    }
}
