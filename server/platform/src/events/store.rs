//! The SQL statements on messages, jobs and leases.

use super::direct;
use super::tally::Waiting;
use super::triggers::Triggers;
use orama_runtime::names::{FunctionName, Namespace};
use orama_runtime::services::Event;
use orama_runtime::trace::TraceContext;
use orama_store::ids::new_id;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Result, Row, Transaction, params};
use std::collections::HashMap;

/// The trigger that a queue of jobs belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct QueueOwner {
    pub(super) namespace: Namespace,
    pub(super) function: FunctionName,
    /// The version that runs, where that is not the newest.
    pub(super) version: Option<u32>,
}

/// What a function reads of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A published message: the event, with the message's data in it.
    Event,
    /// The input of a run that was asked for: the data.
    Input,
    /// The same, as base64 since it is no text.
    InputBase64,
    /// A slot of a schedule: the data.
    Slot,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Event, Self::Input, Self::InputBase64, Self::Slot];

    pub(super) fn stored(row: &Row<'_>, column: usize) -> Result<Self> {
        let number: i64 = row.get(column)?;
        let kind = usize::try_from(number).ok().and_then(|number| Self::ALL.get(number).copied());
        kind.ok_or(rusqlite::Error::IntegralValueOutOfRange(column, number))
    }
}

/// A job that can run now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) id: i64,
    /// Failed attempts.
    pub(super) attempts: u32,
}

/// The message of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) topic: String,
    pub(super) data: String,
    pub(super) depth: u32,
    pub(super) published_at_ms: i64,
    pub(super) kind: Kind,
    pub(super) trace: Option<TraceContext>,
}

/// The outcome of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// The job is handled, or its function does not exist.
    Gone,
    /// It failed and is retried.
    Retry {
        /// When it is retried.
        due_ms: i64,
    },
    /// It failed for the last time.
    Dead {
        /// The error.
        error: String,
        /// The request id of the last attempt.
        request_id: String,
    },
}

/// Parses a stored name, which was checked before it was stored.
pub(super) fn checked<T>(made: std::result::Result<T, orama_runtime::names::InvalidName>) -> Result<T> {
    made.map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(error)))
}

/// Reads the trace of a message.
pub(super) fn stored_trace(row: &Row<'_>, column: usize) -> Result<Option<TraceContext>> {
    let text: Option<String> = row.get(column)?;
    Ok(text.and_then(|text| TraceContext::parse(&text)))
}

/// Converts a count or a size.
pub(super) fn unsigned(row: &Row<'_>, column: usize) -> Result<u64> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, value))
}

/// A message to be stored.
#[derive(Debug, Clone)]
pub(super) struct NewMessage {
    pub(super) message_id: String,
    pub(super) kind: Kind,
    pub(super) event: Event,
    pub(super) published_at_ms: i64,
    pub(super) to: To,
}

/// Where a message goes.
#[derive(Debug, Clone)]
pub(super) enum To {
    /// A job in the queue of each trigger.
    Triggers(Triggers),
    /// A job in a queue of its own.
    Queue {
        /// See [`super::direct`].
        id: String,
        function: FunctionName,
    },
    /// The triggers that its topic has at a time.
    Later { due_ms: i64 },
}

impl NewMessage {
    /// The number of its jobs.
    pub(super) fn jobs(&self) -> Waiting {
        let jobs = match &self.to {
            To::Triggers(triggers) => triggers.len() as u64,
            To::Queue { .. } => 1,
            To::Later { .. } => 0,
        };
        Waiting { jobs, bytes: jobs * self.event.data.len() as u64 }
    }

    /// What waits for its time.
    pub(super) fn later(&self) -> Waiting {
        match &self.to {
            To::Later { .. } => Waiting { jobs: 1, bytes: self.event.data.len() as u64 },
            To::Triggers(_) | To::Queue { .. } => Waiting::default(),
        }
    }
}

