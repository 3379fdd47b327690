//! How a command fails: its message, the causes, the next step, and the exit code that scripts rely on.

use crate::output;
use serde_json::json;
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

/// What failed below a command.
type Cause = Box<dyn Error + Send + Sync>;

/// The exit codes that scripts rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// The command failed.
    Failed = 1,
    /// The arguments or the configuration are wrong. Nothing was changed.
    Usage = 2,
    /// The node has no such function, version, secret, trigger, namespace or key.
    NotFound = 3,
    /// The credential is missing or does not permit the command.
    NotAuthorised = 4,
    /// The node did not answer.
    Unreachable = 5,
}

impl Exit {
    /// The exit code for an answer's HTTP status.
    pub fn from_status(status: u16) -> Self {
        match status {
            401 | 403 => Self::NotAuthorised,
            404 => Self::NotFound,
            _ => Self::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct CliError {
    exit: Exit,
    message: String,
    #[source]
    cause: Option<Cause>,
    hint: Option<String>,
    code: Option<String>,
    request_id: Option<String>,
    retryable: bool,
}

/// The result of a command.
pub type Result<T> = std::result::Result<T, CliError>;

impl CliError {
    /// Makes an error with the given exit code.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            cause: None,
            hint: None,
            code: None,
            request_id: None,
            retryable: false,
        }
    }

    /// Makes an error with exit code 1.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// Makes an error with exit code 2.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Adds the error that caused this one.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Cause>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Adds the next step for the user.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the node's error code.
    #[must_use]
    pub fn code(mut self, code: Option<String>) -> Self {
        self.code = code;
        self
    }

    /// Adds the id under which the node logged the request.
    #[must_use]
    pub fn request_id(mut self, id: Option<String>) -> Self {
        self.request_id = id;
        self
    }

    /// Sets whether the same request may succeed later.
    #[must_use]
    pub fn retryable(mut self, retryable: bool) -> Self {
        self.retryable = retryable;
        self
    }

    /// Whether the node gave this error code.
    pub fn has_code(&self, code: &str) -> bool {
        self.code.as_deref() == Some(code)
    }

    /// Whether the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        self.retryable
    }

    /// The exit code.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// The message, followed by its causes on the same line.
    pub fn described(&self) -> String {
        let mut text = self.message.clone();
        let mut next = self.source();
        while let Some(cause) = next {
            next = cause.source();
            let said = output::one_line(&cause.to_string());
            // reqwest's own text names no reason ("error sending request"); its causes do.
            let is_vague = cause.is::<reqwest::Error>() && next.is_some();
            // Some errors repeat their cause in their own text.
            if !is_vague && !text.contains(&said) {
                text.push_str(": ");
                text.push_str(&said);
            }
        }
        text
    }

    /// The lines for a person.
    pub fn text(&self) -> String {
        let mut text = format!("error: {}", output::printable(&self.described()));
        let details: Vec<String> = [("code", &self.code), ("request id", &self.request_id)]
            .into_iter()
            .filter_map(|(name, value)| Some(format!("{name} {}", output::one_line(value.as_ref()?))))
            .collect();
        if !details.is_empty() {
            text.push_str(&format!("\n  ({})", details.join(", ")));
        }
        if let Some(hint) = &self.hint {
            text.push_str(&format!("\n  {hint}"));
        }
        text
    }

    /// Writes the error to standard error: as text, or as one JSON object with `--json`.
    pub fn report(&self, json: bool) {
        if json {
            output::note(
                &json!({
                    "error": self.described(),
                    "code": self.code,
                    "request_id": self.request_id,
                    "hint": self.hint,
                })
                .to_string(),
            );
        } else {
            output::note(&self.text());
        }
    }
}

/// Makes an error of a failed file operation: "cannot {what} {path}", caused by `error`.
pub fn io(what: &str, path: &Path, error: std::io::Error) -> CliError {
    CliError::failed(format!("cannot {what} {}", path.display())).caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_map_to_the_contracts_exit_codes() {
        for (status, exit) in [
            (401, 4),
            (403, 4),
            (404, 3),
            (400, 1),
            (409, 1),
            (413, 1),
            (422, 1),
            (500, 1),
            (503, 1),
            (504, 1),
        ] {
            assert_eq!(Exit::from_status(status) as u8, exit, "status {status}");
        }
        assert_eq!([Exit::Failed as u8, Exit::Usage as u8, Exit::Unreachable as u8], [1, 2, 5]);
    }

    #[test]
    fn an_error_shows_message_code_request_id_and_what_to_do() {
        let text = CliError::failed("the function trapped")
            .code(Some("FUNCTION_TRAP".into()))
            .request_id(Some("r-1".into()))
            .hint("see the logs")
            .text();
        assert_eq!(
            text,
            "error: the function trapped\n  (code FUNCTION_TRAP, request id r-1)\n  see the logs"
        );
    }

    #[test]
    fn an_error_keeps_its_causes_and_says_each_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer: {source}")]
        struct Repeating {
            source: std::io::Error,
        }
        let cause = Repeating { source: std::io::Error::other("disk\nfull") };
        let error = CliError::failed("cannot write x").caused_by(cause);
        assert_eq!(error.described(), "cannot write x: outer: disk\\nfull");
        let direct = error.source().unwrap();
        assert!(direct.is::<Repeating>() && direct.source().unwrap().is::<std::io::Error>());
        let error = io("read", Path::new("/x"), std::io::ErrorKind::NotFound.into());
        assert_eq!(error.text(), "error: cannot read /x: entity not found");
    }

    #[test]
    fn control_characters_of_a_foreign_message_do_not_reach_the_terminal() {
        let text = CliError::failed("a\u{1b}[31mb").text();
        assert_eq!(text, "error: a\\u{1b}[31mb");
    }
}
