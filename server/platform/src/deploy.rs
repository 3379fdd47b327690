//! Use case: deploy a new version of a function.

use crate::Platform;
use crate::audit::{self, blocking};
use crate::clean::clean;
use crate::disk::DiskFull;
use crate::migrations::{self, MigrateError, Migration};
use crate::modules::{PrepareError, Prepared};
use crate::quotas::Usage;
use crate::registry::quotas::Deploying;
use crate::registry::{Added, ModuleRef, NewVersion, Origin, RegistryError, Source, VersionSettings, Which};
use crate::storage::confirm;
use bytes::Bytes;
use orama_runtime::function::{FunctionVersion, WasmHash};
use orama_runtime::names::{AliasName, FunctionName, Namespace};
use orama_store::blob::{BlobError, cid};
use orama_store::blocking::TaskFailed;
use orama_store::replica::ReplicaError;
use std::sync::Arc;
use tokio::sync::AcquireError;
use tracing::Instrument;

/// A version to deploy. Its fields were checked.
pub struct NewFunction {
    /// The tenant.
    pub namespace: Namespace,
    /// The function's name.
    pub name: FunctionName,
    /// The module.
    pub wasm: Bytes,
    /// The settings that its author chose.
    pub settings: VersionSettings,
    /// The triggers of the function's file; `None` leaves those that it has.
    pub triggers: Option<Vec<Source>>,
    /// An alias that is to stand for the version; see [`NewVersion::alias`].
    pub alias: Option<AliasName>,
    /// Where it comes from.
    pub origin: Origin,
    /// Migrations of the namespace's database that must have run before the version is there. They are ordered.
    pub migrations: Vec<Migration>,
}

/// A version that was deployed.
pub struct Deployed {
    /// The version.
    pub function: Arc<FunctionVersion>,
    /// The version that the function's name stands for now.
    pub live: u32,
    /// Whether calls of the function's name are spread by weight.
    pub is_spread: bool,
    /// Whether the node compiled the module now; `false` if it had the code already.
    pub compiled: bool,
    /// The namespace's quotas that are nearly used up.
    pub near: Vec<Usage>,
}

