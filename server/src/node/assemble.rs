//! Puts a node's parts together.

use super::StartError;
use super::blobs::BlobStores;
use crate::auth::Authority;
use crate::auth::jwt::Tokens;
use crate::backend::cache::Caches;
use crate::backend::cache::olric::OlricCache;
use crate::backend::database::Databases;
use crate::backend::database::kept::KeptReads;
use crate::backend::olric::Olric;
use crate::backend::pubsub::PubSub;
use crate::backend::pubsub::memory::MemoryPubSub;
use crate::backend::pubsub::olric::OlricPubSub;
use crate::backend::reach::Breaker;
use crate::backend::replica;
use crate::backend::rqlite::RqliteClient;
use crate::config::Config;
use crate::egress::Egress;
use crate::events::NodeEvents;
use crate::http::Timeouts;
use crate::metrics::Metrics;
use crate::modules::Modules;
use crate::neighbours::Neighbours;
use crate::process::Allowed;
use crate::records::Records;
use crate::registry::Registry;
use crate::routes::{self, App, FlushCores};
use crate::secrets::SecretStore;
use crate::services::Services;
use crate::starts::StartNotes;
use crate::storage::ObjectStorage;
use crate::worker::{AllowedOrigins, Command, Peers, Shared, WebSocketSettings};
use orama_runtime::limits::{DEPLOYS_STORING_MAX, TOKEN_KEYS_LOOK_EVERY};
use orama_runtime::names::Namespace;
use orama_runtime::{ArtifactKey, ArtifactStore, Compiler, Engine};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};

/// What a node keeps on disk, and how it hears of what others keep.
pub(super) struct Stores {
    registry: Registry,
    records: Records,
    events: NodeEvents,
    pubsub: Arc<dyn PubSub>,
    olric_pubsub: Option<Arc<OlricPubSub>>,
    /// The circuit of the platform's rqlite.
    breaker: Option<Breaker>,
}

impl Stores {
    pub(super) fn open(config: &Config, data: &Path, backplane: &Handle) -> Result<Self, StartError> {
        let failed = |error: &dyn std::fmt::Display| StartError::Store(error.to_string());
        let records = Records::open(data).map_err(|error| failed(&error))?;
        let olric_pubsub = config.backends.pubsub.as_ref().map(|at| {
            let olric = Olric::new(at, "pubsub", backplane.clone());
            Arc::new(OlricPubSub::new(olric, &config.backends.cluster))
        });
        let pubsub: Arc<dyn PubSub> = match &olric_pubsub {
            Some(pubsub) => Arc::<OlricPubSub>::clone(pubsub),
            None => Arc::new(MemoryPubSub::default()),
        };
        let shared = match &config.backends.platform {
            Some(at) => Some(replica::Shared {
                client: RqliteClient::new("database.platform", at)
                    .map_err(|error| failed(&format_args!("database.platform: {error}")))?,
                pubsub: Arc::clone(&pubsub),
                backplane: backplane.clone(),
                node: config.listen.to_string(),
            }),
            None => None,
        };
        let breaker = shared.as_ref().map(|shared| shared.client.breaker().clone());
        let (registry, events) = match shared {
            Some(shared) => {
                let registry = Registry::open_shared(data, shared.clone()).map_err(|error| failed(&error))?;
                let events = NodeEvents::open_shared(data, &registry, shared);
                (registry, events.map_err(|error| failed(&error))?)
            }
            None => {
                let registry = Registry::open(data).map_err(|error| failed(&error))?;
                let events = NodeEvents::open(data, &registry, Arc::clone(&pubsub), backplane.clone());
                (registry, events.map_err(|error| failed(&error))?)
            }
        };
        Ok(Self { registry, records, events, pubsub, olric_pubsub, breaker })
    }
}

pub(super) fn compiler(
    config: &Config,
    data: &Path,
    engine: Engine,
    key: ArtifactKey,
) -> Result<Compiler, StartError> {
    let dir = data.join("artifacts");
    let artifacts =
        ArtifactStore::open(&dir, key).map_err(|source| StartError::File { path: dir, source })?;
    Compiler::new(engine, artifacts, config.workers).map_err(StartError::Threads)
}

