//! The log messages of one invocation, in order and within their limits.

use crate::invocation::{Level, LogMessage};
use crate::limits::{
    LOG_MESSAGE_MAX_BYTES, LOG_MESSAGES_MAX, LOG_OUTPUT_LINES_MAX, LOG_OUTPUT_MAX_BYTES, LOG_TOTAL_MAX_BYTES,
};
use panic::PanicLine;
use std::collections::VecDeque;
use std::time::{SystemTime, UNIX_EPOCH};

mod level;
mod panic;

/// The number of first messages that are kept, and of last ones.
const HALF_MESSAGES: usize = LOG_MESSAGES_MAX / 2;
/// Bytes of the first messages, and of the last ones.
const HALF_BYTES: usize = LOG_TOTAL_MAX_BYTES / 2;

/// Milliseconds since the Unix epoch.
pub(crate) fn unix_ms() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}

/// Collects log messages and lines of standard error.
#[derive(Default)]
pub(crate) struct LogBuffer {
    first: Vec<LogMessage>,
    first_bytes: usize,
    /// The unfinished line of standard error.
    line: Vec<u8>,
    final_message: Option<String>,
    /// What most invocations do not have. Each of them makes and moves a buffer, so that it is small.
    rest: Option<Box<Rest>>,
}

/// What comes after the first messages.
#[derive(Default)]
struct Rest {
    /// Whether a message did not fit among the first ones. All that follow are among the last ones.
    first_are_full: bool,
    last: VecDeque<LogMessage>,
    last_bytes: usize,
    /// Messages between the first and the last ones.
    dropped: u64,
    panic: PanicLine,
    /// Lines of a failed function's standard output.
    output: Vec<String>,
}

/// The log of an invocation that has ended.
pub(crate) struct FinishedLog {
    pub(crate) messages: Vec<LogMessage>,
    /// The last line with which the guest's runtime said that it panicked.
    pub(crate) panic: Option<String>,
}

impl LogBuffer {
    /// Adds a message. Beyond the limits it takes the place of an earlier one.
    pub(crate) fn push(&mut self, level: Level, message: &str) {
        let message = cut(message);
        let bytes = message.len();
        let message = LogMessage { level, message, timestamp_ms: unix_ms() };
        if self.first.len() >= HALF_MESSAGES || self.first_bytes + bytes > HALF_BYTES {
            self.rest().first_are_full = true;
        }
        match &mut self.rest {
            Some(rest) if rest.first_are_full => rest.push(message),
            _ => {
                self.first_bytes += bytes;
                self.first.push(message);
            }
        }
    }

    fn rest(&mut self) -> &mut Rest {
        self.rest.get_or_insert_default()
    }

    /// Looks for a panic in a line that the guest has written.
    fn look_at(&mut self, line: &[u8]) {
        if self.rest.is_some() || panic::begins(line) {
            self.rest().panic.look_at(line);
        }
    }

    /// Sets the runtime's final message. The limits do not apply to it.
    pub(crate) fn set_final_message(&mut self, message: &str) {
        self.final_message = Some(cut(message));
    }

    /// Adds output to standard error. Each line becomes a message of the level that it names, or else `error`.
    pub(crate) fn push_stderr(&mut self, bytes: &[u8]) {
        // Lines that later ones of the same call would push out are only counted: a guest may flood its log.
        let mut uncounted = match &self.rest {
            Some(rest) if rest.first_are_full => {
                bytes.iter().filter(|byte| **byte == b'\n').count().saturating_sub(HALF_MESSAGES)
            }
            _ => 0,
        };
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = match piece.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (piece, false),
            };
            if uncounted > 0 && self.line.is_empty() {
                uncounted -= 1;
                let rest = self.rest();
                rest.panic.look_at(text);
                rest.dropped += 1;
                continue;
            }
            // One byte above the limit, so that `cut` sees that the line is too long.
            let room = (LOG_MESSAGE_MAX_BYTES + 1).saturating_sub(self.line.len());
            self.line.extend_from_slice(&text[..text.len().min(room)]);
            if ended {
                uncounted = uncounted.saturating_sub(1);
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        self.look_at(&line);
        self.push(level::of(&line), String::from_utf8_lossy(&line).trim_end_matches('\r'));
    }

