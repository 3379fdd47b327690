//! One call of a function: what goes in and what came of it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Who called, as far as a verified token says. Never filled from a plain header.
#[derive(Clone, Default)]
pub struct Caller {
    /// The wallet address, empty without a token.
    pub wallet: String,
    /// The token's `sub`, empty without a token.
    pub subject: String,
    /// The token's claims: a string as it is, anything else as JSON.
    pub claims: std::collections::BTreeMap<String, String>,
}

/// What an invocation starts with.
#[derive(Default)]
pub struct Invocation {
    /// Unique id, in the response's `X-Request-ID` and in the logs.
    pub request_id: String,
    /// Standard input.
    pub input: Bytes,
    /// Who called.
    pub caller: Option<Arc<Caller>>,
    /// How many triggers stand behind it: 0 for what no event caused.
    pub trigger_depth: u32,
}

/// How an invocation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The guest returned, or exited with 0.
    Success,
    /// The guest failed: see [`Failure`].
    Error,
    /// The guest ran past its deadline.
    Timeout,
}

impl Status {
    /// The word used in records, logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Error => "error",
            Self::Timeout => "timeout",
        }
    }
}

/// Why an invocation failed, in words that are safe to show its caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The guest ended with an exit code other than 0.
    #[error("the function exited with code {0}")]
    Exit(i32),
    /// The guest trapped.
    #[error("the function trapped: {0}")]
    Trap(String),
    /// The guest asked for more memory than it may have, and failed.
    #[error("the function ran out of memory: its limit is {limit_mb} MB")]
    OutOfMemory {
        /// The version's limit in MB.
        limit_mb: u32,
    },
    /// The guest wrote more than [`crate::limits::OUTPUT_MAX_BYTES`].
    #[error("the function wrote more than {limit_bytes} bytes of output")]
    OutputTooLarge {
        /// The limit in bytes.
        limit_bytes: usize,
    },
    /// The guest ran past its deadline.
    #[error("the function did not finish within its timeout of {0} s")]
    Timeout(u32),
    /// Every instance slot of the node is taken, or its budget of memory for guests.
    #[error("the node has no room to run the function now")]
    Overloaded,
    /// The node failed, not the guest.
    #[error("the node could not run the function: {0}")]
    Internal(String),
}

impl Failure {
    /// The code in an error answer.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Exit(_) => "FUNCTION_EXIT",
            Self::Trap(_) => "FUNCTION_TRAP",
            Self::OutOfMemory { .. } => "OUT_OF_MEMORY",
            Self::OutputTooLarge { .. } => "OUTPUT_TOO_LARGE",
            Self::Timeout(_) => "TIMEOUT",
            Self::Overloaded => "OVERLOADED",
            Self::Internal(_) => "INTERNAL",
        }
    }

    /// The status under which the invocation is recorded.
    #[must_use]
    pub const fn status(&self) -> Status {
        match self {
            Self::Timeout(_) => Status::Timeout,
            _ => Status::Error,
        }
    }
}

/// How serious a log message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// `log_info`.
    Info,
    /// `log_error`, a line of standard error, or the runtime's own complaint.
    Error,
}

/// One message of an invocation, in the order in which it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogMessage {
    /// How serious it is.
    pub level: Level,
    /// The text.
    pub message: String,
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
}

/// What came of an invocation.
pub struct Outcome {
    /// Standard output, also what was written before a failure.
    pub output: Vec<u8>,
    /// `Ok` when the guest returned or exited with 0.
    pub result: Result<(), Failure>,
    /// What it logged, in order.
    pub messages: Vec<LogMessage>,
}

impl Outcome {
    /// The status under which it is recorded.
    #[must_use]
    pub fn status(&self) -> Status {
        self.result.as_ref().map_or_else(Failure::status, |()| Status::Success)
    }
}
