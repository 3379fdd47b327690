//! Points in time as people and programs write them: "since when".

use jiff::{Span, SpanRelativeTo, Timestamp};

/// A time (RFC 3339, with any offset), a time in Unix seconds with or without a fraction, or an age before `now` such as `90s`,
/// `15m`, `2h`, `1d` or `1d 12h`. `None` for any other text, and for a time that is outside of the calendar.
///
/// In a query `+` stands for a space, so that a space is taken as the `+` of an offset.
#[must_use]
pub fn since(text: &str, now: Timestamp) -> Option<Timestamp> {
    if let Some(time) = unix_seconds(text) {
        return time;
    }
    if let Ok(time) = text.parse() {
        return Some(time);
    }
    if let Some(time) =
        text.rsplit_once(' ').and_then(|(time, offset)| format!("{time}+{offset}").parse().ok())
    {
        return Some(time);
    }
    let age = text.parse::<Span>().ok()?;
    // Without a time zone a day has 24 hours.
    let age = age.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    now.checked_sub(age.abs()).ok()
}

/// The time of Unix seconds, such as `1771867119.5`; `None` for text that is no such number.
fn unix_seconds(text: &str) -> Option<Option<Timestamp>> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(seconds) || !is_number(fraction) {
        return None;
    }
    let millisecond: String = fraction.chars().chain("00".chars()).take(3).collect();
    let time = || {
        let (seconds, millisecond) = (seconds.parse::<i64>().ok()?, millisecond.parse::<i64>().ok()?);
        Timestamp::from_millisecond(seconds.checked_mul(1000)?.checked_add(millisecond)?).ok()
    };
    Some(time())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_time_or_an_age() {
        let now = Timestamp::from_millisecond(1_000_000_000).unwrap();
        let since = |text: &str| since(text, now).map(Timestamp::as_millisecond);
        for (text, ms) in [
            ("1970-01-01T00:00:01.5Z", 1_500),
            ("1970-01-01T01:00:01+01:00", 1_000),
            ("1970-01-01T02:00:01 02:00", 1_000),
            ("1970-01-01 02:00:01 02:00", 1_000),
            ("1969-12-31T19:00:01-05:00", 1_000),
            ("0", 0),
            ("15", 15_000),
            ("1771867119", 1_771_867_119_000),
            ("1771867119.5", 1_771_867_119_500),
            ("1771867119.123456", 1_771_867_119_123),
            ("15m", 1_000_000_000 - 15 * 60_000),
            ("90s", 1_000_000_000 - 90_000),
            ("1d", 1_000_000_000 - 86_400_000),
            ("1d 12h", 1_000_000_000 - 129_600_000),
            ("1h 30m", 1_000_000_000 - 90 * 60_000),
            ("PT90M", 1_000_000_000 - 90 * 60_000),
        ] {
            assert_eq!(since(text), Some(ms), "{text}");
        }
        for bad in [
            "",
            "yesterday",
            "m",
            "-15",
            "+15",
            "1.",
            ".5",
            "1e3",
            "15 parsecs",
            "1970-01-01",
            "1970-01-01T00:00:00",
            "99999999999999",
            "99999999999999999999",
            "99999999d",
            "1 month",
        ] {
            assert_eq!(since(bad), None, "{bad}");
        }
    }
}
