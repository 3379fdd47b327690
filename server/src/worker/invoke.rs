//! The hot path: from a request to an answer, on one core.
//!
//! Each step costs a stranger more than the one before: who it is, how often it asks, whether it may, whether there is room for
//! its body, and whether there is room to run.

use super::BodyUnread;
use super::answer::{Form, answer, begun_answer};
use super::cache::Ready;
use super::callers::{Identity, Local, Visitor};
use super::core::Core;
use super::cors::{self, Granted};
use super::exchange::{Begun, Sender, WebExchange};
use super::query;
use super::run::{Access, Asker, Cause, ready, run_with_retries};
use super::running::Running;
use super::spread::{seed, spread};
use super::traces;
use super::until::{Until, until};
use crate::error::ApiError;
use crate::http::{BodyLimits, Left, Received, Response, Upload, read_body};
use crate::limits::UPLOAD_ROOM_BYTES;
use crate::shares::{Kind, Permit};
use http::{HeaderMap, StatusCode, request};
use hyper::body::Incoming;
use orama_platform::auth::{Action, Credential};
use orama_runtime::invocation::Outcome;
use orama_runtime::limits::INPUT_MAX_BYTES;
use orama_runtime::names::Namespace;
use orama_runtime::services::Exchange;
use std::future::{poll_fn, ready as ready_now};
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// A failed request, and whether its body was left unread.
pub(super) struct Refused {
    pub(super) error: ApiError,
    pub(super) body_unread: bool,
    /// What the function's pages of other origins are told.
    pub(super) cors: Option<Granted>,
}

fn after_body(error: ApiError) -> Refused {
    Refused { error, body_unread: false, cors: None }
}

/// The function that a request asks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    /// The namespace, where the path names one.
    pub(super) namespace: Option<&'a str>,
    /// `name` or `name@version`.
    pub(super) name: &'a str,
    /// Of a web service: where the function's part of the path begins.
    pub(super) rest_at: Option<usize>,
}

/// Answers a request to a function.
pub(super) async fn invoke(
    core: &Rc<Core>,
    parts: request::Parts,
    body: Incoming,
    asked: Asked<'_>,
    (peer, request_id): (IpAddr, &str),
) -> Result<Response, Refused> {
    let client = core.client(&parts.headers, peer);
    let mut namespace = None;
    let (ready, caller) = match find(core, &parts, asked, (client, request_id), &mut namespace).await {
        Ok(found) => found,
        Err(error) => {
            // Boxed, so that it adds nothing to what each request allocates.
            let cors = cors::of_refusal(core, &parts.headers, namespace.as_ref(), &asked, &error);
            let cors = Box::pin(cors).await;
            return Err(Refused { error, body_unread: true, cors });
        }
    };
    let granted = ready.cors.as_ref().map(|cors| cors.grant(&parts.headers));
    match serve(core, parts, body, asked, (&ready, caller), (peer, client, request_id)).await {
        Ok(mut response) => {
            if let Some(granted) = granted {
                granted.put_into(response.headers_mut());
            }
            Ok(response)
        }
        Err(refused) => Err(Refused { cors: granted, ..refused }),
    }
}

/// The function that a request asks for, and whom its run counts for. `namespace` is set as soon as it is known.
async fn find(
    core: &Rc<Core>,
    parts: &request::Parts,
    asked: Asked<'_>,
    (client, request_id): (IpAddr, &str),
    namespace: &mut Option<Namespace>,
) -> Result<(Rc<Ready>, Caller), ApiError> {
    // A web service's query is its own.
    let query = parts.uri.query().filter(|_| asked.rest_at.is_none());
    let named = query::namespace(asked.namespace, query, &[])?;
    // Also for a refusal: it says nothing of who asks.
    *namespace = named.as_deref().and_then(|named| Namespace::new(named).ok());
    let visitor = core.visitor_of(&parts.headers, client).await?;
    let address = core.admit(visitor.identity.as_ref(), client)?;
    let namespace = namespace.insert(namespace_of(core, &visitor, client, named.as_deref())?);
    let mut ready = permitted(core, &visitor, client, (namespace, asked.name)).await?;
    if ready.traffic.is_some() {
        let seed = seed(ready.traffic.as_deref(), &parts.headers, request_id);
        // Boxed, so that it adds nothing to what other requests allocate.
        ready = Box::pin(spread(core, &visitor, client, ready, seed)).await?;
    }
    let caller = Caller::new(core, &ready, visitor.identity, address, client);
    let caller = caller.inspect_err(|error| core.tally_refusal(&ready, error))?;
    Ok((ready, caller))
}

