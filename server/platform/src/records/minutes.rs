//! The table of statistics: a row for each version and minute in which it did something, later for each hour.

use super::tally::{MINUTE_S, Part};
use super::{Function, RecordsError, Stats};
use crate::limits::{STATS_MINUTES_KEPT_S, STATS_RETENTION, STATS_ROWS_MAX, STATS_ROWS_PER_NAMESPACE};
use orama_runtime::names::{FunctionName, Namespace};
use rusqlite::{Connection, Transaction, params};
use std::sync::Arc;

pub(super) const SCHEMA: &str = "
CREATE TABLE stats (
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    at_s INTEGER NOT NULL,
    version INTEGER NOT NULL,
    span_s INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (namespace, name, at_s, version, span_s)
) STRICT, WITHOUT ROWID;

CREATE INDEX stats_by_age ON stats (span_s, at_s);
";

/// Seconds of an hour.
const HOUR_S: i64 = 3600;

/// Versions' hours that one step packs; some milliseconds of the writer's time.
const PACK_MAX: u32 = 50;

fn decode(data: &[u8]) -> Result<Stats, RecordsError> {
    serde_json::from_slice(data).map_err(|_| RecordsError::Damaged)
}

fn put(
    t: &Transaction<'_>,
    function: (&str, &str, u32),
    (at_s, span_s): (i64, i64),
    stats: &Stats,
) -> Result<(), RecordsError> {
    let (namespace, name, version) = function;
    let mut sum = stats.clone();
    let mut find = t.prepare_cached(
        "SELECT data FROM stats WHERE namespace = ?1 AND name = ?2 AND at_s = ?3 AND version = ?4 AND span_s = ?5",
    )?;
    // A node that was started again within the minute has a part of it already.
    let mut rows = find.query(params![namespace, name, at_s, version, span_s])?;
    if let Some(row) = rows.next()? {
        sum.merge(&decode(row.get_ref(0)?.as_blob().map_err(|_| RecordsError::Damaged)?)?);
    }
    let data = serde_json::to_vec(&sum).map_err(|_| RecordsError::Damaged)?;
    t.prepare_cached("INSERT OR REPLACE INTO stats VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
        .execute(params![namespace, name, at_s, version, span_s, data])?;
    Ok(())
}

/// Keeps a minute.
pub(super) fn keep(t: &Transaction<'_>, minute_s: i64, parts: &[Part]) -> Result<(), RecordsError> {
    for Part { function, version, stats } in parts {
        let of = (function.namespace.as_str(), function.name.as_str(), *version);
        put(t, of, (minute_s, MINUTE_S), stats)?;
    }
    Ok(())
}

/// Packs minutes that are old into hours, and deletes what is too old or too much. `true` if there is more to do.
pub(super) fn tidy(t: &Transaction<'_>, now_s: i64) -> Result<bool, RecordsError> {
    let before_s = (now_s - STATS_MINUTES_KEPT_S).div_euclid(HOUR_S) * HOUR_S;
    let mut find = t.prepare_cached(
        "SELECT DISTINCT namespace, name, version, at_s / ?2 * ?2 FROM stats WHERE span_s = ?1 AND at_s < ?3 LIMIT ?4",
    )?;
    let old = find
        .query_map(params![MINUTE_S, HOUR_S, before_s, PACK_MAX], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })?
        .collect::<rusqlite::Result<Vec<(String, String, u32, i64)>>>()?;
    for (namespace, name, version, hour_s) in &old {
        let mut sum = Stats::default();
        let mut minutes = t.prepare_cached(
            "DELETE FROM stats WHERE namespace = ?1 AND name = ?2 AND version = ?3 AND span_s = ?4
             AND at_s >= ?5 AND at_s < ?5 + ?6 RETURNING data",
        )?;
        let mut rows = minutes.query(params![namespace, name, version, MINUTE_S, hour_s, HOUR_S])?;
        while let Some(row) = rows.next()? {
            sum.merge(&decode(row.get_ref(0)?.as_blob().map_err(|_| RecordsError::Damaged)?)?);
        }
        put(t, (namespace, name, *version), (*hour_s, HOUR_S), &sum)?;
    }
    let too_old_s = now_s - STATS_RETENTION.as_secs() as i64;
    t.prepare_cached("DELETE FROM stats WHERE at_s < ?1")?.execute([too_old_s])?;
    delete_excess(t)?;
    Ok(old.len() == PACK_MAX as usize)
}

/// Deletes the oldest rows of a namespace that has too many, and of all.
fn delete_excess(t: &Transaction<'_>) -> Result<(), RecordsError> {
    let mut count = t.prepare_cached("SELECT namespace, count(*) FROM stats GROUP BY namespace")?;
    let counts = count
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<Vec<(String, i64)>>>()?;
    let mut delete = t.prepare_cached(
        "DELETE FROM stats WHERE (namespace, name, at_s, version, span_s) IN
         (SELECT namespace, name, at_s, version, span_s FROM stats WHERE ?1 IS NULL OR namespace = ?1
          ORDER BY at_s LIMIT ?2)",
    )?;
    let mut rows = 0;
    for (namespace, of_namespace) in counts {
        let excess = (of_namespace - STATS_ROWS_PER_NAMESPACE).max(0);
        if excess > 0 {
            delete.execute(params![namespace, excess])?;
        }
        rows += of_namespace - excess;
    }
    if rows > STATS_ROWS_MAX {
        delete.execute(params![None::<&str>, rows - STATS_ROWS_MAX])?;
    }
    Ok(())
}

/// The statistics of a namespace's functions, or of one, from a time on: for each version.
pub(super) fn query(
    c: &Connection,
    namespace: &Namespace,
    name: Option<&FunctionName>,
    since_s: i64,
    mut each: impl FnMut(Arc<Function>, u32, Stats),
) -> Result<(), RecordsError> {
    let mut statement = c.prepare_cached(
        "SELECT name, version, data FROM stats
         WHERE namespace = ?1 AND (?2 IS NULL OR name = ?2) AND at_s + span_s > ?3",
    )?;
    let mut rows = statement.query(params![namespace.as_str(), name.map(FunctionName::as_str), since_s])?;
    let mut last: Option<Arc<Function>> = None;
    while let Some(row) = rows.next()? {
        let name: String = row.get(0)?;
        let function = match &last {
            Some(last) if last.name.as_str() == name => Arc::clone(last),
            _ => Arc::new(Function {
                namespace: namespace.clone(),
                name: FunctionName::new(&name).map_err(|_| RecordsError::Damaged)?,
            }),
        };
        last = Some(Arc::clone(&function));
        each(function, row.get(1)?, decode(row.get_ref(2)?.as_blob().map_err(|_| RecordsError::Damaged)?)?);
    }
    Ok(())
}

/// Deletes the statistics of a namespace.
pub(super) fn remove(t: &Transaction<'_>, namespace: &Namespace) -> Result<(), RecordsError> {
    t.execute("DELETE FROM stats WHERE namespace = ?1", [namespace.as_str()])?;
    Ok(())
}
