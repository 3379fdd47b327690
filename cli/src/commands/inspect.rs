//! `orama function list`, `get` and `versions`: show what is deployed.

use super::pages::{List, Listed};
use super::{FunctionInfo, stats};
use crate::args::Target;
use crate::client::Client;
use crate::error::Result;
use crate::output;
use orama_runtime::names::FunctionName;
use reqwest::Method;
use serde::Deserialize;

/// Runs `list`.
pub fn list(client: &Client, limit: Option<u32>, json: bool) -> Result<()> {
    let listed = Listed { path: &["functions"], field: "functions", of_namespace: true };
    let list = List::fetch(client, &listed, limit)?;
    if json {
        return output::line(&list.line()?);
    }
    let functions: Vec<FunctionInfo> = list.read()?;
    if functions.is_empty() {
        output::note("no functions; run `orama function deploy` in a function's folder to deploy one");
        return Ok(());
    }
    let rows = functions.into_iter().map(|f| {
        vec![
            f.name,
            f.version.to_string(),
            format!("{} MB", f.memory_limit_mb),
            format!("{} s", f.timeout_seconds),
            yes_no(f.is_public),
            f.updated_at,
        ]
    });
    print(&output::table(&["NAME", "VERSION", "MEMORY", "TIMEOUT", "PUBLIC", "DEPLOYED"], rows))
}

/// Runs `get`.
pub fn get(client: &Client, function: &Target, json: bool) -> Result<()> {
    let answer = client.send(client.request(Method::GET, &["functions", &function.to_string()]));
    let answer = answer.map_err(|error| client.explain_missing(error, function.name.as_str()))?;
    if json {
        return output::line(&answer.line()?);
    }
    let f: FunctionInfo = answer.json()?;
    let retry = match f.retry_count {
        0 => "none".to_owned(),
        count => format!("{count} times, {} s apart", f.retry_delay_seconds),
    };
    let start = match f.start_note {
        Some(note) => format!("{} ({note})", f.start),
        None => f.start,
    };
    let cors = f.cors.map_or_else(|| "as its node says".to_owned(), |cors| cors.origins().join(", "));
    let limited = |limit: u32, none: &str| match limit {
        0 => none.to_owned(),
        limit => limit.to_string(),
    };
    let url = client.function_url(&f.namespace, &f.name);
    let rows = [
        ("name", f.name),
        ("namespace", f.namespace),
        ("version", f.version.to_string()),
        ("status", f.status),
        ("content id", f.wasm_cid),
        ("memory", format!("{} MB", f.memory_limit_mb)),
        ("timeout", format!("{} s", f.timeout_seconds)),
        ("public", yes_no(f.is_public)),
        ("internal", yes_no(f.internal)),
        ("cors", cors),
        ("max body", format!("{} MB", f.max_body)),
        ("retry", retry),
        ("start", start),
        ("at once", limited(f.concurrency, "as its namespace may")),
        ("keeps", limited(f.keep_versions, "all versions")),
        ("url", url),
        ("created", f.created_at),
        ("updated", f.updated_at),
    ];
    let average = stats::average(client, function)?;
    let lines: Vec<String> = rows
        .into_iter()
        .chain(average.into_iter().flatten())
        .map(|(name, value)| format!("{name:<10}  {}", output::one_line(&value)))
        .collect();
    print(&lines)
}

/// Runs `versions`.
pub fn versions(client: &Client, name: &FunctionName, limit: Option<u32>, json: bool) -> Result<()> {
    let listed =
        Listed { path: &["functions", name.as_str(), "versions"], field: "versions", of_namespace: true };
    let list = List::fetch(client, &listed, limit);
    let list = list.map_err(|error| client.explain_missing(error, name.as_str()))?;
    if json {
        return output::line(&list.line()?);
    }
    let rows =
        list.read::<Version>()?.into_iter().map(|Version { function: f, aliases, traffic_percent }| {
            let share = if traffic_percent > 0.0 { format!("{traffic_percent:.0}%") } else { String::new() };
            let (by, from) = (by(&f), from(&f));
            vec![f.version.to_string(), f.updated_at, aliases.join(", "), share, by, from, f.wasm_cid]
        });
    print(&output::table(&["VERSION", "DEPLOYED", "ALIASES", "TRAFFIC", "BY", "FROM", "CONTENT ID"], rows))
}

/// A version in the list of versions.
#[derive(Deserialize)]
struct Version {
    #[serde(flatten)]
    function: FunctionInfo,
    #[serde(default)]
    aliases: Vec<String>,
    #[serde(default)]
    traffic_percent: f64,
}

/// Who deployed a version.
fn by(f: &FunctionInfo) -> String {
    match (&f.subject, &f.key_id) {
        (Some(subject), _) => subject.clone(),
        (None, Some(key_id)) => format!("key {key_id}"),
        (None, None) => String::new(),
    }
}

/// What a version was made from.
fn from(f: &FunctionInfo) -> String {
    /// Digits of a commit that are shown, as git does.
    const COMMIT_SHOWN: usize = 9;
    let mut parts = Vec::new();
    if let Some(version) = f.updated_from {
        parts.push(format!("update of version {version}"));
    }
    if let Some(source) = &f.source {
        if let Some(commit) = &source.commit {
            let commit: String = commit.chars().take(COMMIT_SHOWN).collect();
            let changed = if source.is_dirty == Some(true) { " with changes" } else { "" };
            let branch = source.branch.as_ref().map_or_else(String::new, |branch| format!(" ({branch})"));
            parts.push(format!("{commit}{changed}{branch}"));
        }
        parts.extend(source.message.clone());
    }
    parts.join(", ")
}

fn yes_no(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

fn print(lines: &[String]) -> Result<()> {
    output::line(&lines.join("\n"))
}
