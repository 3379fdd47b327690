//! What one message of a WebSocket does, and the text that answers it.

use super::super::answer::{Text, refusal, room_for};
use super::super::core::Core;
use super::super::handshake::Opening;
use super::super::invoke::{Caller, permitted};
use super::super::run::{Asker, Cause, run_with_retries};
use super::super::running::Running;
use super::super::spread::spread;
use crate::error::ApiError;
use crate::limits::ENCODED_ON_CORE_MAX_BYTES;
use crate::shares::Permit;
use bytes::Bytes;
use http::StatusCode;
use orama_runtime::invocation::{Outcome, Status};
use serde::Serialize;
use serde_json::value::RawValue;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The answer to a message.
pub(super) struct Reply {
    pub(super) text: String,
    /// Its share of what clients have not taken yet; none for a short one.
    pub(super) permit: Option<Permit>,
    /// Nothing that follows would be answered otherwise.
    pub(super) is_last: bool,
}

#[derive(Serialize)]
struct Body<'a> {
    request_id: &'a str,
    status: &'static str,
    duration_ms: f64,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    output: Option<Output<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retryable: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u32>,
}

/// JSON as it is where an HTTP answer would have it so, else a text.
#[derive(Serialize)]
#[serde(untagged)]
enum Output<'a> {
    Json { output: &'a RawValue },
    Text(Text<'a>),
}

impl<'a> Output<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        match serde_json::from_slice(bytes) {
            Ok(output) => Self::Json { output },
            Err(_) => Self::Text(Text::of(bytes)),
        }
    }
}

/// Invokes the function with a message. Whether that is allowed is looked up anew, as for a request.
pub(super) async fn reply(core: Rc<Core>, opening: Rc<Opening>, message: Bytes) -> Reply {
    let begun = Instant::now();
    core.counters.websocket_message();
    let request_id = match core.request_id() {
        Ok(id) => id,
        Err(error) => return refused(&error, "", begun.elapsed()),
    };
    let ended = match invoke(&core, &opening, message, &request_id).await {
        Ok(ended) => ended,
        Err(error) => return refused(&error, &request_id, begun.elapsed()),
    };
    match encode(&core, &opening, ended, &request_id).await {
        Ok(reply) => reply,
        Err(error) => refused(&error, &request_id, begun.elapsed()),
    }
}

/// The answer with its share, encoded where it holds up nobody.
async fn encode(
    core: &Core,
    opening: &Opening,
    (outcome, duration): (Outcome, Duration),
    request_id: &str,
) -> Result<Reply, ApiError> {
    let parties = opening.room.parties().clone();
    // Before it is encoded: those that wait for that hold their output.
    let error = refusal(&outcome, &parties);
    let mut permit = room_for(&core.shared.shares, outcome.output.len(), parties)?;
    let mut reply = if outcome.output.len() <= ENCODED_ON_CORE_MAX_BYTES {
        answered(&outcome, error.as_ref(), duration, request_id)
    } else {
        let request_id = request_id.to_owned();
        core.ask(move || answered(&outcome, error.as_ref(), duration, &request_id)).await?
    };
    if let Some(permit) = &mut permit {
        permit.set(reply.text.len())?;
    }
    reply.permit = permit;
    Ok(reply)
}

async fn invoke(
    core: &Rc<Core>,
    opening: &Opening,
    message: Bytes,
    request_id: &str,
) -> Result<(Outcome, Duration), ApiError> {
    let client = opening.client;
    let visitor = core.visitor(&opening.sent, client).await?;
    let address = core.admit(visitor.identity.as_ref(), client)?;
    let ready = permitted(core, &visitor, client, (&opening.namespace, &opening.name)).await?;
    let ready = spread(core, &visitor, client, ready, opening.seed).await?;
    let entered = Caller::new(core, &ready, visitor.identity, address, client).and_then(|caller| {
        let running = Running::enter(core, &ready, caller.address.as_ref())?;
        Ok((caller, running))
    });
    let (caller, running) = entered.inspect_err(|error| core.tally_refusal(&ready, error))?;
    let shown = caller.identity.as_ref().map(|identity| Arc::clone(&identity.credential.shown));
    let cause = Cause {
        trigger_type: "websocket",
        trigger_depth: 0,
        call_depth: 0,
        deadline: None,
        caller: caller.identity.and_then(|identity| identity.credential.caller.clone()),
        exchange: None,
        trace: None,
        asker: Asker { caller: shown, client: Some(client), request_id: None },
    };
    Ok(run_with_retries(running, message, request_id, &cause).await)
}

