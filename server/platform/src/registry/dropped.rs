//! Versions that go away when a newer one comes, and the modules that deletes name.

use super::{ModuleRef, NewVersion, RegistryError, schema};
use orama_runtime::function::WasmHash;
use rusqlite::{Row, Transaction, params};
use std::collections::HashSet;

/// Takes the versions up to `last` of a function away; returns their modules.
pub(super) fn drop_up_to(
    t: &Transaction<'_>,
    new: &NewVersion,
    last: Option<u32>,
) -> Result<Vec<ModuleRef>, RegistryError> {
    let Some(last) = last else { return Ok(Vec::new()) };
    let mut statement = t.prepare_cached(schema::DELETE_UP_TO)?;
    let rows = statement.query_map(params![new.namespace.as_str(), new.name.as_str(), last], module_ref)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Reads the columns `wasm_hash` and `wasm_cid`.
pub(super) fn module_ref(row: &Row<'_>) -> rusqlite::Result<ModuleRef> {
    Ok(ModuleRef { wasm_hash: WasmHash::from_bytes(row.get(0)?), wasm_cid: row.get(1)? })
}

/// Each module once.
pub(super) fn each_once(modules: Vec<ModuleRef>) -> Vec<ModuleRef> {
    let mut seen = HashSet::new();
    modules.into_iter().filter(|module| seen.insert(module.clone())).collect()
}
