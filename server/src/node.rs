//! A node: starts everything in its order, and ends it in the opposite one.

use crate::auth::jwt::{KeyFileError, Tokens};
use crate::auth::{self, Authority};
use crate::backend::blob::Blobs;
use crate::backend::blob::local::LocalBlobs;
use crate::backend::cache::memory::MemoryCache;
use crate::backend::database::sqlite::SqliteDatabases;
use crate::backend::files::{self, HomeLock, HomeLockError};
use crate::backend::pubsub::memory::MemoryPubSub;
use crate::config::Config;
use crate::egress::Egress;
use crate::events::NodeEvents;
use crate::http::Timeouts;
use crate::metrics::Metrics;
use crate::modules::Modules;
use crate::process::Allowed;
use crate::records::Records;
use crate::registry::Registry;
use crate::routes::{self, App};
use crate::secrets::{self, SecretStore};
use crate::services::Services;
use crate::starts::StartNotes;
use crate::storage::ObjectStorage;
use crate::worker::{self, AllowedOrigins, Command, Peers, Shared, Start, WebSocketSettings, Worker};
use orama_runtime::limits::{BLOCKING_THREADS_MAX, TOKEN_KEYS_LOOK_EVERY, TRIGGERED_SHARE};
use orama_runtime::names::Namespace;
use orama_runtime::{ArtifactKey, ArtifactStore, CodeCache, Compiler, Engine, EngineConfig, EngineError};
use rustix::net::{AddressFamily, SocketType, sockopt};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Duration;
use tokio::sync::oneshot;

/// Connections that the kernel keeps until a core accepts them.
const LISTEN_BACKLOG: i32 = 1024;
/// Threads of the backplane; its work is waiting, not computing.
const BACKPLANE_THREADS: usize = 2;

/// How long a node that has started leaves its cores and its disk to the first requests, before it cleans up.
const FIRST_REQUESTS: Duration = Duration::from_secs(1);

