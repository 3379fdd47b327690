//! The namespaces' secrets: encrypted where they are stored, in plain only in memory.
//!
//! AES-256-GCM with a random nonce, bound to namespace, name and version. The master key comes from `ORAMA_SECRETS_KEY`, or from
//! a file; a node that is given neither makes its own file on its first start. Every row says which key encrypted it, so
//! that keys can be exchanged while the node serves.

use crate::limits::SECRETS_RESEALED_AT_ONCE;
use crate::registry::secrets::Walk;
use crate::registry::{Registry, RegistryError};
use crate::settings::Places;
use key_file::KeyFile;
use keys::{MasterKey, Place};
use orama_runtime::names::{Namespace, SecretName};
use orama_runtime::services::SecretValue;
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

/// The variable that holds master keys, with commas between them.
pub const KEY_VARIABLE: &str = "ORAMA_SECRETS_KEY";

/// The name of the key file that a node makes in its data folder.
const KEY_FILE: &str = "secrets.key";

/// Pause of a rotation between its transactions, in which others get to write.
const ROTATION_PAUSE: Duration = Duration::from_millis(1);

/// How often a read that met a change of keys is tried; a second change right behind the first would take a rotation
/// that ends within a look-up.
const READ_ATTEMPTS: usize = 4;

/// Secrets named in one message.
const NAMES_SHOWN: usize = 10;

/// Why the secrets cannot be used, or a rotation failed.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// The key file cannot be read, or does not hold keys.
    #[error("master key of the secrets: {}: {problem}", path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, without its content.
        problem: String,
    },
    /// Secrets are stored that no key here can read.
    #[error("{source_name} lacks the master key of stored secrets ({count}); {missing}. {help}")]
    KeyMissing {
        /// The file or variable.
        source_name: String,
        /// How many secrets.
        count: u32,
        /// The missing keys' ids.
        missing: String,
        /// What can be done.
        help: &'static str,
    },
    /// The registry failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Another rotation is under way.
    #[error("the master key is being exchanged already")]
    Rotating,
    /// Values that do not decrypt. The old keys stay.
    #[error(
        "damaged secrets ({count}) could not be encrypted with the new key: {names}; set or delete them, then try again"
    )]
    Damaged {
        /// How many.
        count: usize,
        /// The first of them, as namespace/name.
        names: String,
    },
}

/// Where the master keys come from.
#[derive(Debug, Clone)]
enum Source {
    /// [`KEY_VARIABLE`].
    Variable,
    /// A file of this node's own, which a rotation writes.
    File(PathBuf),
    /// A file that the operator copies to every node that shares the secrets, and may change while they serve. Nodes only read
    /// it.
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

/// What a rotation did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// The key that encrypts everything now.
    pub key_id: String,
    /// Secrets that were encrypted anew.
    pub reencrypted: u64,
    /// Keys of [`KEY_VARIABLE`] that can be taken out of it; none where a file is used, as it holds only the new key.
    pub unneeded: Vec<String>,
}

/// The secrets of all namespaces.
pub struct SecretStore {
    registry: Registry,
    generation: Arc<AtomicU64>,
    keys: RwLock<Arc<MasterKeys>>,
    source: Source,
    /// Held by a rotation; whether one has begun and not ended.
    rotation: Mutex<bool>,
}

