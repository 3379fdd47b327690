//! Times, sizes and numbers: none is exceeded, and one namespace's excess is not another's business.

use super::*;
use crate::limits::{DNS_LOOKUPS_PER_NAMESPACE, FETCH_HOSTS_PER_NAMESPACE, FETCHES_PER_NAMESPACE};
use orama_runtime::limits::{
    FETCH_HEADERS_MAX, FETCH_HEADERS_MAX_BYTES, FETCH_REQUEST_MAX_BYTES, FETCH_RESPONSE_MAX_BYTES,
    FETCH_URL_MAX_BYTES,
};

use std::sync::atomic::{AtomicBool, Ordering};

#[tokio::test]
async fn a_server_that_does_not_end_is_left_at_the_deadline() {
    for reply in ["", "HTTP/1.1 200 OK\r\nx-half", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"] {
        let server = Server::start(move |_| Reply::Hang(reply.into())).await;
        let egress = egress(&["127.0.0.1"]);
        let deadline = Instant::now() + Duration::from_millis(200);
        let error = egress.fetch(&namespace("a"), get(server.url("/")), deadline).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::DeadlineExceeded);
        assert_eq!(error.message, "timed out after 0.2 s", "{reply}");
        // The connection goes with the fetch.
        server.closed.acquire().await.unwrap().forget();
        let late = egress.fetch(&namespace("a"), get(server.url("/")), Instant::now()).await.unwrap_err();
        assert_eq!(
            (late.code, late.message.as_str()),
            (ErrorCode::DeadlineExceeded, "timed out after 0.0 s")
        );
    }
}

#[tokio::test]
async fn a_fetch_ends_when_nobody_waits_for_it() {
    let server = Server::start(|_| Reply::Hang(Vec::new())).await;
    let egress = egress(&["127.0.0.1"]);
    let fetch = egress.fetch(&namespace("a"), get(server.url("/")), Instant::now() + FETCH_TIMEOUT);
    while server.requests().is_empty() {
        tokio::task::yield_now().await;
    }
    drop(fetch);
    server.closed.acquire().await.unwrap().forget();
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_an_error_and_no_part() {
    let egress = egress(&["127.0.0.1"]);
    let largest = Server::start(|_| {
        let mut answer =
            format!("HTTP/1.1 200 OK\r\ncontent-length: {FETCH_RESPONSE_MAX_BYTES}\r\n\r\n").into_bytes();
        answer.resize(answer.len() + FETCH_RESPONSE_MAX_BYTES, b'x');
        Reply::Send(answer)
    });
    let answer = egress.run(get(largest.await.url("/"))).await.unwrap();
    assert_eq!(answer.body.len(), FETCH_RESPONSE_MAX_BYTES);
    let announced = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", FETCH_RESPONSE_MAX_BYTES + 1);
    let announcing = Server::start(move |_| Reply::Hang(announced.clone().into())).await;
    let endless =
        Server::start(|_| Reply::Endless(b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b'x'; 64 << 10])).await;
    let chunks = Server::start(|_| {
        let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        Reply::Endless(head, format!("10000\r\n{}\r\n", "x".repeat(0x10000)).into())
    })
    .await;
    for server in [announcing, endless, chunks] {
        let message = egress.refused(get(server.url("/"))).await;
        assert!(message.starts_with("PAYLOAD_TOO_LARGE the answer's body is too large"), "{message}");
        assert!(message.contains("a body of 8388608 bytes"), "{message}");
        server.closed.acquire().await.unwrap().forget();
    }
}

#[tokio::test]
async fn an_answers_headers_are_bounded() {
    let egress = egress(&["127.0.0.1"]);
    let headers = |count: usize, bytes: usize| {
        let lines: String = (0..count).map(|n| format!("x-{n}: {}\r\n", "x".repeat(bytes))).collect();
        format!("HTTP/1.1 200 OK\r\n{lines}content-length: 2\r\n\r\nok")
    };
    let most = headers(FETCH_HEADERS_MAX - 1, 500);
    let fetched = egress.run(get(Server::start(move |_| Reply::from(&*most)).await.url("/"))).await.unwrap();
    assert_eq!(fetched.headers.len(), FETCH_HEADERS_MAX);
    for (count, bytes) in
        [(FETCH_HEADERS_MAX, 1), (10_000, 1), (2, FETCH_HEADERS_MAX_BYTES / 2), (1, 1 << 20)]
    {
        let reply = headers(count, bytes);
        let server = Server::start(move |_| Reply::from(&*reply)).await;
        let message = egress.refused(get(server.url("/"))).await;
        assert!(message.starts_with("PAYLOAD_TOO_LARGE the answer's headers are too large"), "{message}");
    }
    let server =
        Server::start(|_| Reply::Endless(b"HTTP/1.1 200 OK\r\n".to_vec(), b"x-more: 1\r\n".to_vec()));
    let message = egress.refused(get(server.await.url("/"))).await;
    assert!(message.starts_with("PAYLOAD_TOO_LARGE the answer's headers"), "{message}");
}

