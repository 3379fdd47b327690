//! Namespaces: creates, lists and deletes them. A deletion has two steps, so that a new namespace of the same name finds no data
//! even after a crash.

use super::{ModuleRef, Registry, RegistryError, now_ms};
use orama_runtime::function::WasmHash;
use orama_runtime::names::Namespace;
use rusqlite::{Connection, OptionalExtension, params};

/// An entry of the list of namespaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceEntry {
    /// Its name.
    pub name: Namespace,
    /// Creation, in milliseconds since the Unix epoch.
    pub created_at_ms: i64,
}

impl Registry {
    /// Creates a namespace. Returns `None` if it exists.
    ///
    /// # Errors
    /// [`RegistryError::BeingDeleted`], or a failure to store it.
    pub fn create_namespace(&self, namespace: &Namespace) -> Result<Option<NamespaceEntry>, RegistryError> {
        let created_at_ms = now_ms();
        let made = self.change(|t| {
            let deleted = t
                .prepare_cached("SELECT deleted_at_ms IS NOT NULL FROM namespaces WHERE name = ?1")?
                .query_row([namespace.as_str()], |row| row.get(0))
                .optional()?;
            match deleted {
                Some(true) => return Err(RegistryError::BeingDeleted(namespace.to_string())),
                Some(false) => return Ok(false),
                None => {}
            }
            t.prepare_cached("INSERT INTO namespaces (name, created_at_ms) VALUES (?1, ?2)")?
                .execute(params![namespace.as_str(), created_at_ms])?;
            Ok(true)
        })?;
        if !made {
            return Ok(None);
        }
        self.changed();
        Ok(Some(NamespaceEntry { name: namespace.clone(), created_at_ms }))
    }

    /// Whether a namespace exists. One that is being deleted does not.
    ///
    /// # Errors
    /// [`RegistryError::Sqlite`]
    pub fn namespace_exists(&self, namespace: &Namespace) -> Result<bool, RegistryError> {
        self.database.read(|c| namespace_exists(c, namespace)).map_err(Into::into)
    }

    /// Lists namespaces sorted by name: at most `limit` after the name `after`.
    ///
    /// # Errors
    /// [`RegistryError::Sqlite`], or [`RegistryError::Damaged`].
    pub fn namespaces(&self, after: &str, limit: u32) -> Result<Vec<NamespaceEntry>, RegistryError> {
        self.database.read(|c| {
            let mut statement = c.prepare_cached(
                "SELECT name, created_at_ms FROM namespaces WHERE deleted_at_ms IS NULL AND name > ?1
                 ORDER BY name LIMIT ?2",
            )?;
            let rows = statement
                .query_map(params![after, limit], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))?;
            rows.map(|row| {
                let (name, created_at_ms) = row?;
                Ok(NamespaceEntry { name: name_of(&name)?, created_at_ms })
            })
            .collect()
        })
    }

    /// The first step of a deletion: deletes keys, functions, triggers and secrets. The name remains taken until
    /// [`Self::finish_namespace_deletion`]. Returns the modules of its functions, or `None` if there is no such namespace.
    ///
    /// # Errors
    /// [`RegistryError::Sqlite`]
    pub fn begin_namespace_deletion(
        &self,
        namespace: &Namespace,
    ) -> Result<Option<Vec<ModuleRef>>, RegistryError> {
        let modules = self.change(|t| {
            let marked = t
                .prepare_cached(
                    "UPDATE namespaces SET deleted_at_ms = ?2 WHERE name = ?1 AND deleted_at_ms IS NULL",
                )?
                .execute(params![namespace.as_str(), now_ms()])?;
            if marked == 0 {
                return Ok(None);
            }
            let modules = t
                .prepare_cached(
                    "SELECT DISTINCT wasm_hash, wasm_cid FROM function_versions WHERE namespace = ?1",
                )?
                .query_map([namespace.as_str()], |row| {
                    Ok(ModuleRef { wasm_hash: WasmHash::from_bytes(row.get(0)?), wasm_cid: row.get(1)? })
                })?
                .collect::<rusqlite::Result<Vec<_>>>()?;
            for delete in [
                "DELETE FROM api_keys WHERE namespace = ?1",
                "DELETE FROM functions WHERE namespace = ?1",
                "DELETE FROM secrets WHERE namespace = ?1",
            ] {
                t.prepare_cached(delete)?.execute([namespace.as_str()])?;
            }
            Ok::<_, RegistryError>(Some(modules))
        })?;
        if modules.is_some() {
            self.changed();
            self.secrets_changed();
        }
        Ok(modules)
    }

    /// The last step of a deletion: frees the name. Called after all data of the namespace are removed.
    ///
    /// # Errors
    /// [`RegistryError::Sqlite`]
    pub fn finish_namespace_deletion(&self, namespace: &Namespace) -> Result<(), RegistryError> {
        self.database.write(|t| {
            t.prepare_cached("DELETE FROM namespaces WHERE name = ?1 AND deleted_at_ms IS NOT NULL")?
                .execute([namespace.as_str()])?;
            Ok::<_, RegistryError>(())
        })?;
        self.changed();
        self.limits_changed();
        Ok(())
    }

    /// Namespaces whose deletion is unfinished.
    ///
    /// # Errors
    /// [`RegistryError::Sqlite`], or [`RegistryError::Damaged`].
    pub fn namespaces_being_deleted(&self) -> Result<Vec<Namespace>, RegistryError> {
        self.database.read(|c| {
            let mut statement =
                c.prepare_cached("SELECT name FROM namespaces WHERE deleted_at_ms IS NOT NULL")?;
            let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
            rows.map(|row| name_of(&row?)).collect()
        })
    }
}

pub(super) fn name_of(stored: &str) -> Result<Namespace, RegistryError> {
    Namespace::new(stored).map_err(|_| RegistryError::Damaged("namespace"))
}

pub(super) fn namespace_exists(c: &Connection, namespace: &Namespace) -> rusqlite::Result<bool> {
    c.prepare_cached("SELECT EXISTS (SELECT 1 FROM namespaces WHERE name = ?1 AND deleted_at_ms IS NULL)")?
        .query_row([namespace.as_str()], |row| row.get(0))
}
