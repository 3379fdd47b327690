//! The outbox: a transaction of a namespace's database and a message that is published if it is committed, and only then.
//!
//! The message is a row of the same transaction. After the commit it is published, and then the row is deleted. A crash in
//! between leaves the row: the node finds it when it starts again, and other nodes find it in a database that they share. So a
//! message may be published twice, and none is lost. Which namespaces have such a table is noted in the events' file before their
//! first row.

use crate::events::NodeEvents;
use crate::limits::{OUTBOX_ROWS_AT_ONCE, OUTBOX_SWEEP_EVERY};
use orama_runtime::limits::EVENT_MAX_BYTES;
use orama_runtime::names::Namespace;
use orama_runtime::services::{
    Answer, BatchFailure, BatchMode, BatchOutcome, Consistency, Database, ErrorCode, Event, Events,
    OUTBOX_SEQ, Outbox, OutboxOutcome, ServiceError, SqlValue, Statement, StatementKind, StatementResult,
};
use orama_store::blocking::blocking;
use orama_store::clock::now_ms;
use parking_lot::Mutex;
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::time::sleep;

/// The table in the namespace's database.
const CREATE: &str = "CREATE TABLE IF NOT EXISTS _orama_outbox (seq INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, data TEXT NOT NULL, depth INTEGER NOT NULL, written_ms INTEGER NOT NULL)";
const INSERT: &str = "INSERT INTO _orama_outbox (topic, data, depth, written_ms) VALUES (?, ?, ?, ?)";
const SELECT: &str =
    "SELECT seq, topic, data, depth FROM _orama_outbox WHERE written_ms <= ? ORDER BY seq LIMIT ?";

/// How old a row is that a node publishes in another one's place: longer than a publish takes.
const LEFT_BEHIND: Duration = Duration::from_secs(30);

/// The time for one call of a sweep.
const SWEEP_PATIENCE: Duration = Duration::from_secs(20);

/// The outboxes of all namespaces. Clones share them.
#[derive(Clone)]
pub struct Outboxes(Arc<Inner>);

struct Inner {
    database: Arc<dyn Database>,
    events: Arc<NodeEvents>,
    backplane: Handle,
    /// Numbers of published messages whose rows are to be deleted; present while a task deletes those of the namespace.
    published: Mutex<HashMap<Namespace, Vec<i64>>>,
    /// When a message could last not be published; present while a task sweeps the namespace's outbox.
    unpublished: Mutex<HashMap<Namespace, i64>>,
}

/// A row of the table.
#[derive(Deserialize)]
struct Row {
    seq: i64,
    topic: String,
    data: String,
    depth: u32,
}

impl Outboxes {
    /// Outboxes in these databases, whose messages go to these events.
    #[must_use]
    pub fn new(database: Arc<dyn Database>, events: Arc<NodeEvents>, backplane: Handle) -> Self {
        let (published, unpublished) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Inner { database, events, backplane, published, unpublished }))
    }

    /// Publishes what a crash has left behind: now, and again and again where other nodes may leave something. Ends when the last
    /// clone is dropped.
    pub fn start(&self, is_shared: bool) {
        let (inner, started_ms) = (Arc::downgrade(&self.0), now_ms());
        self.0.backplane.spawn(async move {
            loop {
                // What is older than the node was left by its former life, unless others share the databases.
                let before_ms = if is_shared { left_behind_ms() } else { started_ms };
                match sweep_all(&inner, before_ms).await {
                    None => return,
                    Some(true) if !is_shared => return,
                    Some(_) => sleep(OUTBOX_SWEEP_EVERY).await,
                }
            }
        });
    }
}

/// The time before which a row was written whose message nobody is about to publish.
fn left_behind_ms() -> i64 {
    now_ms().saturating_sub(i64::try_from(LEFT_BEHIND.as_millis()).unwrap_or(i64::MAX))
}

impl Outbox for Outboxes {
    fn run(
        &self,
        namespace: &Namespace,
        statements: Vec<Statement>,
        event: Event,
        deadline: Instant,
    ) -> Answer<OutboxOutcome> {
        let (inner, namespace) = (Arc::clone(&self.0), namespace.clone());
        // Goes on when nobody waits any more: what was committed is published.
        let task =
            self.0.backplane.spawn(async move { inner.run(namespace, statements, event, deadline).await });
        Box::pin(async move {
            task.await
                .unwrap_or_else(|_| OutboxOutcome::refused(ServiceError::unavailable("the node is stopping")))
        })
    }
}

