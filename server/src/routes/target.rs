//! Parses the function in a path, and queries.

use crate::error::ApiError;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query};
use orama_platform::registry::Which;
use orama_runtime::names::FunctionName;
use serde::Deserialize;
use utoipa::IntoParams;

/// `name`, `name@version` or `name@alias`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) name: FunctionName,
    pub(crate) which: Which,
}

impl Target {
    /// # Errors
    /// 400 for an invalid name or version.
    pub(crate) fn parse(text: &str) -> Result<Self, ApiError> {
        let (name, which) = match text.split_once('@') {
            None => (text, Which::Live),
            Some((name, which)) => {
                let which = Which::parse(which);
                (name, which.map_err(|message| ApiError::bad_request("INVALID_VERSION", message))?)
            }
        };
        Ok(Self { name: FunctionName::new(name)?, which })
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
        match self.which {
            Which::Live => Ok(self.name),
            Which::Number(_) | Which::Alias(_) => Err(ApiError::bad_request(
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

/// The query of most routes.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct NamespaceQuery {
    /// The namespace to act in: the credential's own unless an operator names another one.
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
    use orama_runtime::names::AliasName;

    #[test]
    fn a_target_is_a_name_and_maybe_a_version() {
        let target =
            |text: &str| Target::parse(text).map(|t| (t.name.to_string(), t.which)).map_err(|e| e.code);
        assert_eq!(target("hello"), Ok(("hello".into(), Which::Live)));
        assert_eq!(target("hello@12"), Ok(("hello".into(), Which::Number(12))));
        assert_eq!(target("hello@4294967295").unwrap().1, Which::Number(u32::MAX));
        assert_eq!(target("hello@canary").unwrap().1, Which::Alias(AliasName::new("canary").unwrap()));
        for bad in ["hello@", "hello@0", "hello@+1", "hello@1@2", "hello@x.y", "hello@4294967296", "hello@-1"]
        {
            assert_eq!(target(bad), Err("INVALID_VERSION"), "{bad}");
        }
        assert_eq!(target("1hello"), Err("INVALID_NAME"));
        assert_eq!(target(""), Err("INVALID_NAME"));
    }
}
