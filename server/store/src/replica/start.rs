//! Opens a replica: reads the file, catches up with the log, and migrates the shared tables to this version's schema.

use super::entry::{Change, Position};
use super::log::{Appended, Batch, Log, Pulled};
use super::{Layout, Replica, ReplicaError, Shared, State, apply, capture, puller, unavailable};
use crate::limits::{PLATFORM_FIRST_START_PATIENCE, PLATFORM_PULL_TIMEOUT, PLATFORM_START_PATIENCE};
use crate::rqlite::Level;
use crate::sqlite::{Database, Durability, SqliteError};
use parking_lot::Mutex;
use rusqlite::Connection;
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// The pause between two attempts to start.
const PAUSE: Duration = Duration::from_millis(200);

/// See [`Database::open_shared`].
pub(crate) fn open(
    dir: &Path,
    file: &str,
    layout: Layout,
    shared: Shared,
) -> Result<Arc<Database>, SqliteError> {
    let path = dir.join(file);
    let (connection, position) = match open_copy(dir, &path) {
        Ok(opened) => opened,
        Err(SqliteError::Folder { path, source }) => return Err(SqliteError::Folder { path, source }),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "this node's replica is damaged and is rebuilt");
            remove(&path)?;
            open_copy(dir, &path)?
        }
    };
    let (kick, kicks) = sync_channel(1);
    let is_new = position.is_none();
    let is_old = position.as_ref().is_some_and(|position| position.schema < layout.steps.len());
    let replica = Replica {
        path: path.clone(),
        layout,
        log: Log::new(shared.client.clone(), layout.stream, shared.node.clone()),
        topic: format!("orama.log.{}", layout.stream),
        shared,
        state: Mutex::new(State { position: position.unwrap_or_default(), ..State::default() }),
        on_applied: OnceLock::new(),
        kick,
    };
    let backplane = replica.shared.backplane.clone();
    let database = Arc::new(Database::shared(path, connection, replica));
    begin(&database, is_new || is_old)?;
    let (pulled, listening) = (Arc::downgrade(&database), Arc::downgrade(&database));
    std::thread::Builder::new()
        .name(format!("copy-{}", layout.stream))
        .spawn(move || puller::run(&pulled, &kicks))
        .map_err(|error| unavailable(format!("cannot start the thread of the replica: {error}")))?;
    backplane.spawn(puller::listen(listening));
    Ok(database)
}

/// Opens the file. A replica that cannot be read to its end is an error.
fn open_copy(dir: &Path, path: &Path) -> Result<(Connection, Option<Position>), SqliteError> {
    // Commits that it loses are in rqlite.
    let writer = Database::open_writer(dir, path, Durability::Process)?;
    let found: String = writer.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if found != "ok" {
        return Err(ReplicaError::Unavailable(found.into()).into());
    }
    let position = apply::position(&writer)?;
    capture::install(&writer)?;
    Ok((writer, position))
}

fn remove(path: &Path) -> Result<(), SqliteError> {
    for end in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        match std::fs::remove_file(&name) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(SqliteError::Folder { path: name.into(), source: error });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Catches up with the log. Gives up early if the replica can be used as it is.
fn begin(database: &Database, needs_rqlite: bool) -> Result<(), SqliteError> {
    let Some(replica) = database.replica() else { return Ok(()) };
    let patience = if needs_rqlite { PLATFORM_FIRST_START_PATIENCE } else { PLATFORM_START_PATIENCE };
    let deadline = Instant::now() + patience;
    loop {
        let error = match catch_up(database, replica, deadline) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let is_hopeless = matches!(error, ReplicaError::Newer { .. } | ReplicaError::NoKey(_));
        if is_hopeless || Instant::now() + PAUSE >= deadline {
            if needs_rqlite {
                return Err(error.into());
            }
            tracing::warn!(stream = replica.layout.stream, %error, "rqlite does not answer; the node starts with its replica, which may be stale");
            return Ok(());
        }
        std::thread::sleep(PAUSE);
    }
}

fn catch_up(database: &Database, replica: &Replica, deadline: Instant) -> Result<(), ReplicaError> {
    let steps = replica.layout.steps;
    let stopping = || unavailable("the node is stopping");
    loop {
        let deadline = deadline.min(Instant::now() + PLATFORM_PULL_TIMEOUT);
        let position = replica.state.lock().position.clone();
        if position == Position::default() {
            let log = replica.log.clone();
            let made = replica.wait(async move { log.create(deadline).await });
            made.ok_or_else(stopping)?.map_err(unavailable)?;
        }
        match replica.pull(Level::Strong, deadline)? {
            Pulled::Entries(entries) if entries.is_empty() && position.schema >= steps.len() => return Ok(()),
            Pulled::Entries(entries) if !entries.is_empty() => {
                let mut connection = database.writer().lock();
                replica.apply(&mut connection, &entries)?;
            }
            Pulled::Empty if position != Position::default() => {
                return Err(unavailable(
                    "rqlite has none of the platform's data, of which this node has a replica; restore rqlite from a \
                     backup, or remove the replica from the node's data folder",
                ));
            }
            Pulled::Entries(_) | Pulled::Empty => migrate(replica, position, deadline)?,
            Pulled::Elsewhere => replica.copy_anew(database.writer())?,
        }
    }
}

/// Runs the missing migrations, unless another node runs them at the same time.
fn migrate(replica: &Replica, position: Position, deadline: Instant) -> Result<(), ReplicaError> {
    let steps = replica.layout.steps;
    let missing = steps.iter().skip(position.schema);
    let changes =
        missing.map(|step| Change { table: String::new(), sql: (*step).to_owned() }).collect::<Vec<_>>();
    let batch = Batch::new(steps.len(), changes);
    match replica.append(position, batch, deadline) {
        // Applied like a log entry of another node.
        Appended::Yes | Appended::Conflict => Ok(()),
        Appended::No(error) => Err(unavailable(error)),
        Appended::Unknown(error) => Err(ReplicaError::Unknown(error.into())),
        Appended::Diverged(message) => {
            Err(unavailable(format!("the tables of {} cannot be migrated: {message}", replica.layout.stream)))
        }
    }
}
