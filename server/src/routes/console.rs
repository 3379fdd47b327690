//! `GET /console` and the files of the page: the console, for those with a key. The files are open to everybody and hold nothing;
//! the page asks the API for all that it shows, with the key that its user typed.

use super::State;
use super::page::NoQuery;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use http::StatusCode;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue,
    IF_NONE_MATCH, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use std::future::ready;

/// What the page may do: its own files, requests to its own node, and no text as HTML or as a script.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

/// Pages of functions have the same origin. One that opens the console keeps no hold of it, whatever headers of its own it sends.
const OPENER_POLICY: &str = "noopener-allow-popups";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// A file that is served as it is.
#[derive(Clone, Copy)]
pub(super) struct Asset {
    pub(super) content_type: &'static str,
    pub(super) content: &'static str,
}

/// The table of paths, with the file of each.
macro_rules! assets {
    ($($path:literal: $content_type:ident = $file:literal,)*) => {
        [$(($path, Asset { content_type: $content_type, content: include_str!(concat!("../console/", $file)) }),)*]
    };
}

const ASSETS: [(&str, Asset); 17] = assets! {
    "/console": HTML = "index.html",
    "/console/style.css": CSS = "style.css",
    "/console/account.js": SCRIPT = "account.js",
    "/console/activity.js": SCRIPT = "activity.js",
    "/console/api.js": SCRIPT = "api.js",
    "/console/app.js": SCRIPT = "app.js",
    "/console/audit.js": SCRIPT = "audit.js",
    "/console/chart.js": SCRIPT = "chart.js",
    "/console/database.js": SCRIPT = "database.js",
    "/console/dom.js": SCRIPT = "dom.js",
    "/console/events.js": SCRIPT = "events.js",
    "/console/format.js": SCRIPT = "format.js",
    "/console/functions.js": SCRIPT = "functions.js",
    "/console/invoke.js": SCRIPT = "invoke.js",
    "/console/secrets.js": SCRIPT = "secrets.js",
    "/console/stats.js": SCRIPT = "stats.js",
    "/console/versions.js": SCRIPT = "versions.js",
};

/// The routes of the console's files.
pub(super) fn routes() -> impl Iterator<Item = (&'static str, MethodRouter<State>)> {
    ASSETS.into_iter().map(|(path, asset)| {
        let tag = tag(asset.content);
        (path, get(move |_: NoQuery, headers: HeaderMap| ready(answer(asset, &tag, &headers))))
    })
}

/// The entity tag of a file.
pub(super) fn tag(content: &str) -> String {
    format!("\"{}\"", &blake3::hash(content.as_bytes()).to_hex()[..32])
}

/// The file, or 304 where the client has it.
pub(super) fn answer(asset: Asset, tag: &str, asked: &HeaderMap) -> Response {
    let headers = [
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static(OPENER_POLICY)),
    ];
    let etag = [(ETAG, tag)];
    if is_known(asked, tag) {
        return (StatusCode::NOT_MODIFIED, headers, etag).into_response();
    }
    (headers, etag, [(CONTENT_TYPE, asset.content_type)], asset.content).into_response()
}

/// Whether one of the client's entity tags is this one, by the weak comparison of RFC 9110, 13.1.2.
fn is_known(asked: &HeaderMap, tag: &str) -> bool {
    let lists = asked.get_all(IF_NONE_MATCH).iter().filter_map(|list| list.to_str().ok());
    lists
        .flat_map(|list| list.split(','))
        .map(str::trim)
        .any(|known| known == "*" || known.trim_start_matches("W/") == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_folder_is_served() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/console");
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| format!("/console/{}", entry.unwrap().file_name().into_string().unwrap()))
            .map(|path| path.replace("/console/index.html", "/console"))
            .collect();
        files.sort();
        let mut served: Vec<_> = ASSETS.iter().map(|(path, _)| (*path).to_owned()).collect();
        served.sort();
        assert_eq!(files, served);
    }

    #[test]
    fn scripts_import_only_files_that_are_served_and_touch_no_html() {
        for (path, asset) in ASSETS.iter().filter(|(path, _)| path.ends_with(".js")) {
            for import in asset.content.lines().filter_map(|line| line.split_once("from \"")) {
                let name = import.1.trim_end_matches("\";").trim_start_matches("./");
                let served = format!("/console/{name}");
                assert!(ASSETS.iter().any(|(path, _)| *path == served), "{path} imports {name}");
            }
            let script = asset.content.replace("http://www.w3.org/2000/svg", "");
            for parser in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "://"] {
                assert!(!script.contains(parser), "{path} has {parser}");
            }
        }
    }

    #[test]
    fn a_client_that_has_a_file_is_told_so() {
        let (_, asset) = ASSETS[0];
        let asked = |tags: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(IF_NONE_MATCH, HeaderValue::from_static(tags));
            answer(asset, "\"abc\"", &headers).status()
        };
        for known in ["\"abc\"", "W/\"abc\"", "\"x\", \"abc\"", "*"] {
            assert_eq!(asked(known), StatusCode::NOT_MODIFIED, "{known}");
        }
        for other in ["\"x\"", "abc", ""] {
            assert_eq!(asked(other), StatusCode::OK, "{other}");
        }
    }
}