fn answered(outcome: &Outcome, error: Option<&ApiError>, duration: Duration, request_id: &str) -> Reply {
    text(&Body {
        request_id,
        status: outcome.status().as_str(),
        duration_ms: milliseconds(duration),
        output: error.is_none().then(|| Output::of(&outcome.output)),
        error: error.map(|error| error.message.as_str()),
        code: error.map(|error| error.code),
        retryable: error.map(ApiError::is_retryable),
        retry_after: error.and_then(|error| error.retry_after_s),
    })
}

fn refused(error: &ApiError, request_id: &str, duration: Duration) -> Reply {
    error.log(request_id);
    let reply = text(&Body {
        request_id,
        status: Status::Error.as_str(),
        duration_ms: milliseconds(duration),
        output: None,
        error: Some(&error.message),
        code: Some(error.code),
        retryable: Some(error.is_retryable()),
        retry_after: error.retry_after_s,
    });
    Reply { is_last: error.status == StatusCode::UNAUTHORIZED, ..reply }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

fn text(body: &Body<'_>) -> Reply {
    // Texts, numbers and JSON that was read always serialise; an empty message would be the honest rest.
    Reply { text: serde_json::to_string(body).unwrap_or_default(), permit: None, is_last: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use orama_platform::registry::Which;
    use orama_runtime::invocation::Failure;
    use serde_json::{Value, json};

    fn outcome(output: &[u8], result: Result<(), Failure>) -> Outcome {
        Outcome {
            output: output.to_vec(),
            result,
            messages: Vec::new(),
            panic: Some("panic: x".to_owned()),
            phases: Default::default(),
            memory_bytes: 0,
            spans: None,
        }
    }

    fn told(outcome: &Outcome, duration: Duration, request_id: &str) -> Reply {
        answered(outcome, refusal(outcome, &[None, None]).as_ref(), duration, request_id)
    }

    fn output(bytes: &[u8]) -> Value {
        let reply = told(&outcome(bytes, Ok(())), Duration::from_micros(1500), "r-1");
        let json: Value = serde_json::from_str(&reply.text).unwrap();
        assert_eq!(
            (&json["request_id"], &json["status"], &json["duration_ms"]),
            (&json!("r-1"), &json!("success"), &json!(1.5))
        );
        assert_eq!(json.as_object().unwrap().len(), 4, "{json}");
        json["output"].clone()
    }

    #[test]
    fn json_stays_json_and_anything_else_is_a_text() {
        assert_eq!(output(b"{\"a\": [1, \"\xc3\xa4\"]}\n"), json!({ "a": [1, "ä"] }));
        assert_eq!(output(b"[]"), json!([]));
        for value in ["\"quoted\"", "12", "null", " {}\n", "-0.5"] {
            assert_eq!(output(value.as_bytes()), serde_json::from_str::<Value>(value).unwrap());
        }
        for text in ["", "plain", "{", "{\"a\":1} {\"b\":2}", "[1,]", "line\nbreak\0"] {
            assert_eq!(output(text.as_bytes()), json!(text));
        }
        let reply = told(&outcome(b"{\"a\": \"\xff\"}", Ok(())), Duration::ZERO, "");
        let reply: Value = serde_json::from_str(&reply.text).unwrap();
        assert_eq!((reply.get("output"), &reply["output_base64"]), (None, &json!("eyJhIjogIv8ifQ==")));
        // Numbers keep their digits, and no depth is too deep to be told.
        let reply = told(&outcome(b"[12345678901234567890123]", Ok(())), Duration::ZERO, "");
        assert!(reply.text.contains("[12345678901234567890123]"), "{}", reply.text);
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        let reply = told(&outcome(deep.as_bytes(), Ok(())), Duration::ZERO, "");
        assert!(reply.text.contains(&deep));
    }

    #[test]
    fn a_failure_has_words_and_a_code_and_no_output() {
        let failed = outcome(b"half", Err(Failure::Timeout(3)));
        let reply = told(&failed, Duration::ZERO, "r-2");
        let json: Value = serde_json::from_str(&reply.text).unwrap();
        assert_eq!((&json["status"], &json["code"]), (&json!("timeout"), &json!("TIMEOUT")));
        assert!(json["error"].as_str().unwrap().contains("3 s") && json.get("output").is_none(), "{json}");
        assert!(!reply.is_last);
        for (error, is_last) in [
            (ApiError::unauthorized("no"), true),
            (ApiError::forbidden("no"), false),
            (ApiError::overloaded("no"), false),
            (ApiError::function_not_found("f", &Which::Live), false),
        ] {
            let reply = refused(&error, "r-3", Duration::ZERO);
            let json: Value = serde_json::from_str(&reply.text).unwrap();
            assert_eq!((&json["status"], &json["code"]), (&json!("error"), &json!(error.code)));
            assert_eq!(reply.is_last, is_last, "{error}");
        }
    }
}
