//! The table of records. One row is a block: the records of one function in one commit, as JSON. One row for each record would
//! cost a quarter of a small invocation.

use super::{Extras, Filter, Function, Record, RecordsError, RequestId, TRIGGER_TYPES};
use orama_runtime::invocation::{Level, LogMessage, Status};
use orama_runtime::names::{FunctionName, Namespace};
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

const INSERT: &str =
    "INSERT INTO blocks (namespace, name, last_ms, records, bytes, data) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";

const QUERY: &str = "
SELECT id, last_ms, data FROM blocks
WHERE namespace = ?1 AND name = ?2 AND (?3 IS NULL OR last_ms >= ?3)
ORDER BY last_ms DESC, id DESC";

const REMOVE: &str = "
DELETE FROM blocks WHERE id IN (SELECT id FROM blocks WHERE namespace = ?1 LIMIT ?2)";

/// Blocks that one step of a removal deletes; about 20 ms of the writer's time.
const REMOVE_BLOCKS: u32 = 5000;

/// Maximum records in a block: a query decodes, and trimming keeps, at most one block too many.
pub(super) const BLOCK_RECORDS_MAX: usize = 128;
/// A block of this size, in bytes, takes no further record.
const BLOCK_BYTES: usize = 16 << 10;
/// Maximum time between the first and the last record of a block, so a record outlives its retention by at most this.
pub(super) const BLOCK_SPAN_MS: i64 = 60_000;

/// A stored record without its function: request id, version, cause, attempt, status, duration in
/// microseconds, bytes in and out, error, start in milliseconds since the Unix epoch, messages, and what older versions do not
/// have.
#[derive(Serialize)]
struct Written<'a>(
    &'a str,
    u32,
    &'a str,
    u32,
    Status,
    u64,
    u64,
    u64,
    Option<&'a str>,
    i64,
    Vec<Message<&'a str>>,
    Extras<'a>,
);

#[derive(Deserialize)]
struct Read(
    String,
    u32,
    String,
    u32,
    Status,
    u64,
    u64,
    u64,
    Option<String>,
    i64,
    Vec<Message<String>>,
    #[serde(default)] Extras<'static>,
);

/// A log message: level, text, milliseconds since the Unix epoch.
pub(super) type Message<T> = (Level, T, i64);

/// Records of one function that become one row.
struct Block<'a> {
    function: &'a Function,
    last_ms: i64,
    records: usize,
    data: Vec<u8>,
}

impl<'a> Block<'a> {
    /// Packs records of one function, which must be sorted by start.
    fn pack(
        function: &'a Function,
        records: &[&Record],
        mut each: impl FnMut(Self) -> Result<(), RecordsError>,
    ) -> Result<(), RecordsError> {
        let mut rest = records;
        while let Some(first) = rest.first() {
            let mut block = Self { function, last_ms: first.started_at_ms, records: 0, data: Vec::new() };
            for record in rest.iter().take(BLOCK_RECORDS_MAX) {
                let span_ms = record.started_at_ms.saturating_sub(first.started_at_ms);
                if block.data.len() > BLOCK_BYTES || span_ms > BLOCK_SPAN_MS {
                    break;
                }
                block.push(record)?;
            }
            rest = rest.get(block.records..).unwrap_or_default();
            block.data.push(b']');
            each(block)?;
        }
        Ok(())
    }

    fn push(&mut self, record: &Record) -> Result<(), RecordsError> {
        self.data.push(if self.records == 0 { b'[' } else { b',' });
        let messages = record.messages.iter().map(|m| (m.level, m.message.as_str(), m.timestamp_ms));
        let written = Written(
            record.request_id.as_str(),
            record.version,
            record.trigger_type,
            record.attempt,
            record.status,
            record.duration_us,
            record.input_size,
            record.output_size,
            record.error.as_deref(),
            record.started_at_ms,
            messages.collect(),
            Extras::of(record),
        );
        serde_json::to_writer(&mut self.data, &written).map_err(|_| RecordsError::Damaged)?;
        self.last_ms = record.started_at_ms;
        self.records += 1;
        Ok(())
    }

    fn write(&self, t: &Transaction<'_>) -> Result<(), RecordsError> {
        t.prepare_cached(INSERT)?.execute(params![
            self.function.namespace.as_str(),
            self.function.name.as_str(),
            self.last_ms,
            self.records as u32,
            u32::try_from(self.data.len()).unwrap_or(u32::MAX),
            self.data,
        ])?;
        Ok(())
    }
}

/// What a commit added to one function.
pub(super) struct Added {
    pub(super) function: Arc<Function>,
    pub(super) blocks: u64,
    pub(super) records: u64,
    pub(super) bytes: u64,
}

