//! Records of all functions of a namespace: the newest ones, and those that have arrived since.
//!
//! A read looks at a bounded number of blocks, and says from where on the rest is missing.

use super::store::{BLOCK_SPAN_MS, unpack};
use super::{Function, Record, RecordsError};
use crate::limits::{
    LOGS_ARRIVED_BYTES_MAX, LOGS_BLOCKS_DECODED_MAX, LOGS_BLOCKS_VISITED_MAX, LOGS_BYTES_MAX,
};
use orama_runtime::invocation::{Level, LogMessage, Status};
use orama_runtime::names::{FunctionName, Namespace};
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

const NEWEST: &str = "
SELECT id, name, last_ms FROM blocks WHERE namespace = ?1 AND last_ms >= ?2 AND last_ms <= ?3
ORDER BY last_ms DESC, id DESC";

const ARRIVED: &str = "SELECT id, name, namespace FROM blocks WHERE id > ?1 ORDER BY id LIMIT ?2";

/// The last block before those of a namespace that have records of a time.
const BEFORE: &str = "SELECT min(id) - 1 FROM blocks WHERE namespace = ?1 AND last_ms >= ?2";

const LAST: &str = "SELECT coalesce(max(id), 0) FROM blocks";

const DATA: &str = "SELECT data FROM blocks WHERE id = ?1";

/// A record's place in the order of time: its start, its request and its attempt.
pub type Place = (i64, String, u32);

/// A filter over the records of a namespace.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct WideFilter {
    /// At most this many records.
    pub limit: u32,
    /// Only these functions; empty for all.
    pub functions: Vec<String>,
    /// Only messages of this level, and records that have some.
    pub level: Option<Level>,
    /// Only messages with this text, in lower case, and records that have some.
    pub text: Option<String>,
    /// Only this status.
    pub status: Option<Status>,
    /// Only this request.
    pub request_id: Option<String>,
    /// Only records that started at this time or later, in milliseconds since the Unix epoch.
    pub since_ms: Option<i64>,
    /// Only records before this place.
    pub before: Option<Place>,
}

impl WideFilter {
    fn wants(&self, name: &str) -> bool {
        self.functions.is_empty() || self.functions.iter().any(|wanted| wanted == name)
    }

    /// Takes a record with the messages that fit.
    fn take(&self, mut record: Record) -> Option<Record> {
        let fits = self.since_ms.is_none_or(|since_ms| record.started_at_ms >= since_ms)
            && self.status.is_none_or(|status| record.status == status)
            && self.request_id.as_ref().is_none_or(|id| record.has_id(id))
            && self.before.as_ref().is_none_or(|before| place(&record) < *before);
        if !fits {
            return None;
        }
        if self.level.is_some() || self.text.is_some() {
            record.messages.retain(|message| self.takes_message(message));
            let error = record.error.as_deref().filter(|_| self.level != Some(Level::Info));
            if record.messages.is_empty() && !error.is_some_and(|error| self.has_text(error)) {
                return None;
            }
        }
        Some(record)
    }

    fn takes_message(&self, message: &LogMessage) -> bool {
        self.level.is_none_or(|level| message.level == level) && self.has_text(&message.message)
    }

    /// Whether a text has the wanted one.
    #[must_use]
    pub fn has_text(&self, text: &str) -> bool {
        self.text.as_ref().is_none_or(|wanted| text.to_lowercase().contains(wanted.as_str()))
    }
}

/// Where a record stands in the order of time.
#[must_use]
pub fn place(record: &Record) -> Place {
    (record.started_at_ms, record.request_id.as_str().to_owned(), record.attempt)
}

/// The newest records, and from which time on they are complete; `None` if none are missing.
pub(super) struct Newest {
    pub(super) records: Vec<Record>,
    pub(super) complete_since_ms: Option<i64>,
}

/// Records that have arrived, and the last block that was looked at.
pub(super) struct Arrived {
    pub(super) records: Vec<Record>,
    pub(super) last_id: i64,
    pub(super) has_more: bool,
}

/// Decodes blocks within bounds.
struct Reader<'a> {
    c: &'a Connection,
    namespace: &'a Namespace,
    functions: HashMap<String, Arc<Function>>,
    visited: usize,
    decoded: usize,
    bytes: usize,
    bytes_max: usize,
}

