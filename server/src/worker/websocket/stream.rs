//! A core's socket as the WebSocket library wants it, which gives way to others however fast its client sends.

use crate::http::Socket;
use hyper::rt::{Read, ReadBuf as HyperBuf, Write};
use orama_runtime::names::Namespace;
use orama_runtime::services::{Scheduler, Wait};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are read before others have their turn: in the smallest frames, which the library reads without
/// giving way, about a millisecond of work.
const TURN_BYTES: usize = 64 << 10;

pub(super) struct FairStream<S = Socket> {
    socket: S,
    scheduler: Arc<dyn Scheduler>,
    namespace: Namespace,
    /// Bytes left of this turn.
    left: usize,
    /// Until the next turn.
    pause: Option<Wait>,
    /// Something has arrived since this was last asked.
    heard: bool,
    /// Bytes that have arrived since the last whole message.
    unread: usize,
    /// The system has taken something since this was last asked.
    written: bool,
}

impl FairStream {
    /// Whether the client has taken something since this was last asked.
    pub(super) fn has_taken_some(&mut self) -> bool {
        // Both, as what the system took hides what the client took.
        std::mem::take(&mut self.written) | self.socket.has_taken_some()
    }

    /// Has the system throw away what the client does not take.
    pub(super) fn forget_unsent(&self) {
        self.socket.forget_unsent();
    }
}

impl<S> FairStream<S> {
    pub(super) fn new(socket: S, scheduler: Arc<dyn Scheduler>, namespace: Namespace) -> Self {
        Self {
            socket,
            scheduler,
            namespace,
            left: TURN_BYTES,
            pause: None,
            heard: false,
            unread: 0,
            written: false,
        }
    }

    pub(super) fn take_heard(&mut self) -> bool {
        std::mem::take(&mut self.heard)
    }

    /// Bytes of the message that is arriving. When it is whole, the count begins anew.
    pub(super) fn unread(&mut self, is_whole: bool) -> usize {
        let unread = self.unread;
        if is_whole {
            self.unread = 0;
        }
        unread
    }

    pub(super) fn into_socket(self) -> S {
        self.socket
    }
}

impl<S: Read + Unpin> AsyncRead for FairStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.left == 0 {
            let pause = this.pause.get_or_insert_with(|| this.scheduler.yield_now(&this.namespace));
            ready!(pause.as_mut().poll(cx));
            this.pause = None;
            this.left = TURN_BYTES;
        }
        let room = buffer.initialize_unfilled();
        let mut unfilled = HyperBuf::new(room);
        let result = Pin::new(&mut this.socket).poll_read(cx, unfilled.unfilled());
        let read = unfilled.filled().len();
        match &result {
            Poll::Ready(_) => {
                buffer.advance(read);
                this.heard |= read > 0;
                this.unread += read;
                this.left = this.left.saturating_sub(read);
            }
            // Others have their turn now.
            Poll::Pending => this.left = TURN_BYTES,
        }
        result
    }
}

impl<S: Write + Unpin> AsyncWrite for FairStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.written |= matches!(result, Poll::Ready(Ok(1..)));
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
