//! The question before a deletion that cannot be undone.

use crate::error::{CliError, Result};
use std::io::{BufRead, IsTerminal, Write, stderr, stdin};

/// Asks on a terminal whether to delete `what` and the `rest` that belongs to it. With `force` it does not ask.
///
/// # Errors
/// When the answer is not yes; wrong usage without a terminal and without `force`.
pub fn confirm(force: bool, what: &str, rest: &str) -> Result<()> {
    if force {
        return Ok(());
    }
    if !stdin().is_terminal() || !stderr().is_terminal() {
        return Err(CliError::usage(format!("{what} was not deleted: there is no terminal to confirm on"))
            .hint("add --force to delete without confirmation"));
    }
    drop(write!(stderr(), "Delete {what}{rest}? [y/N] "));
    let mut answer = String::new();
    let read = stdin().lock().read_line(&mut answer);
    if read.map_err(|error| CliError::failed("cannot read the answer").caused_by(error))? == 0 {
        // Ctrl-D leaves the line unfinished.
        drop(writeln!(stderr()));
    }
    if is_yes(&answer) { Ok(()) } else { Err(CliError::failed("not deleted")) }
}

fn is_yes(answer: &str) -> bool {
    let answer = answer.trim();
    ["y", "yes"].iter().any(|yes| answer.eq_ignore_ascii_case(yes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_yes_deletes() {
        for (answer, yes) in [
            ("y\n", true),
            ("Yes\r\n", true),
            (" YES ", true),
            ("", false),
            ("\n", false),
            ("n\n", false),
            ("yes please", false),
            ("ye", false),
        ] {
            assert_eq!(is_yes(answer), yes, "{answer:?}");
        }
    }

    #[test]
    fn force_asks_nothing() {
        assert!(confirm(true, "hello", "").is_ok());
    }
}
