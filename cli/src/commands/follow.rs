//! `orama function logs --follow`: shows each invocation once, when it has ended.

use super::connect;
use super::logs::{Filter, Invocation};
use crate::args::{Connection, Target};
use crate::client::{Client, not_understood};
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

/// Time between two requests to the node.
pub const POLL_EVERY: Duration = Duration::from_secs(1);

/// How far before the start of the newest invocation the next request looks back. An invocation that started earlier may end
/// later: by the longest timeout, and 10 s until its record is written.
const OVERLAP: SignedDuration = SignedDuration::from_secs(TIMEOUT_SECONDS.max as i64 + 10);

/// Why the command ends.
enum End {
    /// Ctrl-C.
    Interrupt,
    /// Following the logs ended by itself.
    Done(Result<()>),
}

/// Runs the command until Ctrl-C, until the reader of its output goes away, or until the node refuses a request.
pub fn run(connection: Connection, function: &Target, filter: Filter, json: bool) -> Result<()> {
    let function = function.clone();
    until_interrupted(move || follow(&connection, &function, filter, json))
}

/// Runs work on another thread until it ends, or until Ctrl-C.
///
/// # Errors
/// Those of the work.
pub fn until_interrupted(work: impl FnOnce() -> Result<()> + Send + 'static) -> Result<()> {
    let (ends, ended) = mpsc::channel();
    let mut signals = Signals::new([SIGINT])
        .map_err(|error| CliError::failed("cannot wait for Ctrl-C").caused_by(error))?;
    let interrupts = ends.clone();
    thread::spawn(move || signals.forever().next().map(|_| interrupts.send(End::Interrupt)));
    // On another thread, as a request may take long after Ctrl-C. The process ends when this function returns.
    thread::spawn(move || ends.send(End::Done(work())));
    match ended.recv() {
        Ok(End::Done(result)) => result,
        Ok(End::Interrupt) => Ok(()),
        Err(error) => Err(CliError::failed("following the logs ended unexpectedly").caused_by(error)),
    }
}

fn follow(connection: &Connection, function: &Target, mut filter: Filter, json: bool) -> Result<()> {
    let mut client = connect(connection)?;
    let mut shown = filter.limit.unwrap_or(LOGS_LIMIT.default) as usize;
    filter.limit = Some(LOGS_LIMIT.max);
    let mut seen = Seen::default();
    // A node that does not answer at the start is an error. One that stops answering later is expected back.
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
        // The page ends before the time that the command asked for.
        if full && shown == usize::MAX && !warned {
            notice(&too_many(), json);
            warned = true;
        }
        shown = usize::MAX;
        // Never further back than the user asked for.
        filter.since = filter.since.max(seen.since());
        thread::sleep(POLL_EVERY);
        page = match Page::fetch(&client, function, &filter) {
            Err(error) if error.is_retryable() => {
                notice(&format!("{}; waiting for the node", error.described()), json);
                let (again, page) = wait(connection, function, &filter)?;
                client = again;
                notice("the node answers again", json);
                page
            }
            other => other?,
        };
    }
}

fn too_many() -> String {
    let (limit, overlap_s) = (LOGS_LIMIT.max, OVERLAP.as_secs());
    format!("more than {limit} invocations in {overlap_s} s: some long invocations may be missing")
}

/// Polls until the node answers. The credentials are read each time, as a restarted node may have another address.
fn wait(connection: &Connection, function: &Target, filter: &Filter) -> Result<(Client, Page)> {
    loop {
        thread::sleep(POLL_EVERY);
        let client = connect(connection)?;
        match Page::fetch(&client, function, filter) {
            Err(error) if error.is_retryable() => {}
            other => return Ok((client, other?)),
        }
    }
}

/// Tells what is not a result.
pub fn notice(text: &str, as_json: bool) {
    if as_json {
        output::note(&json!({ "notice": text }).to_string());
    } else {
        output::note(&output::printable(text));
    }
}

/// One answer of the node.
pub struct Page {
    /// Newest first.
    pub entries: Vec<Entry>,
}

/// One attempt of an invocation, as the node sent it.
pub struct Entry {
    invocation: Invocation,
    started_at: Timestamp,
    /// The JSON that the node sent.
    json: String,
}

impl Page {
    /// Asks the node.
    ///
    /// # Errors
    /// When it does not answer as it should.
    pub fn fetch(client: &Client, function: &Target, filter: &Filter) -> Result<Self> {
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
        let invocation: Invocation =
            serde_json::from_str(raw.get()).map_err(|error| not_understood(error, None))?;
        let started_at =
            invocation.started_at.parse().map_err(|error: jiff::Error| not_understood(error, None))?;
        // JSON has line breaks only between tokens, where a space means the same.
        let json = raw.get().replace(['\n', '\r'], " ");
        Ok(Self { invocation, started_at, json })
    }

    /// Its text for people, or its JSON.
    pub fn shown(&self, json: bool) -> String {
        if json { self.json.clone() } else { self.invocation.text() }
    }
}

/// The invocations that were shown, as far back as the next request looks.
#[derive(Default)]
pub struct Seen {
    attempts: BTreeSet<(Timestamp, String, u32)>,
}

impl Seen {
    /// Takes the new entries of a page (newest first), and returns them oldest first.
    pub fn take(&mut self, page: Vec<Entry>) -> Vec<Entry> {
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

    /// Where the next request begins: [`OVERLAP`] before the newest invocation, by the node's clock.
    pub fn since(&self) -> Option<Timestamp> {
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
        // It started before the others and ended after them.
        let page = vec![entry(3, "a", 2), entry(2, "b", 1), entry(1, "a", 1), entry(0, "slow", 1)];
        assert_eq!(ids(&seen.take(page)), ["slow/1"]);
        assert!(seen.take(Vec::new()).is_empty());
    }

    #[test]
    fn only_invocations_that_the_node_may_send_again_are_remembered() {
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