/// Stores a message and its jobs. Returns their queues.
pub(super) fn publish(t: &Transaction<'_>, namespace: &Namespace, new: &NewMessage) -> Result<Vec<i64>> {
    let NewMessage { message_id, kind, event, published_at_ms, to } = new;
    let Event { topic, data, depth, trace } = event;
    let trace = trace.map(|trace| trace.to_string());
    if let To::Later { due_ms } = to {
        t.prepare_cached(
            "INSERT INTO later (message_id, namespace, topic, data, depth, published_at_ms, due_ms, trace)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            message_id,
            namespace.as_str(),
            topic,
            data,
            depth,
            published_at_ms,
            due_ms,
            trace
        ])?;
        return Ok(Vec::new());
    }
    t.prepare_cached(
        "INSERT INTO messages (message_id, namespace, topic, data, depth, published_at_ms, kind, trace)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute(params![
        message_id,
        namespace.as_str(),
        topic,
        data,
        depth,
        published_at_ms,
        *kind as i64,
        trace
    ])?;
    let message = t.last_insert_rowid();
    let mut queues = Vec::new();
    let mut add = |trigger_id: &str, function: &FunctionName| -> Result<()> {
        let queue = queue(t, trigger_id, namespace, function.as_str())?;
        add_job(t, queue, message)?;
        queues.push(queue);
        Ok(())
    };
    match to {
        To::Triggers(triggers) => {
            triggers.iter().try_for_each(|trigger| add(&trigger.id, &trigger.function))?;
        }
        To::Queue { id, function } => add(id, function)?,
        To::Later { .. } => {}
    }
    Ok(queues)
}

/// Returns the queue of a trigger, and creates it if there is none.
pub(super) fn queue(
    t: &Transaction<'_>,
    trigger_id: &str,
    namespace: &Namespace,
    function: &str,
) -> Result<i64> {
    let known = t
        .prepare_cached("SELECT id FROM queues WHERE trigger_id = ?1")?
        .query_row([trigger_id], |row| row.get(0))
        .optional()?;
    if let Some(queue) = known {
        return Ok(queue);
    }
    t.prepare_cached("INSERT INTO queues (trigger_id, namespace, function) VALUES (?1, ?2, ?3)")?
        .execute(params![trigger_id, namespace.as_str(), function])?;
    Ok(t.last_insert_rowid())
}

pub(super) fn add_job(t: &Transaction<'_>, queue: i64, message: i64) -> Result<()> {
    t.prepare_cached("INSERT INTO jobs (queue, message) VALUES (?1, ?2)")?.execute([queue, message])?;
    Ok(())
}

/// Stores the outcome of an attempt. Returns `false` if the job does not exist any more.
pub(super) fn settle(t: &Transaction<'_>, job: i64, fate: &Fate, now_ms: i64) -> Result<bool> {
    if let Fate::Retry { due_ms } = fate {
        let rows = t
            .prepare_cached("UPDATE jobs SET attempts = attempts + 1, due_ms = ?2 WHERE id = ?1")?
            .execute([job, *due_ms])?;
        return Ok(rows > 0);
    }
    if let Fate::Dead { error, request_id } = fate {
        t.prepare_cached(
            "INSERT INTO dead_letters (dead_letter_id, namespace, function, trigger_id, message, size_bytes,
                attempts, error, request_id, failed_at_ms)
             SELECT ?2, q.namespace, q.function, q.trigger_id, m.id, octet_length(m.data), j.attempts + 1, ?3, ?4, ?5
             FROM jobs j JOIN queues q ON q.id = j.queue JOIN messages m ON m.id = j.message WHERE j.id = ?1",
        )?
        .execute(params![job, new_id(), error, request_id, now_ms])?;
    }
    let message: Option<i64> = t
        .prepare_cached("DELETE FROM jobs WHERE id = ?1 RETURNING message")?
        .query_row([job], |row| row.get(0))
        .optional()?;
    if let Some(message) = message {
        forget_message(t, message)?;
    }
    Ok(message.is_some())
}

