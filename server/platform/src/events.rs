//! Events: what is published to a topic runs the functions that have a trigger on it, at least once each.
//!
//! A publish is durable, with a job for each trigger, before it is acknowledged ([`writer`]). Jobs of one trigger run one
//! at a time in the order of their acceptance; one that waits for its retry holds back none behind it ([`turn`]).
//! Different triggers run beside each other, within bounds ([`dispatcher`]). A job's row goes after its function
//! succeeded, so a crash may run it again, and never forgets it.

use crate::limits::EVENT_CHANGES_MAX;
use crate::records::Records;
use crate::registry::Registry;
use bytes::Bytes;
use orama_runtime::names::{FunctionName, Namespace};
use orama_runtime::services::Answer;
use orama_store::blocking::TaskFailed;
use orama_store::clock::now_ms;
use orama_store::ids::new_id;
use orama_store::pubsub::PubSub;
use orama_store::replica::{ReplicaError, Shared};
use orama_store::sqlite::{Database, Durability, SqliteError};
use parking_lot::Mutex;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;
use tally::Tallies;
use tokio::runtime::Handle;
use tokio::sync::watch;
use triggers::TriggerCache;
use unknown::UnknownFunctions;
use writer::{Change, Writer};

mod dead_letters;
mod dispatcher;
mod publish;
mod removal;
pub(crate) mod schema;
mod settler;
mod store;
mod tally;
mod topic;
mod triggers;
mod turn;
mod unknown;
mod writer;

pub use dead_letters::DeadLetter;
pub use topic::{InvalidTopic, check_topic};

/// The file's name in the data folder.
const FILE: &str = "events.db";

/// The name of the copy of events that are shared; what the node had for itself stays beside it.
pub(crate) const COPY: &str = "events-copy.db";

/// Where dispatchers are told that there are jobs.
const WAKE_TOPIC: &str = "orama.jobs";

/// Queues that one wake-up names; with more, everyone looks for themselves.
const WAKE_QUEUES_MAX: usize = 256;

/// Why the events failed.
#[derive(Debug, thiserror::Error)]
pub enum EventsError {
    /// The file cannot be opened, read or written.
    #[error("events: {0}")]
    Sqlite(#[from] SqliteError),
    /// The writer's thread cannot be started.
    #[error("events: cannot start the writer: {0}")]
    Thread(#[source] std::io::Error),
    /// A task panicked, or the node is stopping.
    #[error("events: {0}")]
    Task(#[from] TaskFailed),
}

impl EventsError {
    /// Why events that are shared cannot be changed now, where that is the reason.
    #[must_use]
    pub fn unavailable(&self) -> Option<&ReplicaError> {
        match self {
            Self::Sqlite(error) => error.unavailable(),
            Self::Thread(_) | Self::Task(_) => None,
        }
    }
}

impl From<rusqlite::Error> for EventsError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error.into())
    }
}

/// A function's run for an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Triggered {
    /// The tenant.
    pub namespace: Namespace,
    /// What runs, in its newest version.
    pub function: FunctionName,
    /// Its standard input.
    pub event: Bytes,
    /// How many triggers stand behind it.
    pub depth: u32,
    /// Counts from 1.
    pub attempt: u32,
}

/// What came of a [`Triggered`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ran {
    /// The function succeeded.
    Succeeded,
    /// The function failed.
    Failed {
        /// Why, in words for its author.
        error: String,
        /// Under which it is in the logs.
        request_id: String,
        /// Further attempts that its version asks for.
        retry_count: u32,
        /// The pause before the next one.
        retry_delay: Duration,
    },
    /// This node does not know the function: it was deleted, or the node's registry is behind.
    UnknownFunction,
    /// The node had no room, or is about to end: it did not run.
    NoRoom,
}

/// Runs a function on one of the cores.
pub type Run = Arc<dyn Fn(Triggered) -> Answer<Ran> + Send + Sync>;

/// Tells dispatchers which queues got jobs.
type Wake = Arc<dyn Fn(Vec<(i64, Namespace)>) + Send + Sync>;

