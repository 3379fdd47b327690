//! `orama function triggers`: sets which topics and schedules run a function, fires them, and shows and replays the messages on
//! which it failed.

use super::pages::{List, Listed};
use super::pubsub;
use crate::args::Id;
use crate::client::Client;
use crate::error::Result;
use crate::output;
use orama_runtime::names::FunctionName;
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// What fires a trigger: a topic, or a schedule.
#[derive(Serialize, Deserialize)]
pub struct Source {
    /// The topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// The schedule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cron_expression: Option<String>,
    /// Its time zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
}

impl Source {
    /// The source as a table shows it.
    fn shown(&self) -> String {
        match (&self.topic, &self.cron_expression, &self.timezone) {
            (Some(topic), ..) => output::one_line(topic),
            (None, Some(cron), Some(zone)) => {
                format!("{} {}", output::one_line(cron), output::one_line(zone))
            }
            _ => String::new(),
        }
    }
}

#[derive(Deserialize)]
struct Added {
    trigger_id: String,
    #[serde(flatten)]
    source: Source,
}

#[derive(Deserialize)]
struct Trigger {
    id: String,
    kind: String,
    #[serde(flatten)]
    source: Source,
    enabled: bool,
    next_run_at: Option<String>,
    last_run_at: Option<String>,
    last_status: Option<String>,
}

#[derive(Deserialize)]
struct Fired {
    message_id: String,
}

/// The message that a trigger is fired with.
pub struct Firing {
    /// Its topic, for a trigger on a pattern.
    pub topic: Option<String>,
    /// Its text, or `-`.
    pub data: Option<String>,
}

#[derive(Deserialize)]
struct DeadLetters {
    dead_letters: Vec<DeadLetter>,
}

#[derive(Deserialize)]
struct DeadLetter {
    id: String,
    topic: String,
    attempts: u32,
    error: Option<String>,
    failed_at: String,
}

#[derive(Deserialize)]
struct Replayed {
    replayed: u64,
}

/// Runs `add`.
pub fn add(client: &Client, function: &FunctionName, source: &Source, json: bool) -> Result<()> {
    let path = ["functions", function.as_str(), "triggers"];
    let answer = client.send(client.request(Method::POST, &path).json(source))?;
    if json {
        return output::line(&answer.line()?);
    }
    let Added { trigger_id, source } = answer.json()?;
    // 200 instead of 201: the function had this trigger already.
    let done = if answer.status == 200 { "kept" } else { "added" };
    let (id, shown) = (output::one_line(&trigger_id), source.shown());
    output::line(&match source.topic {
        Some(_) => format!("{done} trigger {id}: {function} runs for each message to {shown}"),
        None => format!("{done} trigger {id}: {function} runs by the schedule {shown}"),
    })
}

/// Runs `pause` and `resume`.
pub fn enable(client: &Client, function: &FunctionName, id: &Id, enabled: bool, json: bool) -> Result<()> {
    let path = ["functions", function.as_str(), "triggers", id.as_str()];
    let answer = client.send(client.request(Method::PATCH, &path).json(&json!({ "enabled": enabled })))?;
    if json {
        return output::line(&answer.line()?);
    }
    output::line(&format!("{} trigger {id}", if enabled { "resumed" } else { "paused" }))
}

/// Runs `fire`.
pub fn fire(client: &Client, function: &FunctionName, id: &Id, message: Firing, json: bool) -> Result<()> {
    let path = ["functions", function.as_str(), "triggers", id.as_str(), "fire"];
    let data = message.data.map(pubsub::read).transpose()?;
    let data = data.as_deref().map(pubsub::message).transpose()?;
    let mut members = Vec::new();
    members.extend(message.topic.map(|topic| format!("\"topic\":{}", json!(topic))));
    members.extend(data.map(|data| format!("\"data\":{}", data.get())));
    let body = format!("{{{}}}", members.join(","));
    let request = client.request(Method::POST, &path).header(CONTENT_TYPE, "application/json").body(body);
    let answer = client.send(request)?;
    if json {
        return output::line(&answer.line()?);
    }
    let message_id = answer.json::<Fired>()?.message_id;
    output::line(&format!(
        "fired trigger {id}: {function} runs for message {}",
        output::one_line(&message_id)
    ))
}

