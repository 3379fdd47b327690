//! The HTTP request of an invocation, and the answer that its function shapes.

use super::answer::held;
use super::core::Shared;
use crate::bearer::API_KEY;
use crate::http::{Left, Pieces, Upload, Writer};
use crate::shares::Party;
use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, StatusCode};
use orama_runtime::services::{Answer, AnswerHead, Exchange, ServiceError};
use orama_store::readiness::give_way;
use parking_lot::Mutex;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use std::borrow::Cow;
use std::future::ready;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

/// Headers of an answer that are the node's: they frame it, belong to one connection, say what the node says, or let a function's
/// page take over paths that are not its own.
const NOT_SHAPED: [&str; 11] = [
    "x-request-id",
    "x-duration-ms",
    "content-length",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "upgrade",
    "date",
    "service-worker-allowed",
];
/// The beginnings of others.
const NOT_SHAPED_PREFIXES: [&str; 2] = ["proxy-", "x-orama-"];

/// A whole answer as its function shaped it.
#[derive(Debug)]
pub(super) struct WholeAnswer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// An answer that has begun.
pub(super) struct Begun {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Pieces,
}

/// What a function has said of its answer so far.
#[derive(Default)]
enum Shaped {
    #[default]
    Nothing,
    Whole(WholeAnswer),
    /// It writes its answer. The first part is taken by the connection.
    Writes(Option<Begun>, Writer, StatusCode),
    /// It would write an answer whose body nobody gets: that of a HEAD.
    WritesNothing(WholeAnswer),
    /// The run is over.
    Over,
}

/// Who sent a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sender {
    /// The other end of the connection: the client, or a proxy.
    pub(super) peer: IpAddr,
    pub(super) client: IpAddr,
    /// Whether a credential of this node let the client in. The function does not see it: it may be another namespace's.
    pub(super) has_credential: bool,
}

/// One request to a function over HTTP, and its answer.
pub(super) struct WebExchange {
    parts: Parts,
    /// The part of the request's path that is the function's; empty stands for `/`.
    path: Range<usize>,
    sender: Sender,
    node: Arc<Shared>,
    /// For whom its answer counts.
    parties: [Option<Arc<Party>>; 2],
    shaped: Mutex<Shaped>,
    /// What of its body arrives while the function runs.
    upload: Option<Upload>,
}

impl WebExchange {
    pub(super) fn new(
        parts: Parts,
        path: Range<usize>,
        sender: Sender,
        node: Arc<Shared>,
        parties: [Option<Arc<Party>>; 2],
        upload: Option<Upload>,
    ) -> Self {
        Self { parts, path, sender, node, parties, shaped: Mutex::default(), upload }
    }

    /// The status of the answer that its function shaped or began; 0 for none.
    pub(super) fn status(&self) -> u16 {
        match &*self.shaped.lock() {
            Shaped::Whole(whole) | Shaped::WritesNothing(whole) => whole.status.as_u16(),
            Shaped::Writes(_, _, status) => status.as_u16(),
            Shaped::Nothing | Shaped::Over => 0,
        }
    }

    /// Bytes of the body that have come since the run began.
    pub(super) fn uploaded_bytes(&self) -> usize {
        self.upload.as_ref().map_or(0, Upload::bytes)
    }

    /// Lets go of the body when the run is over.
    pub(super) fn close_input(&self) -> Left {
        self.upload.as_ref().map_or(Left::Whole, Upload::close)
    }

    /// Forgets what an earlier attempt has shaped. `false` when there can be no other attempt: an answer has begun, or the body
    /// was not kept.
    pub(super) fn may_begin_anew(&self) -> bool {
        if self.upload.is_some() {
            return false;
        }
        let mut shaped = self.shaped.lock();
        let may = matches!(*shaped, Shaped::Nothing | Shaped::Whole(_));
        if may {
            *shaped = Shaped::Nothing;
        }
        may
    }

    /// The answer that has begun, once.
    pub(super) fn take_begun(&self) -> Option<Begun> {
        match &mut *self.shaped.lock() {
            Shaped::Writes(begun, ..) => begun.take(),
            _ => None,
        }
    }

    /// The whole answer of a run that is over; `None` where its output is the answer.
    pub(super) fn take_whole(&self) -> Option<WholeAnswer> {
        match std::mem::replace(&mut *self.shaped.lock(), Shaped::Over) {
            Shaped::Whole(whole) | Shaped::WritesNothing(whole) => Some(whole),
            Shaped::Nothing | Shaped::Writes(..) | Shaped::Over => None,
        }
    }

    /// Ends the answer of a run that is over, or breaks it off.
    pub(super) async fn end(&self, is_whole: bool) {
        let shaped = std::mem::replace(&mut *self.shaped.lock(), Shaped::Over);
        if let Shaped::Writes(_, writer, _) = shaped
            && !is_whole
        {
            writer.break_off().await;
        }
    }

    /// Ready when the client of an answer that has begun is gone.
    pub(super) async fn gone(&self) {
        let writer = match &*self.shaped.lock() {
            Shaped::Writes(_, writer, _) => Some(writer.clone()),
            _ => None,
        };
        match writer {
            Some(writer) => writer.gone().await,
            None => std::future::pending().await,
        }
    }

