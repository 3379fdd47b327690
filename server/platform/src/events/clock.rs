//! What is due by the clock: slots of schedules, and messages that waited for their time.
//!
//! Every node looks, and a transaction decides who was first: it takes what is due and adds the jobs for it. So each slot has one
//! job, which is durable before it runs. The wall clock counts, which is looked at once a second whatever was planned: it may be
//! set meanwhile.

use super::schedule::Schedule;
use super::slot::slot;
use super::store::{self, Kind, NewMessage, To, checked};
use super::tally::Waiting;
use super::{EventsError, Inner, now_ms};
use crate::limits::LATER_AT_ONCE;
use crate::registry::{RegistryError, Source, Trigger};
use orama_runtime::names::Namespace;
use orama_runtime::services::Event;
use orama_store::blocking::blocking;
use orama_store::causes::Causes;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::sleep;

/// The longest time without a look at the clock.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Nodes that share their events look one after the other within this time, so that most find the work done.
const SPREAD_MS: u64 = 100;

/// The next time of a schedule that is never due again.
const NEVER_MS: i64 = i64::MAX;

/// A schedule that this node watches.
struct Watched {
    namespace: Namespace,
    trigger: Trigger,
    schedule: Schedule,
    /// Its next slot, as far as this node knows.
    next_ms: i64,
}

pub(super) struct Clock {
    inner: Arc<Inner>,
    /// By the id of the trigger.
    watched: HashMap<String, Watched>,
    /// The registry's generation that they are from.
    generation: Option<u64>,
}

/// Why what is due was not handled.
#[derive(Debug, thiserror::Error)]
enum ClockError {
    #[error(transparent)]
    Events(#[from] EventsError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Task(#[from] orama_store::blocking::TaskFailed),
}

impl Clock {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        Self { inner, watched: HashMap::new(), generation: None }
    }

    /// Runs until the node stops.
    pub(super) async fn run(self) {
        let inner = Arc::clone(&self.inner);
        let mut stopping = inner.stopping.subscribe();
        let mut clock = Some(self);
        let mut has_failed = false;
        let mut spread = Duration::ZERO;
        if inner.database.is_shared() {
            let own = inner.owner.bytes().fold(0_u64, |sum, byte| sum.wrapping_mul(31) + u64::from(byte));
            spread = Duration::from_millis(own % SPREAD_MS);
        }
        while let Some(mut looking) = clock.take() {
            let looked = blocking(move || {
                let next = looking.look();
                Ok::<_, ClockError>((looking, next))
            });
            let next = match looked.await {
                Ok((looked, next)) => {
                    clock = Some(looked);
                    next
                }
                Err(error) => {
                    tracing::error!(error = %Causes(&error), "the clock of events starts anew");
                    clock = Some(Self::new(Arc::clone(&inner)));
                    Err(error)
                }
            };
            let mut pause = LOOK_EVERY;
            match next {
                Ok(next_ms) => {
                    has_failed = false;
                    let wait_ms = u64::try_from(next_ms.saturating_sub(now_ms())).unwrap_or(0);
                    pause = if wait_ms == 0 {
                        Duration::ZERO
                    } else {
                        pause.min(Duration::from_millis(wait_ms) + spread)
                    };
                    inner.planned_ms.store(next_ms, Ordering::Release);
                }
                Err(error) if !has_failed => {
                    has_failed = true;
                    tracing::error!(error = %Causes(&error), "what is due by the clock waits");
                }
                Err(_) => {}
            }
            tokio::select! {
                () = sleep(pause) => {}
                () = inner.planned_sooner.notified() => {}
                _ = stopping.wait_for(|stopping| *stopping) => return,
            }
        }
    }

    /// Handles what is due. Returns when there will be something again. Blocks.
    fn look(&mut self) -> Result<i64, ClockError> {
        self.refresh()?;
        let now_ms = now_ms();
        self.slots(now_ms)?;
        // Schedules have their turn between many messages.
        if self.later(now_ms)? >= LATER_AT_ONCE as usize {
            return Ok(now_ms);
        }
        let next_slot_ms = self.watched.values().map(|watched| watched.next_ms).min();
        let next_message_ms: Option<i64> = self.inner.database.read(|c| {
            let mut statement = c.prepare_cached("SELECT min(due_ms) FROM later")?;
            Ok::<_, EventsError>(statement.query_row([], |row| row.get(0))?)
        })?;
        Ok([next_slot_ms, next_message_ms].into_iter().flatten().min().unwrap_or(NEVER_MS))
    }

    /// Learns which schedules there are, if any trigger changed.
    fn refresh(&mut self) -> Result<(), ClockError> {
        let registry = &self.inner.registry;
        let generation = registry.generation().load(Ordering::Acquire);
        if self.generation == Some(generation) {
            return Ok(());
        }
        let mut old = std::mem::take(&mut self.watched);
        let mut unknown = Vec::new();
        for (namespace, trigger) in registry.schedules()? {
            let known = old.remove(&trigger.id).filter(|known| known.trigger == trigger);
            match known {
                Some(known) => drop(self.watched.insert(trigger.id, known)),
                None => unknown.extend(watch(namespace, trigger)),
            }
        }
        let begun = self.begin(unknown)?;
        self.watched.extend(begun.into_iter().map(|watched| (watched.trigger.id.clone(), watched)));
        self.generation = Some(generation);
        Ok(())
    }

