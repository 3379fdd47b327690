//! Replicas of the platform database on rqlite: each node reads only its replica in SQLite, and changes the data through an
//! ordered log.
//!
//! A change runs in a transaction on the replica. rqlite gets the rows that it changed (`capture`) together with a log entry, in
//! one transaction. rqlite accepts it only if the last entry is the one that the replica applied last (`log`). Then the replica
//! commits too. If another node was first, the replica applies that node's entries and the change runs again. So every
//! replica is a prefix of one history, and a change is always decided on the state to which it is applied.
//!
//! A replica that does not fit the log is rebuilt (`copy`).

use super::breaker::retry_pause;
use super::pubsub::PubSub;
use super::rqlite::{Level, RqliteClient, RqliteError};
use super::sqlite::SqliteError;
use crate::limits::PLATFORM_WRITE_TIMEOUT;
use crate::limits::{
    PLATFORM_COMMIT_MAX_BYTES, PLATFORM_COPY_TIMEOUT, PLATFORM_PULL_BYTES, PLATFORM_PULL_ENTRIES,
    PLATFORM_PULL_TIMEOUT, PLATFORM_WRITE_TRIES,
};
use apply::ApplyError;
use bytes::Bytes;
use entry::{Change, Position};
use log::{Appended, Batch, Log, Pulled};
use parking_lot::Mutex;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, OnceLock};
use std::time::Instant;
use tokio::runtime::Handle;

mod apply;
mod capture;
mod copy;
mod entry;
mod error;
mod log;
mod puller;
mod start;

pub use error::ReplicaError;
use error::{being_copied, unavailable};
pub(super) use start::open;

/// The context that all replicas of a node share.
#[derive(Clone)]
pub struct Shared {
    /// The servers that have the data.
    pub client: RqliteClient,
    /// The pubsub on which nodes announce changes.
    pub pubsub: Arc<dyn PubSub>,
    /// The runtime of the client.
    pub backplane: Handle,
    /// The node's name in the log, for people.
    pub node: String,
}

/// The schema of one replicated stream of data.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// Its name.
    pub stream: &'static str,
    /// All migrations in order. A released migration never changes.
    pub steps: &'static [&'static str],
}

/// Changes of other nodes that were applied.
#[derive(Debug, Default)]
pub struct Applied {
    /// The changed tables.
    pub tables: BTreeSet<String>,
    /// Whether the replica was rebuilt, so anything may have changed.
    pub is_whole: bool,
}

type OnApplied = Box<dyn Fn(&Applied) + Send + Sync>;

#[derive(Default)]
struct State {
    position: Position,
    /// The replica must be rebuilt.
    is_elsewhere: bool,
    /// The layout in the log, if this version does not know it.
    newer: Option<usize>,
    /// When the replica last was at the end of the log.
    fresh: Option<Instant>,
}

/// The shared side of a [`super::sqlite::Database`].
pub(super) struct Replica {
    path: PathBuf,
    layout: Layout,
    log: Log,
    shared: Shared,
    /// The topic of announcements.
    topic: String,
    /// Changes only while the writer's connection is held.
    state: Mutex<State>,
    on_applied: OnceLock<OnApplied>,
    /// Wakes the puller.
    kick: SyncSender<()>,
}

impl Replica {
    /// Sets a listener for applied changes of other nodes. Only the first call has an effect. The listener must not write.
    pub(super) fn on_applied(&self, callback: OnApplied) {
        let _ = self.on_applied.set(callback);
    }

