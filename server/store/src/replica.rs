//! The platform's data on rqlite: each node has a copy in SQLite, reads it alone, and changes it through an ordered log.
//!
//! A change runs in a transaction on the copy. What it did, row by row (`capture`), goes to rqlite together with an entry of the
//! log, as one transaction that succeeds only behind the very commit that the copy has seen last (`log`). Then the copy
//! commits too. When another node was first, the copy takes what that one did, and the change runs again. So all nodes have the
//! same history, each a part of it from the beginning on, and what a change was decided on is what it was applied to.
//!
//! A copy that does not fit the log is made anew (`copy`).

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
use rusqlite::{Connection, Transaction, TransactionBehavior};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
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

/// What all copies of a node share.
#[derive(Clone)]
pub struct Shared {
    /// Where the data are.
    pub client: RqliteClient,
    /// Where nodes tell each other of changes.
    pub pubsub: Arc<dyn PubSub>,
    /// Where the client works.
    pub backplane: Handle,
    /// The node's name in the log, for people.
    pub node: String,
}

/// Which data a copy is of.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// Their name.
    pub stream: &'static str,
    /// Every layout that they ever had, in order; a released step never changes.
    pub steps: &'static [&'static str],
}

/// What other nodes changed.
#[derive(Debug, Default)]
pub struct Applied {
    /// Tables of which rows were changed.
    pub tables: BTreeSet<String>,
    /// The copy was made anew: anything may have changed.
    pub is_whole: bool,
}

type OnApplied = Box<dyn Fn(&Applied) + Send + Sync>;

#[derive(Default)]
struct State {
    position: Position,
    /// The copy is to be made anew.
    is_elsewhere: bool,
    /// A layout in the log that this version does not know.
    newer: Option<usize>,
    /// When rqlite last said that the copy is up to date.
    fresh: Option<Instant>,
}

/// The shared side of a [`super::sqlite::Database`].
pub(super) struct Replica {
    path: PathBuf,
    layout: Layout,
    log: Log,
    shared: Shared,
    /// Where changes are told of.
    topic: String,
    /// The position changes only while the writer's connection is held.
    state: Mutex<State>,
    on_applied: OnceLock<OnApplied>,
    /// Has the puller look at once.
    kick: SyncSender<()>,
}

