//! The records' table, and how a record becomes a row and back.

use super::{Filter, Record, RecordsError, TRIGGER_TYPES};
use orama_runtime::invocation::{Level, LogMessage, Status};
use orama_runtime::names::{FunctionName, Namespace};
use rusqlite::{Connection, Row, Transaction, params};
use rusqlite_migration::{M, Migrations};

/// Every layout the file ever had, in order. A released step never changes; a new layout is a new step.
pub(super) fn migrations() -> Migrations<'static> {
    Migrations::new(vec![M::up(FIRST), M::up(ATTEMPTS)])
}

// Messages stand in the row: they are only ever read with it, and most records have none.
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

const INSERT: &str = "
INSERT INTO records (request_id, namespace, name, version, trigger_type, status, duration_us, input_size,
    output_size, error, started_at_ms, messages, attempt)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)";

const QUERY: &str = "
SELECT request_id, namespace, name, version, trigger_type, status, duration_us, input_size, output_size, error,
    started_at_ms, messages, attempt
FROM records
WHERE namespace = ?1 AND name = ?2
    AND (?3 IS NULL OR started_at_ms >= ?3)
    AND (?4 IS NULL OR status = ?4)
    AND (?5 IS NULL OR request_id = ?5)
    AND (?6 IS NULL OR version = ?6)
ORDER BY started_at_ms DESC, id DESC
LIMIT ?7";

const REMOVE: &str = "
DELETE FROM records WHERE id IN (SELECT id FROM records WHERE namespace = ?1 LIMIT ?2)";

/// Rows that one step of a removal deletes; some 20 ms of the writer's time.
const REMOVE_ROWS: u32 = 5000;

const STATUSES: [Status; 3] = [Status::Success, Status::Error, Status::Timeout];

/// A message as it is stored: level, text, milliseconds since the Unix epoch.
type StoredMessage = (Level, String, i64);

pub(super) fn insert(t: &Transaction<'_>, records: &[Record]) -> Result<(), RecordsError> {
    let mut statement = t.prepare_cached(INSERT)?;
    for record in records {
        statement.execute(params![
            record.request_id,
            record.namespace.as_str(),
            record.name.as_str(),
            record.version,
            record.trigger_type,
            record.status.as_str(),
            integer(record.duration_us),
            integer(record.input_size),
            integer(record.output_size),
            record.error,
            record.started_at_ms,
            messages_json(&record.messages)?,
            record.attempt,
        ])?;
    }
    Ok(())
}

/// SQLite's integers are signed; no real duration or size comes near the end.
fn integer(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn messages_json(messages: &[LogMessage]) -> Result<Option<String>, RecordsError> {
    if messages.is_empty() {
        return Ok(None);
    }
    let rows: Vec<_> = messages.iter().map(|m| (m.level, m.message.as_str(), m.timestamp_ms)).collect();
    serde_json::to_string(&rows).map(Some).map_err(|_| RecordsError::Damaged)
}

pub(super) fn query(
    c: &Connection,
    namespace: &Namespace,
    name: &FunctionName,
    filter: &Filter,
) -> Result<Vec<Record>, RecordsError> {
    let mut statement = c.prepare_cached(QUERY)?;
    let mut rows = statement.query(params![
        namespace.as_str(),
        name.as_str(),
        filter.since_ms,
        filter.status.map(Status::as_str),
        filter.request_id,
        filter.version,
        filter.limit,
    ])?;
    let mut records = Vec::new();
    while let Some(row) = rows.next()? {
        records.push(record(row)?);
    }
    Ok(records)
}

/// Deletes some records of a namespace; `true` when none is left.
pub(super) fn remove(t: &Transaction<'_>, namespace: &Namespace) -> Result<bool, RecordsError> {
    let rows = t.prepare_cached(REMOVE)?.execute(params![namespace.as_str(), REMOVE_ROWS])?;
    Ok(rows < REMOVE_ROWS as usize)
}

fn record(row: &Row<'_>) -> Result<Record, RecordsError> {
    let word: String = row.get(4)?;
    let status: String = row.get(5)?;
    let messages: Vec<StoredMessage> = match row.get::<_, Option<String>>(11)? {
        None => Vec::new(),
        Some(json) => serde_json::from_str(&json).map_err(|_| RecordsError::Damaged)?,
    };
    Ok(Record {
        request_id: row.get(0)?,
        namespace: Namespace::new(&row.get::<_, String>(1)?).map_err(|_| RecordsError::Damaged)?,
        name: FunctionName::new(&row.get::<_, String>(2)?).map_err(|_| RecordsError::Damaged)?,
        version: row.get(3)?,
        trigger_type: TRIGGER_TYPES.into_iter().find(|known| *known == word).unwrap_or("other"),
        status: STATUSES.into_iter().find(|s| s.as_str() == status).ok_or(RecordsError::Damaged)?,
        duration_us: unsigned(row.get(6)?)?,
        input_size: unsigned(row.get(7)?)?,
        output_size: unsigned(row.get(8)?)?,
        error: row.get(9)?,
        started_at_ms: row.get(10)?,
        attempt: row.get(12)?,
        messages: messages
            .into_iter()
            .map(|(level, message, timestamp_ms)| LogMessage { level, message, timestamp_ms })
            .collect(),
    })
}

fn unsigned(n: i64) -> Result<u64, RecordsError> {
    u64::try_from(n).map_err(|_| RecordsError::Damaged)
}
