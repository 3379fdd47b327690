//! Finds the line with which a program's runtime says why the program ends.

use crate::limits::PANIC_SHOWN_BYTES;

/// How the lines begin: Go, TinyGo, C's `assert`, and others.
const BEGINNINGS: [&[u8]; 3] = [b"panic: ", b"fatal error: ", b"Assertion failed: "];
/// Rust and Zig name the thread first.
const THREAD: &[u8] = b"thread ";
const IN_THREAD: [&str; 2] = [" panicked at ", " panic: "];

/// Whether a line may be such a line.
pub(super) fn begins(line: &[u8]) -> bool {
    // Go indents those that follow another one.
    let line = line.trim_ascii_start();
    line.starts_with(THREAD) || BEGINNINGS.iter().any(|beginning| line.starts_with(beginning))
}

/// The last such line so far.
#[derive(Default)]
pub(super) struct PanicLine {
    text: Option<String>,
    /// The next line has the message, as Rust writes it.
    goes_on: bool,
}

impl PanicLine {
    /// Looks at a line of standard error or output.
    pub(super) fn look_at(&mut self, line: &[u8]) {
        if std::mem::take(&mut self.goes_on) {
            if let Some(text) = &mut self.text {
                text.push(' ');
                text.push_str(&shown(line));
                text.truncate(text.floor_char_boundary(PANIC_SHOWN_BYTES));
            }
            return;
        }
        if !begins(line) {
            return;
        }
        let text = shown(line);
        if line.trim_ascii_start().starts_with(THREAD) {
            if !IN_THREAD.iter().any(|words| text.contains(words)) {
                return;
            }
            self.goes_on = text.ends_with(':');
        }
        self.text = Some(text);
    }

    /// Looks for a panic within the last line of an output, where TinyGo writes it behind whatever the guest has written.
    pub(super) fn look_within(&mut self, line: &[u8]) {
        const PANIC: &[u8] = b"panic: ";
        let at = line.windows(PANIC.len()).rposition(|window| window == PANIC);
        if let Some(at) = at.filter(|_| self.text.is_none()) {
            self.text = Some(shown(&line[at..]));
        }
    }

    pub(super) fn into_text(self) -> Option<String> {
        self.text
    }
}

/// A line without control characters and of bounded length.
fn shown(line: &[u8]) -> String {
    let line = String::from_utf8_lossy(&line[..line.len().min(PANIC_SHOWN_BYTES)]);
    line.trim().chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(lines: &str) -> Option<String> {
        let mut panic = PanicLine::default();
        lines.split('\n').for_each(|line| panic.look_at(line.as_bytes()));
        panic.into_text()
    }

    #[test]
    fn the_last_panic_is_found_as_each_language_writes_it() {
        for (lines, line) in [
            ("panic: no rows\n\ngoroutine 1 [running]:\nmain.main()\n\t/a.go:3\n", "panic: no rows"),
            ("panic: one [recovered]\n\tpanic: two\ngoroutine 1", "panic: two"),
            (
                "fatal error: all goroutines are asleep - deadlock!",
                "fatal error: all goroutines are asleep - deadlock!",
            ),
            (
                "thread 'main' panicked at src/main.rs:2:5:\nindex out of bounds\nnote: run with",
                "thread 'main' panicked at src/main.rs:2:5: index out of bounds",
            ),
            ("thread 1 panic: reached unreachable code", "thread 1 panic: reached unreachable code"),
            ("Assertion failed: x > 0, file a.c, line 3", "Assertion failed: x > 0, file a.c, line 3"),
            ("panic: a\x1b[31m\r\n", "panic: a?[31m"),
        ] {
            assert_eq!(found(lines).as_deref(), Some(line), "{lines}");
        }
        for lines in
            ["", "no panic: here", "panic({0x1, 0x2})", "thread pool started", "don't panic: x", "panic"]
        {
            assert_eq!(found(lines), None, "{lines}");
        }
    }

    #[test]
    fn a_panic_behind_output_is_found_where_there_is_no_other() {
        let mut panic = PanicLine::default();
        panic.look_within(b"{\"a\":1 panic: x panic: y");
        assert_eq!(panic.text.as_deref(), Some("panic: y"));
        panic.look_within(b"panic: z");
        assert_eq!(panic.into_text().as_deref(), Some("panic: y"));
    }

    #[test]
    fn a_panic_is_bounded() {
        let long = "ä".repeat(PANIC_SHOWN_BYTES);
        let line = found(&format!("panic: {long}")).unwrap();
        assert!(line.len() <= PANIC_SHOWN_BYTES + 3, "{}", line.len());
        let line = found(&format!("thread 'main' panicked at a.rs:1:1:\n{long}")).unwrap();
        assert!(line.len() <= PANIC_SHOWN_BYTES && line.contains(": ää"), "{}", line.len());
    }
}
