//! Parses the function in a path, and queries.

use crate::error::ApiError;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query};
use orama_runtime::names::FunctionName;
use serde::Deserialize;

/// `name` or `name@version`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) name: FunctionName,
    pub(crate) version: Option<u32>,
}

impl Target {
    /// # Errors
    /// 400 for an invalid name or version.
    pub(crate) fn parse(text: &str) -> Result<Self, ApiError> {
        let (name, version) = match text.split_once('@') {
            None => (text, None),
            Some((name, version)) => (name, Some(parse_version(version)?)),
        };
        Ok(Self { name: FunctionName::new(name)?, version })
    }

    /// # Errors
    /// As [`Self::parse`], and 400 for a path that is not UTF-8.
    pub(super) fn from_path(path: PathName) -> Result<Self, ApiError> {
        Self::parse(&path_text(path)?)
    }

    /// The name, for paths that take no version.
    ///
    /// # Errors
    /// 400 if there is a version.
    pub(super) fn without_version(self) -> Result<FunctionName, ApiError> {
        match self.version {
            None => Ok(self.name),
            Some(_) => Err(ApiError::bad_request(
                "INVALID_NAME",
                "this path takes a function's name without a version",
            )),
        }
    }
}

/// The name or id in a path.
pub(super) type PathName = Result<Path<String>, PathRejection>;

/// # Errors
/// 400 for a path that is not UTF-8.
pub(super) fn path_text(path: PathName) -> Result<String, ApiError> {
    path.map(|Path(text)| text).map_err(|e| ApiError::bad_request("INVALID_NAME", e.body_text()))
}

fn parse_version(text: &str) -> Result<u32, ApiError> {
    // `parse` alone would accept "+1".
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let number = text.parse().ok().filter(|n| digits && *n > 0);
    number.ok_or_else(|| {
        ApiError::bad_request("INVALID_VERSION", "the text after the @ must be a version number from 1 on")
    })
}

/// The query of most routes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NamespaceQuery {
    pub(super) namespace: Option<String>,
}

/// Checks a query. An unknown parameter is an error, because ignoring it would answer another question than the client's.
///
/// # Errors
/// 400 with the name of the parameter.
pub(super) fn query<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, ApiError> {
    query.map(|Query(query)| query).map_err(|e| ApiError::bad_request("INVALID_QUERY", e.body_text()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_name_and_maybe_a_version() {
        let target =
            |text: &str| Target::parse(text).map(|t| (t.name.to_string(), t.version)).map_err(|e| e.code);
        assert_eq!(target("hello"), Ok(("hello".into(), None)));
        assert_eq!(target("hello@12"), Ok(("hello".into(), Some(12))));
        assert_eq!(target("hello@4294967295").unwrap().1, Some(u32::MAX));
        for bad in ["hello@", "hello@0", "hello@+1", "hello@1@2", "hello@x", "hello@4294967296", "hello@-1"] {
            assert_eq!(target(bad), Err("INVALID_VERSION"), "{bad}");
        }
        assert_eq!(target("1hello"), Err("INVALID_NAME"));
        assert_eq!(target(""), Err("INVALID_NAME"));
    }
}
