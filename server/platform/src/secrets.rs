//! Secrets of namespaces: encrypted in the registry, in plain text only in memory.
//!
//! AES-256-GCM with a random nonce; namespace, name and version are authenticated. The master key comes from `ORAMA_SECRETS_KEY`
//! or from a file. A node that has neither creates a file on its first start. Every row names the key that encrypted it, so keys
//! can be rotated while the node serves.

use crate::limits::SECRETS_RESEALED_AT_ONCE;
use crate::registry::secrets::Walk;
use crate::registry::{Registry, RegistryError};
use crate::settings::Places;
use key_file::KeyFile;
use keys::{MasterKey, Place};
use orama_runtime::names::{Namespace, SecretName};
use orama_runtime::services::SecretValue;
use orama_store::causes::Problem;
use parking_lot::{Mutex, RwLock};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

mod core;
mod crash;
mod key_file;
mod keys;

pub use self::core::CoreSecrets;
pub use crash::forbid_core_dumps;
pub use keys::MasterKeys;

/// The environment variable that holds master keys, separated by commas.
pub const KEY_VARIABLE: &str = "ORAMA_SECRETS_KEY";

/// The name of the key file that a node creates in its data folder.
const KEY_FILE: &str = "secrets.key";

/// What is wrong with a key file that is named and not there.
const NO_FILE: &str = "the configured file does not exist; `openssl rand -hex 32` generates a key";

/// The pause between two transactions of a rotation, in which other writers run.
const ROTATION_PAUSE: Duration = Duration::from_millis(1);

/// Attempts of a read that meets a change of keys. A third attempt would need a rotation that ends within one lookup.
const READ_ATTEMPTS: usize = 4;

/// Maximum secrets named in one message.
const NAMES_SHOWN: usize = 10;

/// Why secrets cannot be used, or why a rotation failed.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// The key file cannot be read, or has no valid keys.
    #[error("master key of the secrets: {}: {problem}", path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, without its content.
        #[source]
        problem: Problem,
    },
    /// Stored secrets need a key that this node lacks.
    #[error("{source_name} lacks the master key of stored secrets ({count}); {missing}. {help}")]
    KeyMissing {
        /// The file or variable.
        source_name: String,
        /// How many secrets need it.
        count: u32,
        /// The missing keys' ids.
        missing: String,
        /// What the operator can do.
        help: &'static str,
    },
    /// The registry failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Another rotation is running.
    #[error("a rotation of the master key is already running; try again when it has finished")]
    Rotating,
    /// Some values do not decrypt. The old keys are kept.
    #[error(
        "damaged secrets ({count}) could not be encrypted with the new key: {names}; set or delete them, then try again"
    )]
    Damaged {
        /// How many.
        count: usize,
        /// The first ones, as namespace/name.
        names: String,
    },
}

/// The source of the master keys.
#[derive(Debug, Clone)]
enum Source {
    /// [`KEY_VARIABLE`].
    Variable,
    /// This node's own file, which a rotation writes.
    File(PathBuf),
    /// A file that the operator distributes to all nodes of a cluster and may change while they serve. Nodes only read it.
    Shared(PathBuf),
}

impl Source {
    fn name(&self) -> String {
        match self {
            Self::Variable => format!("environment variable {KEY_VARIABLE}"),
            Self::File(path) | Self::Shared(path) => path.display().to_string(),
        }
    }
}

/// The result of a rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// The id of the key that now encrypts all secrets.
    pub key_id: String,
    /// Number of secrets that were re-encrypted.
    pub reencrypted: u64,
    /// Ids of keys that can be removed from [`KEY_VARIABLE`]. Empty where a file is used.
    pub unneeded: Vec<String>,
}

/// The secrets of all namespaces.
pub struct SecretStore {
    registry: Registry,
    generation: Arc<AtomicU64>,
    keys: RwLock<Arc<MasterKeys>>,
    source: Source,
    /// Locked by a rotation. The value says whether one is unfinished.
    rotation: Mutex<bool>,
}

