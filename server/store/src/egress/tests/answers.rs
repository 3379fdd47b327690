//! What is sent, what comes back, and what is told when nothing fit comes back.

use super::*;

#[tokio::test]
async fn a_request_arrives_as_it_was_asked_for() {
    let server = Server::ok().await;
    let egress = egress(&["127.0.0.1"]);
    let request = with(
        post(server.url("/a%20b?c=d#e"), "{\"x\":1}"),
        &[
            ("Content-Type", "application/json"),
            ("X-Two", "1"),
            ("x-two", "2"),
            ("Authorization", "Bearer t"),
        ],
    );
    egress.run(request).await.unwrap();
    let seen = server.requests().remove(0);
    assert!(seen.starts_with("POST /a%20b?c=d HTTP/1.1\r\n"), "{seen}");
    assert!(seen.ends_with("\r\n\r\n{\"x\":1}"), "{seen}");
    for line in [
        "content-type: application/json",
        "x-two: 1",
        "x-two: 2",
        "authorization: Bearer t",
        "content-length: 7",
        concat!("user-agent: orama-functions/", env!("CARGO_PKG_VERSION")),
        &format!("host: {}", server.address),
    ] {
        assert_eq!(seen.matches(line).count(), 1, "{line}: {seen}");
    }
    for line in ["accept-encoding", "referer", "cookie"] {
        assert!(!seen.contains(line), "{line}: {seen}");
    }
    for (method, body, start, length) in [
        ("", "", "GET / ", false),
        ("get", "", "GET / ", false),
        ("delete", "", "DELETE / ", false),
        ("Put", "", "PUT / ", true),
        ("PROPFIND", "x", "PROPFIND / ", true),
        ("purge", "", "purge / ", false),
    ] {
        egress.run(FetchRequest { method: method.into(), ..post(server.url("/"), body) }).await.unwrap();
        let seen = server.requests().pop().unwrap();
        assert!(seen.starts_with(start) && seen.contains("content-length: ") == length, "{method}: {seen}");
    }
    egress.run(with(get(server.url("/")), &[("user-agent", "mine")])).await.unwrap();
    let seen = server.requests().pop().unwrap();
    assert!(seen.contains("user-agent: mine\r\n") && !seen.contains("orama"), "{seen}");
    let url = format!("http://user:p%40ss@{}/", server.address);
    egress.run(get(url)).await.unwrap();
    let seen = server.requests().pop().unwrap();
    assert!(seen.contains("authorization: Basic dXNlcjpwQHNz\r\n") && !seen.contains("user:"), "{seen}");
}