/// What happened to jobs since the start, and how many there are now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JobCounts {
    /// Accepted and not running now, those that wait for a retry included.
    pub waiting: u64,
    /// Running now.
    pub running: u64,
    /// Handled by their function.
    pub delivered: u64,
    /// Attempts that failed and were followed by another.
    pub retried: u64,
    /// Jobs that became dead letters.
    pub dead: u64,
}

#[derive(Default)]
struct Counters {
    running: AtomicU64,
    delivered: AtomicU64,
    retried: AtomicU64,
    dead: AtomicU64,
}

struct Inner {
    database: Arc<Database>,
    /// Bounded by [`EVENT_CHANGES_MAX`]. Gone when the last clone is dropped, which tells the writer to finish.
    changes: Option<mpsc::SyncSender<Change>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    tallies: Arc<Tallies>,
    triggers: TriggerCache,
    unknown: UnknownFunctions,
    pubsub: Arc<dyn PubSub>,
    wake: Wake,
    backplane: Handle,
    /// This process, in leases.
    owner: String,
    counters: Counters,
    /// Counts what other nodes did to jobs.
    elsewhere: watch::Sender<u64>,
    stopping: watch::Sender<bool>,
    /// Told when the dispatcher has ended.
    stopped: Mutex<Option<mpsc::Receiver<()>>>,
}

/// The events of a node.
pub struct NodeEvents {
    inner: Arc<Inner>,
}

impl NodeEvents {
    /// Opens the events of a data folder, which is this node's alone, and starts their writer. Jobs run from
    /// [`Self::start`] on.
    ///
    /// # Errors
    /// [`EventsError`]
    pub fn open(
        dir: &Path,
        registry: &Registry,
        pubsub: Arc<dyn PubSub>,
        backplane: Handle,
    ) -> Result<Self, EventsError> {
        let database = Arc::new(Database::open(dir, FILE, Durability::Power, &schema::migrations())?);
        database.write(|t| Ok::<_, EventsError>(store::start(t)?))?;
        Self::with(database, registry, pubsub, backplane)
    }

    /// The same for events that other nodes share: a trigger's jobs run on the one that holds its lease.
    ///
    /// # Errors
    /// [`EventsError`], which names the file or the key of the config.
    pub fn open_shared(dir: &Path, registry: &Registry, shared: Shared) -> Result<Self, EventsError> {
        let (pubsub, backplane) = (Arc::clone(&shared.pubsub), shared.backplane.clone());
        let database = Database::open_shared(dir, COPY, schema::SHARED, shared)?;
        Self::with(database, registry, pubsub, backplane)
    }