/// Reads a request's body and runs its function.
async fn serve(
    core: &Rc<Core>,
    parts: request::Parts,
    body: Incoming,
    asked: Asked<'_>,
    (ready, caller): (&Rc<Ready>, Caller),
    (peer, client, request_id): (IpAddr, IpAddr, &str),
) -> Result<Response, Refused> {
    let limits = BodyLimits {
        bytes: ready.function.web.max_body_bytes(),
        whole_bytes: INPUT_MAX_BYTES,
        timeout: core.shared.body_timeout,
    };
    let parties = || Core::parties(&ready.tenant, caller.address.as_ref());
    let permit = core.shared.shares.permit(Kind::BodyBytes, parties());
    let refuse = |error: ApiError| {
        core.tally_refusal(ready, &error);
        not_read(error)
    };
    let Received { bytes, mut permit, rest } =
        read_body(body, limits, &core.bodies, permit).await.map_err(refuse)?;
    let upload = match rest {
        Some(rest) => Some(upload(core, rest, bytes.len(), limits, &mut permit).map_err(refuse)?),
        None => None,
    };
    let unread = upload.is_some();
    // Only now: a client that is slow to send takes nobody's place, unless its function takes large bodies.
    let running = Running::enter(core, ready, caller.address.as_ref());
    let running = running.map_err(|error| {
        let error = ApiError::from(error);
        core.tally_refusal(ready, &error);
        Refused { error, body_unread: unread, cors: None }
    })?;
    let asker = caller.asker(client, &parts.headers);
    let trace = traces::parent(core, &parts.headers, caller.address.is_some());
    let path = asked.rest_at.map_or(0..0, |at| at..parts.uri.path().len());
    let sender = Sender { peer, client, has_credential: caller.identity.is_some() };
    let exchange = WebExchange::new(parts, path, sender, Arc::clone(&core.shared), parties(), upload);
    let exchange = Arc::new(exchange);
    let cause = Cause {
        trigger_type: "http",
        trigger_depth: 0,
        call_depth: 0,
        deadline: None,
        caller: caller.identity.as_ref().and_then(|identity| identity.credential.caller.clone()),
        exchange: Some(Arc::clone(&exchange)),
        trace,
        asker,
    };
    let id = request_id.to_owned();
    let run = Box::pin(async move {
        let ended = run_with_retries(running, bytes, &id, &cause).await;
        drop(permit);
        ended
    });
    let form = if asked.rest_at.is_some() { Form::Web } else { Form::Invoke };
    match until_answer(run, &exchange).await {
        Run::Ended(ended) => {
            let shaped = exchange.take_whole();
            let is_unread = match exchange.close_input() {
                Left::Whole => false,
                Left::Unread => true,
                // Whatever the function made of a part.
                Left::Failed(error) => return Err(not_read(error)),
            };
            let answered = answer(core, ended, shaped, form, request_id, parties()).await;
            let refused = |error| Refused { error, body_unread: is_unread, cors: None };
            answered.map(|response| with_unread(response, is_unread)).map_err(refused)
        }
        Run::Began(begun, rest) => {
            let is_unread = exchange.has_more_input();
            let response = begun_answer(begun, request_id).map_err(after_body)?;
            let response = with_unread(response, is_unread);
            monoio::spawn(finish(rest, exchange, request_id.to_owned()));
            Ok(response)
        }
    }
}

/// Takes room for a body whose rest arrives while its function runs.
fn upload(
    core: &Core,
    rest: Incoming,
    before: usize,
    limits: BodyLimits,
    permit: &mut Permit,
) -> Result<Upload, ApiError> {
    permit.set(before + UPLOAD_ROOM_BYTES)?;
    let empty = permit.empty();
    let room = std::mem::replace(permit, empty);
    Ok(Upload::new(rest, before, limits, room, Arc::clone(&core.host.scheduler)))
}

/// The refusal of a body that was not read to its end, or broke off.
fn not_read(mut error: ApiError) -> Refused {
    if error.status == StatusCode::PAYLOAD_TOO_LARGE {
        error.hint = Some("`max_body` in function.yaml says how many MB a body may have, up to 32");
    }
    Refused { body_unread: error.status != StatusCode::BAD_REQUEST, error, cors: None }
}

/// Marks an answer to a request whose body is not read, or not yet.
fn with_unread(mut response: Response, is_unread: bool) -> Response {
    if is_unread {
        response.extensions_mut().insert(BodyUnread);
    }
    response
}

/// A run that has been started.
type Pending = Pin<Box<dyn Future<Output = (Outcome, Duration)>>>;

/// What a connection waits for.
enum Run {
    /// The run is over.
    Ended((Outcome, Duration)),
    /// It has begun its answer, and goes on.
    Began(Begun, Pending),
}

/// Runs a function until it has ended or begun an answer.
async fn until_answer(mut run: Pending, exchange: &WebExchange) -> Run {
    let begun = poll_fn(|cx| match run.as_mut().poll(cx) {
        Poll::Ready(ended) => Poll::Ready(Err(ended)),
        Poll::Pending => exchange.take_begun().map_or(Poll::Pending, |begun| Poll::Ready(Ok(begun))),
    });
    match begun.await {
        Ok(begun) => Run::Began(begun, run),
        Err(ended) => match exchange.take_begun() {
            Some(begun) => Run::Began(begun, Box::pin(ready_now(ended))),
            None => Run::Ended(ended),
        },
    }
}

