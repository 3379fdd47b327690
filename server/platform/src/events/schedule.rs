//! When a schedule is due: cron expressions in time zones.
//!
//! A slot that a change of clocks leaves out is due at the next instant that exists. One that occurs twice is due once, unless
//! the schedule goes by an interval (`*/5 * * * *`), which goes on through the repeated hour.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};

/// Longest cron expression, in bytes: a list of every minute fits in.
pub const CRON_EXPRESSION_MAX_BYTES: usize = 256;

/// The time zone of a schedule that names none.
pub const DEFAULT_TIMEZONE: &str = "UTC";

/// Why a schedule was refused.
#[derive(Debug, thiserror::Error)]
pub enum InvalidSchedule {
    /// The expression cannot be read.
    #[error(
        "the schedule {given:?} is not a cron expression: {why}; write five fields (minute, hour, day of month, month, day of week), \
         or six with seconds first, for example \"*/5 * * * *\""
    )]
    Expression {
        /// As it was given, shortened.
        given: String,
        /// What is wrong.
        why: String,
    },
    /// It names no day that exists.
    #[error("the schedule {given:?} is never due")]
    Never {
        /// As it was given.
        given: String,
    },
    /// There is no such time zone.
    #[error(
        "there is no time zone {given:?}; write a name of the IANA database, for example \"Europe/Berlin\""
    )]
    Timezone {
        /// As it was given, shortened.
        given: String,
    },
}

/// A cron expression in a time zone.
#[derive(Debug, Clone)]
pub struct Schedule {
    cron: Cron,
    zone: TimeZone,
}

impl Schedule {
    /// Parses a schedule of five fields, six with seconds first, or a word such as `@daily`. It must be due at least once after
    /// now.
    ///
    /// # Errors
    /// [`InvalidSchedule`], which says what is wrong.
    pub fn new(expression: &str, timezone: &str) -> Result<Self, InvalidSchedule> {
        let given = || expression.chars().take(CRON_EXPRESSION_MAX_BYTES).collect::<String>();
        let refused = |why: String| InvalidSchedule::Expression { given: given(), why };
        if expression.len() > CRON_EXPRESSION_MAX_BYTES || expression.chars().any(char::is_control) {
            return Err(refused(format!("it may have at most {CRON_EXPRESSION_MAX_BYTES} printable bytes")));
        }
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let cron = parser.parse(expression).map_err(|error| refused(error.to_string()))?;
        let no_zone = || InvalidSchedule::Timezone { given: timezone.chars().take(80).collect() };
        // Bundled: what a schedule means must not depend on the machine.
        let is_name = !timezone.is_empty() && timezone.len() <= 80;
        let zone =
            is_name.then(|| TimeZoneDatabase::bundled().get(timezone).ok()).flatten().ok_or_else(no_zone)?;
        let schedule = Self { cron, zone };
        if schedule.next_ms(Timestamp::now().as_millisecond()).is_none() {
            return Err(InvalidSchedule::Never { given: given() });
        }
        Ok(schedule)
    }

    /// The first slot after a time, both in milliseconds since the Unix epoch; `None` if there is none.
    #[must_use]
    pub fn next_ms(&self, after_ms: i64) -> Option<i64> {
        let after = Timestamp::from_millisecond(after_ms).ok()?.to_zoned(self.zone.clone());
        let next = self.cron.find_next_occurrence(&after, false).ok()?;
        Some(next.timestamp().as_millisecond())
    }

