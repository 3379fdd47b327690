//! An Olric cluster, spoken to in RESP2 over a few connections that all callers share.
//!
//! Commands are pipelined. Each has a deadline, after which the connection is replaced, as it may be half open. What may be
//! asked again is, on another connection, within the budget of the [`Breaker`]; of everything else an error says whether it
//! may have been done.

mod connections;

use crate::breaker::{Breaker, Refused};
use crate::limits::OLRIC_TIMEOUT;
use crate::settings::OlricAt;
use connections::Connections;
use redis::aio::{PubSubSink, PubSubStream};
use redis::{Cmd, Value};
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::time::Instant;

/// A cluster. Clones share its connections.
#[derive(Clone)]
pub struct Olric(Arc<Inner>);

struct Inner {
    breaker: Breaker,
    connections: Connections,
    backplane: Handle,
}

/// Why a command has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OlricError {
    /// It was not asked.
    #[error("Olric: {0}")]
    Refused(#[from] Refused),
    /// There is no connection; it was not asked.
    #[error("Olric cannot be reached: {0}")]
    Unreachable(String),
    /// The connection ended first. What was asked may have been done.
    #[error("the connection to Olric ended before its answer: {0}")]
    Lost(String),
    /// No answer by the deadline. What was asked may have been done, or may be yet.
    #[error("Olric did not answer in time")]
    Late,
    /// An answer to something else. What was asked may have been done.
    #[error("Olric answered something else than it was asked")]
    Strange,
    /// An error of Olric's own.
    #[error("Olric: {code} {detail}")]
    Said {
        /// Its first word.
        code: String,
        /// The others.
        detail: String,
    },
}

impl OlricError {
    /// Whether what was asked may have been done all the same.
    #[must_use]
    pub fn may_be_done(&self) -> bool {
        match self {
            Self::Refused(_) | Self::Unreachable(_) => false,
            // One of Olric's nodes may have failed to ask another one.
            Self::Lost(_) | Self::Late | Self::Strange | Self::Said { .. } => true,
        }
    }

    /// Whether Olric said this word.
    #[must_use]
    pub fn is(&self, word: &str) -> bool {
        matches!(self, Self::Said { code, .. } if code == word)
    }
}

/// When a command may be sent once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// Never: done twice is something else than done once.
    Never,
    /// When its connection ended. Not when it is late, as it could be done after a later command.
    WhenLost,
    /// Also when half of its time is over: it changes nothing.
    WhenLate,
}

/// What answers a command, beside an error. Anything else is the answer to something else, and ends the connection.
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
    /// Prepares for a cluster; connections are opened when they are needed. The name is for the log, metrics and readiness.
    #[must_use]
    pub fn new(at: &OlricAt, name: &str, backplane: Handle) -> Self {
        let connections = Connections::new(at);
        Self(Arc::new(Inner { breaker: Breaker::new(name), connections, backplane }))
    }

    /// Its circuit.
    #[must_use]
    pub fn breaker(&self) -> &Breaker {
        &self.0.breaker
    }

    /// Where its tasks run. The other methods want to be called there.
    #[must_use]
    pub fn backplane(&self) -> &Handle {
        &self.0.backplane
    }

    /// Runs a command on any node.
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

    /// Runs a command on one member of the cluster, once. That it cannot be reached says nothing of the others.
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

    /// A connection for subscriptions. Whoever uses it sees whether it lives.
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

    /// Whether a node answers now.
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
