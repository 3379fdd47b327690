//! `orama function logs --follow`: each invocation once, as it ends.

use super::connect;
use super::logs::{Filter, Invocation};
use crate::args::{Connection, Target};
use crate::client::Client;
use crate::error::{CliError, Result};
use crate::output;
use jiff::{SignedDuration, Timestamp};
use orama_runtime::limits::TIMEOUT_SECONDS;
use orama_server::limits::LOGS_LIMIT;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{json, value::RawValue};
use signal_hook::consts::SIGINT;
use signal_hook::iterator::Signals;
use std::collections::BTreeSet;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Time between two questions to the node.
const POLL_EVERY: Duration = Duration::from_secs(1);

/// How much earlier than the newest that was seen an invocation may have started that had not ended then: the longest
/// timeout, and some seconds in which its record is written.
const OVERLAP: SignedDuration = SignedDuration::from_secs(TIMEOUT_SECONDS.max as i64 + 10);

/// Why following ends.
enum End {
    /// Ctrl-C.
    Interrupt,
    /// By itself.
    Done(Result<()>),
}

/// Runs the command until Ctrl-C, until nobody reads what it prints, or until the node refuses.
pub fn run(connection: Connection, function: &Target, filter: Filter, json: bool) -> Result<()> {
    let (ends, ended) = mpsc::channel();
    let mut signals = Signals::new([SIGINT])
        .map_err(|error| CliError::failed(format!("cannot wait for Ctrl-C: {error}")))?;
    let interrupts = ends.clone();
    thread::spawn(move || signals.forever().next().map(|_| interrupts.send(End::Interrupt)));
    let function = function.clone();
    // On a thread of its own, as a request may wait long after Ctrl-C. The process ends with this function.
    thread::spawn(move || ends.send(End::Done(follow(&connection, &function, filter, json))));
    match ended.recv() {
        Ok(End::Done(result)) => result,
        Ok(End::Interrupt) => Ok(()),
        Err(_) => Err(CliError::failed("following the logs ended unexpectedly")),
    }
}

fn follow(connection: &Connection, function: &Target, mut filter: Filter, json: bool) -> Result<()> {
    let mut client = connect(connection)?;
    let mut shown = filter.limit.unwrap_or(LOGS_LIMIT.default) as usize;
    filter.limit = Some(LOGS_LIMIT.max);
    let mut seen = Seen::default();
    // A node that is not there at the start is a mistake; one that goes away later is expected back.
    let mut page = Page::fetch(&client, function, &filter)?;
    let mut warned = false;
    loop {
        let full = page.entries.len() >= LOGS_LIMIT.max as usize;
        let new = seen.take(page.entries);
        for entry in new.iter().skip(new.len().saturating_sub(shown)) {
            if !output::write(format!("{}\n", entry.shown(json)).as_bytes())? {
                return Ok(());
            }
        }
        // Then the node could not look back as far as it was asked to.
        if full && shown == usize::MAX && !warned {
            let (limit, overlap_s) = (LOGS_LIMIT.max, OVERLAP.as_secs());
            notice(
                &format!(
                    "more than {limit} invocations in {overlap_s} s: some that run long may be left out"
                ),
                json,
            );
            warned = true;
        }
        shown = usize::MAX;
        // Never further back than was asked for.
        filter.since = filter.since.max(seen.since());
        thread::sleep(POLL_EVERY);
        page = match Page::fetch(&client, function, &filter) {
            Err(error) if error.is_passing() => {
                notice(&format!("{error}; waiting for the node"), json);
                let (again, page) = wait(connection, function, &filter)?;
                client = again;
                notice("the node answers again", json);
                page
            }
            other => other?,
        };
    }
}

/// Asks until the node answers. Its address is looked up each time: one that was started again may have another.
fn wait(connection: &Connection, function: &Target, filter: &Filter) -> Result<(Client, Page)> {
    loop {
        thread::sleep(POLL_EVERY);
        let client = connect(connection)?;
        match Page::fetch(&client, function, filter) {
            Err(error) if error.is_passing() => {}
            other => return Ok((client, other?)),
        }
    }
}

fn notice(text: &str, as_json: bool) {
    if as_json {
        output::note(&json!({ "notice": text }).to_string());
    } else {
        output::note(&output::printable(text));
    }
}

/// One answer of the node.
struct Page {
    /// Newest first.
    entries: Vec<Entry>,
}

