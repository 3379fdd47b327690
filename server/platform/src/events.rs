//! Events: each message of a topic runs the functions that have a trigger on the topic, at least once.
//!
//! A publish is durable, with a job for each trigger, before it is acknowledged ([`writer`]). Jobs of one trigger run one
//! at a time in the order of their acceptance; a job that waits for its retry does not delay the jobs after it ([`turn`]).
//! Different triggers run concurrently, within bounds ([`dispatcher`]). A job's row is deleted after its function succeeded, so
//! a crash may run it again but never loses it.

use crate::limits::EVENT_CHANGES_MAX;
use crate::records::Records;
use crate::registry::Registry;
use bytes::Bytes;
use orama_runtime::names::{FunctionName, Namespace};
use orama_runtime::services::Answer;
use orama_runtime::trace::TraceContext;
use orama_store::blocking::TaskFailed;
use orama_store::clock::now_ms;
use orama_store::ids::new_id;
use orama_store::pubsub::PubSub;
use orama_store::replica::{ReplicaError, Shared};
use orama_store::sqlite::{Database, Durability, SqliteError};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;
use tally::Tallies;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use triggers::TriggerCache;
use unknown::UnknownFunctions;
use writer::{Change, Writer};

mod clock;
mod dead_letters;
mod direct;
mod dispatcher;
mod publish;
mod removal;
mod schedule;
pub(crate) mod schema;
mod settler;
mod slot;
mod store;
mod tally;
mod topic;
mod triggers;
mod turn;
mod unknown;
mod writer;

pub use dead_letters::DeadLetter;
pub use schedule::{DEFAULT_TIMEZONE, InvalidSchedule, Schedule};
pub use slot::ScheduleState;
pub use topic::{InvalidTopic, check_topic, is_pattern, matches};

/// The file's name in the data folder.
const FILE: &str = "events.db";

/// The file name of the replica of shared events. The node's own events stay beside it.
pub(crate) const COPY: &str = "events-copy.db";

/// The internal topic of wake-ups for dispatchers.
const WAKE_TOPIC: &str = "orama.jobs";

/// Maximum queues named in one wake-up; with more, every dispatcher checks all queues.
const WAKE_QUEUES_MAX: usize = 256;

/// A failure of the event store.
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
    /// The replica's error, if that is why shared events cannot be changed.
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

/// A function to run for an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Triggered {
    /// Its namespace.
    pub namespace: Namespace,
    /// The function.
    pub function: FunctionName,
    /// Its version; `None` for the newest.
    pub version: Option<u32>,
    /// What causes the run; one of [`crate::records::TRIGGER_TYPES`].
    pub trigger_type: &'static str,
    /// Its standard input.
    pub event: Bytes,
    /// The depth of the event.
    pub depth: u32,
    /// The attempt, counted from 1.
    pub attempt: u32,
    /// The trace that the event belongs to.
    pub trace: Option<TraceContext>,
}

/// The result of a [`Triggered`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ran {
    /// The function succeeded.
    Succeeded,
    /// The function failed.
    Failed {
        /// The error, for the function's author.
        error: String,
        /// The id of the attempt in the logs.
        request_id: String,
        /// Retries that the version is configured with.
        retry_count: u32,
        /// The pause before the next attempt.
        retry_delay: Duration,
    },
    /// This node does not know the function: it was deleted, or the node's registry is behind.
    UnknownFunction,
    /// The function did not run, because the node had no room or is stopping.
    NoRoom,
}

/// Runs a function on one of the cores.
pub type Run = Arc<dyn Fn(Triggered) -> Answer<Ran> + Send + Sync>;

/// Tells dispatchers which queues got jobs.
type Wake = Arc<dyn Fn(Vec<(i64, Namespace)>) + Send + Sync>;

/// Counts of jobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JobCounts {
    /// Jobs that wait now, including those that wait for a retry.
    pub waiting: u64,
    /// Jobs that run now.
    pub running: u64,
    /// Jobs handled since the start.
    pub delivered: u64,
    /// Failed attempts since the start that were retried.
    pub retried: u64,
    /// Jobs that became dead letters since the start.
    pub dead: u64,
    /// Messages that wait for their time.
    pub later: u64,
    /// Slots of schedules left out since the start because the last run went on.
    pub skipped: u64,
}