/// Deletes a message without jobs and dead letters.
pub(super) fn forget_message(t: &Transaction<'_>, message: i64) -> Result<()> {
    t.prepare_cached(
        "DELETE FROM messages WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM jobs WHERE message = ?1)
         AND NOT EXISTS (SELECT 1 FROM dead_letters WHERE message = ?1)",
    )?
    .execute([message])?;
    Ok(())
}

/// Takes or extends the lease of a queue for `owner`. Returns `false` if another owner holds it.
pub(super) fn lease(
    t: &Transaction<'_>,
    queue: i64,
    owner: &str,
    now_ms: i64,
    until_ms: i64,
) -> Result<bool> {
    let rows = t
        .prepare_cached(
            "UPDATE queues SET lease_owner = ?2, lease_until_ms = ?4
             WHERE id = ?1 AND (lease_owner IS NULL OR lease_owner = ?2 OR lease_until_ms <= ?3)",
        )?
        .execute(params![queue, owner, now_ms, until_ms])?;
    Ok(rows > 0)
}

/// Extends the lease of a queue. Returns `false` if `owner` does not hold it any more.
pub(super) fn renew(t: &Transaction<'_>, queue: i64, owner: &str, until_ms: i64) -> Result<bool> {
    let rows = t
        .prepare_cached("UPDATE queues SET lease_until_ms = ?3 WHERE id = ?1 AND lease_owner = ?2")?
        .execute(params![queue, owner, until_ms])?;
    Ok(rows > 0)
}

/// Releases the lease of a queue.
pub(super) fn release_one(t: &Transaction<'_>, queue: i64, owner: &str) -> Result<()> {
    t.prepare_cached(
        "UPDATE queues SET lease_owner = NULL, lease_until_ms = 0 WHERE id = ?1 AND lease_owner = ?2",
    )?
    .execute(params![queue, owner])?;
    Ok(())
}

/// Whether another owner holds the lease of a queue.
pub(super) fn is_taken(c: &Connection, queue: i64, owner: &str, now_ms: i64) -> Result<bool> {
    c.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM queues WHERE id = ?1 AND lease_owner IS NOT NULL AND lease_owner <> ?2
            AND lease_until_ms > ?3)",
    )?
    .query_row(params![queue, owner, now_ms], |row| row.get(0))
}

/// Releases all leases of an owner.
pub(super) fn release(t: &Transaction<'_>, owner: &str) -> Result<()> {
    t.execute("UPDATE queues SET lease_owner = NULL, lease_until_ms = 0 WHERE lease_owner = ?1", [owner])?;
    Ok(())
}

/// Prepares the node's own file at its start: clears the leases of earlier processes, and finishes deletions that a crash
/// interrupted.
pub(super) fn start(t: &Transaction<'_>) -> Result<()> {
    t.execute_batch(
        "DELETE FROM queues WHERE NOT EXISTS (SELECT 1 FROM jobs WHERE queue = queues.id);
         UPDATE queues SET lease_owner = NULL, lease_until_ms = 0;
         DELETE FROM messages WHERE NOT EXISTS (SELECT 1 FROM jobs WHERE message = messages.id)
            AND NOT EXISTS (SELECT 1 FROM dead_letters WHERE message = messages.id);",
    )
}

/// Counts of each namespace.
pub(super) type Counted = HashMap<Namespace, Waiting>;

/// Counts the waiting jobs of each namespace, and the messages that wait for their time.
pub(super) fn waiting(c: &Connection) -> Result<(Counted, Counted)> {
    let count = |sql: &str| {
        let mut statement = c.prepare(sql)?;
        let rows = statement.query_map([], |row| {
            let namespace = checked(Namespace::new(&row.get::<_, String>(0)?))?;
            Ok((namespace, Waiting { jobs: unsigned(row, 1)?, bytes: unsigned(row, 2)? }))
        })?;
        rows.collect::<Result<Counted>>()
    };
    let jobs = count(
        "SELECT m.namespace, count(*), sum(octet_length(m.data)) FROM jobs j JOIN messages m ON m.id = j.message
         GROUP BY m.namespace",
    )?;
    let later = count("SELECT namespace, count(*), sum(octet_length(data)) FROM later GROUP BY namespace")?;
    Ok((jobs, later))
}