    fn with(
        database: Arc<Database>,
        registry: &Registry,
        pubsub: Arc<dyn PubSub>,
        backplane: Handle,
    ) -> Result<Self, EventsError> {
        let elsewhere = watch::Sender::new(0);
        let counting = elsewhere.clone();
        database.on_applied(move |applied| {
            if applied.is_whole || applied.tables.contains("jobs") || applied.tables.contains("queues") {
                counting.send_modify(|count| *count += 1);
            }
        });
        let tallies = Arc::new(Tallies::default());
        for (namespace, waiting) in database.read(store::waiting)? {
            tallies.add(&namespace, waiting);
        }
        let owner = new_id();
        let wake = wake(Arc::clone(&pubsub), backplane.clone());
        let writer = Writer {
            database: Arc::clone(&database),
            tallies: Arc::clone(&tallies),
            wake: Arc::clone(&wake),
            owner: owner.clone(),
        };
        let (changes, queue) = mpsc::sync_channel(EVENT_CHANGES_MAX);
        let writer = std::thread::Builder::new()
            .name("events".to_owned())
            .spawn(move || writer.run(&queue))
            .map_err(EventsError::Thread)?;
        let inner = Inner {
            database,
            changes: Some(changes),
            writer: Mutex::new(Some(writer)),
            tallies,
            triggers: TriggerCache::new(registry),
            unknown: UnknownFunctions::new(registry),
            pubsub,
            wake,
            backplane,
            owner,
            counters: Counters::default(),
            elsewhere,
            stopping: watch::Sender::new(false),
            stopped: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Begins to run jobs: at most `running_max` at once, and of one namespace a part of that. `run` hands the records of
    /// what it ran over to `records` before it answers.
    pub fn start(&self, run: Run, records: Records, running_max: usize) {
        let (ended, stopped) = mpsc::sync_channel(1);
        *self.inner.stopped.lock() = Some(stopped);
        let dispatcher = dispatcher::Dispatcher::new(Arc::clone(&self.inner), run, records, running_max);
        self.inner.backplane.spawn(async move {
            dispatcher.run().await;
            // Nobody waits when the node did not stop us.
            let _gone = ended.send(());
        });
    }

    /// Begins no job any more; those that run go on.
    pub fn stop(&self) {
        self.inner.stopping.send_replace(true);
    }

    /// Waits until what ran has ended and is written down, and gives the leases back. Blocks.
    pub fn wait_stopped(&self, patience: Duration) {
        let stopped = self.inner.stopped.lock().take();
        // An error means that it ended by itself.
        if let Some(Err(mpsc::RecvTimeoutError::Timeout)) = stopped.map(|s| s.recv_timeout(patience)) {
            tracing::warn!(
                "triggered functions were still under way when the node ended; they will run again"
            );
        }
    }

    /// Brings what is in the file's log into the file; see [`Database::checkpoint`].
    ///
    /// # Errors
    /// [`EventsError::Sqlite`]
    pub fn checkpoint(&self) -> Result<(), EventsError> {
        Ok(self.inner.database.checkpoint()?)
    }

    /// Whether the file can be read now.
    ///
    /// # Errors
    /// [`EventsError::Sqlite`]
    pub fn check(&self) -> Result<(), EventsError> {
        Ok(self.inner.database.check()?)
    }

    /// The counts of jobs.
    #[must_use]
    pub fn counts(&self) -> JobCounts {
        let Counters { running, delivered, retried, dead } = &self.inner.counters;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        JobCounts {
            waiting: self.inner.tallies.jobs().saturating_sub(load(running)),
            running: load(running),
            delivered: load(delivered),
            retried: load(retried),
            dead: load(dead),
        }
    }
}

/// Why the writer did not take a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NotTaken {
    /// Its queue is full.
    Full,
    /// It has ended.
    Ended,
}

impl Inner {
    /// Hands a change to the writer, if its queue has room.
    fn try_change(&self, change: Change) -> Result<(), NotTaken> {
        let changes = self.changes.as_ref().ok_or(NotTaken::Ended)?;
        changes.try_send(change).map_err(|error| match error {
            mpsc::TrySendError::Full(_) => NotTaken::Full,
            mpsc::TrySendError::Disconnected(_) => NotTaken::Ended,
        })
    }

    /// Hands a change to the writer, and waits for room. Blocks.
    fn change(&self, change: Change) -> Result<(), NotTaken> {
        let changes = self.changes.as_ref().ok_or(NotTaken::Ended)?;
        changes.send(change).map_err(|_| NotTaken::Ended)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.changes = None;
        let writer = self.writer.get_mut().take();
        if writer.is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("the writer of events ended with a panic");
        }
    }
}

/// Wake-ups leave over the pubsub, so that every node that shares the jobs hears them.
fn wake(pubsub: Arc<dyn PubSub>, backplane: Handle) -> Wake {
    Arc::new(move |queues| {
        let queues = if queues.len() > WAKE_QUEUES_MAX { Vec::new() } else { queues };
        let message = match serde_json::to_vec(&queues) {
            Ok(message) => Bytes::from(message),
            Err(error) => {
                tracing::error!(%error, "a wake-up could not be written");
                return;
            }
        };
        let sent = pubsub.publish(WAKE_TOPIC, message);
        backplane.spawn(async move {
            // Dispatchers look for themselves now and then, so a lost wake-up only costs time.
            if let Err(error) = sent.await {
                tracing::warn!(%error, "a wake-up was not sent");
            }
        });
    })
}

#[cfg(test)]
mod tests;