    fn shape(&self, shaped: Shaped) -> Result<(), ServiceError> {
        let mut current = self.shaped.lock();
        match &*current {
            Shaped::Nothing | Shaped::Whole(_) => {
                *current = shaped;
                Ok(())
            }
            Shaped::Writes(..) | Shaped::WritesNothing(_) | Shaped::Over => {
                Err(ServiceError::invalid("the answer has begun already"))
            }
        }
    }
}

impl Exchange for WebExchange {
    fn request(&self) -> Vec<u8> {
        let Parts { uri, headers, .. } = &self.parts;
        let (scheme, host) = self.node.trusted_proxies.asked_for(self.sender.peer, headers);
        let path = uri.path().get(self.path.clone()).filter(|path| !path.is_empty());
        let request = Request {
            method: self.parts.method.as_str(),
            path: path.unwrap_or("/"),
            query: uri.query().unwrap_or_default(),
            host: host.map(text).unwrap_or_default(),
            scheme,
            client_ip: self.sender.client,
            headers: Headers { all: headers, hides_credentials: self.sender.has_credential },
        };
        // It consists of texts alone, so nothing fails.
        serde_json::to_vec(&request).unwrap_or_default()
    }

    fn respond(&self, head: AnswerHead, body: Bytes) -> Result<(), ServiceError> {
        let (status, headers) = checked(head)?;
        self.shape(Shaped::Whole(WholeAnswer { status, headers, body }))
    }

    fn begin(&self, head: AnswerHead) -> Result<(), ServiceError> {
        let (status, headers) = checked(head)?;
        if self.parts.method == Method::HEAD {
            return self.shape(Shaped::WritesNothing(WholeAnswer { status, headers, body: Bytes::new() }));
        }
        let (writer, body) = Writer::new();
        self.shape(Shaped::Writes(Some(Begun { status, headers, body }), writer, status))
    }

    fn write(&self, bytes: Bytes) -> Answer<Result<bool, ServiceError>> {
        let writer = match &*self.shaped.lock() {
            Shaped::Writes(_, writer, _) => writer.clone(),
            Shaped::WritesNothing(_) => return Box::pin(ready(Ok(true))),
            Shaped::Nothing | Shaped::Whole(_) | Shaped::Over => {
                let error = ServiceError::invalid("no answer has begun; call http_response_start first");
                return Box::pin(ready(Err(error)));
            }
        };
        match held(&self.node.shares, bytes, self.parties.clone()) {
            Ok(bytes) => Box::pin(async move {
                let is_there = writer.write(bytes).await;
                // The connection sends it before the guest goes on.
                give_way().await;
                Ok(is_there)
            }),
            Err(error) => Box::pin(ready(Err(ServiceError::unavailable(error.message)))),
        }
    }

    fn has_more_input(&self) -> bool {
        self.upload.as_ref().is_some_and(Upload::has_more)
    }

    fn next_input(&self) -> Answer<Result<Option<Bytes>, ServiceError>> {
        let Some(upload) = &self.upload else { return Box::pin(ready(Ok(None))) };
        let next = upload.next();
        Box::pin(async move { next.await.map_err(|error| ServiceError::unavailable(error.message)) })
    }
}

/// The status and those headers that a function may set.
fn checked(head: AnswerHead) -> Result<(StatusCode, HeaderMap), ServiceError> {
    let status =
        StatusCode::from_u16(head.status).map_err(|error| ServiceError::invalid(error.to_string()))?;
    let mut headers = HeaderMap::with_capacity(head.headers.len() + 2);
    for (name, value) in head.headers {
        let shown = || name.chars().take(80).collect::<String>();
        let known = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| ServiceError::invalid(format!("{:?} is not the name of a header", shown())))?;
        let value = HeaderValue::try_from(value).map_err(|_| {
            ServiceError::invalid(format!(
                "the value of the header {:?} has a line break or another control character",
                shown()
            ))
        })?;
        let is_ours = NOT_SHAPED.contains(&known.as_str())
            || NOT_SHAPED_PREFIXES.iter().any(|prefix| known.as_str().starts_with(prefix));
        if !is_ours {
            headers.append(known, value);
        }
    }
    Ok((status, headers))
}

/// The request as `http_request` gives it.
#[derive(Serialize)]
struct Request<'a> {
    method: &'a str,
    path: &'a str,
    query: &'a str,
    host: Cow<'a, str>,
    scheme: &'a str,
    client_ip: IpAddr,
    headers: Headers<'a>,
}

struct Headers<'a> {
    all: &'a HeaderMap,
    hides_credentials: bool,
}

impl Serialize for Headers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let is_shown =
            |name: &&HeaderName| !(self.hides_credentials && (*name == AUTHORIZATION || *name == API_KEY));
        for name in self.all.keys().filter(is_shown) {
            let values: Vec<_> = self.all.get_all(name).iter().map(text).collect();
            map.serialize_entry(name.as_str(), &values)?;
        }
        map.end()
    }
}

/// Bytes that are no UTF-8 become U+FFFD, as JSON can hold nothing else.
fn text(value: &HeaderValue) -> Cow<'_, str> {
    String::from_utf8_lossy(value.as_bytes())
}
