//! The queries of requests that a core answers itself.

use crate::error::ApiError;
use percent_encoding::percent_decode_str;
use std::borrow::Cow;

/// Characters of a parameter's name that an error repeats.
const NAME_SHOWN: usize = 64;

/// The namespace that a request names: in its path, or with the parameter `namespace`. `others` are further parameters that the
/// path takes.
///
/// # Errors
/// 400 for any other parameter, and where two names of a namespace differ.
pub(super) fn namespace<'a>(
    in_path: Option<&'a str>,
    query: Option<&'a str>,
    others: &[&str],
) -> Result<Option<Cow<'a, str>>, ApiError> {
    let mut named = in_path.map(Cow::Borrowed);
    let Some(query) = query else { return Ok(named) };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = percent_decode_str(name).decode_utf8_lossy();
        if name == "namespace" {
            let value = percent_decode_str(value).decode_utf8_lossy();
            if named.as_ref().is_some_and(|named| *named != value) {
                return Err(ApiError::bad_request(
                    "INVALID_QUERY",
                    match in_path {
                        Some(_) => {
                            "`namespace` in the query differs from the namespace in the path; leave it out"
                        }
                        None => "the query has several different values of `namespace`; send one",
                    },
                ));
            }
            named = Some(value);
        } else if !others.contains(&&*name) {
            let known: String = others.iter().flat_map(|other| [", `", other, "`"]).collect();
            let shown: String = name.chars().take(NAME_SHOWN).collect();
            return Err(ApiError::bad_request(
                "INVALID_QUERY",
                format!("unknown query parameter {shown:?}; this path takes `namespace`{known}"),
            ));
        }
    }
    Ok(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_the_namespace_and_nothing_else() {
        let read = |path, query| namespace(path, Some(query), &["token"]).map_err(|error| error.message);
        let shop = || Ok(Some(Cow::Borrowed("shop")));
        assert_eq!(namespace(None, None, &[]).unwrap(), None);
        assert_eq!(namespace(Some("shop"), None, &[]).unwrap(), Some("shop".into()));
        assert_eq!(read(None, ""), Ok(None));
        assert_eq!(read(None, "&token=x&"), Ok(None));
        for query in ["namespace=shop", "namespace=s%68op&token=x", "n%61mespace=shop&namespace=shop"] {
            assert_eq!(read(None, query), shop(), "{query}");
            assert_eq!(read(Some("shop"), query), shop(), "{query}");
        }
        assert!(read(Some("blog"), "namespace=shop").unwrap_err().contains("in the path"));
        assert!(read(None, "namespace=shop&namespace=blog").unwrap_err().contains("several"));
        for (query, name) in [("colour=red", "\"colour\""), ("token=1&x", "\"x\""), ("=1", "\"\"")] {
            let message = read(None, query).unwrap_err();
            assert!(message.contains(name) && message.contains("`namespace`, `token`"), "{message}");
        }
        let long = "x".repeat(60_000);
        assert!(read(None, &long).unwrap_err().len() < 200);
        // What is no name of a namespace is refused where it is used.
        assert_eq!(read(None, "namespace=%ff"), Ok(Some("\u{fffd}".into())));
    }
}
