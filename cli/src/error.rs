//! How a command fails: a message, what to do next, and the exit code that scripts rely on.

use crate::output;
use serde_json::json;
use std::process::ExitCode;

/// The exit codes of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// The command could not do what it was asked for.
    Failed = 1,
    /// The command was called the wrong way.
    Usage = 2,
    /// The node knows no such function, version or page.
    NotFound = 3,
    /// The node wants another credential.
    NotAuthorised = 4,
    /// No answer came from the node.
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
    hint: Option<String>,
    code: Option<String>,
    request_id: Option<String>,
    passing: bool,
}

/// What a command comes to.
pub type Result<T> = std::result::Result<T, CliError>;

impl CliError {
    /// An error with an exit code of its own.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None, code: None, request_id: None, passing: false }
    }

    /// The command failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// The command was called the wrong way.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Adds what the user can do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the code that the node gave.
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

    /// Says whether the same request may well succeed later.
    #[must_use]
    pub fn passing(mut self, passing: bool) -> Self {
        self.passing = passing;
        self
    }

    /// Whether the same request may well succeed later.
    pub fn is_passing(&self) -> bool {
        self.passing
    }

    /// The exit code.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// The lines that a person reads.
    fn text(&self) -> String {
        let mut text = format!("error: {}", output::printable(&self.message));
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

    /// Writes the error to standard error, as one JSON object where the command was asked for JSON.
    pub fn report(&self, json: bool) {
        if json {
            output::note(
                &json!({
                    "error": self.message,
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

/// Says which file an I/O error was about.
pub fn io(what: &str, path: &std::path::Path, error: &std::io::Error) -> CliError {
    CliError::failed(format!("cannot {what} {}: {error}", path.display()))
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
    fn control_characters_of_a_foreign_message_do_not_reach_the_terminal() {
        let text = CliError::failed("a\u{1b}[31mb").text();
        assert_eq!(text, "error: a\\u{1b}[31mb");
    }
}
