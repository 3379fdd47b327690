//! What is due by the clock: slots of schedules, and messages that waited for their time.
//!
//! Every node looks, and a transaction decides who was first: it takes what is due and adds the jobs for it. So each slot has one
//! job, which is durable before it runs. The wall clock counts, which is looked at once a second whatever was planned: it may be
//! set meanwhile.

use super::schedule::Schedule;
use super::store::{self, Fate, Kind, NewMessage, To, checked};
use super::tally::Waiting;
use super::{EventsError, Inner, NodeEvents, now_ms, publish};
use crate::limits::LATER_AT_ONCE;
use crate::registry::{RegistryError, Source, Trigger};
use jiff::Timestamp;
use orama_runtime::names::{FunctionName, Namespace};
use orama_runtime::services::{Event, ServiceError};
use orama_store::blocking::blocking;
use orama_store::causes::Causes;
use rusqlite::{OptionalExtension, Transaction, params};
use serde::Serialize;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::sleep;

/// The longest time without a look at the clock.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Nodes that share their events look one after the other within this time, so that most find the work done.
const SPREAD_MS: u64 = 100;

/// The topic of slots, which no other message has.
const TOPIC: &str = "_orama/cron";

/// The next time of a schedule that is never due again.
const NEVER_MS: i64 = i64::MAX;

/// The input of a run by a schedule.
#[derive(Serialize)]
struct Slot<'a> {
    trigger: &'static str,
    schedule: &'a str,
    /// The time of the slot, as RFC 3339.
    scheduled_at: String,
    trigger_id: &'a str,
}

