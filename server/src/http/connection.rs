//! One connection, from accept to close.

use super::io::Socket;
use super::timeouts::{ConnectionState, Connections, Phase, Verdict};
use super::{Request, Response};
use bytes::Bytes;
use http::Version;
use http::header::{CONNECTION, HeaderValue};
use hyper::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use monoio::io::IntoPollIo;
use monoio::net::TcpStream;
use rustix::net::SendFlags;
use std::cell::Cell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

/// Bytes of a request's head, at most; a larger one is a 431.
const HEAD_MAX_BYTES: usize = 64 << 10;
/// Header lines of a request, at most; more are a 431.
const HEADERS_MAX: usize = 100;

/// Answered to a head that did not arrive in time.
const HEAD_TIMEOUT_ANSWER: &[u8] = b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\n\
connection: close\r\ncontent-length: 98\r\n\r\n\
{\"error\":\"the request's headers did not arrive in time\",\"code\":\"REQUEST_TIMEOUT\",\"retryable\":true}";

/// Answered to a connection that there is no room for.
const NO_ROOM_ANSWER: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
connection: close\r\nretry-after: 1\r\ncontent-length: 110\r\n\r\n\
{\"error\":\"too many connections are open; try again soon\",\"code\":\"OVERLOADED\",\"retryable\":true,\"retry_after\":1}";

/// Answers requests.
pub(crate) trait Handler: 'static {
    /// What it remembers of a request whose connection it takes over.
    type Session: 'static;
    /// What it keeps of a request until there is an answer.
    type Note: 'static;

    /// Notes a request before it is answered, where somebody wants to hear of it.
    fn begin(&self, request: &Request, peer: IpAddr) -> Option<Box<Self::Note>>;

    /// Ends what [`Self::begin`] began, if it did.
    fn end(self: &Rc<Self>, note: Option<Box<Self::Note>>, response: &mut Response);

    /// Answers one request of a client whose connection comes from `peer`.
    fn handle(
        self: &Rc<Self>,
        request: Request,
        peer: IpAddr,
    ) -> impl Future<Output = Handled<Self::Session>>;

    /// Goes on with a connection after its last answer, a 101, has been sent.
    fn take_over(self: &Rc<Self>, session: Self::Session, taken: Taken) -> impl Future<Output = ()>;
}

/// An answer, and how its connection goes on.
pub(crate) struct Handled<S> {
    pub(crate) response: Response,
    pub(crate) then: Then<S>,
}

/// How a connection goes on after an answer.
pub(crate) enum Then<S> {
    /// With the next request.
    Next,
    /// Some of the request's body was left unread; if it had one, there can be no next request.
    Unread,
    /// It is no longer HTTP.
    TakeOver(S),
}

/// A connection that is no longer HTTP. Nothing but its new owner ends it, apart from a stopping node.
pub(crate) struct Taken {
    pub(crate) socket: Socket,
    /// What came after the request.
    pub(crate) read: Bytes,
    state: Rc<ConnectionState>,
}

impl Taken {
    /// Whether the node is draining: what is under way may be finished. The task is woken when that begins.
    pub(crate) fn draining(&self) -> impl Fn() -> bool + use<> {
        let state = Rc::clone(&self.state);
        move || state.verdict() != Verdict::Go
    }
}

/// Serves requests of one connection until either side closes it.
pub(crate) async fn serve_connection<H: Handler>(
    stream: TcpStream,
    peer: IpAddr,
    handler: Rc<H>,
    connections: Rc<Connections>,
) {
    // Answers are written whole: waiting for more to send would only delay them. Not possible = a dead socket.
    let _ = stream.set_nodelay(true);
    let Ok(stream) = stream.into_poll_io() else { return };
    let state = connections.open();
    let socket = Socket::new(stream, Rc::clone(&connections), Rc::clone(&state));
    let session = Cell::new(None);
    let service = service_fn(|request: Request| {
        let (handler, connections, state) = (Rc::clone(&handler), Rc::clone(&connections), Rc::clone(&state));
        let session = &session;
        Box::pin(async move {
            connections.enter(&state, Phase::Handling);
            state.knows_interim.set(request.version() >= Version::HTTP_11);
            let has_body = !request.body().is_end_stream();
            let note = handler.begin(&request, peer);
            let handled = handler.handle(request, peer).await;
            let (mut response, taken_over) = response_of(handled, has_body, &state);
            handler.end(note, &mut response);
            if taken_over.is_some() {
                session.set(taken_over);
            }
            response.body_mut().begin(&connections, &state);
            Ok::<_, Infallible>(response)
        })
    });
    let mut connection = http1::Builder::new()
        .max_header_size(HEAD_MAX_BYTES)
        .max_headers(HEADERS_MAX)
        // A client that ends its input after a whole request gets its answer; the sweep finds out which have gone.
        .half_close(true)
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
    let parts = connection.into_parts();
    let socket = parts.io;
    match (ended, session.take()) {
        (Some(Verdict::HeadTimeout), _) => socket.answer_raw(HEAD_TIMEOUT_ANSWER).await,
        (Some(_), _) => drop(socket),
        (None, Some(session)) => {
            // Neither idle nor late, whatever it does.
            connections.enter(&state, Phase::Taken);
            let taken = Taken { socket, read: parts.read_buf, state: Rc::clone(&state) };
            serve_taken(&handler, session, taken, &state).await;
        }
        (None, None) if state.unread_body.get() => socket.linger().await,
        (None, None) => drop(socket),
    }
    connections.closed(&state);
}

/// The answer as it is sent, and the session of one that takes the connection over.
fn response_of<S>(
    Handled { mut response, then }: Handled<S>,
    has_body: bool,
    state: &ConnectionState,
) -> (Response, Option<S>) {
    match then {
        Then::Unread if has_body => {
            state.unread_body.set(true);
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            (response, None)
        }
        Then::Next | Then::Unread => (response, None),
        Then::TakeOver(session) => (response, Some(session)),
    }
}

/// Tells a client that there is no room for its connection, and closes it. Who does not hear it at once will not be waited for.
pub(crate) fn refuse_connection(stream: &TcpStream) {
    // SAFETY: the stream is borrowed, and so open, for as long as this is used.
    let socket = unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) };
    // Whatever comes of it, the connection is closed next.
    let _ = rustix::net::send(socket, NO_ROOM_ANSWER, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
}

/// Serves a connection that was taken over until it ends or the node does.
async fn serve_taken<H: Handler>(
    handler: &Rc<H>,
    session: H::Session,
    taken: Taken,
    state: &ConnectionState,
) {
    let mut serving = pin!(handler.take_over(session, taken));
    poll_fn(|cx| {
        state.keep_waker(cx.waker());
        if state.verdict() == Verdict::Drop {
            return Poll::Ready(());
        }
        catch_unwind(AssertUnwindSafe(|| serving.as_mut().poll(cx))).unwrap_or_else(|_| {
            tracing::error!("a connection was dropped because its handler panicked");
            Poll::Ready(())
        })
    })
    .await;
}
