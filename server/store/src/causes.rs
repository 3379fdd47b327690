//! An error with its causes, on one line.

use std::error::Error;
use std::fmt::{Display, Formatter, Result};
use std::sync::Arc;

/// A cause of any type.
pub type Cause = Box<dyn Error + Send + Sync>;

/// A cause that several callers share.
pub type SharedCause = Arc<dyn Error + Send + Sync>;

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
    fn each_cause_is_named_once() {
        let inner = Layer { text: "no route", source: None };
        let middle = Layer { text: "connect", source: Some(Box::new(inner)) };
        let quoting = Layer { text: "request: connect", source: Some(Box::new(middle)) };
        assert_eq!(Causes(&quoting).to_string(), "request: connect: no route");
    }
}
