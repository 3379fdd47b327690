//! Gives triggers their turns: bounded for the node and for each namespace, namespaces in rotation, and the triggers of
//! a namespace in rotation. So a slow function holds up nothing but its own trigger.

use super::turn::{FAILURE_PAUSE, Next, Turn, TurnEnd};
use super::writer::{Change, Renewed};
use super::{Inner, Run, WAKE_TOPIC, now_ms, settler, store};
use crate::limits::{JOB_LEASE, TRIGGERED_NAMESPACE_SHARE};
use crate::records::Records;
use orama_runtime::names::Namespace;
use orama_store::pubsub::{Heard, Subscription};
use orama_store::sqlite::SqliteError;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

/// How often leases are renewed, and jobs looked for whose wake-up was lost.
const TICK: Duration = Duration::from_secs(3);

/// How often what waits is counted anew where other nodes change it too.
const RECOUNT_EVERY: Duration = Duration::from_secs(30);

/// Pause between two looks for retries that are due.
const DUE_PAUSE: Duration = Duration::from_millis(50);

/// How triggers that may run are found.
type Look = fn(&rusqlite::Connection, i64) -> rusqlite::Result<Vec<(i64, Namespace)>>;

/// What a trigger is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It has no job that may run now, as far as is known.
    Idle,
    /// It waits for its turn.
    Ready,
    /// It has its turn. `again`: more jobs came meanwhile.
    Running { again: bool },
    /// It waits for a while, whatever comes.
    Paused,
}

struct Queue {
    namespace: Namespace,
    state: State,
    lease_until_ms: i64,
}

/// The triggers of a namespace.
#[derive(Default)]
struct Turns {
    ready: VecDeque<i64>,
    running: usize,
    /// Whether the namespace stands in the rotation.
    in_rotation: bool,
}

