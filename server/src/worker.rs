//! One thread a core: its event loop, its listener, and everything that it serves.

mod accept;
mod access;
mod answer;
mod cache;
mod callers;
mod calls;
mod control;
mod core;
mod core_events;
mod cors;
mod door;
mod exchange;
mod handshake;
mod invoke;
mod keeper;
mod memory;
mod query;
mod route;
mod run;
mod running;
mod scheduler;
mod spread;
mod traces;
mod triggered;
mod until;
mod websocket;

#[doc(hidden)]
pub use websocket::fuzzing;

pub(crate) use self::core::Shared;
pub(crate) use self::core_events::CoreEvents;
pub(crate) use self::cors::Cors;
pub(crate) use self::triggered::runner;
pub(crate) use answer::Wrapped;
pub(crate) use handshake::AllowedOrigins;
pub(crate) use websocket::Settings as WebSocketSettings;

use self::core::Core;
use self::invoke::{Asked, Refused};
use self::route::{Route, route};
use self::scheduler::Turns;
use crate::config::IoDriver;
use crate::error::{ApiError, REQUEST_ID};
use crate::http::{Handled, Handler, Request, Response, Taken, Then};
use crate::limits::CORE_COMMANDS_MAX;
use crate::metrics::CoreCounters;
use bytes::Bytes;
use http::Method;
use http::header::{CONTENT_TYPE, HeaderValue};
use monoio::net::TcpListener;
use orama_platform::events::{Ran, Triggered};
use orama_runtime::function::WasmHash;
use orama_runtime::names::Namespace;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, mpsc as std_mpsc};
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

/// How long connections that were on their way when draining began are still accepted.
const DRAIN_ACCEPTS: Duration = Duration::from_millis(20);
/// How often a draining core looks whether it is done.
const DRAIN_POLL: Duration = Duration::from_millis(10);
/// How long a core that ends its requests at the end of the grace period waits until they are gone. A guest gives way
/// every millisecond, so this is long.
const DRAIN_DROPS: Duration = Duration::from_secs(1);
/// Entries of an io_uring; more operations than these at once are submitted in turns.
const URING_ENTRIES: u32 = 1024;

/// What the node tells a core.
pub(crate) enum Command {
    /// Hand over all records gathered so far, then answer.
    FlushRecords(oneshot::Sender<()>),
    /// Tell whether anything of a namespace is under way.
    RunsIn(Namespace, oneshot::Sender<bool>),
    /// Let go of code that was thrown out to make room.
    Evicted(Arc<[WasmHash]>),
    /// Run a function for an event and tell what came of it. Nothing is told when the node ends first.
    Run(Triggered, oneshot::Sender<Ran>),
    /// Serve a connection that another core has accepted.
    Serve(StdStream, accept::Admitted),
    /// Accept nothing more, finish what was accepted, and end.
    Drain,
}

/// A running core.
pub(crate) struct Worker {
    pub(crate) thread: JoinHandle<()>,
    pub(crate) peer: Peer,
}

/// A core as the others see it.
#[derive(Clone)]
pub(crate) struct Peer {
    /// Bounded by [`CORE_COMMANDS_MAX`].
    pub(crate) commands: mpsc::Sender<Command>,
    /// Set when an eviction found the queue of commands full.
    missed_evictions: Arc<AtomicBool>,
    pub(crate) counters: Arc<CoreCounters>,
}

impl Peer {
    /// Tells the core to let go of evicted code. A core whose queue is full looks through all of its code as soon as it reads on.
    pub(crate) fn evict(&self, hashes: &Arc<[WasmHash]>) {
        // A core that has ended holds nothing.
        if let Err(TrySendError::Full(_)) = self.commands.try_send(Command::Evicted(Arc::clone(hashes))) {
            self.missed_evictions.store(true, Ordering::Release);
        }
    }

    /// Tells the core to drain, when its queue has room. Blocks.
    pub(crate) fn drain(&self) {
        // A core that has ended has nothing to drain.
        while let Err(TrySendError::Full(_)) = self.commands.try_send(Command::Drain) {
            std::thread::sleep(DRAIN_POLL);
        }
    }
}

/// What a core is told.
struct Inbox {
    commands: mpsc::Receiver<Command>,
    missed_evictions: Arc<AtomicBool>,
}

/// All cores, once they have started.
pub(crate) type Peers = Arc<OnceLock<Vec<Peer>>>;

/// What a core is started with.
pub(crate) struct Start {
    pub(crate) index: usize,
    pub(crate) listener: StdListener,
    /// What listens for readers of metrics, on one of the cores.
    pub(crate) door: Option<StdListener>,
    pub(crate) driver: IoDriver,
    pub(crate) shared: Arc<Shared>,
    pub(crate) counters: Arc<CoreCounters>,
}

