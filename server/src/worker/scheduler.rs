//! Lets guests give way on a core's event loop.
//!
//! The loop polls its sockets and timers only when no task is ready, so a task that wakes itself would starve them. A
//! guest that gives way therefore waits for a byte to travel through a socket pair of the core's own: when it arrives,
//! everything else that was ready has had its turn. That costs three system calls for a slice of 1 ms, and
//! unlike a timer it leaves no core idle while a guest has work.

use monoio::io::AsyncReadRent;
use monoio::net::UnixStream;
use orama_runtime::services::{Scheduler, Wait};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, Write};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

thread_local! {
    static GATE: RefCell<Option<Rc<Gate>>> = const { RefCell::new(None) };
}

/// Where a core's guests wait for their next slice.
struct Gate {
    waiting: RefCell<Vec<Waker>>,
    /// Counts the bytes that have travelled.
    round: Cell<u64>,
    sender: std::os::unix::net::UnixStream,
}

impl Gate {
    fn poll_round(&self, begun: &mut Option<u64>, cx: &Context<'_>) -> Poll<()> {
        if begun.is_some_and(|round| round != self.round.get()) {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting.borrow_mut();
        if waiting.is_empty() && (&self.sender).write_all(&[0]).is_err() {
            // The core is ending: nobody will read the byte.
            return Poll::Ready(());
        }
        waiting.push(cx.waker().clone());
        *begun = Some(self.round.get());
        Poll::Pending
    }

    fn open(&self) {
        self.round.set(self.round.get() + 1);
        for waker in self.waiting.take() {
            waker.wake();
        }
    }
}

/// Starts the gate of this core.
///
/// # Errors
/// When the socket pair cannot be made.
pub(super) fn start() -> io::Result<()> {
    let (sender, receiver) = std::os::unix::net::UnixStream::pair()?;
    sender.set_nonblocking(true)?;
    receiver.set_nonblocking(true)?;
    let mut receiver = UnixStream::from_std(receiver)?;
    let gate = Rc::new(Gate { waiting: RefCell::default(), round: Cell::new(0), sender });
    GATE.set(Some(Rc::clone(&gate)));
    monoio::spawn(async move {
        let mut buffer = vec![0; 16];
        loop {
            let (result, back) = receiver.read(buffer).await;
            buffer = back;
            match result {
                Ok(1..) => gate.open(),
                _ => return,
            }
        }
    });
    Ok(())
}

/// The scheduler of guests on a core.
pub(super) struct CoreScheduler {
    /// Where long work goes.
    pub(super) backplane: tokio::runtime::Handle,
}

impl Scheduler for CoreScheduler {
    fn yield_now(&self) -> Wait {
        let mut begun = None;
        Box::pin(poll_fn(move |cx| {
            GATE.with_borrow(|gate| match gate {
                Some(gate) => gate.poll_round(&mut begun, cx),
                None => Poll::Ready(()),
            })
        }))
    }

    fn sleep(&self, duration: Duration) -> Wait {
        Box::pin(async move {
            // The event loop's timers belong to its thread, and a guest's future may be built to move.
            let (mut done, wait) = tokio::sync::oneshot::channel::<()>();
            monoio::spawn(async move {
                monoio::select! {
                    () = monoio::time::sleep(duration) => {}
                    () = done.closed() => {}
                }
                drop(done);
            });
            // It ends by being dropped.
            let _ = wait.await;
        })
    }

    fn offload(&self, work: Box<dyn FnOnce() + Send>) -> Wait {
        let work = self.backplane.spawn_blocking(work);
        Box::pin(async move {
            // Whoever waits sees by what is missing that it did not end well.
            let _ = work.await;
        })
    }
}