#[tokio::test]
async fn an_answer_comes_back_as_it_was_sent() {
    let server = Server::start(|request| {
        let mut answer = b"HTTP/1.1 418 I'm a teapot\r\nset-cookie: a\r\nX-One: \xff1\r\nset-cookie: b\r\n\
            content-encoding: gzip\r\ncontent-length: 4\r\n\r\n"
            .to_vec();
        if !request.starts_with("HEAD") {
            answer.extend(b"\x1f\x8b\0\xff");
        }
        Reply::Send(answer)
    })
    .await;
    let egress = egress(&["127.0.0.1"]);
    let answer = egress.run(get(server.url("/"))).await.unwrap();
    assert_eq!((answer.status, &answer.body[..]), (418, &b"\x1f\x8b\0\xff"[..]));
    let values = |name: &str| -> Vec<_> {
        answer.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect()
    };
    assert_eq!(values("set-cookie"), ["a", "b"]);
    assert_eq!((values("x-one"), values("content-encoding")), (vec!["\u{fffd}1"], vec!["gzip"]));
    let head = egress.run(FetchRequest { method: "HEAD".into(), ..get(server.url("/")) }).await.unwrap();
    assert_eq!((head.status, head.body.len()), (418, 0));
    let chunked = Server::start(
        |_| "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
    );
    assert_eq!(&egress.run(get(chunked.await.url("/"))).await.unwrap().body[..], b"hello");
    let unframed = Server::start(|_| Reply::Close(b"HTTP/1.1 200 OK\r\n\r\nto the end".to_vec())).await;
    assert_eq!(&egress.run(get(unframed.url("/"))).await.unwrap().body[..], b"to the end");
    let empty = Server::start(|_| "HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(egress.run(get(empty.url("/"))).await.unwrap().status, 204);
}

#[tokio::test]
async fn what_is_no_whole_answer_is_an_error() {
    let egress = egress(&["127.0.0.1"]);
    for (reply, expected) in [
        (&b""[..], "UNAVAILABLE the server closed the connection before the end of its answer"),
        (b"HTTP/1.1 200 OK\r\nx-half", "UNAVAILABLE the server closed the connection before"),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf",
            "UNAVAILABLE the server closed the connection before",
        ),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nha",
            "UNAVAILABLE the server closed the connection",
        ),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "UNAVAILABLE the server's answer is not HTTP"),
        (b"HTTP/1.1 999999 What\r\n\r\n", "UNAVAILABLE the server's answer is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n", "UNAVAILABLE the server's answer is not HTTP"),
        (b"\0\0\0\0\0\0\0\0\r\n\r\n", "UNAVAILABLE the server's answer is not HTTP"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "UNAVAILABLE the connection failed"),
    ] {
        let server = Server::start(move |_| Reply::Close(reply.to_vec())).await;
        let message = egress.refused(get(server.url("/s3cret?s3cret"))).await;
        assert!(message.starts_with(expected), "{:?}: {message}", String::from_utf8_lossy(reply));
        assert!(!message.contains("s3cret") && !message.contains("127.0.0.1"), "{message}");
    }
}

#[tokio::test]
async fn what_cannot_be_reached_is_told_by_its_cause() {
    let unused = orama_test_support::ports::free(1)[0];
    let egress = egress_with(&["127.0.0.1"], |name, port| match name {
        "unknown.test" => {
            Err(io::Error::other("failed to lookup address information: Name or service not known"))
        }
        "empty.test" => Ok(Vec::new()),
        _ => here(name, port),
    });
    for (url, expected) in [
        (format!("http://{unused}/"), "UNAVAILABLE connection refused"),
        (format!("http://name.test:{}/", unused.port()), "UNAVAILABLE connection refused"),
        (
            "http://unknown.test/s3cret".into(),
            "UNAVAILABLE cannot resolve host unknown.test: Name or service not known",
        ),
        ("http://empty.test/".into(), "UNAVAILABLE cannot resolve host empty.test: the name has no address"),
    ] {
        assert_eq!(egress.refused(get(&url)).await, expected, "{url}");
    }
}

#[tokio::test]
async fn a_request_that_cannot_be_sent_is_told_by_what_is_wrong() {
    let egress = egress(&[]);
    for (url, expected) in [
        ("", "the URL is not valid: relative URL without a base"),
        ("/path", "the URL is not valid"),
        ("http://", "the URL is not valid: empty host"),
        ("http://a:99999/", "the URL is not valid: invalid port number"),
        ("http://[fe80::1%25eth0]/", "the URL is not valid: invalid IPv6 address"),
        ("http://[::1/", "the URL is not valid"),
        ("http://1.2.3.256/", "the URL is not valid: invalid IPv4 address"),
        ("http://a b/", "the URL is not valid"),
        ("ftp://a/", "the URL must begin with http:// or https://"),
        ("file:///etc/passwd", "the URL must begin with http"),
        ("unix:/run/docker.sock", "the URL must begin with http"),
        ("data:text/plain,x", "the URL must begin with http"),
    ] {
        let message = egress.refused(get(url)).await;
        assert!(message.starts_with(&format!("INVALID_ARGUMENT {expected}")), "{url:?}: {message}");
    }
    for method in ["CONNECT", "connect", "G T", "GET\r\nX: y", "ä"] {
        let message = egress.refused(FetchRequest { method: method.into(), ..get("http://a/") }).await;
        if method != "connect" {
            assert!(message.contains("is not a method that can be sent"), "{method:?}: {message}");
        }
    }
    for name in [
        "Host",
        "Content-Length",
        "Transfer-Encoding",
        "Connection",
        "Upgrade",
        "TE",
        "Trailer",
        "Keep-Alive",
        "Proxy-Authorization",
        "Proxy-Connection",
        "HTTP2-Settings",
    ] {
        let message = egress.refused(with(get("http://a/"), &[(name, "s3cret")])).await;
        assert!(message.contains(&format!("the header {} cannot be set", name.to_lowercase())), "{message}");
        assert!(!message.contains("s3cret"));
    }
    for (name, value, expected) in [
        ("", "x", "\"\" is not a valid name of a header"),
        ("a b", "x", "\"a b\" is not a valid name of a header"),
        ("a\r\nHost", "x", "is not a valid name of a header"),
        ("x-a", "s3cret\r\nHost: b", "the value of the header x-a has an invalid character"),
        ("x-a", "s3cret\0", "the value of the header x-a"),
    ] {
        let message = egress.refused(with(get("http://a/"), &[(name, value)])).await;
        assert!(message.contains(expected) && !message.contains("s3cret"), "{name:?}: {message}");
    }
}

