//! `orama pubsub publish`: publishes a message from the shell.

use super::input::{self, STANDARD_INPUT};
use crate::client::Client;
use crate::error::{CliError, Result};
use crate::output;
use jiff::Timestamp;
use orama_runtime::limits::EVENT_MAX_BYTES;
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::{json, value::RawValue};
use std::time::Duration;

#[derive(Deserialize)]
struct Published {
    message_id: String,
    deliver_at: Option<String>,
}

/// Runs the command.
pub fn publish(client: &Client, topic: &str, data: String, when: &When, json: bool) -> Result<()> {
    let data = read(data)?;
    let when = match (when.delay, when.at) {
        (Some(delay), _) => format!(",\"delay_ms\":{}", delay.as_millis()),
        (None, Some(at)) => format!(",\"deliver_at\":\"{at}\""),
        (None, None) => String::new(),
    };
    // Not parsed and written again: numbers keep their digits and objects the order of their keys.
    let body = format!("{{\"topic\":{},\"data\":{}{when}}}", json!(topic), message(&data)?.get());
    let request = client.request(Method::POST, &["pubsub", "publish"]);
    let answer = client.send(request.header(CONTENT_TYPE, "application/json").body(body))?;
    if json {
        return output::line(&answer.line()?);
    }
    let Published { message_id, deliver_at } = answer.json()?;
    let (id, topic) = (output::one_line(&message_id), output::one_line(topic));
    output::line(&match deliver_at {
        None => format!("published message {id} to {topic}"),
        Some(at) => format!("message {id} to {topic} waits until {}", output::one_line(&at)),
    })
}

/// When a message is published; at once without either.
pub struct When {
    /// After this time.
    pub delay: Option<Duration>,
    /// At this time.
    pub at: Option<Timestamp>,
}

/// The text of a message that was given, or that stands on standard input.
pub fn read(data: String) -> Result<Vec<u8>> {
    if data == STANDARD_INPUT { input::standard_input(EVENT_MAX_BYTES) } else { Ok(data.into_bytes()) }
}

/// The JSON in the text of a message.
pub fn message(data: &[u8]) -> Result<&RawValue> {
    if data.len() > EVENT_MAX_BYTES {
        return Err(CliError::failed(format!(
            "the message is larger than {EVENT_MAX_BYTES} bytes, the most that a message may have"
        )));
    }
    serde_json::from_slice(data).map_err(|error| {
        CliError::usage("the message is not JSON")
            .caused_by(error)
            .hint("put text in JSON quotes: orama pubsub publish <topic> '\"hello\"'")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_json_value_is_a_message_as_it_was_written() {
        for data in ["{\"b\": 1.0, \"a\": 12345678901234567890123}", "[]", "null", "-5", "\"text\""] {
            assert_eq!(message(data.as_bytes()).unwrap().get(), data);
        }
    }

    #[test]
    fn an_error_names_the_place_that_is_not_json() {
        for (data, place) in [
            ("{\"a\":\n  b}", "line 2 column 3"),
            ("hello", "line 1 column 1"),
            ("", "EOF"),
            ("{} {}", "trailing"),
        ] {
            let error = message(data.as_bytes()).unwrap_err().described();
            assert!(error.contains(place), "{data:?}: {error}");
        }
        assert!(message(b"\"\xff\"").is_err());
        assert!(message(&vec![b'1'; EVENT_MAX_BYTES + 1]).unwrap_err().to_string().contains("larger"));
    }
}
