//! What a request for a WebSocket says of itself.

use super::*;

fn headers(lines: &[(HeaderName, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn find(lines: &[(HeaderName, &str)], query: Option<&str>) -> Result<Option<String>, &'static str> {
    let headers = headers(lines);
    let protocols = Protocols::of(&headers).map_err(|error| error.code)?;
    let found = credential(&headers, &protocols, query).map_err(|error| error.code)?;
    Ok(found.map(Cow::into_owned))
}

#[test]
fn a_credential_comes_from_one_of_three_places() {
    let authorization = (http::header::AUTHORIZATION, "Bearer abc");
    let protocol = (SEC_WEBSOCKET_PROTOCOL, "orama, bearer.abc");
    let abc = Ok(Some("abc".to_owned()));
    assert_eq!(find(&[], None), Ok(None));
    assert_eq!(find(&[(SEC_WEBSOCKET_PROTOCOL, "orama")], Some("namespace=a")), Ok(None));
    assert_eq!(find(std::slice::from_ref(&authorization), None), abc);
    assert_eq!(find(&[(HeaderName::from_static("x-api-key"), "abc")], None), abc);
    assert_eq!(find(std::slice::from_ref(&protocol), None), abc);
    assert_eq!(find(&[(SEC_WEBSOCKET_PROTOCOL, "bearer.abc"), (SEC_WEBSOCKET_PROTOCOL, "orama")], None), abc);
    assert_eq!(find(&[], Some("token=abc")), abc);
    assert_eq!(find(&[], Some("namespace=a&token=%61bc")), abc);
    assert_eq!(find(&[authorization.clone(), protocol.clone()], Some("token=abc")), abc);
    let conflict = Err("CONFLICTING_CREDENTIALS");
    assert_eq!(find(std::slice::from_ref(&authorization), Some("token=xyz")), conflict);
    assert_eq!(find(std::slice::from_ref(&protocol), Some("token=xyz")), conflict);
    assert_eq!(find(&[authorization, (SEC_WEBSOCKET_PROTOCOL, "bearer.xyz")], None), conflict);
    assert_eq!(find(&[(SEC_WEBSOCKET_PROTOCOL, "bearer.abc, bearer.xyz")], None), conflict);
    assert_eq!(find(&[], Some("token=abc&token=xyz")), conflict);
    assert_eq!(find(&[], Some("token=%ff")), Err("UNAUTHORIZED"));
}

#[test]
fn pages_of_the_same_host_and_of_listed_origins_are_allowed() {
    let allowed = |origin: &str, listed: &[&str]| {
        let listed: Vec<String> = listed.iter().map(|text| (*text).to_owned()).collect();
        let headers = headers(&[(HOST, "node:6001"), (ORIGIN, origin)]);
        check_origin(&headers, &AllowedOrigins::parse(&listed).unwrap()).map_err(|error| error.code)
    };
    let refused = Err("ORIGIN_NOT_ALLOWED");
    assert_eq!(allowed("http://node:6001", &[]), Ok(()));
    assert_eq!(allowed("https://app.example", &[]), refused);
    assert_eq!(allowed("https://app.example", &["http://other", "https://APP.example:443"]), Ok(()));
    assert_eq!(allowed("http://app.example", &["https://app.example"]), refused);
    assert_eq!(allowed("null", &["https://app.example"]), refused);
    assert_eq!(allowed("null", &["*"]), Ok(()));
    assert_eq!(
        check_origin(&headers(&[(HOST, "node")]), &AllowedOrigins::default()).map_err(|e| e.code),
        Ok(())
    );
    for bad in ["app.example", "https://app.example/path", "", "https://*.example/x"] {
        assert!(AllowedOrigins::parse(&[bad.to_owned()]).unwrap_err().contains("expected origins"), "{bad}");
    }
}
