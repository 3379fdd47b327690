//! The log in rqlite. A node that knows its end can append to it; all nodes read it.

use super::entry::{self, Change, Entry, Position};
use crate::breaker::retry_pause;
use crate::clock::now_ms;
use crate::ids::new_id;
use crate::limits::{
    PLATFORM_LOG_ENTRIES, PLATFORM_LOG_MAX_BYTES, PLATFORM_PULL_BYTES, PLATFORM_PULL_ENTRIES,
    PLATFORM_RESOLVE_TIME,
};
use crate::rqlite::{Level, Options, RqliteClient, RqliteError, Statement, Value};
use std::time::Instant;

/// The log is truncated every so many commits.
const TRIM_EVERY: i64 = 64;

const CREATE: &str = "CREATE TABLE IF NOT EXISTS orama_log (stream TEXT NOT NULL, gen INTEGER NOT NULL, id TEXT NOT NULL, \
    node TEXT NOT NULL, at_ms INTEGER NOT NULL, changes TEXT NOT NULL, PRIMARY KEY (stream, gen))";

/// Violates a constraint of `orama_log` unless commit ?2 is the last one and has the id ?3: otherwise the id is NULL or the
/// generation is taken. An empty log has no commit.
const APPEND: &str = "INSERT INTO orama_log (stream, gen, id, node, at_ms, changes) VALUES (?1, ?2 + 1, \
    CASE WHEN (SELECT id FROM orama_log WHERE stream = ?1 AND gen = ?2) = ?3 \
    OR (?2 = 0 AND NOT EXISTS (SELECT 1 FROM orama_log WHERE stream = ?1)) THEN ?4 END, ?5, ?6, ?7)";

const TRIM: &str = "DELETE FROM orama_log WHERE stream = ?1 AND (gen <= ?2 OR gen <= (SELECT max(gen) FROM \
    (SELECT gen, sum(octet_length(changes)) OVER (ORDER BY gen DESC) AS total FROM orama_log WHERE stream = ?1) WHERE total > ?3))";

/// Commits from ?2 on: the first one without its changes, then as many as fit, at least one.
const PULL: &str = "SELECT gen, id, CASE WHEN gen > ?2 THEN changes ELSE '' END FROM \
    (SELECT gen, id, changes, sum(octet_length(changes)) OVER (ORDER BY gen) - octet_length(changes) AS before FROM \
    (SELECT gen, id, changes FROM orama_log WHERE stream = ?1 AND gen >= ?2 ORDER BY gen LIMIT ?3)) \
    WHERE before <= ?4 OR gen <= ?2 + 1 ORDER BY gen";

/// The result of reading the log after a position.
#[derive(Debug)]
pub(super) enum Pulled {
    /// The position is in the log, and these commits follow; there may be none.
    Entries(Vec<Entry>),
    /// The log is empty.
    Empty,
    /// The position is not in the log, or was truncated: the replica must be rebuilt.
    Elsewhere,
}

/// The result of an append.
#[derive(Debug)]
pub(super) enum Appended {
    Yes,
    /// Another commit was first. It may be the empty one that takes the place of this one.
    Conflict,
    /// It certainly was not and will not be appended.
    No(RqliteError),
    /// The outcome is unknown.
    Unknown(RqliteError),
    /// A statement failed in rqlite that succeeded on the replica.
    Diverged(String),
}

#[derive(Clone)]
pub(super) struct Log {
    client: RqliteClient,
    stream: &'static str,
    /// The node that wrote an entry, for people.
    node: String,
}

/// An entry to be appended.
pub(super) struct Batch {
    pub(super) id: String,
    pub(super) schema: usize,
    pub(super) changes: Vec<Change>,
}

impl Batch {
    pub(super) fn new(schema: usize, changes: Vec<Change>) -> Self {
        Self { id: new_id(), schema, changes }
    }
}

impl Log {
    pub(super) fn new(client: RqliteClient, stream: &'static str, node: String) -> Self {
        Self { client, stream, node }
    }

    pub(super) fn client(&self) -> &RqliteClient {
        &self.client
    }

    /// Creates the table if there is none.
    pub(super) async fn create(&self, deadline: Instant) -> Result<(), RqliteError> {
        let options = Options { rewrites: false, ..Options::default() };
        self.client.execute(&[Statement::new(CREATE, [])], &options, deadline).await.map(drop)
    }

    /// Appends an entry after a position. If rqlite does not answer, determines the outcome.
    pub(super) async fn append(&self, position: &Position, batch: Batch, deadline: Instant) -> Appended {
        let own = batch.id.clone();
        // Reserves time to determine the outcome.
        let begun = Instant::now();
        let first = deadline.checked_sub(PLATFORM_RESOLVE_TIME).filter(|first| *first > begun);
        match self.send(position, batch, first.unwrap_or(deadline)).await {
            Appended::Unknown(error) => self.resolve(position, &own, error, deadline).await,
            // If rqlite's servers forwarded it twice, the second copy meets the first.
            Appended::Conflict => match self.is_own(position, &own, deadline).await {
                Ok(true) => Appended::Yes,
                Ok(false) => Appended::Conflict,
                Err(error) => Appended::Unknown(error),
            },
            appended => appended,
        }
    }

