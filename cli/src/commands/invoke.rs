//! `orama function invoke`: sends an input and prints the output.

use super::input;
use crate::args::Target;
use crate::client::{Answer, Client, INVOKE_TIMEOUT};
use crate::error::{CliError, Result};
use crate::output;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use orama_runtime::limits::MAX_BODY_MB;
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::{json, value::RawValue};
use std::io::{IsTerminal, stdin};
use std::path::Path;

/// Largest input, in bytes: what a function can allow with `max_body`. The node knows what it does allow.
const SENT_MAX_BYTES: usize = (MAX_BODY_MB.max as usize) << 20;

/// The object in which the node wraps output that is not one JSON value.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wrapped {
    request_id: String,
    output: Option<String>,
    output_base64: Option<String>,
    #[serde(rename = "status")]
    _status: String,
    #[serde(rename = "duration_ms")]
    _duration_ms: serde_json::Number,
}

/// Runs the command.
pub fn run(client: &Client, function: &Target, data: Option<&str>, include: bool, json: bool) -> Result<()> {
    let answer = call(client, function, input(data)?)?;
    if include {
        // Not on standard output, where every byte is the function's.
        output::note(&head(&answer));
    }
    let body = unwrapped(&answer);
    if json {
        return output::line(&describe(&answer, &body));
    }
    output::raw(&body)?;
    // On a terminal the prompt belongs on a new line. In a file or pipe every byte is the function's.
    if std::io::stdout().is_terminal() && !body.ends_with(b"\n") {
        output::line("")?;
    }
    Ok(())
}

/// Invokes a function.
pub fn call(client: &Client, function: &Target, input: Vec<u8>) -> Result<Answer> {
    let name = function.to_string();
    let request = client
        .request(Method::POST, &["functions", &name, "invoke"])
        .timeout(INVOKE_TIMEOUT)
        .header(CONTENT_TYPE, "application/json")
        .body(input);
    client.send(request).map_err(|error| match error.exit() {
        crate::error::Exit::Failed => {
            error.hint(format!("see its log with `orama function logs {}`", function.name))
        }
        _ => client.explain_missing(error, function.name.as_str()),
    })
}

/// The status and the headers, with the request id and the duration among them.
fn head(answer: &Answer) -> String {
    let headers = answer.headers.iter().map(|(name, value)| format!("{name}: {}", output::one_line(value)));
    std::iter::once(format!("status: {}", answer.status)).chain(headers).collect::<Vec<_>>().join("\n") + "\n"
}

fn input(data: Option<&str>) -> Result<Vec<u8>> {
    let input = match data {
        Some(data) => match data.strip_prefix('@') {
            Some(path) => input::file(Path::new(path), SENT_MAX_BYTES)?,
            None => data.as_bytes().to_vec(),
        },
        // Without --data on a terminal the input is empty: nobody would know to type one.
        None if stdin().is_terminal() => Vec::new(),
        None => input::standard_input(SENT_MAX_BYTES)?,
    };
    if input.len() > SENT_MAX_BYTES {
        return Err(CliError::failed(format!(
            "the input is larger than {SENT_MAX_BYTES} bytes, the most that a function accepts"
        )));
    }
    Ok(input)
}

/// The function's output. An object with this request's id is the node's wrapping; any other is the function's own.
pub fn unwrapped(answer: &Answer) -> Vec<u8> {
    match serde_json::from_slice::<Wrapped>(&answer.body) {
        Ok(wrapped) if answer.request_id.as_deref() == Some(wrapped.request_id.as_str()) => wrapped.bytes(),
        _ => None,
    }
    .unwrap_or_else(|| answer.body.clone())
}

impl Wrapped {
    /// The bytes that the function wrote; `None` for an object that the node does not make.
    fn bytes(self) -> Option<Vec<u8>> {
        match (self.output, self.output_base64) {
            (Some(text), None) => Some(text.into_bytes()),
            (None, Some(base64)) => STANDARD.decode(base64).ok(),
            _ => None,
        }
    }
}

fn describe(answer: &Answer, body: &[u8]) -> String {
    let duration_ms: Option<f64> = answer.duration_ms.as_ref().and_then(|ms| ms.parse().ok());
    // JSON output stays as the function wrote it. Any other becomes a string.
    let raw: Option<&RawValue> = serde_json::from_slice(body).ok();
    let output = match (raw, std::str::from_utf8(body)) {
        (Some(raw), _) => format!("\"output\":{}", raw.get()),
        (None, Ok(text)) => format!("\"output\":{}", json!(text)),
        (None, Err(_)) => format!("\"output_base64\":{}", json!(STANDARD.encode(body))),
    };
    format!(
        "{{\"request_id\":{},\"status\":\"success\",\"duration_ms\":{},{output}}}",
        json!(answer.request_id),
        json!(duration_ms)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: &str) -> Answer {
        Answer {
            status: 200,
            request_id: Some("r-1".into()),
            duration_ms: Some("1.25".into()),
            headers: vec![("content-type".into(), "text/plain".into())],
            body: body.into(),
        }
    }

    #[test]
    fn the_nodes_wrapping_is_taken_off_and_the_functions_own_objects_stay() {
        let wrapped = r#"{"request_id":"r-1","output":"plain\n","status":"success","duration_ms":1.25}"#;
        assert_eq!(unwrapped(&answer(wrapped)), b"plain\n");
        let bytes = r#"{"request_id":"r-1","output_base64":"/wB6","status":"success","duration_ms":1.25}"#;
        assert_eq!(unwrapped(&answer(bytes)), b"\xff\0z");
        for own in [
            r#"{"request_id":"other","output":"x","status":"success","duration_ms":1}"#,
            r#"{"request_id":"r-1","output":"x","status":"success","duration_ms":1,"more":0}"#,
            r#"{"request_id":"r-1","output_base64":"?","status":"success","duration_ms":1}"#,
            r#"{"request_id":"r-1","status":"success","duration_ms":1}"#,
            r#"{"output":"x"}"#,
            "[1]",
        ] {
            assert_eq!(unwrapped(&answer(own)), own.as_bytes());
        }
    }

    #[test]
    fn the_head_has_the_status_and_each_header() {
        assert_eq!(head(&answer("")), "status: 200\ncontent-type: text/plain\n");
    }

    #[test]
    fn described_output_is_json_where_it_was_json() {
        let shown = |body: &str| describe(&answer(""), body.as_bytes());
        assert_eq!(
            shown("{\"b\": 1.0,\"a\":2}"),
            r#"{"request_id":"r-1","status":"success","duration_ms":1.25,"output":{"b": 1.0,"a":2}}"#
        );
        assert!(shown("not json").ends_with(r#""output":"not json"}"#));
        assert!(describe(&answer(""), b"\xff\0z").ends_with(r#""output_base64":"/wB6"}"#));
    }

    #[test]
    fn input_comes_from_the_argument_or_a_file() {
        assert_eq!(input(Some("{\"a\":1}")).unwrap(), b"{\"a\":1}");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "from file").unwrap();
        assert_eq!(input(Some(&format!("@{}", file.path().display()))).unwrap(), b"from file");
        assert!(input(Some("@/nonexistent")).unwrap_err().described().contains("/nonexistent"));
        assert!(input(Some(&"x".repeat(SENT_MAX_BYTES + 1))).is_err());
    }
}