pub(super) fn insert(t: &Transaction<'_>, records: &[Record]) -> Result<Vec<Added>, RecordsError> {
    let mut of: HashMap<&Function, Vec<&Record>> = HashMap::new();
    let mut rest = records;
    // Usually many records of one function follow each other.
    while let Some(first) = rest.first() {
        let same = rest.iter().take_while(|record| Arc::ptr_eq(&record.function, &first.function)).count();
        let (run, others) = rest.split_at(same);
        of.entry(&first.function).or_default().extend(run);
        rest = others;
    }
    let mut added = Vec::with_capacity(of.len());
    for (function, mut records) in of {
        let Some(first) = records.first() else { continue };
        let function_of = Arc::clone(&first.function);
        records.sort_by_key(|record| record.started_at_ms);
        let mut new = Added { function: function_of, blocks: 0, records: 0, bytes: 0 };
        Block::pack(function, &records, |block| {
            new.blocks += 1;
            new.records += block.records as u64;
            new.bytes += block.data.len() as u64;
            block.write(t)
        })?;
        added.push(new);
    }
    Ok(added)
}

pub(super) fn query(
    c: &Connection,
    namespace: &Namespace,
    name: &FunctionName,
    filter: &Filter,
) -> Result<Vec<Record>, RecordsError> {
    let function = Arc::new(Function { namespace: namespace.clone(), name: name.clone() });
    let limit = filter.limit as usize;
    let mut statement = c.prepare_cached(QUERY)?;
    let mut blocks = statement.query(params![namespace.as_str(), name.as_str(), filter.since_ms])?;
    // By start, then by position in the file.
    let mut found: Vec<((i64, i64, usize), Record)> = Vec::new();
    while let Some(block) = blocks.next()? {
        let (id, last_ms): (i64, i64) = (block.get(0)?, block.get(1)?);
        if found.len() >= limit {
            found.sort_by_key(|(place, _)| Reverse(*place));
            found.truncate(limit);
            if found.last().is_none_or(|((started_at_ms, ..), _)| last_ms < *started_at_ms) {
                break;
            }
        }
        let data = block.get_ref(2)?.as_blob().map_err(|_| RecordsError::Damaged)?;
        for (index, mut record) in unpack(data, &function)?.into_iter().enumerate() {
            if filter.takes(&record) {
                if filter.is_brief {
                    record.messages = Vec::new();
                }
                found.push(((record.started_at_ms, id, index), record));
            }
        }
    }
    found.sort_by_key(|(place, _)| Reverse(*place));
    found.truncate(limit);
    Ok(found.into_iter().map(|(_, record)| record).collect())
}

impl Filter {
    fn takes(&self, record: &Record) -> bool {
        self.since_ms.is_none_or(|since_ms| record.started_at_ms >= since_ms)
            && self.status.is_none_or(|status| record.status == status)
            && self.request_id.as_ref().is_none_or(|id| record.has_id(id))
            && self.version.is_none_or(|version| record.version == version)
    }
}

pub(super) fn unpack(data: &[u8], function: &Arc<Function>) -> Result<Vec<Record>, RecordsError> {
    let read: Vec<Read> = serde_json::from_slice(data).map_err(|_| RecordsError::Damaged)?;
    let record = |read: Read| {
        let Read(
            id,
            version,
            word,
            attempt,
            status,
            duration_us,
            input_size,
            output_size,
            error,
            at_ms,
            messages,
            extras,
        ) = read;
        Record {
            request_id: RequestId::from(id.as_str()),
            function: Arc::clone(function),
            version,
            trigger_type: trigger_type(&word),
            attempt,
            status,
            duration_us,
            input_size,
            output_size,
            error,
            started_at_ms: at_ms,
            messages: messages.into_iter().map(message).collect(),
            ..extras.into_record(Arc::clone(function))
        }
    };
    Ok(read.into_iter().map(record).collect())
}

pub(super) fn trigger_type(word: &str) -> &'static str {
    TRIGGER_TYPES.into_iter().find(|known| *known == word).unwrap_or("other")
}

pub(super) fn message((level, message, timestamp_ms): Message<String>) -> LogMessage {
    LogMessage { level, message, timestamp_ms }
}

/// Removes all but the newest `keep` records from a block.
pub(super) fn shorten(
    t: &Transaction<'_>,
    id: i64,
    function: &Function,
    keep: usize,
) -> Result<(), RecordsError> {
    let data: Option<Vec<u8>> =
        t.query_row("SELECT data FROM blocks WHERE id = ?1", [id], |row| row.get(0)).optional()?;
    let Some(data) = data else { return Ok(()) };
    let records = unpack(&data, &Arc::new(function.clone()))?;
    let kept: Vec<&Record> = records.iter().skip(records.len().saturating_sub(keep)).collect();
    t.execute("DELETE FROM blocks WHERE id = ?1", [id])?;
    Block::pack(function, &kept, |block| block.write(t))
}

/// Deletes some records of a namespace. Returns `true` when none is left.
pub(super) fn remove(t: &Transaction<'_>, namespace: &Namespace) -> Result<bool, RecordsError> {
    let blocks = t.prepare_cached(REMOVE)?.execute(params![namespace.as_str(), REMOVE_BLOCKS])?;
    Ok(blocks < REMOVE_BLOCKS as usize)
}
