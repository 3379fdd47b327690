//! `orama logs`: shows what the functions of a namespace log, line by line, in order of time.

use super::connect;
use super::follow::{POLL_EVERY, notice, until_interrupted};
use crate::args::{Connection, Level, Logs};
use crate::client::Client;
use crate::error::Result;
use crate::output;
use clap::ValueEnum;
use jiff::{SignedDuration, Timestamp};
use orama_server::limits::LOGS_LIMIT;
use reqwest::Method;
use serde::Deserialize;
use serde::de::{Deserializer, Error};
use serde_json::json;
use std::collections::BTreeSet;
use std::thread;

/// Attempts that are remembered, so that each is shown once: a node that was restarted tells the latest ones again.
const REMEMBERED: usize = 20_000;

#[derive(Deserialize)]
struct Page {
    invocations: Vec<Invocation>,
    next: Option<String>,
    cursor: String,
    #[serde(default)]
    more: bool,
}

/// One attempt of an invocation.
#[derive(Deserialize)]
struct Invocation {
    function: String,
    version: u32,
    request_id: String,
    attempt: u32,
    status: String,
    duration_ms: f64,
    error: Option<String>,
    #[serde(deserialize_with = "time")]
    started_at: Timestamp,
    messages: Vec<Message>,
}

#[derive(Deserialize)]
struct Message {
    level: String,
    message: String,
    #[serde(deserialize_with = "time")]
    timestamp: Timestamp,
}

fn time<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Timestamp, D::Error> {
    String::deserialize(from)?.parse().map_err(Error::custom)
}

/// A line with its time.
struct Line {
    at: Timestamp,
    text: String,
}

/// Runs the command. With `--follow`, until Ctrl-C, or until the reader of its output goes away.
pub fn run(args: Logs) -> Result<()> {
    if args.follow {
        return until_interrupted(move || follow(&args));
    }
    let (invocations, _) = earlier(&connect(&args.connection)?, &args)?;
    if invocations.is_empty() && !args.json {
        output::note("no invocations");
    }
    print(invocations, &args).map(drop)
}

