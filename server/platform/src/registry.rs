//! The registry: namespaces, API keys, functions, triggers, secrets and objects, in one SQLite file.
//!
//! Every change is durable before it is acknowledged. All calls block; async callers use the blocking pool.

use crate::audit::{Waiting, is_about};
use dropped::{drop_up_to, each_once, module_ref};
use namespaces::namespace_exists;
use orama_runtime::function::{FunctionVersion, WasmHash};
use orama_runtime::names::{AliasName, FunctionName, Namespace};
use orama_store::clock::now_ms;
use orama_store::ids::new_id;
use orama_store::replica::Shared;
use orama_store::sqlite::{Database, Durability};
use quotas::Deploying;
use row::{Stored, stored};
use rusqlite::{OptionalExtension, Transaction, params};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;

mod audit;
mod dropped;
mod error;
mod in_use;
mod keys;
mod modules;
mod namespaces;
mod objects;
mod origin;
pub(crate) mod quotas;
mod rates;
mod row;
pub(crate) mod schema;
pub(crate) mod secrets;
mod settings;
mod traffic;
mod triggers;
mod which;

pub use audit::{AuditFilter, AuditOf};
pub use error::RegistryError;
pub use in_use::{Alias, Found};
pub use keys::{KeyEntry, NewKey};
pub use namespaces::NamespaceEntry;
pub(crate) use objects::StoreError;
pub use origin::{Origin, SourceTold};
pub use rates::SetRates;
pub use settings::VersionSettings;
pub use traffic::{Sticky, Traffic};
pub use triggers::{AddedTrigger, Source, Trigger};
pub use which::{LIVE, Which};

/// The file's name in the data folder.
const FILE: &str = "registry.db";

/// The file name of the replica of a shared registry. The node's own registry stays beside it.
pub(crate) const COPY: &str = "registry-copy.db";

/// Tables whose changes do not move [`Registry::generation`].
const APART: [&str; 6] = ["secrets", "stored_objects", "quotas", "rates", "key_uses", "audit"];

/// A version to be added. The registry assigns its number, id and times.
#[derive(Clone)]
pub struct NewVersion {
    /// The tenant; it must exist.
    pub namespace: Namespace,
    /// The function.
    pub name: FunctionName,
    /// The module.
    pub wasm_hash: WasmHash,
    /// The module's content id in the blob store.
    pub wasm_cid: String,
    /// The module's size, in bytes.
    pub wasm_bytes: u64,
    /// Settings chosen by its author.
    pub settings: VersionSettings,
    /// The triggers of the function's file; `None` leaves those that it has.
    pub triggers: Option<Vec<Source>>,
    /// An alias to set to it. Unless that is `live`, the live version does not change.
    pub alias: Option<AliasName>,
    /// Where it comes from.
    pub origin: Origin,
}

/// A module of a deleted version. Other versions may still use it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ModuleRef {
    /// Its identity for the runtime.
    pub wasm_hash: WasmHash,
    /// Its content id in the blob store.
    pub wasm_cid: String,
}

/// What a deploy did.
#[derive(Debug)]
pub struct Added {
    /// The new version.
    pub function: Arc<FunctionVersion>,
    /// The modules of the versions that it took away, as its `keep_versions` asks for, each once.
    pub dropped: Vec<ModuleRef>,
    /// The ids of triggers that the function's file does not have any more.
    pub gone_triggers: Vec<String>,
    /// The version that the function's name stands for now.
    pub live: u32,
    /// Whether calls of the function's name are spread by weight.
    pub is_spread: bool,
}

/// The result of a deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deleted {
    /// Number of deleted versions; 0 if there were none.
    pub versions: usize,
    /// Their modules without duplicates.
    pub modules: Vec<ModuleRef>,
    /// Whether the function itself was deleted, with its triggers, because no version is left.
    pub whole: bool,
}

/// The registry. Clones share it.
#[derive(Clone)]
pub struct Registry {
    database: Arc<Database>,
    generation: Arc<AtomicU64>,
    secrets_generation: Arc<AtomicU64>,
    limits: Arc<watch::Sender<()>>,
    audit: Arc<Waiting>,
}

impl Registry {
    /// Opens the registry in a data folder, and recovers it after a crash. Creates an empty one if there is none.
    ///
    /// # Errors
    /// [`RegistryError::Sqlite`], which names the file.
    pub fn open(dir: &Path) -> Result<Self, RegistryError> {
        let database = Database::open(dir, FILE, Durability::Power, &schema::migrations())?;
        Ok(Self {
            database: Arc::new(database),
            generation: Arc::default(),
            secrets_generation: Arc::default(),
            limits: Arc::default(),
            audit: Arc::default(),
        })
    }