impl SecretStore {
    /// Reads the master keys. Creates one if no key is configured and no secret is stored.
    ///
    /// # Errors
    /// If the keys cannot be read, or a stored secret needs another key.
    pub fn open(registry: &Registry, places: &Places, data: &Path) -> Result<Self, SecretsError> {
        let needed = registry.secret_key_ids()?;
        let (source, keys, rotating) = find_keys(places, data, needed.is_empty())?;
        let missing: Vec<_> = needed
            .iter()
            .filter(|(id, _)| keys.as_ref().is_none_or(|keys| keys.find(id).is_none()))
            .collect();
        let keys = match keys {
            Some(keys) if missing.is_empty() => keys,
            keys => {
                return Err(SecretsError::KeyMissing {
                    source_name: source.name(),
                    count: missing.iter().map(|(_, count)| count).sum(),
                    missing: missing_words(&missing, keys.as_ref()),
                    help: match source {
                        Source::Variable => "Add the missing keys after the first one, separated by commas",
                        Source::File(_) | Source::Shared(_) => {
                            "Restore the file from a backup, or add the missing keys to it, one per line"
                        }
                    },
                });
            }
        };
        Ok(Self {
            registry: registry.clone(),
            generation: registry.secrets_generation(),
            keys: RwLock::new(Arc::new(keys)),
            source,
            rotation: Mutex::new(rotating),
        })
    }

    /// Whether a rotation creates a new key, instead of using the first one that the operator configured.
    pub fn makes_keys(&self) -> bool {
        matches!(self.source, Source::File(_))
    }

    /// Whether the operator may change the keys while the node runs.
    pub fn keys_may_change(&self) -> bool {
        matches!(self.source, Source::Shared(_))
    }

    fn keys(&self) -> Arc<MasterKeys> {
        Arc::clone(&self.keys.read())
    }

    fn replace_keys(&self, keys: MasterKeys) {
        *self.keys.write() = Arc::new(keys);
    }

    /// Reads a secret. Blocks.
    ///
    /// # Errors
    /// [`RegistryError::DamagedSecret`], or a failure of the registry.
    pub fn get(
        &self,
        namespace: &Namespace,
        name: &SecretName,
    ) -> Result<Option<SecretValue>, RegistryError> {
        let damaged = || RegistryError::DamagedSecret(namespace.to_string(), name.to_string());
        let mut missing = None;
        for _ in 0..READ_ATTEMPTS {
            let keys = self.keys();
            let Some(stored) = self.registry.secret(namespace, name)? else { return Ok(None) };
            // A rotation may have added a key after `keys` was read.
            if let Some(key) = keys.find(&stored.sealed.key_id) {
                let value = key.open(namespace.as_str(), name.as_str(), stored);
                return value.map(Some).ok_or_else(damaged);
            }
            if missing.is_none() {
                // Another node may have read a new key from the shared file earlier.
                self.reload().unwrap_or_else(
                    |error| tracing::warn!(%error, "the master keys could not be read again"),
                );
            }
            missing = Some(stored.sealed.key_id);
        }
        Err(match missing {
            Some(key_id) => RegistryError::SecretKeyMissing(namespace.to_string(), name.to_string(), key_id),
            None => damaged(),
        })
    }

    /// Adds a secret or replaces its value. Blocks; durable when it returns.
    ///
    /// # Errors
    /// As [`Registry::set_secret`].
    pub fn set(&self, namespace: &Namespace, name: &SecretName, value: &str) -> Result<(), RegistryError> {
        self.registry.set_secret(namespace, name, |version| {
            // Read inside the transaction: when a rotation has begun to rewrite rows, no row is written with an old key.
            let place = Place { namespace: namespace.as_str(), name: name.as_str(), version };
            Ok(self.keys().current().seal(place, value)?)
        })
    }

    /// Deletes a secret. Returns `false` if there is none. Blocks; durable when it returns.
    ///
    /// # Errors
    /// A failure of the registry.
    pub fn delete(&self, namespace: &Namespace, name: &SecretName) -> Result<bool, RegistryError> {
        self.registry.delete_secret(namespace, name)
    }

    /// Lists the names of a namespace's secrets, sorted. Blocks.
    ///
    /// # Errors
    /// A failure of the registry.
    pub fn names(&self, namespace: &Namespace) -> Result<Vec<String>, RegistryError> {
        self.registry.secret_names(namespace)
    }

