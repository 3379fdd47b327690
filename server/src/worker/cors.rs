//! CORS: what browsers are told of pages of other origins, in answers of functions and in answers to preflights.
//!
//! A preflight is answered without a run and without a credential, as browsers send none with it. So everybody can find out
//! which functions have `cors`, and which origins these allow.

use super::cache::CoreCache;
use super::core::Core;
use super::handshake::AllowedOrigins;
use super::invoke::Asked;
use super::query;
use super::route::{Route, route};
use crate::error::{ApiError, REQUEST_ID};
use crate::http::Response;
use crate::routes::Target;
use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderValue, ORIGIN, VARY,
};
use http::{Method, StatusCode, request};
use orama_runtime::names::Namespace;
use orama_runtime::web;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

/// Headers of the node's that pages may read beside those that browsers always show.
const EXPOSED: HeaderValue = HeaderValue::from_static("x-request-id, x-duration-ms, retry-after");
const ALL: HeaderValue = HeaderValue::from_static("*");
const TRUE: HeaderValue = HeaderValue::from_static("true");

/// The `cors` of a function or of a node, as headers.
#[derive(Debug)]
pub(crate) struct Cors {
    allowed: AllowedOrigins,
    credentials: bool,
    /// Of answers to preflights.
    methods: HeaderValue,
    headers: Option<HeaderValue>,
    max_age: HeaderValue,
}

impl Cors {
    /// # Errors
    /// A sentence that names what cannot be a header; what was checked always can.
    pub(crate) fn new(settings: &web::Cors) -> Result<Self, String> {
        let list = |entries: &[String]| {
            HeaderValue::try_from(entries.join(", ")).map_err(|error| format!("{entries:?}: {error}"))
        };
        Ok(Self {
            allowed: AllowedOrigins::parse(settings.origins())?,
            credentials: settings.credentials(),
            methods: list(settings.methods())?,
            headers: (!settings.headers().is_empty()).then(|| list(settings.headers())).transpose()?,
            max_age: HeaderValue::from(settings.max_age_seconds()),
        })
    }

    /// Whether pages of an origin are allowed.
    pub(super) fn allows(&self, origin: &HeaderValue) -> bool {
        self.allowed.allows(origin)
    }

    /// What the answer to a request with these headers says.
    pub(super) fn grant(&self, request: &HeaderMap) -> Granted {
        if self.allowed.allows_all() {
            return Granted { origin: Some(ALL), credentials: false, varies: false };
        }
        let origin = request.get(ORIGIN).filter(|origin| self.allows(origin)).cloned();
        Granted { origin, credentials: self.credentials, varies: true }
    }

    /// The answer to a preflight, without its request's id.
    fn answer(&self, request: &HeaderMap) -> Response {
        let mut response = Response::new(Bytes::new().into());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        let granted = self.grant(request);
        if granted.origin.is_some() {
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, self.methods.clone());
            headers.insert(ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
            if let Some(allowed) = &self.headers {
                headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed.clone());
            }
        }
        granted.put_into(headers);
        headers.remove(ACCESS_CONTROL_EXPOSE_HEADERS);
        response
    }
}

/// What one answer tells a browser.
#[derive(Debug)]
pub(super) struct Granted {
    origin: Option<HeaderValue>,
    credentials: bool,
    varies: bool,
}

impl Granted {
    /// Adds the headers to those of an answer. What a function has said itself stays.
    pub(super) fn put_into(self, headers: &mut HeaderMap) {
        if let Some(origin) = self.origin
            && !headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN)
        {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            if self.credentials {
                headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
            }
            headers.entry(ACCESS_CONTROL_EXPOSE_HEADERS).or_insert(EXPOSED);
        }
        if self.varies && !varies_by_origin(headers) {
            headers.append(VARY, HeaderValue::from_static("origin"));
        }
    }
}

fn varies_by_origin(headers: &HeaderMap) -> bool {
    let values = headers.get_all(VARY).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|by| by == "*" || by.eq_ignore_ascii_case("origin"))
}

