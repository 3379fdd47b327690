//! A node: starts everything in its order, and ends it in the opposite one.

use crate::auth;
use crate::auth::jwt::KeyFileError;
use crate::backend::database::Databases;
use crate::backend::files::{self, HomeLock, HomeLockError};
use crate::config::Config;
use crate::events::NodeEvents;
use crate::follower::follow;
use crate::metrics::Metrics;
use crate::records::Records;
use crate::registry::Registry;
use crate::routes;
use crate::secrets;
use crate::transfer::UNFINISHED_FILE;
use crate::worker::{self, Command, Peers, Start, Worker};
use assemble::{Stores, assemble, compiler};
use listen::{listen, reachable};
use orama_runtime::limits::{BLOCKING_THREADS_MAX, TRIGGERED_SHARE};
use orama_runtime::{ArtifactKey, CodeCache, Engine, EngineConfig, EngineError};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

mod assemble;
pub(crate) mod blobs;
mod listen;

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
    /// Only a part of an archive is there.
    #[error("an import into {} is not finished; run the same `orama import` again", .0.display())]
    UnfinishedImport(PathBuf),
    /// A thread.
    #[error("cannot start the node's threads: {0}")]
    Threads(#[source] io::Error),
}

/// A running node.
pub struct Node {
    address: SocketAddr,
    workers: Vec<Worker>,
    records: Records,
    databases: Databases,
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
        for remark in config.remarks() {
            tracing::warn!("{remark}");
        }
        let data = config.home.join("data");
        let home_lock = HomeLock::acquire(&config.home)?;
        if config.home.join(UNFINISHED_FILE).exists() {
            return Err(StartError::UnfinishedImport(config.home.clone()));
        }
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
        let backplane = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(BACKPLANE_THREADS)
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .thread_name("backplane")
            .enable_all()
            .build()
            .map_err(StartError::Threads)?;
        // The two slowest parts of a start, side by side.
        let (engine, stores) = std::thread::scope(|scope| {
            let engine = scope.spawn(|| Engine::new(&engine_config));
            let stores = Stores::open(&config, &data, backplane.handle());
            (engine.join(), stores)
        });
        let engine =
            engine.map_err(|_| StartError::Threads(io::Error::other("making the engine panicked")))??;
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
            if config.backends.platform.is_some() || config.backends.blobs.is_some() {
                backplane.spawn(follow(Arc::clone(&app), shared.services.storage.clone()));
            }
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
