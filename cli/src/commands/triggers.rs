//! `orama function triggers`: sets which topics run a function, and shows and replays the messages on which it failed.

use super::pages::{List, Listed};
use crate::args::Id;
use crate::client::Client;
use crate::error::Result;
use crate::output;
use orama_runtime::names::FunctionName;
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
struct Added {
    trigger_id: String,
    topic: String,
}

#[derive(Deserialize)]
struct Trigger {
    id: String,
    kind: String,
    topic: String,
    enabled: bool,
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
pub fn add(client: &Client, function: &FunctionName, topic: &str, json: bool) -> Result<()> {
    let path = ["functions", function.as_str(), "triggers"];
    let answer = client.send(client.request(Method::POST, &path).json(&json!({ "topic": topic })))?;
    if json {
        return output::line(&answer.line()?);
    }
    let Added { trigger_id, topic } = answer.json()?;
    // 200 instead of 201: the function had this trigger already.
    let done = if answer.status == 200 { "kept" } else { "added" };
    let (id, topic) = (output::one_line(&trigger_id), output::one_line(&topic));
    output::line(&format!("{done} trigger {id}: {function} runs for each message to {topic}"))
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
        output::note("no triggers; add one with `orama function triggers add <function> --topic <topic>`");
        return Ok(());
    }
    let rows = triggers.into_iter().map(|t| {
        let enabled = if t.enabled { "yes" } else { "no" };
        vec![t.id, t.kind, t.topic, enabled.to_owned()]
    });
    output::line(&output::table(&["ID", "KIND", "TOPIC", "ENABLED"], rows).join("\n"))
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