    /// Re-encrypts all secrets with a new key, or with the first one of [`KEY_VARIABLE`], while the node serves. Blocks.
    ///
    /// The new key is in the file before it encrypts the first secret. Old keys leave the file when no secret needs them. After a
    /// crash, the file therefore opens every secret and says that a rotation is unfinished. A rotation that failed is continued
    /// with the key that it created.
    ///
    /// # Errors
    /// [`SecretsError`]. All secrets remain readable.
    pub fn rotate(&self) -> Result<Rotation, SecretsError> {
        let mut unfinished = self.rotation.try_lock().ok_or(SecretsError::Rotating)?;
        self.reload()?;
        if let Source::File(path) = &self.source
            && !*unfinished
        {
            let keys = self.keys();
            let on_disk = key_file::read(path)
                .map_err(|problem| SecretsError::KeyFile { path: path.clone(), problem })?;
            if on_disk.is_some_and(|file| file.keys != *keys) {
                let problem =
                    "the file was changed after the node had started; restart the node first".into();
                return Err(SecretsError::KeyFile { path: path.clone(), problem });
            }
            let new = MasterKey::generate().map_err(RegistryError::from)?;
            let file = KeyFile { keys: keys.with_first(new), rotating: true };
            write_keys(path, &file)?;
            *unfinished = true;
            self.replace_keys(file.keys);
        }
        self.finish(&mut unfinished)
    }

    /// Reads a shared key file again, so that all nodes have a new key before one of them encrypts with it. Blocks.
    ///
    /// # Errors
    /// If the file is not valid or lacks a key in use. The node continues with its previous keys.
    pub fn reload(&self) -> Result<(), SecretsError> {
        let Source::Shared(path) = &self.source else { return Ok(()) };
        let failed = |problem| SecretsError::KeyFile { path: path.clone(), problem };
        let file = key_file::read(path).map_err(failed)?;
        let keys = file.ok_or_else(|| failed("the file does not exist any more".into()))?.keys;
        if keys == *self.keys() {
            return Ok(());
        }
        let lacks = |id: &String| keys.find(id).is_none() && self.keys().find(id).is_some();
        if let Some((id, _)) = self.registry.secret_key_ids()?.into_iter().find(|(id, _)| lacks(id)) {
            let problem = format!(
                "it lacks the key {id}, which stored secrets need; the node continues with its previous keys"
            );
            return Err(failed(problem.into()));
        }
        tracing::info!(
            key_id = keys.current().id(),
            "the master key file was changed, and its keys are in use"
        );
        self.replace_keys(keys);
        Ok(())
    }

    /// Finishes a rotation that was interrupted by the end of the process. Blocks. A failure is logged: all secrets remain
    /// readable, and the next start or rotation tries again.
    pub fn finish_rotation_at_start(&self) {
        let mut unfinished = self.rotation.lock();
        if !*unfinished {
            return;
        }
        match self.finish(&mut unfinished) {
            Ok(rotation) => tracing::info!(
                key_id = rotation.key_id,
                reencrypted = rotation.reencrypted,
                "finished an interrupted rotation of the master key"
            ),
            Err(error) => {
                tracing::warn!(%error, "an interrupted rotation of the master key could not be finished; the next start tries again")
            }
        }
    }

    fn finish(&self, unfinished: &mut bool) -> Result<Rotation, SecretsError> {
        let keys = self.keys();
        let reencrypted = self.reencrypt(&keys)?;
        let unneeded = match &self.source {
            Source::Variable | Source::Shared(_) => {
                keys.others().iter().map(|key| key.id().to_owned()).collect()
            }
            Source::File(path) => {
                let file = KeyFile { keys: MasterKeys::only(keys.current().clone()), rotating: false };
                write_keys(path, &file)?;
                *unfinished = false;
                self.replace_keys(file.keys);
                Vec::new()
            }
        };
        Ok(Rotation { key_id: keys.current().id().to_owned(), reencrypted, unneeded })
    }

