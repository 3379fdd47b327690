//! Which modules and objects the registry names.

use super::{ModuleRef, Registry, RegistryError};
use orama_runtime::function::WasmHash;
use orama_runtime::names::{FunctionName, Namespace};
use std::collections::{HashMap, HashSet};

impl Registry {
    /// Whether any version uses the module with this content id.
    ///
    /// # Errors
    /// [`RegistryError::Sqlite`]
    pub fn is_wasm_referenced(&self, wasm_cid: &str) -> Result<bool, RegistryError> {
        let found = self.database.read(|c| {
            c.prepare_cached("SELECT EXISTS (SELECT 1 FROM function_versions WHERE wasm_cid = ?1)")?
                .query_row([wasm_cid], |row| row.get(0))
        });
        found.map_err(RegistryError::from)
    }

    /// Whether a module or an object refers to a blob, considering every change that any node acknowledged before this call.
    ///
    /// # Errors
    /// [`RegistryError::Sqlite`]
    pub fn is_blob_named(&self, cid: &str) -> Result<bool, RegistryError> {
        // An empty write: it catches up with the other nodes first.
        self.database.write(|t| {
            let found = t
                .prepare_cached(
                    "SELECT EXISTS (SELECT 1 FROM function_versions WHERE wasm_cid = ?1)
                         OR EXISTS (SELECT 1 FROM stored_objects WHERE cid = ?1)",
                )?
                .query_row([cid], |row| row.get(0))?;
            Ok(found)
        })
    }

    /// Every module in use, with one version that uses it.
    ///
    /// # Errors
    /// [`RegistryError::Sqlite`], or [`RegistryError::Damaged`].
    pub fn modules_in_use(
        &self,
    ) -> Result<HashMap<ModuleRef, (Namespace, FunctionName, u32)>, RegistryError> {
        const DAMAGED: RegistryError = RegistryError::Damaged("function");
        self.database.read(|c| {
            let mut statement = c.prepare_cached(
                "SELECT wasm_hash, wasm_cid, namespace, name, max(version) FROM function_versions GROUP BY wasm_cid",
            )?;
            let rows = statement.query_map([], |row| {
                let module = ModuleRef { wasm_hash: WasmHash::from_bytes(row.get(0)?), wasm_cid: row.get(1)? };
                Ok((module, row.get::<_, String>(2)?, row.get::<_, String>(3)?, row.get(4)?))
            })?;
            rows.map(|row| {
                let (module, namespace, name, version) = row?;
                let namespace = Namespace::new(&namespace).map_err(|_| DAMAGED)?;
                Ok((module, (namespace, FunctionName::new(&name).map_err(|_| DAMAGED)?, version)))
            })
            .collect()
        })
    }

    /// The content ids of all stored objects.
    ///
    /// # Errors
    /// [`RegistryError::Sqlite`]
    pub(crate) fn objects_in_use(&self) -> Result<HashSet<String>, RegistryError> {
        self.database.read(|c| {
            let mut statement = c.prepare("SELECT DISTINCT cid FROM stored_objects")?;
            let rows = statement.query_map([], |row| row.get(0))?;
            rows.map(|row| row.map_err(RegistryError::from)).collect()
        })
    }

    /// The content ids of all modules in use.
    ///
    /// # Errors
    /// [`RegistryError::Sqlite`]
    pub fn wasm_cids_in_use(&self) -> Result<HashSet<String>, RegistryError> {
        self.database.read(|c| {
            let mut statement = c.prepare("SELECT DISTINCT wasm_cid FROM function_versions")?;
            let rows = statement.query_map([], |row| row.get(0))?;
            rows.map(|row| row.map_err(RegistryError::from)).collect()
        })
    }
}
