//! The schema migrations of the records file.

use super::store::{BLOCK_RECORDS_MAX, Message, insert, message, trigger_type};
use super::{Extras, Function, Record, RecordsError, RequestId, minutes};
use orama_runtime::invocation::Status;
use orama_runtime::names::{FunctionName, Namespace};
use orama_store::causes::Causes;
use rusqlite::Transaction;
use rusqlite_migration::{HookError, M, Migrations};
use std::sync::Arc;

/// All migrations in order. A released migration never changes; a new layout is a new migration.
pub(super) fn migrations() -> Migrations<'static> {
    let pack_all =
        |t: &Transaction<'_>| pack_rows(t).map_err(|error| HookError::Hook(Causes(&error).to_string()));
    Migrations::new(vec![
        M::up(FIRST),
        M::up(ATTEMPTS),
        M::up_with_hook(BLOCKS, pack_all),
        M::up(NO_ROWS),
        M::up(minutes::SCHEMA),
        M::up(BY_NAMESPACE),
    ])
}

const FIRST: &str = "
CREATE TABLE records (
    id INTEGER PRIMARY KEY,
    request_id TEXT NOT NULL,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    trigger_type TEXT NOT NULL,
    status TEXT NOT NULL,
    duration_us INTEGER NOT NULL,
    input_size INTEGER NOT NULL,
    output_size INTEGER NOT NULL,
    error TEXT,
    started_at_ms INTEGER NOT NULL,
    messages TEXT
) STRICT;

CREATE INDEX records_by_function ON records (namespace, name, started_at_ms);
CREATE INDEX records_by_age ON records (started_at_ms);
";

const ATTEMPTS: &str = "ALTER TABLE records ADD COLUMN attempt INTEGER NOT NULL DEFAULT 1;";

// `last_ms` is the start of the block's newest record. The index contains every column that trimming reads.
const BLOCKS: &str = "
CREATE TABLE blocks (
    id INTEGER PRIMARY KEY,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    last_ms INTEGER NOT NULL,
    records INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    data BLOB NOT NULL
) STRICT;

CREATE INDEX blocks_by_function ON blocks (namespace, name, last_ms, records, bytes);
CREATE INDEX blocks_by_age ON blocks (last_ms, bytes);
";

const NO_ROWS: &str = "DROP TABLE records;";

// For logs of all functions of a namespace.
const BY_NAMESPACE: &str = "CREATE INDEX blocks_by_namespace ON blocks (namespace, last_ms);";

const STATUSES: [Status; 3] = [Status::Success, Status::Error, Status::Timeout];

/// Packs the rows of the previous layout into blocks.
fn pack_rows(t: &Transaction<'_>) -> Result<(), RecordsError> {
    let mut statement = t.prepare(
        "SELECT request_id, namespace, name, version, trigger_type, status, duration_us, input_size, output_size,
            error, started_at_ms, messages, attempt
        FROM records ORDER BY namespace, name, started_at_ms, id",
    )?;
    let mut rows = statement.query([])?;
    let mut waiting: Vec<Record> = Vec::new();
    let mut last: Option<Arc<Function>> = None;
    while let Some(row) = rows.next()? {
        let (namespace, name): (String, String) = (row.get(1)?, row.get(2)?);
        let function = match &last {
            Some(last) if last.namespace.as_str() == namespace && last.name.as_str() == name => {
                Arc::clone(last)
            }
            _ => Arc::new(Function {
                namespace: Namespace::new(&namespace).map_err(|_| RecordsError::Damaged)?,
                name: FunctionName::new(&name).map_err(|_| RecordsError::Damaged)?,
            }),
        };
        let is_other = last.as_ref().is_some_and(|last| !Arc::ptr_eq(last, &function));
        if is_other || waiting.len() >= BLOCK_RECORDS_MAX {
            insert(t, &std::mem::take(&mut waiting))?;
        }
        let (word, status): (String, String) = (row.get(4)?, row.get(5)?);
        let messages: Vec<Message<String>> = match row.get::<_, Option<String>>(11)? {
            None => Vec::new(),
            Some(json) => serde_json::from_str(&json).map_err(|_| RecordsError::Damaged)?,
        };
        let record = Record {
            request_id: RequestId::from(row.get::<_, String>(0)?.as_str()),
            function: Arc::clone(&function),
            version: row.get(3)?,
            trigger_type: trigger_type(&word),
            attempt: row.get(12)?,
            status: STATUSES.into_iter().find(|s| s.as_str() == status).ok_or(RecordsError::Damaged)?,
            duration_us: unsigned(row.get(6)?)?,
            input_size: unsigned(row.get(7)?)?,
            output_size: unsigned(row.get(8)?)?,
            error: row.get(9)?,
            started_at_ms: row.get(10)?,
            messages: messages.into_iter().map(message).collect(),
            ..Extras::default().into_record(Arc::clone(&function))
        };
        waiting.push(record);
        last = Some(function);
    }
    insert(t, &waiting)?;
    Ok(())
}

fn unsigned(n: i64) -> Result<u64, RecordsError> {
    u64::try_from(n).map_err(|_| RecordsError::Damaged)
}
