//! A node: starts everything in its order, and ends it in the opposite one.

use crate::access_log::AccessLog;
use crate::config::Config;
use crate::limits::TRIGGERED_SHARE;
use crate::metrics::Metrics;
use crate::worker::{self, Peers, Shared, Start, Worker};
use assemble::{Assembly, Stores, compiler};
use listen::{listen, reachable};
use orama_platform::auth;
use orama_platform::auth::jwt::KeysError;
use orama_platform::clean::clean_unreferenced;
use orama_platform::reconciler::reconcile;
use orama_platform::transfer;
use orama_platform::{Platform, namespaces, secrets};
use orama_runtime::child::ChildError;
use orama_runtime::{ArtifactKey, CodeCache, Compiler, Engine, EngineConfig, EngineError};
use orama_store::blocking::{TaskFailed, blocking};
use orama_store::causes::Causes;
use orama_store::files::{self, HomeLock, HomeLockError};
use orama_store::limits::BLOCKING_THREADS_MAX;
use orama_store::part::PartError;
use orama_store::versions::{self, ServerVersion};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Handle, Runtime};

mod assemble;
mod listen;
mod reload;
mod signals;

pub use signals::StopSignals;

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
    /// The program cannot run its own children.
    #[error(transparent)]
    Child(#[from] ChildError),
    /// A part of the node cannot be opened.
    #[error(transparent)]
    Part(PartError),
    /// The keys of tokens.
    #[error(transparent)]
    TokenKeys(#[from] KeysError),
    /// Compiled code cannot be mapped from the home.
    #[error(
        "the folder {} is on a file system mounted noexec, from which compiled functions cannot run; mount it without noexec, \
         or choose another home with --home",
        .0.display()
    )]
    NoExec(PathBuf),
    /// Only a part of an archive is there.
    #[error("an import into {} is not finished; run the same `orama import` again", .0.display())]
    UnfinishedImport(PathBuf),
    /// A thread.
    #[error("cannot start the node's threads: {0}")]
    Threads(#[source] io::Error),
}

impl StartError {
    fn store(error: impl Into<PartError>) -> Self {
        Self::Part(error.into())
    }
}

/// A running node.
pub struct Node {
    address: SocketAddr,
    workers: Vec<Worker>,
    platform: Arc<Platform>,
    access_log: Arc<AccessLog>,
    /// Outlives the cores, which hand work to it while they drain.
    backplane: Option<Runtime>,
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
        for remark in config.remarks() {
            tracing::warn!("{remark}");
        }
        let home_lock = take_home(&config)?;
        let data = config.home.join("data");
        let (listeners, address) =
            bind(&config).map_err(|source| StartError::Listen { address: config.listen, source })?;
        let mut door = open_door(&config)?;
        let backplane = backplane().map_err(StartError::Threads)?;
        let (compiler, stores) = open(&config, &data, backplane.handle())?;
        let (peers, metrics) = (Peers::default(), Arc::new(Metrics::default()));
        let access_log = Arc::new(AccessLog::default());
        access_log.switch(config.log.access).map_err(StartError::Threads)?;
        let (shared, platform) = {
            let (config, backplane) = (&config, backplane.handle());
            Assembly { config, address, backplane, metrics: &metrics, cores: &peers, access_log: &access_log }
                .assemble(compiler, stores)?
        };
        auth::bootstrap::credentials(
            &platform.registry,
            &config.home,
            &format!("http://{}", reachable(address)),
        )
        .map_err(StartError::store)?;
        let handle = backplane.handle().clone();
        let mut node = Self {
            address,
            workers: Vec::new(),
            platform: Arc::clone(&platform),
            access_log,
            backplane: Some(backplane),
            _home_lock: home_lock,
        };
        for (index, listener) in listeners.into_iter().enumerate() {
            let start = Start {
                index,
                listener,
                door: door.take(),
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
        platform.events.start(
            worker::runner(node.workers.iter().map(|worker| worker.peer.clone())),
            platform.records.clone(),
            config.instance_slots as usize / TRIGGERED_SHARE,
        );
        shared.services.outboxes.start(platform.databases.may_be_shared());
        spawn_background(&config, &handle, &shared, &platform);
        let (home, version) = (config.home.display(), env!("CARGO_PKG_VERSION"));
        tracing::info!(%address, %home, version, cores = node.workers.len(), "serving");
        Ok(node)
    }

    /// The address served; with port 0 in the config, the port that was found.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }
}

/// Takes the home for this node, and removes what a crash left half written.
fn take_home(config: &Config) -> Result<HomeLock, StartError> {
    let home_lock = HomeLock::acquire(&config.home)?;
    if transfer::is_unfinished(&config.home) {
        return Err(StartError::UnfinishedImport(config.home.clone()));
    }
    let data = config.home.join("data");
    // What a crash left half written there may hold a key.
    files::private_dir(&data)
        .and_then(|()| files::remove_temporary(&data))
        .map_err(|source| StartError::File { path: data, source })?;
    Ok(home_lock)
}

/// A listener for each core, and the address that they share.
fn bind(config: &Config) -> io::Result<(Vec<TcpListener>, SocketAddr)> {
    let listeners = listen(config)?;
    let address = listeners.first().ok_or(io::ErrorKind::AddrNotAvailable)?.local_addr()?;
    Ok((listeners, address))
}

/// What listens for readers of metrics, if there is an address for them.
fn open_door(config: &Config) -> Result<Option<TcpListener>, StartError> {
    let Some(address) = config.metrics_listen else { return Ok(None) };
    let open = || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        tracing::info!(address = %listener.local_addr()?, "serving metrics");
        Ok(listener)
    };
    open().map(Some).map_err(|source| StartError::Listen { address, source })
}

