//! `orama function logs`: invocations and what they logged.

use crate::args::{Since, Status, Target};
use crate::client::Client;
use crate::error::Result;
use crate::output;
use clap::ValueEnum;
use reqwest::Method;
use serde::Deserialize;

/// Which invocations to show.
pub struct Filter {
    /// How many at most.
    pub limit: Option<u32>,
    /// Only newer ones.
    pub since: Option<Since>,
    /// Only those that ended so.
    pub status: Option<Status>,
    /// Only this one.
    pub request_id: Option<String>,
}

impl Filter {
    fn query(&self) -> Vec<(&'static str, String)> {
        let status = self.status.and_then(|status| Some(status.to_possible_value()?.get_name().to_owned()));
        [
            ("limit", self.limit.map(|limit| limit.to_string())),
            ("since", self.since.map(|since| since.0.to_string())),
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

#[derive(Deserialize)]
struct Invocation {
    request_id: String,
    version: u32,
    status: String,
    duration_ms: f64,
    error: Option<String>,
    started_at: String,
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
    let answer = client.send(client.query(Method::GET, &path, &filter.query()))?;
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

/// A table with each invocation's messages under its row.
fn show(invocations: &[Invocation]) -> String {
    let rows = invocations.iter().map(|i| {
        vec![
            i.started_at.clone(),
            i.status.clone(),
            i.version.to_string(),
            format!("{:.2} ms", i.duration_ms),
            i.request_id.clone(),
        ]
    });
    let mut table =
        output::table(&["STARTED", "STATUS", "VERSION", "DURATION", "REQUEST ID"], rows).into_iter();
    let mut lines: Vec<String> = table.next().into_iter().collect();
    for (row, invocation) in table.zip(invocations) {
        lines.push(row);
        let error =
            invocation.error.iter().filter(|error| !error.is_empty()).map(|error| ("failed", error.as_str()));
        let messages = invocation.messages.iter().map(|m| (m.level.as_str(), m.message.as_str()));
        for (level, text) in messages.chain(error) {
            lines.push(format!("    {:<6}  {}", output::one_line(level), output::one_line(text)));
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_stand_under_their_invocation() {
        let logs: Logs = serde_json::from_str(
            r#"{"name":"hello","namespace":"default","count":2,"logs":[],"invocations":[
            {"request_id":"r-2","version":12,"trigger_type":"http","status":"error","duration_ms":10.5,"input_size":0,
             "output_size":0,"error":"the function exited with code 1","started_at":"2026-02-23T19:00:00.000Z",
             "messages":[{"level":"error","message":"bad\ninput","timestamp":"2026-02-23T19:00:00.000Z"}]},
            {"request_id":"r-1","version":1,"trigger_type":"http","status":"success","duration_ms":0.3,"input_size":0,
             "output_size":0,"error":null,"started_at":"2026-02-23T18:59:00.000Z","messages":[]}]}"#,
        )
        .unwrap();
        let expected = "\
STARTED                   STATUS   VERSION  DURATION  REQUEST ID
2026-02-23T19:00:00.000Z  error    12       10.50 ms  r-2
    error   bad\\ninput
    failed  the function exited with code 1
2026-02-23T18:59:00.000Z  success  1        0.30 ms   r-1";
        assert_eq!(show(&logs.invocations), expected);
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