impl<'a> Reader<'a> {
    fn new(c: &'a Connection, namespace: &'a Namespace, bytes_max: usize) -> Self {
        let functions = HashMap::new();
        Self { c, namespace, functions, visited: 0, decoded: 0, bytes: 0, bytes_max }
    }

    /// Whether one in so many parts of the work is done.
    const fn is_spent(&self, part: usize) -> bool {
        self.visited >= LOGS_BLOCKS_VISITED_MAX / part
            || self.decoded >= LOGS_BLOCKS_DECODED_MAX / part
            || self.bytes >= self.bytes_max / part
    }

    /// The records of a block that fit.
    fn read(&mut self, id: i64, name: &str, filter: &WideFilter) -> Result<Vec<Record>, RecordsError> {
        self.visited += 1;
        if !filter.wants(name) {
            return Ok(Vec::new());
        }
        let data: Option<Vec<u8>> =
            self.c.prepare_cached(DATA)?.query_row([id], |row| row.get(0)).optional()?;
        // Trimming may have removed it meanwhile.
        let Some(data) = data else { return Ok(Vec::new()) };
        self.decoded += 1;
        self.bytes += data.len();
        let function = match self.functions.get(name) {
            Some(function) => Arc::clone(function),
            None => {
                let of = FunctionName::new(name).map_err(|_| RecordsError::Damaged)?;
                let function = Arc::new(Function { namespace: self.namespace.clone(), name: of });
                self.functions.insert(name.to_owned(), Arc::clone(&function));
                function
            }
        };
        Ok(unpack(&data, &function)?.into_iter().filter_map(|record| filter.take(record)).collect())
    }
}

/// Reads the newest records that fit.
pub(super) fn newest(
    c: &Connection,
    namespace: &Namespace,
    filter: &WideFilter,
) -> Result<Newest, RecordsError> {
    let mut search = Search { reader: Reader::new(c, namespace, LOGS_BYTES_MAX), filter, found: Vec::new() };
    let since_ms = filter.since_ms.unwrap_or(0);
    let until_ms = filter.before.as_ref().map_or(i64::MAX, |(ms, ..)| *ms);
    if filter.before.is_some() {
        // Blocks that began before the place and end after it. They may take half of the work, so that each page gets further.
        search.visit(until_ms.saturating_add(1)..=until_ms.saturating_add(BLOCK_SPAN_MS), 2)?;
    }
    let complete_since_ms = search.visit(since_ms..=until_ms, 1)?;
    search.sort();
    Ok(Newest { records: search.found.into_iter().map(|(_, record)| record).collect(), complete_since_ms })
}

/// A search for the newest records.
struct Search<'a> {
    reader: Reader<'a>,
    filter: &'a WideFilter,
    found: Vec<(Place, Record)>,
}

impl Search<'_> {
    fn sort(&mut self) {
        self.found.sort_by(|(a, _), (b, _)| b.cmp(a));
        self.found.truncate(self.filter.limit as usize);
    }

    /// Looks at blocks that end within a time, the newest first, until one in so many parts of the work is done. Returns from
    /// when on everything was looked at, if it was not all.
    fn visit(&mut self, range: RangeInclusive<i64>, part: usize) -> Result<Option<i64>, RecordsError> {
        let c = self.reader.c;
        let mut statement = c.prepare_cached(NEWEST)?;
        let namespace = self.reader.namespace.as_str();
        let mut rows = statement.query(params![namespace, range.start(), range.end()])?;
        while let Some(row) = rows.next()? {
            let (id, last_ms): (i64, i64) = (row.get(0)?, row.get(2)?);
            if self.found.len() >= self.filter.limit as usize {
                self.sort();
                if self.found.last().is_none_or(|((started_at_ms, ..), _)| last_ms < *started_at_ms) {
                    return Ok(None);
                }
            }
            if self.reader.is_spent(part) {
                return Ok(Some(last_ms.saturating_add(1)));
            }
            let name = row.get_ref(1)?.as_str().map_err(|_| RecordsError::Damaged)?;
            let records = self.reader.read(id, name, self.filter)?;
            self.found.extend(records.into_iter().map(|record| (place(&record), record)));
        }
        Ok(None)
    }
}