pub(super) struct Dispatcher {
    inner: Arc<Inner>,
    run: Run,
    outcomes: UnboundedSender<Change>,
    running_max: usize,
    namespace_max: usize,
    /// Triggers that have jobs, or had some a moment ago.
    queues: HashMap<i64, Queue>,
    namespaces: HashMap<Namespace, Turns>,
    /// Namespaces with a trigger that is ready and a place for it.
    rotation: VecDeque<Namespace>,
    turns: JoinSet<TurnEnd>,
    turn_of: HashMap<Id, i64>,
    pauses: BinaryHeap<Reverse<(Instant, i64)>>,
    /// When the next retry is due, if that is known.
    due_ms: Option<i64>,
    due_looked: Instant,
    /// Leases that were renewed.
    renewed: (UnboundedSender<Renewed>, UnboundedReceiver<Renewed>),
    /// What other nodes had done at the last look, and at the last count.
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
            namespace_max: (running_max / TRIGGERED_NAMESPACE_SHARE).max(1),
            queues: HashMap::new(),
            namespaces: HashMap::new(),
            rotation: VecDeque::new(),
            turns: JoinSet::new(),
            turn_of: HashMap::new(),
            pauses: BinaryHeap::new(),
            due_ms: None,
            due_looked: Instant::now(),
            renewed: unbounded_channel(),
            elsewhere: (0, 0),
            recounted: Instant::now(),
        }
    }

    /// Runs until the node stops, and then until what runs has ended.
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
                heard = hear(&mut subscription) => self.heard(heard).await,
                Some(ended) = self.turns.join_next_with_id(), if !self.turns.is_empty() => self.ended(ended),
                () = until(timer) => self.time_passed().await,
                Some((queues, until_ms)) = self.renewed.1.recv() => {
                    for id in queues {
                        if let Some(queue) = self.queues.get_mut(&id) {
                            queue.lease_until_ms = until_ms;
                        }
                    }
                }
                count = others_acted(&mut elsewhere, self.elsewhere.0, self.due_looked + DUE_PAUSE) => {
                    self.elsewhere.0 = count;
                    self.look(store::ready).await;
                }
                // The first one comes at once.
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
        let released = tokio::task::spawn_blocking(move || {
            database.write(|t| Ok::<_, SqliteError>(store::release(t, &owner)?))
        })
        .await;
        if !matches!(released, Ok(Ok(()))) {
            tracing::warn!("the leases of triggers could not be given back; they end by themselves");
        }
    }

    async fn subscribe(&self) -> Option<Box<dyn Subscription>> {
        match self.inner.pubsub.subscribe(WAKE_TOPIC).await {
            Ok(subscription) => Some(subscription),
            Err(error) => {
                tracing::warn!(%error, "wake-ups are not heard; jobs are looked for now and then");
                None
            }
        }
    }

    /// Starts turns while there are places.
    fn fill(&mut self) {
        while self.turns.len() < self.running_max {
            let Some(namespace) = self.rotation.pop_front() else { return };
            let Some(turns) = self.namespaces.get_mut(&namespace) else { continue };
            turns.in_rotation = false;
            if let Some(id) = turns.ready.pop_front()
                && let Some(queue) = self.queues.get_mut(&id)
            {
                turns.running += 1;
                queue.state = State::Running { again: false };
                let turn = Turn {
                    inner: Arc::clone(&self.inner),
                    run: Arc::clone(&self.run),
                    outcomes: self.outcomes.clone(),
                    queue: id,
                    lease_until_ms: queue.lease_until_ms,
                    due_ms: None,
                };
                let task = self.turns.spawn(turn.take());
                self.turn_of.insert(task.id(), id);
            }
            self.rotate(&namespace);
        }
    }

    /// Puts a namespace into the rotation if it belongs there.
    fn rotate(&mut self, namespace: &Namespace) {
        let Some(turns) = self.namespaces.get_mut(namespace) else { return };
        if turns.ready.is_empty() {
            if turns.running == 0 {
                self.namespaces.remove(namespace);
            }
        } else if !turns.in_rotation && turns.running < self.namespace_max {
            turns.in_rotation = true;
            self.rotation.push_back(namespace.clone());
        }
    }

    /// A trigger may have jobs.
    fn wake(&mut self, id: i64, namespace: Namespace) {
        let queue =
            self.queues.entry(id).or_insert(Queue { namespace, state: State::Idle, lease_until_ms: 0 });
        match &mut queue.state {
            State::Idle => self.ready(id),
            State::Running { again } => *again = true,
            State::Ready | State::Paused => {}
        }
    }

    fn ready(&mut self, id: i64) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        queue.state = State::Ready;
        let namespace = queue.namespace.clone();
        self.namespaces.entry(namespace.clone()).or_default().ready.push_back(id);
        self.rotate(&namespace);
    }

    fn ended(&mut self, ended: Result<(Id, TurnEnd), JoinError>) {
        let end = match ended {
            Ok((task, end)) => {
                self.turn_of.remove(&task);
                end
            }
            Err(error) => {
                tracing::error!(%error, "the turn of a trigger ended with a panic");
                let Some(queue) = self.turn_of.remove(&error.id()) else { return };
                TurnEnd { queue, lease_until_ms: 0, next: Next::After(FAILURE_PAUSE), due_ms: None }
            }
        };
        if let Some(due_ms) = end.due_ms {
            self.due_ms = Some(self.due_ms.map_or(due_ms, |known| known.min(due_ms)));
        }
        let Some(queue) = self.queues.get_mut(&end.queue) else { return };
        let again = queue.state == State::Running { again: true };
        let namespace = queue.namespace.clone();
        queue.lease_until_ms = end.lease_until_ms;
        if let Some(turns) = self.namespaces.get_mut(&namespace) {
            turns.running -= 1;
        }
        match end.next {
            Next::WhenWoken if !again => {
                queue.state = State::Idle;
                self.rotate(&namespace);
            }
            Next::Soon | Next::WhenWoken => self.ready(end.queue),
            Next::After(pause) => {
                queue.state = State::Paused;
                self.pauses.push(Reverse((Instant::now() + pause, end.queue)));
                self.rotate(&namespace);
            }
        }
    }

    async fn heard(&mut self, heard: Heard) {
        let queues: Vec<(i64, Namespace)> = match heard {
            Heard::Message(message) => serde_json::from_slice(&message).unwrap_or_default(),
            Heard::Lagged => Vec::new(),
        };
        if queues.is_empty() {
            return self.look(store::ready).await;
        }
        for (id, namespace) in queues {
            self.wake(id, namespace);
        }
    }

    /// Looks for triggers whose jobs may run, and for the time of the next retry.
    async fn look(&mut self, which: Look) {
        self.due_looked = Instant::now();
        let database = Arc::clone(&self.inner.database);
        let found = tokio::task::spawn_blocking(move || {
            let now_ms = now_ms();
            database.read(|c| Ok::<_, rusqlite::Error>((which(c, now_ms)?, store::next_due_ms(c, now_ms)?)))
        });
        match found
            .await
            .map_err(|error| error.to_string())
            .and_then(|found| found.map_err(|e| e.to_string()))
        {
            Ok((queues, due_ms)) => {
                self.due_ms = due_ms;
                for (id, namespace) in queues {
                    self.wake(id, namespace);
                }
            }
            // The next tick tries again.
            Err(error) => tracing::error!(error, "waiting jobs could not be read"),
        }
    }

    /// When there is something to do by the clock alone.
    fn timer(&self) -> Option<Instant> {
        let pause = self.pauses.peek().map(|Reverse((until, _))| *until);
        let due = self.due_ms.map(|due_ms| {
            let wait_ms = u64::try_from(due_ms - now_ms()).unwrap_or(0);
            // A clock that is set later meanwhile is noticed by the next tick.
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
            self.ready(id);
        }
        if self.due_ms.is_some_and(|due_ms| due_ms <= now_ms()) && self.due_looked + DUE_PAUSE <= now {
            self.look(store::due).await;
        }
    }

    /// Counts what waits, where other nodes change it too.
    async fn recount(&mut self) {
        let acted = *self.inner.elsewhere.borrow();
        let is_due = acted != self.elsewhere.1 || self.recounted.elapsed() >= RECOUNT_EVERY;
        if !self.inner.database.is_shared() || !is_due {
            return;
        }
        (self.elsewhere.1, self.recounted) = (acted, Instant::now());
        let inner = Arc::clone(&self.inner);
        let counted = tokio::task::spawn_blocking(move || {
            inner.database.read(store::waiting).map(|waiting| inner.tallies.recount(waiting))
        });
        if !matches!(counted.await, Ok(Ok(()))) {
            tracing::error!("waiting jobs could not be counted");
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
            self.inner.change(Change::Renew(renew, self.renewed.0.clone()));
        }
        self.recount().await;
        self.queues.retain(|_, queue| queue.state != State::Idle || queue.lease_until_ms > now_ms);
        self.look(store::ready).await;
    }
}

/// Waits until other nodes did something that was not looked at, and not before then; which count that is.
async fn others_acted(elsewhere: &mut watch::Receiver<u64>, seen: u64, not_before: Instant) -> u64 {
    let count = elsewhere.wait_for(|count| *count != seen).await.map(|count| *count);
    let Ok(count) = count else { pending().await };
    sleep_until(not_before).await;
    count
}

async fn hear(subscription: &mut Option<Box<dyn Subscription>>) -> Heard {
    match subscription {
        Some(subscription) => subscription.next().await,
        None => pending().await,
    }
}

async fn stop(stopping: &mut watch::Receiver<bool>) {
    // An error means that nobody is left who could stop us.
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
