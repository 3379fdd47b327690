//! Checks a guest's request, and derives the next request from a redirect.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use orama_runtime::limits::{
    FETCH_HEADERS_MAX, FETCH_HEADERS_MAX_BYTES, FETCH_REQUEST_MAX_BYTES, FETCH_URL_MAX_BYTES,
};
use orama_runtime::services::{ErrorCode, FetchRequest, ServiceError};
use reqwest::{Client, Response};
use url::Url;

/// Headers that belong to the connection, or follow from the URL and the body. With them, a guest could smuggle a second request,
/// or address another host than the checked one.
const NOT_FOR_GUESTS: [HeaderName; 11] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("http2-settings"),
];

/// Words in names of headers with credentials, such as `Authorization`, `Cookie`, `X-API-Key` and `X-Auth-Token`. They are not
/// sent to another origin.
const CREDENTIAL_WORDS: [&str; 9] =
    ["auth", "cookie", "key", "token", "secret", "password", "credential", "signature", "session"];

/// Headers that describe the body.
const OF_THE_BODY: [HeaderName; 5] = [
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_LOCATION,
    header::CONTENT_DISPOSITION,
];

/// Methods that guests may write in lower case, as in browsers.
const WELL_KNOWN: [Method; 7] =
    [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::HEAD, Method::OPTIONS];

/// A request, updated by redirects.
#[derive(Debug)]
pub(super) struct Hop {
    pub(super) url: Url,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
}

impl Hop {
    /// Checks a guest's request. Messages repeat at most the name of a header or the method.
    pub(super) fn first(request: FetchRequest) -> Result<Self, ServiceError> {
        let FetchRequest { method, url, headers, body } = request;
        if url.len() > FETCH_URL_MAX_BYTES {
            return Err(too_large(format!("the URL has more than {FETCH_URL_MAX_BYTES} bytes")));
        }
        if body.len() > FETCH_REQUEST_MAX_BYTES {
            return Err(too_large(format!(
                "the request's body has more than {FETCH_REQUEST_MAX_BYTES} bytes"
            )));
        }
        let url = Url::parse(&url)
            .map_err(|error| ServiceError::invalid(format!("the URL is not valid: {error}")))?;
        Ok(Self {
            url: http_url(url, "the URL")?,
            method: method_of(&method)?,
            headers: headers_of(headers)?,
            body,
        })
    }

    pub(super) async fn send(&self, client: &Client) -> Result<Response, reqwest::Error> {
        // A user and password in the URL become a header, unless the guest sets that header itself.
        let request = client.request(self.method.clone(), self.url.clone()).headers(self.headers.clone());
        let request = match (self.body.is_empty(), has_a_body(&self.method)) {
            (false, _) => request.body(self.body.clone()),
            // Many servers refuse these methods without Content-Length (RFC 9110, 8.6).
            (true, true) => request.header(header::CONTENT_LENGTH, 0),
            (true, false) => request,
        };
        request.send().await
    }

    /// Follows a redirect: changes into the next request and returns `true`. Returns `false` for any other answer. As in
    /// browsers, a 303 becomes a GET, and so does a POST after 301 and 302. Another origin gets no credentials.
    ///
    /// # Errors
    /// If the answer redirects to something else than an `http` or `https` URL.
    pub(super) fn redirect(&mut self, status: StatusCode, answer: &HeaderMap) -> Result<bool, ServiceError> {
        let drops_body = match status {
            StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => self.method == Method::POST,
            StatusCode::SEE_OTHER => !matches!(self.method, Method::GET | Method::HEAD),
            StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => false,
            _ => return Ok(false),
        };
        let Some(location) = answer.get(header::LOCATION) else { return Ok(false) };
        let next = std::str::from_utf8(location.as_bytes()).ok().and_then(|text| self.url.join(text).ok());
        let next = next.ok_or_else(|| {
            ServiceError::new(ErrorCode::Unavailable, "the server redirects to an invalid URL")
        })?;
        if next.as_str().len() > FETCH_URL_MAX_BYTES {
            return Err(too_large(format!(
                "the server redirects to a URL of more than {FETCH_URL_MAX_BYTES} bytes"
            )));
        }
        let next = http_url(next, "the URL of a redirect")?;
        if drops_body {
            self.method = Method::GET;
            self.body = Bytes::new();
            OF_THE_BODY.iter().for_each(|name| drop(self.headers.remove(name)));
        }
        if next.origin() != self.url.origin() {
            self.drop_credentials();
        }
        self.url = next;
        Ok(true)
    }
}

impl Hop {
    /// Whether the method is idempotent (RFC 9110, 9.2.2).
    pub(super) fn is_idempotent(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE)
    }

    fn drop_credentials(&mut self) {
        let is_one = |name: &&HeaderName| CREDENTIAL_WORDS.iter().any(|word| name.as_str().contains(word));
        let names: Vec<_> = self.headers.keys().filter(is_one).cloned().collect();
        names.iter().for_each(|name| drop(self.headers.remove(name)));
    }
}

fn has_a_body(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

fn too_large(message: String) -> ServiceError {
    ServiceError::new(ErrorCode::PayloadTooLarge, message)
}

fn http_url(url: Url, what: &str) -> Result<Url, ServiceError> {
    if matches!(url.scheme(), "http" | "https") {
        return Ok(url);
    }
    Err(ServiceError::invalid(format!("{what} must begin with http:// or https://")))
}

fn method_of(text: &str) -> Result<Method, ServiceError> {
    if text.is_empty() {
        return Ok(Method::GET);
    }
    if let Some(known) = WELL_KNOWN.iter().find(|known| known.as_str().eq_ignore_ascii_case(text)) {
        return Ok(known.clone());
    }
    // CONNECT opens a tunnel, which could lead anywhere.
    let method = Method::from_bytes(text.as_bytes()).ok().filter(|method| *method != Method::CONNECT);
    method.ok_or_else(|| {
        let shown: String = text.chars().take(20).collect();
        ServiceError::invalid(format!("{shown:?} is not a method that can be sent"))
    })
}

fn headers_of(given: Vec<(String, String)>) -> Result<HeaderMap, ServiceError> {
    if given.len() > FETCH_HEADERS_MAX {
        return Err(too_large(format!("the request has more than {FETCH_HEADERS_MAX} headers")));
    }
    let bytes: usize = given.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > FETCH_HEADERS_MAX_BYTES {
        return Err(too_large(format!(
            "the request's headers have more than {FETCH_HEADERS_MAX_BYTES} bytes"
        )));
    }
    let mut headers = HeaderMap::with_capacity(given.len());
    for (name, value) in given {
        let shown = || name.chars().take(60).collect::<String>();
        let parsed = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| ServiceError::invalid(format!("{:?} is not a valid name of a header", shown())))?;
        if NOT_FOR_GUESTS.contains(&parsed) {
            return Err(ServiceError::invalid(format!(
                "the header {parsed} cannot be set; it follows from the URL, the body or the connection"
            )));
        }
        let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| {
            // The value may be a secret.
            ServiceError::invalid(format!("the value of the header {parsed} has an invalid character"))
        })?;
        headers.append(parsed, value);
    }
    Ok(headers)
}
