//! The thread that commits published events, leases and outcomes of attempts. Changes that arrive during a commit share the next
//! one (group commit).

use super::store::{self, Fate, NewMessage};
use super::tally::{Tallies, Waiting};
use super::{Wake, dead_letters, now_ms, slot};
use crate::limits::JOB_LEASE;
use orama_runtime::names::Namespace;
use orama_runtime::services::ServiceError;
use orama_store::replica::ReplicaError;
use orama_store::sqlite::{Database, SqliteError};
use rusqlite::Transaction;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::sync::oneshot;

/// Maximum changes in one commit, so that none waits long.
const COMMIT_CHANGES_MAX: usize = 1024;

/// Published data in a commit, in bytes, above which it takes no further change.
const COMMIT_BYTES: usize = 4 << 20;

/// How often expired dead letters are deleted.
const AGE_EVERY: Duration = Duration::from_secs(60);

/// Messages to be committed together.
pub(super) struct Publish {
    pub(super) namespace: Namespace,
    pub(super) messages: Vec<NewMessage>,
    /// Their jobs, and those that wait for their time.
    pub(super) jobs: Waiting,
    pub(super) later: Waiting,
    /// Bytes of memory that were admitted for them.
    pub(super) cost: usize,
    pub(super) answer: oneshot::Sender<Result<(), ServiceError>>,
}

impl Publish {
    /// Stores the messages. Returns the queues that got jobs.
    fn store(&self, t: &Transaction<'_>) -> rusqlite::Result<Vec<(i64, Namespace)>> {
        let mut woken = Vec::new();
        for message in &self.messages {
            let queues = store::publish(t, &self.namespace, message)?;
            woken.extend(queues.into_iter().map(|queue| (queue, self.namespace.clone())));
        }
        Ok(woken)
    }
}

/// The outcome of an attempt.
pub(super) struct Settled {
    pub(super) namespace: Namespace,
    pub(super) job: i64,
    /// The size of its data, in bytes.
    pub(super) bytes: u64,
    /// Whether it was a slot of a schedule.
    pub(super) is_slot: bool,
    pub(super) fate: Fate,
}

impl Settled {
    /// Whether the job becomes a dead letter.
    fn is_dead(&self) -> bool {
        matches!(self.fate, Fate::Dead { .. })
    }
}

/// A command for the writer.
pub(super) enum Change {
    /// Answered when the event is durable.
    Publish(Box<Publish>),
    /// The outcome of an attempt, without an answer.
    Settle(Box<Settled>),
    /// Answered when all earlier changes are durable; `false` if some were lost.
    Flush(oneshot::Sender<bool>),
    /// Takes the lease of a queue. Answered with the end of the lease, or `None` if another node holds it.
    Lease(i64, oneshot::Sender<Option<i64>>),
    /// Releases the lease of a queue. Answered when that is durable.
    Release(i64, oneshot::Sender<()>),
    /// Renews the leases of queues in use. The renewed leases and their ends are sent when they are durable.
    Renew(Vec<i64>, mpsc::Sender<Renewed>),
}

/// Queues with the ends of their leases.
pub(super) type Renewed = (Vec<i64>, i64);

pub(super) struct Writer {
    pub(super) database: Arc<Database>,
    pub(super) tallies: Arc<Tallies>,
    pub(super) wake: Wake,
    /// The id of this process in leases.
    pub(super) owner: String,
}

/// The results of one commit.
#[derive(Default)]
struct Done {
    /// Queues that got jobs.
    woken: HashMap<i64, Namespace>,
    /// One for each requested lease, in order.
    leases: Vec<Option<i64>>,
    /// One for each renewal, in order.
    renewed: Vec<Renewed>,
    /// Jobs whose rows were deleted.
    gone: Vec<(Namespace, Waiting)>,
}

/// Stores the outcome of an attempt. Returns the job if its row was deleted.
fn settle(
    t: &Transaction<'_>,
    settled: &Settled,
    now_ms: i64,
) -> Result<Option<(Namespace, Waiting)>, SqliteError> {
    let Settled { namespace, job, bytes, is_slot, fate } = settled;
    if *is_slot {
        slot::note_run(t, *job, fate, now_ms)?;
    }
    let was_there = store::settle(t, *job, fate, now_ms)?;
    let is_gone = was_there && !matches!(fate, Fate::Retry { .. });
    Ok(is_gone.then(|| (namespace.clone(), Waiting { jobs: 1, bytes: *bytes })))
}

