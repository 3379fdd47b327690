//! The rows of secrets. Values are encrypted before they arrive here, and this file has no key to decrypt them.

use super::{Registry, RegistryError, namespace_exists, now_ms};
use crate::limits::SECRETS_MAX;
use orama_runtime::names::{Namespace, SecretName};
use rusqlite::{OptionalExtension, Row, params};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of AES-GCM's nonce.
pub(crate) const NONCE_BYTES: usize = 12;

/// An encrypted value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sealed {
    /// Which key encrypted it.
    pub(crate) key_id: String,
    pub(crate) nonce: [u8; NONCE_BYTES],
    /// The ciphertext, with the tag at its end.
    pub(crate) ciphertext: Vec<u8>,
}

/// The columns of a row besides namespace and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredSecret {
    /// Incremented with each new value.
    pub(crate) version: i64,
    pub(crate) sealed: Sealed,
}

/// The position of a scan over all secrets: namespace and name of the last row.
#[derive(Debug, Clone, Default)]
pub(crate) struct Walk {
    namespace: String,
    name: String,
}

impl Registry {
    /// The generation of secrets, like [`Self::generation`]. It is separate, so that a new secret does not make cached functions
    /// and keys stale.
    #[must_use]
    pub fn secrets_generation(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.secrets_generation)
    }

    /// Advances the generation of secrets: after one was changed, or deleted with its namespace.
    pub(super) fn secrets_changed(&self) {
        self.secrets_generation.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn secret(
        &self,
        namespace: &Namespace,
        name: &SecretName,
    ) -> Result<Option<StoredSecret>, RegistryError> {
        self.database.read(|c| {
            let row = c
                .prepare_cached(
                    "SELECT version, key_id, nonce, ciphertext FROM secrets WHERE namespace = ?1 AND name = ?2",
                )?
                .query_row([namespace.as_str(), name.as_str()], |row| stored(row, 0))
                .optional()?;
            Ok(row)
        })
    }

    /// Lists the names of a namespace's secrets, sorted.
    pub(crate) fn secret_names(&self, namespace: &Namespace) -> Result<Vec<String>, RegistryError> {
        self.database.read(|c| {
            let mut statement =
                c.prepare_cached("SELECT name FROM secrets WHERE namespace = ?1 ORDER BY name")?;
            let names = statement.query_map([namespace.as_str()], |row| row.get(0))?;
            Ok(names.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// Adds a secret or replaces its value. `seal` encrypts for the given version inside the transaction, so the keys that it
    /// sees are at least as new as the rows.
    ///
    /// # Errors
    /// [`RegistryError::NoNamespace`], [`RegistryError::TooManySecrets`], what `seal` returns, or a failure to store it.
    pub(crate) fn set_secret(
        &self,
        namespace: &Namespace,
        name: &SecretName,
        mut seal: impl FnMut(i64) -> Result<Sealed, RegistryError>,
    ) -> Result<(), RegistryError> {
        self.change(|t| {
            if !namespace_exists(t, namespace)? {
                return Err(RegistryError::NoNamespace(namespace.to_string()));
            }
            let replaced: Option<i64> = t
                .prepare_cached("SELECT version FROM secrets WHERE namespace = ?1 AND name = ?2")?
                .query_row([namespace.as_str(), name.as_str()], |row| row.get(0))
                .optional()?;
            if replaced.is_none() {
                let count: u32 = t
                    .prepare_cached("SELECT count(*) FROM secrets WHERE namespace = ?1")?
                    .query_row([namespace.as_str()], |row| row.get(0))?;
                if count >= SECRETS_MAX {
                    return Err(RegistryError::TooManySecrets(namespace.to_string()));
                }
            }
            let version = replaced.unwrap_or(0) + 1;
            let Sealed { key_id, nonce, ciphertext } = seal(version)?;
            t.prepare_cached(
                "INSERT OR REPLACE INTO secrets (namespace, name, version, key_id, nonce, ciphertext, updated_at_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                namespace.as_str(),
                name.as_str(),
                version,
                key_id,
                nonce,
                ciphertext,
                now_ms()
            ])?;
            Ok(())
        })?;
        self.secrets_changed();
        Ok(())
    }

    /// Deletes a secret. Returns `false` if there is none.
    pub(crate) fn delete_secret(
        &self,
        namespace: &Namespace,
        name: &SecretName,
    ) -> Result<bool, RegistryError> {
        let rows = self.change(|t| {
            let delete = "DELETE FROM secrets WHERE namespace = ?1 AND name = ?2";
            Ok::<_, RegistryError>(t.execute(delete, [namespace.as_str(), name.as_str()])?)
        })?;
        if rows > 0 {
            self.secrets_changed();
        }
        Ok(rows > 0)
    }

    /// The ids of the master keys in use, each with its number of secrets.
    pub(crate) fn secret_key_ids(&self) -> Result<Vec<(String, u32)>, RegistryError> {
        self.database.read(|c| {
            let mut statement =
                c.prepare("SELECT key_id, count(*) FROM secrets GROUP BY key_id ORDER BY key_id")?;
            let ids = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(ids.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// Re-encrypts the next secrets, at most `limit`, that are encrypted with another key than `key_id`, in one transaction.
    /// `reseal` returns `None` for a row that it cannot decrypt; such a row stays as it is. Versions and
    /// [`Self::secrets_generation`] do not change, because no value changes. Returns the number of rows read; 0 means the end.
    pub(crate) fn reseal_secrets(
        &self,
        walk: &mut Walk,
        limit: u32,
        key_id: &str,
        mut reseal: impl FnMut(&str, &str, &StoredSecret) -> Result<Option<Sealed>, RegistryError>,
    ) -> Result<usize, RegistryError> {
        let (count, last) = self.database.write(|t| {
            let rows: Vec<(String, String, StoredSecret)> = t
                .prepare_cached(
                    "SELECT namespace, name, version, key_id, nonce, ciphertext FROM secrets
                     WHERE key_id <> ?1 AND (namespace, name) > (?2, ?3) ORDER BY namespace, name LIMIT ?4",
                )?
                .query_map(params![key_id, walk.namespace, walk.name, limit], |row| {
                    Ok((row.get(0)?, row.get(1)?, stored(row, 2)?))
                })?
                .collect::<rusqlite::Result<_>>()?;
            for (namespace, name, row) in &rows {
                if let Some(Sealed { key_id, nonce, ciphertext }) = reseal(namespace, name, row)? {
                    t.prepare_cached(
                        "UPDATE secrets SET key_id = ?3, nonce = ?4, ciphertext = ?5
                         WHERE namespace = ?1 AND name = ?2",
                    )?
                    .execute(params![namespace, name, key_id, nonce, ciphertext])?;
                }
            }
            let count = rows.len();
            let last = rows.into_iter().next_back().map(|(namespace, name, _)| Walk { namespace, name });
            Ok::<_, RegistryError>((count, last))
        })?;
        if let Some(last) = last {
            *walk = last;
        }
        Ok(count)
    }
}

/// Reads version, key id, nonce and ciphertext from the columns that start at `first`.
fn stored(row: &Row<'_>, first: usize) -> rusqlite::Result<StoredSecret> {
    Ok(StoredSecret {
        version: row.get(first)?,
        sealed: Sealed {
            key_id: row.get(first + 1)?,
            nonce: row.get(first + 2)?,
            ciphertext: row.get(first + 3)?,
        },
    })
}