/// The filters of the request.
fn query(args: &Logs) -> Vec<(&'static str, String)> {
    fn word<T: ValueEnum>(value: T) -> Option<String> {
        Some(value.to_possible_value()?.get_name().to_owned())
    }
    let names: Vec<_> = args.function.iter().map(ToString::to_string).collect();
    [
        ("function", Some(names.join(",")).filter(|names| !names.is_empty())),
        ("level", args.level.and_then(word::<Level>)),
        ("text", args.text.clone()),
        ("status", args.status.and_then(word)),
        ("request_id", args.request_id.clone()),
        ("since", args.since.map(|since| since.0.to_string())),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect()
}

fn ask(client: &Client, args: &Logs, more: &[(&'static str, String)]) -> Result<Page> {
    let query: Vec<_> = query(args).into_iter().chain(more.iter().cloned()).collect();
    client.send(client.query(Method::GET, &["logs"], &query))?.json()
}

/// The newest invocations, and where what arrives after them begins.
fn earlier(client: &Client, args: &Logs) -> Result<(Vec<Invocation>, String)> {
    let (mut found, mut cursor, mut next): (Vec<Invocation>, Option<String>, Option<String>) =
        (Vec::new(), None, None);
    loop {
        let left = args.limit.saturating_sub(found.len() as u32);
        let asked = next.take();
        let after = asked.clone().map(|next| ("after", next));
        let limit = ("limit", left.min(LOGS_LIMIT.max).to_string());
        let page = ask(client, args, &[limit].into_iter().chain(after).collect::<Vec<_>>())?;
        found.extend(page.invocations);
        let cursor = cursor.get_or_insert(page.cursor);
        // A page that leads to itself would be asked for without end.
        next = page
            .next
            .filter(|_| found.len() < args.limit as usize)
            .filter(|next| asked.as_ref() != Some(next));
        if next.is_none() {
            return Ok((found, std::mem::take(cursor)));
        }
    }
}

fn follow(args: &Logs) -> Result<()> {
    let mut client = connect(&args.connection)?;
    // A node that does not answer at the start is an error. One that stops answering later is expected back.
    let (invocations, mut cursor) = earlier(&client, args)?;
    let mut seen = Seen::default();
    if !print(seen.take(invocations), args)? {
        return Ok(());
    }
    loop {
        thread::sleep(POLL_EVERY);
        loop {
            let page = match ask(&client, args, &[("cursor", cursor.clone())]) {
                Err(error) if error.is_retryable() => {
                    notice(&format!("{}; waiting for the node", error.described()), args.json);
                    let (again, page) = wait(&args.connection, args, &cursor)?;
                    client = again;
                    notice("the node answers again", args.json);
                    page
                }
                other => other?,
            };
            cursor = page.cursor;
            if !print(seen.take(page.invocations), args)? {
                return Ok(());
            }
            if !page.more {
                break;
            }
        }
    }
}

/// Polls until the node answers. The credentials are read each time, as a restarted node may have another address.
fn wait(connection: &Connection, args: &Logs, cursor: &str) -> Result<(Client, Page)> {
    loop {
        thread::sleep(POLL_EVERY);
        let client = connect(connection)?;
        match ask(&client, args, &[("cursor", cursor.to_owned())]) {
            Err(error) if error.is_retryable() => {}
            other => return Ok((client, other?)),
        }
    }
}

/// The attempts that were shown.
#[derive(Default)]
struct Seen(BTreeSet<(Timestamp, String, u32)>);

impl Seen {
    /// Takes the new ones of a page.
    fn take(&mut self, mut page: Vec<Invocation>) -> Vec<Invocation> {
        page.retain(|of| self.0.insert((of.started_at, of.request_id.clone(), of.attempt)));
        while self.0.len() > REMEMBERED {
            self.0.pop_first();
        }
        page
    }
}

/// Prints the lines of invocations in order of time. Returns false when the reader went away.
fn print(invocations: Vec<Invocation>, args: &Logs) -> Result<bool> {
    // With a filter of messages, only those are asked for.
    let has_ends = args.level.is_none() && args.text.is_none();
    let mut lines = Vec::new();
    for invocation in invocations.iter().rev() {
        for message in &invocation.messages {
            lines.push(Line { at: message.timestamp, text: invocation.line(message, args.json) });
        }
        if has_ends || invocation.error.is_some() {
            let at = invocation.ended_at();
            lines.push(Line { at, text: invocation.end(at, args.json) });
        }
    }
    lines.sort_by_key(|line| line.at);
    let text: String = lines.into_iter().map(|line| line.text + "\n").collect();
    output::write(text.as_bytes())
}

impl Invocation {
    fn ended_at(&self) -> Timestamp {
        let duration = SignedDuration::try_from_secs_f64(self.duration_ms / 1000.0).unwrap_or_default();
        let ended = self.started_at.checked_add(duration).unwrap_or(self.started_at);
        // Times of messages are whole milliseconds; the end stands after all of them.
        self.messages.iter().map(|message| message.timestamp).fold(ended, Timestamp::max)
    }

    /// What begins every line.
    fn head(&self, at: Timestamp) -> String {
        let [function, id] = [&self.function, &self.request_id].map(|text| output::one_line(text));
        format!("{at:.3}  {function}@{}  {id}", self.version)
    }

    fn line(&self, message: &Message, as_json: bool) -> String {
        if as_json {
            return json!({
                "timestamp": format!("{:.3}", message.timestamp),
                "function": self.function,
                "version": self.version,
                "request_id": self.request_id,
                "level": message.level,
                "message": message.message,
            })
            .to_string();
        }
        let (level, text) = (output::one_line(&message.level), output::one_line_with_tabs(&message.message));
        format!("{}  {level:<7}  {text}", self.head(message.timestamp))
    }

    fn end(&self, at: Timestamp, as_json: bool) -> String {
        if as_json {
            return json!({
                "timestamp": format!("{at:.3}"),
                "function": self.function,
                "version": self.version,
                "request_id": self.request_id,
                "attempt": self.attempt,
                "status": self.status,
                "duration_ms": self.duration_ms,
                "error": self.error,
            })
            .to_string();
        }
        let why = self.error.iter().map(|error| format!(": {}", output::one_line_with_tabs(error)));
        let why: String = why.collect();
        let status = output::one_line(&self.status);
        format!("{}  {status:<7}  after {:.2} ms{why}", self.head(at), self.duration_ms)
    }
}
