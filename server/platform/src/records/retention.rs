//! Deletes old records in small steps, by age, by count and size for each function, and by total size.

use super::store::{self, Added};
use super::{Function, RecordsError};
use crate::limits::{RECORD_RETENTION, RECORDS_MAX_BYTES, RECORDS_PER_FUNCTION, RECORDS_PER_FUNCTION_BYTES};
use orama_runtime::names::{FunctionName, Namespace};
use orama_store::clock::now_ms;
use orama_store::sqlite::Database;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The minimum number of blocks that one step deletes; about 2 ms of the writer's time.
const STEP_BLOCKS: u64 = 500;

/// How often ages and the total size are checked.
const AGE_EVERY: Duration = Duration::from_secs(60);

/// Which records are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Records older than this are deleted.
    pub age: Duration,
    /// Records kept for each function, the newest. It may temporarily have a tenth more.
    pub per_function: u32,
    /// Bytes of records kept for each function, the newest. It may temporarily have a tenth more.
    pub per_function_bytes: u64,
    /// Bytes of all records; the oldest are deleted first.
    pub total_bytes: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            age: RECORD_RETENTION,
            per_function: RECORDS_PER_FUNCTION,
            per_function_bytes: RECORDS_PER_FUNCTION_BYTES,
            total_bytes: RECORDS_MAX_BYTES,
        }
    }
}

/// Tracks what may have to be deleted and deletes it in small steps.
pub(super) struct Cleaner {
    retention: Retention,
    /// For each function, the records added since it was last trimmed and their bytes.
    fresh: HashMap<Arc<Function>, (u64, u64)>,
    /// Functions to trim.
    over: VecDeque<Arc<Function>>,
    /// Blocks written since the last step.
    wrote: u64,
    /// When ages are checked next.
    age_due: Instant,
}

impl Cleaner {
    /// Starts with every function that has records, because it is not known what was written before the start.
    pub(super) fn new(database: &Database, retention: Retention) -> Result<Self, RecordsError> {
        let over = database.read(functions)?;
        Ok(Self { retention, fresh: HashMap::new(), over, wrote: 0, age_due: Instant::now() })
    }

    /// Counts what was committed.
    pub(super) fn wrote(&mut self, added: Vec<Added>) {
        // Trimming scans the function's index, so it runs once for every tenth of the limit.
        let slack = u64::from(self.retention.per_function / 10).max(1);
        let slack_bytes = (self.retention.per_function_bytes / 10).max(1);
        for Added { function, blocks, records, bytes } in added {
            self.wrote += blocks;
            let fresh = self.fresh.entry(Arc::clone(&function)).or_default();
            *fresh = (fresh.0 + records, fresh.1 + bytes);
            if fresh.0 >= slack || fresh.1 >= slack_bytes {
                *fresh = (0, 0);
                self.over.push_back(function);
            }
        }
    }

    /// Whether a step is due.
    pub(super) fn has_work(&self) -> bool {
        !self.over.is_empty() || self.age_due <= Instant::now()
    }

    /// Runs one step. It deletes twice as much as was written since the last one, so deleting cannot fall behind.
    pub(super) fn step(&mut self, database: &Database) -> Result<(), RecordsError> {
        let mut budget = STEP_BLOCKS + 2 * std::mem::take(&mut self.wrote);
        if self.age_due <= Instant::now() {
            let age_ms = i64::try_from(self.retention.age.as_millis()).unwrap_or(i64::MAX);
            let too_old_ms = now_ms().saturating_sub(age_ms);
            // Rescheduled first: after an error the next attempt is in a minute instead of at once.
            self.age_due = Instant::now() + AGE_EVERY;
            let excess = database.read(stored_bytes)?.saturating_sub(self.retention.total_bytes);
            let deleted = database.write(|t| {
                let by_size = if excess > 0 { delete_oldest(t, excess, budget)? } else { 0 };
                Ok::<_, RecordsError>(by_size + delete_older(t, too_old_ms, budget)?)
            })?;
            if excess > 0 || deleted >= budget {
                self.age_due = Instant::now();
            }
            budget = budget.saturating_sub(deleted);
        }
        while budget > 0
            && let Some(function) = self.over.pop_front()
        {
            let deleted = database.write(|t| trim(t, &function, &self.retention, budget))?;
            if deleted >= budget {
                self.over.push_back(function);
            }
            // A step that finds nothing also takes time.
            budget = budget.saturating_sub(deleted.max(STEP_BLOCKS / 10));
        }
        Ok(())
    }
}

