//! API keys: creates, looks up, lists and deletes them. Only the hash of a key is stored.

use super::namespaces::{name_of, namespace_exists};
use super::{Registry, RegistryError, now_ms};
use crate::auth::{ApiKey, Credential, Role, key_hash};
use crate::limits::KEYS_MAX;
use orama_runtime::names::Namespace;
use orama_store::ids::new_id;
use rusqlite::{OptionalExtension, Row, params};
use std::sync::Arc;

/// An entry of the list of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyEntry {
    /// The id, by which it can be deleted.
    pub id: String,
    /// The namespace that it belongs to.
    pub namespace: Namespace,
    /// Its role.
    pub role: Role,
    /// Creation, in milliseconds since the Unix epoch.
    pub created_at_ms: i64,
}

type Stored = (String, String, String, i64);

fn stored(row: &Row<'_>) -> rusqlite::Result<Stored> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
}

fn entry((id, namespace, role, created_at_ms): Stored) -> Result<KeyEntry, RegistryError> {
    let role = Role::parse(&role).ok_or(RegistryError::Damaged("key"))?;
    Ok(KeyEntry { id, namespace: name_of(&namespace)?, role, created_at_ms })
}

impl Registry {
    /// Creates an API key. Returns its id and its text, which is not stored.
    ///
    /// # Errors
    /// [`RegistryError::NoNamespace`], [`RegistryError::TooManyKeys`], or a failure to store it.
    pub fn create_key(&self, namespace: &Namespace, role: Role) -> Result<(String, ApiKey), RegistryError> {
        let key = ApiKey::generate()?;
        let id = new_id();
        self.database.write(|t| {
            if !namespace_exists(t, namespace)? {
                return Err(RegistryError::NoNamespace(namespace.to_string()));
            }
            let keys: u32 = t
                .prepare_cached("SELECT count(*) FROM api_keys WHERE namespace = ?1")?
                .query_row([namespace.as_str()], |row| row.get(0))?;
            // A node's start creates the operator's keys. The limit must not lock an operator out.
            if keys >= KEYS_MAX && role != Role::Operator {
                return Err(RegistryError::TooManyKeys(namespace.to_string()));
            }
            t.prepare_cached(
                "INSERT INTO api_keys (id, key_hash, namespace, role, created_at_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![id, key_hash(key.reveal()), namespace.as_str(), role.as_str(), now_ms()])?;
            Ok(())
        })?;
        self.changed();
        Ok((id, key))
    }

    /// Looks a key up by its hash; see [`key_hash`].
    ///
    /// # Errors
    /// [`RegistryError::Sqlite`], or [`RegistryError::Damaged`].
    pub fn credential(&self, key_hash: &[u8; 32]) -> Result<Option<Arc<Credential>>, RegistryError> {
        let found = self.database.read(|c| {
            c.prepare_cached("SELECT id, namespace, role, created_at_ms FROM api_keys WHERE key_hash = ?1")?
                .query_row([key_hash], stored)
                .optional()
        })?;
        let Some(KeyEntry { id, namespace, role, .. }) = found.map(entry).transpose()? else {
            return Ok(None);
        };
        Ok(Some(Arc::new(Credential { namespace, role, key_id: id, caller: None })))
    }

    /// Lists the keys of a namespace, oldest first.
    ///
    /// # Errors
    /// [`RegistryError::Sqlite`], or [`RegistryError::Damaged`].
    pub fn keys(&self, namespace: &Namespace) -> Result<Vec<KeyEntry>, RegistryError> {
        self.database.read(|c| {
            let mut statement = c.prepare_cached(
                "SELECT id, namespace, role, created_at_ms FROM api_keys WHERE namespace = ?1 ORDER BY created_at_ms, id",
            )?;
            let rows = statement.query_map([namespace.as_str()], stored)?;
            rows.map(|row| entry(row?)).collect()
        })
    }

    /// Looks a key up by its id.
    ///
    /// # Errors
    /// [`RegistryError::Sqlite`], or [`RegistryError::Damaged`].
    pub fn key(&self, id: &str) -> Result<Option<KeyEntry>, RegistryError> {
        let found = self.database.read(|c| {
            c.prepare_cached("SELECT id, namespace, role, created_at_ms FROM api_keys WHERE id = ?1")?
                .query_row([id], stored)
                .optional()
        })?;
        found.map(entry).transpose()
    }

    /// Deletes a key. Requests that begin after this returns are refused with it. Returns `false` if there is no such key.
    ///
    /// # Errors
    /// [`RegistryError::Sqlite`]
    pub fn delete_key(&self, id: &str) -> Result<bool, RegistryError> {
        let rows = self
            .database
            .write(|t| Ok::<_, RegistryError>(t.execute("DELETE FROM api_keys WHERE id = ?1", [id])?))?;
        if rows > 0 {
            self.changed();
        }
        Ok(rows > 0)
    }
}
