//! Dead letters: events whose last attempt failed, kept so that they can be inspected, replayed or deleted.

use super::store::{self, Kind, checked, unsigned};
use super::tally::Waiting;
use super::{EventsError, NodeEvents};
use crate::limits::{
    DEAD_LETTERS_MAX, DEAD_LETTERS_MAX_BYTES, DEAD_LETTERS_PAGE_MAX_BYTES, RECORD_RETENTION,
};
use orama_runtime::names::{FunctionName, Namespace};
use orama_store::sqlite::Database;
use rusqlite::{OptionalExtension, Transaction, params};
use serde::de::IgnoredAny;

/// Expired dead letters that one transaction deletes, so that other writers get their turn.
const STEP_ROWS: u32 = 500;

/// A dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its id.
    pub id: String,
    /// The id of the message, as its publisher received it.
    pub message_id: String,
    /// The trigger.
    pub trigger_id: String,
    /// The topic.
    pub topic: String,
    /// The published data, or the input of a run that was asked for, as JSON text. Input that is no JSON is a string, in base64
    /// where it is no text.
    pub data: String,
    /// The depth, as the function received it.
    pub trigger_depth: u32,
    /// Number of attempts.
    pub attempts: u32,
    /// The error of the last attempt.
    pub error: String,
    /// The request id of the last attempt in the logs.
    pub request_id: String,
    /// When it was published, in milliseconds since the Unix epoch.
    pub published_at_ms: i64,
    /// When the last attempt failed, in milliseconds since the Unix epoch.
    pub failed_at_ms: i64,
}

impl NodeEvents {
    /// Lists dead letters of a function, newest first: at most `limit`, and fewer if their data exceed
    /// [`DEAD_LETTERS_PAGE_MAX_BYTES`]. Blocks.
    ///
    /// # Errors
    /// [`EventsError`]
    pub fn dead_letters(
        &self,
        namespace: &Namespace,
        function: &FunctionName,
        limit: u32,
    ) -> Result<Vec<DeadLetter>, EventsError> {
        self.inner.database.read(|c| {
            let mut statement = c.prepare_cached(
                "SELECT d.dead_letter_id, m.message_id, d.trigger_id, m.topic, m.data, m.depth, d.attempts, d.error,
                    d.request_id, m.published_at_ms, d.failed_at_ms, m.kind
                 FROM dead_letters d JOIN messages m ON m.id = d.message
                 WHERE d.namespace = ?1 AND d.function = ?2 ORDER BY d.id DESC LIMIT ?3",
            )?;
            let mut rows = statement.query(params![namespace.as_str(), function.as_str(), limit])?;
            let (mut found, mut bytes) = (Vec::new(), 0);
            while let Some(row) = rows.next()? {
                let letter = DeadLetter {
                    id: row.get(0)?,
                    message_id: row.get(1)?,
                    trigger_id: row.get(2)?,
                    topic: row.get(3)?,
                    data: shown(row.get(4)?, Kind::stored(row, 11)?),
                    trigger_depth: row.get(5)?,
                    attempts: row.get(6)?,
                    error: row.get(7)?,
                    request_id: row.get(8)?,
                    published_at_ms: row.get(9)?,
                    failed_at_ms: row.get(10)?,
                };
                bytes += letter.data.len();
                if bytes > DEAD_LETTERS_PAGE_MAX_BYTES && !found.is_empty() {
                    break;
                }
                found.push(letter);
            }
            Ok(found)
        })
    }

    /// Replays one or all dead letters of a function: each becomes a new job after the waiting ones, with its attempts counted
    /// from 1. Returns the number of jobs. Blocks.
    ///
    /// # Errors
    /// [`EventsError`]
    pub fn replay(
        &self,
        namespace: &Namespace,
        function: &FunctionName,
        id: Option<&str>,
    ) -> Result<usize, EventsError> {
        let (queues, waiting) = self.inner.database.write(|t| {
            let mut statement = t.prepare_cached(
                "SELECT id, trigger_id, message, size_bytes FROM dead_letters
                 WHERE namespace = ?1 AND function = ?2 AND (?3 IS NULL OR dead_letter_id = ?3) ORDER BY id",
            )?;
            let mut rows = statement.query(params![namespace.as_str(), function.as_str(), id])?;
            let mut letters: Vec<(i64, String, i64, u64)> = Vec::new();
            while let Some(row) = rows.next()? {
                letters.push((row.get(0)?, row.get(1)?, row.get(2)?, unsigned(row, 3)?));
            }
            let (mut queues, mut waiting) = (Vec::new(), Waiting::default());
            for (id, trigger_id, message, bytes) in letters {
                let queue = store::queue(t, &trigger_id, namespace, function.as_str())?;
                store::add_job(t, queue, message)?;
                t.prepare_cached("DELETE FROM dead_letters WHERE id = ?1")?.execute([id])?;
                waiting = Waiting { jobs: waiting.jobs + 1, bytes: waiting.bytes + bytes };
                queues.push((queue, namespace.clone()));
            }
            Ok::<_, EventsError>((queues, waiting))
        })?;
        self.inner.tallies.add(namespace, waiting);
        let count = queues.len();
        if count > 0 {
            let mut queues = queues;
            queues.sort_unstable();
            queues.dedup();
            (self.inner.wake)(queues);
        }
        Ok(count)
    }

