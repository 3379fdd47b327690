//! The HTTP client: one request to the node, with its errors turned into exit codes.

use crate::credentials::Credentials;
use crate::error::{CliError, Exit, Result};
use reqwest::blocking::{Client as Http, RequestBuilder};
use reqwest::{Method, Url, redirect};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// How long a connection may take to stand.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an answer about functions, versions or logs may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest invocation takes 300 s; the rest is for the way and the queue.
pub const INVOKE_TIMEOUT: Duration = Duration::from_secs(330);

/// Upload over a slow line, and compiling the largest module.
pub const DEPLOY_TIMEOUT: Duration = Duration::from_secs(900);

/// Most of a body that is no error object which is still shown, in characters.
const FOREIGN_BODY_SHOWN: usize = 200;

/// Talks to one node.
pub struct Client {
    http: Http,
    base: Url,
    credentials: Credentials,
}

/// A successful answer.
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The request's id in the node's logs.
    pub request_id: Option<String>,
    /// What the node says that the invocation took, in milliseconds.
    pub duration_ms: Option<String>,
    /// The body as it came.
    pub body: Vec<u8>,
}

impl Client {
    /// Prepares to talk to the node that the credentials name.
    pub fn new(credentials: Credentials) -> Result<Self> {
        let base = base_url(&credentials.gateway_url)?;
        // A second call finds the provider installed, which is what is wanted.
        drop(rustls::crypto::ring::default_provider().install_default());
        let mut builder = Http::builder()
            .user_agent(concat!("orama/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT)
            // The key goes to the address that was named, and nowhere else.
            .redirect(redirect::Policy::none());
        if is_loopback(&base) {
            builder = builder.no_proxy();
        }
        let http = builder
            .build()
            .map_err(|error| CliError::failed(format!("cannot set up HTTP: {}", chain(&error))))?;
        Ok(Self { http, base, credentials })
    }

    /// A request for `/v1/` and the segments, for the chosen namespace.
    pub fn request(&self, method: Method, segments: &[&str]) -> RequestBuilder {
        self.query(method, segments, &[])
    }

    /// The same with a query.
    pub fn query(&self, method: Method, segments: &[&str], query: &[(&str, String)]) -> RequestBuilder {
        let namespace = self.namespace().map(|namespace| ("namespace", namespace));
        let query = query.iter().map(|(name, value)| (*name, value.as_str()));
        self.build(method, segments, namespace.into_iter().chain(query))
    }

    /// A request for `/v1/` and the segments that is about the node, or names its namespace in its body.
    pub fn bare(&self, method: Method, segments: &[&str]) -> RequestBuilder {
        self.build(method, segments, std::iter::empty())
    }

    fn build<'a>(
        &self,
        method: Method,
        segments: &[&str],
        query: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> RequestBuilder {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().push("v1").extend(segments);
        }
        let mut query = query.peekable();
        if query.peek().is_some() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let request = self.http.request(method, url);
        match &self.credentials.api_key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    /// The namespace that was chosen; without one the key's own is meant.
    pub fn namespace(&self) -> Option<&str> {
        self.credentials.namespace.as_deref()
    }

    /// Sends a request and takes the whole answer.
    pub fn send(&self, request: RequestBuilder) -> Result<Answer> {
        let answer = request.send().map_err(|error| self.unreachable(&error))?;
        let header = |name: &str| answer.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let (request_id, duration_ms) = (header("x-request-id"), header("x-duration-ms"));
        let status = answer.status();
        let body = answer.bytes().map_err(|error| self.unreachable(&error))?.to_vec();
        if status.is_success() {
            return Ok(Answer { status: status.as_u16(), request_id, duration_ms, body });
        }
        Err(self.refusal(status.as_u16(), &body, request_id))
    }

    fn unreachable(&self, error: &reqwest::Error) -> CliError {
        if error.is_builder() {
            // A key that is no header value ends here; the value itself is not in the message.
            return CliError::usage(format!("cannot make the request: {}", chain(error)));
        }
        let what = if error.is_timeout() { "no answer in time from" } else { "cannot reach" };
        let message = format!("{what} the node at {}: {}", self.base, chain(error));
        CliError::new(Exit::Unreachable, message)
            .passing(true)
            .hint("is it running? `orama serve` starts one; --gateway-url or ORAMA_GATEWAY_URL names another")
    }

    fn refusal(&self, status: u16, body: &[u8], request_id: Option<String>) -> CliError {
        #[derive(Deserialize)]
        struct Refusal {
            error: String,
            code: Option<String>,
            request_id: Option<String>,
        }
        let exit = Exit::from_status(status);
        let error = match serde_json::from_slice::<Refusal>(body) {
            Ok(refusal) => CliError::new(exit, refusal.error)
                .code(refusal.code)
                .request_id(refusal.request_id.or(request_id)),
            Err(_) => {
                let shown: String =
                    String::from_utf8_lossy(body).trim().chars().take(FOREIGN_BODY_SHOWN).collect();
                let message = format!("{} answered with status {status}: {shown}", self.base);
                CliError::new(exit, message.trim_end_matches([':', ' '])).request_id(request_id)
            }
        };
        // Too many requests, a node that stops, a proxy before one that does not run.
        let error = error.passing(matches!(status, 429 | 502..=504));
        match (exit, &self.credentials.api_key) {
            (Exit::NotAuthorised, None) => error.hint(
                "no API key was sent: set ORAMA_API_KEY or --api-key, or set ORAMA_HOME to the home of a node on this machine",
            ),
            (Exit::NotAuthorised, Some(_)) => error.hint("check the API key, and that it may do this in this namespace"),
            _ => error,
        }
    }
}

impl Answer {
    /// Reads the body as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body).map_err(|error| {
            CliError::failed(format!("the node's answer was not understood: {error}"))
                .request_id(self.request_id.clone())
                .hint("is the address that of an Orama node, of a matching version?")
        })
    }

    /// The body as one line of text, for `--json`.
    pub fn line(&self) -> Result<String> {
        // As it came: numbers and the order of keys stay what the node wrote.
        let json: Box<serde_json::value::RawValue> = self.json()?;
        Ok(json.get().to_owned())
    }
}

