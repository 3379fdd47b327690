//! One run of a function: its input and its outcome.

use crate::phases::Phases;
use crate::services::Exchange;
use crate::trace::{Spans, TraceContext};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Instant;

/// The caller according to a verified token. Never taken from a plain header.
#[derive(Clone, Default)]
pub struct Caller {
    /// The wallet address; empty without a token.
    pub wallet: String,
    /// The token's `sub`; empty without a token.
    pub subject: String,
    /// The token's claims: strings as they are, all other values as JSON.
    pub claims: std::collections::BTreeMap<String, String>,
}

/// The input of an invocation.
#[derive(Default)]
pub struct Invocation {
    /// The invocation's unique id, in the response's `X-Request-ID` and in the logs.
    pub request_id: String,
    /// Standard input.
    pub input: Bytes,
    /// The caller; `None` without a verified token.
    pub caller: Option<Arc<Caller>>,
    /// Number of triggers in the chain that caused it; 0 when no event did.
    pub trigger_depth: u32,
    /// Number of calls by other functions in the chain that caused it; 0 when no function did.
    pub call_depth: u32,
    /// When it is ended although its own timeout may not have passed: the deadline of the run that called it.
    pub deadline: Option<Instant>,
    /// The HTTP request that it serves; `None` when something else caused it.
    pub exchange: Option<Arc<dyn Exchange>>,
    /// The place in a trace of what it causes: its own span where it has one.
    pub trace: Option<TraceContext>,
    /// Whether its host calls are kept for that trace.
    pub is_traced: bool,
}

/// How an invocation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The guest returned, or exited with 0.
    Success,
    /// The guest failed; see [`Failure`].
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

/// Why an invocation failed. The messages are safe to show to its caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The guest ended with an exit code other than 0.
    #[error("the function exited with code {0}")]
    Exit(i32),
    /// The guest trapped.
    #[error("the function trapped: {0}")]
    Trap(String),
    /// The guest requested more memory than its limit, and failed.
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
    Internal(#[source] InternalError),
}

/// The node's own error behind [`Failure::Internal`]. Clones share it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}", .cause.root_cause())]
pub struct InternalError {
    #[source]
    cause: Arc<wasmtime::Error>,
}

impl InternalError {
    pub(crate) fn new(cause: wasmtime::Error) -> Self {
        Self { cause: Arc::new(cause) }
    }
}

// Two runs failed alike when they report the same.
impl PartialEq for InternalError {
    fn eq(&self, other: &Self) -> bool {
        format!("{:#}", self.cause) == format!("{:#}", other.cause)
    }
}

impl Eq for InternalError {}

impl Failure {
    /// All codes of [`Self::code`].
    pub const CODES: [&str; 7] = [
        "FUNCTION_EXIT",
        "FUNCTION_TRAP",
        "OUT_OF_MEMORY",
        "OUTPUT_TOO_LARGE",
        "TIMEOUT",
        "OVERLOADED",
        "INTERNAL",
    ];

    /// The code in an error response.
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

/// The level of a log message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// `log_info`, or a line of standard error that says so.
    Info,
    /// `log_error`, any other line of standard error, or a message of the runtime.
    Error,
}

/// One log message of an invocation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogMessage {
    /// Its level.
    pub level: Level,
    /// The text.
    pub message: String,
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
}

/// The outcome of an invocation.
pub struct Outcome {
    /// Standard output, including what the guest wrote before a failure.
    pub output: Vec<u8>,
    /// `Ok` when the guest returned or exited with 0.
    pub result: Result<(), Failure>,
    /// Its log messages, in order. Those of a failure end with lines of its standard output.
    pub messages: Vec<LogMessage>,
    /// The last line with which the guest's runtime said that it panicked, of 512 bytes at most. It may hold anything that the
    /// function knows.
    pub panic: Option<String>,
    /// Where its time went.
    pub phases: Phases,
    /// Bytes of its linear memory at its end, which never shrinks.
    pub memory_bytes: u64,
    /// Its host calls, where its trace is recorded.
    pub spans: Option<Box<Spans>>,
}

impl Outcome {
    /// The status under which the invocation is recorded.
    #[must_use]
    pub fn status(&self) -> Status {
        self.result.as_ref().map_or_else(Failure::status, |()| Status::Success)
    }

    /// Why it failed, for those who may read the function's log: with the line of the panic that ended it. `None` for a success.
    #[must_use]
    pub fn error(&self) -> Option<String> {
        let failure = self.result.as_ref().err()?;
        match (failure, &self.panic) {
            (Failure::Exit(_) | Failure::Trap(_), Some(panic)) => Some(format!("{failure}; {panic}")),
            _ => Some(failure.to_string()),
        }
    }
}
