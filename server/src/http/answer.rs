//! Bodies of answers: at hand, or written while they are sent.

use super::timeouts::{ConnectionState, Connections, Phase, Streaming};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::sync::mpsc;

/// Writes that wait for the connection. The next one waits for the client.
const WAITING_MAX: usize = 1;

/// A body.
pub(crate) enum AnswerBody {
    /// All of it is at hand.
    Whole(Full<Bytes>),
    /// What a [`Writer`] writes. `streaming` is held while it is sent.
    /// `counted` is told of its end.
    Written { pieces: Pieces, streaming: Option<Streaming>, counted: Option<Box<Counted>> },
}

/// Counts the bytes of a body, and tells somebody when it has ended, whether whole or not.
pub(crate) struct Counted {
    bytes: u64,
    ended: Option<Box<dyn FnOnce(u64)>>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(ended) = self.ended.take() {
            ended(self.bytes);
        }
    }
}

/// What a [`Writer`] has written.
pub(crate) struct Pieces(mpsc::Receiver<Piece>);

/// A part of a body that is written; none where it breaks off.
type Piece = Result<Bytes, BrokenOff>;

/// An answer ended before it was whole. The connection is closed, so that the client can tell.
#[derive(Debug, thiserror::Error)]
#[error("the function failed after its answer began")]
pub(crate) struct BrokenOff;

/// Writes the body of an answer. The body ends when all writers are dropped.
#[derive(Clone)]
pub(crate) struct Writer(mpsc::Sender<Piece>);

impl Writer {
    /// A body and its writer.
    pub(crate) fn new() -> (Self, Pieces) {
        let (writer, pieces) = mpsc::channel(WAITING_MAX);
        (Self(writer), Pieces(pieces))
    }

    /// Hands bytes to the connection; waits while the client takes what came before. `false` when the client has gone.
    pub(crate) async fn write(&self, bytes: Bytes) -> bool {
        // An empty piece would end a body in chunks.
        if bytes.is_empty() { !self.0.is_closed() } else { self.0.send(Ok(bytes)).await.is_ok() }
    }

    /// Breaks the body off.
    pub(crate) async fn break_off(&self) {
        // A client that has gone knows already.
        let _ = self.0.send(Err(BrokenOff)).await;
    }

    /// Ready when the client has gone.
    pub(crate) async fn gone(&self) {
        self.0.closed().await;
    }
}

impl AnswerBody {
    /// Says that it will be sent on a connection now.
    pub(super) fn begin(&mut self, connections: &Rc<Connections>, state: &Rc<ConnectionState>) {
        match self {
            Self::Whole(_) => connections.enter(state, Phase::Sending),
            Self::Written { streaming, .. } => *streaming = Some(connections.stream(state)),
        }
    }

    /// Calls `ended` with the bytes of the body: now when they are at hand, or else when they were written.
    pub(crate) fn when_ended(&mut self, ended: impl FnOnce(u64) + 'static) {
        match self {
            Self::Whole(whole) => ended(whole.size_hint().lower()),
            Self::Written { counted, .. } => {
                *counted = Some(Box::new(Counted { bytes: 0, ended: Some(Box::new(ended)) }));
            }
        }
    }
}

impl From<Bytes> for AnswerBody {
    fn from(bytes: Bytes) -> Self {
        Self::Whole(bytes.into())
    }
}

impl From<Pieces> for AnswerBody {
    fn from(pieces: Pieces) -> Self {
        Self::Written { pieces, streaming: None, counted: None }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match self.get_mut() {
            Self::Whole(whole) => {
                let frame = ready!(Pin::new(whole).poll_frame(cx));
                Poll::Ready(frame.map(|frame| frame.map_err(|never: Infallible| match never {})))
            }
            Self::Written { pieces, counted, .. } => {
                let piece = ready!(pieces.0.poll_recv(cx));
                if let (Some(Ok(bytes)), Some(counted)) = (&piece, counted) {
                    counted.bytes += bytes.len() as u64;
                }
                Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(whole) => whole.is_end_stream(),
            Self::Written { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(whole) => whole.size_hint(),
            Self::Written { .. } => SizeHint::default(),
        }
    }
}
