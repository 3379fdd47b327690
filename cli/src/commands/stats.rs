//! `orama function stats`: what the invocations of a function, or of all of them, had in common.

use crate::args::Target;
use crate::client::Client;
use crate::error::Result;
use crate::output;
use jiff::Timestamp;
use reqwest::Method;
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Times {
    mean: f64,
    p50: f64,
    p90: f64,
    p99: f64,
}

#[derive(Deserialize)]
struct Bytes {
    mean: u64,
    max: u64,
}

/// What some invocations had in common.
#[derive(Deserialize)]
struct Stats {
    invocations: u64,
    errors: BTreeMap<String, u64>,
    server_errors: u64,
    error_rate: f64,
    refused: BTreeMap<String, u64>,
    retries: u64,
    cold_loads: u64,
    duration_ms: Times,
    phases_ms: BTreeMap<String, Times>,
    host_calls: BTreeMap<String, u64>,
    memory_bytes: Bytes,
}

#[derive(Deserialize)]
struct OfVersion {
    version: u32,
    #[serde(flatten)]
    stats: Stats,
}

#[derive(Deserialize)]
struct OfFunction {
    name: String,
    #[serde(flatten)]
    stats: Stats,
    /// The newest first.
    versions: Vec<OfVersion>,
}

#[derive(Deserialize)]
struct OfCaller {
    caller: String,
    invocations: u64,
    failures: u64,
    last_error: Option<String>,
    last_failed_request_id: Option<String>,
}

#[derive(Deserialize)]
struct One {
    since: String,
    #[serde(flatten)]
    function: OfFunction,
    callers: Vec<OfCaller>,
    callers_of: u64,
    #[serde(default)]
    missing_nodes: Vec<String>,
}

#[derive(Deserialize)]
struct All {
    since: String,
    functions: Vec<OfFunction>,
    #[serde(default)]
    missing_nodes: Vec<String>,
}

/// Runs the command: for one function, or for all.
pub fn run(client: &Client, function: Option<&Target>, since: Option<Timestamp>, json: bool) -> Result<()> {
    let query: Vec<_> = since.iter().map(|since| ("since", since.to_string())).collect();
    let Some(function) = function else {
        let answer = client.send(client.query(Method::GET, &["stats"], &query))?;
        return if json { output::line(&answer.line()?) } else { show_all(&answer.json()?) };
    };
    let path = ["functions", &function.to_string(), "stats"];
    let answer = client.send(client.query(Method::GET, &path, &query));
    let answer = answer.map_err(|error| client.explain_missing(error, function.name.as_str()))?;
    if json { output::line(&answer.line()?) } else { show_one(&answer.json()?) }
}

