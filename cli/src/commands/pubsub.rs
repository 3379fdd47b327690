//! `orama pubsub publish`: publishes a message from the shell.

use super::input::{self, STANDARD_INPUT};
use crate::client::Client;
use crate::error::{CliError, Result};
use crate::output;
use orama_runtime::limits::EVENT_MAX_BYTES;
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::{json, value::RawValue};

#[derive(Deserialize)]
struct Published {
    message_id: String,
}

/// Runs the command.
pub fn publish(client: &Client, topic: &str, data: String, json: bool) -> Result<()> {
    let data =
        if data == STANDARD_INPUT { input::standard_input(EVENT_MAX_BYTES)? } else { data.into_bytes() };
    let data = message(&data)?;
    // Not parsed and written again: numbers keep their digits and objects the order of their keys.
    let body = format!("{{\"topic\":{},\"data\":{}}}", json!(topic), data.get());
    let request = client.request(Method::POST, &["pubsub", "publish"]);
    let answer = client.send(request.header(CONTENT_TYPE, "application/json").body(body))?;
    if json {
        return output::line(&answer.line()?);
    }
    let id = answer.json::<Published>()?.message_id;
    output::line(&format!("published message {} to {}", output::one_line(&id), output::one_line(topic)))
}

fn message(data: &[u8]) -> Result<&RawValue> {
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