#[tokio::test]
async fn a_request_is_bounded() {
    let server = Server::ok().await;
    let egress = egress(&["127.0.0.1"]);
    let pairs = |count: usize, bytes: usize| {
        (0..count).map(|n| (format!("x-{n}"), "x".repeat(bytes))).collect::<Vec<_>>()
    };
    let url = server.url("/");
    let padded = format!("{url}{}", "x".repeat(FETCH_URL_MAX_BYTES - url.len()));
    for (request, expected) in [
        (FetchRequest { headers: pairs(FETCH_HEADERS_MAX, 1), ..get(&url) }, ""),
        (
            FetchRequest { headers: pairs(FETCH_HEADERS_MAX + 1, 1), ..get(&url) },
            "the request has more than 100 headers",
        ),
        (
            FetchRequest { headers: pairs(2, 32 << 10), ..get(&url) },
            "the request's headers have more than 65536 bytes",
        ),
        (get(&padded), ""),
        (get(padded.clone() + "x"), "the URL has more than 8192 bytes"),
        (FetchRequest { body: vec![b'x'; FETCH_REQUEST_MAX_BYTES].into(), ..post(&url, "") }, ""),
        (
            FetchRequest { body: vec![b'x'; FETCH_REQUEST_MAX_BYTES + 1].into(), ..post(&url, "") },
            "the request's body has more than 8388608 bytes",
        ),
    ] {
        match egress.run(request).await {
            Ok(answer) => assert_eq!((answer.status, expected), (200, "")),
            Err(error) => {
                assert_eq!((error.code, error.message.as_str()), (ErrorCode::PayloadTooLarge, expected));
            }
        }
    }
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn a_namespace_has_its_share_of_fetches_and_no_more() {
    let (hanging, server) = (Server::start(|_| Reply::Hang(Vec::new())).await, Server::ok().await);
    let egress = egress(&["127.0.0.1"]);
    let deadline = Instant::now() + FETCH_TIMEOUT;
    let waiting: Vec<_> = (0..FETCHES_PER_NAMESPACE)
        .map(|_| egress.fetch(&namespace("a"), get(hanging.url("/")), deadline))
        .collect();
    while hanging.requests().len() < FETCHES_PER_NAMESPACE {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let message = egress.refused(get(server.url("/"))).await;
    let expected = "UNAVAILABLE this namespace has 256 concurrent fetches, which is the maximum";
    assert!(message.starts_with(expected), "{message}");
    // Whoever comes next gets half of what is left, so that there is always room for one more.
    let mut more = Vec::new();
    let mut under_way = FETCHES_PER_NAMESPACE;
    for (name, share) in [("b", 128), ("c", 64), ("d", 32)] {
        let all = (0..FETCHES_PER_NAMESPACE)
            .map(|_| egress.fetch(&namespace(name), get(hanging.url("/")), deadline))
            .collect::<Vec<_>>();
        under_way += share;
        while hanging.requests().len() < under_way {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let error = egress.fetch_as(name, get(server.url("/"))).await.unwrap_err();
        assert!(error.message.starts_with("this node has too many concurrent fetches"), "{error:?}");
        more.push(all);
    }
    assert_eq!(egress.fetch_as("e", get(server.url("/"))).await.unwrap().status, 200);
    assert_eq!(hanging.requests().len(), under_way, "nobody had more than a share");
    drop((waiting, more));
    for _ in 0..under_way {
        hanging.closed.acquire().await.unwrap().forget();
    }
    assert_eq!(egress.run(get(server.url("/"))).await.unwrap().status, 200);
}

#[tokio::test]
async fn slow_name_servers_hold_up_nobody_else() {
    let server = Server::ok().await;
    let (answers, look_ups) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
    let (may_answer, seen) = (Arc::clone(&answers), Arc::clone(&look_ups));
    let egress = egress_with(&["127.0.0.1"], move |name, port| {
        seen.lock().unwrap().push(name.to_owned());
        while name.starts_with("slow") && !may_answer.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(1));
        }
        here(name, port)
    });
    let deadline = Instant::now() + FETCH_TIMEOUT;
    let slow: Vec<_> = (0..100)
        .map(|n| {
            egress.fetch(&namespace("a"), get(format!("http://slow{n}.test:{}/", server.port())), deadline)
        })
        .collect();
    while look_ups.lock().unwrap().len() < DNS_LOOKUPS_PER_NAMESPACE {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let quick = get(format!("http://quick.test:{}/", server.port()));
    assert_eq!(egress.fetch_as("b", quick).await.unwrap().status, 200);
    assert_eq!(look_ups.lock().unwrap().len(), DNS_LOOKUPS_PER_NAMESPACE + 1);
    answers.store(true, Ordering::Relaxed);
    for fetch in slow {
        assert_eq!(fetch.await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn unused_connections_are_bounded() {
    let server = Server::ok().await;
    let egress = egress(&["127.0.0.1"]);
    let url = |n: usize| get(format!("http://host{n}.test:{}/", server.port()));
    for n in 0..=FETCH_HOSTS_PER_NAMESPACE {
        egress.run(url(n)).await.unwrap();
    }
    for _ in 0..FETCH_HOSTS_PER_NAMESPACE {
        server.closed.acquire().await.unwrap().forget();
    }
    let by_host: HashMap<_, _> = server.seen.lock().unwrap().iter().cloned().collect();
    assert_eq!(by_host.len(), FETCH_HOSTS_PER_NAMESPACE + 1, "a connection for each host");
    egress.run(url(FETCH_HOSTS_PER_NAMESPACE)).await.unwrap();
    assert_eq!(server.connections().pop(), Some(FETCH_HOSTS_PER_NAMESPACE), "the newest is kept");
}
