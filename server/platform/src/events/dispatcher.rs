//! Schedules the turns of triggers. Namespaces take turns, and so do the triggers of a namespace. Concurrent turns are bounded
//! for the node and for each namespace. A slow function therefore delays only its own trigger.

use super::turn::{FAILURE_PAUSE, Next, Turn, TurnEnd};
use super::writer::{Change, Renewed};
use super::{EventsError, Inner, Run, WAKE_TOPIC, now_ms, settler, store};
use crate::limits::{JOB_LEASE, RENEWALS_MAX, TRIGGERED_NAMESPACE_SHARE};
use crate::records::Records;
use crate::rotation::Rotation;
use orama_runtime::names::Namespace;
use orama_store::blocking::blocking;
use orama_store::pubsub::{Received, Subscription};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

/// How often leases are renewed, and the database is polled for jobs whose wake-up was lost.
const TICK: Duration = Duration::from_secs(3);

/// How often waiting jobs are counted again, where other nodes change them too.
const RECOUNT_EVERY: Duration = Duration::from_secs(30);

/// Minimum pause between two queries for due retries.
const DUE_PAUSE: Duration = Duration::from_millis(50);

/// How the dispatcher finds triggers with jobs.
type Look = fn(&rusqlite::Connection, i64) -> rusqlite::Result<Vec<(i64, Namespace)>>;

/// The state of a trigger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It has no known job that can run now.
    Idle,
    /// It waits for its turn.
    Ready,
    /// It has its turn. `again` means that more jobs arrived meanwhile.
    Running { again: bool },
    /// It pauses, even if jobs arrive.
    Paused,
}

struct Queue {
    namespace: Namespace,
    state: State,
    lease_until_ms: i64,
}

pub(super) struct Dispatcher {
    inner: Arc<Inner>,
    run: Run,
    outcomes: Sender<Change>,
    running_max: usize,
    /// Triggers that have jobs or had some recently.
    queues: HashMap<i64, Queue>,
    /// Triggers that wait for their turn or have one.
    ready: Rotation<Namespace, i64>,
    turns: JoinSet<TurnEnd>,
    turn_of: HashMap<Id, i64>,
    pauses: BinaryHeap<Reverse<(Instant, i64)>>,
    /// When the next retry is due, if known.
    due_ms: Option<i64>,
    due_looked: Instant,
    /// Renewed leases. If the channel is full, the trigger takes its lease again.
    renewed: (Sender<Renewed>, Receiver<Renewed>),
    /// The counter of other nodes' changes, at the last query and at the last count.
    elsewhere: (u64, u64),
    recounted: Instant,
}

impl Dispatcher {
    pub(super) fn new(inner: Arc<Inner>, run: Run, records: Records, running_max: usize) -> Self {
        Self {
            outcomes: settler::start(&inner, records),
            inner,
            run,
            running_max: running_max.max(1),
            queues: HashMap::new(),
            ready: Rotation::new((running_max / TRIGGERED_NAMESPACE_SHARE).max(1)),
            turns: JoinSet::new(),
            turn_of: HashMap::new(),
            pauses: BinaryHeap::new(),
            due_ms: None,
            due_looked: Instant::now(),
            renewed: mpsc::channel(RENEWALS_MAX),
            elsewhere: (0, 0),
            recounted: Instant::now(),
        }
    }