    /// The last slot at a time or before it, in the same units.
    #[must_use]
    pub fn last_ms(&self, until_ms: i64) -> Option<i64> {
        let until = Timestamp::from_millisecond(until_ms).ok()?.to_zoned(self.zone.clone());
        let last = self.cron.find_previous_occurrence(&until, true).ok()?;
        Some(last.timestamp().as_millisecond())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    /// The first slots after a time.
    fn slots(expression: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
        let schedule = Schedule::new(expression, zone).unwrap();
        let mut at = ms(after);
        (0..count)
            .map(|_| {
                at = schedule.next_ms(at).unwrap();
                Timestamp::from_millisecond(at).unwrap().to_string()
            })
            .collect()
    }

    #[test]
    fn expressions_mean_what_cron_means_by_them() {
        let from = "2026-11-29T16:08:30Z";
        assert_eq!(slots("*/5 * * * *", "UTC", from, 2), ["2026-11-29T16:10:00Z", "2026-11-29T16:15:00Z"]);
        assert_eq!(slots("*/10 * * * * *", "UTC", from, 2), ["2026-11-29T16:08:40Z", "2026-11-29T16:08:50Z"]);
        assert_eq!(slots("@daily", "UTC", from, 1), ["2026-11-30T00:00:00Z"]);
        assert_eq!(slots("30 9 * JAN-MAR Mon,fri", "UTC", from, 1), ["2027-01-01T09:30:00Z"]);
        // Day of month or day of week: the 13th, and every Friday.
        let either = slots("0 0 13 * 5", "UTC", "2026-12-01T00:00:00Z", 3);
        assert_eq!(either, ["2026-12-04T00:00:00Z", "2026-12-11T00:00:00Z", "2026-12-13T00:00:00Z"]);
        assert_eq!(slots("0 0 * * 7", "UTC", from, 1), slots("0 0 * * 0", "UTC", from, 1));
        assert_eq!(slots("0 9 * * *", "Asia/Kolkata", from, 1), ["2026-11-30T03:30:00Z"]);
        // A slot is after the time, never at it.
        assert_eq!(slots("*/5 * * * *", "UTC", "2026-11-29T16:10:00Z", 1), ["2026-11-29T16:15:00Z"]);
        assert_eq!(slots("0 0 29 2 *", "UTC", from, 1), ["2028-02-29T00:00:00Z"]);
    }

    #[test]
    fn a_slot_that_the_clocks_leave_out_is_due_at_the_next_instant() {
        // 02:00 to 03:00 does not exist.
        let spring = slots("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", 2);
        assert_eq!(spring, ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]);
    }

    #[test]
    fn a_slot_that_occurs_twice_is_due_once() {
        // 02:00 to 03:00 occurs twice.
        let autumn = slots("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2);
        assert_eq!(autumn, ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
        let interval = slots("*/30 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", 4);
        assert_eq!(interval.last().unwrap(), "2026-10-25T02:00:00Z", "an interval goes on");
    }

    #[test]
    fn the_last_slot_is_at_a_time_or_before_it() {
        let schedule = Schedule::new("0 * * * *", "UTC").unwrap();
        assert_eq!(schedule.last_ms(ms("2026-11-29T16:59:59Z")), Some(ms("2026-11-29T16:00:00Z")));
        assert_eq!(schedule.last_ms(ms("2026-11-29T16:00:00Z")), Some(ms("2026-11-29T16:00:00Z")));
    }

    #[test]
    fn what_is_no_schedule_is_refused_with_the_reason() {
        for bad in [
            "",
            "* * * *",
            "61 * * * *",
            "* * * * * * *",
            "x * * * *",
            "@never",
            "*/0 * * * *",
            &"1,".repeat(200),
        ] {
            let error = Schedule::new(bad, "UTC").unwrap_err();
            assert!(error.to_string().contains("five fields"), "{bad}: {error}");
        }
        let error = Schedule::new("0 0 30 2 *", "UTC").unwrap_err();
        assert!(matches!(error, InvalidSchedule::Never { .. }), "{error}");
        for zone in ["Mars/Base", "", "../etc/passwd", "CET+"] {
            let error = Schedule::new("* * * * *", zone).unwrap_err();
            assert!(error.to_string().contains("Europe/Berlin"), "{zone}: {error}");
        }
    }
}
