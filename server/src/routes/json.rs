//! Parses JSON bodies.

use crate::error::ApiError;
use serde::Deserialize;
use serde_json::error::Category;
use serde_json::value::RawValue;

/// Parses a request's body, whatever its content type is. Errors name a field and never a value, which may be a secret.
///
/// # Errors
/// 400 with the reason.
pub(super) fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| {
        let message = match error.classify() {
            Category::Data => field_problem(&error.to_string()),
            Category::Eof if body.is_empty() => "the request needs a body in JSON".to_owned(),
            _ => format!("the request's body is not JSON: line {}, column {}", error.line(), error.column()),
        };
        ApiError::bad_request("INVALID_BODY", message)
    })
}

/// The string in a field of any type, so that the error can name the field.
///
/// # Errors
/// 400 with the name of the field.
pub(super) fn text(field: &str, raw: &RawValue) -> Result<String, ApiError> {
    serde_json::from_str(raw.get()).map_err(|_| {
        ApiError::bad_request("INVALID_BODY", format!("the body's field `{field}` must be a string"))
    })
}

/// serde's message, as far as it names only fields.
fn field_problem(message: &str) -> String {
    let told = message.rsplit_once(" at line ").map_or(message, |(told, _)| told);
    let names_fields = ["missing field ", "unknown field ", "duplicate field "];
    if names_fields.iter().any(|beginning| told.starts_with(beginning)) {
        return format!("the request's body: {told}");
    }
    // As in "invalid type: string \"...\", expected u32": the part after the last "expected" is serde's own.
    match told.rsplit_once(", expected ").map(|(_, expected)| expected) {
        Some(expected) if !expected.starts_with("struct") => {
            format!("the request's body has a value of the wrong type; expected {expected}")
        }
        _ => {
            "the request's body must be a JSON object with the fields that the documentation names".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        name: String,
        value: Option<u32>,
    }

    #[test]
    fn a_body_is_taken_or_its_mistake_told_without_its_values() {
        let body: Body = parse(b" {\"name\": \"n\", \"value\": 3}\n").unwrap();
        assert_eq!((body.name.as_str(), body.value), ("n", Some(3)));
        for (bad, word) in [
            ("", "needs a body"),
            ("{", "not JSON"),
            ("s3cret", "not JSON"),
            ("\"s3cret\"", "a JSON object"),
            ("{\"value\":1}", "missing field `name`"),
            ("{\"name\":\"n\",\"nam\":\"s3cret\"}", "unknown field `nam`"),
            ("{\"name\":\"n\",\"name\":\"s3cret\"}", "duplicate field `name`"),
            ("{\"name\":\"n\",\"value\":\"s3cret\"}", "expected u32"),
            ("{\"name\":\"n\",\"value\":\"s3cret, expected s3cret\"}", "expected"),
            ("{\"name\":\"n\"} s3cret", "not JSON"),
        ] {
            let error = parse::<Body>(bad.as_bytes()).unwrap_err();
            assert_eq!((error.status.as_u16(), error.code), (400, "INVALID_BODY"), "{bad}");
            assert!(error.message.contains(word), "{bad}: {}", error.message);
            assert!(!error.message.contains("s3cret"), "{bad}: {}", error.message);
        }
    }
}