impl Inner {
    async fn run(
        self: &Arc<Self>,
        namespace: Namespace,
        mut statements: Vec<Statement>,
        event: Event,
        deadline: Instant,
    ) -> OutboxOutcome {
        if let Err(error) = self.events.check_event(&event).and_then(|()| fits_with_numbers(&event.data)) {
            return OutboxOutcome::refused(error);
        }
        if let Err(error) = self.note(&namespace).await {
            return OutboxOutcome::refused(error);
        }
        let exec = |sql: &str, args| Statement { kind: StatementKind::Exec, sql: sql.to_owned(), args };
        let row = vec![
            SqlValue::Text(event.topic.clone()),
            SqlValue::Text(event.data.clone()),
            SqlValue::Integer(event.depth.into()),
            SqlValue::Integer(now_ms()),
        ];
        // First, so that their results are there whichever statement fails after the commit.
        statements.splice(0..0, [exec(CREATE, Vec::new()), exec(INSERT, row)]);
        let mut batch = self.database.run(&namespace, BatchMode::Write, statements, deadline).await;
        let seq = take_own(&mut batch);
        if !batch.committed {
            return OutboxOutcome { batch, seq: 0, published: None };
        }
        let published = self.publish(&namespace, seq, event).await;
        let published = published.map_err(|error| {
            let message = format!(
                "the message is stored with the transaction and will be published; it could not be now: {}",
                error.message
            );
            ServiceError { message, ..error }
        });
        if published.is_err() {
            self.try_again(namespace);
        }
        OutboxOutcome { batch, seq, published: Some(published) }
    }

    /// Notes, once, that a namespace has an outbox.
    async fn note(self: &Arc<Self>, namespace: &Namespace) -> Result<(), ServiceError> {
        if self.events.knows_outbox(namespace) {
            return Ok(());
        }
        let (inner, noted) = (Arc::clone(self), namespace.clone());
        blocking(move || inner.events.note_outbox(&noted)).await.map_err(|error| {
            tracing::error!(%error, %namespace, "an outbox could not be noted");
            ServiceError::unavailable("the message could not be prepared; try again soon")
        })
    }

    /// Publishes the message of a row, and has the row deleted.
    async fn publish(
        self: &Arc<Self>,
        namespace: &Namespace,
        seq: i64,
        event: Event,
    ) -> Result<usize, ServiceError> {
        let published = self.events.publish(namespace, vec![numbered(event, seq)]).await?;
        self.forget(namespace, seq);
        Ok(published.iter().map(|published| published.suppressed_triggers).sum())
    }

    /// Has the row of a published message deleted, together with others.
    fn forget(self: &Arc<Self>, namespace: &Namespace, seq: i64) {
        {
            let mut published = self.published.lock();
            if let Some(waiting) = published.get_mut(namespace) {
                return waiting.push(seq);
            }
            published.insert(namespace.clone(), vec![seq]);
        }
        let (inner, namespace) = (Arc::clone(self), namespace.clone());
        self.backplane.spawn(async move {
            while let Some(seqs) = inner.to_delete(&namespace) {
                inner.delete(&namespace, &seqs).await;
            }
        });
    }

    /// Takes the numbers of rows to delete; `None` if there are no more, which ends the task that deletes them.
    fn to_delete(&self, namespace: &Namespace) -> Option<Vec<i64>> {
        let mut published = self.published.lock();
        let seqs = published.get_mut(namespace).map(std::mem::take).filter(|seqs| !seqs.is_empty());
        if seqs.is_none() {
            published.remove(namespace);
        }
        seqs
    }

    async fn delete(&self, namespace: &Namespace, seqs: &[i64]) {
        for some in seqs.chunks(OUTBOX_ROWS_AT_ONCE as usize) {
            let numbers: Vec<_> = some.iter().map(i64::to_string).collect();
            let sql = format!("DELETE FROM _orama_outbox WHERE seq IN ({})", numbers.join(","));
            let statement = Statement { kind: StatementKind::Exec, sql, args: Vec::new() };
            let deadline = Instant::now() + SWEEP_PATIENCE;
            let done = self.database.run(namespace, BatchMode::Write, vec![statement], deadline).await;
            if let Some(failure) = done.failure {
                // They are published once more when the outbox is swept.
                tracing::warn!(error = %failure.error, %namespace, "rows of an outbox could not be deleted");
            }
        }
    }