    /// Opens this node's replica of a registry that nodes share, and keeps it up to date. Changes made on other nodes advance the
    /// generations too.
    ///
    /// # Errors
    /// [`RegistryError::Sqlite`], which names the file or the config key.
    pub fn open_shared(dir: &Path, shared: Shared) -> Result<Self, RegistryError> {
        let database = Database::open_shared(dir, COPY, schema::SHARED, shared)?;
        let registry = Self {
            database,
            generation: Arc::default(),
            secrets_generation: Arc::default(),
            limits: Arc::default(),
            audit: Arc::default(),
        };
        let (generation, secrets) = (registry.generation(), registry.secrets_generation());
        let limits = Arc::clone(&registry.limits);
        registry.database.on_applied(move |applied| {
            if applied.is_whole || applied.tables.iter().any(|table| !APART.contains(&table.as_str())) {
                generation.fetch_add(1, Ordering::Release);
            }
            if applied.is_whole || applied.tables.contains("secrets") {
                secrets.fetch_add(1, Ordering::Release);
            }
            if applied.is_whole || ["quotas", "rates"].iter().any(|table| applied.tables.contains(*table)) {
                limits.send_replace(());
            }
        });
        Ok(registry)
    }

    /// The generation. It advances (Release) after a change was committed and before it is acknowledged. A cache of anything
    /// read here loads it (Acquire) before the read, and drops the entry when it has advanced.
    #[must_use]
    pub fn generation(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.generation)
    }

    /// Tells of each change of what operators set for namespaces, quotas and rates, here or on another node.
    #[must_use]
    pub fn limits_changes(&self) -> watch::Receiver<()> {
        self.limits.subscribe()
    }

    fn limits_changed(&self) {
        self.limits.send_replace(());
    }

    /// Checkpoints the write-ahead log; see [`Database::checkpoint`].
    ///
    /// # Errors
    /// [`RegistryError::Sqlite`]
    pub fn checkpoint(&self) -> Result<(), RegistryError> {
        Ok(self.database.checkpoint()?)
    }

    /// Checks that the registry can be read.
    ///
    /// # Errors
    /// [`RegistryError::Sqlite`]
    pub fn check(&self) -> Result<(), RegistryError> {
        Ok(self.database.check()?)
    }

    /// Catches this node's replica up with the end of the registry's log. Later reads see every change that any node acknowledged
    /// before this call. A registry that is not shared is always up to date. Blocks for a few seconds at most.
    ///
    /// # Errors
    /// [`RegistryError::Sqlite`] if the end of the log cannot be reached.
    pub fn catch_up(&self) -> Result<(), RegistryError> {
        Ok(self.database.catch_up()?)
    }

    fn changed(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Adds the next version of a function, and drops the oldest ones where its settings keep only some. Numbers start at 1
    /// and are never reused, even after a deletion.
    ///
    /// # Errors
    /// [`RegistryError::NoNamespace`], [`RegistryError::NoVersionsLeft`], [`RegistryError::QuotaExceeded`], or a failure to
    /// store it.
    pub fn deploy(&self, new: NewVersion) -> Result<Added, RegistryError> {
        let id = new_id();
        let updated_at_ms = now_ms();
        let env =
            serde_json::to_string(&new.settings.env).map_err(|_| RegistryError::Damaged("environment"))?;
        let cors = new.settings.web.cors.as_deref().map(serde_json::to_string).transpose();
        let cors = cors.map_err(|_| RegistryError::Damaged("cors"))?;
        let origin = serde_json::to_string(&new.origin).map_err(|_| RegistryError::Damaged("origin"))?;
        let name = (&new.namespace, &new.name);
        let (version, created_at_ms, dropped, gone_triggers, use_now) = self.change(|t| {
            let live_before = in_use::resolve(t, name.0, name.1, &Which::Live)?;
            let last_dropped = quotas::check_deploy(t, &Deploying::of(&new, &env))?;
            let (version, created_at_ms) = t
                .prepare_cached(schema::NEXT_VERSION)?
                .query_row(params![new.namespace.as_str(), new.name.as_str(), updated_at_ms], |row| {
                    Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
                })?;
            let version =
                u32::try_from(version).map_err(|_| RegistryError::NoVersionsLeft(new.name.to_string()))?;
            is_about(&format!("{}@{version}", name.1));
            let texts = Texts { id: &id, env: &env, cors: cors.as_deref(), origin: &origin };
            insert_version(t, &new, &texts, version, updated_at_ms)?;
            if let Some(alias) = &new.alias {
                in_use::name_new_version(t, name, alias, version, live_before)?;
            }
            let dropped = drop_up_to(t, &new, last_dropped)?;
            let gone_triggers = match &new.triggers {
                Some(wanted) => triggers::replace_those_of_file(t, &new.namespace, &new.name, wanted)?,
                None => Vec::new(),
            };
            let use_now = in_use::now(t, name.0, name.1)?;
            Ok::<_, RegistryError>((version, created_at_ms, dropped, gone_triggers, use_now))
        })?;
        self.changed();
        let function = Arc::new(FunctionVersion {
            id,
            namespace: new.namespace,
            name: new.name,
            version,
            wasm_hash: new.wasm_hash,
            wasm_cid: new.wasm_cid,
            memory_limit_mb: new.settings.memory_limit_mb,
            timeout_seconds: new.settings.timeout_seconds,
            is_public: new.settings.is_public,
            retry_count: new.settings.retry_count,
            retry_delay_seconds: new.settings.retry_delay_seconds,
            env: new.settings.env,
            start: new.settings.start,
            concurrency: new.settings.concurrency,
            keep_versions: new.settings.keep_versions,
            web: new.settings.web,
            is_enabled: use_now.is_enabled,
            created_at_ms,
            updated_at_ms,
        });
        let (live, is_spread) = (use_now.live.unwrap_or(version), use_now.is_spread);
        Ok(Added { function, dropped: each_once(dropped), gone_triggers, live, is_spread })
    }

    /// Returns one version of a function, the newest if `version` is `None`.
    ///
    /// # Errors
    /// [`RegistryError::Sqlite`], or [`RegistryError::Damaged`].
    pub fn function(
        &self,
        namespace: &Namespace,
        name: &FunctionName,
        version: Option<u32>,
    ) -> Result<Option<Arc<FunctionVersion>>, RegistryError> {
        self.database.read(|c| {
            c.prepare_cached(schema::FUNCTION)?
                .query_row(params![namespace.as_str(), name.as_str(), version], stored)
                .optional()?
                .map(Stored::check)
                .transpose()
        })
    }

    /// Lists the live version of each function of a namespace, sorted by name: at most `limit` after the name `after`.
    /// Environments are left empty.
    ///
    /// # Errors
    /// As [`Self::function`].
    pub fn functions(
        &self,
        namespace: &Namespace,
        after: &str,
        limit: u32,
    ) -> Result<Vec<Arc<FunctionVersion>>, RegistryError> {
        self.database.read(|c| {
            let mut statement = c.prepare_cached(schema::FUNCTIONS)?;
            let rows = statement.query_map(params![namespace.as_str(), after, limit], stored)?;
            rows.map(|row| row?.check()).collect()
        })
    }

    /// Lists the versions of a function, newest first: at most `limit` older than `before`. Empty if there is no such function.
    /// Environments are left empty.
    ///
    /// # Errors
    /// As [`Self::function`].
    pub fn versions(
        &self,
        namespace: &Namespace,
        name: &FunctionName,
        before: Option<u32>,
        limit: u32,
    ) -> Result<Vec<Arc<FunctionVersion>>, RegistryError> {
        self.database.read(|c| {
            let mut statement = c.prepare_cached(schema::VERSIONS)?;
            let rows =
                statement.query_map(params![namespace.as_str(), name.as_str(), before, limit], stored)?;
            rows.map(|row| row?.check()).collect()
        })
    }

    /// Deletes one version, or all of them. Deleting the last version deletes the triggers too.
    ///
    /// # Errors
    /// [`RegistryError::VersionInUse`], [`RegistryError::Sqlite`]
    pub fn delete(
        &self,
        namespace: &Namespace,
        name: &FunctionName,
        version: Option<u32>,
    ) -> Result<Deleted, RegistryError> {
        let (modules, whole) = self.change(|t| {
            let is_last = version.is_some() && in_use::is_only(t, namespace, name)?;
            if let Some(version) = version.filter(|_| !is_last) {
                in_use::must_be_unused(t, namespace, name, version)?;
            }
            let mut statement = t.prepare_cached(schema::DELETE)?;
            let rows =
                statement.query_map(params![namespace.as_str(), name.as_str(), version], module_ref)?;
            let modules = rows.collect::<rusqlite::Result<Vec<_>>>()?;
            let whole = !modules.is_empty() && !triggers::function_exists(t, namespace, name)?;
            if whole {
                triggers::delete_all_of(t, namespace, name)?;
                in_use::forget(t, namespace, name)?;
            }
            Ok::<_, RegistryError>((modules, whole))
        })?;
        let versions = modules.len();
        if versions > 0 {
            self.changed();
        }
        Ok(Deleted { versions, modules: each_once(modules), whole })
    }
}

/// What of a new version is stored as text.
struct Texts<'a> {
    id: &'a str,
    env: &'a str,
    cors: Option<&'a str>,
    origin: &'a str,
}

fn insert_version(
    t: &Transaction<'_>,
    new: &NewVersion,
    texts: &Texts<'_>,
    version: u32,
    deployed_at_ms: i64,
) -> rusqlite::Result<()> {
    t.prepare_cached(schema::INSERT_VERSION)?.execute(params![
        texts.id,
        new.namespace.as_str(),
        new.name.as_str(),
        version,
        new.wasm_hash.as_bytes(),
        new.wasm_cid,
        new.settings.memory_limit_mb,
        new.settings.timeout_seconds,
        new.settings.is_public,
        new.settings.retry_count,
        new.settings.retry_delay_seconds,
        texts.env,
        deployed_at_ms,
        new.settings.start.as_str(),
        i64::try_from(new.wasm_bytes).unwrap_or(i64::MAX),
        texts.env.len() as i64,
        new.settings.concurrency,
        new.settings.keep_versions,
        new.settings.web.is_internal,
        texts.cors,
        new.settings.web.max_body_mb,
        texts.origin,
    ])?;
    Ok(())
}

#[cfg(test)]
mod tests;
