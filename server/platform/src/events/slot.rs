//! Slots of schedules as their functions read them, what is known of the runs, and triggers that are fired by hand.

use super::store::{self, Fate, Kind, NewMessage, To};
use super::{EventsError, NodeEvents, now_ms, publish};
use crate::registry::{Source, Trigger};
use jiff::Timestamp;
use orama_runtime::names::{FunctionName, Namespace};
use orama_runtime::services::{Event, ServiceError};
use rusqlite::{Transaction, params};
use serde::Serialize;
use std::collections::HashMap;

/// The topic of slots, which no other message has.
const TOPIC: &str = "_orama/cron";

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

/// The message of a slot.
pub(super) fn slot(trigger: &Trigger, slot_ms: i64, message_id: String) -> NewMessage {
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
        event: Event { topic: TOPIC.to_owned(), data, depth: 1, trace: None },
        published_at_ms: now_ms(),
        to: To::Queue { id: trigger.id.clone(), function: trigger.function.clone() },
    }
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

    /// Fires a trigger now: a schedule as if it were due, a topic with a message of this `topic` and `data`. Returns the
    /// message's id.
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
                event: Event { topic, data, depth: 1, trace: None },
                published_at_ms: now_ms(),
                to: To::Queue { id: trigger.id, function: trigger.function },
            },
        };
        publish::store(&self.inner, namespace, vec![new]).await?;
        Ok(message_id)
    }
}
