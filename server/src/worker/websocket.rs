//! An open WebSocket: each message invokes the function, one at a time, and is answered in its turn.
//!
//! While a function runs, the connection is read on: pings and a close are answered, some messages wait, and a
//! client that leaves ends what runs. While enough messages wait, or what was sent is not taken, nothing more is read.

use super::core::Core;
use super::handshake::Opening;
use crate::http::Taken;
use crate::limits::{WEBSOCKET_COUNTED_FROM_BYTES, WEBSOCKET_PINGS_UNANSWERED_MAX, WEBSOCKET_WAITING_MAX};
use crate::shares::Permit;
use bytes::Bytes;
use futures_util::{Sink, Stream, StreamExt};
use monoio::time::{Instant, Sleep};
use orama_runtime::limits::INPUT_MAX_BYTES;
use reply::Reply;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use stream::FairStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

#[doc(hidden)]
pub mod fuzzing;
mod reply;
mod stream;

/// Bytes read at once. The buffer stays with an idle connection.
const READ_BUFFER_BYTES: usize = 8 << 10;

/// How long a client may take to answer a close.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

/// How an open WebSocket is treated, and from where it may come.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) origins: super::handshake::AllowedOrigins,
    pub(crate) ping_every: Duration,
    /// How long a client may leave an answer without taking a byte of it.
    pub(crate) send_timeout: Duration,
}

type Socket = WebSocketStream<FairStream>;

/// Why a WebSocket ends.
enum End {
    /// The client is gone, or does not take what it is sent.
    Gone,
    /// The client closed it.
    Closed,
    /// The node closes it.
    Close(CloseCode, &'static str),
}

/// Counts a WebSocket as long as it is open.
struct Open<'a>(&'a Core);

impl<'a> Open<'a> {
    fn enter(core: &'a Core) -> Self {
        let this = Self(core);
        this.set(core.websockets.get() + 1);
        this
    }

    fn set(&self, count: usize) {
        self.0.websockets.set(count);
        self.0.counters.set_websockets(count);
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.set(self.0.websockets.get() - 1);
    }
}

/// Serves a WebSocket until it ends.
pub(super) async fn serve(core: &Rc<Core>, opening: Opening, taken: Taken) {
    let _open = Open::enter(core);
    let draining = taken.draining();
    let namespace = opening.namespace.clone();
    let stream = FairStream::new(taken.socket, Arc::clone(&core.host.scheduler), namespace);
    let socket =
        WebSocketStream::from_partially_read(stream, taken.read.into(), Role::Server, Some(config())).await;
    let room = opening.room.empty();
    let mut conversation = Conversation {
        core,
        opening: Rc::new(opening),
        socket,
        waiting: Waiting::default(),
        room,
        running: None,
        sending: None,
        unsent: None,
        last: None,
        pulse: Pulse::new(core.shared.websockets.ping_every),
    };
    let end = poll_fn(|cx| conversation.poll(cx, &draining)).await;
    // What still runs has nobody to answer.
    conversation.running = None;
    close(conversation.socket, end).await;
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_message_size(Some(INPUT_MAX_BYTES))
        .max_frame_size(Some(INPUT_MAX_BYTES))
}

/// Says why, waits a moment for the client to have heard it, and closes.
async fn close(mut socket: Socket, end: End) {
    let frame = match end {
        End::Gone => return,
        End::Closed => None,
        End::Close(code, reason) => Some(CloseFrame { code, reason: reason.into() }),
    };
    let said = async {
        if let Some(frame) = frame {
            socket.close(Some(frame)).await?;
        }
        // The client's close, and what it had sent before; then the answer to its close is sent too.
        while socket.next().await.transpose()?.is_some() {}
        Ok::<_, Error>(())
    };
    // Whatever comes of it, the connection ends now.
    let _ = monoio::time::timeout(CLOSE_PATIENCE, said).await;
    socket.into_inner().into_socket().linger().await;
}

/// Messages that wait for their turn.
#[derive(Default)]
struct Waiting {
    messages: VecDeque<Bytes>,
    bytes: usize,
}

impl Waiting {
    fn has_room(&self) -> bool {
        self.messages.len() < WEBSOCKET_WAITING_MAX && self.bytes < INPUT_MAX_BYTES
    }

    fn push(&mut self, message: Bytes) {
        self.bytes += message.len();
        self.messages.push_back(message);
    }

    fn pop(&mut self) -> Option<Bytes> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.len();
        Some(message)
    }
}

struct Conversation<'a> {
    core: &'a Rc<Core>,
    opening: Rc<Opening>,
    socket: Socket,
    waiting: Waiting,
    /// What waits, and what of a message has arrived.
    room: Permit,
    /// The message under way.
    running: Option<Pin<Box<dyn Future<Output = Reply>>>>,
    /// While something is on its way to the client and not yet with the system: when the client is given up unless it takes more.
    sending: Option<Pin<Box<Sleep>>>,
    /// The share of the answer that is on its way.
    unsent: Option<Permit>,
    /// The end that follows when everything has been sent.
    last: Option<End>,
    pulse: Pulse,
}

