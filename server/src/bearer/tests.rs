//! The headers that carry a credential.

use super::*;
use http::HeaderValue;

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    lines
        .iter()
        .map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_bytes(v.as_bytes()).unwrap()))
        .collect()
}

type Read = (Option<String>, Option<String>, bool);

/// The token, the key, and whether there was something else.
fn read(lines: &[(&'static str, &str)]) -> Result<Read, (u16, &'static str)> {
    let headers = headers(lines);
    let got = sent(&headers).map(|sent| sent.map(str::to_owned));
    got.map(|sent| (sent.token, sent.key, sent.foreign.is_some())).map_err(|e| (e.status.as_u16(), e.code))
}

fn of(token: &str, key: &str) -> Result<Read, (u16, &'static str)> {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Ok((some(token), some(key), false))
}

const FOREIGN: Result<Read, (u16, &'static str)> = Ok((None, None, true));

#[test]
fn a_credential_comes_from_either_header_and_a_token_and_a_key_from_both() {
    assert_eq!(read(&[]), of("", ""));
    assert_eq!(read(&[("authorization", "Bearer orama_a")]), of("", "orama_a"));
    assert_eq!(read(&[("authorization", "bEARER   abc.d-e_f.x==")]), of("abc.d-e_f.x==", ""));
    assert_eq!(read(&[("x-api-key", " orama_a ")]), of("", "orama_a"));
    assert_eq!(read(&[("x-api-key", "a.b.c")]), of("a.b.c", ""));
    assert_eq!(read(&[("x-api-key", "orama_a"), ("authorization", "Bearer orama_a")]), of("", "orama_a"));
    assert_eq!(read(&[("x-api-key", "orama_a"), ("authorization", "Bearer a.b.c")]), of("a.b.c", "orama_a"));
    assert_eq!(read(&[("x-api-key", "a.b.c"), ("authorization", "Bearer orama_a")]), of("a.b.c", "orama_a"));
}

#[test]
fn contradicting_headers_are_malformed() {
    let conflict = Err((400, "CONFLICTING_CREDENTIALS"));
    assert_eq!(read(&[("x-api-key", "orama_a"), ("authorization", "Bearer orama_b")]), conflict);
    assert_eq!(read(&[("x-api-key", "a.b.c"), ("authorization", "Bearer a.b.d")]), conflict);
    let mut twice = headers(&[("authorization", "Bearer abc")]);
    twice.append("authorization", HeaderValue::from_static("Bearer xyz"));
    assert_eq!(sent(&twice).unwrap_err().status, 400);
}

#[test]
fn what_is_no_credential_is_told_and_never_repeated() {
    for value in
        ["", "Bearer", "Bearer ", "Basic s3cret", "s3cret", "Bearer s3cret two", "Bearer s3cret\u{e9}"]
    {
        let headers = headers(&[("authorization", value)]);
        let sent = sent(&headers).unwrap();
        assert!(sent.token.is_none() && sent.key.is_none(), "{value:?}");
        assert!(!sent.foreign.unwrap().contains("s3cret"));
    }
    assert_eq!(read(&[("authorization", "Bearer abc")]), FOREIGN);
    assert_eq!(read(&[("x-api-key", "")]), FOREIGN);
    // Beside a credential of the node it is still there.
    let beside = read(&[("x-api-key", "orama_a"), ("authorization", "Basic YTpi")]);
    assert_eq!(beside, Ok((None, Some("orama_a".to_owned()), true)));
}