impl Worker {
    /// Starts a core; when this returns, it serves.
    ///
    /// # Errors
    /// When the thread, its event loop or its listener cannot be made.
    pub(crate) fn start(start: Start) -> io::Result<Self> {
        let (commands, inbox) = mpsc::channel(CORE_COMMANDS_MAX);
        let missed_evictions = Arc::<AtomicBool>::default();
        let inbox = Inbox { commands: inbox, missed_evictions: Arc::clone(&missed_evictions) };
        let (ready, is_ready) = std_mpsc::sync_channel(1);
        let counters = Arc::clone(&start.counters);
        let thread = std::thread::Builder::new()
            .name(format!("core-{}", start.index))
            .spawn(move || run(start, inbox, &ready))?;
        match is_ready.recv() {
            Ok(Ok(())) => Ok(Self { thread, peer: Peer { commands, missed_evictions, counters } }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::Error::other("the core's thread ended while it started")),
        }
    }
}

type Ready = std_mpsc::SyncSender<io::Result<()>>;

/// Builds an event loop and runs a future on it.
macro_rules! block_on {
    ($driver:ty, $future:expr) => {
        monoio::RuntimeBuilder::<$driver>::new()
            .with_entries(URING_ENTRIES)
            .enable_timer()
            .build()
            .map(|mut runtime| runtime.block_on($future))
    };
}

fn run(start: Start, inbox: Inbox, ready: &Ready) {
    pin_to_core(start.index);
    let uring = match start.driver {
        IoDriver::IoUring => true,
        // hyper asks when a socket is ready and reads itself; io_uring only adds a call that waits on an epoll.
        IoDriver::Epoll | IoDriver::Auto => false,
    };
    let built = if uring {
        block_on!(monoio::IoUringDriver, serve(start, inbox, ready))
    } else {
        block_on!(monoio::LegacyDriver, serve(start, inbox, ready))
    };
    if let Err(error) = built {
        // The receiver waits for exactly one message.
        let _ = ready.send(Err(error));
    }
}