    async fn send(&self, position: &Position, batch: Batch, deadline: Instant) -> Appended {
        let Batch { id, schema, changes } = batch;
        let text = |value: &str| Value::Text(value.to_owned());
        let now_ms = now_ms();
        let mut statements = vec![Statement::new(
            APPEND,
            [
                text(self.stream),
                Value::Integer(position.generation),
                text(&position.id),
                Value::Text(id),
                text(&self.node),
                Value::Integer(now_ms),
                Value::Text(entry::write(schema, &changes)),
            ],
        )];
        statements.extend(changes.into_iter().map(|change| Statement::new(change.sql, [])));
        let generation = position.generation + 1;
        if generation % TRIM_EVERY == 0 {
            let params = [
                text(self.stream),
                Value::Integer(generation - PLATFORM_LOG_ENTRIES),
                Value::Integer(PLATFORM_LOG_MAX_BYTES),
            ];
            statements.push(Statement::new(TRIM, params));
        }
        let options = Options { transaction: true, rewrites: false, ..Options::default() };
        match self.client.execute(&statements, &options, deadline).await {
            Ok(replies) if replies.len() == statements.len() => Appended::Yes,
            Ok(_) => Appended::Unknown(RqliteError::Protocol("the answer lacks a statement".into())),
            Err(RqliteError::Sql { index: 0, message })
                if message.contains("constraint failed: orama_log.") =>
            {
                Appended::Conflict
            }
            Err(RqliteError::Sql { index: 1.., message }) => Appended::Diverged(message),
            Err(error) if error.is_certainly_not_applied() => Appended::No(error),
            Err(error) => Appended::Unknown(error),
        }
    }

    /// Writes an empty entry at the place of a commit with an unknown outcome. If that succeeds, the commit will never be
    /// applied. Otherwise the place is taken, and the log tells by which commit.
    async fn resolve(
        &self,
        position: &Position,
        own: &str,
        mut error: RqliteError,
        deadline: Instant,
    ) -> Appended {
        for retry in 1.. {
            if Instant::now() >= deadline {
                break;
            }
            match self.send(position, Batch::new(position.schema, Vec::new()), deadline).await {
                Appended::Yes => return Appended::Conflict,
                Appended::Conflict => match self.is_own(position, own, deadline).await {
                    Ok(true) => return Appended::Yes,
                    Ok(false) => return Appended::Conflict,
                    Err(later) => error = later,
                },
                Appended::No(RqliteError::Refused(_)) => {}
                Appended::No(later) | Appended::Unknown(later) => error = later,
                Appended::Diverged(message) => error = RqliteError::Protocol(message.into()),
            }
            let pause = retry_pause(retry).min(deadline.saturating_duration_since(Instant::now()));
            tokio::time::sleep(pause).await;
        }
        Appended::Unknown(error)
    }

    /// Whether the commit after a position is this one.
    async fn is_own(&self, position: &Position, own: &str, deadline: Instant) -> Result<bool, RqliteError> {
        let params = [Value::Text(self.stream.to_owned()), Value::Integer(position.generation + 1)];
        let options = Options { level: Level::Strong, ..Options::default() };
        let select = Statement::new("SELECT id FROM orama_log WHERE stream = ?1 AND gen = ?2", params);
        let rows = self.client.query(&[select], &options, deadline).await?;
        // The log may have been truncated since, which means that this was long ago.
        let id = rows.first().and_then(|rows| rows.values.first()).and_then(|row| row.first());
        match id {
            Some(Value::Text(id)) => Ok(id == own),
            _ => Err(RqliteError::Unknown("the log was truncated meanwhile".into())),
        }
    }

    /// Reads the log after a position. That a position is missing is certain only at a consistency level that guarantees it.
    pub(super) async fn pull(
        &self,
        position: &Position,
        level: Level,
        deadline: Instant,
    ) -> Result<Pulled, RqliteError> {
        let from = position.generation;
        let params = [
            Value::Text(self.stream.to_owned()),
            Value::Integer(from),
            Value::Integer(PLATFORM_PULL_ENTRIES),
            Value::Integer(PLATFORM_PULL_BYTES),
        ];
        let options = Options { level, reply_max_bytes: REPLY_MAX_BYTES, ..Options::default() };
        let rows = self.client.query(&[Statement::new(PULL, params)], &options, deadline).await?;
        let damaged = || RqliteError::Protocol("the log of the platform database is damaged".into());
        let mut entries = Vec::new();
        let mut is_known = from == 0;
        for row in rows.into_iter().flat_map(|rows| rows.values) {
            let [Value::Integer(generation), Value::Text(id), Value::Text(text)] = row.as_slice() else {
                return Err(damaged());
            };
            if *generation == from {
                if *id != position.id {
                    return Ok(Pulled::Elsewhere);
                }
                is_known = true;
            } else if !is_known || *generation != from + 1 + entries.len() as i64 {
                return Ok(Pulled::Elsewhere);
            } else {
                entries.push(Entry::read(*generation, id, text).ok_or_else(damaged)?);
            }
        }
        if is_known && (from > 0 || !entries.is_empty()) {
            return Ok(Pulled::Entries(entries));
        }
        Ok(if self.last(level, deadline).await?.is_some() { Pulled::Elsewhere } else { Pulled::Empty })
    }

    /// The number of the last commit.
    pub(super) async fn last(&self, level: Level, deadline: Instant) -> Result<Option<i64>, RqliteError> {
        let sql = "SELECT max(gen) FROM orama_log WHERE stream = ?1";
        let select = Statement::new(sql, [Value::Text(self.stream.to_owned())]);
        let rows = self.client.query(&[select], &Options { level, ..Options::default() }, deadline).await?;
        match rows.first().and_then(|rows| rows.values.first()).and_then(|row| row.first()) {
            Some(Value::Integer(generation)) => Ok(Some(*generation)),
            _ => Ok(None),
        }
    }
}

/// Maximum size of an answer: a commit in JSON.
const REPLY_MAX_BYTES: usize = 256 << 20;