impl Conversation<'_> {
    fn poll(&mut self, cx: &mut Context<'_>, draining: &impl Fn() -> bool) -> Poll<End> {
        loop {
            if let Some(running) = &mut self.running
                && let Poll::Ready(reply) = running.as_mut().poll(cx)
            {
                self.running = None;
                if reply.is_last {
                    self.last =
                        Some(End::Close(CloseCode::Policy, "the credential is not accepted any more"));
                }
                self.unsent = reply.permit;
                if self.send(Message::text(reply.text)).is_err() {
                    return Poll::Ready(End::Gone);
                }
            }
            match Pin::new(&mut self.socket).poll_flush(cx) {
                Poll::Ready(Ok(())) => (self.unsent, self.sending) = (None, None),
                Poll::Ready(Err(_)) => return Poll::Ready(End::Gone),
                Poll::Pending if self.poll_patience(cx).is_ready() => return Poll::Ready(End::Gone),
                Poll::Pending => {}
            }
            // While nothing is taken, answers to pings would only pile up.
            if self.sending.is_none() && self.waiting.has_room() {
                match self.poll_read(cx) {
                    Poll::Ready(Some(end)) => return Poll::Ready(end),
                    Poll::Ready(None) => continue,
                    Poll::Pending => {}
                }
            }
            if self.running.is_none() && self.sending.is_none() {
                if let Some(end) = self.last.take() {
                    return Poll::Ready(end);
                }
                if draining() {
                    return Poll::Ready(End::Close(CloseCode::Away, "the node is stopping"));
                }
                if let Some(message) = self.waiting.pop() {
                    let (core, opening) = (Rc::clone(self.core), Rc::clone(&self.opening));
                    self.running = Some(Box::pin(reply::reply(core, opening, message)));
                    continue;
                }
            }
            ready!(self.pulse.poll(cx));
            if let Some(end) = self.beat() {
                return Poll::Ready(end);
            }
        }
    }

    /// Ready when the client has taken nothing for as long as it may, which is looked at once in that time.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timeout = self.core.shared.websockets.send_timeout;
        let stream = self.socket.get_mut();
        let patience = self.sending.get_or_insert_with(|| {
            // Counts from now.
            stream.has_taken_some();
            Box::pin(monoio::time::sleep(timeout))
        });
        loop {
            ready!(patience.as_mut().poll(cx));
            if !stream.has_taken_some() {
                stream.forget_unsent();
                return Poll::Ready(());
            }
            patience.as_mut().reset(Instant::now() + timeout);
        }
    }

    /// Reads on; ready when there was something, with the end if that was it.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Option<End>> {
        let read = Pin::new(&mut self.socket).poll_next(cx);
        if let Some(end) = self.take_room(read.is_ready()) {
            return Poll::Ready(Some(end));
        }
        read.map(|message| self.take_message(message))
    }

    /// Lets a message wait, or finds that the connection has ended.
    fn take_message(&mut self, message: Option<Result<Message, Error>>) -> Option<End> {
        match message {
            Some(Ok(Message::Text(text))) => self.waiting.push(text.into()),
            Some(Ok(Message::Binary(bytes))) => self.waiting.push(bytes),
            Some(Ok(Message::Close(_))) => return Some(End::Closed),
            // Pings are answered by the next flush.
            Some(Ok(_)) => {}
            Some(Err(error)) => return Some(end_of(&error)),
            None => return Some(End::Gone),
        }
        None
    }

    /// Counts what waits and what of a message has arrived.
    fn take_room(&mut self, is_whole: bool) -> Option<End> {
        let bytes = self.waiting.bytes + self.socket.get_mut().unread(is_whole);
        let counted = if bytes > WEBSOCKET_COUNTED_FROM_BYTES { bytes } else { 0 };
        let taken = self.room.set(counted);
        taken
            .is_err()
            .then_some(End::Close(CloseCode::Again, "the node has no room for the message; try again"))
    }

    fn send(&mut self, message: Message) -> Result<(), Error> {
        // What does not fit into the socket is kept; there is never more than one answer and a ping.
        Pin::new(&mut self.socket).start_send(message)
    }

    /// Asks the client whether it is there, or finds that it is not.
    fn beat(&mut self) -> Option<End> {
        let heard = self.socket.get_mut().take_heard();
        if self.sending.is_some() {
            // It could not be asked now: what was sent before is not all taken.
            return None;
        }
        // Nothing can be heard where nothing is read.
        if heard || !self.waiting.has_room() {
            self.pulse.missed = 0;
        } else if self.pulse.miss() {
            return Some(End::Close(CloseCode::Away, "the pings were not answered"));
        }
        self.send(Message::Ping(Bytes::new())).is_err().then_some(End::Gone)
    }
}

fn end_of(error: &Error) -> End {
    match error {
        Error::Capacity(CapacityError::MessageTooLong { .. }) => {
            End::Close(CloseCode::Size, "the message is larger than the input of a function may be")
        }
        Error::Utf8(_) => End::Close(CloseCode::Invalid, "a text message is not UTF-8"),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => End::Gone,
        Error::Capacity(_) | Error::Protocol(_) => {
            End::Close(CloseCode::Protocol, "that is not the WebSocket protocol")
        }
        _ => End::Gone,
    }
}

/// When to look after the client.
struct Pulse {
    every: Duration,
    next: Pin<Box<Sleep>>,
    /// Times in a row without a sign of life.
    missed: u32,
}

impl Pulse {
    fn new(every: Duration) -> Self {
        Self { every, next: Box::pin(monoio::time::sleep(every)), missed: 0 }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        ready!(self.next.as_mut().poll(cx));
        self.next.as_mut().reset(Instant::now() + self.every);
        Poll::Ready(())
    }

    /// Counts one more time; `true` when it was one too many.
    fn miss(&mut self) -> bool {
        self.missed += 1;
        self.missed > WEBSOCKET_PINGS_UNANSWERED_MAX
    }
}
