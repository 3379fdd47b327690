//! From a request for a WebSocket to the answer that opens it: form, origin, credential and function are checked
//! before.

use super::answer::text_header;
use super::core::Core;
use super::cors;
use super::invoke::{Caller, namespace_of, permitted};
use super::query;
use super::spread::seed;
use crate::bearer::{Sent, sent};
use crate::error::{ApiError, REQUEST_ID};
use crate::http::{Origin, Response};
use crate::shares::{Kind, Permit};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{StatusCode, Version, request};
use hyper::body::{Body, Incoming};
use orama_runtime::names::Namespace;
use std::borrow::Cow;
use std::net::IpAddr;
use std::rc::Rc;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use zeroize::Zeroizing;

/// The protocol that a client may name, and is then answered with.
const PROTOCOL: &str = "orama";
/// Stands before a credential among the protocols, which is where a browser's page can put one.
const BEARER: &str = "bearer.";
/// Bytes of a nonce behind `Sec-WebSocket-Key`.
const NONCE_BYTES: usize = 16;
/// Characters of an origin and of a host that a refusal repeats: a host's name has 253.
const ORIGIN_SHOWN: usize = 280;

/// The origins beside its own host from which a node takes WebSockets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct AllowedOrigins {
    all: bool,
    listed: Vec<Origin>,
}

impl AllowedOrigins {
    /// # Errors
    /// A sentence that names the entry that is none.
    pub(crate) fn parse(entries: &[String]) -> Result<Self, String> {
        let mut allowed = Self::default();
        for entry in entries {
            match (entry.as_str(), Origin::parse(entry)) {
                ("*", _) => allowed.all = true,
                (_, Some(origin)) => allowed.listed.push(origin),
                (_, None) => {
                    return Err(format!(
                        "expected origins such as \"https://example.com\", or \"*\" for all, got {entry:?}"
                    ));
                }
            }
        }
        Ok(allowed)
    }

    pub(super) const fn allows_all(&self) -> bool {
        self.all
    }

    /// Whether pages of an origin are among them.
    pub(super) fn allows(&self, origin: &HeaderValue) -> bool {
        self.all
            || origin
                .to_str()
                .ok()
                .and_then(Origin::parse)
                .is_some_and(|origin| self.listed.contains(&origin))
    }
}

/// A credential that is remembered.
pub(super) struct Secret(Zeroizing<String>);

impl AsRef<str> for Secret {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// What an open WebSocket remembers of its request.
pub(super) struct Opening {
    /// Looked at again for each message, as a request would.
    pub(super) sent: Sent<Secret>,
    pub(super) namespace: Namespace,
    /// `name`, `name@version` or `name@alias`.
    pub(super) name: String,
    /// Which version its messages get where calls are spread.
    pub(super) seed: u64,
    /// The address that it counts for.
    pub(super) client: IpAddr,
    /// Its place among the node's WebSockets.
    pub(super) _place: Permit,
    /// Whose room its messages and answers take; for nothing by itself.
    pub(super) room: Permit,
}

/// Checks a request for a WebSocket, and answers it.
///
/// # Errors
/// As an invocation; 400 or 426 for a request that is no handshake, 403 for an origin that is not allowed.
pub(super) async fn open(
    core: &Rc<Core>,
    parts: &request::Parts,
    body: &Incoming,
    name: &str,
    (peer, request_id): (IpAddr, &str),
) -> Result<(Response, Box<Opening>), ApiError> {
    let accept = accept_key(parts, body)?;
    let foreign = foreign_origin(
        &parts.headers,
        &core.shared.websockets.origins,
        asked_host(core, &parts.headers, peer),
    );
    let protocols = Protocols::of(&parts.headers)?;
    let query = parts.uri.query();
    let named = query::namespace(None, query, &["token"])?;
    let sent = credentials(&parts.headers, &protocols, query)?;
    let client = core.client(&parts.headers, peer);
    let visitor = core.visitor(&sent, client).await?;
    let address = core.admit(visitor.identity.as_ref(), client)?;
    let namespace = namespace_of(core, &visitor, client, named.as_deref())?;
    if let Some(foreign) = foreign {
        // What is unknown must not be told from what is not: both have the node's `cors`, or their own.
        let cors = cors::look_up(core, Some(&namespace), name).await;
        if !cors.is_some_and(|cors| cors.allows(foreign)) {
            return Err(not_allowed(foreign, asked_host(core, &parts.headers, peer)));
        }
    }
    let ready = permitted(core, &visitor, client, (&namespace, name)).await?;
    let seed = seed(ready.traffic.as_deref(), &parts.headers, request_id);
    let caller = Caller::new(core, &ready, visitor.identity, address, client)?;
    let parties = Core::parties(&ready.tenant, caller.address.as_ref());
    let room = core.shared.shares.permit(Kind::BodyBytes, parties.clone());
    let mut place = core.shared.shares.permit(Kind::WebSockets, parties);
    place.grow(1)?;
    let mut response = Response::new(Bytes::new().into());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, text_header(accept)?);
    headers.insert(REQUEST_ID, text_header(request_id.to_owned())?);
    if protocols.orama {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL));
    }
    let sent = sent.map(|text| Secret(Zeroizing::new(text.into_owned())));
    let name = name.to_owned();
    Ok((response, Box::new(Opening { sent, namespace, name, seed, client, _place: place, room })))
}