    /// See [`super::sqlite::Database::write`].
    pub(super) fn write<T, E: From<SqliteError>>(
        &self,
        writer: &Mutex<Connection>,
        mut work: impl FnMut(&Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let deadline = Instant::now() + PLATFORM_WRITE_TIMEOUT;
        let mut connection = writer.lock();
        let mut is_fresh = false;
        for attempt in 0..PLATFORM_WRITE_TRIES {
            self.check(deadline).map_err(SqliteError::from)?;
            let t = connection
                .transaction_with_behavior(TransactionBehavior::Immediate)
                .map_err(SqliteError::from)?;
            capture::clear(&t).map_err(SqliteError::from)?;
            let result = work(&t);
            let changes = match &result {
                Ok(_) => capture::changes(&t).map_err(SqliteError::from)?,
                Err(_) => Vec::new(),
            };
            if changes.is_empty() {
                drop(t);
                // It may have been decided on a stale state.
                if is_fresh
                    || !self.catch_up(&mut connection, Level::Weak, deadline).map_err(SqliteError::from)?
                {
                    return result;
                }
                is_fresh = true;
                continue;
            }
            if self.commit(t, changes, deadline).map_err(SqliteError::from)? {
                return result;
            }
            if attempt > 0 {
                std::thread::sleep(
                    retry_pause(attempt).min(deadline.saturating_duration_since(Instant::now())),
                );
            }
            self.catch_up(&mut connection, Level::Weak, deadline).map_err(SqliteError::from)?;
        }
        Err(SqliteError::from(unavailable("the data are contended: other nodes change them too often"))
            .into())
    }

    /// Checks that a change may begin.
    fn check(&self, deadline: Instant) -> Result<(), ReplicaError> {
        let state = self.state.lock();
        if let Some(found) = state.newer {
            return Err(self.newer(found));
        }
        if state.is_elsewhere {
            return Err(being_copied());
        }
        if Instant::now() >= deadline {
            return Err(unavailable("rqlite is slow, and too many changes wait"));
        }
        Ok(())
    }

    fn newer(&self, found: usize) -> ReplicaError {
        ReplicaError::Newer { stream: self.layout.stream, found, known: self.layout.steps.len() }
    }

    /// Commits a transaction in rqlite and in the replica. Returns `false` if another node was first.
    fn commit(
        &self,
        t: Transaction<'_>,
        changes: Vec<Change>,
        deadline: Instant,
    ) -> Result<bool, ReplicaError> {
        let bytes: usize = changes.iter().map(|change| change.sql.len()).sum();
        if bytes > PLATFORM_COMMIT_MAX_BYTES {
            return Err(ReplicaError::TooLarge);
        }
        let position = self.state.lock().position.clone();
        let batch = Batch::new(position.schema, changes);
        let next =
            Position { generation: position.generation + 1, id: batch.id.clone(), schema: position.schema };
        apply::set_position(&t, &next)?;
        match self.append(position, batch, deadline) {
            Appended::Yes => {}
            Appended::Conflict => return Ok(false),
            Appended::No(error) => return Err(unavailable(error)),
            Appended::Unknown(error) => {
                self.kick();
                return Err(ReplicaError::Unknown(error.into()));
            }
            Appended::Diverged(message) => {
                tracing::error!(
                    stream = self.layout.stream,
                    message,
                    "rqlite refused a change that this node's replica accepted; the replica is rebuilt"
                );
                self.elsewhere();
                return Err(being_copied());
            }
        }
        let generation = next.generation;
        match t.commit() {
            Ok(()) => self.state.lock().position = next,
            Err(error) => {
                tracing::error!(%error, "a change that rqlite stored could not be stored in the replica; it is applied again from the log");
                self.kick();
            }
        }
        self.announce(generation);
        Ok(true)
    }

    fn append(&self, position: Position, batch: Batch, deadline: Instant) -> Appended {
        let log = self.log.clone();
        let appended = self.wait(async move { log.append(&position, batch, deadline).await });
        appended.unwrap_or_else(|| Appended::Unknown(RqliteError::Unknown("the node is stopping".into())))
    }

    /// Runs a future on the backplane and blocks until it is done. `None` if the backplane has ended. The future must have a
    /// deadline.
    fn wait<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        self.shared.backplane.spawn(async move {
            let _gone = sender.send(work.await);
        });
        receiver.recv().ok()
    }

    /// See [`super::sqlite::Database::catch_up`].
    pub(super) fn catch_up_now(&self, writer: &Mutex<Connection>) -> Result<(), ReplicaError> {
        let deadline = Instant::now() + PLATFORM_WRITE_TIMEOUT;
        let mut connection = writer.lock();
        self.check(deadline)?;
        // A deposed leader that does not know it yet would answer a weak read with stale data.
        self.catch_up(&mut connection, Level::Strong, deadline).map(drop)
    }

    /// Applies the entries of other nodes up to the end of the log. Returns whether there were any.
    fn catch_up(
        &self,
        connection: &mut Connection,
        level: Level,
        deadline: Instant,
    ) -> Result<bool, ReplicaError> {
        let mut is_new = false;
        loop {
            match self.pull(level, deadline)? {
                Pulled::Entries(entries) => {
                    let bytes: usize =
                        entries.iter().flat_map(|entry| &entry.changes).map(|change| change.sql.len()).sum();
                    let is_all = (entries.len() as i64) < PLATFORM_PULL_ENTRIES
                        && (bytes as i64) < PLATFORM_PULL_BYTES;
                    is_new |= !entries.is_empty();
                    self.apply(connection, &entries)?;
                    if is_all {
                        self.state.lock().fresh = Some(Instant::now());
                        return Ok(is_new);
                    }
                }
                Pulled::Empty if self.state.lock().position == Position::default() => return Ok(is_new),
                Pulled::Empty | Pulled::Elsewhere => {
                    // It verifies that.
                    self.kick();
                    return Err(being_copied());
                }
            }
        }
    }