/// Reads the records that have arrived after a block, newest first. Their number is not limited by the filter: what was looked
/// at is not looked at again.
pub(super) fn arrived(
    c: &Connection,
    namespace: &Namespace,
    filter: &WideFilter,
    after: i64,
) -> Result<Arrived, RecordsError> {
    // Ids are given again when the last blocks were removed.
    let after = after.min(last_id(c)?);
    let mut reader = Reader::new(c, namespace, LOGS_ARRIVED_BYTES_MAX);
    let mut statement = c.prepare_cached(ARRIVED)?;
    let most = i64::try_from(LOGS_BLOCKS_VISITED_MAX).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![after, most])?;
    let mut arrived = Arrived { records: Vec::new(), last_id: after, has_more: false };
    while let Some(row) = rows.next()? {
        let is_of = row.get_ref(2)?.as_str().is_ok_and(|of| of == namespace.as_str());
        if is_of && reader.is_spent(1) {
            arrived.has_more = true;
            break;
        }
        let id: i64 = row.get(0)?;
        if is_of {
            let name = row.get_ref(1)?.as_str().map_err(|_| RecordsError::Damaged)?;
            arrived.records.extend(reader.read(id, name, filter)?);
        } else {
            reader.visited += 1;
        }
        arrived.last_id = id;
    }
    arrived.has_more |= reader.visited >= LOGS_BLOCKS_VISITED_MAX;
    arrived.records.sort_by_cached_key(|record| Reverse(place(record)));
    Ok(arrived)
}

/// The last block that there is.
pub(super) fn last_id(c: &Connection) -> Result<i64, RecordsError> {
    Ok(c.prepare_cached(LAST)?.query_row([], |row| row.get(0))?)
}

/// The block after which everything of a namespace stands that started at a time or later.
pub(super) fn before(c: &Connection, namespace: &Namespace, ms: i64) -> Result<i64, RecordsError> {
    let found: Option<i64> =
        c.prepare_cached(BEFORE)?.query_row(params![namespace.as_str(), ms], |row| row.get(0))?;
    found.map_or_else(|| last_id(c), Ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::tests::record;
    use crate::records::{ALONE, Cursor, Records};

    #[test]
    fn a_look_for_a_rare_text_is_bounded_and_the_next_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::open(dir.path()).unwrap();
        let namespace = Namespace::new("a").unwrap();
        let start_ms = jiff::Timestamp::now().as_millisecond() - 1_000_000;
        let long = "x".repeat(20_000);
        let of = |n: i64| {
            let mut of = record(["f", "g", "h"][n as usize % 3], n);
            of.started_at_ms = start_ms + n;
            let message = if n == 0 { "the RARE one".to_owned() } else { long.clone() };
            of.messages = vec![LogMessage { level: Level::Info, message, timestamp_ms: start_ms + n }];
            of
        };
        for first in (0..3_000).step_by(100) {
            records.submit((first..first + 100).map(of).collect());
            records.flush();
        }
        let mut filter = WideFilter { limit: 10, text: Some("rare".to_owned()), ..WideFilter::default() };
        let first = records.of_namespace(&namespace, &filter, None).unwrap();
        assert!(first.records.is_empty(), "it is far back");
        let mut looks = 1;
        let mut since_ms = first.complete_since_ms;
        let found = loop {
            filter.before = since_ms.map(|since_ms| (since_ms, String::new(), 0));
            let next = records.of_namespace(&namespace, &filter, None).unwrap();
            looks += 1;
            if !next.records.is_empty() {
                break next.records;
            }
            assert!(next.complete_since_ms < since_ms && next.complete_since_ms.is_some(), "it goes on");
            since_ms = next.complete_since_ms;
        };
        assert_eq!((found.len(), found[0].messages[0].message.as_str()), (1, "the RARE one"));
        assert!((3..20).contains(&looks), "{looks} looks at 60 MB");

        // Whoever follows gets everything in small parts, each once.
        let follower = WideFilter { limit: 10, ..WideFilter::default() };
        let mut cursor = Cursor { since_ms: start_ms, ..Cursor::default() };
        let (mut came, mut parts) = (0, 0);
        loop {
            let part = records.of_namespace(&namespace, &follower, Some((&cursor, ALONE))).unwrap();
            came += part.records.len();
            parts += 1;
            cursor.positions.insert(ALONE.to_owned(), part.position);
            if !part.has_more {
                break;
            }
        }
        assert_eq!(came, 3_000);
        assert!(parts > 30, "{parts} parts");
    }
}