    /// Reads when schedules are next due, and notes it for those that are new or were resumed.
    fn begin(&self, mut schedules: Vec<Watched>) -> Result<Vec<Watched>, EventsError> {
        let database = &self.inner.database;
        let mut has_new = false;
        for watched in &mut schedules {
            match database.read(|c| Ok::<_, EventsError>(noted_since(c, &watched.trigger)?))? {
                Some(next_ms) => watched.next_ms = next_ms,
                None => has_new = true,
            }
        }
        if has_new {
            let next = database.write(|t| {
                let next: rusqlite::Result<Vec<_>> =
                    schedules.iter().map(|watched| note(t, watched)).collect();
                Ok::<_, EventsError>(next?)
            })?;
            for (watched, next_ms) in schedules.iter_mut().zip(next) {
                watched.next_ms = next_ms;
            }
        }
        Ok(schedules)
    }

    /// Adds a job for each schedule that is due.
    fn slots(&mut self, now_ms: i64) -> Result<(), EventsError> {
        let database = &self.inner.database;
        let mut due = Vec::new();
        for (id, watched) in &mut self.watched {
            if watched.next_ms > now_ms {
                continue;
            }
            // Another node may have been first. A row that is gone went with its trigger.
            match database.read(|c| Ok::<_, EventsError>(noted(c, id)?))? {
                Some(next_ms) if next_ms <= now_ms => due.push(id.clone()),
                next_ms => watched.next_ms = next_ms.unwrap_or(NEVER_MS),
            }
        }
        if due.is_empty() {
            return Ok(());
        }
        let watched = &self.watched;
        let outcomes = database.write(|t| {
            let mut outcomes = Vec::new();
            for watched in due.iter().filter_map(|id| watched.get(id)) {
                let id = &watched.trigger.id;
                match noted(t, id)? {
                    Some(next_ms) if next_ms <= now_ms => {
                        outcomes.push(take_slot(t, watched, next_ms, now_ms)?)
                    }
                    next_ms => {
                        let next_ms = next_ms.unwrap_or(NEVER_MS);
                        outcomes.push(Taken { id: id.clone(), next_ms, job: None, was_skipped: false });
                    }
                }
            }
            Ok::<_, EventsError>(outcomes)
        })?;
        let mut queues = Vec::new();
        for Taken { id, next_ms, job, was_skipped } in outcomes {
            let Some(watched) = self.watched.get_mut(&id) else { continue };
            watched.next_ms = next_ms;
            if let Some((queue, bytes)) = job {
                self.inner.tallies.add(&watched.namespace, Waiting { jobs: 1, bytes });
                queues.push((queue, watched.namespace.clone()));
            }
            if was_skipped {
                self.inner.counters.skipped.fetch_add(1, Ordering::Relaxed);
                let (namespace, function) = (&watched.namespace, &watched.trigger.function);
                tracing::warn!(%namespace, %function, trigger_id = id, "a schedule's slot was left out: its last run goes on");
            }
        }
        if !queues.is_empty() {
            (self.inner.wake)(queues);
        }
        Ok(())
    }

    /// Fires the triggers of messages whose time has come. Returns their number.
    fn later(&self, now_ms: i64) -> Result<usize, ClockError> {
        let database = &self.inner.database;
        let due: Vec<(i64, Namespace, String)> = database.read(|c| {
            let mut statement = c.prepare_cached(
                "SELECT id, namespace, topic FROM later WHERE due_ms <= ?1 ORDER BY due_ms, id LIMIT ?2",
            )?;
            let rows = statement.query_map(params![now_ms, LATER_AT_ONCE], |row| {
                Ok((row.get(0)?, checked(Namespace::new(&row.get::<_, String>(1)?))?, row.get(2)?))
            })?;
            Ok::<_, EventsError>(rows.collect::<rusqlite::Result<_>>()?)
        })?;
        if due.is_empty() {
            return Ok(0);
        }
        let mut messages = Vec::with_capacity(due.len());
        for (id, namespace, topic) in due {
            let key = (namespace.clone(), topic);
            let triggers = match self.inner.triggers.known(&key) {
                Some(triggers) => triggers,
                None => self.inner.triggers.find(key)?,
            };
            messages.push((id, namespace, To::Triggers(triggers)));
        }
        let fired = database.write(|t| {
            let mut fired = Vec::new();
            for (id, namespace, to) in &messages {
                fired.extend(take_message(t, *id, namespace, to)?);
            }
            Ok::<_, EventsError>(fired)
        })?;
        let mut woken = HashMap::new();
        for (namespace, bytes, new_jobs, queues) in fired {
            self.inner.tallies.remove_later(&namespace, Waiting { jobs: 1, bytes });
            self.inner.tallies.add(&namespace, new_jobs);
            woken.extend(queues.into_iter().map(|queue| (queue, namespace.clone())));
        }
        if !woken.is_empty() {
            (self.inner.wake)(woken.into_iter().collect());
        }
        Ok(messages.len())
    }
}