    fn pull(&self, level: Level, deadline: Instant) -> Result<Pulled, ReplicaError> {
        let (log, position) = (self.log.clone(), self.state.lock().position.clone());
        let deadline = deadline.min(Instant::now() + PLATFORM_PULL_TIMEOUT);
        let pulled = self.wait(async move { log.pull(&position, level, deadline).await });
        pulled.ok_or_else(|| unavailable("the node is stopping"))?.map_err(unavailable)
    }

    /// Applies entries after the position.
    fn apply(&self, connection: &mut Connection, entries: &[entry::Entry]) -> Result<(), ReplicaError> {
        let position = self.state.lock().position.clone();
        let known = entries.iter().take_while(|entry| entry.schema <= self.layout.steps.len()).count();
        let (usable, newer) = entries.split_at(known);
        match apply::entries(connection, &position, usable) {
            Ok(applied) => {
                let mut state = self.state.lock();
                if let Some(last) = usable.last() {
                    state.position = last.position();
                }
                drop(state);
                self.tell(&applied);
            }
            Err(ApplyError::Diverged(message)) => {
                tracing::error!(
                    stream = self.layout.stream,
                    message,
                    "this node's replica does not fit the log and is rebuilt"
                );
                self.elsewhere();
                return Err(being_copied());
            }
            Err(ApplyError::Failed(error)) => return Err(error),
        }
        match newer.first() {
            Some(entry) => {
                let error = self.newer(entry.schema);
                if self.state.lock().newer.replace(entry.schema).is_none() {
                    tracing::error!(%error, "this node cannot apply changes of other nodes, so it refuses changes; its replica becomes stale");
                }
                Err(error)
            }
            None => Ok(()),
        }
    }

    /// Rebuilds the replica from a backup of rqlite.
    fn copy_anew(&self, writer: &Mutex<Connection>) -> Result<(), ReplicaError> {
        let deadline = Instant::now() + PLATFORM_COPY_TIMEOUT;
        let stream = self.layout.stream;
        let log = self.log.clone();
        let stopping = || unavailable("the node is stopping");
        let least = self
            .wait(async move { log.last(Level::Strong, deadline).await })
            .ok_or_else(stopping)?
            .map_err(unavailable)?
            .ok_or_else(|| unavailable("rqlite has lost the platform database; restore it from a backup"))?;
        let backup = copy::file(&self.path)?;
        let file = backup.reopen().map_err(unavailable)?;
        let fetched = self.wait(copy::fetch(self.log.client().clone(), file, deadline));
        fetched.ok_or_else(stopping)?.map_err(unavailable)?;
        let position = copy::position(backup.path(), stream)?
            // A deposed leader may have answered.
            .filter(|position| position.generation >= least)
            .ok_or_else(|| unavailable("rqlite's backup is older than its data"))?;
        let known = self.layout.steps.len();
        if position.schema > known {
            self.state.lock().newer = Some(position.schema);
            return Err(self.newer(position.schema));
        }
        let mut connection = writer.lock();
        match copy::replace(&mut connection, backup.path(), self.layout.steps, &position) {
            Ok(()) => {}
            Err(ApplyError::Diverged(message)) => return Err(unavailable(message)),
            Err(ApplyError::Failed(error)) => return Err(error),
        }
        tracing::info!(stream, generation = position.generation, "this node's replica was rebuilt");
        *self.state.lock() =
            State { position, is_elsewhere: false, newer: None, fresh: Some(Instant::now()) };
        self.tell(&Applied { is_whole: true, ..Applied::default() });
        Ok(())
    }

    fn tell(&self, applied: &Applied) {
        if (applied.is_whole || !applied.tables.is_empty())
            && let Some(callback) = self.on_applied.get()
        {
            callback(applied);
        }
    }

    /// Announces an entry to other nodes, without waiting: they also poll the log.
    fn announce(&self, generation: i64) {
        let sent = self.shared.pubsub.publish(&self.topic, Bytes::from(generation.to_string()));
        self.shared.backplane.spawn(async move {
            if let Err(error) = sent.await {
                tracing::debug!(%error, "a change could not be announced to other nodes");
            }
        });
    }

    fn elsewhere(&self) {
        self.state.lock().is_elsewhere = true;
        self.kick();
    }

    fn kick(&self) {
        // If the channel is full, the puller is being woken already.
        let _ = self.kick.try_send(());
    }
}

#[cfg(test)]
mod tests;
