//! What a request for a WebSocket says of itself.

use super::*;
use http::header::HOST;

fn headers(lines: &[(HeaderName, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

type Found = Result<(Option<String>, Option<String>, bool), &'static str>;

/// The token, the key, and whether there was something else.
fn find(lines: &[(HeaderName, &str)], query: Option<&str>) -> Found {
    let headers = headers(lines);
    let protocols = Protocols::of(&headers).map_err(|error| error.code)?;
    let found = credentials(&headers, &protocols, query).map_err(|error| error.code)?;
    let found = found.map(Cow::into_owned);
    Ok((found.token, found.key, found.foreign.is_some()))
}

#[test]
fn credentials_come_from_three_places() {
    let authorization = (http::header::AUTHORIZATION, "Bearer orama_a");
    let protocol = (SEC_WEBSOCKET_PROTOCOL, "orama, bearer.orama_a");
    let none: Found = Ok((None, None, false));
    let key: Found = Ok((None, Some("orama_a".to_owned()), false));
    assert_eq!(find(&[], None), none);
    assert_eq!(find(&[(SEC_WEBSOCKET_PROTOCOL, "orama")], Some("namespace=a")), none);
    assert_eq!(find(std::slice::from_ref(&authorization), None), key);
    assert_eq!(find(&[(HeaderName::from_static("x-api-key"), "orama_a")], None), key);
    assert_eq!(find(std::slice::from_ref(&protocol), None), key);
    let twice = [(SEC_WEBSOCKET_PROTOCOL, "bearer.orama_a"), (SEC_WEBSOCKET_PROTOCOL, "orama")];
    assert_eq!(find(&twice, None), key);
    assert_eq!(find(&[], Some("token=orama_a")), key);
    assert_eq!(find(&[], Some("namespace=a&token=orama%5F%61")), key);
    assert_eq!(find(&[authorization.clone(), protocol.clone()], Some("token=orama_a")), key);
    let both: Found = Ok((Some("a.b.c".to_owned()), Some("orama_a".to_owned()), false));
    assert_eq!(find(std::slice::from_ref(&authorization), Some("token=a.b.c")), both);
    assert_eq!(find(&[(SEC_WEBSOCKET_PROTOCOL, "bearer.a.b.c, bearer.orama_a")], None), both);
    let conflict = Err("CONFLICTING_CREDENTIALS");
    assert_eq!(find(std::slice::from_ref(&authorization), Some("token=orama_b")), conflict);
    assert_eq!(find(std::slice::from_ref(&protocol), Some("token=orama_b")), conflict);
    assert_eq!(find(&[authorization, (SEC_WEBSOCKET_PROTOCOL, "bearer.orama_b")], None), conflict);
    assert_eq!(find(&[(SEC_WEBSOCKET_PROTOCOL, "bearer.orama_a, bearer.orama_b")], None), conflict);
    assert_eq!(find(&[], Some("token=a.b.c&token=x.y.z")), conflict);
    for foreign in ["token=%ff", "token=abc"] {
        assert_eq!(find(&[], Some(foreign)), Ok((None, None, true)), "{foreign}");
    }
}

#[test]
fn pages_of_the_same_host_and_of_listed_origins_are_allowed() {
    let allowed = |origin: &str, listed: &[&str]| {
        let listed: Vec<String> = listed.iter().map(|text| (*text).to_owned()).collect();
        let headers = headers(&[(HOST, "node:6001"), (ORIGIN, origin)]);
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        let foreign = foreign_origin(&headers, &AllowedOrigins::parse(&listed).unwrap(), host);
        foreign.map_or(Ok(()), |origin| Err(not_allowed(origin, host).code))
    };
    let refused = Err("ORIGIN_NOT_ALLOWED");
    assert_eq!(allowed("http://node:6001", &[]), Ok(()));
    assert_eq!(allowed("https://app.example", &[]), refused);
    assert_eq!(allowed("https://app.example", &["http://other", "https://APP.example:443"]), Ok(()));
    assert_eq!(allowed("http://app.example", &["https://app.example"]), refused);
    assert_eq!(allowed("null", &["https://app.example"]), refused);
    assert_eq!(allowed("null", &["*"]), Ok(()));
    assert_eq!(foreign_origin(&headers(&[(HOST, "node")]), &AllowedOrigins::default(), Some("node")), None);
    for bad in ["app.example", "https://app.example/path", "", "https://*.example/x"] {
        assert!(AllowedOrigins::parse(&[bad.to_owned()]).unwrap_err().contains("expected origins"), "{bad}");
    }
}