/// Why nothing was deployed.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// The module cannot run, or cannot be compiled now.
    #[error(transparent)]
    Module(#[from] PrepareError),
    /// The blob store did not take the module.
    #[error("the module cannot be stored")]
    Store(#[from] BlobError),
    /// The registry did not take the version, or a quota does not allow it.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The node's disk has no room for the module.
    #[error(transparent)]
    Disk(#[from] DiskFull),
    /// A migration cannot be run.
    #[error(transparent)]
    Migrations(#[from] MigrateError),
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping(#[from] AcquireError),
    /// A task of the deploy ended early.
    #[error(transparent)]
    Task(#[from] TaskFailed),
}

/// Compiles the module, runs the migrations, stores the module, and then names it in the registry. The deploy continues when its
/// caller stops waiting.
///
/// A crash before the last step leaves at most a module that the registry does not name. The next start removes it.
///
/// # Errors
/// [`DeployError`].
pub async fn deploy(platform: Arc<Platform>, new: NewFunction) -> Result<Deployed, DeployError> {
    let work = audit::carried(audit::current(), run(platform, new));
    tokio::spawn(work.in_current_span()).await.map_err(TaskFailed::from)?
}

/// Holds the module from before the first step until after the last. So a concurrent delete of the last other function with this
/// module does not remove it.
async fn run(platform: Arc<Platform>, new: NewFunction) -> Result<Deployed, DeployError> {
    let checking = Arc::clone(&platform);
    let (new, wasm_cid, hold) = blocking(move || {
        has_room(&checking, &new)?;
        let cid = cid::of(&new.wasm);
        let hold = checking.blobs.holds().hold(&cid);
        Ok::<_, DeployError>((new, cid, hold))
    })
    .await?;
    let prepared =
        platform.modules.prepare(&new.namespace, new.wasm.clone(), new.settings.memory_limit_mb).await?;
    migrations::run(&platform.databases, &new.namespace, &new.migrations).await?;
    let storing = Arc::clone(&platform.storing).acquire_owned().await?;
    let keeping = Arc::clone(&platform);
    blocking(move || {
        let module = ModuleRef { wasm_hash: prepared.wasm_hash, wasm_cid };
        let deployed = store(&platform, new, &module, prepared);
        if deployed.is_ok() {
            confirm(&*platform.blobs, &module.wasm_cid);
            platform.modules.note_arrival(module.clone());
        }
        drop(hold);
        // A delete may have left the module alone because it was held, so this also follows a deploy that succeeded. If the
        // registry may name the module later, the reconciler's next repair decides.
        if !may_still_come(&deployed) {
            clean(&platform, &module);
        }
        drop(storing);
        deployed
    })
    .await
    .inspect(|deployed| keep_start(&keeping, deployed))
}

/// A version to be made from another one, with the same module. Its fields were checked.
pub struct Update {
    /// The settings.
    pub settings: VersionSettings,
    /// The triggers of the function's file; `None` leaves those that it has.
    pub triggers: Option<Vec<Source>>,
    /// An alias that is to stand for the version; see [`NewVersion::alias`].
    pub alias: Option<AliasName>,
    /// Where it comes from.
    pub origin: Origin,
}

/// Makes a new version of a function with the module of `before`.
///
/// # Errors
/// [`DeployError`].
pub async fn update(
    platform: Arc<Platform>,
    before: Arc<FunctionVersion>,
    update: Update,
) -> Result<Deployed, DeployError> {
    if update.settings.memory_limit_mb < before.memory_limit_mb {
        platform.modules.check_memory(&before, update.settings.memory_limit_mb).await?;
    }
    let storing = Arc::clone(&platform.storing).acquire_owned().await?;
    let keeping = Arc::clone(&platform);
    blocking(move || {
        // From here on, a delete of the last version with this module leaves it; one before is seen.
        let hold = platform.blobs.holds().hold(&before.wasm_cid);
        let FunctionVersion { namespace, name: function, version, .. } = &*before;
        if platform.registry.number_of(namespace, function, &Which::Number(*version))?.is_none() {
            return Err(RegistryError::NoVersion(function.to_string(), *version).into());
        }
        let Update { settings, triggers, alias, origin } = update;
        let deployed = name(
            &platform,
            NewVersion {
                namespace: before.namespace.clone(),
                name: before.name.clone(),
                wasm_hash: before.wasm_hash,
                wasm_cid: before.wasm_cid.clone(),
                wasm_bytes: 0,
                settings,
                triggers,
                alias,
                origin,
            },
            false,
        );
        if deployed.is_ok() {
            confirm(&*platform.blobs, &before.wasm_cid);
        }
        drop(hold);
        if !may_still_come(&deployed) {
            let module = ModuleRef { wasm_hash: before.wasm_hash, wasm_cid: before.wasm_cid.clone() };
            clean(&platform, &module);
        }
        drop(storing);
        deployed
    })
    .await
    .inspect(|deployed| keep_start(&keeping, deployed))
}

/// Makes the snapshot of a version's start. Nobody waits for it; until then, invocations begin at the program's start.
fn keep_start(platform: &Platform, deployed: &Deployed) {
    let (modules, function, notes) =
        (platform.modules.clone(), Arc::clone(&deployed.function), Arc::clone(&platform.start_notes));
    tokio::spawn(async move { modules.keep_start(function, notes).await });
}

/// Checks the disk and the namespace's quotas before the module is compiled in vain. Blocks.
fn has_room(platform: &Platform, new: &NewFunction) -> Result<(), DeployError> {
    platform.disk.check(new.wasm.len() as u64)?;
    let env_bytes: usize = new.settings.env.iter().map(|(name, value)| name.len() + value.len()).sum();
    Ok(platform.registry.check_deploy(&Deploying {
        namespace: &new.namespace,
        name: &new.name,
        wasm_hash: WasmHash::of(&new.wasm).as_bytes(),
        wasm_bytes: new.wasm.len() as u64,
        env_bytes: env_bytes as u64,
        keep_versions: new.settings.keep_versions,
    })?)
}

/// Stores the module and names it in the registry. Blocks.
fn store(
    platform: &Platform,
    new: NewFunction,
    module: &ModuleRef,
    prepared: Prepared,
) -> Result<Deployed, DeployError> {
    platform.blobs.put_as(&module.wasm_cid, &new.wasm)?;
    let version = NewVersion {
        namespace: new.namespace,
        name: new.name,
        wasm_hash: module.wasm_hash,
        wasm_cid: module.wasm_cid.clone(),
        wasm_bytes: new.wasm.len() as u64,
        settings: new.settings,
        triggers: new.triggers,
        alias: new.alias,
        origin: new.origin,
    };
    name(platform, version, prepared.compiled)
}

/// Names a version in the registry, and removes what only the dropped versions used. Blocks.
fn name(platform: &Platform, version: NewVersion, compiled: bool) -> Result<Deployed, DeployError> {
    let added = platform.registry.deploy(version)?;
    for id in &added.gone_triggers {
        // They are deleted all the same, and their waiting jobs still run.
        if let Err(error) = platform.events.remove_trigger(&added.function.namespace, id) {
            tracing::error!(%error, trigger_id = id, "the waiting jobs of a deleted trigger could not be removed");
        }
    }
    for module in &added.dropped {
        clean(platform, module);
    }
    let near = near(platform, &added.function.namespace);
    let Added { function, live, is_spread, .. } = added;
    Ok(Deployed { function, live, is_spread, compiled, near })
}

/// The quotas that are nearly used up. A failure is logged: the version is deployed already.
fn near(platform: &Platform, namespace: &Namespace) -> Vec<Usage> {
    match platform.usage(namespace) {
        Ok(usage) => usage.into_iter().filter(Usage::is_near).collect(),
        Err(error) => {
            tracing::warn!(%error, %namespace, "a namespace's use of its quotas could not be read");
            Vec::new()
        }
    }
}

/// Whether the registry may name the module later, although the deploy failed.
fn may_still_come(deployed: &Result<Deployed, DeployError>) -> bool {
    match deployed {
        Err(DeployError::Registry(error)) => matches!(error.unavailable(), Some(ReplicaError::Unknown(_))),
        _ => false,
    }
}