/// Runs a function whose answer has begun to its end, or until its client is gone.
async fn finish(run: Pending, exchange: Arc<WebExchange>, request_id: String) {
    let is_whole = match until(run, exchange.gone()).await {
        Until::Done((outcome, _)) => outcome.result.is_ok(),
        // Nobody is there to be told.
        Until::Ended => true,
        Until::Panicked => {
            tracing::error!(request_id, "a run panicked after its answer began");
            false
        }
    };
    exchange.end(is_whole).await;
    exchange.close_input();
}

/// Whom an invocation counts for beside the function's namespace.
pub(super) struct Caller {
    pub(super) identity: Option<Identity>,
    /// The client's address, where it has no credential of the function's namespace.
    pub(super) address: Option<Rc<Local>>,
}

impl Caller {
    /// As a record tells it.
    fn asker(&self, client: IpAddr, headers: &HeaderMap) -> Asker {
        Asker {
            caller: self.identity.as_ref().map(|identity| Arc::clone(&identity.credential.shown)),
            client: Some(client),
            request_id: traces::request_id(headers),
        }
    }

    /// # Errors
    /// 429 when a stranger calls and the function's namespace has no tokens.
    pub(super) fn new(
        core: &Core,
        ready: &Ready,
        identity: Option<Identity>,
        address: Option<Rc<Local>>,
        client: IpAddr,
    ) -> Result<Self, ApiError> {
        let is_stranger = identity.as_ref().is_none_or(|identity| {
            let credential = &identity.credential;
            credential.namespace != ready.function.namespace && !credential.role.allows(Action::AnyNamespace)
        });
        if !is_stranger {
            return Ok(Self { identity, address: None });
        }
        core.callers.admit(&ready.tenant)?;
        let address = address.unwrap_or_else(|| core.callers.address(client));
        Ok(Self { identity, address: Some(address) })
    }
}

/// The function, where the credential or its being public allows to run it.
///
/// # Errors
/// 401 or 403 where it is not allowed, 404 where it is and there is no such function.
pub(super) async fn permitted(
    core: &Rc<Core>,
    visitor: &Visitor,
    client: IpAddr,
    (namespace, path_name): (&Namespace, &str),
) -> Result<Rc<Ready>, ApiError> {
    let credential = visitor.credential();
    let granted = credential.map_or(Ok(None), |credential| granted(credential, namespace, path_name))?;
    // Whoever sends what is no credential of this node, reaches what is open to everybody.
    let access = match (granted, &visitor.foreign) {
        (Some(access), None) => access,
        (_, foreign) => Access::Public { has_credential: credential.is_some() && foreign.is_none() },
    };
    let ready = ready(core, namespace, path_name, access).await;
    ready.map_err(|error| unless_foreign(core, visitor, client, error.into()))
}

/// The error for who sent something that is no credential of this node: that is then what is wrong, and counts as a failed
/// attempt.
fn unless_foreign(core: &Core, visitor: &Visitor, client: IpAddr, error: ApiError) -> ApiError {
    match &visitor.foreign {
        Some(foreign) if error.status == StatusCode::UNAUTHORIZED => core.failed(foreign.clone(), client),
        _ => error,
    }
}

pub(super) fn not_yours(has_credential: bool) -> ApiError {
    if has_credential {
        ApiError::forbidden(
            "the function is not public, and the credential is for another namespace or for other functions",
        )
    } else {
        ApiError::credential_needed()
    }
}

/// The namespace a request is about: the one that it names, else the credential's.
///
/// # Errors
/// 400 for a name that cannot be one, 401 where nothing says which.
pub(super) fn namespace_of(
    core: &Core,
    visitor: &Visitor,
    client: IpAddr,
    named: Option<&str>,
) -> Result<Namespace, ApiError> {
    match (named, visitor.credential()) {
        (Some(named), _) => Ok(Namespace::new(named)?),
        (None, Some(credential)) => Ok(credential.namespace.clone()),
        (None, None) => Err(unless_foreign(core, visitor, client, ApiError::credential_needed())),
    }
}

/// What the credential alone allows. In another namespace only public functions are left.
fn granted(
    credential: &Credential,
    namespace: &Namespace,
    path_name: &str,
) -> Result<Option<Access>, ApiError> {
    if credential.namespace != *namespace {
        return Ok(credential.role.allows(Action::AnyNamespace).then_some(Access::All));
    }
    credential.require(Action::Invoke)?;
    if credential.functions.is_some() && !credential.is_for(path_name.split('@').next().unwrap_or_default()) {
        return Ok(None);
    }
    let runs_all = credential.role.allows(Action::InvokeInternal);
    Ok(Some(if runs_all { Access::All } else { Access::Open }))
}