struct Entry {
    invocation: Invocation,
    started_at: Timestamp,
    /// As the node wrote it.
    json: String,
}

impl Page {
    fn fetch(client: &Client, function: &Target, filter: &Filter) -> Result<Self> {
        #[derive(Deserialize)]
        struct Logs {
            invocations: Vec<Box<RawValue>>,
        }
        let path = ["functions", &function.to_string(), "logs"];
        let answer = client.send(client.query(Method::GET, &path, &filter.query()))?;
        let logs: Logs = answer.json()?;
        let entries = logs.invocations.iter().map(|raw| Entry::read(raw)).collect::<Result<_>>()?;
        Ok(Self { entries })
    }
}

impl Entry {
    fn read(raw: &RawValue) -> Result<Self> {
        let wrong = |error: &dyn std::fmt::Display| {
            CliError::failed(format!("the node's answer was not understood: {error}"))
        };
        let invocation: Invocation = serde_json::from_str(raw.get()).map_err(|error| wrong(&error))?;
        let started_at = invocation.started_at.parse().map_err(|error: jiff::Error| wrong(&error))?;
        // Between the tokens of JSON a line break is like a space, and within them there is none.
        let json = raw.get().replace(['\n', '\r'], " ");
        Ok(Self { invocation, started_at, json })
    }

    fn shown(&self, json: bool) -> String {
        if json { self.json.clone() } else { self.invocation.text() }
    }
}

/// What was shown, as far back as the node is asked.
#[derive(Default)]
struct Seen {
    attempts: BTreeSet<(Timestamp, String, u32)>,
}

impl Seen {
    /// Those of a page (newest first) that were not there before, oldest first.
    fn take(&mut self, page: Vec<Entry>) -> Vec<Entry> {
        let mut new = page;
        new.reverse();
        new.retain(|entry| {
            let id = entry.invocation.request_id.clone();
            self.attempts.insert((entry.started_at, id, entry.invocation.attempt))
        });
        if let Some(since) = self.since() {
            self.attempts = self.attempts.split_off(&(since, String::new(), 0));
        }
        new
    }

    /// From where on the next page is asked for: before the newest one that was seen, by the node's own clock.
    fn since(&self) -> Option<Timestamp> {
        let (newest, ..) = self.attempts.last()?;
        newest.checked_sub(OVERLAP).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(seconds: i64, id: &str, attempt: u32) -> Entry {
        let started_at = Timestamp::from_second(1_771_873_200 + seconds).unwrap();
        let json = format!(
            "{{\"request_id\":\"{id}\",\"version\":1,\"attempt\":{attempt},\n\"status\":\"success\",\
             \"duration_ms\":1,\"error\":null,\"started_at\":\"{started_at}\",\"messages\":[]}}"
        );
        Entry::read(&RawValue::from_string(json).unwrap()).unwrap()
    }

    fn ids(entries: &[Entry]) -> Vec<String> {
        entries.iter().map(|e| format!("{}/{}", e.invocation.request_id, e.invocation.attempt)).collect()
    }

    #[test]
    fn each_attempt_is_taken_once_oldest_first() {
        let mut seen = Seen::default();
        assert_eq!(ids(&seen.take(vec![entry(2, "b", 1), entry(1, "a", 1)])), ["a/1", "b/1"]);
        let page = vec![entry(3, "a", 2), entry(2, "b", 1), entry(1, "a", 1)];
        assert_eq!(ids(&seen.take(page)), ["a/2"]);
        // Started before what was seen, and ended after it.
        let page = vec![entry(3, "a", 2), entry(2, "b", 1), entry(1, "a", 1), entry(0, "slow", 1)];
        assert_eq!(ids(&seen.take(page)), ["slow/1"]);
        assert!(seen.take(Vec::new()).is_empty());
    }

    #[test]
    fn only_what_may_come_again_is_remembered() {
        let mut seen = Seen::default();
        assert_eq!(seen.since(), None);
        seen.take((0..2000).map(|n| entry(1999 - n, &n.to_string(), 1)).collect());
        assert_eq!(seen.since().unwrap().as_second(), 1_771_873_200 + 1999 - OVERLAP.as_secs());
        assert_eq!(seen.attempts.len() as i64, OVERLAP.as_secs() + 1);
    }

    #[test]
    fn json_of_an_entry_is_one_line() {
        let shown = entry(0, "a", 1).shown(true);
        assert!(!shown.contains('\n'));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap()["request_id"], "a");
    }
}
