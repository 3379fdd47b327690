//! Deletes old records in small steps: by age, by count and size of each function, and by size of all.

use super::{Record, RecordsError};
use crate::backend::sqlite::Database;
use jiff::Timestamp;
use orama_runtime::limits::{
    RECORD_RETENTION, RECORDS_MAX_BYTES, RECORDS_PER_FUNCTION, RECORDS_PER_FUNCTION_BYTES,
};
use orama_runtime::names::{FunctionName, Namespace};
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// Rows that one step deletes at least; about 2 ms of the writer's time.
const STEP_ROWS: u64 = 500;

/// A record without its messages and error, with its places in the indices.
const ROW_BYTES: i64 = 300;

/// How often ages and the whole size are looked at.
const AGE_EVERY: Duration = Duration::from_secs(60);

/// Which records are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Older ones are deleted.
    pub age: Duration,
    /// The newest of each function that are kept. It may have a tenth more for a while.
    pub per_function: u32,
    /// The bytes of each function's newest records that are kept, and also a tenth more for a while.
    pub per_function_bytes: u64,
    /// The bytes of all records; the oldest go first.
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

type Function = (Namespace, FunctionName);

/// What a function has too much of. Counting walks an index alone; sizes are read from every record, so they are looked
/// at only after as many bytes.
#[derive(Debug, Clone, Copy)]
enum By {
    Count,
    Size,
}

/// Knows what may have to be deleted, and deletes a little of it at a time.
pub(super) struct Cleaner {
    retention: Retention,
    /// Records of a function since it was last trimmed, and their bytes.
    fresh: HashMap<Function, (u32, u64)>,
    /// Functions to trim by count, and by size.
    over: VecDeque<(Function, By)>,
    /// Records written since the last step.
    wrote: u64,
    /// When ages are looked at next.
    age_due: Instant,
}

impl Cleaner {
    /// Starts with every function that has records, as what was written before the start is not known.
    pub(super) fn new(database: &Database, retention: Retention) -> Result<Self, RecordsError> {
        let found = database.read(functions)?;
        let over = found.into_iter().flat_map(|f| [(f.clone(), By::Count), (f, By::Size)]).collect();
        Ok(Self { retention, fresh: HashMap::new(), over, wrote: 0, age_due: Instant::now() })
    }

    /// Takes note of records that were committed.
    pub(super) fn wrote(&mut self, records: &[Record]) {
        self.wrote += records.len() as u64;
        // Trimming walks the function's index, so it is done once for every tenth of what it may keep.
        let slack = (self.retention.per_function / 10).max(1);
        let slack_bytes = (self.retention.per_function_bytes / 10).max(1);
        for record in records {
            let function = (record.namespace.clone(), record.name.clone());
            let (count, bytes) = self.fresh.entry(function).or_default();
            *count += 1;
            *bytes += record.cost_bytes() as u64;
            let function = || (record.namespace.clone(), record.name.clone());
            if *count >= slack {
                *count = 0;
                self.over.push_back((function(), By::Count));
            }
            if *bytes >= slack_bytes {
                *bytes = 0;
                self.over.push_back((function(), By::Size));
            }
        }
    }

    /// Whether there is something to do now.
    pub(super) fn has_work(&self) -> bool {
        !self.over.is_empty() || self.age_due <= Instant::now()
    }

