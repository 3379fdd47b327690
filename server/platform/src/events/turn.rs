//! One turn of a trigger: runs some of its jobs, one after the other.

use super::store::{self, Fate, Job, Kind, Message, QueueOwner};
use super::unknown::Verdict;
use super::writer::{Change, Settled};
use super::{EventsError, Inner, Ran, Run, Triggered, now_ms};
use crate::limits::{JOB_LEASE, JOBS_TURN, JOBS_WINDOW};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use orama_runtime::names::Namespace;
use orama_store::blocking::blocking;
use serde::Serialize;
use serde_json::value::RawValue;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::Sender;
use tokio::sync::oneshot;

/// Pause of a trigger if the node has no room for its function.
const NO_ROOM_PAUSE: Duration = Duration::from_millis(200);

/// Pause of a trigger whose function this node does not know yet. Longer than [`FAILURE_PAUSE`], so that another node can take
/// the lease.
const BEHIND_PAUSE: Duration = Duration::from_secs(3);

/// Pause of a trigger if its jobs cannot be read or written, or if another node holds its lease.
pub(super) const FAILURE_PAUSE: Duration = Duration::from_secs(1);

/// The event as a triggered function reads it.
#[derive(Serialize)]
struct EventJson<'a> {
    topic: &'a str,
    data: &'a RawValue,
    namespace: &'a str,
    trigger_depth: u32,
    /// When it was published, in Unix seconds.
    timestamp: i64,
}

/// When the trigger takes its next turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// At once: there may be more jobs.
    Soon,
    /// When jobs arrive: there were no more.
    WhenWoken,
    /// After a pause.
    After(Duration),
}

/// The result of a turn.
pub(super) struct TurnEnd {
    pub(super) queue: i64,
    pub(super) lease_until_ms: i64,
    pub(super) next: Next,
    /// When its first retry is due.
    pub(super) due_ms: Option<i64>,
}

pub(super) struct Turn {
    pub(super) inner: Arc<Inner>,
    pub(super) run: Run,
    pub(super) outcomes: Sender<Change>,
    pub(super) queue: i64,
    pub(super) lease_until_ms: i64,
    pub(super) due_ms: Option<i64>,
    /// Whether the lease is released at the end.
    pub(super) gives_back: bool,
}

/// The result of an attempt to run a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attempt {
    /// It ran, or never will: its outcome is queued for the writer.
    Done,
    /// It did not run and is tried again after a pause.
    NotNow,
    /// It did not run, because this node does not know the function. Another node may know it.
    NotHere,
}

impl Turn {
    pub(super) async fn take(mut self) -> TurnEnd {
        let next = match self.jobs().await {
            // A job whose outcome is not stored would run again at once.
            Ok(next) if self.flush().await => next,
            Ok(_) => Next::After(FAILURE_PAUSE),
            Err(error) => {
                tracing::error!(%error, queue = self.queue, "the jobs of a trigger could not be run");
                Next::After(FAILURE_PAUSE)
            }
        };
        if self.gives_back {
            self.give_back().await;
        }
        let Self { queue, lease_until_ms, due_ms, .. } = self;
        // A retry without a pause is handled like a new job.
        let is_due = next == Next::WhenWoken && due_ms.is_some_and(|due_ms| due_ms <= now_ms());
        let next = if is_due { Next::Soon } else { next };
        TurnEnd { queue, lease_until_ms, next, due_ms }
    }

    async fn jobs(&mut self) -> Result<Next, EventsError> {
        let queue = self.queue;
        if !self.lease().await? {
            // Another node holds the lease. It may have ended, so this node tries again later.
            let window = self.read(move |c| store::window(c, queue, now_ms(), 1)).await?;
            let has_jobs = window.is_some_and(|(_, jobs)| !jobs.is_empty());
            return Ok(if has_jobs { Next::After(FAILURE_PAUSE) } else { Next::WhenWoken });
        }
        let begun = Instant::now();
        let window = self.read(move |c| store::window(c, queue, now_ms(), JOBS_WINDOW)).await?;
        // Its trigger was deleted.
        let Some((owner, jobs)) = window else { return Ok(Next::WhenWoken) };
        let may_be_more = jobs.len() >= JOBS_WINDOW as usize / 2;
        for job in jobs {
            if *self.inner.stopping.borrow() || begun.elapsed() > JOBS_TURN {
                return Ok(Next::Soon);
            }
            let id = job.id;
            // `None` if the job was deleted meanwhile.
            if let Some(message) = self.read(move |c| store::message(c, id)).await? {
                match self.one(&owner, job, message).await {
                    Attempt::Done => {}
                    Attempt::NotNow => return Ok(Next::After(NO_ROOM_PAUSE)),
                    Attempt::NotHere => {
                        self.gives_back = true;
                        return Ok(Next::After(BEHIND_PAUSE));
                    }
                }
            }
        }
        Ok(if may_be_more { Next::Soon } else { Next::WhenWoken })
    }