/// Queues with a job that can run now.
pub(super) fn ready(c: &Connection, now_ms: i64) -> Result<Vec<(i64, Namespace)>> {
    let mut statement = c.prepare_cached(
        "SELECT id, namespace FROM queues
         WHERE EXISTS (SELECT 1 FROM jobs WHERE queue = queues.id AND due_ms <= ?1)",
    )?;
    collect_queues(&mut statement, now_ms)
}

/// Queues with a retry that is due.
pub(super) fn due(c: &Connection, now_ms: i64) -> Result<Vec<(i64, Namespace)>> {
    let mut statement = c.prepare_cached(
        "SELECT id, namespace FROM queues
         WHERE id IN (SELECT queue FROM jobs WHERE due_ms > 0 AND due_ms <= ?1)",
    )?;
    collect_queues(&mut statement, now_ms)
}

fn collect_queues(statement: &mut rusqlite::Statement<'_>, now_ms: i64) -> Result<Vec<(i64, Namespace)>> {
    let rows = statement
        .query_map([now_ms], |row| Ok((row.get(0)?, checked(Namespace::new(&row.get::<_, String>(1)?))?)))?;
    rows.collect()
}

/// When the next retry is due.
pub(super) fn next_due_ms(c: &Connection, now_ms: i64) -> Result<Option<i64>> {
    c.prepare_cached("SELECT min(due_ms) FROM jobs WHERE due_ms > 0 AND due_ms > ?1")?
        .query_row([now_ms], |row| row.get(0))
}

/// Returns the trigger of a queue and its next jobs. Due retries get half of the places, so that neither retries nor new jobs
/// wait for all of the other kind. `None` if the queue does not exist any more.
pub(super) fn window(
    c: &Connection,
    queue: i64,
    now_ms: i64,
    limit: u32,
) -> Result<Option<(QueueOwner, Vec<Job>)>> {
    let owner = c
        .prepare_cached("SELECT namespace, function, trigger_id FROM queues WHERE id = ?1")?
        .query_row([queue], |row| {
            Ok(QueueOwner {
                namespace: checked(Namespace::new(&row.get::<_, String>(0)?))?,
                function: checked(FunctionName::new(&row.get::<_, String>(1)?))?,
                version: direct::version(&row.get::<_, String>(2)?),
            })
        })
        .optional()?;
    let Some(owner) = owner else { return Ok(None) };
    let mut jobs = Vec::new();
    for (sql, limit) in [
        (
            "SELECT id, attempts FROM jobs WHERE queue = ?1 AND due_ms > 0 AND due_ms <= ?2
             ORDER BY due_ms, id LIMIT ?3",
            limit.div_ceil(2),
        ),
        (
            "SELECT id, attempts FROM jobs WHERE queue = ?1 AND due_ms = 0 AND ?2 > 0 ORDER BY id LIMIT ?3",
            limit,
        ),
    ] {
        let mut statement = c.prepare_cached(sql)?;
        let rows = statement.query_map(params![queue, now_ms, limit - jobs.len() as u32], |row| {
            Ok(Job { id: row.get(0)?, attempts: row.get(1)? })
        })?;
        for job in rows {
            jobs.push(job?);
        }
    }
    Ok(Some((owner, jobs)))
}

/// The message of a job. `None` if the job does not exist any more.
pub(super) fn message(c: &Connection, job: i64) -> Result<Option<Message>> {
    c.prepare_cached(
        "SELECT m.topic, m.data, m.depth, m.published_at_ms, m.kind, m.trace FROM jobs j JOIN messages m ON m.id = j.message
         WHERE j.id = ?1",
    )?
    .query_row([job], |row| {
        Ok(Message {
            topic: row.get(0)?,
            data: row.get(1)?,
            depth: row.get(2)?,
            published_at_ms: row.get(3)?,
            kind: Kind::stored(row, 4)?,
            trace: stored_trace(row, 5)?,
        })
    })
    .optional()
}
