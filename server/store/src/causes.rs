//! An error with its causes, on one line.

use std::error::Error;
use std::fmt::{Display, Formatter, Result};
use std::sync::Arc;

/// A cause of any type.
pub type Cause = Box<dyn Error + Send + Sync>;

/// A cause that several callers share.
pub type SharedCause = Arc<dyn Error + Send + Sync>;

/// What failed, in words, and its cause if there is one. Errors that compare or clone keep their causes so.
#[derive(Debug, Clone)]
pub struct Problem {
    message: String,
    cause: Option<SharedCause>,
}

impl Problem {
    /// Says what failed and keeps why.
    pub fn caused(message: impl Into<String>, cause: impl Error + Send + Sync + 'static) -> Self {
        Self { message: message.into(), cause: Some(Arc::new(cause)) }
    }

    /// A cause whose own message says enough.
    pub fn of(cause: impl Error + Send + Sync + 'static) -> Self {
        Self::caused(cause.to_string(), cause)
    }

    /// The same problem with its place in front of the message.
    #[must_use]
    pub fn at(self, place: &str) -> Self {
        Self { message: format!("{place}: {}", self.message), ..self }
    }
}

impl Display for Problem {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(&self.message)
    }
}

impl Error for Problem {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}

/// By the message: causes cannot be compared.
impl PartialEq for Problem {
    fn eq(&self, other: &Self) -> bool {
        self.message == other.message
    }
}

impl Eq for Problem {}

impl From<String> for Problem {
    fn from(message: String) -> Self {
        Self { message, cause: None }
    }
}

impl From<&str> for Problem {
    fn from(message: &str) -> Self {
        message.to_owned().into()
    }
}

/// Shows an error, then each of its causes that the text before does not contain yet.
pub struct Causes<'a>(pub &'a (dyn Error + 'static));

impl Display for Causes<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let mut text = self.0.to_string();
        let mut next = self.0.source();
        while let Some(cause) = next {
            let message = cause.to_string();
            if !text.contains(&message) {
                text = format!("{text}: {message}");
            }
            next = cause.source();
        }
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<Layer>>,
    }

    #[test]
    fn a_problem_keeps_its_cause() {
        let cause = Layer { text: "no route", source: None };
        let problem = Problem::caused("the server cannot be reached", cause).at("db:4001");
        assert_eq!(problem.to_string(), "db:4001: the server cannot be reached");
        assert_eq!(Causes(&problem).to_string(), "db:4001: the server cannot be reached: no route");
    }

    #[test]
    fn each_cause_is_named_once() {
        let inner = Layer { text: "no route", source: None };
        let middle = Layer { text: "connect", source: Some(Box::new(inner)) };
        let quoting = Layer { text: "request: connect", source: Some(Box::new(middle)) };
        assert_eq!(Causes(&quoting).to_string(), "request: connect: no route");
    }
}
