//! The door for those who watch the node: an address of its own for metrics, health and readiness (`metrics_listen`). It has
//! connections of its own, and takes no share, so that a crowd at the main address cannot keep them out.

use super::accept::ACCEPT_PAUSE;
use super::control::ask_router;
use super::core::Core;
use super::{health, refuse};
use crate::error::{ApiError, REQUEST_ID};
use crate::http::{Handled, Handler, Request, Response, Taken, Then, refuse_connection, serve_connection};
use axum::Router;
use axum::body::Body;
use http::{HeaderValue, Method};
use monoio::net::{TcpListener, TcpStream};
use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;

/// Connections that are open there at once.
const CONNECTIONS_MAX: usize = 64;

const HEALTH_PATH: &str = "/health";

struct Door {
    core: Rc<Core>,
    router: Router,
    connections: Cell<usize>,
}

/// Accepts until the listener is closed.
pub(super) async fn accept(listener: TcpListener, core: Rc<Core>) {
    let Some(router) = core.shared.operations.clone() else { return };
    let door = Rc::new(Door { core, router, connections: Cell::new(0) });
    loop {
        match listener.accept().await {
            Ok((stream, _)) if door.connections.get() >= CONNECTIONS_MAX => refuse_connection(&stream),
            Ok((stream, peer)) => spawn(&door, stream, peer.ip()),
            // What a drain makes of a listener.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return,
            Err(error) => {
                tracing::warn!(%error, "a connection to `metrics_listen` could not be accepted");
                monoio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn spawn(door: &Rc<Door>, stream: TcpStream, peer: IpAddr) {
    let door = Rc::clone(door);
    door.connections.set(door.connections.get() + 1);
    monoio::spawn(async move {
        let connections = Rc::clone(&door.core.connections);
        serve_connection(stream, peer, Rc::clone(&door), connections).await;
        door.connections.set(door.connections.get() - 1);
    });
}

impl Door {
    async fn answer(&self, request: Request, id: &HeaderValue) -> Result<Response, ApiError> {
        let (mut parts, _) = request.into_parts();
        if parts.uri.path() == HEALTH_PATH && matches!(parts.method, Method::GET | Method::HEAD) {
            return Ok(health());
        }
        // Whatever the client sent under this name, the id is ours.
        parts.headers.insert(REQUEST_ID, id.clone());
        let request = http::Request::from_parts(parts, Body::empty());
        let response = ask_router(&self.core, &self.router, request, ()).await?;
        let (head, body) = response.into_parts();
        Ok(Response::from_parts(head, body.into()))
    }
}

impl Handler for Door {
    type Session = Infallible;
    type Note = Infallible;

    fn begin(&self, _: &Request, _: IpAddr) -> Option<Box<Infallible>> {
        None
    }

    fn end(self: &Rc<Self>, _: Option<Box<Infallible>>, _: &mut Response) {}

    async fn handle(self: &Rc<Self>, request: Request, _: IpAddr) -> Handled<Infallible> {
        let id = self.core.request_id().unwrap_or_default();
        let answer = match HeaderValue::from_str(&id) {
            Ok(header) => self.answer(request, &header).await,
            Err(error) => Err(ApiError::internal(error)),
        };
        let response = answer.unwrap_or_else(|error| refuse(&error, &id));
        // Nobody reads a body here.
        Handled { response, then: Then::Unread }
    }

    async fn take_over(self: &Rc<Self>, session: Infallible, _: Taken) {
        match session {}
    }
}