    /// Runs until the node stops and all running turns have ended.
    pub(super) async fn run(mut self) {
        let mut stopping = self.inner.stopping.subscribe();
        let mut elsewhere = self.inner.elsewhere.subscribe();
        let mut subscription = None;
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.fill();
            let timer = self.timer();
            tokio::select! {
                received = receive(&mut subscription) => self.woken(received).await,
                Some(ended) = self.turns.join_next_with_id(), if !self.turns.is_empty() => self.ended(ended),
                () = until(timer) => self.time_passed().await,
                Some((queues, until_ms)) = self.renewed.1.recv() => {
                    for id in queues {
                        // A turn that has ended may have released its lease.
                        if let Some(queue) = self.queues.get_mut(&id)
                            && matches!(queue.state, State::Running { .. })
                        {
                            queue.lease_until_ms = until_ms;
                        }
                    }
                }
                count = others_acted(&mut elsewhere, self.elsewhere.0, self.due_looked + DUE_PAUSE) => {
                    self.elsewhere.0 = count;
                    self.look(store::ready).await;
                }
                // The first tick comes at once.
                _ = tick.tick() => {
                    if subscription.is_none() {
                        subscription = self.subscribe().await;
                    }
                    self.tick().await;
                }
                () = stop(&mut stopping) => break,
            }
        }
        while self.turns.join_next().await.is_some() {}
        let (database, owner) = (Arc::clone(&self.inner.database), self.inner.owner.clone());
        let released = blocking(move || database.write(|t| Ok::<_, EventsError>(store::release(t, &owner)?)));
        if let Err(error) = released.await {
            tracing::warn!(%error, "the leases of triggers could not be released; they expire within seconds");
        }
    }

    async fn subscribe(&self) -> Option<Box<dyn Subscription>> {
        match self.inner.pubsub.subscribe(WAKE_TOPIC).await {
            Ok(subscription) => Some(subscription),
            Err(error) => {
                tracing::warn!(%error, "wake-ups cannot be received; the node polls for jobs every few seconds");
                None
            }
        }
    }

    /// Starts turns while there are free places.
    fn fill(&mut self) {
        while self.turns.len() < self.running_max {
            let Some((namespace, id)) = self.ready.next() else { return };
            let Some(queue) = self.queues.get_mut(&id) else {
                self.ready.done(&namespace);
                continue;
            };
            queue.state = State::Running { again: false };
            let turn = Turn {
                inner: Arc::clone(&self.inner),
                run: Arc::clone(&self.run),
                outcomes: self.outcomes.clone(),
                queue: id,
                lease_until_ms: queue.lease_until_ms,
                due_ms: None,
                gives_back: false,
            };
            let task = self.turns.spawn(turn.take());
            self.turn_of.insert(task.id(), id);
        }
    }

    /// Notes that a trigger may have jobs.
    fn wake(&mut self, id: i64, namespace: Namespace) {
        let queue =
            self.queues.entry(id).or_insert(Queue { namespace, state: State::Idle, lease_until_ms: 0 });
        match &mut queue.state {
            State::Idle => self.make_ready(id),
            State::Running { again } => *again = true,
            State::Ready | State::Paused => {}
        }
    }

    fn make_ready(&mut self, id: i64) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        queue.state = State::Ready;
        self.ready.push(&queue.namespace, id);
    }

    fn ended(&mut self, ended: Result<(Id, TurnEnd), JoinError>) {
        let end = match ended {
            Ok((task, end)) => {
                self.turn_of.remove(&task);
                end
            }
            Err(error) => {
                tracing::error!(%error, "the turn of a trigger panicked");
                let Some(queue) = self.turn_of.remove(&error.id()) else { return };
                TurnEnd { queue, lease_until_ms: 0, next: Next::After(FAILURE_PAUSE), due_ms: None }
            }
        };
        if let Some(due_ms) = end.due_ms {
            self.due_ms = Some(self.due_ms.map_or(due_ms, |known| known.min(due_ms)));
        }
        let Some(queue) = self.queues.get_mut(&end.queue) else { return };
        let again = queue.state == State::Running { again: true };
        queue.lease_until_ms = end.lease_until_ms;
        self.ready.done(&queue.namespace);
        match end.next {
            Next::WhenWoken if !again => queue.state = State::Idle,
            Next::Soon | Next::WhenWoken => self.make_ready(end.queue),
            Next::After(pause) => {
                queue.state = State::Paused;
                self.pauses.push(Reverse((Instant::now() + pause, end.queue)));
            }
        }
    }

    async fn woken(&mut self, received: Received) {
        let queues: Vec<(i64, Namespace)> = match received {
            Received::Message(message) => serde_json::from_slice(&message).unwrap_or_default(),
            Received::Lagged => Vec::new(),
        };
        if queues.is_empty() {
            return self.look(store::ready).await;
        }
        for (id, namespace) in queues {
            self.wake(id, namespace);
        }
    }

    /// Queries triggers with jobs that can run, and the time of the next retry.
    async fn look(&mut self, which: Look) {
        self.due_looked = Instant::now();
        let database = Arc::clone(&self.inner.database);
        let found = blocking(move || {
            let now_ms = now_ms();
            database.read(|c| Ok::<_, EventsError>((which(c, now_ms)?, store::next_due_ms(c, now_ms)?)))
        });
        match found.await {
            Ok((queues, due_ms)) => {
                self.due_ms = due_ms;
                for (id, namespace) in queues {
                    self.wake(id, namespace);
                }
            }
            // The next tick tries again.
            Err(error) => tracing::error!(%error, "waiting jobs could not be read"),
        }
    }

    /// The next time at which there is work without a wake-up.
    fn timer(&self) -> Option<Instant> {
        let pause = self.pauses.peek().map(|Reverse((until, _))| *until);
        let due = self.due_ms.map(|due_ms| {
            let wait_ms = u64::try_from(due_ms - now_ms()).unwrap_or(0);
            // If the wall clock is set forward meanwhile, the next tick notices.
            (Instant::now() + Duration::from_millis(wait_ms).min(TICK)).max(self.due_looked + DUE_PAUSE)
        });
        [pause, due].into_iter().flatten().min()
    }

    async fn time_passed(&mut self) {
        let now = Instant::now();
        while let Some(Reverse((until, id))) = self.pauses.peek().copied()
            && until <= now
        {
            self.pauses.pop();
            self.make_ready(id);
        }
        if self.due_ms.is_some_and(|due_ms| due_ms <= now_ms()) && self.due_looked + DUE_PAUSE <= now {
            self.look(store::due).await;
        }
    }

    /// Counts waiting jobs again, where other nodes change them too.
    async fn recount(&mut self) {
        let acted = *self.inner.elsewhere.borrow();
        let is_due = acted != self.elsewhere.1 || self.recounted.elapsed() >= RECOUNT_EVERY;
        if !self.inner.database.is_shared() || !is_due {
            return;
        }
        (self.elsewhere.1, self.recounted) = (acted, Instant::now());
        let inner = Arc::clone(&self.inner);
        let counted = blocking(move || {
            inner.tallies.recount(inner.database.read(store::waiting)?);
            Ok::<_, EventsError>(())
        });
        if let Err(error) = counted.await {
            tracing::error!(%error, "waiting jobs could not be counted");
        }
    }

    async fn tick(&mut self) {
        let now_ms = now_ms();
        let lease_ms = JOB_LEASE.as_millis() as i64;
        let mut renew = Vec::new();
        for (id, queue) in &self.queues {
            if matches!(queue.state, State::Running { .. })
                && queue.lease_until_ms - now_ms < lease_ms * 2 / 3
            {
                renew.push(*id);
            }
        }
        if !renew.is_empty() {
            // If the writer's queue is full, the next tick tries again, long before the leases end.
            let _full = self.inner.try_change(Change::Renew(renew, self.renewed.0.clone()));
        }
        self.recount().await;
        self.queues.retain(|_, queue| queue.state != State::Idle || queue.lease_until_ms > now_ms);
        self.look(store::ready).await;
    }
}

/// Waits for a change by another node after the count `seen`, and at least until `not_before`. Returns the new count.
async fn others_acted(elsewhere: &mut watch::Receiver<u64>, seen: u64, not_before: Instant) -> u64 {
    let count = elsewhere.wait_for(|count| *count != seen).await.map(|count| *count);
    let Ok(count) = count else { pending().await };
    sleep_until(not_before).await;
    count
}

async fn receive(subscription: &mut Option<Box<dyn Subscription>>) -> Received {
    match subscription {
        Some(subscription) => subscription.next().await,
        None => pending().await,
    }
}

async fn stop(stopping: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, so no stop will come.
    if stopping.wait_for(|stopping| *stopping).await.is_err() {
        pending().await
    }
}

async fn until(timer: Option<Instant>) {
    match timer {
        Some(timer) => sleep_until(timer).await,
        None => pending().await,
    }
}
