//! Redirects: every hop is checked like the first, and takes along only what it may.

use super::*;

fn to(status: u16, location: &str) -> String {
    format!("HTTP/1.1 {status} Moved\r\nlocation: {location}\r\ncontent-length: 5\r\n\r\nmoved")
}

/// Redirects to `location`, except for the path `/end`.
async fn redirecting(status: u16, location: String) -> Server {
    Server::start(
        move |request| {
            if request.contains(" /end") { OK.into() } else { Reply::from(&*to(status, &location)) }
        },
    )
    .await
}

#[tokio::test]
async fn methods_and_bodies_go_on_as_browsers_do_it() {
    for (status, method, kept) in [
        (301, "POST", false),
        (302, "POST", false),
        (303, "POST", false),
        (307, "POST", true),
        (308, "POST", true),
        (301, "PUT", true),
        (302, "DELETE", true),
        (303, "PUT", false),
        (307, "PUT", true),
    ] {
        let server = redirecting(status, "/end?x=1".into()).await;
        let request = FetchRequest { method: method.into(), ..post(server.url("/begin"), "body") };
        let request =
            with(request, &[("content-type", "text/plain"), ("authorization", "a"), ("x-kept", "k")]);
        let answer = egress(&["127.0.0.1"]).run(request).await.unwrap();
        assert_eq!((answer.status, &answer.body[..]), (200, &b"ok"[..]));
        let seen = server.requests().pop().unwrap();
        let expected = if kept { method } else { "GET" };
        assert!(seen.starts_with(&format!("{expected} /end?x=1 ")), "{status}: {seen}");
        assert_eq!(seen.ends_with("\r\n\r\nbody"), kept, "{status} {method}: {seen}");
        assert_eq!(seen.contains("content-type: text/plain"), kept, "{status} {method}: {seen}");
        assert!(seen.contains("authorization: a") && seen.contains("x-kept: k"), "{seen}");
        assert!(!seen.contains("referer"), "{seen}");
    }
    let server = redirecting(303, "/end".into()).await;
    let head = FetchRequest { method: "HEAD".into(), ..get(server.url("/")) };
    // The server sends a body all the same, which ends the connection and nothing else.
    let _ = egress(&["127.0.0.1"]).run(head).await;
    assert!(server.requests()[0].starts_with("HEAD "));
}

#[tokio::test]
async fn another_origin_sees_no_credentials() {
    let end = Server::ok().await;
    let begin = redirecting(307, end.url("/end")).await;
    let credentials = [
        ("Authorization", "s3cret"),
        ("Cookie", "s3cret"),
        ("X-API-Key", "s3cret"),
        ("x-auth-token", "s3cret"),
        ("X-Amz-Security-Token", "s3cret"),
        ("x-hub-signature-256", "s3cret"),
        ("x-other", "kept"),
    ];
    egress(&["127.0.0.1"]).run(with(post(begin.url("/"), "body"), &credentials)).await.unwrap();
    let seen = end.requests().remove(0);
    assert!(!seen.contains("s3cret") && seen.contains("x-other: kept") && seen.ends_with("body"), "{seen}");
    let url = format!("http://user:s3cret@{}/", begin.address);
    egress(&["127.0.0.1"]).run(get(url)).await.unwrap();
    assert!(begin.requests()[1].contains("authorization: Basic"), "{:?}", begin.requests());
    assert!(!end.requests()[1].contains("authorization"), "{:?}", end.requests());
}

#[tokio::test]
async fn a_redirect_opens_no_door() {
    let hidden = Server::ok().await;
    for location in [
        hidden.url("/"),
        format!("http://localhost:{}/", hidden.port()),
        format!("//127.1:{}/", hidden.port()),
        format!("http://[::ffff:127.0.0.1]:{}/", hidden.port()),
        "http://169.254.169.254/latest/meta-data".to_owned(),
        "https://10.0.0.1/".to_owned(),
    ] {
        let open = redirecting(302, location.clone()).await;
        let message = egress(&[&open.address.to_string()]).refused(get(open.url("/"))).await;
        assert!(message.ends_with("the operator may allow it with egress.allow"), "{location}: {message}");
        assert_eq!(open.requests().len(), 1);
    }
    for (location, expected) in [
        ("ftp://example.com/", "the URL of a redirect must begin with http:// or https://"),
        ("file:///etc/passwd", "the URL of a redirect must begin with"),
        ("http://[::1", "the server redirects to an invalid URL"),
        ("http://a:99999/", "the server redirects to an invalid URL"),
    ] {
        let open = redirecting(302, location.to_owned()).await;
        let message = egress(&["127.0.0.1"]).refused(get(open.url("/"))).await;
        assert!(message.contains(expected), "{location}: {message}");
    }
    assert_eq!(hidden.requests().len(), 0);
}

#[tokio::test]
async fn a_chain_ends_and_what_is_no_redirect_is_an_answer() {
    let endless = redirecting(302, "/again".into()).await;
    let message = egress(&["127.0.0.1"]).refused(get(endless.url("/"))).await;
    assert_eq!(message, "INVALID_ARGUMENT the server redirected more than 10 times");
    assert_eq!(endless.requests().len(), 11);
    let ten = Server::start(|request| {
        let hop = request.split([' ', '/']).nth(2).and_then(|hop| hop.parse::<u32>().ok()).unwrap();
        Reply::from(&*if hop == 10 { OK.to_owned() } else { to(307, &format!("/{}", hop + 1)) })
    })
    .await;
    assert_eq!(egress(&["127.0.0.1"]).run(get(ten.url("/0"))).await.unwrap().status, 200);
    for answer in [
        "HTTP/1.1 302 Found\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nlocation: /\r\n\r\n",
    ] {
        let server = Server::start(move |_| answer).await;
        let status = egress(&["127.0.0.1"]).run(get(server.url("/"))).await.unwrap().status;
        assert!(answer.contains(&status.to_string()), "{status}");
    }
}
