//! API keys: creates, looks up, lists and deletes them. Only the hash of a key is stored.

use super::namespaces::{name_of, namespace_exists};
use super::{Registry, RegistryError, now_ms};
use crate::audit;
use crate::auth::{ApiKey, Role, key_hash};
use crate::limits::KEYS_MAX;
use orama_runtime::names::{FunctionName, Namespace};
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
    /// What it is called.
    pub name: Option<String>,
    /// From when on it is refused, in milliseconds since the Unix epoch.
    pub expires_at_ms: Option<i64>,
    /// The functions that it is for; `None` for all.
    pub functions: Option<Arc<[FunctionName]>>,
    /// About when it was last used, in milliseconds since the Unix epoch; see [`crate::limits::KEY_USE_NOTED_EVERY`].
    pub last_used_ms: Option<i64>,
}

/// A key to be created. Its fields were checked.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// The namespace that it belongs to.
    pub namespace: Namespace,
    /// Its role.
    pub role: Role,
    /// What it is called.
    pub name: Option<String>,
    /// From when on it is refused, in milliseconds since the Unix epoch.
    pub expires_at_ms: Option<i64>,
    /// The functions that it is for; `None` for all.
    pub functions: Option<Vec<FunctionName>>,
}

impl NewKey {
    const fn of_role(namespace: Namespace, role: Role) -> Self {
        Self { namespace, role, name: None, expires_at_ms: None, functions: None }
    }
}

/// The columns that [`stored`] reads.
const SELECT: &str =
    "SELECT k.id, k.namespace, k.role, k.created_at_ms, k.name, k.expires_at_ms, k.functions, u.last_used_ms
    FROM api_keys k LEFT JOIN key_uses u ON u.key_id = k.id ";

/// A stored row whose texts are not checked yet.
struct Stored {
    id: String,
    namespace: String,
    role: String,
    created_at_ms: i64,
    name: Option<String>,
    expires_at_ms: Option<i64>,
    functions: Option<String>,
    last_used_ms: Option<i64>,
}

fn stored(row: &Row<'_>) -> rusqlite::Result<Stored> {
    Ok(Stored {
        id: row.get(0)?,
        namespace: row.get(1)?,
        role: row.get(2)?,
        created_at_ms: row.get(3)?,
        name: row.get(4)?,
        expires_at_ms: row.get(5)?,
        functions: row.get(6)?,
        last_used_ms: row.get(7)?,
    })
}

fn entry(stored: Stored) -> Result<KeyEntry, RegistryError> {
    const DAMAGED: RegistryError = RegistryError::Damaged("key");
    let functions = stored.functions.map(|functions| serde_json::from_str::<Vec<FunctionName>>(&functions));
    Ok(KeyEntry {
        id: stored.id,
        namespace: name_of(&stored.namespace)?,
        role: Role::parse(&stored.role).ok_or(DAMAGED)?,
        created_at_ms: stored.created_at_ms,
        name: stored.name,
        expires_at_ms: stored.expires_at_ms,
        functions: functions.transpose().map_err(|_| DAMAGED)?.map(Arc::from),
        last_used_ms: stored.last_used_ms,
    })
}

impl Registry {
    /// Creates an API key that holds for ever, for all functions. Returns its id and its text, which is not stored.
    ///
    /// # Errors
    /// As [`Self::create_key_as`].
    pub fn create_key(&self, namespace: &Namespace, role: Role) -> Result<(String, ApiKey), RegistryError> {
        self.create_key_as(&NewKey::of_role(namespace.clone(), role))
    }

    /// Creates an API key. Returns its id and its text, which is not stored.
    ///
    /// # Errors
    /// [`RegistryError::NoNamespace`], [`RegistryError::TooManyKeys`], or a failure to store it.
    pub fn create_key_as(&self, new: &NewKey) -> Result<(String, ApiKey), RegistryError> {
        let NewKey { namespace, role, name, expires_at_ms, functions } = new;
        let key = ApiKey::generate()?;
        let id = new_id();
        audit::is_about(&format!("{id} {}", role.as_str()));
        let functions = functions.as_ref().map(serde_json::to_string).transpose();
        let functions = functions.map_err(|_| RegistryError::Damaged("key"))?;
        self.change(|t| {
            if !namespace_exists(t, namespace)? {
                return Err(RegistryError::NoNamespace(namespace.to_string()));
            }
            let keys: u32 = t
                .prepare_cached("SELECT count(*) FROM api_keys WHERE namespace = ?1")?
                .query_row([namespace.as_str()], |row| row.get(0))?;
            // A node's start creates the operator's keys. The limit must not lock an operator out.
            if keys >= KEYS_MAX && *role != Role::Operator {
                return Err(RegistryError::TooManyKeys(namespace.to_string()));
            }
            t.prepare_cached(
                "INSERT INTO api_keys (id, key_hash, namespace, role, created_at_ms, name, expires_at_ms, functions)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .execute(params![
                id,
                key_hash(key.reveal()),
                namespace.as_str(),
                role.as_str(),
                now_ms(),
                name,
                expires_at_ms,
                functions,
            ])?;
            Ok(())
        })?;
        self.changed();
        Ok((id, key))
    }

    /// Looks a key up by its hash; see [`key_hash`].
    ///
    /// # Errors
    /// [`RegistryError::Sqlite`], or [`RegistryError::Damaged`].
    pub fn key_of_hash(&self, key_hash: &[u8; 32]) -> Result<Option<KeyEntry>, RegistryError> {
        let found = self.database.read(|c| {
            c.prepare_cached(&format!("{SELECT} WHERE k.key_hash = ?1"))?
                .query_row([key_hash], stored)
                .optional()
        })?;
        found.map(entry).transpose()
    }

    /// Notes when keys were last used. Does not move [`Self::generation`].
    ///
    /// # Errors
    /// [`RegistryError::Sqlite`]
    pub fn note_key_uses(&self, uses: &[(String, i64)]) -> Result<(), RegistryError> {
        self.database.write(|t| {
            for (key_id, used_ms) in uses {
                // It may have been deleted meanwhile.
                t.prepare_cached(
                    "INSERT INTO key_uses (key_id, last_used_ms) SELECT id, ?2 FROM api_keys WHERE id = ?1
                     ON CONFLICT (key_id) DO UPDATE SET last_used_ms = max(last_used_ms, excluded.last_used_ms)",
                )?
                .execute(params![key_id, used_ms])?;
            }
            Ok(())
        })
    }

    /// Lists the keys of a namespace, oldest first.
    ///
    /// # Errors
    /// [`RegistryError::Sqlite`], or [`RegistryError::Damaged`].
    pub fn keys(&self, namespace: &Namespace) -> Result<Vec<KeyEntry>, RegistryError> {
        self.database.read(|c| {
            let mut statement =
                c.prepare_cached(&format!("{SELECT} WHERE k.namespace = ?1 ORDER BY k.created_at_ms, k.id"))?;
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
            c.prepare_cached(&format!("{SELECT} WHERE k.id = ?1"))?.query_row([id], stored).optional()
        })?;
        found.map(entry).transpose()
    }

    /// Deletes a key. Requests that begin after this returns are refused with it. Returns `false` if there is no such key.
    ///
    /// # Errors
    /// [`RegistryError::Sqlite`]
    pub fn delete_key(&self, id: &str) -> Result<bool, RegistryError> {
        let rows = self.change(|t| Ok(t.execute("DELETE FROM api_keys WHERE id = ?1", [id])?))?;
        if rows > 0 {
            self.changed();
        }
        Ok(rows > 0)
    }
}