/// What an invocation cost on average in the last day, for `orama function get`; `None` where none ran.
pub fn average(client: &Client, function: &Target) -> Result<Option<[(&'static str, String); 2]>> {
    let path = ["functions", &function.to_string(), "stats"];
    let query = [("since", "1d".to_owned())];
    let One { function: OfFunction { stats, .. }, .. } =
        client.send(client.query(Method::GET, &path, &query))?.json()?;
    if stats.invocations == 0 {
        return Ok(None);
    }
    let Stats { duration_ms, memory_bytes, .. } = &stats;
    let own = stats.phases_ms.get("own").map_or(0.0, |own| own.mean);
    Ok(Some([
        ("runs", format!("{} in 24 h, {} failed", stats.invocations, percent(stats.error_rate))),
        (
            "average",
            format!(
                "{}, {} of it own code, {}",
                ms(duration_ms.mean),
                ms(own),
                output::size(memory_bytes.mean)
            ),
        ),
    ]))
}

fn ms(ms: f64) -> String {
    if ms >= 1000.0 { format!("{:.2} s", ms / 1000.0) } else { format!("{ms:.2} ms") }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn show_all(all: &All) -> Result<()> {
    tell_missing(&all.missing_nodes);
    if all.functions.is_empty() {
        output::note(&format!("no invocations since {}", all.since));
        return Ok(());
    }
    let rows = all.functions.iter().map(|function| {
        let OfFunction { name, stats, versions } = function;
        let newest = versions.first();
        let ran = |of: &&OfVersion| of.stats.invocations > 0;
        let before = versions.iter().skip(1).find(ran);
        let before = before.map(|of| format!("{} (v{})", ms(of.stats.duration_ms.p50), of.version));
        let p50 = newest.map_or(stats.duration_ms.p50, |of| of.stats.duration_ms.p50);
        let p99 = newest.map_or(stats.duration_ms.p99, |of| of.stats.duration_ms.p99);
        vec![
            name.clone(),
            newest.map_or_else(String::new, |of| of.version.to_string()),
            stats.invocations.to_string(),
            percent(stats.error_rate),
            ms(p50),
            ms(p99),
            before.unwrap_or_default(),
        ]
    });
    let header = ["FUNCTION", "VERSION", "INVOCATIONS", "FAILED", "P50", "P99", "P50 BEFORE"];
    output::line(&output::table(&header, rows).join("\n"))
}

fn show_one(one: &One) -> Result<()> {
    tell_missing(&one.missing_nodes);
    let OfFunction { name, stats, versions } = &one.function;
    let mut parts = vec![format!(
        "{name}: {} invocations since {}, {} failed",
        stats.invocations,
        one.since,
        percent(stats.error_rate)
    )];
    if !versions.is_empty() {
        parts.push(String::new());
        parts.extend(version_table(versions));
    }
    if stats.invocations > 0 {
        parts.push(String::new());
        parts.extend(phase_table(stats));
    }
    let counts = counts(stats);
    if !counts.is_empty() {
        parts.push(String::new());
        parts.extend(output::table(&["WHAT", "TIMES"], counts));
    }
    if !one.callers.is_empty() {
        parts.push(format!("\nCallers of the last {} recorded invocations:", one.callers_of));
        parts.extend(caller_table(&one.callers));
    }
    output::line(&parts.join("\n"))
}

fn version_table(versions: &[OfVersion]) -> Vec<String> {
    let rows = versions.iter().map(|OfVersion { version, stats }| {
        let Times { p50, p90, p99, .. } = stats.duration_ms;
        vec![
            version.to_string(),
            stats.invocations.to_string(),
            percent(stats.error_rate),
            ms(p50),
            ms(p90),
            ms(p99),
            output::size(stats.memory_bytes.max),
        ]
    });
    output::table(&["VERSION", "INVOCATIONS", "FAILED", "P50", "P90", "P99", "MEMORY"], rows)
}

/// Where the time went, and how many host calls there were.
fn phase_table(stats: &Stats) -> Vec<String> {
    let rows = stats.phases_ms.iter().map(|(phase, times)| {
        let calls = stats.host_calls.get(phase).map(u64::to_string);
        vec![phase.clone(), calls.unwrap_or_default(), ms(times.mean), ms(times.p50), ms(times.p99)]
    });
    output::table(&["PHASE", "CALLS", "MEAN", "P50", "P99"], rows)
}

/// What went wrong and how often.
fn counts(stats: &Stats) -> Vec<Vec<String>> {
    let row = |what: String, times: u64| vec![what, times.to_string()];
    let mut rows: Vec<_> =
        stats.errors.iter().map(|(code, times)| row(format!("failed with {code}"), *times)).collect();
    rows.extend(stats.refused.iter().map(|(code, times)| row(format!("refused with {code}"), *times)));
    let others = [
        ("answered with a status of 500 or above", stats.server_errors),
        ("attempts after the first", stats.retries),
        ("loads of the code", stats.cold_loads),
    ];
    rows.extend(others.into_iter().filter(|(_, times)| *times > 0).map(|(what, n)| row(what.to_owned(), n)));
    rows
}

fn caller_table(callers: &[OfCaller]) -> Vec<String> {
    let rows = callers.iter().map(|of| {
        let caller = if of.caller.is_empty() { "(no credential)" } else { &of.caller };
        vec![
            caller.to_owned(),
            of.invocations.to_string(),
            of.failures.to_string(),
            of.last_failed_request_id.clone().unwrap_or_default(),
            of.last_error.clone().unwrap_or_default(),
        ]
    });
    output::table(&["CALLER", "INVOCATIONS", "FAILURES", "LAST FAILED REQUEST", "LAST ERROR"], rows)
}

fn tell_missing(nodes: &[String]) {
    if !nodes.is_empty() {
        output::note(&format!("without the invocations of {}, which did not answer", nodes.join(", ")));
    }
}