impl Writer {
    /// Runs until every sender is gone and the queue is empty.
    pub(super) fn run(self, queue: &Receiver<Change>) {
        let mut age_due = Instant::now();
        // A failed commit loses outcomes. The next flush reports it.
        let mut lost = false;
        loop {
            match queue.recv_timeout(age_due.saturating_duration_since(Instant::now())) {
                Ok(change) => self.commit(gather(change, queue), &mut lost),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if age_due <= Instant::now() {
                age_due = Instant::now() + AGE_EVERY;
                if let Err(error) = dead_letters::drop_old(&self.database, now_ms()) {
                    tracing::error!(%error, "old dead letters could not be deleted");
                }
            }
        }
    }

    fn commit(&self, changes: Vec<Change>, lost: &mut bool) {
        if changes.iter().all(|change| matches!(change, Change::Flush(_))) {
            return self.committed(changes, Done::default(), lost);
        }
        let now_ms = now_ms();
        let until_ms = now_ms.saturating_add(i64::try_from(JOB_LEASE.as_millis()).unwrap_or(i64::MAX));
        let done = self.database.write(|t| {
            let mut done = Done::default();
            let mut dead = HashSet::<&Namespace>::new();
            for change in &changes {
                match change {
                    Change::Publish(publish) => {
                        done.woken.extend(publish.store(t)?);
                    }
                    Change::Settle(settled) => {
                        done.gone.extend(settle(t, settled, now_ms)?);
                        dead.extend(settled.is_dead().then_some(&settled.namespace));
                    }
                    Change::Lease(queue, _) => {
                        let taken = store::lease(t, *queue, &self.owner, now_ms, until_ms)?;
                        done.leases.push(taken.then_some(until_ms));
                    }
                    Change::Renew(queues, _) => {
                        done.renewed.push((self.renew(t, queues, until_ms)?, until_ms));
                    }
                    Change::Release(queue, _) => store::release_one(t, *queue, &self.owner)?,
                    Change::Flush(_) => {}
                }
            }
            for namespace in dead {
                dead_letters::trim(t, namespace)?;
            }
            Ok::<_, SqliteError>(done)
        });
        match done {
            Ok(done) => self.committed(changes, done, lost),
            Err(error) => self.failed(changes, &error, lost),
        }
    }

    /// Renews the leases that this node still holds.
    fn renew(&self, t: &Transaction<'_>, queues: &[i64], until_ms: i64) -> Result<Vec<i64>, SqliteError> {
        let mut kept = Vec::with_capacity(queues.len());
        for queue in queues {
            if store::renew(t, *queue, &self.owner, until_ms)? {
                kept.push(*queue);
            }
        }
        Ok(kept)
    }

    fn committed(&self, changes: Vec<Change>, done: Done, lost: &mut bool) {
        for (namespace, gone) in done.gone {
            self.tallies.remove(&namespace, gone);
        }
        let (mut leases, mut renewed) = (done.leases.into_iter(), done.renewed.into_iter());
        for change in changes {
            // The caller may have stopped waiting; the change is committed all the same.
            match change {
                Change::Publish(publish) => {
                    self.tallies.written(&publish.namespace, publish.jobs, publish.cost);
                    let _gone = publish.answer.send(Ok(()));
                }
                Change::Flush(answer) => {
                    let _gone = answer.send(!std::mem::take(lost));
                }
                Change::Lease(_, answer) => {
                    let _gone = answer.send(leases.next().flatten());
                }
                Change::Renew(_, answer) => {
                    if let Some(renewed) = renewed.next() {
                        // If the channel is full, the dispatcher takes the lease again when it needs it.
                        let _full = answer.try_send(renewed);
                    }
                }
                Change::Release(_, answer) => {
                    let _gone = answer.send(());
                }
                Change::Settle(_) => {}
            }
        }
        if !done.woken.is_empty() {
            (self.wake)(done.woken.into_iter().collect());
        }
    }

    fn failed(&self, changes: Vec<Change>, error: &SqliteError, lost: &mut bool) {
        tracing::error!(%error, count = changes.len(), "events could not be written");
        let words = match error.unavailable() {
            Some(ReplicaError::Unknown(_)) => "it is not known whether the event was stored",
            _ => "the event could not be stored; try again soon",
        };
        *lost |= changes.iter().any(|change| matches!(change, Change::Settle(_)));
        for change in changes {
            match change {
                Change::Publish(publish) => {
                    let Publish { namespace, jobs, later, cost, .. } = &*publish;
                    self.tallies.written(namespace, *jobs, *cost);
                    self.tallies.remove(namespace, *jobs);
                    self.tallies.remove_later(namespace, *later);
                    let _gone = publish.answer.send(Err(ServiceError::unavailable(words)));
                }
                Change::Flush(answer) => {
                    let _gone = answer.send(false);
                }
                Change::Lease(_, answer) => {
                    let _gone = answer.send(None);
                }
                Change::Settle(_) | Change::Renew(..) | Change::Release(..) => {}
            }
        }
    }
}

/// Takes the queued changes that fit into one commit.
fn gather(first: Change, queue: &Receiver<Change>) -> Vec<Change> {
    let cost = |change: &Change| if let Change::Publish(publish) = change { publish.cost } else { 0 };
    let mut bytes = cost(&first);
    let mut changes = vec![first];
    while changes.len() < COMMIT_CHANGES_MAX && bytes < COMMIT_BYTES {
        let Ok(next) = queue.try_recv() else { break };
        bytes += cost(&next);
        changes.push(next);
    }
    changes
}
