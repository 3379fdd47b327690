//! The hot path: from a request to a guest and back, on one core.

use super::cache::Ready;
use super::core::{Core, unix_time};
use crate::auth::{Action, Credential};
use crate::error::{ApiError, REQUEST_ID};
use crate::http::{Response, read_body};
use crate::records::Record;
use crate::routes::Target;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{StatusCode, request};
use hyper::body::Incoming;
use orama_runtime::function::FunctionVersion;
use orama_runtime::invocation::{Failure, Invocation, Outcome, Status};
use orama_runtime::limits::INPUT_MAX_BYTES;
use orama_runtime::names::Namespace;
use serde::Serialize;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

const DURATION_MS: HeaderName = HeaderName::from_static("x-duration-ms");

/// A failed request, and whether its body was left unread.
pub(super) struct Refused {
    pub(super) error: ApiError,
    pub(super) body_unread: bool,
}

/// Everything that is found out before the body is read.
fn before_body(error: ApiError) -> Refused {
    Refused { error, body_unread: true }
}

fn after_body(error: ApiError) -> Refused {
    Refused { error, body_unread: false }
}

/// Answers an invoke request.
pub(super) async fn invoke(
    core: &Rc<Core>,
    parts: &request::Parts,
    body: Incoming,
    (path_namespace, path_name): (Option<&str>, &str),
    request_id: &str,
) -> Result<Response, Refused> {
    let credential = core.credential(&parts.headers).await.map_err(before_body)?;
    let namespace =
        namespace(credential.as_deref(), path_namespace, parts.uri.query()).map_err(before_body)?;
    let may = credential.as_deref().map_or(Ok(false), |credential| may_invoke(credential, &namespace));
    let may = may.map_err(before_body)?;
    let ready = match ready(core, &namespace, path_name).await {
        Ok(ready) if may || ready.function.is_public => ready,
        // Whether a function is there is nobody's business but its namespace's.
        Ok(_) => return Err(before_body(not_yours(credential.is_some()))),
        Err(error) if !may && error.status == StatusCode::NOT_FOUND => {
            return Err(before_body(not_yours(credential.is_some())));
        }
        Err(error) => return Err(before_body(error)),
    };
    let _running = Running::enter(core).map_err(before_body)?;
    let input = read_body(body, INPUT_MAX_BYTES, core.shared.body_timeout)
        .await
        .map_err(|error| Refused { body_unread: error.status != StatusCode::BAD_REQUEST, error })?;
    let (outcome, duration) = run(core, &ready, input, request_id).await;
    answer(outcome, duration, request_id).map_err(after_body)
}

fn not_yours(has_credential: bool) -> ApiError {
    if has_credential {
        ApiError::forbidden("the function belongs to another namespace and is not public")
    } else {
        ApiError::unauthorized("a credential is needed: Authorization: Bearer <API key>, or X-API-Key")
    }
}

/// The namespace a request is about: the path's or the query's where one is given, else the credential's.
fn namespace(
    credential: Option<&Credential>,
    path_namespace: Option<&str>,
    query: Option<&str>,
) -> Result<Namespace, ApiError> {
    let given = match path_namespace {
        Some(namespace) => Some(Namespace::new(namespace)?),
        None => {
            match query.and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("namespace="))) {
                Some(namespace) => Some(Namespace::new(namespace)?),
                None => None,
            }
        }
    };
    match (given, credential) {
        (Some(namespace), _) => Ok(namespace),
        (None, Some(credential)) => Ok(credential.namespace.clone()),
        (None, None) => Err(not_yours(false)),
    }
}

/// Whether the credential alone allows it. In another namespace only public functions are left.
fn may_invoke(credential: &Credential, namespace: &Namespace) -> Result<bool, ApiError> {
    if credential.namespace != *namespace {
        return Ok(credential.role.allows(Action::AnyNamespace));
    }
    credential.require(Action::Invoke).map(|()| true)
}

/// The function and its code: from this core's memory, else from the registry and the disk.
async fn ready(core: &Rc<Core>, namespace: &Namespace, path_name: &str) -> Result<Rc<Ready>, ApiError> {
    let generation = {
        let mut cache = core.cache.borrow_mut();
        let generation = cache.refresh(&core.shared.registry_generation);
        if let Some(ready) = cache.function(namespace, path_name) {
            note_use(core, ready);
            return Ok(Rc::clone(ready));
        }
        generation
    };
    let Target { name, version } = Target::parse(path_name)?;
    let (shared, wanted) = (Arc::clone(&core.shared), (namespace.clone(), name.clone()));
    let (function, module) = core
        .ask(move || {
            let function = shared.registry.function(&wanted.0, &wanted.1, version);
            let function = function.map_err(|error| ApiError::internal(&error))?;
            let function =
                function.ok_or_else(|| ApiError::function_not_found(wanted.1.as_str(), version))?;
            let module =
                shared.modules.load(&function).map_err(|error| ApiError::code_unavailable(&error))?;
            Ok::<_, ApiError>((function, module))
        })
        .await??;
    let ready = Rc::new(Ready { function, module, noted_s: Cell::new(unix_time().as_secs()) });
    core.cache.borrow_mut().keep_function(generation, path_name, Rc::clone(&ready));
    Ok(ready)
}

