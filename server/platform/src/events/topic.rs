//! The rules for names of topics, and for patterns of them.

use orama_runtime::limits::TOPIC_MAX_BYTES;

/// Topics that begin so are the node's own.
const RESERVED: &str = "_orama/";

/// Why a topic was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTopic {
    /// It breaks the rule.
    #[error(
        "topic {0:?} is not valid: it must have 1 to {TOPIC_MAX_BYTES} bytes of UTF-8, no control characters, and no white space at its ends"
    )]
    Malformed(String),
    /// It is the node's own.
    #[error("topic {0:?} is not valid: topics that begin with \"{RESERVED}\" are reserved")]
    Reserved(String),
}

/// Checks a topic, or a pattern of topics: 1 to [`TOPIC_MAX_BYTES`] bytes, no control characters, no white space at the ends, and
/// not reserved. All other texts are allowed and compared byte by byte.
///
/// # Errors
/// [`InvalidTopic`], which states the rule.
pub fn check_topic(topic: &str) -> Result<(), InvalidTopic> {
    let valid = (1..=TOPIC_MAX_BYTES).contains(&topic.len())
        && topic.trim().len() == topic.len()
        && !topic.chars().any(char::is_control);
    let given = || topic.chars().take(TOPIC_MAX_BYTES).collect();
    match valid {
        false => Err(InvalidTopic::Malformed(given())),
        true if topic.starts_with(RESERVED) => Err(InvalidTopic::Reserved(given())),
        true => Ok(()),
    }
}

/// Whether the topic of a trigger stands for others: it has a `*`.
#[must_use]
pub fn is_pattern(topic: &str) -> bool {
    topic.contains('*')
}

/// A place in a pattern, and one in a topic.
type Place = (usize, usize);

/// Whether a topic matches a pattern: `*` stands for any characters within one segment, `**` for any across segments; a colon
/// separates segments. Takes at most the product of both lengths.
#[must_use]
pub fn matches(pattern: &str, topic: &str) -> bool {
    let (pattern, topic) = (pattern.as_bytes(), topic.as_bytes());
    let (mut at, mut pos) = (0, 0);
    // Where to go on when what follows the last star of a kind does not match: that star takes one byte more. What stands before
    // a `**` never has to change once that was reached.
    let (mut within, mut across): (Option<Place>, Option<Place>) = (None, None);
    loop {
        match pattern.get(at) {
            Some(b'*') if pattern.get(at + 1) == Some(&b'*') => {
                at += 2;
                (within, across) = (None, Some((at, pos)));
                continue;
            }
            Some(b'*') => {
                at += 1;
                within = Some((at, pos));
                continue;
            }
            Some(wanted) if topic.get(pos) == Some(wanted) => {
                (at, pos) = (at + 1, pos + 1);
                continue;
            }
            None if pos == topic.len() => return true,
            _ => {}
        }
        let extended = match within {
            Some((next, from)) if topic.get(from).is_some_and(|byte| *byte != b':') => {
                within = Some((next, from + 1));
                within
            }
            _ => match across {
                Some((next, from)) if from < topic.len() => {
                    (within, across) = (None, Some((next, from + 1)));
                    across
                }
                _ => return false,
            },
        };
        if let Some(resume) = extended {
            (at, pos) = resume;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_follow_their_rule() {
        for good in ["a", "calls:invite", "orders/new", "two words", "Öffnung", "*", "#", &"x".repeat(256)] {
            assert_eq!(check_topic(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            " ",
            " a",
            "a ",
            "a\u{a0}",
            "\ta",
            "a\nb",
            "a\0",
            "a\u{7f}",
            &"x".repeat(257),
            &"ö".repeat(129),
            "_orama/",
            "_orama/jobs",
        ] {
            assert!(check_topic(bad).is_err(), "{bad:?}");
        }
        let message = check_topic("a\nb").unwrap_err().to_string();
        assert!(message.contains("\"a\\nb\"") && message.contains("256"), "{message}");
    }

    #[test]
    fn a_star_stays_in_its_segment_and_two_do_not() {
        for (pattern, topic, expected) in [
            ("calls:*", "calls:invite", true),
            ("calls:*", "calls:", true),
            ("calls:*", "calls:a:b", false),
            ("calls:*", "calls", false),
            ("calls:**", "calls:a:b", true),
            ("calls:**", "calls:", true),
            ("**", "a:b:c", true),
            ("*", "a:b", false),
            ("*", "a", true),
            ("*:*", "a:b", true),
            ("*:*", "a:b:c", false),
            ("**:end", "a:b:end", true),
            ("**:end", "end", false),
            ("a:*:c", "a:b:c", true),
            ("a:*:c", "a:b:b:c", false),
            ("a:**:c", "a:b:b:c", true),
            ("user-*:in", "user-7:in", true),
            ("ö*", "öffnung", true),
            ("**:x*y", "a:xzy:xy", true),
            ("a", "a", true),
            ("a", "ab", false),
        ] {
            assert_eq!(matches(pattern, topic), expected, "{pattern} {topic}");
        }
    }

    /// The rule as it is written, in exponential time.
    fn by_the_rule(pattern: &[u8], topic: &[u8]) -> bool {
        match pattern {
            [] => topic.is_empty(),
            [b'*', b'*', rest @ ..] => (0..=topic.len()).any(|taken| by_the_rule(rest, &topic[taken..])),
            [b'*', rest @ ..] => (0..=topic.len())
                .take_while(|taken| !topic[..*taken].contains(&b':'))
                .any(|taken| by_the_rule(rest, &topic[taken..])),
            [one, rest @ ..] => topic.first() == Some(one) && by_the_rule(rest, &topic[1..]),
        }
    }

    #[test]
    fn every_short_pattern_matches_as_the_rule_says() {
        fn texts(letters: &str, most: u32) -> Vec<String> {
            let mut all = vec![String::new()];
            for length in 1..=most {
                let shorter: Vec<_> =
                    all.iter().filter(|text| text.len() + 1 == length as usize).cloned().collect();
                all.extend(
                    shorter
                        .iter()
                        .flat_map(|text| letters.chars().map(move |letter| format!("{text}{letter}"))),
                );
            }
            all
        }
        let topics = texts("ab:", 5);
        for pattern in texts("ab:*", 5) {
            for topic in &topics {
                let expected = by_the_rule(pattern.as_bytes(), topic.as_bytes());
                assert_eq!(matches(&pattern, topic), expected, "{pattern} {topic}");
            }
        }
    }
}
