//! The headers that carry a credential.

use super::*;
use http::HeaderValue;

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    lines
        .iter()
        .map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_bytes(v.as_bytes()).unwrap()))
        .collect()
}

fn read(lines: &[(&'static str, &str)]) -> Result<Option<String>, (u16, &'static str)> {
    let headers = headers(lines);
    let got = bearer(&headers).map(|found| found.map(str::to_owned));
    got.map_err(|e| (e.status.as_u16(), e.code))
}

#[test]
fn a_credential_comes_from_either_header() {
    assert_eq!(read(&[]), Ok(None));
    assert_eq!(read(&[("authorization", "Bearer abc")]), Ok(Some("abc".into())));
    assert_eq!(read(&[("authorization", "bEARER   abc.d-e_f==")]), Ok(Some("abc.d-e_f==".into())));
    assert_eq!(read(&[("x-api-key", " abc ")]), Ok(Some("abc".into())));
    assert_eq!(read(&[("x-api-key", "abc"), ("authorization", "Bearer abc")]), Ok(Some("abc".into())));
}

#[test]
fn contradicting_headers_are_malformed() {
    let conflict = Err((400, "CONFLICTING_CREDENTIALS"));
    assert_eq!(read(&[("x-api-key", "abc"), ("authorization", "Bearer xyz")]), conflict);
    let mut twice = headers(&[("authorization", "Bearer abc")]);
    twice.append("authorization", HeaderValue::from_static("Bearer xyz"));
    assert_eq!(bearer(&twice).unwrap_err().status, 400);
}

#[test]
fn malformed_headers_are_unauthorized_and_never_repeated() {
    for value in
        ["", "Bearer", "Bearer ", "Basic s3cret", "s3cret", "Bearer s3cret two", "Bearer s3cret\u{e9}"]
    {
        let headers = headers(&[("authorization", value)]);
        let error = bearer(&headers).unwrap_err();
        assert_eq!(error.status, 401, "{value:?}");
        assert!(!error.message.contains("s3cret"), "{error}");
    }
    assert_eq!(read(&[("x-api-key", "")]), Err((401, "UNAUTHORIZED")));
}