    /// Re-encrypts with the current key every secret that another key encrypted. Afterwards no secret needs another key.
    fn reencrypt(&self, keys: &MasterKeys) -> Result<u64, SecretsError> {
        let current = keys.current();
        let mut damaged = Vec::new();
        let (mut walk, mut looked_at) = (Walk::default(), 0);
        loop {
            let rows = self.registry.reseal_secrets(
                &mut walk,
                SECRETS_RESEALED_AT_ONCE,
                current.id(),
                |namespace, name, stored| {
                    let place = Place { namespace, name, version: stored.version };
                    let key = keys.find(&stored.sealed.key_id);
                    match key.and_then(|key| key.open(namespace, name, stored.clone())) {
                        Some(value) => Ok(Some(current.seal(place, value.reveal())?)),
                        None => {
                            damaged.push(format!("{namespace}/{name}"));
                            Ok(None)
                        }
                    }
                },
            )?;
            if rows == 0 {
                break;
            }
            looked_at += rows;
            std::thread::sleep(ROTATION_PAUSE);
        }
        if damaged.is_empty() {
            return Ok(looked_at as u64);
        }
        // A transaction that runs again finds the same rows.
        damaged.sort_unstable();
        damaged.dedup();
        let count = damaged.len();
        damaged.truncate(NAMES_SHOWN);
        Err(SecretsError::Damaged { count, names: damaged.join(", ") })
    }
}

/// Reads the key file of a node without using it: the one that it names, or its own where there is one.
///
/// # Errors
/// [`SecretsError::KeyFile`], which names the file.
pub fn check_key_file(places: &Places) -> Result<(), SecretsError> {
    let own = places.data().join(KEY_FILE);
    let path = places.secrets_key_file.as_ref().unwrap_or(&own);
    let failed = |problem| SecretsError::KeyFile { path: path.clone(), problem };
    match key_file::read(path).map_err(failed)? {
        None if places.secrets_key_file.is_some() => Err(failed(NO_FILE.into())),
        _ => Ok(()),
    }
}

type Found = (Source, Option<MasterKeys>, bool);

/// The keys, their source, and whether a rotation is unfinished. The keys are `None` if the node's own file is missing.
fn find_keys(places: &Places, data: &Path, may_make: bool) -> Result<Found, SecretsError> {
    if let Some(keys) = &places.secrets_keys {
        return Ok((Source::Variable, Some(keys.clone()), false));
    }
    let own = data.join(KEY_FILE);
    let path = places.secrets_key_file.as_ref().unwrap_or(&own);
    let failed = |problem| SecretsError::KeyFile { path: path.clone(), problem };
    if let Some(KeyFile { keys, rotating }) = key_file::read(path).map_err(failed)? {
        // Resolved, so that replacing the file keeps a symbolic link.
        let file = path.canonicalize().map_err(|error| failed(Problem::of(error)))?;
        key_file::warn_of_readers(&file);
        if places.secrets_key_file.is_some() && places.backends.platform.is_some() {
            return Ok((Source::Shared(file), Some(keys), false));
        }
        return Ok((Source::File(file), Some(keys), rotating));
    }
    if places.secrets_key_file.is_some() {
        // A mistyped path must not silently create another key.
        return Err(failed(NO_FILE.into()));
    }
    if !may_make {
        return Ok((Source::File(own), None, false));
    }
    let keys = MasterKeys::only(MasterKey::generate().map_err(RegistryError::from)?);
    let file = KeyFile { keys, rotating: false };
    write_keys(&own, &file)?;
    Ok((Source::File(own), Some(file.keys), false))
}

fn missing_words(missing: &[&(String, u32)], keys: Option<&MasterKeys>) -> String {
    let ids = |ids: Vec<&str>| ids.join(", ");
    let missing = ids(missing.iter().map(|(id, _)| id.as_str()).collect());
    match keys {
        Some(keys) => {
            let found = ids(keys.all().map(MasterKey::id).collect());
            format!("missing key id: {missing}; key ids found: {found}")
        }
        None => format!("missing key id: {missing}; the file does not exist"),
    }
}

fn write_keys(path: &Path, file: &KeyFile) -> Result<(), SecretsError> {
    key_file::write(path, file)
        .map_err(|error| SecretsError::KeyFile { path: path.to_owned(), problem: Problem::of(error) })
}

#[cfg(test)]
mod tests;
