//! What fuzz targets call of WebSockets: what is heard of bytes that arrive in pieces.

use super::stream::FairStream;
use super::{End, config, end_of};
use bytes::Bytes;
use futures_util::StreamExt;
use hyper::rt::{Read, ReadBufCursor, Write};
use orama_runtime::names::Namespace;
use orama_runtime::services::ThreadScheduler;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

/// Pieces that arrive one after the other, each after a moment in which there is nothing; then the end. What is written is
/// taken.
struct Pieces {
    left: VecDeque<Bytes>,
    has_waited: bool,
}

impl Read for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.has_waited, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(piece) = self.left.front_mut() {
            let some = piece.split_to(piece.len().min(buffer.remaining()));
            buffer.put_slice(&some);
            if piece.is_empty() {
                self.left.pop_front();
                self.has_waited = false;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Write for Pieces {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The messages that a function would run for, and why the connection ended then. `read` came with the handshake. Blocks.
#[must_use]
pub fn hear(read: Vec<u8>, pieces: Vec<Bytes>, namespace: Namespace) -> (Vec<Bytes>, String) {
    let left = pieces.into_iter().filter(|piece| !piece.is_empty()).collect();
    let stream = FairStream::new(Pieces { left, has_waited: false }, Arc::new(ThreadScheduler), namespace);
    ThreadScheduler::block_on(async {
        let socket = WebSocketStream::from_partially_read(stream, read, Role::Server, Some(config()));
        let (mut socket, mut messages) = (socket.await, Vec::new());
        let end = loop {
            match socket.next().await {
                Some(Ok(Message::Text(text))) => messages.push(text.into()),
                Some(Ok(Message::Binary(bytes))) => messages.push(bytes),
                Some(Ok(Message::Close(_))) => break End::Closed,
                Some(Ok(_)) => {}
                Some(Err(error)) => break end_of(&error),
                None => break End::Gone,
            }
        };
        let end = match end {
            End::Gone => "gone".to_owned(),
            End::Closed => "closed".to_owned(),
            End::Close(code, reason) => format!("{code}: {reason}"),
        };
        (messages, end)
    })
}
