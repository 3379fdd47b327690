//! `triggers` of `function.yaml`: the topics and schedules that run the function.

use super::yaml::{Kind, Node};
use super::{ManifestError, entries, unknown_key};
use orama_server::platform::events::{DEFAULT_TIMEZONE, Schedule, check_topic};
use orama_server::platform::limits::TRIGGERS_MAX;
use serde::Serialize;

/// A trigger, as the node takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Trigger {
    /// Messages of a topic, or of all topics that match a pattern.
    Topic {
        /// The topic.
        topic: String,
    },
    /// A cron expression.
    Schedule {
        /// The expression.
        schedule: String,
        /// Its time zone.
        timezone: String,
    },
}

/// Reads the list.
///
/// # Errors
/// The first problem with its place.
pub(super) fn read(node: &Node) -> Result<Vec<Trigger>, ManifestError> {
    let items = match &node.kind {
        Kind::List(items) => items,
        _ if node.is_null() => return Ok(Vec::new()),
        _ => {
            let message =
                format!("triggers must be a list (`- topic: ...` lines), found {}", node.describe());
            return Err(ManifestError::new(node.at, message));
        }
    };
    if items.len() > TRIGGERS_MAX as usize {
        let message = format!("triggers has {} entries; at most {TRIGGERS_MAX} are allowed", items.len());
        return Err(ManifestError::new(node.at, message));
    }
    items.iter().map(trigger).collect()
}

fn trigger(node: &Node) -> Result<Trigger, ManifestError> {
    let (mut topic, mut schedule, mut timezone) = (None, None, None);
    for entry in entries("a trigger", node)? {
        let place = match entry.key.as_str() {
            "topic" => &mut topic,
            "schedule" => &mut schedule,
            "timezone" => &mut timezone,
            _ => return Err(unknown_key(entry, "topic, schedule and timezone (under triggers)")),
        };
        match &entry.value.kind {
            Kind::Scalar { text, .. } if !entry.value.is_null() => *place = Some((text, entry.value.at)),
            _ => {
                let message = format!("{} must be text, found {}", entry.key, entry.value.describe());
                return Err(ManifestError::new(entry.value.at, message));
            }
        }
    }
    match (topic, schedule, timezone) {
        (Some((topic, at)), None, None) => {
            check_topic(topic).map_err(|error| ManifestError::new(at, error.to_string()))?;
            Ok(Trigger::Topic { topic: topic.clone() })
        }
        (None, Some((schedule, at)), timezone) => {
            let zone = timezone.map_or(DEFAULT_TIMEZONE, |(text, _)| text.as_str());
            let at = timezone.map_or(at, |(_, zone_at)| if is_zone(zone) { at } else { zone_at });
            Schedule::new(schedule, zone).map_err(|error| ManifestError::new(at, error.to_string()))?;
            Ok(Trigger::Schedule { schedule: schedule.clone(), timezone: zone.to_owned() })
        }
        (Some((_, at)), ..) => {
            Err(ManifestError::new(at, "a trigger has either a topic or a schedule with its timezone"))
        }
        (None, None, _) => Err(ManifestError::new(node.at, "a trigger needs a topic or a schedule")),
    }
}

fn is_zone(name: &str) -> bool {
    Schedule::new("@daily", name).is_ok()
}