#[tokio::test]
async fn connections_are_reused_within_a_namespace_and_never_across() {
    let server = Server::ok().await;
    let egress = egress(&["127.0.0.1"]);
    for (of, connection) in [("a", 0), ("a", 0), ("b", 1), ("a", 0), ("b", 1)] {
        egress.fetch_as(of, get(server.url("/"))).await.unwrap();
        assert_eq!(server.connections().pop(), Some(connection), "{of}");
    }
    egress.remove(&namespace("a"));
    egress.fetch_as("a", get(server.url("/"))).await.unwrap();
    assert_eq!(server.connections().pop(), Some(2), "a namespace of the same name starts anew");
    egress.fetch_as("b", get(server.url("/"))).await.unwrap();
    assert_eq!(server.connections().pop(), Some(1));
}

/// A server that closes each connection when its second request comes.
async fn closing() -> Server {
    let seen = Mutex::new(0);
    Server::start(move |_| {
        let mut seen = seen.lock().unwrap();
        *seen += 1;
        if *seen % 2 == 0 { Reply::Close(Vec::new()) } else { Reply::Send(OK.into()) }
    })
    .await
}

#[tokio::test]
async fn a_request_over_a_kept_connection_that_was_closed_is_sent_once_more() {
    for method in ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"] {
        let server = closing().await;
        let egress = egress(&["127.0.0.1"]);
        assert_eq!(egress.run(get(server.url("/first"))).await.unwrap().status, 200);
        let again = FetchRequest { method: method.into(), ..get(server.url("/again")) };
        assert_eq!(egress.run(again).await.unwrap().status, 200, "{method}");
        assert_eq!(server.connections(), [0, 0, 1], "the same request on a new connection");
        let requests = server.requests();
        assert_eq!(requests[1], requests[2]);
    }
}

#[tokio::test]
async fn a_request_is_not_sent_once_more_where_that_could_matter() {
    let server = closing().await;
    let egress = egress(&["127.0.0.1"]);
    egress.run(get(server.url("/"))).await.unwrap();
    let message = egress.refused(post(server.url("/"), "body")).await;
    assert!(message.starts_with("UNAVAILABLE the server "), "{message}");
    assert_eq!(server.requests().len(), 2, "a POST is not idempotent");

    let silent = Server::start(|_| Reply::Close(Vec::new())).await;
    let message = egress.refused(get(silent.url("/"))).await;
    assert!(message.starts_with("UNAVAILABLE the server "), "{message}");
    assert_eq!(silent.requests().len(), 1, "the connection was new");

    let cut = Server::start(|request| {
        let is_first = request.starts_with("GET /first");
        if is_first {
            OK.into()
        } else {
            Reply::Close(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf".to_vec())
        }
    })
    .await;
    egress.run(get(cut.url("/first"))).await.unwrap();
    let message = egress.refused(get(cut.url("/cut"))).await;
    assert!(message.starts_with("UNAVAILABLE the server "), "{message}");
    assert_eq!(cut.requests().len(), 2, "the answer had begun");
}