/// The answer to the handshake's key, if it is a handshake.
fn accept_key(parts: &request::Parts, body: &Incoming) -> Result<String, ApiError> {
    let malformed = |message| ApiError::bad_request("INVALID_HANDSHAKE", message);
    let headers = &parts.headers;
    if parts.version < Version::HTTP_11
        || !has_word(headers, &UPGRADE, "websocket")
        || !has_word(headers, &CONNECTION, "upgrade")
    {
        return Err(ApiError::upgrade_required("this path is for WebSockets: connect with ws:// or wss://"));
    }
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(ApiError::upgrade_required("the Sec-WebSocket-Version must be 13"));
    }
    let mut keys = headers.get_all(SEC_WEBSOCKET_KEY).iter();
    let (key, another) = (keys.next(), keys.next());
    let is_nonce = |key: &&HeaderValue| STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == NONCE_BYTES);
    match (key.filter(is_nonce), another) {
        (Some(key), None) if body.is_end_stream() => Ok(derive_accept_key(key.as_bytes())),
        (Some(_), None) => Err(malformed("the request for a WebSocket must have no body")),
        _ => Err(malformed("the Sec-WebSocket-Key header must be 16 bytes in base64, once")),
    }
}

/// Whether a header that lists words has one of them, in whatever letters.
fn has_word(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|listed| listed.trim().eq_ignore_ascii_case(word))
}

/// The host that a request's client asked for.
fn asked_host<'h>(core: &Core, headers: &'h HeaderMap, peer: IpAddr) -> Option<&'h str> {
    let (_, host) = core.shared.trusted_proxies.asked_for(peer, headers);
    host.and_then(|host| host.to_str().ok())
}

/// The origin of a page that the node does not allow. Clients that are no browsers send none.
fn foreign_origin<'h>(
    headers: &'h HeaderMap,
    allowed: &AllowedOrigins,
    host: Option<&str>,
) -> Option<&'h HeaderValue> {
    let given = headers.get(ORIGIN)?;
    let origin = given.to_str().ok().and_then(Origin::parse);
    let is_own = host.zip(origin).is_some_and(|(host, origin)| origin.is_of(host));
    (!is_own && !allowed.allows(given)).then_some(given)
}

/// The refusal of a page's origin: what was compared, and what to change.
fn not_allowed(origin: &HeaderValue, host: Option<&str>) -> ApiError {
    let shown = |text: &str| text.chars().take(ORIGIN_SHOWN).collect::<String>();
    let origin = shown(&String::from_utf8_lossy(origin.as_bytes()));
    let host = shown(host.unwrap_or_default());
    let entry = if Origin::parse(&origin).is_some() { origin.as_str() } else { "*" };
    let message = format!(
        "WebSockets from pages of the origin {origin:?} are not allowed: it is not the host {host:?} of the request. To allow it, \
         add `websocket.allowed_origins = [{entry:?}]` to the node's config, or `cors: {{origins: [{entry:?}]}}` to the function's \
         function.yaml"
    );
    let hint = "behind a proxy, list it in `trusted_proxies` and let it set X-Forwarded-Host";
    ApiError { hint: Some(hint), ..ApiError::new(StatusCode::FORBIDDEN, "ORIGIN_NOT_ALLOWED", message) }
}

/// What a client says in `Sec-WebSocket-Protocol`.
#[derive(Default)]
struct Protocols<'a> {
    orama: bool,
    /// What came in place of a credential.
    bearers: Vec<&'a str>,
}

impl<'a> Protocols<'a> {
    fn of(headers: &'a HeaderMap) -> Result<Self, ApiError> {
        let mut found = Self::default();
        for value in headers.get_all(SEC_WEBSOCKET_PROTOCOL) {
            let text = value.to_str().map_err(|_| {
                ApiError::bad_request(
                    "INVALID_HANDSHAKE",
                    "the Sec-WebSocket-Protocol header is not plain ASCII",
                )
            })?;
            for word in text.split(',').map(str::trim) {
                match word.strip_prefix(BEARER) {
                    Some(token) => found.bearers.push(token),
                    None => found.orama |= word == PROTOCOL,
                }
            }
        }
        Ok(found)
    }
}

/// The request's credentials: from the usual headers, the protocols, and the query's `token`.
fn credentials<'a>(
    headers: &'a HeaderMap,
    protocols: &Protocols<'a>,
    query: Option<&'a str>,
) -> Result<Sent<Cow<'a, str>>, ApiError> {
    let mut sent = sent(headers)?.map(Cow::Borrowed);
    for text in &protocols.bearers {
        sent.add(Cow::Borrowed(*text))?;
    }
    let pairs = query.into_iter().flat_map(|query| query.split('&'));
    for token in pairs.filter_map(|pair| pair.strip_prefix("token=")) {
        match percent_encoding::percent_decode_str(token).decode_utf8() {
            Ok(text) => sent.add(text)?,
            Err(_) => sent.foreign = Some("the token in the query is not UTF-8"),
        }
    }
    Ok(sent)
}

#[cfg(test)]
mod tests;