#[derive(Default)]
struct Counters {
    running: AtomicU64,
    delivered: AtomicU64,
    retried: AtomicU64,
    dead: AtomicU64,
    skipped: AtomicU64,
}

struct Inner {
    database: Arc<Database>,
    /// Bounded by [`EVENT_CHANGES_MAX`]. Dropped with the last clone, which tells the writer to finish.
    changes: Option<mpsc::SyncSender<Change>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    tallies: Arc<Tallies>,
    registry: Registry,
    /// Namespaces that are noted to have an outbox.
    outboxes: Arc<Mutex<HashSet<Namespace>>>,
    triggers: TriggerCache,
    unknown: UnknownFunctions,
    pubsub: Arc<dyn PubSub>,
    wake: Wake,
    backplane: Handle,
    /// The id of this process in leases.
    owner: String,
    counters: Counters,
    /// When the clock looks again at the latest, and what makes it look at once.
    planned_ms: AtomicI64,
    planned_sooner: Notify,
    /// Advances with each change of jobs by another node.
    elsewhere: watch::Sender<u64>,
    stopping: watch::Sender<bool>,
    /// Receives when the dispatcher has ended.
    stopped: Mutex<Option<mpsc::Receiver<()>>>,
}

/// The events of a node.
pub struct NodeEvents {
    inner: Arc<Inner>,
}

impl NodeEvents {
    /// Opens this node's own events in a data folder and starts their writer. Jobs run after [`Self::start`].
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

    /// Opens events that nodes share: a trigger's jobs run on the node that holds its lease.
    ///
    /// # Errors
    /// [`EventsError`], which names the file or the config key.
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
        let outboxes = Arc::<Mutex<HashSet<Namespace>>>::default();
        let known = Arc::clone(&outboxes);
        database.on_applied(move |applied| {
            if applied.is_whole || applied.tables.contains("outboxes") {
                known.lock().clear();
            }
            if applied.is_whole || applied.tables.contains("jobs") || applied.tables.contains("queues") {
                counting.send_modify(|count| *count += 1);
            }
        });
        let tallies = Arc::new(Tallies::default());
        tallies.recount(database.read(store::waiting)?);
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
            registry: registry.clone(),
            outboxes,
            triggers: TriggerCache::new(registry),
            unknown: UnknownFunctions::new(registry),
            pubsub,
            wake,
            backplane,
            owner,
            counters: Counters::default(),
            planned_ms: AtomicI64::new(0),
            planned_sooner: Notify::new(),
            elsewhere,
            stopping: watch::Sender::new(false),
            stopped: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Starts to run jobs: at most `running_max` at once, and a part of that for one namespace. `run` must submit its invocation
    /// records to `records` before it answers.
    pub fn start(&self, run: Run, records: Records, running_max: usize) {
        let (ended, stopped) = mpsc::sync_channel(1);
        *self.inner.stopped.lock() = Some(stopped);
        self.inner.backplane.spawn(clock::Clock::new(Arc::clone(&self.inner)).run());
        let dispatcher = dispatcher::Dispatcher::new(Arc::clone(&self.inner), run, records, running_max);
        self.inner.backplane.spawn(async move {
            dispatcher.run().await;
            // There is no receiver if the node did not ask to stop.
            let _gone = ended.send(());
        });
    }

    /// Starts no further job. Running jobs continue.
    pub fn stop(&self) {
        self.inner.stopping.send_replace(true);
    }

    /// Waits until all running jobs have ended and their outcomes are durable, and releases the leases. Blocks.
    pub fn wait_stopped(&self, patience: Duration) {
        let stopped = self.inner.stopped.lock().take();
        // An error means that the dispatcher has already ended.
        if let Some(Err(mpsc::RecvTimeoutError::Timeout)) = stopped.map(|s| s.recv_timeout(patience)) {
            tracing::warn!(
                "triggered functions were still running when the node stopped; they will run again"
            );
        }
    }

