//! Pages of lists: `?limit=` entries after the cursor `?after=`.

use super::openapi::list_limit;
use crate::error::ApiError;
use crate::limits::LIST_LIMIT;
use axum::extract::FromRequestParts;
use http::request::Parts;
use serde::Deserialize;
use utoipa::IntoParams;

/// The query of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    /// The namespace to act in: the credential's own unless an operator names another one.
    pub(super) namespace: Option<String>,
    /// How many entries to answer with.
    #[param(schema_with = list_limit)]
    limit: Option<String>,
    /// The `next` of the previous page.
    after: Option<String>,
}

/// The requested page of a list.
pub(super) struct Page {
    pub(super) limit: u32,
    /// The cursor of the previous entry; empty for the first page.
    pub(super) after: String,
}

impl PageQuery {
    /// Of a query with more parameters than these.
    pub(super) const fn new(limit: Option<String>, after: Option<String>) -> Self {
        Self { namespace: None, limit, after }
    }

    /// # Errors
    /// 400 for a limit that is not a number or is out of range.
    pub(super) fn page(self) -> Result<Page, ApiError> {
        let limit = match self.limit {
            None => Ok(LIST_LIMIT.default),
            Some(text) => text
                .parse()
                .map_err(|_| format!("limit must be a whole number, got {text:?}"))
                .and_then(|limit| LIST_LIMIT.check(limit)),
        };
        let limit = limit.map_err(|why| ApiError::bad_request("INVALID_QUERY", why))?;
        Ok(Page { limit, after: self.after.unwrap_or_default() })
    }
}

impl Page {
    /// How many entries to read: one more than requested, which tells whether there is another page.
    pub(super) const fn to_read(&self) -> u32 {
        self.limit + 1
    }

    /// Truncates entries that were read after `after` to the page. The second value is the cursor of the next page.
    pub(super) fn cut<T>(&self, mut read: Vec<T>, cursor: impl Fn(&T) -> String) -> (Vec<T>, Option<String>) {
        let has_more = read.len() > self.limit as usize;
        read.truncate(self.limit as usize);
        let next = if has_more { read.last().map(cursor) } else { None };
        (read, next)
    }

    /// Selects the page of a complete list, whose length is bounded.
    ///
    /// # Errors
    /// 400 if no entry has the cursor.
    pub(super) fn of_all<T>(
        &self,
        all: Vec<T>,
        cursor: impl Fn(&T) -> String,
    ) -> Result<(Vec<T>, Option<String>), ApiError> {
        let skipped = match self.after.as_str() {
            "" => 0,
            after => 1 + all.iter().position(|entry| cursor(entry) == after).ok_or_else(unknown_cursor)?,
        };
        Ok(self.cut(all.into_iter().skip(skipped).collect(), cursor))
    }
}

pub(super) fn unknown_cursor() -> ApiError {
    ApiError::bad_request("INVALID_QUERY", "`after` must be the `next` of the previous page")
}

/// Characters of a parameter's name that an error repeats.
const NAME_SHOWN: usize = 64;

/// Refuses a query where none is accepted, because the parameter would be ignored.
pub(super) struct NoQuery;

impl<S: Sync> FromRequestParts<S> for NoQuery {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        match parts.uri.query() {
            None | Some("") => Ok(Self),
            Some(query) => {
                let name = query.split(['=', '&']).next().unwrap_or_default();
                let shown: String = name.chars().take(NAME_SHOWN).collect();
                let message = format!("unknown query parameter {shown:?}; this path takes none");
                Err(ApiError::bad_request("INVALID_QUERY", message))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_tells_where_the_next_one_begins() {
        let page = |limit, after: &str| Page { limit, after: after.to_owned() };
        let all = || vec!["a", "b", "c"];
        let of = |limit, after| page(limit, after).of_all(all(), |s| (*s).to_owned()).unwrap();
        assert_eq!(of(2, ""), (vec!["a", "b"], Some("b".to_owned())));
        assert_eq!(of(2, "b"), (vec!["c"], None));
        assert_eq!(of(3, ""), (all(), None));
        assert_eq!(of(1, "c"), (vec![], None));
        assert!(page(1, "x").of_all(all(), |s| (*s).to_owned()).is_err());
    }
}
