//! The section `cors` of a manifest.

use super::yaml::{Kind, Node};
use super::{ManifestError, boolean, entries, limits, unknown_key, whole_number};
use orama_runtime::web::{Cors, CorsFields};

/// Reads the section; `None` where it is empty.
///
/// # Errors
/// An unknown key or a value that is not accepted, with its place.
pub(super) fn read(node: &Node) -> Result<Option<Cors>, ManifestError> {
    let entries = entries("cors", node)?;
    if entries.is_empty() {
        return Ok(None);
    }
    let mut fields = CorsFields::default();
    for entry in entries {
        let value = &entry.value;
        match entry.key.as_str() {
            "origins" => fields.origins = texts("cors.origins", value)?,
            "methods" => fields.methods = texts("cors.methods", value)?,
            "headers" => fields.headers = texts("cors.headers", value)?,
            "credentials" => fields.credentials = boolean("cors.credentials", value)?,
            "max_age" => fields.max_age = whole_number(&limits::CORS_MAX_AGE_SECONDS, value)?.into(),
            _ => {
                let known = "origins, methods, headers, credentials and max_age (under cors)";
                return Err(unknown_key(entry, known));
            }
        }
    }
    Cors::try_from(fields).map(Some).map_err(|error| ManifestError::new(node.at, error.to_string()))
}

fn texts(key: &str, node: &Node) -> Result<Vec<String>, ManifestError> {
    let wrong = |node: &Node| {
        ManifestError::new(node.at, format!("{key} must be a list of texts, found {}", node.describe()))
    };
    let Kind::List(items) = &node.kind else { return Err(wrong(node)) };
    let text = |item: &Node| match &item.kind {
        Kind::Scalar { text, .. } if !item.is_null() => Ok(text.clone()),
        _ => Err(wrong(item)),
    };
    items.iter().map(text).collect()
}