    /// Sweeps a namespace's outbox after a while, again and again, because a message could not be published.
    fn try_again(self: &Arc<Self>, namespace: Namespace) {
        if self.unpublished.lock().insert(namespace.clone(), now_ms()).is_some() {
            return;
        }
        let inner = Arc::clone(self);
        self.backplane.spawn(async move {
            loop {
                sleep(LEFT_BEHIND).await;
                let before_ms = left_behind_ms();
                if let Err(error) = inner.sweep(&namespace, before_ms).await {
                    tracing::warn!(%error, %namespace, "an outbox could not be swept");
                    continue;
                }
                let mut unpublished = inner.unpublished.lock();
                // Another one may have failed meanwhile.
                if unpublished.get(&namespace).is_none_or(|failed_ms| *failed_ms <= before_ms) {
                    unpublished.remove(&namespace);
                    return;
                }
            }
        });
    }

    /// Publishes the rows of a namespace's outbox that were written before a time.
    async fn sweep(self: &Arc<Self>, namespace: &Namespace, before_ms: i64) -> Result<(), ServiceError> {
        loop {
            let args = vec![SqlValue::Integer(before_ms), SqlValue::Integer(OUTBOX_ROWS_AT_ONCE.into())];
            let select = Statement { kind: StatementKind::Query, sql: SELECT.to_owned(), args };
            let deadline = Instant::now() + SWEEP_PATIENCE;
            let mode = BatchMode::Read(Consistency::Weak);
            let mut outcome = self.database.run(namespace, mode, vec![select], deadline).await;
            if let Some(BatchFailure { error, .. }) = outcome.failure {
                // It has been deleted meanwhile, or never was committed.
                return if error.message.contains("no such table") { Ok(()) } else { Err(error) };
            }
            let Some(StatementResult::Query { rows, .. }) = outcome.results.pop() else { return Ok(()) };
            let rows: Vec<Row> = serde_json::from_str(&rows).map_err(|_| {
                ServiceError::invalid("the table _orama_outbox was changed and cannot be read; drop it")
            })?;
            let (count, mut seqs) = (rows.len(), Vec::new());
            for Row { seq, topic, data, depth } in rows {
                let event = numbered(Event { topic, data, depth, trace: None }, seq);
                if let Err(error) = self.events.check_event(&event) {
                    tracing::warn!(%error, %namespace, seq, "a row of an outbox is dropped: it is no message");
                } else {
                    self.events.publish(namespace, vec![event]).await?;
                }
                seqs.push(seq);
            }
            if !seqs.is_empty() {
                tracing::info!(%namespace, count, "published messages that were left in an outbox");
                self.delete(namespace, &seqs).await;
            }
            if count < OUTBOX_ROWS_AT_ONCE as usize {
                return Ok(());
            }
        }
    }
}

/// The message with its number in its data.
fn numbered(event: Event, seq: i64) -> Event {
    Event { data: event.data.replace(OUTBOX_SEQ, &seq.to_string()), ..event }
}

/// Checks that a message is not too large whatever its number is: what is committed must be publishable.
fn fits_with_numbers(data: &str) -> Result<(), ServiceError> {
    const NUMBER_MAX_BYTES: usize = 19;
    let more = data.matches(OUTBOX_SEQ).count() * (NUMBER_MAX_BYTES - OUTBOX_SEQ.len());
    if data.len() + more <= EVENT_MAX_BYTES {
        return Ok(());
    }
    let message =
        format!("the data of an event may have at most {EVENT_MAX_BYTES} bytes, its numbers included");
    Err(ServiceError::new(ErrorCode::PayloadTooLarge, message))
}

/// Takes the node's own two statements, the first ones, out of an outcome. Returns the message's number.
fn take_own(batch: &mut BatchOutcome) -> i64 {
    const OWN: usize = 2;
    if let Some(failure) = &mut batch.failure {
        failure.index = failure.index.and_then(|index| index.checked_sub(OWN));
    }
    let mut own = batch.results.drain(..OWN.min(batch.results.len()));
    match own.next_back() {
        Some(StatementResult::Exec { last_insert_id, .. }) => last_insert_id,
        _ => 0,
    }
}

/// Sweeps every outbox. Returns whether all could be; `None` when the node has ended.
async fn sweep_all(inner: &Weak<Inner>, before_ms: i64) -> Option<bool> {
    let events = Arc::clone(&inner.upgrade()?.events);
    let noted = match blocking(move || events.outboxes()).await {
        Ok(noted) => noted,
        Err(error) => {
            tracing::warn!(%error, "outboxes could not be listed");
            return Some(false);
        }
    };
    let (mut failed, mut first) = (0_usize, None);
    for namespace in noted {
        if let Err(error) = inner.upgrade()?.sweep(&namespace, before_ms).await {
            failed += 1;
            first.get_or_insert((namespace, error));
        }
    }
    // One line for all, as they fail together when their servers do.
    if let Some((namespace, error)) = first {
        tracing::warn!(%error, %namespace, failed, "outboxes could not be swept; the first one is named");
    }
    Some(failed == 0)
}
