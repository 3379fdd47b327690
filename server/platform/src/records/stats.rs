//! What the invocations of a function had in common, over some time.

use super::{Histogram, Record};
use orama_runtime::invocation::{Failure, Status};
use orama_runtime::phases::{Kind, Phases};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The least status of an answer that counts as a failure although its run did not fail.
const SERVER_ERRORS: u16 = 500;

/// The code of a failure whose code is not known.
const OTHER: &str = "OTHER";

/// Codes of runs that ended for another reason than [`Failure`].
pub const CLIENT_GONE: &str = "CLIENT_GONE";
/// The node was stopped.
pub const NODE_STOPPED: &str = "NODE_STOPPED";
/// The run that called it ended.
pub const CALLER_ENDED: &str = "CALLER_ENDED";

/// The code as a constant: one that a run can have, or [`OTHER`].
pub(super) fn known_code(code: &str) -> &'static str {
    let others = ["", CLIENT_GONE, NODE_STOPPED, CALLER_ENDED];
    Failure::CODES.into_iter().chain(others).find(|known| *known == code).unwrap_or(OTHER)
}

/// The counts and durations of some invocations.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// Those that ended well.
    pub succeeded: u64,
    /// Those that failed, by code.
    pub failed: BTreeMap<String, u64>,
    /// Those that ended well with an answer of status 500 or above.
    pub server_errors: u64,
    /// Attempts after the first.
    pub retries: u64,
    /// Requests that were refused before they ran, by code.
    pub refused: BTreeMap<String, u64>,
    /// How often a core had to load its code.
    pub cold_loads: u64,
    /// From the start of each to its end.
    pub duration: Histogram,
    /// Waiting for a turn.
    pub wait: Histogram,
    /// The instance's start.
    pub start: Histogram,
    /// What is left after waiting, start and host calls: the function's own code.
    pub own: Histogram,
    /// Waiting for host calls, by the place of their [`Kind`]. Of runs that waited.
    pub host: [Histogram; Kind::ALL.len()],
    /// Host calls, by the place of their [`Kind`].
    pub host_calls: [u64; Kind::ALL.len()],
    /// Bytes of memory at the end of each, added up.
    pub memory_bytes: u64,
    /// The most of them.
    pub memory_max_bytes: u64,
    /// Bytes in.
    pub input_bytes: u64,
    /// Bytes out.
    pub output_bytes: u64,
}

impl Stats {
    /// Adds an invocation.
    pub fn add(&mut self, record: &Record) {
        match record.status {
            Status::Success => self.succeeded += 1,
            Status::Error | Status::Timeout => count(&mut self.failed, record.error_code, 1),
        }
        if record.status == Status::Success && record.http_status >= SERVER_ERRORS {
            self.server_errors += 1;
        }
        self.retries += u64::from(record.attempt > 1);
        let Phases { wait_us, start_us, calls } = record.phases;
        let duration_us = u32::try_from(record.duration_us).unwrap_or(u32::MAX);
        let mut own_us = duration_us.saturating_sub(wait_us).saturating_sub(start_us);
        for ((call, histogram), total) in calls.iter().zip(&mut self.host).zip(&mut self.host_calls) {
            *total += u64::from(call.count);
            own_us = own_us.saturating_sub(call.waited_us);
            if call.waited_us > 0 {
                histogram.add(call.waited_us);
            }
        }
        self.duration.add(duration_us);
        self.wait.add(wait_us);
        self.start.add(start_us);
        self.own.add(own_us);
        self.memory_bytes += record.memory_bytes;
        self.memory_max_bytes = self.memory_max_bytes.max(record.memory_bytes);
        self.input_bytes += record.input_size;
        self.output_bytes += record.output_size;
    }

    /// Counts requests that were refused with a code.
    pub fn refuse(&mut self, code: &str, times: u64) {
        count(&mut self.refused, code, times);
    }

    /// Adds others.
    pub fn merge(&mut self, other: &Self) {
        self.succeeded += other.succeeded;
        other.failed.iter().for_each(|(code, times)| count(&mut self.failed, code, *times));
        self.server_errors += other.server_errors;
        self.retries += other.retries;
        other.refused.iter().for_each(|(code, times)| count(&mut self.refused, code, *times));
        self.cold_loads += other.cold_loads;
        self.duration.merge(&other.duration);
        self.wait.merge(&other.wait);
        self.start.merge(&other.start);
        self.own.merge(&other.own);
        for (own, other) in self.host.iter_mut().zip(&other.host) {
            own.merge(other);
        }
        for (own, other) in self.host_calls.iter_mut().zip(other.host_calls) {
            *own += other;
        }
        self.memory_bytes += other.memory_bytes;
        self.memory_max_bytes = self.memory_max_bytes.max(other.memory_max_bytes);
        self.input_bytes += other.input_bytes;
        self.output_bytes += other.output_bytes;
    }

    /// Invocations that failed.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    /// All invocations.
    #[must_use]
    pub fn runs(&self) -> u64 {
        self.succeeded + self.failures()
    }
}

fn count(counts: &mut BTreeMap<String, u64>, code: &str, times: u64) {
    match counts.get_mut(code) {
        Some(count) => *count += times,
        None => {
            counts.insert(code.to_owned(), times);
        }
    }
}
