//! Divides a core's time between guests.
//!
//! The loop polls its sockets and timers only when no task is ready, so a task that wakes itself would starve them. A
//! guest that gives way therefore waits for a byte to travel through a socket pair of the core's own: when it arrives,
//! everything else that was ready has had its turn. That costs three system calls for a slice of 1 ms, and
//! unlike a timer it leaves no core idle while a guest has work.
//!
//! Each time the byte arrives one guest goes on, and while it leaves something of its slice the next ones. Namespaces
//! take turns; one that has not waited yet goes before those that have used up a slice, every other time.

use monoio::io::AsyncReadRent;
use monoio::net::UnixStream;
use orama_runtime::limits::EPOCH_TICK;
use orama_runtime::names::Namespace;
use orama_runtime::services::{Scheduler, Wait};
use orama_store::readiness::Readable;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::io::{self, Write};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

thread_local! {
    static TURNS: RefCell<Option<Rc<Turns>>> = const { RefCell::new(None) };
}

/// The loop has looked at its sockets when so much time has passed since a guest last ran.
const LOOKED_AROUND: Duration = Duration::from_micros(100);

/// Whose turn it is on a core.
pub(super) struct Turns {
    queue: RefCell<Queue>,
    /// Time that guests have had since the sockets were last looked at.
    spent: Cell<Duration>,
    /// When the last of them stopped.
    stopped_at: Cell<Instant>,
    /// Counts the bytes that have travelled.
    round: Cell<u64>,
    byte: Cell<Byte>,
    /// Who waits for the next round without being a guest.
    watching: RefCell<Vec<Waker>>,
    sender: std::os::unix::net::UnixStream,
}

/// Where the byte is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Byte {
    /// It has come back and nobody waits for it yet: with epoll it would come back at once, without a look at the sockets.
    Held,
    /// The same, and it is to be sent as soon as somebody waits for it.
    Wanted,
    /// It may be sent.
    Ready,
    /// On its way.
    Travelling,
}

/// Guests that wait, by namespace.
#[derive(Default)]
struct Queue {
    flows: HashMap<Namespace, VecDeque<(u64, Waker)>>,
    /// Those of which nothing waited before.
    fresh: VecDeque<Namespace>,
    /// Those that had a turn and wait for another.
    others: VecDeque<Namespace>,
    served_fresh: bool,
    last_ticket: u64,
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    fn join(&mut self, namespace: &Namespace, is_new: bool, waker: Waker) -> u64 {
        self.last_ticket += 1;
        match self.flows.get_mut(namespace) {
            Some(flow) => flow.push_back((self.last_ticket, waker)),
            None => {
                self.flows.insert(namespace.clone(), VecDeque::from([(self.last_ticket, waker)]));
                let order = if is_new { &mut self.fresh } else { &mut self.others };
                order.push_back(namespace.clone());
            }
        }
        self.last_ticket
    }

    /// Whether a ticket still waits; if so, `waker` is the one to wake.
    fn waits(&mut self, namespace: &Namespace, ticket: u64, waker: &Waker) -> bool {
        let Some(flow) = self.flows.get_mut(namespace) else { return false };
        // Tickets of a flow are in the order in which they were drawn.
        let Ok(place) = flow.binary_search_by_key(&ticket, |(ticket, _)| *ticket) else { return false };
        if let Some((_, kept)) = flow.get_mut(place) {
            kept.clone_from(waker);
        }
        true
    }

    fn next(&mut self) -> Option<Waker> {
        let fresh_first = !self.served_fresh || self.others.is_empty();
        let namespace = if fresh_first { self.fresh.pop_front() } else { None };
        self.served_fresh = namespace.is_some();
        let namespace = namespace.or_else(|| self.others.pop_front()).or_else(|| self.fresh.pop_front())?;
        let flow = self.flows.get_mut(&namespace)?;
        let (_, waker) = flow.pop_front()?;
        if flow.is_empty() {
            self.flows.remove(&namespace);
        } else {
            self.others.push_back(namespace);
        }
        Some(waker)
    }
}

impl Turns {
    /// Starts the turns of this core.
    ///
    /// # Errors
    /// When the socket pair cannot be made.
    pub(super) fn start() -> io::Result<Rc<Self>> {
        let (sender, receiver) = std::os::unix::net::UnixStream::pair()?;
        sender.set_nonblocking(true)?;
        receiver.set_nonblocking(true)?;
        let receiver = UnixStream::from_std(receiver)?;
        let turns = Rc::new(Self {
            queue: RefCell::default(),
            spent: Cell::default(),
            stopped_at: Cell::new(Instant::now()),
            round: Cell::new(0),
            byte: Cell::new(Byte::Held),
            watching: RefCell::default(),
            sender,
        });
        TURNS.set(Some(Rc::clone(&turns)));
        monoio::spawn(Rc::clone(&turns).go_round(receiver));
        Ok(turns)
    }

