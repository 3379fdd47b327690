//! Types of argument values, which are checked when the arguments are parsed.

use clap::ValueEnum;
use orama_runtime::names::FunctionName;
use orama_server::platform::registry::Which;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;

/// The outcome of an invocation.
#[derive(Clone, Copy, ValueEnum)]
pub enum Status {
    Success,
    Error,
    Timeout,
}

/// `name`, `name@version` or `name@alias`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub name: FunctionName,
    pub which: Which,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, which) = match text.split_once('@') {
            Some((name, which)) => (name, Which::parse(which)?),
            None => (text, Which::Live),
        };
        Ok(Self { name: FunctionName::new(name).map_err(|error| error.to_string())?, which })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.name, self.which)
    }
}

/// A point in time, given as a time or as an age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Since(pub jiff::Timestamp);

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        orama_server::since(text, jiff::Timestamp::now()).map(Self).ok_or_else(|| {
            "expected a time such as 2026-02-23T19:00:00Z, Unix seconds, or an age such as 90s, 15m, 2h or 1d".to_owned()
        })
    }
}

/// A time in the future, given as a time or as an age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry(pub jiff::Timestamp);

impl FromStr for Expiry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let now = jiff::Timestamp::now();
        // Days as 24 hours: a time stamp knows no calendar.
        let days = text.strip_suffix('d').and_then(|days| days.parse::<i64>().ok()).filter(|days| *days > 0);
        let after = match days {
            Some(days) => days.checked_mul(24).and_then(jiff::SignedDuration::try_from_hours),
            None => text.parse::<jiff::SignedDuration>().ok(),
        };
        let at = match after {
            Some(after) => now.checked_add(after).ok(),
            None => text.parse().ok(),
        };
        at.filter(|at| *at > now).map(Self).ok_or_else(|| {
            "expected a time in the future, such as 2027-01-01T00:00:00Z, or an age such as 90m, 24h or 30d".to_owned()
        })
    }
}

/// Where a node listens: an address and a port, `localhost` and a port, or `:` and a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen(pub SocketAddr);

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A port alone keeps the default host: what is open to the network is named.
        let local = text.strip_prefix("localhost:").or_else(|| text.strip_prefix(':'));
        let address = match local {
            Some(port) => port.parse().ok().map(|port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
            None => text.parse().ok(),
        };
        address
            .map(Self)
            .ok_or_else(|| "expected ADDRESS:PORT, such as 0.0.0.0:6001, localhost:6001 or :6001".to_owned())
    }
}

/// An id of the node: letters, digits, '-' and '_', so that it is one segment of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Id(String);

impl Id {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Id {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        if text.is_empty() || !text.bytes().all(fits) {
            return Err("an id consists of letters, digits, '-' and '_'".to_owned());
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_name_with_or_without_a_version() {
        let target: Target = "hello@12".parse().unwrap();
        assert_eq!(
            (target.name.as_str(), target.which.clone(), target.to_string().as_str()),
            ("hello", Which::Number(12), "hello@12")
        );
        assert_eq!("hello".parse::<Target>().unwrap().which, Which::Live);
        assert_eq!("hello@canary".parse::<Target>().unwrap().to_string(), "hello@canary");
        for bad in
            ["", "@1", "hello@", "hello@0", "hello@+1", "hello@x.y", "hello@1@2", "a b", "hello@99999999999"]
        {
            assert!(bad.parse::<Target>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn since_is_a_time_or_an_age() {
        assert_eq!("2026-02-23T19:00:00Z".parse::<Since>().unwrap().0.as_second(), 1_771_873_200);
        let now = jiff::Timestamp::now().as_second();
        for (text, seconds) in [("90s", 90), ("15m", 900), ("2h", 7200), ("1d", 86_400)] {
            let since = text.parse::<Since>().unwrap().0.as_second();
            assert!((0..=2).contains(&(since + seconds - now)), "{text}: {since}");
        }
        assert_eq!("1771873200".parse::<Since>().unwrap().0.as_second(), 1_771_873_200);
        for bad in ["", "yesterday", "-15", "15 parsecs"] {
            assert!(bad.parse::<Since>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn an_expiry_is_in_the_future() {
        let now = jiff::Timestamp::now().as_second();
        for (text, seconds) in [("90m", 5400), ("24h", 86_400), ("30d", 2_592_000)] {
            let at = text.parse::<Expiry>().unwrap().0.as_second();
            assert!((0..=2).contains(&(at - now - seconds)), "{text}: {at}");
        }
        assert!("2199-01-01T00:00:00Z".parse::<Expiry>().is_ok());
        for bad in ["", "0d", "-1d", "-90m", "2020-01-01T00:00:00Z", "99999999999d", "soon"] {
            assert!(bad.parse::<Expiry>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn a_listen_address_may_leave_out_the_host() {
        for (text, address) in [
            ("0.0.0.0:6001", "0.0.0.0:6001"),
            ("[::1]:0", "[::1]:0"),
            ("localhost:6001", "127.0.0.1:6001"),
            (":6001", "127.0.0.1:6001"),
        ] {
            assert_eq!(text.parse(), Ok(Listen(address.parse().unwrap())), "{text}");
        }
        for bad in ["", "6001", ":", ":x", ":65536", "localhost", "example.org:1", ":+1x"] {
            assert!(bad.parse::<Listen>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn an_id_is_one_segment_of_a_path() {
        assert_eq!("0197f0c2-5b5e_X".parse::<Id>().unwrap().as_str(), "0197f0c2-5b5e_X");
        for bad in ["", ".", "..", "a/b", "a b", "a%2fb", "a?b"] {
            assert!(bad.parse::<Id>().is_err(), "{bad:?} was accepted");
        }
    }
}
