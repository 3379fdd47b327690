//! The level of a line of standard error: what Go's log/slog says at its beginning, and else `error`.

use crate::invocation::Level;

/// What each word means here, where there are two levels.
const WORDS: [(&[u8], Level); 4] =
    [(b"DEBUG", Level::Info), (b"INFO", Level::Info), (b"WARN", Level::Info), (b"ERROR", Level::Error)];

/// The longest time that a handler writes before the level, in bytes, with room for other formats than its own.
const TIME_MAX_BYTES: usize = 64;

/// The level of a line.
pub(super) fn of(line: &[u8]) -> Level {
    word(line).and_then(named).unwrap_or(Level::Error)
}

/// The line from where its level stands, if it has the form of one of the handlers.
fn word(line: &[u8]) -> Option<&[u8]> {
    match line.first()? {
        // JSONHandler: {"time":"2026-11-29T20:00:00Z","level":"INFO","msg":"paid"}
        b'{' => behind(line, b"{\"time\":\"", b"\",").unwrap_or(&line[1..]).strip_prefix(b"\"level\":\""),
        // TextHandler: time=2026-11-29T20:00:00Z level=INFO msg=paid
        b't' | b'l' => behind(line, b"time=", b" ").unwrap_or(line).strip_prefix(b"level="),
        // The default one, by package log: 2026/11/29 20:00:00 INFO paid
        b'0'..=b'9' => {
            let rest = behind_digits(behind_digits(line, b"0000/00/00 ")?, b"00:00:00")?;
            behind_digits(rest, b".000000").unwrap_or(rest).strip_prefix(b" ")
        }
        _ => Some(line),
    }
}

/// What stands behind `end`, of a line that begins with `begin` and soon has `end`.
fn behind<'a>(line: &'a [u8], begin: &[u8], end: &[u8]) -> Option<&'a [u8]> {
    let rest = line.strip_prefix(begin)?;
    let near = &rest[..rest.len().min(TIME_MAX_BYTES)];
    let at = near.windows(end.len()).position(|window| window == end)?;
    rest.get(at + end.len()..)
}

/// What stands behind a text of this form, in which each `0` stands for a digit.
fn behind_digits<'a>(line: &'a [u8], form: &[u8]) -> Option<&'a [u8]> {
    let fits = |(byte, wanted): (&u8, &u8)| match wanted {
        b'0' => byte.is_ascii_digit(),
        wanted => byte == wanted,
    };
    let (begin, rest) = line.split_at_checked(form.len())?;
    begin.iter().zip(form).all(fits).then_some(rest)
}

/// The level of a text that begins with its word, such as `INFO ` or `WARN+2"`.
fn named(text: &[u8]) -> Option<Level> {
    let (rest, level) = WORDS.iter().find_map(|(word, level)| Some((text.strip_prefix(*word)?, *level)))?;
    let rest = match rest {
        [b'+' | b'-', more @ ..] => {
            let digits = more.iter().take_while(|byte| byte.is_ascii_digit()).count();
            more.get(digits..).filter(|_| digits > 0)?
        }
        _ => rest,
    };
    matches!(rest.first(), None | Some(b' ' | b'"')).then_some(level)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_handler_of_slog_has_the_level_that_it_names() {
        for (line, level) in [
            ("2026/11/29 20:00:00 INFO paid id=7", Level::Info),
            ("2026/11/29 20:00:00.123456 WARN+2 slow", Level::Info),
            ("2026/11/29 20:00:00 ERROR lost", Level::Error),
            ("time=2026-11-29T20:00:00.123Z level=DEBUG msg=paid", Level::Info),
            ("time=2026-11-29T20:00:00.123+01:00 level=ERROR-1 msg=lost", Level::Error),
            ("level=INFO msg=paid", Level::Info),
            (r#"{"time":"2026-11-29T20:00:00Z","level":"WARN","msg":"slow"}"#, Level::Info),
            (r#"{"time":"2026-11-29T20:00:00Z","level":"ERROR+4","msg":"INFO"}"#, Level::Error),
            (r#"{"level":"DEBUG","msg":"x"}"#, Level::Info),
            ("INFO paid", Level::Info),
            ("INFO", Level::Info),
            ("DEBUG-4 x", Level::Info),
        ] {
            assert_eq!(of(line.as_bytes()), level, "{line}");
        }
    }

    #[test]
    fn every_other_line_is_an_error() {
        let far = format!("time={} level=INFO msg=x", "x".repeat(TIME_MAX_BYTES));
        for line in [
            "",
            "panic: INFO",
            "goroutine 1 [running]:",
            "INFORMATION lost",
            "INFO: paid",
            "INFO+ x",
            "info paid",
            " INFO paid",
            "2026/11/29 20:00:00 paid",
            "2026/11/29 INFO paid",
            "2026-11-29 20:00:00 INFO paid",
            "2026/11/29 20:00:00",
            "2026",
            "time=1",
            "time=1 msg=x level=INFO",
            "level=",
            "level=INFORM",
            "{",
            r#"{"msg":"x","level":"INFO"}"#,
            r#"{"time":"1""#,
            r#"{"level":"NOTICE"}"#,
            &far,
        ] {
            assert_eq!(of(line.as_bytes()), Level::Error, "{line}");
        }
        assert_eq!(of(b"\xff\xfe"), Level::Error);
    }
}
