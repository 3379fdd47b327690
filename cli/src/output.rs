//! Prints results on standard output, and notes and progress on standard error.

use crate::error::{CliError, Result};
use comfy_table::{Table, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::time::Duration;

/// Writes a result to standard output, unchanged.
///
/// # Errors
/// When it cannot be written. A reader that went away (`orama fn list | head`) is not an error.
pub fn raw(bytes: &[u8]) -> Result<()> {
    write(bytes).map(|_| ())
}

/// Writes one of several results to standard output. Returns false when the reader went away, so that the caller can stop.
///
/// # Errors
/// When it cannot be written.
pub fn write(bytes: &[u8]) -> Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(CliError::failed("cannot write to standard output").caused_by(error)),
    }
}

/// Writes a line to standard output.
///
/// # Errors
/// When it cannot be written.
pub fn line(text: &str) -> Result<()> {
    raw(format!("{text}\n").as_bytes())
}

/// Writes a line to standard error. When that is closed, the line is lost.
pub fn note(text: &str) {
    drop(writeln!(io::stderr(), "{text}"));
}

/// Escapes the control characters of foreign text (of a node, a function), except line breaks and tabs.
pub fn printable(text: &str) -> String {
    escape(text, |c| matches!(c, '\n' | '\t'))
}

/// Escapes all control characters, so that the text is one line.
pub fn one_line(text: &str) -> String {
    escape(text, |_| false)
}

/// Escapes all control characters except tabs, so that the text is one line and its columns stay.
pub fn one_line_with_tabs(text: &str) -> String {
    escape(text, |c| c == '\t')
}

fn escape(text: &str, keep: impl Fn(char) -> bool) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && !keep(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Formats an aligned table. The header is the first line.
pub fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Vec<String> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    for row in rows {
        table.add_row(row.iter().map(|cell| one_line(cell)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect()
}

/// Formats a size in bytes for people; 1 kB is 1000 bytes.
pub fn size(bytes: u64) -> String {
    indicatif::DecimalBytes(bytes).to_string()
}

/// Formats a duration in seconds with one decimal.
pub fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// The progress of an operation that may take longer than a second: a spinner on a terminal, one plain line elsewhere.
pub struct Progress(ProgressBar);

impl Progress {
    /// Shows that `what` is under way, until it is dropped. Shows nothing with `quiet`.
    pub fn start(what: &str, quiet: bool) -> Self {
        if quiet {
            return Self(ProgressBar::hidden());
        }
        if !io::stderr().is_terminal() {
            note(&format!("{what} ..."));
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(style("{spinner} {msg} ({elapsed})"));
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        Self(bar)
    }

    /// Changes to a bar over `total` bytes.
    pub fn bytes(&self, total: u64) {
        self.0.set_length(total);
        self.0.set_style(style("{spinner} {msg} {wide_bar} {decimal_bytes}/{decimal_total_bytes}"));
    }

    /// Counts the bytes read from `reader`, and shows the message `then` after the last one.
    pub fn reader<R: io::Read>(&self, reader: R, total: u64, then: &'static str) -> Counting<R> {
        Counting { reader, left: total, bar: self.0.clone(), then }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

// The templates are constants. One that does not parse shows the default bar.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// A reader that moves a progress bar.
pub struct Counting<R> {
    reader: R,
    left: u64,
    bar: ProgressBar,
    then: &'static str,
}

impl<R: io::Read> io::Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.bar.inc(count as u64);
        self.left = self.left.saturating_sub(count as u64);
        if self.left == 0 {
            self.bar.set_style(style("{spinner} {msg} ({elapsed})"));
            self.bar.set_message(self.then);
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn columns_are_aligned_and_lines_do_not_end_in_spaces() {
        let rows =
            vec![vec!["a".to_owned(), "1".to_owned()], vec!["longer-name".to_owned(), "22".to_owned()]];
        assert_eq!(table(&["NAME", "V"], rows), ["NAME         V", "a            1", "longer-name  22"]);
    }

    #[test]
    fn a_cell_with_line_breaks_and_escapes_stays_one_line() {
        let lines = table(&["ERROR"], [vec!["a\nb\u{1b}[2J".to_owned()]]);
        assert_eq!(lines, ["ERROR", "a\\nb\\u{1b}[2J"]);
    }

    #[test]
    fn a_counting_reader_passes_on_every_byte() {
        let progress = Progress::start("reading", true);
        progress.bytes(5);
        let mut read = Vec::new();
        progress.reader(&b"hello"[..], 5, "done").read_to_end(&mut read).unwrap();
        assert_eq!(read, b"hello");
    }
}
