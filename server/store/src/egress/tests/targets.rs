//! Which targets are reached: however they are spelled, whatever a name resolves to, and what the operator allows.

use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};

fn nobody(name: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
    panic!("{name} was looked up")
}

#[tokio::test]
async fn an_address_in_a_url_is_seen_through_however_it_is_spelled() {
    let egress = egress_with(&[], nobody);
    for (url, word) in [
        ("http://127.0.0.1/", "address 127.0.0.1 is loopback"),
        ("https://127.0.0.1/", "address 127.0.0.1 is loopback"),
        ("http://127.0.0.1:8080/", "address 127.0.0.1 is loopback"),
        ("http://127.0.0.1./", "address 127.0.0.1 is loopback"),
        ("http://127.1/", "address 127.0.0.1 is loopback"),
        ("http://127.0.1/", "address 127.0.0.1 is loopback"),
        ("http://2130706433/", "address 127.0.0.1 is loopback"),
        ("http://0x7f000001/", "address 127.0.0.1 is loopback"),
        ("http://0x7f.0.0.1/", "address 127.0.0.1 is loopback"),
        ("http://0177.0.0.01/", "address 127.0.0.1 is loopback"),
        ("http://017700000001/", "address 127.0.0.1 is loopback"),
        ("http://%31%32%37.0.0.1/", "address 127.0.0.1 is loopback"),
        ("http://①②⑦.0.0.1/", "address 127.0.0.1 is loopback"),
        ("http://127。0。0。1/", "address 127.0.0.1 is loopback"),
        ("HTTP:\\\\127.0.0.1\\", "address 127.0.0.1 is loopback"),
        ("http:127.0.0.1", "address 127.0.0.1 is loopback"),
        (" \thttp://127.0.0.1/\n", "address 127.0.0.1 is loopback"),
        ("http://8.8.8.8@127.0.0.1/", "address 127.0.0.1 is loopback"),
        ("http://s3cret:s3cret@10.0.0.1/s3cret?s3cret#s3cret", "address 10.0.0.1 is private"),
        ("http://0/", "address 0.0.0.0 is unspecified"),
        ("http://169.254.169.254/latest/meta-data", "address 169.254.169.254 is link-local"),
        ("http://100.100.100.200/", "address 100.100.100.200 is private (carrier-grade NAT)"),
        ("http://[::]/", "address :: is unspecified"),
        ("http://[::1]:80/", "address ::1 is loopback"),
        ("http://[0:0:0:0:0:0:0:1]/", "address ::1 is loopback"),
        ("http://[::ffff:127.0.0.1]/", "address ::ffff:127.0.0.1 is loopback"),
        ("http://[::ffff:7f00:1]/", "address ::ffff:127.0.0.1 is loopback"),
        ("http://[::127.0.0.1]/", "is reserved (IPv4-compatible)"),
        ("http://[64:ff9b::7f00:1]/", "is loopback"),
        ("http://[64:ff9b::10.0.0.1]/", "is private"),
        ("http://[2002:7f00:1::]/", "is reserved (6to4)"),
        ("http://[2001:0:4136:e378:8000:63bf:3fff:fdd2]/", "is reserved"),
        ("http://[fe80::1]/", "address fe80::1 is link-local"),
        ("http://[fd00:ec2::254]/", "address fd00:ec2::254 is private"),
        ("http://[ff02::1]/", "address ff02::1 is multicast"),
    ] {
        let message = egress.refused(get(url)).await;
        let expected = format!("{word}; the operator may allow it with egress.allow");
        assert!(message.starts_with("INVALID_ARGUMENT ") && message.ends_with(&expected), "{url}: {message}");
        assert!(!message.contains("s3cret"), "{message}");
    }
}

#[tokio::test]
async fn a_name_reaches_only_those_of_its_addresses_that_are_allowed() {
    let server = Server::ok().await;
    let allowed = server.address.to_string();
    let egress = egress_with(&[&allowed], |name, port| {
        let private: SocketAddr = ([10, 0, 0, 1], port).into();
        let loopback: SocketAddr = ([127, 0, 0, 1], port).into();
        Ok(match name {
            "private.test" => vec![private, loopback],
            "mapped.test" => vec!["[::ffff:10.0.0.1]:1".parse().unwrap()],
            // Connecting to the first of these would fail, or hang.
            "mixed.test" => vec![private, loopback, private],
            _ => panic!("{name} was looked up"),
        })
    });
    let mixed = egress.run(get(format!("http://mixed.test:{}/", server.port()))).await.unwrap();
    assert_eq!(mixed.status, 200);
    assert!(server.requests()[0].contains("host: mixed.test:"), "{:?}", server.requests());
    let may = "; the operator may allow it with egress.allow";
    for (url, expected) in [
        ("http://private.test/s3cret", "address 10.0.0.1 of host private.test is private"),
        ("http://PRIVATE.test/", "address 10.0.0.1 of host private.test is private"),
        ("https://private.test/", "address 10.0.0.1 of host private.test is private"),
        ("http://mapped.test/", "address ::ffff:10.0.0.1 of host mapped.test is private"),
    ] {
        assert_eq!(egress.refused(get(url)).await, format!("INVALID_ARGUMENT {expected}{may}"), "{url}");
    }
}