impl SecretStore {
    /// Finds the master keys, or makes one where nothing is encrypted yet and none is named.
    ///
    /// # Errors
    /// When the keys cannot be read, or do not open everything that is stored.
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
                        Source::Variable => {
                            "Add the missing keys behind the first, with a comma between them"
                        }
                        Source::File(_) | Source::Shared(_) => {
                            "Restore the file from a backup, or add the missing keys to it, one a line"
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

    /// Whether a rotation makes a new key, and does not just use the one that the operator gave first.
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

    /// A secret's value now. Blocks.
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
            // A rotation between the two lines above may have brought a key that they do not have.
            if let Some(key) = keys.find(&stored.sealed.key_id) {
                let value = key.open(namespace.as_str(), name.as_str(), stored);
                return value.map(Some).ok_or_else(damaged);
            }
            if missing.is_none() {
                // Another node may have been faster to see a new key.
                self.reload()
                    .unwrap_or_else(|error| tracing::warn!(%error, "the secrets' keys could not be read"));
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
            // Asked for inside the transaction: once a rotation has begun to rewrite rows, none is written with an old key.
            let place = Place { namespace: namespace.as_str(), name: name.as_str(), version };
            Ok(self.keys().current().seal(place, value)?)
        })
    }

    /// Deletes a secret; `false` when there was none. Blocks; durable when it returns.
    ///
    /// # Errors
    /// A failure of the registry.
    pub fn delete(&self, namespace: &Namespace, name: &SecretName) -> Result<bool, RegistryError> {
        self.registry.delete_secret(namespace, name)
    }

    /// The names of a namespace's secrets, sorted. Blocks.
    ///
    /// # Errors
    /// A failure of the registry.
    pub fn names(&self, namespace: &Namespace) -> Result<Vec<String>, RegistryError> {
        self.registry.secret_names(namespace)
    }

    /// Encrypts everything with a new key, or with the first of [`KEY_VARIABLE`], while others read and write. Blocks.
    ///
    /// The new key is in the file before anything is encrypted with it, and the old ones leave the file when nothing
    /// needs them any more. So a crash at any point leaves a file that opens everything, and says that a rotation is to
    /// be finished. One that failed is gone on with, with the key it had made.
    ///
    /// # Errors
    /// [`SecretsError`]. Everything can be read as before.
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
                let problem = "it was changed since the node started; start the node again first".to_owned();
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

    /// Takes the keys that a shared file holds now, so that all nodes have a new key before one of them encrypts with it.
    /// Blocks.
    ///
    /// # Errors
    /// When the file does not hold what it must; the keys stay as they were.
    pub fn reload(&self) -> Result<(), SecretsError> {
        let Source::Shared(path) = &self.source else { return Ok(()) };
        let failed = |problem| SecretsError::KeyFile { path: path.clone(), problem };
        let file = key_file::read(path).map_err(failed)?;
        let keys = file.ok_or_else(|| failed("there is no such file any more".to_owned()))?.keys;
        if keys == *self.keys() {
            return Ok(());
        }
        let lacks = |id: &String| keys.find(id).is_none() && self.keys().find(id).is_some();
        if let Some((id, _)) = self.registry.secret_key_ids()?.into_iter().find(|(id, _)| lacks(id)) {
            return Err(failed(format!(
                "it lacks the key {id}, which stored secrets need; the keys of before are used on"
            )));
        }
        tracing::info!(key_id = keys.current().id(), "the file with the secrets' keys was changed");
        self.replace_keys(keys);
        Ok(())
    }

    /// Ends a rotation that an earlier run of the node began and did not end. Blocks. A failure is logged: everything
    /// can be read all the same, and the next start or rotation tries again.
    pub fn finish_rotation_at_start(&self) {
        let mut unfinished = self.rotation.lock();
        if !*unfinished {
            return;
        }
        match self.finish(&mut unfinished) {
            Ok(rotation) => tracing::info!(
                key_id = rotation.key_id,
                reencrypted = rotation.reencrypted,
                "finished the exchange of the secrets' key"
            ),
            Err(error) => tracing::warn!(%error, "the exchange of the secrets' key is still to be finished"),
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

    /// Encrypts with the current key whatever another one encrypted. When it succeeds, nothing needs another one.
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
        // A step that ran again found the same.
        damaged.sort_unstable();
        damaged.dedup();
        let count = damaged.len();
        damaged.truncate(NAMES_SHOWN);
        Err(SecretsError::Damaged { count, names: damaged.join(", ") })
    }
}

type Found = (Source, Option<MasterKeys>, bool);

/// The keys and where they are from; `None` where the node's own file is missing and must not be made anew. And whether
/// a rotation is under way.
fn find_keys(places: &Places, data: &Path, may_make: bool) -> Result<Found, SecretsError> {
    if let Some(keys) = &places.secrets_keys {
        return Ok((Source::Variable, Some(keys.clone()), false));
    }
    let own = data.join(KEY_FILE);
    let path = places.secrets_key_file.as_ref().unwrap_or(&own);
    let failed = |problem| SecretsError::KeyFile { path: path.clone(), problem };
    if let Some(KeyFile { keys, rotating }) = key_file::read(path).map_err(failed)? {
        // A link stays one when the file is replaced.
        let file = path.canonicalize().map_err(|error| failed(error.to_string()))?;
        key_file::warn_of_readers(&file);
        if places.secrets_key_file.is_some() && places.backends.platform.is_some() {
            return Ok((Source::Shared(file), Some(keys), false));
        }
        return Ok((Source::File(file), Some(keys), rotating));
    }
    if places.secrets_key_file.is_some() {
        // A mistyped path must not quietly become another key.
        return Err(failed(
            "there is no such file, and the config names it; `openssl rand -hex 32` makes a key".to_owned(),
        ));
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
            format!("missing: key id {missing}; there: {found}")
        }
        None => format!("missing: key id {missing}; there is no such file"),
    }
}

fn write_keys(path: &Path, file: &KeyFile) -> Result<(), SecretsError> {
    key_file::write(path, file)
        .map_err(|error| SecretsError::KeyFile { path: path.to_owned(), problem: error.to_string() })
}

#[cfg(test)]
mod tests;
