//! The rules for names of topics.

use orama_runtime::limits::TOPIC_MAX_BYTES;

/// Why a topic was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "topic {given:?} is not valid: it must have 1 to {TOPIC_MAX_BYTES} bytes of UTF-8, no control characters, and no white space at its ends"
)]
pub struct InvalidTopic {
    given: String,
}

/// Checks a topic: 1 to [`TOPIC_MAX_BYTES`] bytes, no control characters, no white space at the ends. All other texts are
/// allowed and compared byte by byte; there are no wildcards.
///
/// # Errors
/// [`InvalidTopic`], which states the rule.
pub fn check_topic(topic: &str) -> Result<(), InvalidTopic> {
    let valid = (1..=TOPIC_MAX_BYTES).contains(&topic.len())
        && topic.trim().len() == topic.len()
        && !topic.chars().any(char::is_control);
    if valid { Ok(()) } else { Err(InvalidTopic { given: topic.chars().take(TOPIC_MAX_BYTES).collect() }) }
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
        ] {
            assert!(check_topic(bad).is_err(), "{bad:?}");
        }
        let message = check_topic("a\nb").unwrap_err().to_string();
        assert!(message.contains("\"a\\nb\"") && message.contains("256"), "{message}");
    }
}