    /// Waits for the byte, again and again, until the core ends.
    async fn go_round(self: Rc<Self>, mut receiver: UnixStream) {
        let mut buffer = vec![0; 16];
        loop {
            let mut read = pin!(receiver.read(buffer));
            let (result, back) = poll_fn(|cx| {
                let polled = read.as_mut().poll(cx);
                if polled.is_pending() {
                    self.is_awaited();
                }
                polled
            })
            .await;
            buffer = back;
            match result {
                Ok(1..) => self.begin_round(),
                _ => return,
            }
        }
    }

    fn begin_round(&self) {
        self.round.set(self.round.get() + 1);
        self.byte.set(Byte::Held);
        self.spent.set(Duration::ZERO);
        for waker in self.watching.take() {
            waker.wake();
        }
        self.grant();
    }

    fn grant(&self) {
        let (waker, empty) = {
            let mut queue = self.queue.borrow_mut();
            (queue.next(), queue.is_empty())
        };
        if !empty {
            self.send();
        }
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Sends the byte on its way, unless it is; `false` when the core is ending and nobody will read it.
    fn send(&self) -> bool {
        match self.byte.get() {
            Byte::Held => self.byte.set(Byte::Wanted),
            Byte::Ready if (&self.sender).write_all(&[0]).is_ok() => self.byte.set(Byte::Travelling),
            Byte::Ready => return false,
            Byte::Wanted | Byte::Travelling => {}
        }
        true
    }

    /// Whoever waits for the byte found that it is not there.
    fn is_awaited(&self) {
        match self.byte.get() {
            Byte::Held => self.byte.set(Byte::Ready),
            Byte::Wanted => {
                self.byte.set(Byte::Ready);
                self.send();
            }
            Byte::Ready | Byte::Travelling => {}
        }
    }

    /// Waits for a place in the turns, where guests have used up the time until the sockets are looked at again. Returns how long
    /// that took.
    pub(super) async fn enter(&self, namespace: &Namespace, now: Instant) -> Duration {
        if self.queue.borrow().is_empty() {
            if now.duration_since(self.stopped_at.get()) > LOOKED_AROUND {
                self.spent.set(Duration::ZERO);
            }
            if self.spent.get() < EPOCH_TICK {
                return Duration::ZERO;
            }
        }
        let mut ticket = None;
        poll_fn(|cx| self.poll_turn(namespace, &mut ticket, true, cx)).await;
        now.elapsed()
    }

    fn poll_turn(
        &self,
        namespace: &Namespace,
        ticket: &mut Option<u64>,
        is_new: bool,
        cx: &Context<'_>,
    ) -> Poll<()> {
        let mut queue = self.queue.borrow_mut();
        let waits = match *ticket {
            Some(ticket) => queue.waits(namespace, ticket, cx.waker()),
            None if self.send() => {
                *ticket = Some(queue.join(namespace, is_new, cx.waker().clone()));
                true
            }
            None => false,
        };
        if waits { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Runs a guest, counting the time that it has the core.
    pub(super) async fn count<T>(&self, guest: impl Future<Output = T>) -> T {
        let mut guest = pin!(guest);
        poll_fn(|cx| {
            let begun = Instant::now();
            let polled = guest.as_mut().poll(cx);
            let stopped = Instant::now();
            self.stopped_at.set(stopped);
            self.spent.set(self.spent.get() + stopped.duration_since(begun));
            // Who ends early leaves the rest of the slice to the next.
            if polled.is_ready() && self.spent.get() < EPOCH_TICK && !self.queue.borrow().is_empty() {
                self.grant();
            }
            polled
        })
        .await
    }

    /// Whether guests wait for their turn.
    pub(super) fn is_contended(&self) -> bool {
        !self.queue.borrow().is_empty()
    }

    /// Waits until everything that is ready now had its turn, and the sockets were looked at.
    pub(super) async fn next_round(&self) {
        let begun = self.round.get();
        poll_fn(|cx| {
            if self.round.get() != begun || !self.send() {
                return Poll::Ready(());
            }
            self.watching.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// The scheduler of guests on a core.
pub(super) struct CoreScheduler {
    /// Where long work goes.
    pub(super) backplane: tokio::runtime::Handle,
}

impl Scheduler for CoreScheduler {
    fn yield_now(&self, namespace: &Namespace) -> Wait {
        let (namespace, mut ticket) = (namespace.clone(), None);
        Box::pin(poll_fn(move |cx| {
            // A guest's future may be built to move, and what is found here belongs to the thread.
            TURNS.with_borrow(|turns| match turns {
                Some(turns) => turns.poll_turn(&namespace, &mut ticket, false, cx),
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

/// Waits on this core's loop until a socket can be read, or has ended; `false` if the time comes first.
pub(super) fn readable(socket: std::os::unix::net::UnixStream, until: Instant) -> Readable {
    Box::pin(async move {
        // What waits belongs to its thread, as with timers.
        let (mut done, wait) = tokio::sync::oneshot::channel();
        monoio::spawn(async move {
            let result = match UnixStream::from_std(socket) {
                Ok(socket) => monoio::select! {
                    readable = socket.readable(false) => readable.map(|()| true),
                    () = monoio::time::sleep_until(until.into()) => Ok(false),
                    () = done.closed() => return,
                },
                Err(error) => Err(error),
            };
            // Who waited may have given up.
            let _ = done.send(result);
        });
        wait.await.unwrap_or_else(|_| Err(io::Error::other("the core has ended")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who is served when, of namespaces that join as told: `+a` anew, `a` after a slice.
    fn served(joins: &str) -> String {
        let mut queue = Queue::default();
        let mut order = Vec::new();
        for word in joins.split(' ') {
            let (name, is_new) = word.strip_prefix('+').map_or((word, false), |name| (name, true));
            let ticket = queue.join(&Namespace::new(name).unwrap(), is_new, Waker::noop().clone());
            order.push((ticket, name));
        }
        let mut text = String::new();
        while !queue.is_empty() {
            queue.next().unwrap();
            let mut waits = |(ticket, name): &(u64, &str)| {
                queue.waits(&Namespace::new(name).unwrap(), *ticket, Waker::noop())
            };
            let gone = order.iter().position(|entry| !waits(entry)).unwrap();
            text.push_str(order.remove(gone).1);
        }
        text
    }

    #[test]
    fn namespaces_take_turns_however_much_each_waits_for() {
        assert_eq!(served("a a a a b b"), "ababaa");
        assert_eq!(served("a b c"), "abc");
    }

    #[test]
    fn who_had_no_turn_yet_goes_first_but_not_every_time() {
        assert_eq!(served("a b +c"), "cab");
        assert_eq!(served("a b +c +d +e"), "cadbe");
        assert_eq!(served("+c +d +e"), "cde");
        // One that waits already gains nothing by coming anew.
        assert_eq!(served("a b +a +a"), "abaa");
    }

    type Pair = (std::os::unix::net::UnixStream, std::os::unix::net::UnixStream);

    fn pair() -> Pair {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (ours, theirs)
    }

    async fn wait_for_sockets() {
        const LONG: Duration = Duration::from_secs(60);
        let wait = |(ours, _): &Pair, time| readable(ours.try_clone().unwrap(), Instant::now() + time);
        let pairs = [pair(), pair()];
        assert!(!wait(&pairs[0], Duration::from_millis(20)).await.unwrap(), "the time came first");
        // Many that are given up leave nothing behind.
        for _ in 0..100 {
            let mut given_up = wait(&pairs[0], LONG);
            assert!(poll_fn(|cx| Poll::Ready(given_up.as_mut().poll(cx))).await.is_pending());
        }
        let (mut first, mut second) = (wait(&pairs[0], LONG), wait(&pairs[1], LONG));
        for wait in [&mut first, &mut second] {
            assert!(poll_fn(|cx| Poll::Ready(wait.as_mut().poll(cx))).await.is_pending());
        }
        (&pairs[1].1).write_all(b"x").unwrap();
        assert!(second.await.unwrap());
        assert!(wait(&pairs[1], LONG).await.unwrap(), "as long as nothing was taken");
        assert!(poll_fn(|cx| Poll::Ready(first.as_mut().poll(cx))).await.is_pending());
        pairs[0].1.shutdown(std::net::Shutdown::Both).unwrap();
        assert!(first.await.unwrap(), "the end is something to read");
    }

    #[test]
    fn a_core_waits_for_sockets_of_others_with_either_driver() {
        fn on<D>(mut runtime: monoio::Runtime<D>, name: &str)
        where
            D: monoio::Driver,
        {
            eprintln!("driver: {name}");
            runtime.block_on(wait_for_sockets());
        }
        on(monoio::RuntimeBuilder::<monoio::LegacyDriver>::new().enable_timer().build().unwrap(), "epoll");
        // Not every machine lets a program use io_uring.
        if let Ok(runtime) = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new().enable_timer().build() {
            on(runtime, "io_uring");
        }
    }
}
