//! What `orama dev` shows: lines as things happen, and on a terminal a screen with what does not build.

use crate::error::Result;
use crate::output;
use std::io::{IsTerminal, stdout};

/// Lines of what does not build that a screen has, so that it is one screen on the smallest usual terminal.
const LINES_MAX: usize = 20;

/// Moves to the first line and clears what is below. What was shown before stays reachable by scrolling in most terminals.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// A function that cannot be built.
pub struct Failing<'a> {
    /// Its name or its folder.
    pub name: &'a str,
    /// The version that goes on.
    pub version: Option<u32>,
    /// Why.
    pub text: &'a str,
}

/// Standard output.
pub struct Screen {
    head: String,
    is_terminal: bool,
    reader_left: bool,
}

impl Screen {
    /// `head` is what stands above everything.
    pub fn new(head: String) -> Self {
        Self { head, is_terminal: stdout().is_terminal(), reader_left: false }
    }

    /// Whether nobody reads what is shown any more.
    pub fn reader_left(&self) -> bool {
        self.reader_left
    }

    /// Shows lines of a function, each with its name before it.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn say(&mut self, name: &str, text: &str) -> Result<()> {
        self.show(&prefixed(name, text))
    }

    /// Shows a line that is of no function.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn tell(&mut self, text: &str) -> Result<()> {
        self.show(&format!("{text}\n"))
    }

    /// Shows where the node is, its functions with their addresses, and what there is to press.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn overview(&mut self, functions: &[(String, String)], again: bool) -> Result<()> {
        let clear = if again && self.is_terminal { CLEAR } else { "" };
        let rows = functions.iter().map(|(name, url)| vec![name.clone(), url.clone()]);
        let table = output::table(&["FUNCTION", "URL"], rows).join("\n");
        self.show(&format!("{clear}{}\n\n{table}\n\n{}\n\n", self.head, super::keys::HELP))
    }

    /// Shows that a function cannot be built. A terminal shows all such functions on one screen; elsewhere `all` is not repeated.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn failed(&mut self, failing: &Failing<'_>, all: &[Failing<'_>]) -> Result<()> {
        if self.is_terminal {
            return self.show(&screenful(all));
        }
        self.show(&prefixed(failing.name, &format!("{}\n{}", summary(failing), failing.text)))
    }

    /// Takes away what a terminal shows of functions that are repaired now.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn repaired(&mut self, left: &[Failing<'_>], functions: &[(String, String)]) -> Result<()> {
        match (self.is_terminal, left.is_empty()) {
            (false, _) => Ok(()),
            (true, false) => self.show(&screenful(left)),
            (true, true) => self.overview(functions, true),
        }
    }

    fn show(&mut self, text: &str) -> Result<()> {
        self.reader_left |= !output::write(text.as_bytes())?;
        Ok(())
    }
}

fn prefixed(name: &str, text: &str) -> String {
    text.lines().map(|line| format!("{name} | {line}\n")).collect()
}

fn summary(failing: &Failing<'_>) -> String {
    match failing.version {
        Some(version) => format!("cannot be built; version {version} serves on"),
        None => "cannot be built; nothing serves yet".to_owned(),
    }
}

fn screenful(all: &[Failing<'_>]) -> String {
    let mut text = CLEAR.to_owned();
    // Each has its share, and at least its first error.
    let share = (LINES_MAX / all.len().max(1)).max(2);
    for failing in all {
        text.push_str(&format!("{} {}\n", failing.name, summary(failing)));
        let lines: Vec<&str> = failing.text.lines().collect();
        for line in lines.iter().take(share) {
            text.push_str(&format!("  {line}\n"));
        }
        if lines.len() > share {
            text.push_str(&format!("  ... and {} more lines\n", lines.len() - share));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_has_its_functions_name() {
        assert_eq!(prefixed("hello", "a\nb"), "hello | a\nhello | b\n");
    }

    #[test]
    fn all_that_cannot_be_built_is_on_one_screen() {
        let long = "x.go:1:1: bad\n".repeat(100);
        let failing = |name, version| Failing { name, version, text: &long };
        let text = screenful(&[failing("a", Some(3)), failing("b", None)]);
        assert!(text.contains("a cannot be built; version 3 serves on\n  x.go:1:1"), "{text}");
        assert!(text.contains("b cannot be built; nothing serves yet\n  x.go:1:1"), "{text}");
        assert!(text.contains("... and 90 more lines"), "{text}");
        assert!(text.lines().count() <= LINES_MAX + 6, "{text}");
    }
}