/// Tells the node's cache of loaded code, once a second, that this code is in use.
fn note_use(core: &Core, ready: &Ready) {
    let now_s = unix_time().as_secs();
    if ready.noted_s.replace(now_s) != now_s {
        core.shared.modules.note_use(&ready.function.wasm_hash);
    }
}

/// Counts an invocation as long as it is under way.
struct Running<'a>(&'a Core);

impl<'a> Running<'a> {
    fn enter(core: &'a Core) -> Result<Self, ApiError> {
        let running = core.running.get();
        if running >= core.shared.running_max {
            return Err(ApiError::overloaded("too many functions are running on this node"));
        }
        let this = Self(core);
        this.set(running + 1);
        Ok(this)
    }

    fn set(&self, running: usize) {
        self.0.running.set(running);
        self.0.counters.running(running);
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.set(self.0.running.get() - 1);
    }
}

/// Sees to it that an invocation is recorded, also when its client leaves or the node stops before it ends.
struct Unfinished<'a> {
    core: &'a Rc<Core>,
    begun: Instant,
    record: Option<Record>,
}

impl Unfinished<'_> {
    fn finish(mut self, outcome: &mut Outcome) -> Duration {
        let duration = self.begun.elapsed();
        if let Some(mut record) = self.record.take() {
            record.status = outcome.status();
            record.error = outcome.result.as_ref().err().map(ToString::to_string);
            record.duration_us = duration.as_micros() as u64;
            record.output_size = outcome.output.len() as u64;
            record.messages = std::mem::take(&mut outcome.messages);
            self.core.counters.invoked(record.status, duration);
            self.core.record(record);
        }
        duration
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if let Some(mut record) = self.record.take() {
            let duration = self.begun.elapsed();
            record.duration_us = duration.as_micros() as u64;
            let who = if self.core.stopping.get() {
                "the node was stopped"
            } else {
                "the client closed the connection"
            };
            record.error = Some(format!("{who} before the function had finished"));
            self.core.counters.invoked(record.status, duration);
            self.core.record(record);
        }
    }
}

async fn run(core: &Rc<Core>, ready: &Ready, input: Bytes, request_id: &str) -> (Outcome, Duration) {
    let unfinished =
        Unfinished { core, begun: Instant::now(), record: Some(begin_record(ready, &input, request_id)) };
    let invocation = Invocation { request_id: request_id.to_owned(), input, caller: None };
    let scheduler = Arc::clone(&core.scheduler);
    let mut outcome = core.shared.engine.run(&ready.module, &ready.function, invocation, scheduler).await;
    let duration = unfinished.finish(&mut outcome);
    (outcome, duration)
}

fn begin_record(ready: &Ready, input: &Bytes, request_id: &str) -> Record {
    let FunctionVersion { namespace, name, version, .. } = &*ready.function;
    Record {
        request_id: request_id.to_owned(),
        namespace: namespace.clone(),
        name: name.clone(),
        version: *version,
        trigger_type: "http",
        status: Status::Error,
        duration_us: 0,
        input_size: input.len() as u64,
        output_size: 0,
        error: None,
        started_at_ms: i64::try_from(unix_time().as_millis()).unwrap_or(i64::MAX),
        messages: Vec::new(),
    }
}

/// An output that is not JSON, as its client gets it.
#[derive(Serialize)]
struct Wrapped<'a> {
    request_id: &'a str,
    output: &'a str,
    status: &'a str,
    duration_ms: f64,
}

fn answer(outcome: Outcome, duration: Duration, request_id: &str) -> Result<Response, ApiError> {
    outcome.result.map_err(|failure| refusal(&failure))?;
    let body = match outcome.output.first() {
        Some(b'{' | b'[') => Bytes::from(outcome.output),
        _ => {
            let wrapped = Wrapped {
                request_id,
                output: &String::from_utf8_lossy(&outcome.output),
                status: Status::Success.as_str(),
                duration_ms: duration.as_micros() as f64 / 1000.0,
            };
            Bytes::from(serde_json::to_vec(&wrapped).map_err(|error| ApiError::internal(&error))?)
        }
    };
    let mut response = Response::new(body.into());
    let headers = response.headers_mut();
    headers.reserve(3);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let micros = duration.as_micros();
    let milliseconds = format!("{}.{:03}", micros / 1000, micros % 1000);
    for (name, value) in [(DURATION_MS, milliseconds), (REQUEST_ID, request_id.to_owned())] {
        headers.insert(name, text_header(value)?);
    }
    Ok(response)
}

/// A header from text, without copying it.
pub(super) fn text_header(text: String) -> Result<HeaderValue, ApiError> {
    HeaderValue::from_maybe_shared(Bytes::from(text)).map_err(|error| ApiError::internal(&error))
}

/// The answer to a failed invocation.
fn refusal(failure: &Failure) -> ApiError {
    match failure {
        Failure::Timeout(_) => {
            ApiError::new(StatusCode::GATEWAY_TIMEOUT, failure.code(), failure.to_string())
        }
        Failure::Overloaded => ApiError::overloaded(failure.to_string()),
        _ => ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, failure.code(), failure.to_string()),
    }
}