/// How long a node that ends waits until the outcomes of triggered runs are written; the runs themselves have ended.
const EVENTS_PATIENCE: Duration = Duration::from_secs(10);

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A folder or file of the node's home.
    #[error("{}: {source}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The home belongs to another node, or cannot be taken.
    #[error(transparent)]
    Home(#[from] HomeLockError),
    /// The address cannot be served.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A store of the node.
    #[error("{0}")]
    Store(String),
    /// The file with the keys of tokens.
    #[error(transparent)]
    TokenKeys(#[from] KeyFileError),
    /// A thread.
    #[error("cannot start the node's threads: {0}")]
    Threads(#[source] io::Error),
}

/// A running node.
pub struct Node {
    address: SocketAddr,
    workers: Vec<Worker>,
    records: Records,
    databases: SqliteDatabases,
    logs: Logs,
    events: Arc<NodeEvents>,
    /// Outlives the cores, which hand work to it while they drain.
    backplane: Option<tokio::runtime::Runtime>,
    /// Held as long as the node runs.
    _home_lock: HomeLock,
}

impl Node {
    /// Starts a node. When this returns, it serves.
    ///
    /// # Errors
    /// [`StartError`], which names what stood in the way. Nothing is left running.
    pub fn start(config: Config) -> Result<Self, StartError> {
        secrets::forbid_core_dumps();
        for remark in config.backends.remarks() {
            tracing::warn!("{remark}");
        }
        let data = config.home.join("data");
        let home_lock = HomeLock::acquire(&config.home)?;
        // What a crash left half written there may hold a key.
        files::private_dir(&data)
            .and_then(|()| files::remove_temporary(&data))
            .map_err(|source| StartError::File { path: data.clone(), source })?;
        let listeners =
            listen(&config).map_err(|source| StartError::Listen { address: config.listen, source })?;
        let address = listeners
            .first()
            .map_or_else(|| Err(io::ErrorKind::AddrNotAvailable.into()), TcpListener::local_addr)
            .map_err(|source| StartError::Listen { address: config.listen, source })?;
        let key_file = data.join("artifact.key");
        let key =
            ArtifactKey::open(&key_file).map_err(|source| StartError::File { path: key_file, source })?;
        let code_cache = (config.code_cache_mb > 0).then(|| {
            let max_bytes = u64::from(config.code_cache_mb) << 20;
            Arc::new(CodeCache::new(data.join("code"), &key, max_bytes))
        });
        let engine_config = EngineConfig {
            instance_slots: config.instance_slots,
            cpu: config.cpu_level.parse()?,
            code_cache,
        };
        // The two slowest parts of a start, side by side.
        let (engine, stores) = std::thread::scope(|scope| {
            let engine = scope.spawn(|| Engine::new(&engine_config));
            let stores = Stores::open(&data);
            (engine.join(), stores)
        });
        let engine =
            engine.map_err(|_| StartError::Threads(io::Error::other("making the engine panicked")))??;
        let backplane = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(BACKPLANE_THREADS)
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .thread_name("backplane")
            .enable_all()
            .build()
            .map_err(StartError::Threads)?;
        let peers = Peers::default();
        let metrics = Arc::new(Metrics::default());
        let compiler = compiler(&config, &data, engine, key)?;
        let (shared, app) = assemble(&config, address, compiler, stores?, &backplane, &metrics, &peers)?;
        auth::bootstrap::credentials(&app.registry, &config.home, &format!("http://{}", reachable(address)))
            .map_err(|error| StartError::Store(error.to_string()))?;
        let mut node = Self {
            address,
            workers: Vec::new(),
            records: app.records.clone(),
            databases: shared.services.database.clone(),
            logs: Logs {
                registry: app.registry.clone(),
                records: app.records.clone(),
                events: Arc::clone(&app.events),
            },
            events: Arc::clone(&app.events),
            backplane: Some(backplane),
            _home_lock: home_lock,
        };
        for (index, listener) in listeners.into_iter().enumerate() {
            let start = Start {
                index,
                listener,
                driver: config.io_driver,
                shared: Arc::clone(&shared),
                counters: metrics.register_core(),
            };
            // On an error `node` is dropped, which ends what runs.
            node.workers.push(Worker::start(start).map_err(StartError::Threads)?);
        }
        // Set once, here.
        let all = node.workers.iter().map(|worker| worker.peer.clone()).collect();
        let _ = peers.set(all);
        app.events.start(
            worker::runner(node.workers.iter().map(|worker| worker.peer.clone())),
            app.records.clone(),
            config.instance_slots as usize / TRIGGERED_SHARE,
        );
        if let Some(backplane) = &node.backplane {
            backplane.spawn(routes::finish_deletions(Arc::clone(&app)));
            let secrets = Arc::clone(&app.secrets);
            backplane.spawn_blocking(move || secrets.finish_rotation_at_start());
            let (http, storage) = (shared.services.http.clone(), shared.services.storage.clone());
            let logs = node.logs.clone();
            backplane.spawn(async move {
                tokio::time::sleep(FIRST_REQUESTS).await;
                let done = tokio::task::spawn_blocking(move || {
                    http.prepare();
                    routes::clean_unreferenced(&app);
                    storage.clean_unreferenced();
                    logs.checkpoint();
                });
                if let Err(error) = done.await {
                    tracing::error!(%error, "what is done after a start was not done to its end");
                }
            });
        }
        Ok(node)
    }

    /// The address served; with port 0 in the config, the port that was found.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until a signal comes, then drains. A second signal ends the process at once.
    ///
    /// # Errors
    /// When the second signal cannot be prepared for.
    pub fn run_until(self, mut signals: StopSignals) -> io::Result<()> {
        if signals.0.forever().next().is_some() {
            let again = Arc::new(AtomicBool::new(true));
            for signal in STOP_SIGNALS {
                signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&again))?;
            }
            tracing::info!("draining");
        }
        drop(self);
        Ok(())
    }
}

const STOP_SIGNALS: [i32; 2] = [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM];

/// SIGTERM and SIGINT, caught from here on.
pub struct StopSignals(signal_hook::iterator::Signals);

impl StopSignals {
    /// Catches the signals. Done before a node starts, so that none finds it without a handler.
    ///
    /// # Errors
    /// When the system does not allow it.
    pub fn catch() -> io::Result<Self> {
        signal_hook::iterator::Signals::new(STOP_SIGNALS).map(Self)
    }
}

impl Drop for Node {
    /// Drains: accepts nothing more, lets what was accepted finish within the grace period, writes every record.
    fn drop(&mut self) {
        self.events.stop();
        for worker in &self.workers {
            // A core that is gone has nothing to drain.
            let _ = worker.peer.commands.send(Command::Drain);
        }
        for worker in self.workers.drain(..) {
            if worker.thread.join().is_err() {
                tracing::error!("a core's thread had panicked");
            }
        }
        self.events.wait_stopped(EVENTS_PATIENCE);
        self.records.flush();
        self.databases.close();
        self.logs.checkpoint();
        if let Some(backplane) = self.backplane.take() {
            // What still waits there has nobody left to answer.
            backplane.shutdown_background();
        }
    }
}

/// The node's own files, whose logs the next start reads, a millisecond a megabyte.
#[derive(Clone)]
struct Logs {
    registry: Registry,
    records: Records,
    events: Arc<NodeEvents>,
}

