//! Converts a stored row into a function version.

use super::RegistryError;
use orama_runtime::function::{FunctionVersion, WasmHash};
use orama_runtime::names::{FunctionName, Namespace};
use orama_runtime::web::WebSettings;
use rusqlite::Row;
use std::sync::Arc;

/// A stored row whose texts are not checked yet.
pub(super) struct Stored {
    namespace: String,
    name: String,
    env: String,
    start: String,
    cors: Option<String>,
    rest: FunctionVersionRest,
}

/// Columns that need no check.
struct FunctionVersionRest {
    id: String,
    version: u32,
    wasm_hash: [u8; 32],
    wasm_cid: String,
    memory_limit_mb: u32,
    timeout_seconds: u32,
    is_public: bool,
    retry_count: u32,
    retry_delay_seconds: u32,
    concurrency: u32,
    keep_versions: u32,
    is_internal: bool,
    max_body_mb: u32,
    is_enabled: bool,
    created_at_ms: i64,
    updated_at_ms: i64,
}

/// Reads the columns that the statements of [`super::schema`] select.
pub(super) fn stored(row: &Row<'_>) -> rusqlite::Result<Stored> {
    Ok(Stored {
        namespace: row.get(1)?,
        name: row.get(2)?,
        env: row.get(13)?,
        start: row.get(16)?,
        cors: row.get(18)?,
        rest: FunctionVersionRest {
            id: row.get(0)?,
            version: row.get(3)?,
            wasm_hash: row.get(4)?,
            wasm_cid: row.get(5)?,
            memory_limit_mb: row.get(6)?,
            timeout_seconds: row.get(7)?,
            is_public: row.get(8)?,
            concurrency: row.get(9)?,
            is_internal: row.get(10)?,
            retry_count: row.get(11)?,
            retry_delay_seconds: row.get(12)?,
            keep_versions: row.get(17)?,
            max_body_mb: row.get(19)?,
            is_enabled: row.get(20)?,
            updated_at_ms: row.get(14)?,
            created_at_ms: row.get(15)?,
        },
    })
}

impl Stored {
    /// Checks what the schema does not guarantee.
    pub(super) fn check(self) -> Result<Arc<FunctionVersion>, RegistryError> {
        const DAMAGED: RegistryError = RegistryError::Damaged("function");
        let Self { namespace, name, env, start, cors, rest } = self;
        let cors =
            cors.map(|cors| serde_json::from_str(&cors).map(Arc::new)).transpose().map_err(|_| DAMAGED)?;
        Ok(Arc::new(FunctionVersion {
            id: rest.id,
            namespace: Namespace::new(&namespace).map_err(|_| DAMAGED)?,
            name: FunctionName::new(&name).map_err(|_| DAMAGED)?,
            version: rest.version,
            wasm_hash: WasmHash::from_bytes(rest.wasm_hash),
            wasm_cid: rest.wasm_cid,
            memory_limit_mb: rest.memory_limit_mb,
            timeout_seconds: rest.timeout_seconds,
            is_public: rest.is_public,
            retry_count: rest.retry_count,
            retry_delay_seconds: rest.retry_delay_seconds,
            env: serde_json::from_str(&env).map_err(|_| DAMAGED)?,
            start: start.parse().map_err(|_| DAMAGED)?,
            concurrency: rest.concurrency,
            keep_versions: rest.keep_versions,
            web: WebSettings { is_internal: rest.is_internal, cors, max_body_mb: rest.max_body_mb },
            is_enabled: rest.is_enabled,
            created_at_ms: rest.created_at_ms,
            updated_at_ms: rest.updated_at_ms,
        }))
    }
}
