//! What a core tells the access log of each request, while that is on.

use super::core::Core;
use crate::access_log::{Line, PATH_MAX_BYTES};
use crate::bearer::sent;
use crate::credentials::{KeyHash, hash_of_both};
use crate::error::REQUEST_ID;
use crate::http::{Request, Response};
use http::Method;
use orama_platform::auth;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// What is noted of a request when it arrives.
pub(crate) struct Note {
    method: Method,
    path: String,
    client: IpAddr,
    since: Instant,
    /// Under which its credentials are remembered.
    credential: Option<KeyHash>,
}

impl Core {
    /// Notes a request.
    pub(super) fn note(&self, request: &Request, peer: IpAddr) -> Note {
        let credential = sent(request.headers()).ok().and_then(|sent| match (sent.token, sent.key) {
            (None, None) => None,
            (Some(one), None) | (None, Some(one)) => Some(auth::key_hash(one)),
            (Some(token), Some(key)) => Some(hash_of_both(token, key)),
        });
        let path = request.uri().path();
        Note {
            method: request.method().clone(),
            path: path.get(..path.floor_char_boundary(PATH_MAX_BYTES)).unwrap_or_default().to_owned(),
            client: self.client(request.headers(), peer),
            since: Instant::now(),
            credential,
        }
    }

    /// Logs a request with its answer, when the answer's body has ended.
    pub(super) fn log(self: &Rc<Self>, note: Note, response: &mut Response) {
        let known = |hash| self.cache.borrow_mut().credentials.find(&hash)?.ok();
        let key_id = note.credential.and_then(known).map(|identity| identity.credential.key_id.clone());
        let id = response.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or_default();
        let line = Line {
            path: note.path,
            status: response.status().as_u16(),
            duration: note.since.elapsed(),
            bytes: 0,
            client: note.client,
            request_id: id.to_owned(),
            key_id: key_id.unwrap_or_default(),
            method: note.method,
        };
        let log = Arc::clone(&self.shared.access_log);
        response.body_mut().when_ended(move |bytes| {
            // The body of an answer to HEAD is not sent.
            let bytes = if line.method == Method::HEAD { 0 } else { bytes };
            log.submit(Line { bytes, duration: note.since.elapsed(), ..line });
        });
    }
}