/// What is known of a schedule's runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleState {
    /// Its next slot, in milliseconds since the Unix epoch.
    pub next_ms: i64,
    /// When its last run ended.
    pub last_run_ms: Option<i64>,
    /// Whether that succeeded: `success` or `error`.
    pub last_status: Option<String>,
    /// Slots that were left out because the last run went on.
    pub skipped: u64,
}

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
                    pause = pause.min(Duration::from_millis(wait_ms) + spread);
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
        while self.later(now_ms)? >= LATER_AT_ONCE as usize && !*self.inner.stopping.borrow() {}
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
        let noted = |c: &rusqlite::Connection, trigger: &Trigger| {
            c.prepare_cached("SELECT next_ms FROM schedules WHERE trigger_id = ?1 AND since_ms = ?2")?
                .query_row(params![trigger.id, trigger.since_ms], |row| row.get::<_, i64>(0))
                .optional()
        };
        let mut has_new = false;
        for watched in &mut schedules {
            match database.read(|c| noted(c, &watched.trigger))? {
                Some(next_ms) => watched.next_ms = next_ms,
                None => has_new = true,
            }
        }
        if has_new {
            let next = database.write(|t| {
                let mut all = Vec::with_capacity(schedules.len());
                for Watched { namespace, trigger, schedule, .. } in &schedules {
                    if let Some(next_ms) = noted(t, trigger)? {
                        all.push(next_ms);
                        continue;
                    }
                    let next_ms = schedule.next_ms(trigger.since_ms).unwrap_or(NEVER_MS);
                    t.prepare_cached(
                        "INSERT INTO schedules (trigger_id, namespace, function, since_ms, next_ms)
                         VALUES (?1, ?2, ?3, ?4, ?5)
                         ON CONFLICT (trigger_id) DO UPDATE SET since_ms = excluded.since_ms, next_ms = excluded.next_ms",
                    )?
                    .execute(params![
                        trigger.id,
                        namespace.as_str(),
                        trigger.function.as_str(),
                        trigger.since_ms,
                        next_ms
                    ])?;
                    all.push(next_ms);
                }
                Ok::<_, EventsError>(all)
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
        let noted = |c: &rusqlite::Connection, id: &str| {
            c.prepare_cached("SELECT next_ms FROM schedules WHERE trigger_id = ?1")?
                .query_row([id], |row| row.get::<_, i64>(0))
                .optional()
        };
        let mut due = Vec::new();
        for (id, watched) in &mut self.watched {
            if watched.next_ms > now_ms {
                continue;
            }
            // Another node may have been first. A row that is gone went with its trigger.
            match database.read(|c| noted(c, id))? {
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

/// The message of a slot.
fn slot(trigger: &Trigger, slot_ms: i64, message_id: String) -> NewMessage {
    let schedule = match &trigger.source {
        Source::Schedule { expression, .. } => expression.as_str(),
        Source::Topic(_) => "",
    };
    let scheduled_at = Timestamp::from_millisecond(slot_ms).unwrap_or_default().to_string();
    let slot = Slot { trigger: "cron", schedule, scheduled_at, trigger_id: &trigger.id };
    // It consists of texts alone, so nothing fails.
    let data = serde_json::to_string(&slot).unwrap_or_default();
    NewMessage {
        message_id,
        kind: Kind::Slot,
        event: Event { topic: TOPIC.to_owned(), data, depth: 1 },
        published_at_ms: now_ms(),
        to: To::Queue { id: trigger.id.clone(), function: trigger.function.clone() },
    }
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
        .prepare_cached("DELETE FROM later WHERE id = ?1 RETURNING message_id, topic, data, depth, due_ms")?
        .query_row([id], |row| {
            Ok(NewMessage {
                message_id: row.get(0)?,
                kind: Kind::Event,
                event: Event { topic: row.get(1)?, data: row.get(2)?, depth: row.get(3)? },
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

/// Notes how a run by a schedule ended.
pub(super) fn note_run(t: &Transaction<'_>, job: i64, fate: &Fate, now_ms: i64) -> rusqlite::Result<()> {
    let status = match fate {
        Fate::Gone => "success",
        Fate::Retry { .. } | Fate::Dead { .. } => "error",
    };
    // One that was fired before the clock has seen it has no row yet.
    t.prepare_cached(
        "INSERT INTO schedules (trigger_id, namespace, function, since_ms, next_ms, last_run_ms, last_status)
         SELECT q.trigger_id, q.namespace, q.function, 0, 0, ?2, ?3 FROM jobs j JOIN queues q ON q.id = j.queue
         WHERE j.id = ?1
         ON CONFLICT (trigger_id) DO UPDATE SET last_run_ms = excluded.last_run_ms, last_status = excluded.last_status",
    )?
    .execute(params![job, now_ms, status])?;
    Ok(())
}

impl NodeEvents {
    /// What is known of the runs of a function's schedules, by trigger. Blocks.
    ///
    /// # Errors
    /// [`EventsError`]
    pub fn schedules(
        &self,
        namespace: &Namespace,
        function: &FunctionName,
    ) -> Result<HashMap<String, ScheduleState>, EventsError> {
        self.inner.database.read(|c| {
            let mut statement = c.prepare_cached(
                "SELECT trigger_id, next_ms, last_run_ms, last_status, skipped FROM schedules
                 WHERE namespace = ?1 AND function = ?2",
            )?;
            let rows = statement.query_map(params![namespace.as_str(), function.as_str()], |row| {
                let state = ScheduleState {
                    next_ms: row.get(1)?,
                    last_run_ms: row.get(2)?,
                    last_status: row.get(3)?,
                    skipped: store::unsigned(row, 4)?,
                };
                Ok((row.get(0)?, state))
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// Fires a trigger now: a schedule as if it were due, a topic with a message of this `topic` and `data`. Returns the message's id.
    ///
    /// # Errors
    /// Unavailable if a limit is reached or it cannot be stored.
    pub async fn fire(
        &self,
        namespace: Namespace,
        trigger: Trigger,
        topic: String,
        data: String,
    ) -> Result<String, ServiceError> {
        let message_id = publish::message_id()?;
        let new = match &trigger.source {
            Source::Schedule { .. } => slot(&trigger, now_ms(), message_id.clone()),
            Source::Topic(_) => NewMessage {
                message_id: message_id.clone(),
                kind: Kind::Event,
                event: Event { topic, data, depth: 1 },
                published_at_ms: now_ms(),
                to: To::Queue { id: trigger.id, function: trigger.function },
            },
        };
        publish::store(&self.inner, namespace, vec![new]).await?;
        Ok(message_id)
    }
}
