//! Keeps a replica up to date: reads new log entries as soon as another node announces one, and every half second.

use super::Replica;
use super::log::Pulled;
use crate::limits::{PLATFORM_PULL_EVERY, PLATFORM_PULL_TIMEOUT};
use crate::pubsub::Received;
use crate::rqlite::Level;
use crate::sqlite::Database;
use std::sync::Weak;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// How often the puller checks that the database is in use, and tries to subscribe again.
const LISTEN_EVERY: Duration = Duration::from_secs(1);

/// The pause after a failed rebuild of the replica.
const COPY_PAUSE: Duration = Duration::from_secs(1);

/// Runs until the database is dropped. Blocks.
pub(super) fn run(database: &Weak<Database>, kicks: &Receiver<()>) {
    let mut told = None;
    loop {
        match kicks.recv_timeout(PLATFORM_PULL_EVERY) {
            Ok(()) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let Some(database) = database.upgrade() else { return };
        let Some(replica) = database.replica() else { return };
        match look(&database, replica) {
            Ok(()) => told = None,
            Err(error) => {
                let stream = replica.layout.stream;
                // Logged once for each kind of cause and not twice a second: the kinds alternate while a server is down.
                let kind = std::mem::discriminant(&error);
                if told.replace(kind) != Some(kind) {
                    tracing::warn!(stream, %error, "changes of other nodes cannot be read; this node answers from its replica, which may be stale");
                }
            }
        }
    }
}

fn look(database: &Database, replica: &Replica) -> Result<(), super::ReplicaError> {
    let deadline = Instant::now() + PLATFORM_PULL_TIMEOUT;
    if let Some(found) = replica.state.lock().newer {
        return Err(replica.newer(found));
    }
    let (is_elsewhere, seen) = {
        let state = replica.state.lock();
        (state.is_elsewhere, state.position.clone())
    };
    if !is_elsewhere {
        match replica.pull(Level::Weak, deadline)? {
            Pulled::Entries(entries) if entries.is_empty() => {
                replica.state.lock().fresh = Some(Instant::now());
                return Ok(());
            }
            Pulled::Entries(entries) => {
                let mut connection = database.writer().lock();
                // Whoever held the connection may have applied them meanwhile.
                if replica.state.lock().position == seen {
                    replica.apply(&mut connection, &entries)?;
                    replica.kick();
                }
                return Ok(());
            }
            // A deposed leader that does not know it yet may also answer so.
            Pulled::Empty | Pulled::Elsewhere => match replica.pull(Level::Strong, deadline)? {
                Pulled::Entries(_) => return Ok(()),
                Pulled::Empty => {
                    return Err(super::unavailable(
                        "rqlite has lost the platform database; restore it from a backup",
                    ));
                }
                Pulled::Elsewhere => {
                    if replica.state.lock().position != seen {
                        return Ok(());
                    }
                    replica.state.lock().is_elsewhere = true;
                }
            },
        }
    }
    let copied = replica.copy_anew(database.writer());
    if copied.is_err() {
        std::thread::sleep(COPY_PAUSE);
    }
    copied
}

/// Receives announcements of other nodes until the database is dropped.
pub(super) async fn listen(database: Weak<Database>) {
    let mut subscription = None;
    loop {
        let Some((pubsub, topic)) = database.upgrade().and_then(|database| {
            let replica = database.replica()?;
            Some((replica.shared.pubsub.clone(), replica.topic.clone()))
        }) else {
            return;
        };
        let Some(listener) = &mut subscription else {
            match pubsub.subscribe(&topic).await {
                Ok(listener) => subscription = Some(listener),
                // Without announcements, changes are seen up to half a second later.
                Err(_) => tokio::time::sleep(LISTEN_EVERY).await,
            }
            continue;
        };
        let heard = tokio::time::timeout(LISTEN_EVERY, listener.next()).await;
        let Some(database) = database.upgrade() else { return };
        let Some(replica) = database.replica() else { return };
        let is_newer = match heard {
            Err(_) => false,
            Ok(Received::Lagged) => true,
            Ok(Received::Message(message)) => {
                let generation = std::str::from_utf8(&message).ok().and_then(|text| text.parse::<i64>().ok());
                generation.is_none_or(|generation| generation > replica.state.lock().position.generation)
            }
        };
        if is_newer {
            replica.kick();
        }
    }
}
