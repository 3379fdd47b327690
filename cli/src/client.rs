//! The HTTP client: sends a request to the node and turns its errors into exit codes.

use crate::credentials::{ApiKey, Credentials, give_key};
use crate::error::{CliError, Exit, Result};
use crate::suggest;
use reqwest::blocking::{Client as Http, RequestBuilder};
use reqwest::{Method, redirect};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// Longest time to set up a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest time for an answer about functions, versions or logs.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest time for an invocation: its own limit of 300 s, and 30 s for the queue and the network.
pub const INVOKE_TIMEOUT: Duration = Duration::from_secs(330);

/// Longest time for a deploy: the upload over a slow network, and the compilation of the largest module.
pub const DEPLOY_TIMEOUT: Duration = Duration::from_secs(900);

/// How many characters of an error body are shown when it is not the node's JSON.
const FOREIGN_BODY_SHOWN: usize = 200;

/// Talks to one node.
pub struct Client {
    http: Http,
    credentials: Credentials,
}

/// A successful answer.
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The request's id in the node's logs.
    pub request_id: Option<String>,
    /// How long the invocation took, in milliseconds, as the node reports it.
    pub duration_ms: Option<String>,
    /// All headers, with names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, unchanged.
    pub body: Vec<u8>,
}

impl Client {
    /// Prepares requests to the node that the credentials name. Nothing is sent yet.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(credentials: Credentials) -> Result<Self> {
        // Fails when a provider is installed already, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let mut builder = Http::builder()
            .user_agent(concat!("orama/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT)
            // The key goes to the address that the user named, and nowhere else.
            .redirect(redirect::Policy::none());
        if credentials.gateway.is_loopback() {
            builder = builder.no_proxy();
        }
        let http =
            builder.build().map_err(|error| CliError::failed("cannot set up HTTP").caused_by(error))?;
        Ok(Self { http, credentials })
    }

    /// Makes a request for `/v1/{segments}` in the chosen namespace.
    pub fn request(&self, method: Method, segments: &[&str]) -> RequestBuilder {
        self.query(method, segments, &[])
    }

    /// Makes the same request with a query.
    pub fn query(&self, method: Method, segments: &[&str], query: &[(&str, String)]) -> RequestBuilder {
        let namespace = self.namespace().map(|namespace| ("namespace", namespace));
        let query = query.iter().map(|(name, value)| (*name, value.as_str()));
        self.build(method, segments, namespace.into_iter().chain(query))
    }

    /// Makes a request for `/v1/{segments}` that is about the node, or names its namespace in its body.
    pub fn bare(&self, method: Method, segments: &[&str]) -> RequestBuilder {
        self.build(method, segments, std::iter::empty())
    }

    /// Makes the same request with a query.
    pub fn bare_query(&self, method: Method, segments: &[&str], query: &[(&str, String)]) -> RequestBuilder {
        self.build(method, segments, query.iter().map(|(name, value)| (*name, value.as_str())))
    }

    fn build<'a>(
        &self,
        method: Method,
        segments: &[&str],
        query: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> RequestBuilder {
        let mut url = self.credentials.gateway.url().clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().push("v1").extend(segments);
        }
        let mut query = query.peekable();
        if query.peek().is_some() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.with_key(self.http.request(method, url))
    }

    fn with_key(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.credentials.api_key {
            ApiKey::Sent(key) => request.bearer_auth(key),
            ApiKey::Missing | ApiKey::SavedFor(_) => request,
        }
    }

    /// Makes a request for the function of the chosen namespace on the web; the path begins with `/` or is empty, and may have a
    /// query.
    ///
    /// # Errors
    /// When the path is not one of a URL.
    pub fn web(&self, method: Method, name: &str, path: &str) -> Result<RequestBuilder> {
        let function = self.function_url(self.namespace().unwrap_or_default(), name);
        let url = reqwest::Url::parse(&format!("{function}{path}"))
            .map_err(|error| CliError::failed(format!("the path {path:?} is not valid")).caused_by(error))?;
        Ok(self.with_key(self.http.request(method, url)))
    }