    /// Adds the standard output of a guest that has failed: its first lines and its last ones.
    pub(crate) fn push_output(&mut self, output: &[u8]) {
        const HALF: usize = LOG_OUTPUT_MAX_BYTES / 2;
        let output = output.strip_suffix(b"\n").unwrap_or(output);
        if output.is_empty() {
            return;
        }
        let is_short = output.len() <= LOG_OUTPUT_MAX_BYTES;
        let (begin, end) =
            if is_short { (output, None) } else { (&output[..HALF], Some(&output[output.len() - HALF..])) };
        let lines: Vec<&[u8]> =
            begin.split(is_line_end).chain(end.into_iter().flat_map(|end| end.split(is_line_end))).collect();
        let rest = self.rest();
        lines.iter().for_each(|line| rest.panic.look_at(line));
        lines.last().into_iter().for_each(|line| rest.panic.look_within(line));
        let shown = |line: &&[u8]| cut(&format!("stdout: {}", String::from_utf8_lossy(line)));
        if is_short && lines.len() <= LOG_OUTPUT_LINES_MAX {
            rest.output = lines.iter().map(shown).collect();
            return;
        }
        let first = lines.len().min(LOG_OUTPUT_LINES_MAX / 2);
        let last = lines.len().saturating_sub(LOG_OUTPUT_LINES_MAX / 2).max(first);
        rest.output = lines[..first].iter().map(shown).collect();
        rest.output.push(format!("stdout: [a part of the {} bytes is left out here]", output.len()));
        rest.output.extend(lines[last..].iter().map(shown));
    }

    /// The first messages, the number of dropped ones, the last messages, the output of a guest that failed, and the runtime's
    /// final message.
    pub(crate) fn finish(mut self) -> FinishedLog {
        if !self.line.is_empty() {
            self.end_line();
        }
        let mut messages = self.first;
        if self.rest.is_none() && self.final_message.is_none() {
            return FinishedLog { messages, panic: None };
        }
        let rest = self.rest.map(|rest| *rest).unwrap_or_default();
        if rest.dropped > 0 {
            let message = format!(
                "{} more messages were dropped here: an invocation may log {LOG_MESSAGES_MAX} messages and \
                 {LOG_TOTAL_MAX_BYTES} bytes, half of them its first ones and half its last",
                rest.dropped
            );
            messages.push(LogMessage { level: Level::Error, message, timestamp_ms: unix_ms() });
        }
        messages.extend(rest.last);
        let output = rest.output.into_iter().map(|message| (Level::Info, message));
        let added = output.chain(self.final_message.map(|message| (Level::Error, message)));
        // Reads the clock only when there is a message to add.
        messages.extend(added.map(|(level, message)| LogMessage { level, message, timestamp_ms: unix_ms() }));
        FinishedLog { messages, panic: rest.panic.into_text() }
    }
}

impl Rest {
    /// Adds a message to the last ones, and drops those for which there is no room any more.
    fn push(&mut self, message: LogMessage) {
        self.last_bytes += message.message.len();
        self.last.push_back(message);
        while self.last.len() > HALF_MESSAGES || self.last_bytes > HALF_BYTES {
            let Some(gone) = self.last.pop_front() else { break };
            self.last_bytes -= gone.message.len();
            self.dropped += 1;
        }
    }
}

fn is_line_end(byte: &u8) -> bool {
    *byte == b'\n'
}