/// Whether a browser asks what a page may do.
fn is_preflight(headers: &HeaderMap) -> bool {
    headers.contains_key(ORIGIN) && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// Answers a preflight of a function that has `cors`. `None` for everything else: where there is none, a function may answer
/// itself.
///
/// # Errors
/// 429 for an address that asks too often.
pub(super) async fn preflight(
    core: &Rc<Core>,
    parts: &request::Parts,
    (peer, request_id): (IpAddr, &str),
) -> Result<Option<Response>, ApiError> {
    if !is_preflight(&parts.headers) {
        return Ok(None);
    }
    // It is about a request that comes next, and this is the path's usual method.
    let route = route(&Method::POST, parts.uri.path());
    let (in_path, name) = match &route {
        Route::Invoke { namespace, name } => (*namespace, name),
        Route::Web { namespace, name, .. } => (Some(*namespace), name),
        Route::WebSocket(_) | Route::Health | Route::Control => return Ok(None),
    };
    // It carries no credential that it could count for.
    core.admit(None, core.client(&parts.headers, peer))?;
    let query = parts.uri.query().filter(|_| matches!(route, Route::Invoke { .. }));
    let named = query::namespace(in_path, query, &[]).ok().flatten();
    let namespace = named.and_then(|named| Namespace::new(&named).ok());
    let Some(cors) = look_up(core, namespace.as_ref(), name).await else { return Ok(None) };
    let mut response = cors.answer(&parts.headers);
    let id = HeaderValue::from_str(request_id).map_err(ApiError::internal)?;
    response.headers_mut().insert(REQUEST_ID, id);
    Ok(Some(response))
}

/// What the refusal of a request says, before its function is known to its caller. `namespace` is none where nothing has said
/// it.
pub(super) async fn of_refusal(
    core: &Rc<Core>,
    request: &HeaderMap,
    namespace: Option<&Namespace>,
    asked: &Asked<'_>,
    refusal: &ApiError,
) -> Option<Granted> {
    // Only browsers read it. Who asks too often causes no look-up.
    let cors = if refusal.status == StatusCode::TOO_MANY_REQUESTS {
        let known =
            namespace.and_then(|namespace| remembered(&mut core.cache.borrow_mut(), namespace, asked.name));
        known.unwrap_or_else(|| core.shared.cors.clone())
    } else if request.contains_key(ORIGIN) {
        look_up(core, namespace, asked.name).await
    } else {
        None
    };
    Some(cors?.grant(request))
}

/// The `cors` that holds for a function, whose code is not needed. The node's holds for what is unknown.
pub(super) async fn look_up(
    core: &Rc<Core>,
    namespace: Option<&Namespace>,
    path_name: &str,
) -> Option<Arc<Cors>> {
    let default = || core.shared.cors.clone();
    let Some(namespace) = namespace else { return default() };
    let generation = {
        let mut cache = core.cache.borrow_mut();
        let generation = cache.refresh(&core.shared.registry_generation);
        if let Some(known) = remembered(&mut cache, namespace, path_name) {
            return known;
        }
        generation
    };
    let Ok(Target { name, which }) = Target::parse(path_name) else { return default() };
    let (shared, of) = (Arc::clone(&core.shared), namespace.clone());
    let found = core.ask(move || shared.registry.find(&of, &name, &which)).await;
    // Without an answer of the registry, the request that follows is told so.
    let Ok(Ok(found)) = found else { return default() };
    let cors = match found {
        Some(found) => of_function(core, &found.function.web),
        None => default(),
    };
    core.cache.borrow_mut().keep_cors(generation, (namespace, path_name), cors.clone());
    cors
}

/// The `cors` of a function, or else the node's.
pub(super) fn of_function(core: &Core, settings: &web::WebSettings) -> Option<Arc<Cors>> {
    match &settings.cors {
        // It was checked by the deploy, so it is good.
        Some(cors) => Cors::new(cors).ok().map(Arc::new),
        None => core.shared.cors.clone(),
    }
}

/// What the core's memory says; `None` where it has nothing of the function.
fn remembered(cache: &mut CoreCache, namespace: &Namespace, path_name: &str) -> Option<Option<Arc<Cors>>> {
    if let Some(ready) = cache.function(namespace, path_name) {
        return Some(ready.cors.clone());
    }
    cache.cors(namespace, path_name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn cors(value: serde_json::Value) -> Cors {
        Cors::new(&serde_json::from_value(value).unwrap()).unwrap()
    }

    fn from(origin: &'static str) -> HeaderMap {
        [(ORIGIN, HeaderValue::from_static(origin))].into_iter().collect()
    }

    #[test]
    fn what_a_function_has_said_itself_stays() {
        let cors = cors(json!({"origins": ["https://app.example"], "credentials": true}));
        let mut own = HeaderMap::new();
        own.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("https://own.example"));
        own.insert(VARY, HeaderValue::from_static("accept, Origin"));
        let before = own.clone();
        cors.grant(&from("https://app.example")).put_into(&mut own);
        assert_eq!(own, before);
        let mut headers = HeaderMap::new();
        headers.insert(VARY, HeaderValue::from_static("accept"));
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("x-own"));
        cors.grant(&from("https://APP.example:443")).put_into(&mut headers);
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_ORIGIN], "https://APP.example:443");
        assert_eq!(
            (&headers[ACCESS_CONTROL_ALLOW_CREDENTIALS], &headers[ACCESS_CONTROL_EXPOSE_HEADERS]),
            (&TRUE, &HeaderValue::from_static("x-own"))
        );
        assert_eq!(headers.get_all(VARY).iter().collect::<Vec<_>>(), ["accept", "origin"]);
    }

    #[test]
    fn other_origins_are_told_nothing_but_that_the_answer_varies() {
        let cors = cors(json!({"origins": ["https://app.example"]}));
        for headers in [from("https://evil.example"), from("null"), HeaderMap::new()] {
            let mut answer = HeaderMap::new();
            cors.grant(&headers).put_into(&mut answer);
            assert_eq!((answer.len(), &answer[VARY]), (1, &HeaderValue::from_static("origin")));
            assert_eq!(cors.answer(&headers).headers().len(), 1);
        }
    }
}