#[tokio::test]
async fn a_name_that_changes_its_mind_wins_nothing() {
    let server = Server::start(|_| Reply::Close(OK.into())).await;
    let target = Server::ok().await;
    let look_ups = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&look_ups);
    // Allowed when it is looked up first, private from then on.
    let egress = egress_with(&["127.0.0.2"], move |_, port| {
        let last = if counted.fetch_add(1, Ordering::Relaxed) == 0 { 2 } else { 1 };
        Ok(vec![([127, 0, 0, last], port).into()])
    });
    // The server listens on 127.0.0.1 alone: that the first fetch is refused by 127.0.0.2 shows what it connected to.
    let url = format!("http://rebinding.test:{}/", server.port());
    assert_eq!(egress.refused(get(&url)).await, "UNAVAILABLE connection refused");
    assert_eq!(look_ups.load(Ordering::Relaxed), 1, "nothing is looked up twice for one connection");
    let message = egress.refused(get(&url)).await;
    assert!(message.contains("address 127.0.0.1 of host rebinding.test is loopback"), "{message}");
    assert_eq!(look_ups.load(Ordering::Relaxed), 2);
    assert_eq!((server.requests().len(), target.requests().len()), (0, 0));
}

#[tokio::test]
async fn what_the_operator_allows_is_allowed_for_its_port_alone() {
    let (one, two) = (Server::ok().await, Server::ok().await);
    let by_name = format!("push.internal:{}", one.port());
    let by_address = format!("127.0.0.1:{}", one.port());
    for allow in [&by_name, &by_address] {
        let egress = egress(&[allow]);
        // The other first: an allowed connection opens no door.
        for _ in 0..2 {
            let url = |server: &Server| format!("http://push.internal:{}/", server.port());
            let message = egress.refused(get(url(&two))).await;
            assert!(message.contains("address 127.0.0.1 of host push.internal is loopback"), "{message}");
            assert_eq!(egress.run(get(url(&one))).await.unwrap().status, 200, "{allow}");
        }
    }
    let egress = egress(&["push.internal"]);
    for server in [&one, &two] {
        let fetched = egress.run(get(format!("http://Push.Internal.:{}/", server.port()))).await;
        assert_eq!(fetched.unwrap().status, 200);
        let message = egress.refused(get(server.url("/"))).await;
        assert!(message.contains("address 127.0.0.1 is loopback"), "a name allows no address: {message}");
        let other = egress.refused(get(format!("http://other.internal:{}/", server.port()))).await;
        assert!(other.contains("of host other.internal is loopback"), "{other}");
    }
    assert_eq!(two.requests().len(), 1);
}

#[test]
fn the_nodes_own_address_is_no_target_even_where_it_is_public() {
    let rules = |own: &str, allow: &[&str]| Rules {
        allow: allow.iter().map(|entry| entry.parse().unwrap()).collect(),
        own: own.parse().unwrap(),
    };
    let check = |rules: &Rules, address: &str, port| {
        rules.check(None, address.parse().unwrap(), port).map_err(|error| error.message)
    };
    let public = rules("8.8.4.4:6001", &[]);
    let message = check(&public, "8.8.4.4", 6001).unwrap_err();
    assert!(message.starts_with("address 8.8.4.4 is this node's own"), "{message}");
    assert!(check(&public, "::ffff:8.8.4.4", 6001).is_err());
    assert_eq!(check(&public, "8.8.4.4", 443), Ok(()));
    assert_eq!(check(&public, "8.8.8.8", 6001), Ok(()));
    assert_eq!(check(&rules("8.8.4.4:6001", &["8.8.4.4:6001"]), "8.8.4.4", 6001), Ok(()));
    let all = rules("0.0.0.0:6001", &[]);
    assert_eq!(check(&all, "8.8.8.8", 6001), Ok(()), "not an address of this machine");
    assert!(check(&all, "127.0.0.1", 6001).unwrap_err().contains("this node's own"));
}