/// The next slot of a schedule, as it is noted for all nodes.
fn noted(c: &Connection, trigger_id: &str) -> rusqlite::Result<Option<i64>> {
    c.prepare_cached("SELECT next_ms FROM schedules WHERE trigger_id = ?1")?
        .query_row([trigger_id], |row| row.get(0))
        .optional()
}

/// The same, if it was noted since the schedule began or was resumed.
fn noted_since(c: &Connection, trigger: &Trigger) -> rusqlite::Result<Option<i64>> {
    c.prepare_cached("SELECT next_ms FROM schedules WHERE trigger_id = ?1 AND since_ms = ?2")?
        .query_row(params![trigger.id, trigger.since_ms], |row| row.get(0))
        .optional()
}

/// Notes the first slot of a schedule, unless that was done. Returns the next one.
fn note(t: &Transaction<'_>, watched: &Watched) -> rusqlite::Result<i64> {
    let Watched { namespace, trigger, schedule, .. } = watched;
    if let Some(next_ms) = noted_since(t, trigger)? {
        return Ok(next_ms);
    }
    let (id, since_ms) = (&trigger.id, trigger.since_ms);
    let next_ms = schedule.next_ms(since_ms).unwrap_or(NEVER_MS);
    t.prepare_cached(
        "INSERT INTO schedules (trigger_id, namespace, function, since_ms, next_ms) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (trigger_id) DO UPDATE SET since_ms = excluded.since_ms, next_ms = excluded.next_ms",
    )?
    .execute(params![id, namespace.as_str(), trigger.function.as_str(), since_ms, next_ms])?;
    Ok(next_ms)
}

/// A schedule to watch; none for one that another version of the node has made and this one cannot read.
fn watch(namespace: Namespace, trigger: Trigger) -> Option<Watched> {
    let Source::Schedule { expression, timezone } = &trigger.source else { return None };
    match Schedule::new(expression, timezone) {
        Ok(schedule) => Some(Watched { namespace, trigger, schedule, next_ms: NEVER_MS }),
        Err(error) => {
            tracing::error!(%error, %namespace, trigger_id = trigger.id, "a schedule cannot be read and does not run");
            None
        }
    }
}

/// What came of a slot that was due.
struct Taken {
    id: String,
    next_ms: i64,
    /// Its queue and the size of its data.
    job: Option<(i64, u64)>,
    was_skipped: bool,
}

/// Takes the slots of a schedule up to now: one job for all of them, or none while an earlier one has not ended.
fn take_slot(t: &Transaction<'_>, watched: &Watched, due_ms: i64, now_ms: i64) -> Result<Taken, EventsError> {
    let Watched { namespace, trigger, schedule, .. } = watched;
    let id = trigger.id.clone();
    let next_ms = schedule.next_ms(now_ms).unwrap_or(NEVER_MS);
    let is_running: bool = t
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM queues q JOIN jobs j ON j.queue = q.id WHERE q.trigger_id = ?1)",
        )?
        .query_row([&id], |row| row.get(0))?;
    t.prepare_cached("UPDATE schedules SET next_ms = ?2, skipped = skipped + ?3 WHERE trigger_id = ?1")?
        .execute(params![id, next_ms, is_running])?;
    if is_running {
        return Ok(Taken { id, next_ms, job: None, was_skipped: true });
    }
    // Of several that were missed, the last.
    let slot_ms = schedule.last_ms(now_ms).filter(|last_ms| *last_ms >= due_ms).unwrap_or(due_ms);
    let new = slot(trigger, slot_ms, orama_store::ids::new_id());
    let bytes = new.event.data.len() as u64;
    let queues = store::publish(t, namespace, &new)?;
    Ok(Taken { id, next_ms, job: queues.first().map(|queue| (*queue, bytes)), was_skipped: false })
}

/// A message that was fired: its namespace, its size, its jobs and their queues.
type Fired = (Namespace, u64, Waiting, Vec<i64>);

/// Replaces a message whose time has come by its jobs; `None` if another node was first.
fn take_message(
    t: &Transaction<'_>,
    id: i64,
    namespace: &Namespace,
    to: &To,
) -> Result<Option<Fired>, EventsError> {
    let taken = t
        .prepare_cached(
            "DELETE FROM later WHERE id = ?1 RETURNING message_id, topic, data, depth, due_ms, trace",
        )?
        .query_row([id], |row| {
            Ok(NewMessage {
                message_id: row.get(0)?,
                kind: Kind::Event,
                event: Event {
                    topic: row.get(1)?,
                    data: row.get(2)?,
                    depth: row.get(3)?,
                    trace: store::stored_trace(row, 5)?,
                },
                published_at_ms: row.get(4)?,
                to: to.clone(),
            })
        })
        .optional()?;
    let Some(message) = taken else { return Ok(None) };
    let jobs = message.jobs();
    let queues = if jobs.jobs > 0 { store::publish(t, namespace, &message)? } else { Vec::new() };
    Ok(Some((namespace.clone(), message.event.data.len() as u64, jobs, queues)))
}
