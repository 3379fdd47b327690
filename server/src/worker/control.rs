//! Hands everything that is not an invocation to the control plane, with its bounded body.
//!
//! Nothing of a body is read before it is known that its sender may do what it asks for.

use super::answer::{held, text_header};
use super::callers::{Identity, Local};
use super::core::Core;
use super::invoke::Refused;
use crate::error::{ApiError, REQUEST_ID};
use crate::http::{BodyLimits, Received, Response, read_body};
use crate::limits::{CONTROL_BODY_MAX_BYTES, DEPLOY_MAX_BYTES};
use crate::routes;
use crate::shares::{Kind, Party, RateKind};
use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{Method, request};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use tower::ServiceExt;

const DEPLOY_PATH: &str = "/v1/functions";
const PUBLISH_PATH: &str = "/v1/pubsub/publish";

/// Answers a control-plane request.
pub(super) async fn forward(
    core: &Rc<Core>,
    mut parts: request::Parts,
    body: Incoming,
    (peer, request_id): (IpAddr, &str),
) -> Result<Response, Refused> {
    let unread = |error| Refused { error, body_unread: true, cors: None };
    let refused = |error| Refused { error, body_unread: false, cors: None };
    let client = core.client(&parts.headers, peer);
    parts.extensions.insert(routes::ClientAddress(client));
    let visitor = core.visitor_of(&parts.headers, client).await;
    let visitor = visitor.and_then(|visitor| match visitor.foreign {
        // Each route that takes a credential takes one of this node.
        Some(foreign) => Err(core.failed(foreign, client)),
        None => Ok(visitor.identity),
    });
    let identity = match visitor {
        Ok(identity) => identity,
        Err(error) => {
            // Paths that need no credential ignore a bad one; the others need not look it up again.
            parts.extensions.insert(error);
            None
        }
    };
    let address = core.admit(identity.as_ref(), client).map_err(unread)?;
    let parties = parties(identity.as_ref(), address.as_ref());
    let (body, room, is_unread) = if body.is_end_stream() {
        if let Some(identity) = &identity {
            take_tokens(core, &parts, identity).map_err(unread)?;
        }
        (Bytes::new(), None, false)
    } else {
        let may = may_send(&mut parts, identity.as_ref()).inspect_err(|error| {
            if let Some(identity) = &identity {
                let asked = (&parts.method, parts.uri.path());
                let registry = &core.shared.registry;
                routes::refused(registry, asked, &identity.credential, Some(client), error);
            }
        });
        match may.map_err(unread)? {
            Some(limit_bytes) => {
                if let Some(identity) = &identity {
                    take_tokens(core, &parts, identity).map_err(unread)?;
                }
                let timeout = core.shared.body_timeout;
                let limits = BodyLimits { bytes: limit_bytes, whole_bytes: limit_bytes, timeout };
                let permit = core.shared.shares.permit(Kind::BodyBytes, parties.clone());
                let received = read_body(body, limits, &core.bodies, permit).await.map_err(unread)?;
                let Received { bytes, permit, .. } = received;
                (bytes, Some(permit), false)
            }
            // The router answers that there is no such path or method; it does not look at the body.
            None => (Bytes::new(), None, true),
        }
    };
    let mut place = core.shared.shares.permit(Kind::ControlRequests, parties.clone());
    place.grow(1).map_err(|error| refused(error.into()))?;
    // Whatever the client sent under this name, the id is ours.
    let id = text_header(request_id.to_owned()).map_err(refused)?;
    parts.headers.insert(REQUEST_ID, id.clone());
    let request = http::Request::from_parts(parts, Body::from(body));
    let response = ask_router(core, &core.shared.control_plane, request, (place, room)).await;
    let (mut head, body) = response.map_err(refused)?.into_parts();
    head.headers.insert(REQUEST_ID, id);
    let body = held(&core.shared.shares, body, parties).map_err(refused)?;
    let mut response = Response::from_parts(head, body.into());
    if is_unread {
        response.extensions_mut().insert(super::BodyUnread);
    }
    Ok(response)
}

/// Whom a request counts for: the namespace of its credential, or else its client's address.
fn parties(identity: Option<&Identity>, address: Option<&Rc<Local>>) -> [Option<Arc<Party>>; 2] {
    let local = identity.map(|identity| &identity.namespace).or(address);
    [local.map(|local| Arc::clone(&local.party)), None]
}

/// How large the body of a request may be; `None` where no route takes one.
///
/// # Errors
/// 401 or 403 for who may not do what the route does.
fn may_send(parts: &mut request::Parts, identity: Option<&Identity>) -> Result<Option<usize>, ApiError> {
    let Some(action) = routes::body_action(&parts.method, parts.uri.path()) else { return Ok(None) };
    let Some(identity) = identity else {
        return Err(parts.extensions.remove::<ApiError>().unwrap_or_else(ApiError::credential_needed));
    };
    identity.credential.require(action)?;
    Ok(Some(if is_deploy(parts) { DEPLOY_MAX_BYTES } else { CONTROL_BODY_MAX_BYTES }))
}

fn is_deploy(parts: &request::Parts) -> bool {
    parts.method == Method::POST && parts.uri.path() == DEPLOY_PATH
}

/// Whether a request makes a version without an upload.
fn is_update(parts: &request::Parts) -> bool {
    let of_function = parts.uri.path().strip_prefix(DEPLOY_PATH).and_then(|rest| rest.strip_prefix('/'));
    parts.method == Method::PATCH && of_function.is_some_and(|name| !name.contains('/'))
}

/// Whether a path publishes a message, or fires a trigger as one does.
fn publishes(path: &str) -> bool {
    path == PUBLISH_PATH || path.ends_with("/fire")
}

/// Counts a deploy or a publish.
fn take_tokens(core: &Core, parts: &request::Parts, identity: &Identity) -> Result<(), ApiError> {
    let kind = if is_deploy(parts) || is_update(parts) {
        RateKind::Deploys
    } else if parts.method == Method::POST && publishes(parts.uri.path()) {
        RateKind::Publishes
    } else {
        return Ok(());
    };
    for local in [&identity.key, &identity.namespace] {
        core.callers.take(kind, local)?;
    }
    Ok(())
}

/// The control plane's answer, with its whole body.
///
/// The work goes on although the client leaves, so it keeps the permits until it ends.
pub(super) async fn ask_router(
    core: &Core,
    router: &Router,
    request: http::Request<Body>,
    permits: impl Send + 'static,
) -> Result<http::Response<Bytes>, ApiError> {
    let router = router.clone();
    let answering = core.shared.backplane.spawn(async move {
        let _permits = permits;
        let response = match router.oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let (parts, body) = response.into_parts();
        body.collect().await.map(|body| http::Response::from_parts(parts, body.to_bytes()))
    });
    let answered = answering.await.map_err(ApiError::internal)?;
    answered.map_err(ApiError::internal)
}