    /// Deletes a little, but twice as much as was written since the last step, so that it cannot fall behind.
    pub(super) fn step(&mut self, database: &Database) -> Result<(), RecordsError> {
        let mut budget = STEP_ROWS + 2 * std::mem::take(&mut self.wrote);
        if self.age_due <= Instant::now() {
            let age_ms = i64::try_from(self.retention.age.as_millis()).unwrap_or(i64::MAX);
            let too_old_ms = Timestamp::now().as_millisecond().saturating_sub(age_ms);
            // Put off first: after an error the next try is in a minute, not at once and for ever.
            self.age_due = Instant::now() + AGE_EVERY;
            let is_over = database.read(stored_bytes)? > self.retention.total_bytes;
            let (cutoff_ms, most) = if is_over { (i64::MAX, STEP_ROWS) } else { (too_old_ms, budget) };
            let deleted = database.write(|t| delete_older(t, cutoff_ms, most))?;
            if deleted == most {
                self.age_due = Instant::now();
                return Ok(());
            }
            budget = budget.saturating_sub(deleted);
        }
        while let Some((function, by)) = self.over.pop_front() {
            let deleted = database.write(|t| trim(t, &function, by, &self.retention, budget))?;
            if deleted == budget {
                self.over.push_back((function, by));
                return Ok(());
            }
            // A step that finds nothing costs time as well.
            budget = budget.saturating_sub(deleted.max(STEP_ROWS / 10));
            if budget == 0 {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Every function that has records, by jumps along the index rather than a walk over all of it.
fn functions(c: &Connection) -> Result<VecDeque<Function>, RecordsError> {
    let mut next = c.prepare(
        "SELECT namespace, name FROM records WHERE (namespace, name) > (?1, ?2) ORDER BY namespace, name LIMIT 1",
    )?;
    let mut found = VecDeque::new();
    let mut last = (String::new(), String::new());
    while let Some(row) =
        next.query_row(params![last.0, last.1], |row| Ok((row.get(0)?, row.get(1)?))).optional()?
    {
        last = row;
        if let (Ok(namespace), Ok(name)) = (Namespace::new(&last.0), FunctionName::new(&last.1)) {
            found.push_back((namespace, name));
        }
    }
    Ok(found)
}

fn delete_older(t: &Transaction<'_>, cutoff_ms: i64, max: u64) -> Result<u64, RecordsError> {
    let deleted = t
        .prepare_cached(
            "DELETE FROM records WHERE id IN (SELECT id FROM records WHERE started_at_ms < ?1
             ORDER BY started_at_ms LIMIT ?2)",
        )?
        .execute(params![cutoff_ms, i64::try_from(max).unwrap_or(i64::MAX)])?;
    Ok(deleted as u64)
}

/// Bytes of the file that hold something.
fn stored_bytes(c: &Connection) -> Result<u64, RecordsError> {
    let pages = |pragma| c.query_row(pragma, [], |row| row.get::<_, u32>(0)).map(u64::from);
    let used = pages("PRAGMA page_count")?.saturating_sub(pages("PRAGMA freelist_count")?);
    Ok(used * pages("PRAGMA page_size")?)
}

/// Where the records of a function that are to go begin, after the ?3 newest.
const BY_COUNT: &str = "
SELECT started_at_ms, id FROM records WHERE namespace = ?1 AND name = ?2
ORDER BY started_at_ms DESC, id DESC LIMIT 1 OFFSET ?3";

/// The same, after the newest that have ?3 bytes together; each has ?4 beside its texts.
const BY_SIZE: &str = "
SELECT started_at_ms, id FROM (
    SELECT started_at_ms, id, sum(
        ?4 + coalesce(octet_length(messages), 0) + coalesce(octet_length(error), 0)
    ) OVER (ORDER BY started_at_ms DESC, id DESC ROWS UNBOUNDED PRECEDING) AS bytes
    FROM records WHERE namespace = ?1 AND name = ?2)
WHERE bytes > ?3 ORDER BY started_at_ms DESC, id DESC LIMIT 1";

/// Deletes records of a function beyond its newest, the oldest first.
fn trim(
    t: &Transaction<'_>,
    function: &Function,
    by: By,
    retention: &Retention,
    max: u64,
) -> Result<u64, RecordsError> {
    let (namespace, name) = (function.0.as_str(), function.1.as_str());
    let place = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let newest_to_go: Option<(i64, i64)> = match by {
        By::Count => {
            t.prepare_cached(BY_COUNT)?.query_row(params![namespace, name, retention.per_function], place)
        }
        By::Size => {
            let most = i64::try_from(retention.per_function_bytes).unwrap_or(i64::MAX);
            t.prepare_cached(BY_SIZE)?.query_row(params![namespace, name, most, ROW_BYTES], place)
        }
    }
    .optional()?;
    let Some((started_at_ms, id)) = newest_to_go else { return Ok(0) };
    let deleted = t
        .prepare_cached(
            "DELETE FROM records WHERE id IN (SELECT id FROM records
             WHERE namespace = ?1 AND name = ?2 AND (started_at_ms, id) <= (?3, ?4)
             ORDER BY started_at_ms, id LIMIT ?5)",
        )?
        .execute(params![namespace, name, started_at_ms, id, i64::try_from(max).unwrap_or(i64::MAX)])?;
    Ok(deleted as u64)
}
