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

fn entries(texts: &[&str]) -> Vec<EgressTarget> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// A machine that has loopback and 8.8.4.4, whose servers are at 10.0.0.5 and 2001:4860::5.
fn machine(allow: &[&str], deny: &[&str]) -> Rules {
    let hosts = ["10.0.0.5", "[2001:4860::5]"].map(|host| Host::parse(host).unwrap());
    Rules {
        allow: entries(allow),
        deny: entries(deny),
        is_own: |address| {
            address.to_canonical().is_loopback() || address.to_canonical() == IpAddr::from([8, 8, 4, 4])
        },
        servers: Arc::new(Servers::new(hosts.to_vec())),
    }
}

fn verdict(rules: &Rules, address: &str, port: u16) -> Result<(), String> {
    rules.check(None, address.parse().unwrap(), port).map_err(|error| error.message)
}

#[test]
fn the_machine_and_the_nodes_servers_are_out_of_reach_on_every_port() {
    let exactly = "the operator may allow exactly this host and port with egress.allow";
    for allow in [&[][..], &["0.0.0.0/0", "::/0"], &["8.8.4.4", "10.0.0.5", "127.0.0.1", "10.0.0.0/8"]] {
        let rules = machine(allow, &[]);
        for address in [
            "8.8.4.4",
            "::ffff:8.8.4.4",
            "::8.8.4.4",
            "64:ff9b::8.8.4.4",
            "64:ff9b:1::8.8.4.4",
            "2002:808:404::1",
            "127.0.0.1",
            "10.0.0.5",
            "::ffff:10.0.0.5",
            "64:ff9b::10.0.0.5",
            "2001:4860::5",
        ] {
            for port in [80, 6001, 4001, 22] {
                let message = verdict(&rules, address, port).unwrap_err();
                assert!(message.ends_with(exactly), "{address} with {allow:?}: {message}");
            }
        }
        assert_eq!(verdict(&rules, "8.8.8.8", 80), Ok(()));
        assert_eq!(verdict(&rules, "2001:4860::6", 80), Ok(()));
    }
    assert_eq!(verdict(&machine(&["10.0.0.0/8"], &[]), "10.0.0.6", 4001), Ok(()));
    let own = verdict(&machine(&[], &[]), "8.8.4.4", 443).unwrap_err();
    assert!(own.starts_with("address 8.8.4.4 is this machine's own"), "{own}");
    let server = verdict(&machine(&["10.0.0.0/8"], &[]), "10.0.0.5", 443).unwrap_err();
    assert!(server.starts_with("address 10.0.0.5 is that of a server of this node"), "{server}");
}

#[test]
fn an_exact_entry_opens_one_port_of_them() {
    let rules = machine(&["8.8.4.4:443", "10.0.0.5:4001", "push.internal:9000"], &[]);
    for (address, port, other) in [("8.8.4.4", 443, 444), ("10.0.0.5", 4001, 4002)] {
        assert_eq!(verdict(&rules, address, port), Ok(()));
        assert!(verdict(&rules, address, other).is_err());
    }
    let by_name = |port| rules.check(Some("push.internal"), "127.0.0.1".parse().unwrap(), port);
    assert!(by_name(9000).is_ok() && by_name(9001).is_err());
}

#[test]
fn what_is_denied_is_denied_whatever_is_allowed() {
    let rules = machine(
        &["10.0.0.0/8", "8.8.4.4:443", "push.internal:9000"],
        &["10.1.0.0/16", "8.8.4.4", "1.1.1.1:853", "bad.example", "push.internal"],
    );
    for (name, address, port, denied) in [
        (None, "10.1.2.3", 80, true),
        (None, "::ffff:10.1.2.3", 80, true),
        (None, "64:ff9b::10.1.2.3", 80, true),
        (None, "10.2.2.3", 80, false),
        (None, "8.8.4.4", 443, true),
        (None, "1.1.1.1", 853, true),
        (None, "1.1.1.1", 443, false),
        (Some("bad.example"), "1.1.1.1", 443, true),
        (Some("Bad.Example."), "1.1.1.1", 443, true),
        (Some("good.example"), "1.1.1.1", 443, false),
        (Some("push.internal"), "127.0.0.1", 9000, true),
    ] {
        let verdict = rules.check(name, address.parse().unwrap(), port);
        let is_denied = verdict.is_err_and(|error| error.message.ends_with("lists it in egress.deny"));
        assert_eq!(is_denied, denied, "{name:?} {address} {port}");
    }
}

#[tokio::test]
async fn a_server_is_out_of_reach_by_any_name_from_the_first_fetch_on() {
    let server = Server::ok().await;
    let rules = Rules {
        allow: entries(&["127.0.0.0/8"]),
        servers: Arc::new(Servers::new(vec![Host::parse("db.internal").unwrap()])),
        ..nothing_special()
    };
    let egress = egress_of(rules, |name, port| {
        let last = if name == "other.test" { 2 } else { 1 };
        Ok(vec![([127, 0, 0, last], port).into()])
    });
    for host in ["db.internal", "alias.test", "127.0.0.1"] {
        let message = egress.refused(get(format!("http://{host}:{}/", server.port()))).await;
        assert!(message.contains("is that of a server of this node"), "{host}: {message}");
    }
    let other = egress.refused(get(format!("http://other.test:{}/", server.port()))).await;
    assert_eq!(other, "UNAVAILABLE connection refused", "another address of the network is reached");
    assert_eq!(server.requests().len(), 0);
}