impl Logs {
    /// Empties the logs into the files. Blocks.
    fn checkpoint(&self) {
        let failed = |error: &dyn std::fmt::Display| {
            tracing::warn!(%error, "a log could not be brought into its file; the next start takes longer");
        };
        self.registry.checkpoint().unwrap_or_else(|error| failed(&error));
        self.records.checkpoint().unwrap_or_else(|error| failed(&error));
        self.events.checkpoint().unwrap_or_else(|error| failed(&error));
    }
}

/// What a node keeps on disk.
struct Stores {
    registry: Registry,
    records: Records,
    blobs: Arc<dyn Blobs>,
    objects: Arc<dyn Blobs>,
}

impl Stores {
    fn open(data: &Path) -> Result<Self, StartError> {
        let failed = |error: &dyn std::fmt::Display| StartError::Store(error.to_string());
        let blobs = |folder| LocalBlobs::open(&data.join(folder)).map(Arc::new);
        Ok(Self {
            registry: Registry::open(data).map_err(|error| failed(&error))?,
            records: Records::open(data).map_err(|error| failed(&error))?,
            blobs: blobs("blobs").map_err(|error| failed(&error))?,
            objects: blobs("objects").map_err(|error| failed(&error))?,
        })
    }
}

fn compiler(config: &Config, data: &Path, engine: Engine, key: ArtifactKey) -> Result<Compiler, StartError> {
    let dir = data.join("artifacts");
    let artifacts =
        ArtifactStore::open(&dir, key).map_err(|source| StartError::File { path: dir, source })?;
    Compiler::new(engine, artifacts, config.workers).map_err(StartError::Threads)
}

fn assemble(
    config: &Config,
    address: SocketAddr,
    compiler: Compiler,
    stores: Stores,
    backplane: &tokio::runtime::Runtime,
    metrics: &Arc<Metrics>,
    peers: &Peers,
) -> Result<(Arc<Shared>, Arc<App>), StartError> {
    let data = &config.home.join("data");
    let Stores { registry, records, blobs, objects } = stores;
    let engine = compiler.engine().clone();
    let generation = registry.generation();
    let tokens = match &config.auth_jwt {
        Some(path) => Some(Arc::new(Tokens::open(path, Arc::clone(&generation))?)),
        None => None,
    };
    if let Some(tokens) = &tokens {
        backplane.spawn(watch(Arc::clone(tokens)));
    }
    let authority = Authority::new(registry.clone(), tokens);
    let bounds = Allowed::raised().module_bounds(config.module_cache_mb, engine.instance_slots());
    let modules = Modules::new(compiler, blobs.clone(), bounds, Arc::clone(metrics));
    let holders = Arc::clone(peers);
    modules.on_evicted(Box::new(move |hashes| {
        for core in holders.get().into_iter().flatten() {
            // A core that ended holds nothing.
            let _ = core.commands.send(Command::Evicted(Arc::clone(hashes)));
        }
    }));
    let secrets = SecretStore::open(&registry, config, data)
        .map(Arc::new)
        .map_err(|error| StartError::Store(error.to_string()))?;
    let database = SqliteDatabases::open(&data.join("databases"), backplane.handle().clone())
        .map_err(|error| StartError::Store(error.to_string()))?;
    let storage = ObjectStorage::new(registry.clone(), objects, backplane.handle().clone());
    let cache = MemoryCache::new((config.cache_memory_mb as usize) << 20);
    let pubsub = Arc::new(MemoryPubSub::default());
    let events = NodeEvents::open(data, &registry, pubsub, backplane.handle().clone())
        .map(Arc::new)
        .map_err(|error| StartError::Store(error.to_string()))?;
    let http = Egress::new(config, address, backplane.handle().clone());
    let start_notes = Arc::<StartNotes>::default();
    let (flushed, asked) = (Arc::clone(peers), Arc::clone(peers));
    let app = Arc::new(App {
        registry: registry.clone(),
        authority: authority.clone(),
        records: records.clone(),
        blobs,
        secrets: Arc::clone(&secrets),
        events: Arc::clone(&events),
        modules: modules.clone(),
        metrics: Arc::clone(metrics),
        start_notes: Arc::clone(&start_notes),
        flush_cores: Arc::new(move || {
            let peers = Arc::clone(&flushed);
            Box::pin(flush_cores(peers))
        }),
        runs_in: Arc::new(move |namespace| Box::pin(runs_in(Arc::clone(&asked), namespace))),
        visitors: Arc::default(),
        forget_namespace: vec![
            forget(&database, SqliteDatabases::remove),
            forget(&storage, ObjectStorage::remove),
            forget(&cache, |cache: &MemoryCache, namespace| {
                cache.remove(namespace);
                Ok::<_, io::Error>(())
            }),
            forget(&http, |http: &Egress, namespace| {
                http.remove(namespace);
                Ok::<_, io::Error>(())
            }),
            forget(&events, |events: &Arc<NodeEvents>, namespace| events.remove(namespace)),
        ],
        checks: vec![
            ("databases", check(&database, SqliteDatabases::check)),
            ("objects", check(&storage, ObjectStorage::check)),
        ],
        breakers: Vec::new(),
    });
    let running_max = (engine.instance_slots() as usize / config.workers.get()).max(1);
    let shared = Shared {
        engine,
        services: Services {
            database,
            cache,
            storage,
            secrets,
            http,
            events,
            backplane: backplane.handle().clone(),
        },
        registry,
        authority,
        registry_generation: generation,
        modules,
        records,
        backplane: backplane.handle().clone(),
        control_plane: routes::router(Arc::clone(&app)),
        control_bytes: AtomicUsize::new(0),
        timeouts: Timeouts {
            header_s: config.header_timeout.as_secs() as u32,
            idle_s: config.idle_timeout.as_secs() as u32,
        },
        body_timeout: config.body_timeout,
        drain_grace: config.drain_grace,
        running_max,
        parked_max_bytes: ((config.parked_memory_mb as usize) << 20) / config.workers.get(),
        start_notes,
        peers: Arc::clone(peers),
        websockets: WebSocketSettings {
            origins: AllowedOrigins::parse(&config.websocket_origins).map_err(StartError::Store)?,
            ping_every: config.websocket_ping,
        },
    };
    Ok((Arc::new(shared), app))
}