impl Replica {
    /// Sets who is told when changes of other nodes were applied; the first call counts. It must not write.
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
        let mut connection = writer.lock().unwrap_or_else(PoisonError::into_inner);
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
                // What it was decided on may be old.
                if is_fresh || !self.catch_up(&mut connection, deadline).map_err(SqliteError::from)? {
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
            self.catch_up(&mut connection, deadline).map_err(SqliteError::from)?;
        }
        Err(SqliteError::from(unavailable("other nodes change the same data all the time")).into())
    }

    /// Whether a change may begin.
    fn check(&self, deadline: Instant) -> Result<(), ReplicaError> {
        let state = self.state();
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

    /// Stores what a transaction did, here and there; `false` when another node was first.
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
        let position = self.state().position.clone();
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
                return Err(ReplicaError::Unknown(error.to_string()));
            }
            Appended::Diverged(message) => {
                tracing::error!(
                    stream = self.layout.stream,
                    message,
                    "rqlite does not take what this node's copy took; the copy is made anew"
                );
                self.elsewhere();
                return Err(being_copied());
            }
        }
        let generation = next.generation;
        match t.commit() {
            Ok(()) => self.state().position = next,
            Err(error) => {
                tracing::error!(%error, "what is stored in rqlite could not be stored in its copy, and is taken again");
                self.kick();
            }
        }
        self.announce(generation);
        Ok(true)
    }

    fn append(&self, position: Position, batch: Batch, deadline: Instant) -> Appended {
        let log = self.log.clone();
        let appended = self.wait(async move { log.append(&position, batch, deadline).await });
        appended.unwrap_or_else(|| Appended::Unknown(RqliteError::Unknown("the node is stopping".to_owned())))
    }

    /// Runs on the backplane, and blocks until it is done; `None` when the backplane ended. What it runs has a deadline.
    fn wait<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        self.shared.backplane.spawn(async move {
            let _gone = sender.send(work.await);
        });
        receiver.recv().ok()
    }

    /// Takes what other nodes did; whether there was anything.
    fn catch_up(&self, connection: &mut Connection, deadline: Instant) -> Result<bool, ReplicaError> {
        let mut is_new = false;
        loop {
            match self.pull(Level::Weak, deadline)? {
                Pulled::Entries(entries) => {
                    let bytes: usize =
                        entries.iter().flat_map(|entry| &entry.changes).map(|change| change.sql.len()).sum();
                    let is_all = (entries.len() as i64) < PLATFORM_PULL_ENTRIES
                        && (bytes as i64) < PLATFORM_PULL_BYTES;
                    is_new |= !entries.is_empty();
                    self.apply(connection, &entries)?;
                    if is_all {
                        self.state().fresh = Some(Instant::now());
                        return Ok(is_new);
                    }
                }
                Pulled::Empty if self.state().position == Position::default() => return Ok(is_new),
                Pulled::Empty | Pulled::Elsewhere => {
                    // It looks whether that is so.
                    self.kick();
                    return Err(being_copied());
                }
            }
        }
    }

    fn pull(&self, level: Level, deadline: Instant) -> Result<Pulled, ReplicaError> {
        let (log, position) = (self.log.clone(), self.state().position.clone());
        let deadline = deadline.min(Instant::now() + PLATFORM_PULL_TIMEOUT);
        let pulled = self.wait(async move { log.pull(&position, level, deadline).await });
        pulled.ok_or_else(|| unavailable("the node is stopping"))?.map_err(unavailable)
    }

    /// Applies entries that follow the position.
    fn apply(&self, connection: &mut Connection, entries: &[entry::Entry]) -> Result<(), ReplicaError> {
        let position = self.state().position.clone();
        let known = entries.iter().take_while(|entry| entry.schema <= self.layout.steps.len()).count();
        let (usable, newer) = entries.split_at(known);
        match apply::entries(connection, &position, usable) {
            Ok(applied) => {
                let mut state = self.state();
                if let Some(last) = usable.last() {
                    state.position = last.position();
                }
                drop(state);
                self.tell(&applied);
            }
            Err(ApplyError::Diverged(message)) => {
                tracing::error!(stream = self.layout.stream, message, "this node's copy is made anew");
                self.elsewhere();
                return Err(being_copied());
            }
            Err(ApplyError::Failed(error)) => return Err(error),
        }
        match newer.first() {
            Some(entry) => {
                let error = self.newer(entry.schema);
                if self.state().newer.replace(entry.schema).is_none() {
                    tracing::error!(%error, "nothing more is taken from other nodes, and nothing can be changed");
                }
                Err(error)
            }
            None => Ok(()),
        }
    }

    /// Makes the copy anew, from what rqlite has by now.
    fn copy_anew(&self, writer: &Mutex<Connection>) -> Result<(), ReplicaError> {
        let deadline = Instant::now() + PLATFORM_COPY_TIMEOUT;
        let stream = self.layout.stream;
        let log = self.log.clone();
        let stopping = || unavailable("the node is stopping");
        let least = self
            .wait(async move { log.last(Level::Strong, deadline).await })
            .ok_or_else(stopping)?
            .map_err(unavailable)?
            .ok_or_else(|| {
                unavailable("rqlite has lost all of the platform's data; restore it from a backup")
            })?;
        let backup = copy::file(&self.path)?;
        let file = backup.reopen().map_err(unavailable)?;
        let fetched = self.wait(copy::fetch(self.log.client().clone(), file, deadline));
        fetched.ok_or_else(stopping)?.map_err(unavailable)?;
        let position = copy::position(backup.path(), stream)?
            // A leader that was deposed may have answered.
            .filter(|position| position.generation >= least)
            .ok_or_else(|| unavailable("rqlite's backup is older than its data"))?;
        let known = self.layout.steps.len();
        if position.schema > known {
            self.state().newer = Some(position.schema);
            return Err(self.newer(position.schema));
        }
        let mut connection = writer.lock().unwrap_or_else(PoisonError::into_inner);
        match copy::replace(&mut connection, backup.path(), self.layout.steps, &position) {
            Ok(()) => {}
            Err(ApplyError::Diverged(message)) => return Err(unavailable(message)),
            Err(ApplyError::Failed(error)) => return Err(error),
        }
        tracing::info!(stream, generation = position.generation, "this node's copy was made anew");
        *self.state() = State { position, is_elsewhere: false, newer: None, fresh: Some(Instant::now()) };
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

    /// Tells other nodes that there is a commit. Nobody waits for it: they look by themselves, a little later.
    fn announce(&self, generation: i64) {
        let sent = self.shared.pubsub.publish(&self.topic, Bytes::from(generation.to_string()));
        self.shared.backplane.spawn(async move {
            if let Err(error) = sent.await {
                tracing::debug!(%error, "other nodes were not told of a change");
            }
        });
    }

    fn elsewhere(&self) {
        self.state().is_elsewhere = true;
        self.kick();
    }

    fn kick(&self) {
        // One that is full has been kicked.
        let _ = self.kick.try_send(());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
