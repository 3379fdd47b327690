//! Opens a node's parts and puts them together.

use super::StartError;
use crate::access_log::AccessLog;
use crate::config::Config;
use crate::http::Timeouts;
use crate::limits::{PARKED_MEMORY_PART, TOKEN_KEYS_LOOK_EVERY};
use crate::metrics::{Metrics, Sizes};
use crate::process::{self, Allowed};
use crate::routes::{self, App};
use crate::services::Services;
use crate::shares::{Kind, Shares};
use crate::telemetry::Telemetry;
use crate::worker::{AllowedOrigins, Command, Cors, Peers as Cores, Shared, WebSocketSettings};
use orama_platform::auth::Authority;
use orama_platform::auth::jwt::{Issuer, Tokens};
use orama_platform::blob_stores::BlobStores;
use orama_platform::disk::DiskReserve;
use orama_platform::events::NodeEvents;
use orama_platform::limits::DEPLOYS_STORING_MAX;
use orama_platform::modules::Modules;
use orama_platform::outbox::Outboxes;
use orama_platform::peers::Peers;
use orama_platform::records::Records;
use orama_platform::registry::Registry;
use orama_platform::secrets::SecretStore;
use orama_platform::storage::ObjectStorage;
use orama_platform::{FlushCores, Platform};
use orama_runtime::child::Program;
use orama_runtime::names::Namespace;
use orama_runtime::web;
use orama_runtime::{ArtifactKey, ArtifactStore, Compiler, Confinement, Engine};
use orama_store::blocking::{TaskFailed, blocking};
use orama_store::breaker::Breaker;
use orama_store::cache::Caches;
use orama_store::causes::Causes;
use orama_store::database::Databases;
use orama_store::database::read_cache::ReadCache;
use orama_store::egress::Egress;
use orama_store::olric::Olric;
use orama_store::part::{BlobPart, Part, PlatformServers};
use orama_store::pubsub::PubSub;
use orama_store::pubsub::memory::MemoryPubSub;
use orama_store::pubsub::olric::OlricPubSub;
use orama_store::replica;
use orama_store::rqlite::RqliteClient;
use orama_store::settings::CacheSettings;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};

/// What a node keeps on disk, and how it hears of what others keep.
pub(super) struct Stores {
    registry: Registry,
    records: Records,
    events: Arc<NodeEvents>,
    pubsub: Arc<dyn PubSub>,
    olric_pubsub: Option<Arc<OlricPubSub>>,
    /// The circuit of the platform's rqlite.
    breaker: Option<Breaker>,
}

impl Stores {
    pub(super) fn open(config: &Config, data: &Path, backplane: &Handle) -> Result<Self, StartError> {
        let records = Records::open(data).map_err(StartError::store)?;
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
                client: RqliteClient::new("database.platform", at).map_err(StartError::store)?,
                pubsub: Arc::clone(&pubsub),
                backplane: backplane.clone(),
                node: config.listen.to_string(),
            }),
            None => None,
        };
        let breaker = shared.as_ref().map(|shared| shared.client.breaker().clone());
        let (registry, events) = match shared {
            Some(shared) => {
                let registry = Registry::open_shared(data, shared.clone()).map_err(StartError::store)?;
                let events = NodeEvents::open_shared(data, &registry, shared);
                (registry, events.map_err(StartError::store)?)
            }
            None => {
                let registry = Registry::open(data).map_err(StartError::store)?;
                let events = NodeEvents::open(data, &registry, Arc::clone(&pubsub), backplane.clone());
                (registry, events.map_err(StartError::store)?)
            }
        };
        let events = Arc::new(events);
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
    let failed = |source| StartError::File { path: dir.clone(), source };
    let artifacts = ArtifactStore::open(&dir, key).map_err(failed)?;
    if process::forbids_execution(&dir).map_err(failed)? {
        return Err(StartError::NoExec(dir));
    }
    let compiler = Compiler::new(engine, artifacts, config.workers).map_err(StartError::Threads)?;
    Ok(compiler.confined(Confinement {
        program: Program::this()?,
        memory_mb: config.compile_memory_mb,
        time: config.compile_time,
        cpu: config.cpu_level.clone(),
        threads: config.workers,
    }))
}

