//! One connection, from accept to close.

use super::io::Socket;
use super::timeouts::{Connections, Phase, Verdict};
use super::{Request, Response};
use http::header::{CONNECTION, HeaderValue};
use hyper::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use monoio::io::IntoPollIo;
use monoio::net::TcpStream;
use std::convert::Infallible;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

/// Bytes of a request's head, at most; a larger one is a 431.
const HEAD_MAX_BYTES: usize = 64 << 10;
/// Header lines of a request, at most; more are a 431.
const HEADERS_MAX: usize = 100;

/// Answered to a head that did not arrive in time.
const HEAD_TIMEOUT_ANSWER: &[u8] = b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\n\
connection: close\r\ncontent-length: 81\r\n\r\n\
{\"error\":\"the request's headers did not arrive in time\",\"code\":\"REQUEST_TIMEOUT\"}";

/// Answers requests.
pub(crate) trait Handler: 'static {
    /// Answers one request. The second value says whether its body was left unread.
    fn handle(self: &Rc<Self>, request: Request) -> impl Future<Output = (Response, bool)>;
}

/// Serves requests of one connection until either side closes it.
pub(crate) async fn serve_connection<H: Handler>(
    stream: TcpStream,
    handler: Rc<H>,
    connections: Rc<Connections>,
) {
    // Answers are written whole: waiting for more to send would only delay them. Not possible = a dead socket.
    let _ = stream.set_nodelay(true);
    let Ok(stream) = stream.into_poll_io() else { return };
    let state = connections.open();
    let socket = Socket::new(stream, Rc::clone(&connections), Rc::clone(&state));
    let service = service_fn(|request: Request| {
        let (handler, connections, state) = (Rc::clone(&handler), Rc::clone(&connections), Rc::clone(&state));
        Box::pin(async move {
            connections.enter(&state, Phase::Handling);
            let has_body = !request.body().is_end_stream();
            let (mut response, body_unread) = handler.handle(request).await;
            if has_body && body_unread {
                state.unread_body.set(true);
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            connections.enter(&state, Phase::Idle);
            Ok::<_, Infallible>(response)
        })
    });
    let mut connection = http1::Builder::new()
        .max_header_size(HEAD_MAX_BYTES)
        .max_headers(HEADERS_MAX)
        .serve_connection(socket, service);
    let mut closing = false;
    let ended = poll_fn(|cx| {
        state.keep_waker(cx.waker());
        match state.verdict() {
            Verdict::Go => {}
            Verdict::Close if !closing => {
                closing = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            Verdict::Close => {}
            verdict @ (Verdict::HeadTimeout | Verdict::Drop) => return Poll::Ready(Some(verdict)),
        }
        // A panic ends this connection, not the core and all that it serves.
        match catch_unwind(AssertUnwindSafe(|| connection.poll_without_shutdown(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            // An error here is the client's: it sent no HTTP, or left.
            Ok(Poll::Ready(_)) => Poll::Ready(None),
            Err(_) => {
                tracing::error!("a connection was dropped because its handler panicked");
                Poll::Ready(Some(Verdict::Drop))
            }
        }
    })
    .await;
    let socket = connection.into_parts().io;
    match ended {
        Some(Verdict::HeadTimeout) => socket.answer_raw(HEAD_TIMEOUT_ANSWER).await,
        Some(_) => drop(socket),
        None if state.unread_body.get() => socket.linger().await,
        None => drop(socket),
    }
    connections.closed(&state);
}
