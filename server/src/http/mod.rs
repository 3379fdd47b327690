//! HTTP/1.1 on a core's event loop: connections, their timeouts, and bodies within their limits. Only this module and
//! `worker` know the event loop, and only this one knows the HTTP library.

mod answer;
mod body;
mod connection;
mod io;
mod origin;
mod peer;
mod timeouts;
mod upload;

pub(crate) use answer::{AnswerBody, Pieces, Writer};
pub(crate) use body::{Bodies, BodyLimits, Received, read_body};
pub(crate) use connection::{Handled, Handler, Taken, Then, refuse_connection, serve_connection};
pub(crate) use io::Socket;
pub(crate) use origin::Origin;
pub(crate) use timeouts::{Connections, Timeouts};
pub(crate) use upload::{Left, Upload};

/// A request whose body has not been read yet.
pub(crate) type Request = hyper::Request<hyper::body::Incoming>;

/// An answer.
pub(crate) type Response = hyper::Response<AnswerBody>;