/// How a store forgets a namespace.
fn forget<S, E>(store: &S, remove: fn(&S, &Namespace) -> Result<(), E>) -> routes::Forget
where
    S: Clone + Send + Sync + 'static,
    E: std::fmt::Display + 'static,
{
    let store = store.clone();
    Box::new(move |namespace| remove(&store, namespace).map_err(|error| error.to_string()))
}

/// How readiness asks a store.
fn check<S, E>(store: &S, ask: fn(&S) -> Result<(), E>) -> routes::Check
where
    S: Clone + Send + Sync + 'static,
    E: std::fmt::Display + 'static,
{
    let store = store.clone();
    Box::new(move || ask(&store).map_err(|error| error.to_string()))
}

/// Sees to it that tokens are checked with the keys that the operator's file holds now.
async fn watch(tokens: Arc<Tokens>) {
    loop {
        tokio::time::sleep(TOKEN_KEYS_LOOK_EVERY).await;
        let tokens = Arc::clone(&tokens);
        if let Err(error) = tokio::task::spawn_blocking(move || tokens.reload()).await {
            tracing::error!(%error, "reading the keys of tokens failed");
        }
    }
}

/// Asks every core something; the answers of those that have not ended.
async fn ask_cores<T>(peers: &Peers, question: impl Fn(oneshot::Sender<T>) -> Command) -> Vec<T> {
    let mut waits = Vec::new();
    for peer in peers.get().into_iter().flatten() {
        let (answer, wait) = oneshot::channel();
        if peer.commands.send(question(answer)).is_ok() {
            waits.push(wait);
        }
    }
    let mut answers = Vec::new();
    for wait in waits {
        if let Ok(answer) = wait.await {
            answers.push(answer);
        }
    }
    answers
}

/// Makes every core hand over its records. One that ended did so before.
async fn flush_cores(peers: Peers) {
    ask_cores(&peers, Command::FlushRecords).await;
}

/// Whether a core runs something of a namespace.
async fn runs_in(peers: Peers, namespace: Namespace) -> bool {
    let answers = ask_cores(&peers, |answer| Command::RunsIn(namespace.clone(), answer)).await;
    answers.contains(&true)
}

/// A listener for each core on the same address: the kernel spreads connections over them.
fn listen(config: &Config) -> io::Result<Vec<TcpListener>> {
    // With SO_REUSEPORT a second node would share the port unnoticed, so the first socket asks for it alone.
    let alone = bind(config.listen, false)?;
    let address = alone.local_addr()?;
    drop(alone);
    (0..config.workers.get()).map(|_| bind(address, true)).collect()
}

fn bind(address: SocketAddr, share_port: bool) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = rustix::net::SocketFlags::CLOEXEC | rustix::net::SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, share_port)?;
    rustix::net::bind(&socket, &address)?;
    if share_port {
        rustix::net::listen(&socket, LISTEN_BACKLOG)?;
    }
    Ok(TcpListener::from(socket))
}

/// The address under which clients on this machine reach a listener.
fn reachable(address: SocketAddr) -> SocketAddr {
    let mut address = address;
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}
