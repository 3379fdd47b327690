//! `orama function logs`: shows invocations and their log messages.

use crate::args::{Status, Target};
use crate::client::Client;
use crate::error::Result;
use crate::output;
use clap::ValueEnum;
use jiff::Timestamp;
use reqwest::Method;
use serde::Deserialize;

/// Which invocations to show.
pub struct Filter {
    /// The largest number of invocations.
    pub limit: Option<u32>,
    /// Only invocations that started later.
    pub since: Option<Timestamp>,
    /// Only invocations with this outcome.
    pub status: Option<Status>,
    /// Only the invocation with this id.
    pub request_id: Option<String>,
}

impl Filter {
    /// The query of the request.
    pub fn query(&self) -> Vec<(&'static str, String)> {
        let status = self.status.and_then(|status| Some(status.to_possible_value()?.get_name().to_owned()));
        [
            ("limit", self.limit.map(|limit| limit.to_string())),
            ("since", self.since.map(|since| since.to_string())),
            ("status", status),
            ("request_id", self.request_id.clone()),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
    }
}

#[derive(Deserialize)]
struct Logs {
    invocations: Vec<Invocation>,
}

/// One attempt of an invocation.
#[derive(Deserialize)]
pub struct Invocation {
    /// The invocation's id. Attempts at one request share it. Each attempt at one message has its own.
    pub request_id: String,
    /// The attempt, from 1.
    pub attempt: u32,
    /// When it started.
    pub started_at: String,
    version: u32,
    status: String,
    duration_ms: f64,
    error: Option<String>,
    messages: Vec<Message>,
}

#[derive(Deserialize)]
struct Message {
    level: String,
    message: String,
}

/// Runs the command.
pub fn run(client: &Client, function: &Target, filter: &Filter, json: bool) -> Result<()> {
    let path = ["functions", &function.to_string(), "logs"];
    let answer = client.send(client.query(Method::GET, &path, &filter.query()));
    let answer = answer.map_err(|error| client.explain_missing(error, function.name.as_str()))?;
    if json {
        return output::line(&answer.line()?);
    }
    let invocations = answer.json::<Logs>()?.invocations;
    if invocations.is_empty() {
        output::note("no invocations");
        return Ok(());
    }
    output::line(&show(&invocations))
}

/// Formats a table with each invocation's messages under its row.
fn show(invocations: &[Invocation]) -> String {
    let rows = invocations.iter().map(|i| i.row().into());
    let mut table =
        output::table(&["STARTED", "STATUS", "VERSION", "DURATION", "REQUEST ID"], rows).into_iter();
    let mut lines: Vec<String> = table.next().into_iter().collect();
    for (row, invocation) in table.zip(invocations) {
        lines.push(row);
        lines.extend(invocation.messages());
    }
    lines.join("\n")
}

impl Invocation {
    fn row(&self) -> [String; 5] {
        // The first attempt is the usual case and is not marked.
        let attempt = if self.attempt > 1 { format!(" (attempt {})", self.attempt) } else { String::new() };
        [
            self.started_at.clone(),
            format!("{}{attempt}", self.status),
            self.version.to_string(),
            format!("{:.2} ms", self.duration_ms),
            self.request_id.clone(),
        ]
    }

    /// The messages and the error, one line each.
    fn messages(&self) -> impl Iterator<Item = String> {
        let error =
            self.error.iter().filter(|error| !error.is_empty()).map(|error| ("failed", error.as_str()));
        let messages = self.messages.iter().map(|m| (m.level.as_str(), m.message.as_str()));
        messages.chain(error).map(|(level, text)| {
            format!("    {:<6}  {}", output::one_line(level), output::one_line_with_tabs(text))
        })
    }

    /// The row and the messages without a table.
    pub fn text(&self) -> String {
        let [started, status, version, duration, id] = self.row().map(|cell| output::one_line(&cell));
        let row = format!("{started}  {status:<7}  v{version}  {duration:>11}  {id}");
        std::iter::once(row).chain(self.messages()).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_shown_under_their_invocation() {
        let logs: Logs = serde_json::from_str(
            r#"{"name":"hello","namespace":"default","count":2,"logs":[],"invocations":[
            {"request_id":"r-2","version":12,"trigger_type":"http","attempt":2,"status":"error","duration_ms":10.5,"input_size":0,
             "output_size":0,"error":"the function exited with code 1","started_at":"2026-02-23T19:00:00.000Z",
             "messages":[{"level":"error","message":"bad\n\tinput","timestamp":"2026-02-23T19:00:00.000Z"}]},
            {"request_id":"r-1","version":1,"trigger_type":"http","attempt":1,"status":"success","duration_ms":0.3,"input_size":0,
             "output_size":0,"error":null,"started_at":"2026-02-23T18:59:00.000Z","messages":[]}]}"#,
        )
        .unwrap();
        let expected = "\
STARTED                   STATUS             VERSION  DURATION  REQUEST ID
2026-02-23T19:00:00.000Z  error (attempt 2)  12       10.50 ms  r-2
    error   bad\\n	input
    failed  the function exited with code 1
2026-02-23T18:59:00.000Z  success            1        0.30 ms   r-1";
        assert_eq!(show(&logs.invocations), expected);
        let alone = "\
2026-02-23T19:00:00.000Z  error (attempt 2)  v12     10.50 ms  r-2
    error   bad\\n	input
    failed  the function exited with code 1";
        assert_eq!(logs.invocations[0].text(), alone);
    }

    #[test]
    fn only_given_filters_are_sent() {
        let none = Filter { limit: None, since: None, status: None, request_id: None };
        assert!(none.query().is_empty());
        let all = Filter {
            limit: Some(3),
            since: Some("2026-02-23T19:00:00Z".parse().unwrap()),
            status: Some(Status::Timeout),
            request_id: Some("r".into()),
        };
        let query = all.query();
        let query: Vec<_> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(
            query,
            [("limit", "3"), ("since", "2026-02-23T19:00:00Z"), ("status", "timeout"), ("request_id", "r")]
        );
    }
}
