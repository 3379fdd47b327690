//! Which requests a core answers itself.

use http::Method;
use std::borrow::Cow;

/// Where a request goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route<'a> {
    /// Invoke a function.
    Invoke {
        /// The namespace, where the path names one.
        namespace: Option<&'a str>,
        /// `name` or `name@version`.
        name: Cow<'a, str>,
    },
    /// Serve a function as a web service, whatever the method.
    Web {
        namespace: &'a str,
        /// `name` or `name@version`.
        name: Cow<'a, str>,
        /// Where the function's part of the path begins: with a slash, or at the end.
        rest_at: usize,
    },
    /// Open a WebSocket, each of whose messages invokes a function: `name` or `name@version`.
    WebSocket(Cow<'a, str>),
    /// Liveness.
    Health,
    /// Everything else: the control plane.
    Control,
}

/// Finds the route of a request.
pub(super) fn route<'a>(method: &Method, path: &'a str) -> Route<'a> {
    let invoke = |namespace, name: &'a str| match method {
        &Method::POST => Route::Invoke { namespace, name: decode(name) },
        _ => Route::Control,
    };
    if path == "/health" {
        return if method == Method::GET || method == Method::HEAD { Route::Health } else { Route::Control };
    }
    if let Some((name, last)) = path.strip_prefix("/v1/functions/").and_then(|rest| rest.split_once('/'))
        && !name.is_empty()
    {
        return match last {
            "invoke" => invoke(None, name),
            "ws" if method == Method::GET => Route::WebSocket(decode(name)),
            _ => Route::Control,
        };
    }
    if let Some((namespace, rest)) = path.strip_prefix("/fn/").and_then(|rest| rest.split_once('/')) {
        let name = rest.split('/').next().unwrap_or_default();
        if !namespace.is_empty() && !name.is_empty() {
            let rest_at = path.len() - (rest.len() - name.len());
            return Route::Web { namespace, name: decode(name), rest_at };
        }
    }
    if let Some((namespace, name)) = path.strip_prefix("/v1/invoke/").and_then(|rest| rest.split_once('/'))
        && is_segment(namespace)
        && is_segment(name)
    {
        return invoke(Some(namespace), name);
    }
    Route::Control
}

fn is_segment(text: &str) -> bool {
    !text.is_empty() && !text.contains('/')
}

/// Undoes percent encoding, as some clients write `%40` for the `@` before a version. What is not UTF-8 then becomes a
/// character that no name has.
fn decode(segment: &str) -> Cow<'_, str> {
    percent_encoding::percent_decode_str(segment).decode_utf8_lossy()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invoke<'a>(namespace: Option<&'a str>, name: &'a str) -> Route<'a> {
        Route::Invoke { namespace, name: Cow::Borrowed(name) }
    }

    #[test]
    fn a_web_path_is_its_functions_from_behind_the_name() {
        for (path, name, rest) in [
            ("/fn/shop/hello", "hello", ""),
            ("/fn/shop/hello/", "hello", "/"),
            ("/fn/shop/hello@2/a/b", "hello@2", "/a/b"),
            ("/fn/shop/hello%402//a%2Fb/", "hello@2", "//a%2Fb/"),
        ] {
            for method in [Method::GET, Method::POST, Method::HEAD, Method::OPTIONS] {
                let Route::Web { namespace: "shop", name: found, rest_at } = route(&method, path) else {
                    panic!("{path}");
                };
                assert_eq!((&*found, &path[rest_at..]), (name, rest), "{path}");
            }
        }
        for path in
            ["/fn", "/fn/", "/fn/shop", "/fn/shop/", "/fn//hello", "/fnx/shop/hello", "/fn/shop//hello"]
        {
            assert_eq!(route(&Method::GET, path), Route::Control, "{path}");
        }
    }

    #[test]
    fn both_invoke_paths_are_the_cores() {
        for (path, expected) in [
            ("/v1/functions/hello/invoke", invoke(None, "hello")),
            ("/v1/functions/hello@2/invoke", invoke(None, "hello@2")),
            ("/v1/functions/hello%402/invoke", invoke(None, "hello@2")),
            ("/v1/invoke/shop/hello", invoke(Some("shop"), "hello")),
            ("/v1/invoke/shop/hello@7", invoke(Some("shop"), "hello@7")),
            ("/v1/functions//invoke", Route::Control),
            ("/v1/functions/a/b/invoke", Route::Control),
            ("/v1/functions/hello", Route::Control),
            ("/v1/functions", Route::Control),
            ("/v1/invoke/shop", Route::Control),
            ("/v1/invoke/shop/a/b", Route::Control),
            ("/v1/functions/%ff/invoke", invoke(None, "\u{fffd}")),
        ] {
            assert_eq!(route(&Method::POST, path), expected, "{path}");
        }
        assert_eq!(route(&Method::GET, "/v1/functions/hello/invoke"), Route::Control);
        let socket = |name| Route::WebSocket(Cow::Borrowed(name));
        assert_eq!(route(&Method::GET, "/v1/functions/hello/ws"), socket("hello"));
        assert_eq!(route(&Method::GET, "/v1/functions/hello%402/ws"), socket("hello@2"));
        assert_eq!(route(&Method::POST, "/v1/functions/hello/ws"), Route::Control);
        assert_eq!(route(&Method::GET, "/v1/functions/a/b/ws"), Route::Control);
        assert_eq!(route(&Method::GET, "/v1/functions//ws"), Route::Control);
        assert_eq!(route(&Method::GET, "/health"), Route::Health);
        assert_eq!(route(&Method::POST, "/health"), Route::Control);
    }
}