fn base_url(text: &str) -> Result<Url> {
    let wrong = |why: String| {
        CliError::usage(format!("the node's address {text:?} is not usable: {why}")).hint(
            "it looks like http://127.0.0.1:6001; see --gateway-url, ORAMA_GATEWAY_URL and credentials.json",
        )
    };
    let url = Url::parse(text).map_err(|error| wrong(error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(wrong("it must begin with http:// or https://".to_owned()));
    }
    if !url.username().is_empty()
        || url.password().is_some()
        || url.query().is_some()
        || url.fragment().is_some()
    {
        return Err(CliError::usage("the node's address must be only scheme, host, port and path")
            .hint("the API key has its own place: --api-key or ORAMA_API_KEY"));
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    })
}

// reqwest says "error sending request"; the reason is in the sources.
fn chain(error: &reqwest::Error) -> String {
    let mut texts = Vec::new();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        let text = error.to_string();
        if texts.last() != Some(&text) {
            texts.push(text);
        }
        source = error.source();
    }
    if texts.is_empty() { error.to_string() } else { texts.join(": ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(gateway_url: &str, api_key: Option<&str>, namespace: Option<&str>) -> Client {
        Client::new(Credentials {
            gateway_url: gateway_url.into(),
            api_key: api_key.map(Into::into),
            namespace: namespace.map(Into::into),
        })
        .unwrap()
    }

    #[test]
    fn paths_keep_the_path_of_the_address_and_carry_the_namespace() {
        let client = client("https://example.org/orama/", None, Some("team"));
        let request = client.query(Method::GET, &["functions", "hello@2", "logs"], &[("limit", "3".into())]);
        let url = request.build().unwrap().url().to_string();
        assert_eq!(url, "https://example.org/orama/v1/functions/hello@2/logs?namespace=team&limit=3");
    }

    #[test]
    fn the_key_goes_into_the_authorization_header_alone() {
        let request = client("http://127.0.0.1:1", Some("k1"), None).request(Method::GET, &["functions"]);
        let request = request.build().unwrap();
        assert_eq!(request.headers()["authorization"], "Bearer k1");
        assert_eq!(request.url().as_str(), "http://127.0.0.1:1/v1/functions");
    }

    #[test]
    fn requests_about_the_node_name_no_namespace() {
        let client = client("http://127.0.0.1:1", None, Some("team"));
        let url = client.bare(Method::GET, &["namespaces"]).build().unwrap().url().to_string();
        assert_eq!(url, "http://127.0.0.1:1/v1/namespaces");
    }

    #[test]
    fn what_may_pass_by_itself_is_told_from_what_will_not() {
        let client = client("http://127.0.0.1:1", None, None);
        for (status, passing) in
            [(429, true), (503, true), (504, true), (404, false), (401, false), (500, false)]
        {
            assert_eq!(client.refusal(status, b"{}", None).is_passing(), passing, "{status}");
        }
    }

    #[test]
    fn an_address_that_cannot_be_used_is_a_usage_error_without_secrets() {
        for bad in ["", "127.0.0.1:6001", "ftp://x", "http://user:pa55@x", "http://x?key=pa55"] {
            let error = base_url(bad).unwrap_err();
            assert_eq!(error.exit(), Exit::Usage, "{bad}");
            assert!(!error.to_string().contains("pa55"), "{error}");
        }
    }

    #[test]
    fn refusals_keep_the_nodes_words() {
        let client = client("http://127.0.0.1:1", Some("k"), None);
        let error = client.refusal(
            404,
            br#"{"error":"no function x","code":"FUNCTION_NOT_FOUND","request_id":"r"}"#,
            None,
        );
        assert_eq!((error.exit(), error.to_string().as_str()), (Exit::NotFound, "no function x"));
        let error = client.refusal(502, b"<html>bad gateway", None);
        assert_eq!(error.exit(), Exit::Failed);
        assert!(error.to_string().contains("502") && error.to_string().contains("bad gateway"), "{error}");
    }

    #[test]
    fn only_this_machine_is_reached_without_a_proxy() {
        for (url, loopback) in [
            ("http://127.0.0.1:6001", true),
            ("http://[::1]:6001", true),
            ("http://localhost", true),
            ("http://example.org", false),
            ("http://10.0.0.1", false),
        ] {
            assert_eq!(is_loopback(&base_url(url).unwrap()), loopback, "{url}");
        }
    }
}
