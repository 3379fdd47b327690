//! HTTP headers as guests pass them: a JSON object.

use super::json;
use crate::services::{ErrorCode, ServiceError};
use crate::trap::printable;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// Names and values of an object whose values are strings or arrays of strings. An empty text means no headers. So does
/// `null`, which Go writes for a nil map.
///
/// # Errors
/// When it is not such an object, or has more than `max` values or `max_bytes` of names and values.
pub(super) fn fields(
    text: &str,
    max: usize,
    max_bytes: usize,
) -> Result<Vec<(String, String)>, ServiceError> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let given: Option<BTreeMap<String, &RawValue>> = serde_json::from_str(text)
        .map_err(|error| json::refused("the headers are not a JSON object of strings", &error))?;
    let mut fields = Vec::new();
    let mut bytes = 0;
    for (name, value) in given.into_iter().flatten() {
        let values: Vec<String> = match value.get().as_bytes().first() {
            Some(b'[') => serde_json::from_str(value.get()),
            _ => serde_json::from_str(value.get()).map(|value| vec![value]),
        }
        .map_err(|_| {
            let why = format!("the header {} is neither a string nor an array of strings", printable(&name));
            ServiceError::invalid(why)
        })?;
        for value in values {
            bytes += name.len() + value.len();
            fields.push((name.clone(), value));
        }
    }
    let too_large = |what: &str, limit: usize| {
        Err(ServiceError::new(ErrorCode::PayloadTooLarge, format!("{what}, more than the limit of {limit}")))
    };
    if fields.len() > max {
        return too_large(&format!("there are {} headers", fields.len()), max);
    }
    if bytes > max_bytes {
        return too_large(&format!("the headers have {bytes} bytes"), max_bytes);
    }
    Ok(fields)
}
