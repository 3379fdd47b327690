//! A socket that tells its connection's state when bytes arrive.

use super::timeouts::{ConnectionState, Connections, OpenSocket};
use hyper::rt::{Read, ReadBufCursor, Write};
use monoio::io::poll_io::{AsyncReadExt, AsyncWriteExt};
use monoio::net::tcp::stream_poll::TcpStreamPoll;
use monoio_compat::hyper::MonoioIo;
use std::io;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// The most that is read of a body that nobody wants, in bytes, and for how long, before the connection is closed.
const LINGER_MAX_BYTES: usize = 4 << 20;
const LINGER: Duration = Duration::from_secs(2);

pub(crate) struct Socket {
    /// Dropped first.
    _open: OpenSocket,
    io: MonoioIo<TcpStreamPoll>,
    connections: Rc<Connections>,
    state: Rc<ConnectionState>,
}

impl Socket {
    pub(crate) fn new(
        stream: TcpStreamPoll,
        connections: Rc<Connections>,
        state: Rc<ConnectionState>,
    ) -> Self {
        let open = state.opened(stream.as_raw_fd());
        Self { _open: open, io: MonoioIo::new(stream), connections, state }
    }

    fn note_written(&self, written: &Poll<io::Result<usize>>) {
        let bytes = if let Poll::Ready(Ok(bytes)) = written { *bytes } else { 0 };
        self.connections.bytes_left(&self.state, bytes);
    }

    /// Whether the client has taken something since this was last asked, unless more was written meanwhile.
    pub(crate) fn has_taken_some(&self) -> bool {
        self.state.has_taken_some()
    }

    /// Has the system throw away what the client does not take; it would keep it for minutes.
    pub(crate) fn forget_unsent(&self) {
        self.state.forget_unsent();
    }

    /// Closes the sending half and reads what still comes: closing with unread bytes resets the connection, and the
    /// client loses the answer that tells it to stop sending.
    pub(crate) async fn linger(self) {
        let mut stream = self.io.inner();
        let read_rest = async {
            stream.shutdown().await?;
            let (mut buffer, mut total) = (vec![0; 64 << 10], 0);
            while total < LINGER_MAX_BYTES {
                match stream.read(&mut buffer).await? {
                    0 => break,
                    n => total += n,
                }
            }
            Ok::<_, io::Error>(())
        };
        // Whatever happens, the connection is closed next.
        let _ = monoio::time::timeout(LINGER, read_rest).await;
    }

    /// Writes an answer of ours on a connection whose request never became one.
    pub(crate) async fn answer_raw(mut self, answer: &'static [u8]) {
        // The client may be gone; there is nobody else to tell.
        let _ = monoio::time::timeout(LINGER, self.io.write_all(answer)).await;
    }
}

impl Read for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.io).poll_read(cx, buffer);
        if matches!(result, Poll::Ready(Ok(()))) {
            self.connections.bytes_arrived(&self.state);
        }
        result
    }
}

impl Write for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.note_written(&written);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.connections.flushed(&self.state);
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.note_written(&written);
        written
    }
}