/// What the parts are opened with.
pub(super) struct Assembly<'a> {
    pub(super) config: &'a Config,
    /// The address that the node serves.
    pub(super) address: SocketAddr,
    pub(super) backplane: &'a Handle,
    pub(super) metrics: &'a Arc<Metrics>,
    pub(super) cores: &'a Cores,
    pub(super) access_log: &'a Arc<AccessLog>,
}

impl Assembly<'_> {
    /// Opens the rest of the parts around the stores, and puts everything together.
    pub(super) fn assemble(
        &self,
        compiler: Compiler,
        stores: Stores,
    ) -> Result<(Arc<Shared>, Arc<Platform>), StartError> {
        let data = self.config.home.join("data");
        let engine = compiler.engine().clone();
        let blobs = BlobStores::open(&self.config.places(), &data, &stores.registry, self.backplane)
            .map_err(StartError::store)?;
        let authority = self.authority(&stores.registry)?;
        authority.start(self.backplane);
        let keep = Duration::from_hours(24 * u64::from(self.config.audit_keep_days));
        stores.registry.start_audit(self.backplane, keep);
        let secrets = self.secrets(&stores.registry, &data)?;
        let services = self.services(&stores, &blobs, secrets, &data)?;
        let modules = self.modules(compiler, &blobs);
        let platform = self.platform(&services, &stores, &blobs, authority, modules);
        let slots = engine.instance_slots() as usize;
        let limits = self.config.shares.limits(Allowed::raised().descriptors, slots);
        let shares = Shares::new(limits, self.config.shares.rates);
        self.follow_limits(&platform, &shares)?;
        let shared = self.shared(engine, services, &platform, shares)?;
        Ok((Arc::new(shared), platform))
    }

    /// Takes over what operators set for namespaces, now and whenever it changes on any node.
    fn follow_limits(&self, platform: &Arc<Platform>, shares: &Arc<Shares>) -> Result<(), StartError> {
        let mut changes = platform.registry.limits_changes();
        let read = |platform: &Platform, shares: &Shares| {
            shares.read_rates(&platform.registry)?;
            platform.bound_databases()
        };
        read(platform, shares).map_err(StartError::store)?;
        let (platform, shares) = (Arc::clone(platform), Arc::clone(shares));
        self.backplane.spawn(async move {
            while changes.changed().await.is_ok() {
                let (platform, shares) = (Arc::clone(&platform), Arc::clone(&shares));
                let read = tokio::task::spawn_blocking(move || read(&platform, &shares)).await;
                let error: &dyn std::fmt::Display = match &read {
                    Ok(Ok(())) => continue,
                    Ok(Err(error)) => error,
                    Err(error) => error,
                };
                tracing::error!(%error, "what was set for namespaces stays as it was");
            }
        });
        Ok(())
    }

    fn authority(&self, registry: &Registry) -> Result<Authority, StartError> {
        // Also without any: a reload may bring some.
        let tokens = Tokens::open(self.config.issuers.clone(), &registry.generation(), self.backplane)?;
        watch_issuers(&tokens.issuers(), self.backplane);
        Ok(Authority::new(registry.clone(), Some(Arc::new(tokens))))
    }

    fn secrets(&self, registry: &Registry, data: &Path) -> Result<Arc<SecretStore>, StartError> {
        let secrets = SecretStore::open(registry, &self.config.places(), data).map_err(StartError::store)?;
        let secrets = Arc::new(secrets);
        if secrets.keys_may_change() {
            self.backplane.spawn(watch(Arc::downgrade(&secrets), |secrets: &SecretStore| {
                secrets
                    .reload()
                    .unwrap_or_else(|error| tracing::warn!(%error, "the master keys could not be read again; the node continues with its previous keys"));
            }));
        }
        Ok(secrets)
    }

    /// What guests reach through host functions.
    fn services(
        &self,
        stores: &Stores,
        blobs: &BlobStores,
        secrets: Arc<SecretStore>,
        data: &Path,
    ) -> Result<Services, StartError> {
        let (config, backplane) = (self.config, self.backplane);
        let program = Program::this().map_err(StartError::store)?;
        let database = Databases::open(&data.join("databases"), &config.backends, backplane, program);
        let database = database.map_err(StartError::store)?;
        let cache = CacheSettings {
            olric: config.backends.cache.as_ref(),
            cluster: &config.backends.cluster,
            max_bytes: (config.cache_memory_mb as usize) << 20,
            near: config.cache_near,
        };
        let reads = ReadCache::new(Arc::new(database.clone()));
        let events = Arc::clone(&stores.events);
        Ok(Services {
            outboxes: Outboxes::new(Arc::new(reads.clone()), events, backplane.clone()),
            reads,
            database,
            cache: Caches::new(&cache, &stores.pubsub, backplane),
            storage: ObjectStorage::new(
                stores.registry.clone(),
                Arc::clone(&blobs.objects),
                self.disk(),
                backplane.clone(),
            ),
            secrets,
            http: Egress::new(
                config.egress_allow.clone(),
                config.egress_deny.clone(),
                config.backends.hosts(),
                backplane.clone(),
            ),
            events: Arc::clone(&stores.events),
            backplane: backplane.clone(),
        })
    }

    fn disk(&self) -> DiskReserve {
        DiskReserve::new(self.config.home.join("data"), u64::from(self.config.disk_reserve_mb) << 20)
    }

    fn modules(&self, compiler: Compiler, blobs: &BlobStores) -> Modules {
        let slots = compiler.engine().instance_slots();
        let bounds = Allowed::raised().module_bounds(self.config.module_cache_mb, slots);
        let modules = Modules::new(compiler, Arc::clone(&blobs.modules), bounds);
        let holders = Arc::clone(self.cores);
        modules.on_evicted(Box::new(move |hashes| {
            for core in holders.get().into_iter().flatten() {
                core.evict(hashes);
            }
        }));
        modules
    }

    fn platform(
        &self,
        services: &Services,
        stores: &Stores,
        blobs: &BlobStores,
        authority: Authority,
        modules: Modules,
    ) -> Arc<Platform> {
        let (flushed, asked) = (Arc::clone(self.cores), Arc::clone(self.cores));
        let flush_cores: FlushCores = Arc::new(move || Box::pin(flush_cores(Arc::clone(&flushed))));
        let peers = stores.olric_pubsub.as_ref().map(|pubsub| {
            let pubsub = Arc::<OlricPubSub>::clone(pubsub);
            Peers::new(node_name(self.address), pubsub, stores.records.clone(), Arc::clone(&flush_cores))
        });
        if let Some(peers) = &peers {
            self.backplane.spawn(peers.clone().run());
        }
        Arc::new(Platform {
            registry: stores.registry.clone(),
            authority,
            records: stores.records.clone(),
            blobs: Arc::clone(&blobs.modules),
            storage: services.storage.clone(),
            databases: services.database.clone(),
            secrets: Arc::clone(&services.secrets),
            events: Arc::clone(&services.events),
            modules,
            start_notes: Arc::default(),
            peers,
            flush_cores,
            runs_in: Arc::new(move |namespace| Box::pin(runs_in(Arc::clone(&asked), namespace))),
            visitors: Arc::default(),
            storing: Arc::new(Semaphore::new(DEPLOYS_STORING_MAX)),
            disk: self.disk(),
            parts: parts(services, stores, blobs),
        })
    }

    fn shared(
        &self,
        engine: Engine,
        services: Services,
        platform: &Arc<Platform>,
        shares: Arc<Shares>,
    ) -> Result<Shared, StartError> {
        let config = self.config;
        let telemetry = Telemetry::new(&config.telemetry).map_err(StartError::store)?;
        let traces = telemetry.as_ref().map(|telemetry| Arc::clone(&telemetry.traces));
        let app = Arc::new(App {
            platform: Arc::clone(platform),
            metrics: Arc::clone(self.metrics),
            shares: Arc::clone(&shares),
            sizes: Sizes::new(config.home.join("data")),
            access_log: Arc::clone(self.access_log),
            metrics_apart: config.metrics_listen.is_some(),
            traces: traces.clone(),
        });
        if let Some(telemetry) = telemetry {
            let app = Arc::clone(&app);
            let metrics = Arc::new(move || routes::render_metrics(&app, true));
            telemetry.start(self.backplane, node_name(self.address), metrics);
        }
        // Guests that only wait leave most of the memory to those that run.
        let guests_bytes = shares.limit(Kind::GuestMemoryBytes);
        let parked_bytes = ((config.parked_memory_mb as usize) << 20).min(guests_bytes / PARKED_MEMORY_PART);
        let running_max = (engine.instance_slots() as usize / config.workers.get()).max(1);
        Ok(Shared {
            engine,
            services,
            registry: platform.registry.clone(),
            authority: platform.authority.clone(),
            registry_generation: platform.registry.generation(),
            modules: platform.modules.clone(),
            records: platform.records.clone(),
            backplane: self.backplane.clone(),
            operations: app.metrics_apart.then(|| routes::operations_router(Arc::clone(&app))),
            control_plane: routes::router(app),
            access_log: Arc::clone(self.access_log),
            shares,
            trusted_proxies: config.shares.trusted_proxies.clone(),
            cors: default_cors(config)?,
            timeouts: Timeouts {
                header_s: config.header_timeout.as_secs() as u32,
                idle_s: config.idle_timeout.as_secs() as u32,
                send_s: config.send_timeout.as_secs() as u32,
            },
            body_timeout: config.body_timeout,
            drain_grace: config.drain_grace,
            running_max,
            parked_max_bytes: parked_bytes / config.workers.get(),
            start_notes: Arc::clone(&platform.start_notes),
            peers: Arc::clone(self.cores),
            websockets: WebSocketSettings {
                origins: AllowedOrigins::parse(&config.websocket_origins).map_err(StartError::store)?,
                ping_every: config.websocket_ping,
                send_timeout: config.send_timeout,
            },
            traces,
        })
    }
}

