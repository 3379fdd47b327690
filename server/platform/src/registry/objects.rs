//! Objects: which namespace stored which content id, and may therefore read it. The bytes are in a blob store.

use super::quotas;
use super::{Registry, RegistryError, namespace_exists, now_ms};
use crate::quotas::Quota;
use orama_runtime::names::Namespace;
use orama_store::sqlite::SqliteError;
use rusqlite::{Connection, params};

/// Why an object was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("the namespace has {count} stored objects and may have {limit} (quota `objects`)")]
    TooMany { count: u64, limit: u64 },
    #[error(
        "the namespace's stored objects have {used_bytes} bytes; with this one they would have more than {limit} (quota `object_bytes`)"
    )]
    TooLarge { used_bytes: u64, limit: u64 },
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl From<SqliteError> for StoreError {
    fn from(error: SqliteError) -> Self {
        Self::Registry(error.into())
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Registry(error.into())
    }
}

impl Registry {
    /// Checks that [`Self::store_object`] would accept an object. Called before its bytes are written.
    pub(crate) fn check_object(&self, namespace: &Namespace, cid: &str, size: u64) -> Result<(), StoreError> {
        self.database.read(|c| has_room(c, namespace, cid, size).map(drop))
    }

    /// Records that a namespace stored an object, whose bytes are durable already. Idempotent.
    pub(crate) fn store_object(&self, namespace: &Namespace, cid: &str, size: u64) -> Result<(), StoreError> {
        self.database.write(|t| {
            if has_room(t, namespace, cid, size)? {
                t.prepare_cached(
                    "INSERT INTO stored_objects (namespace, cid, size_bytes, created_at_ms) VALUES (?1, ?2, ?3, ?4)",
                )?
                .execute(params![namespace.as_str(), cid, i64::try_from(size).unwrap_or(i64::MAX), now_ms()])?;
            }
            Ok(())
        })
    }

    /// Adds rows of many small objects in one transaction, without their bytes.
    #[cfg(test)]
    pub(crate) fn fill_objects(&self, namespace: &Namespace, count: u64) {
        let filled: Result<(), StoreError> = self.database.write(|t| {
            for cid in 0..count {
                t.prepare_cached("INSERT INTO stored_objects VALUES (?1, ?2, 1, 0)")?
                    .execute(params![namespace.as_str(), cid.to_string()])?;
            }
            Ok(())
        });
        filled.unwrap();
    }

    /// Whether a namespace stored an object.
    pub(crate) fn has_object(&self, namespace: &Namespace, cid: &str) -> Result<bool, RegistryError> {
        self.database.read(|c| Ok(has_object(c, namespace, cid)?))
    }

    /// Whether any namespace stored an object.
    pub(crate) fn is_object_referenced(&self, cid: &str) -> Result<bool, RegistryError> {
        self.database.read(|c| {
            let found = c
                .prepare_cached("SELECT EXISTS (SELECT 1 FROM stored_objects WHERE cid = ?1)")?
                .query_row([cid], |row| row.get(0))?;
            Ok(found)
        })
    }

    /// Removes all objects of a namespace and returns their content ids.
    pub(crate) fn remove_objects(&self, namespace: &Namespace) -> Result<Vec<String>, RegistryError> {
        self.database.write(|t| {
            let mut statement =
                t.prepare_cached("DELETE FROM stored_objects WHERE namespace = ?1 RETURNING cid")?;
            let cids = statement.query_map([namespace.as_str()], |row| row.get(0))?;
            Ok(cids.collect::<rusqlite::Result<_>>()?)
        })
    }
}

/// Whether an object is new; an error if it would exceed a quota.
fn has_room(c: &Connection, namespace: &Namespace, cid: &str, size: u64) -> Result<bool, StoreError> {
    if !namespace_exists(c, namespace)? {
        return Err(RegistryError::NoNamespace(namespace.to_string()).into());
    }
    if has_object(c, namespace, cid)? {
        return Ok(false);
    }
    let (count, used): (i64, i64) = c
        .prepare_cached(
            "SELECT count(*), coalesce(sum(size_bytes), 0) FROM stored_objects WHERE namespace = ?1",
        )?
        .query_row([namespace.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?;
    // Neither is ever negative.
    let (count, used_bytes) = (count.unsigned_abs(), used.unsigned_abs());
    let limit = |quota| quotas::limit(c, namespace, quota);
    let (objects, bytes) = (limit(Quota::Objects)?, limit(Quota::ObjectBytes)?);
    if count >= objects {
        return Err(StoreError::TooMany { count, limit: objects });
    }
    if used_bytes.saturating_add(size) > bytes {
        return Err(StoreError::TooLarge { used_bytes, limit: bytes });
    }
    Ok(true)
}

fn has_object(c: &Connection, namespace: &Namespace, cid: &str) -> rusqlite::Result<bool> {
    c.prepare_cached("SELECT EXISTS (SELECT 1 FROM stored_objects WHERE namespace = ?1 AND cid = ?2)")?
        .query_row([namespace.as_str(), cid], |row| row.get(0))
}