/// A guest that moves between cores loses its caches. Refused only where a sandbox forbids it.
fn pin_to_core(index: usize) {
    let Ok(allowed) = rustix::thread::sched_getaffinity(None) else { return };
    let cores: Vec<usize> =
        (0..rustix::thread::CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect();
    if let Some(core) = cores.get(index % cores.len().max(1)) {
        let mut only = rustix::thread::CpuSet::new();
        only.set(*core);
        let _ = rustix::thread::sched_setaffinity(None, &only);
    }
}

async fn serve(start: Start, mut inbox: Inbox, ready: &Ready) {
    let opened = Turns::start().and_then(|turns| {
        // Closing the listener under an accept that waits takes a handle of our own.
        let mut handles = vec![OwnedFd::from(start.listener.try_clone()?)];
        let mut door = None;
        if let Some(listener) = start.door {
            handles.push(OwnedFd::from(listener.try_clone()?));
            door = Some(TcpListener::from_std(listener)?);
        }
        Ok((TcpListener::from_std(start.listener)?, door, handles, turns))
    });
    orama_store::readiness::wait_here_with(scheduler::readable);
    let (listener, door, handles, turns) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    let core = Rc::new(Core::new(start.shared, start.counters, turns));
    calls::serve_here(&core);
    let connections = Rc::clone(&core.connections);
    monoio::spawn(async move { connections.watch().await });
    monoio::spawn(accept::accept(listener, Rc::clone(&core)));
    if let Some(door) = door {
        monoio::spawn(door::accept(door, Rc::clone(&core)));
    }
    monoio::spawn(keeper::bury_all(Rc::clone(&core)));
    monoio::spawn(keeper::refill_all(Rc::clone(&core)));
    monoio::spawn(keeper::look_through_all(Rc::clone(&core)));
    // The node waits for exactly this message.
    let _ = ready.send(Ok(()));
    while let Some(command) = inbox.commands.recv().await {
        match command {
            Command::FlushRecords(done) => {
                core.hand_over_records();
                // Who asked may have given up.
                let _ = done.send(());
            }
            Command::RunsIn(namespace, answer) => {
                core.keeper.forget(&namespace);
                // Who asked may have given up.
                let _ = answer.send(core.runs_in(&namespace));
            }
            Command::Evicted(hashes) => core.let_go_of(&hashes),
            Command::Run(triggered, answer) => {
                monoio::spawn(triggered::serve(Rc::clone(&core), triggered, answer));
            }
            Command::Serve(stream, admitted) => accept::take_over(&core, stream, admitted),
            Command::Drain => break,
        }
        if inbox.missed_evictions.swap(false, Ordering::Acquire) {
            core.let_go_of_evicted();
        }
    }
    let mut drained = pin!(drain(&core, &handles));
    poll_fn(|cx| {
        // What was handed over before all had heard of the drain.
        while let Poll::Ready(Some(command)) = inbox.commands.poll_recv(cx) {
            if let Command::Serve(stream, admitted) = command {
                accept::take_over(&core, stream, admitted);
            }
        }
        drained.as_mut().poll(cx)
    })
    .await;
}

async fn drain(core: &Core, listeners: &[OwnedFd]) {
    core.connections.drain();
    monoio::time::sleep(DRAIN_ACCEPTS).await;
    for listener in listeners {
        // Fails only for one that is closed already.
        let _ = rustix::net::shutdown(listener.as_fd(), rustix::net::Shutdown::Both);
    }
    core.keeper.close();
    until_idle(core, core.shared.drain_grace).await;
    if !is_idle(core) {
        tracing::warn!(
            connections = core.connections.count(),
            invocations = core.running.get(),
            "requests were still under way when the grace period ended"
        );
        // Ended one by one, so that what they ran is recorded.
        core.stopping.set(true);
        core.connections.drop_all();
        core.stop.notify_waiters();
        until_idle(core, DRAIN_DROPS).await;
    }
    core.hand_over_records();
}

/// Whether nothing is under way; triggered runs have no connection.
fn is_idle(core: &Core) -> bool {
    core.connections.count() == 0 && core.running.get() == 0
}

async fn until_idle(core: &Core, patience: Duration) {
    let until = Instant::now() + patience;
    while !is_idle(core) && Instant::now() < until {
        monoio::time::sleep(DRAIN_POLL).await;
    }
}

impl Handler for Core {
    /// A WebSocket that was opened.
    type Session = Box<handshake::Opening>;
    type Note = access::Note;

    fn begin(&self, request: &Request, peer: IpAddr) -> Option<Box<access::Note>> {
        self.shared.access_log.is_on().then(|| Box::new(self.note(request, peer)))
    }

    fn end(self: &Rc<Self>, note: Option<Box<access::Note>>, response: &mut Response) {
        if let Some(note) = note {
            self.log(*note, response);
        }
    }

    async fn handle(self: &Rc<Self>, request: Request, peer: IpAddr) -> Handled<Self::Session> {
        let request_id = match self.request_id() {
            Ok(id) => id,
            Err(error) => return Handled { response: refuse(&error, ""), then: Then::Unread },
        };
        self.counters.requested();
        let (parts, body) = request.into_parts();
        // A function may keep the request.
        let uri = parts.uri.clone();
        if parts.method == Method::OPTIONS {
            // Boxed, so that it adds nothing to what each request allocates.
            match Box::pin(cors::preflight(self, &parts, (peer, &request_id))).await {
                Ok(None) => {}
                Ok(Some(response)) => return Handled { response, then: Then::Unread },
                Err(error) => return Handled { response: refuse(&error, &request_id), then: Then::Unread },
            }
        }
        let answer = match route(&parts.method, uri.path()) {
            Route::Invoke { namespace, name } => {
                let asked = Asked { namespace, name: &name, rest_at: None };
                invoke::invoke(self, parts, body, asked, (peer, &request_id)).await
            }
            Route::Web { namespace, name, rest_at } => {
                let asked = Asked { namespace: Some(namespace), name: &name, rest_at: Some(rest_at) };
                invoke::invoke(self, parts, body, asked, (peer, &request_id)).await
            }
            Route::WebSocket(name) => {
                // Boxed, so that it adds nothing to what each request allocates.
                let opened = Box::pin(handshake::open(self, &parts, &body, &name, (peer, &request_id))).await;
                match opened {
                    Ok((response, opening)) => return Handled { response, then: Then::TakeOver(opening) },
                    Err(error) => Err(Refused { error, body_unread: true, cors: None }),
                }
            }
            Route::Health => {
                return Handled { response: health(), then: Then::Unread };
            }
            Route::Control => control::forward(self, parts, body, (peer, &request_id)).await,
        };
        match answer {
            Ok(mut response) => {
                let is_unread = response.extensions_mut().remove::<BodyUnread>().is_some();
                Handled { response, then: if is_unread { Then::Unread } else { Then::Next } }
            }
            Err(Refused { error, body_unread, cors }) => {
                let then = if body_unread { Then::Unread } else { Then::Next };
                let mut response = refuse(&error, &request_id);
                if let Some(granted) = cors {
                    granted.put_into(response.headers_mut());
                }
                Handled { response, then }
            }
        }
    }

    async fn take_over(self: &Rc<Self>, opening: Self::Session, taken: Taken) {
        websocket::serve(self, *opening, taken).await;
    }
}

fn health() -> Response {
    let mut response = Response::new(Bytes::from_static(b"{\"status\":\"ok\"}").into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Marks an answer to a request whose body was not read.
#[derive(Clone, Copy)]
struct BodyUnread;

/// The answer to a failed request.
fn refuse(error: &ApiError, request_id: &str) -> Response {
    error.log(request_id);
    let mut response = Response::new(error.body(request_id).into());
    *response.status_mut() = error.status;
    *response.headers_mut() = error.headers();
    if let Ok(id) = HeaderValue::from_str(request_id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}
