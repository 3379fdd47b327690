//! A client of an Olric cluster, which uses RESP2 over a few connections that all callers share.
//!
//! Commands are pipelined. Each has a deadline, after which its connection is replaced, because it may be half open. Commands
//! that may be repeated are retried on another connection, within the budget of the [`Breaker`]. For all others, the error tells
//! whether they may have been applied.

mod connections;

use crate::breaker::{Breaker, Refused};
use crate::causes::Problem;
use crate::limits::OLRIC_TIMEOUT;
use crate::settings::OlricAt;
use connections::Connections;
use redis::aio::{PubSubSink, PubSubStream};
use redis::{Cmd, Value};
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::time::Instant;

/// A client of a cluster. Clones share its connections.
#[derive(Clone)]
pub struct Olric(Arc<Inner>);

struct Inner {
    breaker: Breaker,
    connections: Connections,
    backplane: Handle,
}

/// Why a command failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OlricError {
    /// The circuit is open: it was not sent.
    #[error("Olric: {0}")]
    Refused(#[from] Refused),
    /// There is no connection: it was not sent.
    #[error("Olric cannot be reached: {0}")]
    Unreachable(#[source] Problem),
    /// The connection ended before the answer. The command may have been applied.
    #[error("the connection to Olric ended before its answer: {0}")]
    Lost(#[source] Problem),
    /// No answer by the deadline. The command may have been applied, or may be applied later.
    #[error("Olric did not answer in time")]
    Late,
    /// An unexpected kind of answer. The command may have been applied.
    #[error("Olric sent an unexpected kind of answer")]
    Strange,
    /// An error that Olric reports.
    #[error("Olric: {code} {detail}")]
    Said {
        /// Its first word.
        code: String,
        /// The others.
        detail: String,
    },
}

impl OlricError {
    /// Whether the command may have been applied.
    #[must_use]
    pub fn may_be_done(&self) -> bool {
        match self {
            Self::Refused(_) | Self::Unreachable(_) => false,
            // A member of Olric may have failed to reach another member.
            Self::Lost(_) | Self::Late | Self::Strange | Self::Said { .. } => true,
        }
    }

    /// Whether Olric reported this error code.
    #[must_use]
    pub fn is(&self, word: &str) -> bool {
        matches!(self, Self::Said { code, .. } if code == word)
    }
}

/// When a command may be retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// Never: it is not idempotent.
    Never,
    /// When its connection ended. Not after a timeout, because it could be applied after a later command.
    WhenLost,
    /// Also after half of its time: it changes nothing.
    WhenLate,
}

/// The expected kind of answer. Any other kind shows that answers and commands are out of step, and ends the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `OK`.
    Okay,
    /// A whole number.
    Number,
    /// Bytes.
    Bytes,
    /// A list.
    List,
    /// `PONG`.
    Pong,
}

impl Shape {
    fn fits(self, answer: &Value) -> bool {
        match (self, answer) {
            (Self::Okay, Value::Okay)
            | (Self::Number, Value::Int(_))
            | (Self::Bytes, Value::BulkString(_))
            | (Self::List, Value::Array(_)) => true,
            (Self::Pong, Value::SimpleString(text)) => text == "PONG",
            (Self::Pong, Value::BulkString(bytes)) => bytes == b"PONG",
            _ => false,
        }
    }
}

impl Olric {
    /// Creates a client; connections are opened on first use. The name is for logs, metrics and readiness.
    #[must_use]
    pub fn new(at: &OlricAt, name: &str, backplane: Handle) -> Self {
        let connections = Connections::new(at);
        Self(Arc::new(Inner { breaker: Breaker::new(name), connections, backplane }))
    }

    /// The circuit breaker of the cluster.
    #[must_use]
    pub fn breaker(&self) -> &Breaker {
        &self.0.breaker
    }

    /// The runtime of its tasks. The other methods must be called there.
    #[must_use]
    pub fn backplane(&self) -> &Handle {
        &self.0.backplane
    }

    /// Runs a command on any member.
    ///
    /// # Errors
    /// [`OlricError`].
    pub async fn ask(
        &self,
        command: &Cmd,
        shape: Shape,
        again: Again,
        until: Instant,
    ) -> Result<Value, OlricError> {
        let mut is_first = true;
        loop {
            let attempt = self.0.breaker.enter()?;
            let now = Instant::now();
            let patience = match again {
                Again::WhenLate if is_first => now + until.saturating_duration_since(now) / 2,
                _ => until,
            };
            let answer = self.0.connections.ask(command, shape, None, patience).await;
            let Err(error) = &answer else {
                attempt.reached();
                return answer;
            };
            let is_worth = match error {
                OlricError::Said { .. } => {
                    attempt.reached();
                    return answer;
                }
                OlricError::Lost(_) => again != Again::Never,
                OlricError::Late => again == Again::WhenLate,
                _ => false,
            };
            attempt.failed(error);
            if !is_first || !is_worth || !self.0.breaker.may_retry() {
                return answer;
            }
            is_first = false;
        }
    }

    /// Runs a command once on one member. A failure to reach it does not count for the others.
    ///
    /// # Errors
    /// [`OlricError`].
    pub async fn ask_member(
        &self,
        member: &str,
        command: &Cmd,
        shape: Shape,
        until: Instant,
    ) -> Result<Value, OlricError> {
        let attempt = self.0.breaker.enter()?;
        let answer = self.0.connections.ask(command, shape, Some(member), until).await;
        if matches!(answer, Ok(_) | Err(OlricError::Said { .. })) {
            attempt.reached();
        }
        answer
    }

    /// Opens a connection for subscriptions. Its user must check that it is alive.
    ///
    /// # Errors
    /// [`OlricError`].
    pub async fn subscriber(&self) -> Result<(PubSubSink, PubSubStream), OlricError> {
        let attempt = self.0.breaker.enter()?;
        match self.0.connections.subscriber().await {
            Ok(subscriber) => {
                attempt.reached();
                Ok(subscriber)
            }
            Err(error) => {
                attempt.failed(&error);
                Err(error)
            }
        }
    }

    /// Checks that a member answers.
    ///
    /// # Errors
    /// [`OlricError`].
    pub async fn check(&self) -> Result<(), OlricError> {
        let until = Instant::now() + OLRIC_TIMEOUT;
        self.ask(&redis::cmd("PING"), Shape::Pong, Again::WhenLate, until).await.map(drop)
    }
}

#[cfg(test)]
pub(crate) mod tests;
