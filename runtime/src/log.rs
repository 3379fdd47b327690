//! The log messages of one invocation, in order and within their limits.

use crate::invocation::{Level, LogMessage};
use crate::limits::{LOG_MESSAGE_MAX_BYTES, LOG_MESSAGES_MAX, LOG_TOTAL_MAX_BYTES};
use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch.
pub(crate) fn unix_ms() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}

/// Collects log messages and lines of standard error.
#[derive(Default)]
pub(crate) struct LogBuffer {
    messages: Vec<LogMessage>,
    bytes: usize,
    dropped: u64,
    /// The unfinished line of standard error.
    line: Vec<u8>,
    final_message: Option<String>,
}

impl LogBuffer {
    /// Adds a message. Beyond the limits it is only counted.
    pub(crate) fn push(&mut self, level: Level, message: &str) {
        if self.is_full() {
            self.dropped += 1;
            return;
        }
        let message = cut(message);
        self.bytes += message.len();
        self.messages.push(LogMessage { level, message, timestamp_ms: unix_ms() });
    }

    /// Sets the runtime's final message. The limits do not apply to it.
    pub(crate) fn set_final_message(&mut self, message: &str) {
        self.final_message = Some(cut(message));
    }

    fn is_full(&self) -> bool {
        self.messages.len() >= LOG_MESSAGES_MAX || self.bytes >= LOG_TOTAL_MAX_BYTES
    }

    /// Adds output to standard error. Each line becomes a message of level `error`.
    pub(crate) fn push_stderr(&mut self, bytes: &[u8]) {
        if self.is_full() {
            // Only counts lines: this is the fast path for a guest that floods its log.
            self.dropped += bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
            match bytes.last() {
                Some(b'\n') => self.line.clear(),
                Some(last) if self.line.is_empty() => self.line.push(*last),
                _ => {}
            }
            return;
        }
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = match piece.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (piece, false),
            };
            // One byte above the limit, so that `cut` sees that the line is too long.
            let room = (LOG_MESSAGE_MAX_BYTES + 1).saturating_sub(self.line.len());
            self.line.extend_from_slice(&text[..text.len().min(room)]);
            if ended {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        self.push(Level::Error, String::from_utf8_lossy(&line).trim_end_matches('\r'));
    }

    /// All messages, then the number of dropped ones, then the runtime's final message.
    pub(crate) fn finish(mut self) -> Vec<LogMessage> {
        if !self.line.is_empty() {
            self.end_line();
        }
        let dropped = (self.dropped > 0).then(|| {
            format!(
                "{} more messages were dropped: an invocation may log {LOG_MESSAGES_MAX} messages and {LOG_TOTAL_MAX_BYTES} bytes",
                self.dropped
            )
        });
        let added = dropped.into_iter().chain(self.final_message);
        // Reads the clock only when there is a message to add.
        let added = added.map(|message| LogMessage { level: Level::Error, message, timestamp_ms: unix_ms() });
        self.messages.extend(added);
        self.messages
    }
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
        buffer.finish().into_iter().map(|m| m.message).collect()
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
        let messages = buffer.finish();
        assert_eq!(messages.iter().map(|m| m.message.as_str()).collect::<Vec<_>>(), ["one", "two", "three"]);
        assert_eq!(messages[1].level, Level::Error);
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
    fn a_flood_is_counted_not_kept() {
        let mut buffer = LogBuffer::default();
        for _ in 0..LOG_MESSAGES_MAX + 50 {
            buffer.push(Level::Info, "x");
        }
        buffer.push_stderr(b"a\nb\nhalf ");
        buffer.push_stderr(b"a line");
        buffer.set_final_message("stopped");
        let texts = texts(buffer);
        assert_eq!(texts.len(), LOG_MESSAGES_MAX + 2);
        assert!(texts[LOG_MESSAGES_MAX].starts_with("53 more messages were dropped"));
        assert_eq!(texts[LOG_MESSAGES_MAX + 1], "stopped");
        let mut buffer = LogBuffer::default();
        for _ in 0..LOG_MESSAGES_MAX {
            buffer.push(Level::Info, &"y".repeat(LOG_MESSAGE_MAX_BYTES));
        }
        assert_eq!(buffer.finish().len(), LOG_TOTAL_MAX_BYTES / LOG_MESSAGE_MAX_BYTES + 1);
    }
}
