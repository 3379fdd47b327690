//! The one thread that commits: events that are published, leases, and how attempts ended. What comes while it commits
//! shares the next commit.

use super::store::{self, Fate};
use super::tally::{Tallies, Waiting};
use super::triggers::Triggers;
use super::{Wake, dead_letters, now_ms};
use crate::limits::JOB_LEASE;
use orama_runtime::names::Namespace;
use orama_runtime::services::{Event, ServiceError};
use orama_store::replica::ReplicaError;
use orama_store::sqlite::{Database, SqliteError};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::sync::oneshot;

/// Changes of one commit at most, so that none waits long behind others.
const COMMIT_CHANGES_MAX: usize = 1024;

/// Bytes of published data after which a commit takes no more.
const COMMIT_BYTES: usize = 4 << 20;

/// How often dead letters are looked at for age.
const AGE_EVERY: Duration = Duration::from_secs(60);

/// An event on its way to the disk.
pub(super) struct Publish {
    pub(super) namespace: Namespace,
    pub(super) event: Event,
    pub(super) message_id: String,
    pub(super) published_at_ms: i64,
    pub(super) triggers: Triggers,
    /// Bytes of memory that were admitted for it.
    pub(super) cost: usize,
    pub(super) answer: oneshot::Sender<Result<(), ServiceError>>,
}

impl Publish {
    /// The jobs that it makes.
    pub(super) fn jobs(&self) -> Waiting {
        let jobs = self.triggers.len() as u64;
        Waiting { jobs, bytes: jobs * self.event.data.len() as u64 }
    }
}

/// How an attempt of a job ended.
pub(super) struct Settled {
    pub(super) namespace: Namespace,
    pub(super) job: i64,
    /// The size of its data.
    pub(super) bytes: u64,
    pub(super) fate: Fate,
}

/// What the writer is told.
pub(super) enum Change {
    /// Answered when it is durable.
    Publish(Box<Publish>),
    /// Nobody waits for it.
    Settle(Box<Settled>),
    /// Answered when everything before is durable; `false` when some of it was lost.
    Flush(oneshot::Sender<bool>),
    /// Takes a queue; answered with the end of the lease, or with nothing when another node has it.
    Lease(i64, oneshot::Sender<Option<i64>>),
    /// Gives a queue back to whichever node takes it next; answered when that is durable.
    Release(i64, oneshot::Sender<()>),
    /// Keeps queues that are being worked on. Those that are kept, and until when, are sent when that is durable.
    Renew(Vec<i64>, mpsc::Sender<Renewed>),
}

/// Queues whose leases end then.
pub(super) type Renewed = (Vec<i64>, i64);

pub(super) struct Writer {
    pub(super) database: Arc<Database>,
    pub(super) tallies: Arc<Tallies>,
    pub(super) wake: Wake,
    /// This process, in leases.
    pub(super) owner: String,
}

/// What one commit did.
#[derive(Default)]
struct Done {
    /// Queues that got jobs.
    woken: HashMap<i64, Namespace>,
    /// For each lease asked for, in order.
    leases: Vec<Option<i64>>,
    /// For each renewal, in order.
    renewed: Vec<Renewed>,
    /// Jobs whose rows are gone.
    gone: Vec<(Namespace, Waiting)>,
}

impl Writer {
    /// Runs until every sender is gone and the queue is empty.
    pub(super) fn run(self, queue: &Receiver<Change>) {
        let mut age_due = Instant::now();
        // A commit that failed lost outcomes; whoever waits for those is told with the next flush.
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
            let mut dead = HashSet::new();
            for change in &changes {
                match change {
                    Change::Publish(publish) => {
                        let Publish { namespace, event, message_id, published_at_ms, triggers, .. } =
                            &**publish;
                        let queues =
                            store::publish(t, namespace, event, message_id, *published_at_ms, triggers)?;
                        done.woken.extend(queues.into_iter().map(|queue| (queue, namespace.clone())));
                    }
                    Change::Settle(settled) => {
                        let Settled { namespace, job, bytes, fate } = &**settled;
                        let was_there = store::settle(t, *job, fate, now_ms)?;
                        if was_there && !matches!(fate, Fate::Retry { .. }) {
                            done.gone.push((namespace.clone(), Waiting { jobs: 1, bytes: *bytes }));
                        }
                        if matches!(fate, Fate::Dead { .. }) {
                            dead.insert(namespace);
                        }
                    }
                    Change::Lease(queue, _) => {
                        let taken = store::lease(t, *queue, &self.owner, now_ms, until_ms)?;
                        done.leases.push(taken.then_some(until_ms));
                    }
                    Change::Renew(queues, _) => {
                        let mut kept = Vec::with_capacity(queues.len());
                        for queue in queues {
                            if store::renew(t, *queue, &self.owner, until_ms)? {
                                kept.push(*queue);
                            }
                        }
                        done.renewed.push((kept, until_ms));
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

    fn committed(&self, changes: Vec<Change>, done: Done, lost: &mut bool) {
        for (namespace, gone) in done.gone {
            self.tallies.remove(&namespace, gone);
        }
        let (mut leases, mut renewed) = (done.leases.into_iter(), done.renewed.into_iter());
        for change in changes {
            // Whoever asked may have gone; what they asked for is done all the same.
            match change {
                Change::Publish(publish) => {
                    self.tallies.written(&publish.namespace, publish.jobs(), publish.cost);
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
                        // A dispatcher that is behind takes the lease again when it needs it.
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
                    self.tallies.written(&publish.namespace, publish.jobs(), publish.cost);
                    self.tallies.remove(&publish.namespace, publish.jobs());
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

/// Takes what is there, and fits one commit.
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