    /// Deletes a dead letter. Returns `false` if the function has none with this id. Blocks.
    ///
    /// # Errors
    /// [`EventsError`]
    pub fn delete_dead_letter(
        &self,
        namespace: &Namespace,
        function: &FunctionName,
        id: &str,
    ) -> Result<bool, EventsError> {
        let deleted = self.inner.database.write(|t| {
            let message = t
                .prepare_cached(
                    "DELETE FROM dead_letters WHERE dead_letter_id = ?1 AND namespace = ?2 AND function = ?3
                     RETURNING message",
                )?
                .query_row(params![id, namespace.as_str(), function.as_str()], |row| row.get(0))
                .optional()?;
            Ok::<_, EventsError>(message.map(|message| store::forget_message(t, message)).transpose()?)
        })?;
        Ok(deleted.is_some())
    }
}

/// The data of a message as JSON text.
fn shown(data: String, kind: Kind) -> String {
    let is_json = match kind {
        Kind::Event | Kind::Slot => true,
        Kind::Input => serde_json::from_str::<IgnoredAny>(&data).is_ok(),
        Kind::InputBase64 => false,
    };
    if is_json { data } else { serde_json::Value::String(data).to_string() }
}

/// Deletes the oldest dead letters of a namespace that has too many.
pub(super) fn trim(t: &Transaction<'_>, namespace: &Namespace) -> rusqlite::Result<()> {
    let (mut count, mut bytes): (u64, u64) = t
        .prepare_cached(
            "SELECT count(*), coalesce(sum(size_bytes), 0) FROM dead_letters WHERE namespace = ?1",
        )?
        .query_row([namespace.as_str()], |row| Ok((unsigned(row, 0)?, unsigned(row, 1)?)))?;
    while count > DEAD_LETTERS_MAX || bytes > DEAD_LETTERS_MAX_BYTES {
        let dropped: Option<(i64, u64, String)> = t
            .prepare_cached(
                "DELETE FROM dead_letters
                 WHERE id = (SELECT id FROM dead_letters WHERE namespace = ?1 ORDER BY id LIMIT 1)
                 RETURNING message, size_bytes, function",
            )?
            .query_row([namespace.as_str()], |row| Ok((row.get(0)?, unsigned(row, 1)?, row.get(2)?)))
            .optional()?;
        let Some((message, size_bytes, function)) = dropped else { return Ok(()) };
        store::forget_message(t, message)?;
        tracing::warn!(%namespace, function, "deleted a dead letter: the namespace has too many");
        count -= 1;
        bytes = bytes.saturating_sub(size_bytes);
    }
    Ok(())
}

/// Deletes dead letters older than [`RECORD_RETENTION`], in small steps.
pub(super) fn drop_old(database: &Database, now_ms: i64) -> Result<(), EventsError> {
    let age_ms = i64::try_from(RECORD_RETENTION.as_millis()).unwrap_or(i64::MAX);
    let before_ms = now_ms.saturating_sub(age_ms);
    loop {
        // Reading does not involve other nodes.
        let is_any = database.read(|c| {
            c.prepare_cached("SELECT EXISTS (SELECT 1 FROM dead_letters WHERE failed_at_ms < ?1)")?
                .query_row([before_ms], |row| row.get::<_, bool>(0))
        });
        if !is_any? {
            return Ok(());
        }
        let dropped = database.write(|t| {
            let mut statement = t.prepare_cached(
                "DELETE FROM dead_letters WHERE id IN
                 (SELECT id FROM dead_letters WHERE failed_at_ms < ?1 ORDER BY failed_at_ms LIMIT ?2)
                 RETURNING message, namespace, function",
            )?;
            let rows = statement.query_map(params![before_ms, STEP_ROWS], |row| {
                let namespace = checked(Namespace::new(&row.get::<_, String>(1)?))?;
                Ok((row.get::<_, i64>(0)?, namespace, row.get::<_, String>(2)?))
            })?;
            let dropped = rows.collect::<rusqlite::Result<Vec<_>>>()?;
            for (message, ..) in &dropped {
                store::forget_message(t, *message)?;
            }
            Ok::<_, EventsError>(dropped)
        })?;
        for (_, namespace, function) in &dropped {
            tracing::info!(%namespace, function, "deleted an expired dead letter");
        }
        if dropped.len() < STEP_ROWS as usize {
            return Ok(());
        }
    }
}
