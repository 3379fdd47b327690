//! The address of a node: its checks, and when an API key that was saved for one address may go to another.

use crate::error::{CliError, Result};
use reqwest::Url;
use std::fmt;
use std::net::IpAddr;

/// The address of a node: scheme, host, port and an optional path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway(Url);

impl Gateway {
    /// Reads an address.
    ///
    /// # Errors
    /// Wrong usage, when the text is no `http` or `https` URL, or holds more than scheme, host, port and path. No message
    /// repeats a password or a query.
    pub fn parse(text: &str) -> Result<Self> {
        let refuse = |why: &str| {
            CliError::usage(format!("the node's address{} is not valid: {why}", shown(text))).hint(
                "give an address such as http://127.0.0.1:6001 with --gateway-url, ORAMA_GATEWAY_URL or credentials.json",
            )
        };
        let url = Url::parse(text).map_err(|error| refuse(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(refuse("it must begin with http:// or https://"));
        }
        if !url.username().is_empty()
            || url.password().is_some()
            || url.query().is_some()
            || url.fragment().is_some()
        {
            return Err(CliError::usage("the node's address must hold only scheme, host, port and path")
                .hint("give the API key with ORAMA_API_KEY or --api-key"));
        }
        Ok(Self(url))
    }

    /// The address as a URL.
    pub fn url(&self) -> &Url {
        &self.0
    }

    /// Whether the address is of this machine.
    pub fn is_loopback(&self) -> bool {
        self.is_localhost() || self.ip().is_some_and(|address| address.is_loopback())
    }

    /// Where to connect with a key that was saved for `saved`; `None` when `self` is another node's address.
    ///
    /// Two addresses name the same node when scheme, host and port are equal; the path does not count. `127.0.0.1` and `[::1]`
    /// differ, as two users of a machine can listen on one of them each. `localhost` may resolve to either, so it is taken as the
    /// saved loopback address, and the connection goes to exactly that.
    pub fn for_key_of(&self, saved: &Self) -> Option<Self> {
        let mut url = self.0.clone();
        if self.is_localhost() && saved.is_loopback() {
            url.set_host(saved.0.host_str()).ok()?;
        }
        (url.origin() == saved.0.origin()).then_some(Self(url))
    }

    fn is_localhost(&self) -> bool {
        self.0.host_str() == Some("localhost")
    }

    fn ip(&self) -> Option<IpAddr> {
        let host = self.0.host_str()?;
        host.trim_start_matches('[').trim_end_matches(']').parse().ok()
    }
}

impl fmt::Display for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

/// The text for a message; empty when it may hold a password.
fn shown(text: &str) -> String {
    if text.contains(['@', '?', '#']) { String::new() } else { format!(" {text:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Exit;

    fn gateway(text: &str) -> Gateway {
        Gateway::parse(text).unwrap()
    }

    #[test]
    fn an_invalid_address_is_a_usage_error_without_secrets() {
        for bad in [
            "",
            "127.0.0.1:6001",
            "ftp://x",
            "http://user:pa55@x",
            "http://user:pa55@x:99999",
            "http://x?key=pa55",
            "http://x:p/?key=pa55",
        ] {
            let error = Gateway::parse(bad).unwrap_err();
            assert_eq!(error.exit(), Exit::Usage, "{bad}");
            assert!(!error.described().contains("pa55"), "{}", error.described());
        }
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for (url, loopback) in [
            ("http://127.0.0.1:6001", true),
            ("http://[::1]:6001", true),
            ("http://localhost", true),
            ("http://localhost.example.org", false),
            ("http://example.org", false),
            ("http://10.0.0.1", false),
        ] {
            assert_eq!(gateway(url).is_loopback(), loopback, "{url}");
        }
    }

    #[test]
    fn a_saved_key_goes_to_the_saved_scheme_host_and_port_only() {
        for (saved, given, connects_to) in [
            ("http://a:6001", "http://A:6001/", Some("http://a:6001")),
            ("http://a", "http://a:80", Some("http://a")),
            ("https://a/x", "https://a:443/y", Some("https://a/y")),
            ("http://127.0.0.1:6001", "http://127.1:6001", Some("http://127.0.0.1:6001")),
            ("http://127.0.0.1:6001", "http://localhost:6001", Some("http://127.0.0.1:6001")),
            ("http://[::1]:6001", "http://LOCALHOST:6001/p", Some("http://[::1]:6001/p")),
            ("http://localhost:6001", "http://localhost:6001", Some("http://localhost:6001")),
            ("http://a:6001", "http://a:6002", None),
            ("http://a:6001", "https://a:6001", None),
            ("https://a", "http://a", None),
            ("http://a:6001", "http://b:6001", None),
            ("http://a:6001", "http://a.b:6001", None),
            ("http://a:6001", "http://a.:6001", None),
            ("http://127.0.0.1:6001", "http://localhost:6002", None),
            ("http://127.0.0.1:6001", "https://localhost:6001", None),
            ("http://127.0.0.1:6001", "http://[::1]:6001", None),
            ("http://127.0.0.1:6001", "http://127.0.0.2:6001", None),
            ("http://127.0.0.1:6001", "http://localhost.example.org:6001", None),
            ("http://127.0.0.1:6001", "http://[::ffff:127.0.0.1]:6001", None),
            ("http://localhost:6001", "http://127.0.0.1:6001", None),
            ("http://10.0.0.1:6001", "http://localhost:6001", None),
        ] {
            let found = gateway(given).for_key_of(&gateway(saved)).map(|to| to.to_string());
            assert_eq!(found.as_deref(), connects_to, "saved for {saved}, given {given}");
        }
    }
}