/// Which pages of other origins may call functions that do not say so themselves.
fn default_cors(config: &Config) -> Result<Option<Arc<Cors>>, StartError> {
    let Some(fields) = &config.cors else { return Ok(None) };
    let settings = web::Cors::try_from(fields.clone()).map_err(StartError::store)?;
    Ok(Some(Arc::new(Cors::new(&settings).map_err(StartError::store)?)))
}

/// Every part of a node, in the order in which they are closed.
fn parts(services: &Services, stores: &Stores, blobs: &BlobStores) -> Vec<Arc<dyn Part>> {
    let mut parts: Vec<Arc<dyn Part>> = vec![
        Arc::new(services.database.clone()),
        Arc::new(services.reads.clone()),
        Arc::new(services.storage.clone()),
        Arc::new(services.cache.clone()),
        Arc::new(services.http.clone()),
        Arc::<NodeEvents>::clone(&services.events),
        Arc::new(stores.records.clone()),
        Arc::new(stores.registry.clone()),
        Arc::new(BlobPart { blobs: Arc::clone(&blobs.modules), breaker: blobs.breaker.clone() }),
    ];
    if let Some(breaker) = &stores.breaker {
        parts.push(Arc::new(PlatformServers(breaker.clone())));
    }
    if let Some(pubsub) = &stores.olric_pubsub {
        parts.push(Arc::<OlricPubSub>::clone(pubsub));
    }
    parts
}

