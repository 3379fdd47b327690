//! Waits until a socket can be read, on the event loop of whoever waits, so that no other thread is woken.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};
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

/// Whether this thread has an event loop of its own.
pub(crate) fn has_loop() -> bool {
    LOOP.get().is_some()
}

/// Whether a socket can be read now, or has ended.
pub(crate) fn is_readable(socket: &UnixStream) -> bool {
    let mut polled = [PollFd::new(socket, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut polled, Some(&now)).is_ok_and(|ready| ready > 0)
}

/// Looks again and again for a while whether a socket can be read, or has ended. All that is ready on this thread runs in
/// between.
pub(crate) async fn is_readable_within(socket: &UnixStream, time: Duration) -> bool {
    let begun = Instant::now();
    while !is_readable(socket) {
        if begun.elapsed() >= time {
            return false;
        }
        give_way().await;
    }
    true
}

/// Ready after all that is ready on this thread has run.
pub async fn give_way() {
    let mut has_given = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut has_given, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
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