    /// Makes a request for `/metrics`.
    pub fn metrics(&self) -> RequestBuilder {
        let mut url = self.credentials.gateway.url().clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().push("metrics");
        }
        self.http.get(url)
    }

    /// The same client for another namespace.
    pub fn within(&self, namespace: &str) -> Self {
        let namespace = Some(namespace.to_owned());
        Self { http: self.http.clone(), credentials: Credentials { namespace, ..self.credentials.clone() } }
    }

    /// The chosen namespace. Without one the node takes the key's own.
    pub fn namespace(&self) -> Option<&str> {
        self.credentials.namespace.as_deref()
    }

    /// The address of a function on the web.
    pub fn function_url(&self, namespace: &str, name: &str) -> String {
        let mut url = self.credentials.gateway.url().clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["fn", namespace, name]);
        }
        url.into()
    }

    /// Adds the function with a similar name to an error that says that there is no function of the name.
    pub fn explain_missing(&self, error: CliError, name: &str) -> CliError {
        #[derive(Deserialize)]
        struct Named {
            name: String,
        }
        #[derive(Deserialize)]
        struct Functions {
            functions: Vec<Named>,
        }
        if !error.has_code("FUNCTION_NOT_FOUND") {
            return error;
        }
        // Without the right to list functions, or without an answer, there is no hint.
        let list =
            self.send(self.request(Method::GET, &["functions"])).and_then(|list| list.json::<Functions>());
        let Ok(list) = list else { return error };
        let names =
            list.functions.iter().map(|function| function.name.as_str()).filter(|other| *other != name);
        match suggest::similar(name, names) {
            Some(similar) => error.hint(format!("did you mean {}?", crate::output::one_line(similar))),
            None => error,
        }
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// When no answer came, or one with an error status.
    pub fn send(&self, request: RequestBuilder) -> Result<Answer> {
        let answer = self.exchange(request)?;
        if (200..300).contains(&answer.status) {
            return Ok(answer);
        }
        Err(self.refusal(answer.status, &answer.body, answer.request_id))
    }

    /// Sends a request and reads the whole answer, whatever its status.
    ///
    /// # Errors
    /// When no answer came.
    pub fn exchange(&self, request: RequestBuilder) -> Result<Answer> {
        let answer = request.send().map_err(|error| self.unreachable(error))?;
        let header = |name: &str| answer.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let (request_id, duration_ms) = (header("x-request-id"), header("x-duration-ms"));
        let headers = answer.headers().iter();
        let headers = headers
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect();
        let status = answer.status().as_u16();
        let body = answer.bytes().map_err(|error| self.unreachable(error))?.to_vec();
        Ok(Answer { status, request_id, duration_ms, headers, body })
    }

    fn unreachable(&self, error: reqwest::Error) -> CliError {
        if error.is_builder() {
            // For example a key with a line break in it. The cause does not repeat the key.
            return CliError::usage("cannot make the request").caused_by(error);
        }
        let gateway = &self.credentials.gateway;
        let message = match error.is_timeout() {
            true => format!("the node at {gateway} did not answer in time"),
            false => format!("cannot reach the node at {gateway}"),
        };
        CliError::new(Exit::Unreachable, message).caused_by(error).retryable(true).hint(
            "start a node with `orama serve`, or name another one with --gateway-url or ORAMA_GATEWAY_URL",
        )
    }

    fn refusal(&self, status: u16, body: &[u8], request_id: Option<String>) -> CliError {
        #[derive(Deserialize)]
        struct Refusal {
            error: String,
            code: Option<String>,
            retryable: Option<bool>,
            request_id: Option<String>,
        }
        let exit = Exit::from_status(status);
        // 429: too many requests. 503: the node is overloaded or stops. 502 and 504: a proxy has no answer of the node.
        let mut may_retry = matches!(status, 429 | 502..=504);
        let error = match serde_json::from_slice::<Refusal>(body) {
            Ok(refusal) => {
                may_retry = refusal.retryable.unwrap_or(may_retry);
                CliError::new(exit, refusal.error)
                    .code(refusal.code)
                    .request_id(refusal.request_id.or(request_id))
            }
            Err(_) => {
                let shown: String =
                    String::from_utf8_lossy(body).trim().chars().take(FOREIGN_BODY_SHOWN).collect();
                let message = format!("{} answered with status {status}: {shown}", self.credentials.gateway);
                CliError::new(exit, message.trim_end_matches([':', ' '])).request_id(request_id)
            }
        };
        let error = error.retryable(may_retry);
        match (exit, status) {
            (Exit::NotAuthorised, _) => error.hint(self.key_hint()),
            (_, 300..=399) => error.hint("redirects are not followed; give the address of the node itself"),
            _ => error,
        }
    }

    fn key_hint(&self) -> String {
        let give_key = give_key(&self.credentials.gateway);
        match &self.credentials.api_key {
            ApiKey::Sent(_) => "check the API key, its role and its namespace".to_owned(),
            ApiKey::Missing => format!(
                "no API key was sent: {give_key}, or set ORAMA_HOME to the home of a node on this machine"
            ),
            ApiKey::SavedFor(saved) => {
                format!("no API key was sent, as the one in credentials.json belongs to {saved}: {give_key}")
            }
        }
    }
}

impl Answer {
    /// Reads the body as JSON.
    ///
    /// # Errors
    /// When the body is something else.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body).map_err(|error| not_understood(error, self.request_id.clone()))
    }

    /// The body as one line of text, for `--json`.
    ///
    /// # Errors
    /// When the body is not JSON.
    pub fn line(&self) -> Result<String> {
        // Not parsed and written again: numbers keep their digits and objects the order of their keys.
        let json: Box<serde_json::value::RawValue> = self.json()?;
        Ok(json.get().to_owned())
    }
}

/// The error for an answer that is not what the node's API promises.
pub fn not_understood(
    cause: impl std::error::Error + Send + Sync + 'static,
    request_id: Option<String>,
) -> CliError {
    CliError::failed("the node's answer was not understood").caused_by(cause).request_id(request_id).hint(
        "check that the address is that of an Orama node, and that its version matches `orama --version`",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::Gateway;

    fn client(gateway_url: &str, api_key: Option<&str>, namespace: Option<&str>) -> Client {
        Client::new(Credentials {
            gateway: Gateway::parse(gateway_url).unwrap(),
            api_key: api_key.map_or(ApiKey::Missing, |key| ApiKey::Sent(key.into())),
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
    fn temporary_failures_are_retryable_and_others_are_not() {
        let client = client("http://127.0.0.1:1", None, None);
        for (status, retryable) in
            [(429, true), (503, true), (504, true), (404, false), (401, false), (500, false)]
        {
            assert_eq!(client.refusal(status, b"{}", None).is_retryable(), retryable, "{status}");
        }
        // The node's own word counts.
        let told =
            br#"{"error":"the request did not arrive in time","code":"REQUEST_TIMEOUT","retryable":true}"#;
        assert!(client.refusal(408, told, None).is_retryable());
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
}