/// Every function that has records. Skips along the index instead of scanning it.
fn functions(c: &Connection) -> Result<VecDeque<Arc<Function>>, RecordsError> {
    let mut next = c.prepare(
        "SELECT namespace, name FROM blocks WHERE (namespace, name) > (?1, ?2) ORDER BY namespace, name LIMIT 1",
    )?;
    let mut found = VecDeque::new();
    let mut last = (String::new(), String::new());
    while let Some(row) =
        next.query_row(params![last.0, last.1], |row| Ok((row.get(0)?, row.get(1)?))).optional()?
    {
        last = row;
        if let (Ok(namespace), Ok(name)) = (Namespace::new(&last.0), FunctionName::new(&last.1)) {
            found.push_back(Arc::new(Function { namespace, name }));
        }
    }
    Ok(found)
}

/// Deletes at most `max` blocks that started before `cutoff_ms`.
fn delete_older(t: &Transaction<'_>, cutoff_ms: i64, max: u64) -> Result<u64, RecordsError> {
    let deleted = t
        .prepare_cached(
            "DELETE FROM blocks WHERE id IN (SELECT id FROM blocks WHERE last_ms < ?1 ORDER BY last_ms LIMIT ?2)",
        )?
        .execute(params![cutoff_ms, i64::try_from(max).unwrap_or(i64::MAX)])?;
    Ok(deleted as u64)
}

/// Deletes the oldest blocks until `excess` bytes are freed, at most `max` blocks.
fn delete_oldest(t: &Transaction<'_>, excess: u64, max: u64) -> Result<u64, RecordsError> {
    let mut statement = t.prepare_cached("SELECT id, bytes FROM blocks ORDER BY last_ms LIMIT ?1")?;
    let mut rows = statement.query([i64::try_from(max).unwrap_or(i64::MAX)])?;
    let (mut oldest, mut bytes) = (Vec::new(), 0);
    while bytes < excess
        && let Some(row) = rows.next()?
    {
        oldest.push(row.get(0)?);
        bytes += u64::from(row.get::<_, u32>(1)?);
    }
    delete(t, &oldest)
}

fn delete(t: &Transaction<'_>, blocks: &[i64]) -> Result<u64, RecordsError> {
    let mut statement = t.prepare_cached("DELETE FROM blocks WHERE id = ?1")?;
    for id in blocks {
        statement.execute([id])?;
    }
    Ok(blocks.len() as u64)
}

/// Bytes of the file that are in use.
fn stored_bytes(c: &Connection) -> Result<u64, RecordsError> {
    let pages = |pragma| c.query_row(pragma, [], |row| row.get::<_, u32>(0)).map(u64::from);
    let used = pages("PRAGMA page_count")?.saturating_sub(pages("PRAGMA freelist_count")?);
    Ok(used * pages("PRAGMA page_size")?)
}

/// A function's blocks, newest first, read from the index alone.
const NEWEST: &str = "
SELECT id, records, bytes FROM blocks WHERE namespace = ?1 AND name = ?2 ORDER BY last_ms DESC, id DESC";

/// Deletes a function's records beyond its limits, oldest first, at most `max` blocks. Returns the number of blocks.
fn trim(
    t: &Transaction<'_>,
    function: &Function,
    retention: &Retention,
    max: u64,
) -> Result<u64, RecordsError> {
    let (mut records, mut bytes, mut over, mut shorten) = (0, 0, Vec::new(), None);
    {
        let mut statement = t.prepare_cached(NEWEST)?;
        let mut rows = statement.query(params![function.namespace.as_str(), function.name.as_str()])?;
        while let Some(row) = rows.next()? {
            let (id, of_block) = (row.get(0)?, u64::from(row.get::<_, u32>(1)?));
            let left = u64::from(retention.per_function).saturating_sub(records);
            bytes += u64::from(row.get::<_, u32>(2)?);
            if left == 0 || (bytes > retention.per_function_bytes && records > 0) {
                over.push(id);
            } else if of_block > left {
                shorten = Some((id, left as usize));
                records += left;
            } else {
                records += of_block;
            }
        }
    }
    if let Some((id, keep)) = shorten {
        store::shorten(t, id, function, keep)?;
    }
    let begin = over.len().saturating_sub(usize::try_from(max).unwrap_or(usize::MAX));
    delete(t, over.get(begin..).unwrap_or_default())
}
