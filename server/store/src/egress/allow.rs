//! Private targets that the operator lets guests reach: `egress.allow`.

use ipnet::IpNet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use url::Host;

/// One entry of `egress.allow`: `host`, `host:port`, `address`, `address:port`, `[v6]:port` or `address/prefix`.
#[derive(Clone, PartialEq, Eq)]
pub struct AllowEntry {
    target: Target,
    /// Any when it is not given.
    port: Option<u16>,
}

#[derive(Clone, PartialEq, Eq)]
enum Target {
    /// Whatever this name resolves to; in lower case, without a dot at its end.
    Name(String),
    /// Every host whose address is in this network.
    Net(IpNet),
}

impl FromStr for AllowEntry {
    type Err = String;

    /// # Errors
    /// A message that names the entry and what is accepted.
    fn from_str(entry: &str) -> Result<Self, String> {
        parse(entry).ok_or_else(|| {
            format!(
                "{entry:?} is no target: expected a host, an IP address (both with or without a port, IPv6 with a port \
                 as [::1]:80) or a network such as 10.0.0.0/8"
            )
        })
    }
}

fn parse(entry: &str) -> Option<AllowEntry> {
    let net = |address: IpAddr| Target::Net(address.to_canonical().into());
    if let Ok(address) = entry.parse() {
        return Some(AllowEntry { target: net(address), port: None });
    }
    if entry.contains('/') {
        return Some(AllowEntry { target: Target::Net(entry.parse().ok()?), port: None });
    }
    let (host, port) = match entry.rsplit_once(':').filter(|_| !entry.ends_with(']')) {
        None => (entry, None),
        Some((host, port)) => {
            let digits = port.bytes().all(|byte| byte.is_ascii_digit());
            (host, Some(port.parse().ok().filter(|port| digits && *port > 0)?))
        }
    };
    // As URLs have them, so that both are normalised alike. Brackets are of IPv6 alone.
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
    Some(AllowEntry { target, port })
}

/// A name may end with the dot of the root, which changes nothing of it.
fn without_dot(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

impl AllowEntry {
    /// Whether guests may reach this address and port by this name; `None` where the URL has the address itself.
    pub(super) fn allows(&self, name: Option<&str>, address: IpAddr, port: u16) -> bool {
        let allows = match &self.target {
            Target::Name(allowed) => name.is_some_and(|name| without_dot(name).eq_ignore_ascii_case(allowed)),
            Target::Net(net) => net.contains(&address.to_canonical()),
        };
        allows && self.port.is_none_or(|allowed| allowed == port)
    }
}

impl fmt::Debug for AllowEntry {
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
            assert_eq!(format!("{:?}", entry.parse::<AllowEntry>().unwrap()), shown, "{entry}");
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
            let message = bad.parse::<AllowEntry>().unwrap_err();
            assert!(message.starts_with(&format!("{bad:?} is no target")), "{message}");
        }
    }

    #[test]
    fn an_entry_allows_its_target_and_port_and_nothing_else() {
        let allows = |entry: &str, name: Option<&str>, address: &str, port| {
            let entry: AllowEntry = entry.parse().unwrap();
            entry.allows(name, address.parse().unwrap(), port)
        };
        assert!(allows("push.internal", Some("PUSH.internal."), "10.0.0.1", 80));
        assert!(!allows("push.internal", Some("a.push.internal"), "10.0.0.1", 80));
        assert!(!allows("push.internal", Some("xpush.internal"), "10.0.0.1", 80));
        assert!(!allows("push.internal", None, "10.0.0.1", 80));
        assert!(allows("push.internal:81", Some("push.internal"), "10.0.0.1", 81));
        assert!(!allows("push.internal:81", Some("push.internal"), "10.0.0.1", 80));
        for name in [None, Some("any.name")] {
            assert!(allows("10.1.0.0/16", name, "10.1.255.255", 1));
            assert!(allows("10.1.0.0/16", name, "::ffff:10.1.0.1", 1));
            assert!(!allows("10.1.0.0/16", name, "10.2.0.0", 1));
            assert!(allows("127.0.0.1:9000", name, "127.0.0.1", 9000));
            assert!(!allows("127.0.0.1:9000", name, "127.0.0.1", 9001));
            assert!(!allows("127.0.0.1:9000", name, "127.0.0.2", 9000));
            assert!(allows("[::1]:9000", name, "::1", 9000));
            assert!(!allows("[::1]:9000", name, "127.0.0.1", 9000));
        }
    }
}
