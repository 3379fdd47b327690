//! Calls of one function by another one of its namespace.

use super::Answer;
use crate::invocation::{Caller, Status};
use crate::names::Namespace;
use crate::trace::TraceContext;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Instant;

/// A call of a function, and what it inherits from the run that makes it.
#[derive(Clone)]
pub struct FunctionCall {
    /// The namespace of both functions.
    pub namespace: Namespace,
    /// `name` or `name@version`, as the guest wrote it: not checked.
    pub function: String,
    /// Standard input.
    pub payload: Bytes,
    /// The caller according to a verified token.
    pub caller: Option<Arc<Caller>>,
    /// Triggers in the chain that caused it.
    pub trigger_depth: u32,
    /// Calls in the chain that caused it, this one included: at least 1, and at most [`crate::limits::CALL_DEPTH_MAX`].
    pub depth: u32,
    /// When the run that makes it is ended.
    pub deadline: Instant,
    /// The trace that both belong to.
    pub trace: Option<TraceContext>,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Called {
    /// The id of the called function's run, in the logs; empty where none began.
    pub request_id: String,
    /// Its standard output, or why there is none.
    pub result: Result<Bytes, CallError>,
}

/// Why a call gave no output. It names nothing of another namespace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CallError {
    /// [`Status::Timeout`] or [`Status::Error`].
    pub status: Status,
    /// The code that the same failure has over HTTP.
    pub code: String,
    /// What a person reads.
    pub message: String,
}

/// Calls of functions.
pub trait Calls: Send + Sync + 'static {
    /// Runs a function and answers with its output, by the deadline. Dropping the answer ends the run.
    fn call(&self, call: FunctionCall) -> Answer<Called>;
}