    /// Notes that a namespace's database has an outbox. Blocks.
    ///
    /// # Errors
    /// [`EventsError`]
    pub fn note_outbox(&self, namespace: &Namespace) -> Result<(), EventsError> {
        self.inner.database.write(|t| {
            t.execute("INSERT OR IGNORE INTO outboxes (namespace) VALUES (?1)", [namespace.as_str()])?;
            Ok::<_, EventsError>(())
        })?;
        self.inner.outboxes.lock().insert(namespace.clone());
        Ok(())
    }

    /// Whether that was noted, as far as memory tells.
    #[must_use]
    pub fn knows_outbox(&self, namespace: &Namespace) -> bool {
        self.inner.outboxes.lock().contains(namespace)
    }

    /// The namespaces whose databases have an outbox. Blocks.
    ///
    /// # Errors
    /// [`EventsError`]
    pub fn outboxes(&self) -> Result<Vec<Namespace>, EventsError> {
        self.inner.database.read(|c| {
            let mut statement = c.prepare_cached("SELECT namespace FROM outboxes")?;
            let rows =
                statement.query_map([], |row| store::checked(Namespace::new(&row.get::<_, String>(0)?)))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// Checkpoints the write-ahead log; see [`Database::checkpoint`].
    ///
    /// # Errors
    /// [`EventsError::Sqlite`]
    pub fn checkpoint(&self) -> Result<(), EventsError> {
        Ok(self.inner.database.checkpoint()?)
    }

    /// Checks that the file can be read.
    ///
    /// # Errors
    /// [`EventsError::Sqlite`]
    pub fn check(&self) -> Result<(), EventsError> {
        Ok(self.inner.database.check()?)
    }

    /// The counts of jobs.
    #[must_use]
    pub fn counts(&self) -> JobCounts {
        let Counters { running, delivered, retried, dead, skipped } = &self.inner.counters;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        JobCounts {
            waiting: self.inner.tallies.jobs().saturating_sub(load(running)),
            running: load(running),
            delivered: load(delivered),
            retried: load(retried),
            dead: load(dead),
            later: self.inner.tallies.later(),
            skipped: load(skipped),
        }
    }
}

/// Why the writer did not accept a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NotTaken {
    /// Its queue is full.
    Full,
    /// It has ended.
    Ended,
}

impl Inner {
    /// Sees to it that the clock looks when something is due.
    fn sooner(&self, due_ms: i64) {
        if due_ms < self.planned_ms.load(Ordering::Acquire) {
            self.planned_sooner.notify_one();
        }
    }

    /// Queues a change for the writer, if there is room.
    fn try_change(&self, change: Change) -> Result<(), NotTaken> {
        let changes = self.changes.as_ref().ok_or(NotTaken::Ended)?;
        changes.try_send(change).map_err(|error| match error {
            mpsc::TrySendError::Full(_) => NotTaken::Full,
            mpsc::TrySendError::Disconnected(_) => NotTaken::Ended,
        })
    }

    /// Queues a change for the writer; waits for room. Blocks.
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
            tracing::error!("the writer of events panicked");
        }
    }
}

/// Publishes wake-ups, so that all nodes that share the jobs receive them.
fn wake(pubsub: Arc<dyn PubSub>, backplane: Handle) -> Wake {
    Arc::new(move |queues| {
        let queues = if queues.len() > WAKE_QUEUES_MAX { Vec::new() } else { queues };
        let message = match serde_json::to_vec(&queues) {
            Ok(message) => Bytes::from(message),
            Err(error) => {
                tracing::error!(%error, "a wake-up could not be encoded");
                return;
            }
        };
        let sent = pubsub.publish(WAKE_TOPIC, message);
        backplane.spawn(async move {
            // Dispatchers also poll, so a lost wake-up only delays a job.
            if let Err(error) = sent.await {
                tracing::warn!(%error, "a wake-up could not be sent; its jobs start some seconds later");
            }
        });
    })
}

#[cfg(test)]
mod tests;