/// What people call a node that serves at an address.
fn node_name(address: SocketAddr) -> String {
    if !address.ip().is_unspecified() {
        return address.to_string();
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}:{}", host.trim(), address.port())
}

/// Sees to it that each of these issuers has the keys that its file or its server has.
pub(super) fn watch_issuers(issuers: &[Arc<Issuer>], backplane: &Handle) {
    for issuer in issuers {
        backplane.spawn(watch(Arc::downgrade(issuer), Issuer::refresh));
    }
}

/// Sees to it that keys are those that the operator's file holds now, as long as somebody has them.
async fn watch<T: Send + Sync + 'static>(keys: Weak<T>, reload: fn(&T)) {
    while let Some(keys) = keys.upgrade() {
        let reloaded = blocking(move || {
            reload(&keys);
            Ok::<_, TaskFailed>(())
        });
        if let Err(error) = reloaded.await {
            tracing::error!(error = %Causes(&error), "the keys could not be read again");
        }
        tokio::time::sleep(TOKEN_KEYS_LOOK_EVERY).await;
    }
}

/// Asks every core something; the answers of those that have not ended.
async fn ask_cores<T>(cores: &Cores, question: impl Fn(oneshot::Sender<T>) -> Command) -> Vec<T> {
    let mut waits = Vec::new();
    for core in cores.get().into_iter().flatten() {
        let (answer, wait) = oneshot::channel();
        if core.commands.send(question(answer)).await.is_ok() {
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
async fn flush_cores(cores: Cores) {
    ask_cores(&cores, Command::FlushRecords).await;
}

/// Whether a core runs something of a namespace.
async fn runs_in(cores: Cores, namespace: Namespace) -> bool {
    let answers = ask_cores(&cores, |answer| Command::RunsIn(namespace.clone(), answer)).await;
    answers.contains(&true)
}