/// Runs `list`.
pub fn list(client: &Client, function: &FunctionName, limit: Option<u32>, json: bool) -> Result<()> {
    let listed =
        Listed { path: &["functions", function.as_str(), "triggers"], field: "triggers", of_namespace: true };
    let list = List::fetch(client, &listed, limit)?;
    if json {
        return output::line(&list.line()?);
    }
    let triggers: Vec<Trigger> = list.read()?;
    if triggers.is_empty() {
        output::note(
            "no triggers; add one with `orama function triggers add <function> --topic <topic>`, or with `--schedule <cron>`",
        );
        return Ok(());
    }
    // Only schedules have runs to tell of.
    let has_schedules = triggers.iter().any(|trigger| trigger.source.cron_expression.is_some());
    let rows = triggers.into_iter().map(|t| {
        let enabled = if t.enabled { "yes" } else { "no" };
        let mut row = vec![t.id, t.kind, t.source.shown(), enabled.to_owned()];
        if has_schedules {
            let last = match (t.last_run_at, t.last_status) {
                (Some(at), Some(status)) => format!("{at} {status}"),
                _ => String::new(),
            };
            row.extend([t.next_run_at.unwrap_or_default(), last]);
        }
        row
    });
    let headers: &[&str] = if has_schedules {
        &["ID", "KIND", "TOPIC OR SCHEDULE", "ENABLED", "NEXT RUN", "LAST RUN"]
    } else {
        &["ID", "KIND", "TOPIC", "ENABLED"]
    };
    output::line(&output::table(headers, rows).join("\n"))
}

/// Runs `delete`.
pub fn delete(client: &Client, function: &FunctionName, id: &Id, json: bool) -> Result<()> {
    let path = ["functions", function.as_str(), "triggers", id.as_str()];
    let answer = client.send(client.request(Method::DELETE, &path))?;
    if json {
        return output::line(&answer.line()?);
    }
    output::line(&format!("deleted trigger {id}"))
}

/// Runs `dead-letters`.
pub fn dead_letters(client: &Client, function: &FunctionName, limit: Option<u32>, json: bool) -> Result<()> {
    let path = ["functions", function.as_str(), "dead-letters"];
    let query: Vec<_> = limit.map(|limit| ("limit", limit.to_string())).into_iter().collect();
    let answer = client.send(client.query(Method::GET, &path, &query))?;
    if json {
        return output::line(&answer.line()?);
    }
    let letters = answer.json::<DeadLetters>()?.dead_letters;
    if letters.is_empty() {
        output::note("no dead letters");
        return Ok(());
    }
    let rows = letters
        .into_iter()
        .map(|l| vec![l.id, l.failed_at, l.topic, l.attempts.to_string(), l.error.unwrap_or_default()]);
    output::line(&output::table(&["ID", "FAILED", "TOPIC", "ATTEMPTS", "ERROR"], rows).join("\n"))
}

/// Runs `replay` for one dead letter, or for all without an id.
pub fn replay(client: &Client, function: &FunctionName, id: Option<&Id>, json: bool) -> Result<()> {
    let mut path = vec!["functions", function.as_str(), "dead-letters"];
    path.extend(id.map(Id::as_str));
    path.push("replay");
    let answer = client.send(client.request(Method::POST, &path))?;
    if json {
        return output::line(&answer.line()?);
    }
    let replayed = answer.json::<Replayed>()?.replayed;
    let letters = if replayed == 1 { "dead letter" } else { "dead letters" };
    output::line(&format!("{function} runs again for {replayed} {letters}"))
}
