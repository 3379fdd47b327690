//! The question before something is deleted that cannot be brought back.

use crate::error::{CliError, Result};
use std::io::{BufRead, IsTerminal, Write, stderr, stdin};

/// Asks on a terminal whether to delete `what` with the `rest` that goes with it; anything but yes is an error.
/// With `force` nothing is asked; without a terminal and without `force` it is wrong usage.
pub fn confirm(force: bool, what: &str, rest: &str) -> Result<()> {
    if force {
        return Ok(());
    }
    if !stdin().is_terminal() || !stderr().is_terminal() {
        return Err(CliError::usage(format!("not deleting {what}: there is no terminal to ask on"))
            .hint("--force deletes without asking"));
    }
    drop(write!(stderr(), "Delete {what}{rest}? [y/N] "));
    let mut answer = String::new();
    let read = stdin().lock().read_line(&mut answer);
    if read.map_err(|error| CliError::failed(format!("cannot read the answer: {error}")))? == 0 {
        // The line that Ctrl-D leaves unfinished.
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