pub(super) fn assemble(
    config: &Config,
    address: SocketAddr,
    compiler: Compiler,
    stores: Stores,
    backplane: &tokio::runtime::Runtime,
    metrics: &Arc<Metrics>,
    peers: &Peers,
) -> Result<(Arc<Shared>, Arc<App>), StartError> {
    let data = &config.home.join("data");
    let Stores { registry, records, events, pubsub, olric_pubsub, breaker: platform } = stores;
    let events = Arc::new(events);
    let blobs = BlobStores::open(config, data, &registry, backplane.handle())
        .map_err(|error| StartError::Store(error.to_string()))?;
    let BlobStores { modules: blobs, objects, breaker } = blobs;
    let engine = compiler.engine().clone();
    let generation = registry.generation();
    let tokens = match &config.auth_jwt {
        Some(path) => Some(Arc::new(Tokens::open(path, Arc::clone(&generation))?)),
        None => None,
    };
    if let Some(tokens) = &tokens {
        backplane.spawn(watch(Arc::clone(tokens), Tokens::reload));
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
    if secrets.keys_may_change() {
        backplane.spawn(watch(Arc::clone(&secrets), |secrets: &SecretStore| {
            secrets
                .reload()
                .unwrap_or_else(|error| tracing::warn!(%error, "the secrets' keys stay as they were"));
        }));
    }
    let database = Databases::open(&data.join("databases"), &config.backends, backplane.handle())
        .map_err(|error| StartError::Store(error.to_string()))?;
    let reads = KeptReads::new(Arc::new(database.clone()));
    let storage = ObjectStorage::new(registry.clone(), objects, backplane.handle().clone());
    let cache = Caches::new(config, &pubsub, backplane.handle());
    let mut checks = vec![
        ("databases", check(&database, Databases::check)),
        ("objects", check(&storage, ObjectStorage::check)),
    ];
    if let Some(platform) = &platform {
        checks.push(("platform", check(platform, answers)));
    }
    let mut breakers: Vec<_> = platform.into_iter().chain(breaker).chain(database.breakers()).collect();
    if let Caches::Olric(olric) = &cache {
        checks.push(("cache", check(olric, OlricCache::check)));
        breakers.push(olric.breaker().clone());
    }
    if let Some(pubsub) = &olric_pubsub {
        checks.push(("pubsub", check(pubsub, |pubsub: &Arc<OlricPubSub>| pubsub.check())));
        breakers.push(pubsub.breaker().clone());
    }
    let http = Egress::new(config, address, backplane.handle().clone());
    let start_notes = Arc::<StartNotes>::default();
    let (flushed, asked) = (Arc::clone(peers), Arc::clone(peers));
    let flush: FlushCores = Arc::new(move || {
        let peers = Arc::clone(&flushed);
        Box::pin(flush_cores(peers))
    });
    let neighbours = olric_pubsub.as_ref().map(|pubsub| {
        let pubsub = Arc::<OlricPubSub>::clone(pubsub);
        Neighbours::new(node_name(address), pubsub, records.clone(), Arc::clone(&flush))
    });
    if let Some(neighbours) = &neighbours {
        backplane.spawn(neighbours.clone().run());
    }
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
        neighbours,
        flush_cores: flush,
        runs_in: Arc::new(move |namespace| Box::pin(runs_in(Arc::clone(&asked), namespace))),
        visitors: Arc::default(),
        forget_namespace: vec![
            forget(&database, Databases::remove),
            forget(&reads, |reads: &KeptReads, namespace| {
                reads.remove(namespace);
                Ok::<_, io::Error>(())
            }),
            forget(&storage, ObjectStorage::remove),
            forget(&cache, Caches::remove),
            forget(&http, |http: &Egress, namespace| {
                http.remove(namespace);
                Ok::<_, io::Error>(())
            }),
            forget(&events, |events: &Arc<NodeEvents>, namespace| events.remove(namespace)),
        ],
        checks,
        storing: Arc::new(Semaphore::new(DEPLOYS_STORING_MAX)),
        breakers,
    });
    let running_max = (engine.instance_slots() as usize / config.workers.get()).max(1);
    let shared = Shared {
        engine,
        services: Services {
            database,
            reads,
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

/// What people call a node that serves at an address.
fn node_name(address: SocketAddr) -> String {
    if !address.ip().is_unspecified() {
        return address.to_string();
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}:{}", host.trim(), address.port())
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

/// A node asks the platform's servers twice a second, so its circuit says how it is.
fn answers(breaker: &Breaker) -> Result<(), String> {
    if breaker.is_open() { Err("it does not answer".to_owned()) } else { Ok(()) }
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

/// Sees to it that keys are those that the operator's file holds now.
async fn watch<T: Send + Sync + 'static>(keys: Arc<T>, reload: fn(&T)) {
    loop {
        tokio::time::sleep(TOKEN_KEYS_LOOK_EVERY).await;
        let keys = Arc::clone(&keys);
        if let Err(error) = tokio::task::spawn_blocking(move || reload(&keys)).await {
            tracing::error!(%error, "reading a file with keys failed");
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