fn backplane() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(BACKPLANE_THREADS)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_name("backplane")
        .enable_all()
        .build()
}

/// Opens the two slowest parts of a start, side by side.
fn open(config: &Config, data: &Path, backplane: &Handle) -> Result<(Compiler, Stores), StartError> {
    let key_file = data.join("artifact.key");
    let key = ArtifactKey::open(&key_file).map_err(|source| StartError::File { path: key_file, source })?;
    let code_cache = (config.code_cache_mb > 0).then(|| {
        let max_bytes = u64::from(config.code_cache_mb) << 20;
        Arc::new(CodeCache::new(data.join("code"), &key, max_bytes))
    });
    let engine_config = EngineConfig {
        instance_slots: config.instance_slots,
        cpu: config.cpu_level.parse()?,
        code_cache,
        effort: config.effort,
    };
    let (engine, stores) = std::thread::scope(|scope| {
        let engine = scope.spawn(|| Engine::new(&engine_config));
        let stores = Stores::open(config, data, backplane);
        (engine.join(), stores)
    });
    let engine =
        engine.map_err(|_| StartError::Threads(io::Error::other("making the engine panicked")))??;
    Ok((compiler(config, data, engine, key)?, stores?))
}

/// Starts what goes on beside requests: unfinished deletions and rotations, the reconciler, and the clean-up after a start.
fn spawn_background(config: &Config, backplane: &Handle, shared: &Arc<Shared>, platform: &Arc<Platform>) {
    backplane.spawn(namespaces::resume_deletions(Arc::clone(platform)));
    if config.backends.platform.is_some() || config.backends.blobs.is_some() {
        backplane.spawn(reconcile(Arc::clone(platform)));
    }
    let backends = config.backends.clone();
    backplane.spawn(async move {
        for ServerVersion { key, server, version } in versions::of_servers(&backends).await {
            tracing::info!(key, server, version, "a backend answers");
        }
    });
    let secrets = Arc::clone(&platform.secrets);
    backplane.spawn_blocking(move || secrets.finish_rotation_at_start());
    let (http, platform) = (shared.services.http.clone(), Arc::clone(platform));
    backplane.spawn(async move {
        tokio::time::sleep(FIRST_REQUESTS).await;
        let done = blocking(move || {
            http.prepare();
            clean_unreferenced(&platform);
            platform.storage.clean_unreferenced();
            platform.checkpoint();
            Ok::<_, TaskFailed>(())
        });
        if let Err(error) = done.await {
            tracing::error!(error = %Causes(&error), "the clean-up after the start did not end");
        }
    });
}

impl Drop for Node {
    /// Drains: accepts nothing more, lets what was accepted finish within the grace period, writes every record.
    fn drop(&mut self) {
        self.platform.events.stop();
        for worker in &self.workers {
            worker.peer.drain();
        }
        for worker in self.workers.drain(..) {
            if worker.thread.join().is_err() {
                tracing::error!("a core's thread had panicked");
            }
        }
        self.access_log.close();
        self.platform.events.wait_stopped(EVENTS_PATIENCE);
        self.platform.close();
        if let Some(backplane) = self.backplane.take() {
            // What still waits there has nobody left to answer.
            backplane.shutdown_background();
        }
    }
}