fn cut(message: &str) -> String {
    if message.len() <= LOG_MESSAGE_MAX_BYTES {
        return message.to_owned();
    }
    let mut end = LOG_MESSAGE_MAX_BYTES;
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    format!("{} [cut after {end} bytes]", &message[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(buffer: LogBuffer) -> Vec<String> {
        buffer.finish().messages.into_iter().map(|m| m.message).collect()
    }

    #[test]
    fn stderr_becomes_lines_however_it_is_written() {
        let mut buffer = LogBuffer::default();
        for piece in ["pan", "ic: x\r\n", "\n", "goroutine 1\nlast"] {
            buffer.push_stderr(piece.as_bytes());
        }
        assert_eq!(texts(buffer), ["panic: x", "", "goroutine 1", "last"]);
    }

    #[test]
    fn messages_and_stderr_keep_their_order() {
        let mut buffer = LogBuffer::default();
        buffer.push(Level::Info, "one");
        buffer.push_stderr(b"two\n");
        buffer.push(Level::Info, "three");
        let messages = buffer.finish().messages;
        assert_eq!(messages.iter().map(|m| m.message.as_str()).collect::<Vec<_>>(), ["one", "two", "three"]);
        assert_eq!(messages[1].level, Level::Error);
    }

    #[test]
    fn lines_of_slog_keep_their_level() {
        let mut buffer = LogBuffer::default();
        buffer
            .push_stderr(b"2026/11/29 20:00:00 INFO paid\r\nlevel=ERROR msg=lost\nnot by slog\nINFO the la");
        buffer.push_stderr(b"st");
        let messages = buffer.finish().messages;
        let levels: Vec<_> = messages.iter().map(|message| message.level).collect();
        assert_eq!(levels, [Level::Info, Level::Error, Level::Error, Level::Info]);
        assert_eq!(messages[0].message, "2026/11/29 20:00:00 INFO paid");
    }

    #[test]
    fn a_long_message_is_cut_at_a_character_and_says_so() {
        let mut buffer = LogBuffer::default();
        buffer.push(Level::Info, &"ä".repeat(LOG_MESSAGE_MAX_BYTES));
        let long_line = vec![b'x'; 3 * LOG_MESSAGE_MAX_BYTES];
        buffer.push_stderr(&long_line[..100]);
        buffer.push_stderr(&long_line);
        for text in texts(buffer) {
            assert!(text.ends_with(&format!("[cut after {LOG_MESSAGE_MAX_BYTES} bytes]")), "{}", text.len());
        }
    }

    #[test]
    fn of_a_flood_the_first_and_the_last_messages_are_kept() {
        let mut buffer = LogBuffer::default();
        for n in 0..LOG_MESSAGES_MAX + 50 {
            buffer.push(Level::Info, &n.to_string());
        }
        buffer.push_stderr(b"a\nb\nhalf ");
        buffer.push_stderr(b"a line");
        buffer.set_final_message("stopped");
        let texts = texts(buffer);
        assert_eq!(texts.len(), LOG_MESSAGES_MAX + 2);
        assert_eq!((texts[0].as_str(), texts[HALF_MESSAGES - 1].as_str()), ("0", "99"));
        assert!(
            texts[HALF_MESSAGES].starts_with("53 more messages were dropped"),
            "{}",
            texts[HALF_MESSAGES]
        );
        assert_eq!(texts[HALF_MESSAGES + 1], "153");
        assert_eq!(texts[texts.len() - 4..], ["a", "b", "half a line", "stopped"]);
    }

    #[test]
    fn a_flood_is_bounded_in_bytes_too() {
        let mut buffer = LogBuffer::default();
        for _ in 0..LOG_MESSAGES_MAX {
            buffer.push(Level::Info, &"y".repeat(LOG_MESSAGE_MAX_BYTES));
        }
        let texts = texts(buffer);
        assert_eq!(texts.len(), LOG_TOTAL_MAX_BYTES / LOG_MESSAGE_MAX_BYTES + 1);
        assert!(texts[HALF_BYTES / LOG_MESSAGE_MAX_BYTES].contains("more messages were dropped"));
    }

    #[test]
    fn lines_of_a_flood_are_the_same_however_they_are_written() {
        let lines: Vec<String> = (0..5_000).map(|n| format!("line {n}\n")).collect();
        let all = lines.concat();
        let kept = |size: usize| {
            let mut buffer = LogBuffer::default();
            all.as_bytes().chunks(size).for_each(|piece| buffer.push_stderr(piece));
            texts(buffer)
        };
        let whole = kept(9);
        assert_eq!(whole.len(), LOG_MESSAGES_MAX + 1);
        assert_eq!((whole[0].as_str(), whole.last().unwrap().as_str()), ("line 0", "line 4999"));
        for size in [1, 100, 5_000, 20_000, all.len()] {
            let some = kept(size);
            assert_eq!(some[HALF_MESSAGES..], whole[HALF_MESSAGES..], "{size}");
        }
    }

    #[test]
    fn the_panic_survives_a_flood_of_what_follows_it() {
        let mut buffer = LogBuffer::default();
        buffer.push_stderr(&b"noise\n".repeat(500));
        let stack = b"goroutine 1 [running]:\n".repeat(500);
        buffer.push_stderr(&[&b"panic: no rows\n\n"[..], &stack].concat());
        assert_eq!(buffer.finish().panic.as_deref(), Some("panic: no rows"));
    }

    #[test]
    fn the_output_of_a_guest_that_failed_follows_its_messages() {
        let logged = |output: &[u8]| {
            let mut buffer = LogBuffer::default();
            buffer.push(Level::Info, "said");
            buffer.push_output(output);
            let log = buffer.finish();
            let all: Vec<String> = log.messages.into_iter().map(|m| m.message).collect();
            (all, log.panic)
        };
        assert_eq!(logged(b"").0, ["said"]);
        assert_eq!(logged(b"\n").0, ["said"]);
        let (all, panic) = logged(b"here\npanic: x\n");
        assert_eq!(
            (all, panic.as_deref()),
            (["said", "stdout: here", "stdout: panic: x"].map(String::from).to_vec(), Some("panic: x"))
        );
        let many: String = (0..1_000).map(|n| format!("{n}\n")).collect();
        let (all, _) = logged(many.as_bytes());
        assert_eq!(all.len(), 1 + LOG_OUTPUT_LINES_MAX + 1);
        assert_eq!((all[1].as_str(), all.last().unwrap().as_str()), ("stdout: 0", "stdout: 999"));
        assert!(all[1 + LOG_OUTPUT_LINES_MAX / 2].contains("left out"), "{all:?}");
        let (all, _) = logged(&vec![b'x'; 8 << 20]);
        assert_eq!(all.len(), 4);
        assert!(all.iter().map(String::len).sum::<usize>() < LOG_OUTPUT_MAX_BYTES + 200);
    }
}
