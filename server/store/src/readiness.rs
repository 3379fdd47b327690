//! Waits until a socket can be read, on the event loop of whoever waits, so that no other thread is woken.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::time::Instant;
use tokio::runtime::Handle;

/// Whether the socket can be read, or has ended; `false` if the time came first.
pub type Readable = Pin<Box<dyn Future<Output = io::Result<bool>> + Send>>;

/// Waits on the event loop of the thread that polls first, until a time.
pub type Loop = fn(UnixStream, Instant) -> Readable;

thread_local! {
    static LOOP: Cell<Option<Loop>> = const { Cell::new(None) };
}

/// Lets this thread wait on an event loop of its own, and not on the backplane's.
pub fn wait_here_with(event_loop: Loop) {
    LOOP.set(Some(event_loop));
}

/// Waits until a socket can be read, or has ended. Returns `false` if the time comes first.
///
/// # Errors
/// When there is no descriptor left to wait with.
pub(crate) async fn readable(socket: &UnixStream, until: Instant, backplane: &Handle) -> io::Result<bool> {
    // A loop knows a socket by its descriptor, so each wait has its own.
    let socket = socket.try_clone()?;
    if let Some(event_loop) = LOOP.get() {
        return event_loop(socket, until).await;
    }
    let (socket, timer) = {
        let _backplane = backplane.enter();
        (tokio::net::UnixStream::from_std(socket)?, tokio::time::sleep_until(until.into()))
    };
    tokio::select! {
        biased;
        readable = socket.readable() => readable.map(|()| true),
        () = timer => Ok(false),
    }
}
