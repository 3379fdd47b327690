//! Where a browser's page comes from, in one spelling.

use http::Uri;

/// A scheme and a host with its port, in small letters and without the scheme's usual port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    scheme: String,
    host: String,
}

impl Origin {
    /// Reads an `Origin` header or an entry of the config. `null`, which pages without an origin send, is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let uri: Uri = text.parse().ok()?;
        if uri.path().len() > 1 || uri.query().is_some() || text.contains(['@', '#']) {
            return None;
        }
        let scheme = uri.scheme_str()?.to_ascii_lowercase();
        let host = host(uri.authority()?.as_str(), &scheme);
        Some(Self { scheme, host })
    }

    /// Whether a request to this `Host` comes from a page of the same host and port. A proxy before the node may
    /// have taken TLS away, so the scheme is left out.
    pub(crate) fn is_of(&self, host_header: &str) -> bool {
        self.host == host(host_header, &self.scheme)
    }
}

fn host(authority: &str, scheme: &str) -> String {
    let usual = match scheme {
        "https" | "wss" => ":443",
        _ => ":80",
    };
    authority.strip_suffix(usual).unwrap_or(authority).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_origin_has_one_spelling() {
        let origin = |text| Origin::parse(text).unwrap();
        assert_eq!(origin("https://Example.com"), origin("https://example.COM:443"));
        assert_eq!(origin("https://example.com/"), origin("https://example.com"));
        assert_ne!(origin("https://example.com"), origin("http://example.com"));
        assert_ne!(origin("https://example.com"), origin("https://example.com:8443"));
        for bad in
            ["", "null", "example.com", "/", "https://", "https://a/b", "https://a?b", "https://u@a", "*"]
        {
            assert_eq!(Origin::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_same_host_and_port_is_the_same_place() {
        for (origin, host, same) in [
            ("https://example.com", "example.com", true),
            ("https://example.com", "EXAMPLE.com:443", true),
            ("http://example.com:80", "example.com", true),
            ("http://localhost:6001", "localhost:6001", true),
            ("http://[::1]:6001", "[::1]:6001", true),
            ("http://localhost:3000", "localhost:6001", false),
            ("http://localhost", "localhost:6001", false),
            ("https://example.com.evil.org", "example.com", false),
            ("https://evil.org", "example.com", false),
        ] {
            assert_eq!(Origin::parse(origin).unwrap().is_of(host), same, "{origin} {host}");
        }
    }
}