    /// Ensures that this node holds the lease for long enough to begin.
    async fn lease(&mut self) -> Result<bool, EventsError> {
        let half_ms = (JOB_LEASE / 2).as_millis() as i64;
        if self.lease_until_ms - now_ms() > half_ms {
            return Ok(true);
        }
        let (queue, owner) = (self.queue, self.inner.owner.clone());
        // A request for a lease that another node holds would cost all nodes a commit.
        if self.read(move |c| store::is_taken(c, queue, &owner, now_ms())).await? {
            return Ok(false);
        }
        let (answer, wait) = oneshot::channel();
        if self.inner.try_change(Change::Lease(self.queue, answer)).is_err() {
            return Ok(false);
        }
        match wait.await {
            Ok(Some(until_ms)) => {
                self.lease_until_ms = until_ms;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Releases the lease, so that a node that can run the jobs takes it.
    async fn give_back(&mut self) {
        let (answer, wait) = oneshot::channel();
        self.lease_until_ms = 0;
        if self.inner.try_change(Change::Release(self.queue, answer)).is_ok() {
            // If this fails, the lease expires.
            let _failed = wait.await;
        }
    }

    /// Waits until all earlier outcomes are durable. Returns `false` if some were lost.
    async fn flush(&self) -> bool {
        let (answer, wait) = oneshot::channel();
        self.outcomes.send(Change::Flush(answer)).await.is_ok() && wait.await.unwrap_or(false)
    }

    /// Runs one job.
    async fn one(&mut self, owner: &QueueOwner, job: Job, message: Message) -> Attempt {
        let QueueOwner { namespace, function, version } = owner;
        let bytes = message.data.len() as u64;
        let attempt = job.attempts.saturating_add(1);
        let ran = match input(namespace, &message) {
            Ok(event) => {
                let (namespace, function) = (namespace.clone(), function.clone());
                let _running = Running::enter(&self.inner);
                let (version, trigger_type) = (*version, trigger_type(message.kind));
                let (depth, trace) = (message.depth, message.trace);
                let triggered =
                    Triggered { namespace, function, version, trigger_type, event, depth, attempt, trace };
                (self.run)(triggered).await
            }
            Err(error) => {
                Ran::Failed { error, request_id: String::new(), retry_count: 0, retry_delay: Duration::ZERO }
            }
        };
        let counters = &self.inner.counters;
        let fate = match ran {
            Ran::NoRoom => return Attempt::NotNow,
            Ran::Succeeded => {
                counters.delivered.fetch_add(1, Ordering::Relaxed);
                Fate::Gone
            }
            Ran::UnknownFunction => match self.inner.unknown.look_up(namespace, function, *version).await {
                Verdict::Deleted => {
                    tracing::info!(%namespace, %function, topic = message.topic, "dropped an event: its function was deleted");
                    Fate::Gone
                }
                Verdict::Exists => return Attempt::NotNow,
                Verdict::Undecided => return Attempt::NotHere,
            },
            Ran::Failed { retry_count, retry_delay, .. } if attempt <= retry_count => {
                counters.retried.fetch_add(1, Ordering::Relaxed);
                let delay_ms = i64::try_from(retry_delay.as_millis()).unwrap_or(i64::MAX);
                let due_ms = now_ms().saturating_add(delay_ms).max(1);
                self.due_ms = Some(self.due_ms.map_or(due_ms, |known| known.min(due_ms)));
                Fate::Retry { due_ms }
            }
            Ran::Failed { error, request_id, .. } => {
                counters.dead.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%namespace, %function, topic = message.topic, request_id, "an event became a dead letter");
                Fate::Dead { error, request_id }
            }
        };
        let namespace = namespace.clone();
        // An error means that the node is stopping; the job runs again.
        let is_slot = message.kind == Kind::Slot;
        let settled = Settled { namespace, job: job.id, bytes, is_slot, fate };
        let _gone = self.outcomes.send(Change::Settle(Box::new(settled))).await;
        Attempt::Done
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, EventsError> {
        let database = Arc::clone(&self.inner.database);
        blocking(move || Ok(database.read(work)?)).await
    }
}

/// The word for what causes the run of a message's job.
fn trigger_type(kind: Kind) -> &'static str {
    match kind {
        Kind::Event => "pubsub",
        Kind::Input | Kind::InputBase64 => "function",
        Kind::Slot => "cron",
    }
}

/// What the function reads.
fn input(namespace: &Namespace, message: &Message) -> Result<Bytes, String> {
    let damaged = |error: &dyn std::error::Error| format!("the stored event is damaged: {error}");
    let input = match message.kind {
        Kind::Event => event(namespace, message).map_err(|error| damaged(&error))?,
        Kind::Input | Kind::Slot => Bytes::from(message.data.clone()),
        Kind::InputBase64 => Bytes::from(STANDARD.decode(&message.data).map_err(|error| damaged(&error))?),
    };
    Ok(input)
}

fn event(namespace: &Namespace, message: &Message) -> Result<Bytes, serde_json::Error> {
    let event = EventJson {
        topic: &message.topic,
        data: serde_json::from_str(&message.data)?,
        namespace: namespace.as_str(),
        trigger_depth: message.depth,
        timestamp: message.published_at_ms / 1000,
    };
    serde_json::to_vec(&event).map(Bytes::from)
}

/// Counts a job as running while it exists.
struct Running<'a>(&'a Inner);

impl<'a> Running<'a> {
    fn enter(inner: &'a Inner) -> Self {
        inner.counters.running.fetch_add(1, Ordering::Relaxed);
        Self(inner)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.counters.running.fetch_sub(1, Ordering::Relaxed);
    }
}
