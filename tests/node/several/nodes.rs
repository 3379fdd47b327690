//! Several nodes on the same servers: what is deployed on one runs on the others.

use crate::harness::{Node, Options, Servers, eventually};
use crate::servers::{Kind, Sizes};
use orama_test_support::guests;
use orama_test_support::proxy::Fault;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One server of each kind.
pub const ONE_EACH: Sizes = Sizes { rqlite: 1, olric: 1, kubo: 1 };

/// A node on servers.
pub fn node(servers: &Arc<Servers>) -> Node {
    Node::start(Options { servers: Some(Arc::clone(servers)), ..Options::default() })
}

/// Two nodes that share servers of the test's own; none when a server is missing, which was reported.
pub fn two(sizes: Sizes) -> Option<(Arc<Servers>, Node, Node)> {
    let servers = Arc::new(Servers::start(sizes, &["default"]).ok()?);
    let (a, b) = (node(&servers), node(&servers));
    Some((servers, a, b))
}

/// How long others took to notice.
#[derive(Default)]
pub struct Times(Vec<Duration>);

impl Times {
    /// Waits until something acknowledged now is noticed.
    #[track_caller]
    pub fn until(&mut self, what: &str, is_noticed: impl Fn() -> bool) {
        let begun = Instant::now();
        while !is_noticed() {
            assert!(begun.elapsed() < Duration::from_secs(60), "never: {what}");
            std::thread::sleep(Duration::from_millis(1));
        }
        self.0.push(begun.elapsed());
    }

    /// Prints them; a test's log is where to look for how quick it was.
    pub fn tell(mut self, what: &str) {
        self.0.sort();
        let late = self.0.iter().filter(|time| **time > Duration::from_secs(1)).count();
        let at = |part: usize| self.0[(self.0.len() - 1) * part / 2];
        eprintln!(
            "{what}: {} times, min {:?}, median {:?}, max {:?}; {late} took more than a second",
            self.0.len(),
            at(0),
            at(1),
            at(2)
        );
    }
}

fn files(dir: &Path) -> usize {
    fs::read_dir(dir).map_or(0, Iterator::count)
}

/// A module of its own that copies its input.
fn module(n: usize) -> Vec<u8> {
    let mut wasm = guests::wat("echo");
    // A custom section: an id, a length, a name's length, a name, a number.
    let name = format!("{n:08}");
    wasm.extend([0, 1 + name.len() as u8, name.len() as u8]);
    wasm.extend(name.as_bytes());
    wasm
}

#[test]
fn what_is_deployed_on_one_node_runs_on_the_other() {
    let Some((_servers, a, b)) = two(ONE_EACH) else { return };
    let mut times = Times::default();
    for n in 1..=20 {
        let (one, other) = if n % 2 == 0 { (&a, &b) } else { (&b, &a) };
        let deployed = one.deploy("echo", &module(n), &[]);
        assert_eq!(deployed["function"]["version"], n, "numbers are given once");
        let version = format!("echo@{n}");
        times.until("the other node runs it", || {
            let answer = other.invoke(&version, "{\"a\":1}");
            assert!([200, 404].contains(&answer.status), "{}", answer.text());
            answer.status == 200
        });
        assert_eq!(other.invoke("echo", "[1]").expect(200).text(), "[1]");
        let newest = other.get("/v1/functions/echo").expect(200).json();
        assert_eq!(newest["version"], n);
    }
    times.tell("a new version runs on the other node");
    assert_eq!(a.invoke("echo@1", "[1]").expect(200).text(), "[1]");
    let mut times = Times::default();
    a.delete("/v1/functions/echo@7").expect(200);
    times.until("a version is gone", || b.invoke("echo@7", "").status == 404);
    b.invoke("echo@8", "").expect(200);
    b.delete("/v1/functions/echo").expect(200);
    times.until("the function is gone", || a.invoke("echo", "").status == 404);
    times.tell("a delete is seen on the other node");
    for node in [&a, &b] {
        for folder in ["blobs", "copies/blobs", "artifacts"] {
            let dir = node.home.join("data").join(folder);
            eventually("nothing of deleted modules is left", || files(&dir) == 0);
        }
    }
}

#[test]
fn a_node_that_dies_after_its_acknowledgement_takes_nothing_with_it() {
    let Some((_servers, a, b)) = two(ONE_EACH) else { return };
    let mut times = Times::default();
    for n in 0..8 {
        let name = format!("f{n}");
        a.deploy(&name, &module(n), &[]);
        a.kill();
        times.until("the other node runs it", || b.invoke(&name, "[2]").status == 200);
        a.start_again();
        assert_eq!(a.invoke(&name, "[2]").expect(200).text(), "[2]");
    }
    times.tell("deployed on a node that was killed, and run on the other");
}

#[test]
fn each_node_with_a_kubo_of_its_own() {
    let Ok(servers) = Servers::start(Sizes { kubo: 2, ..ONE_EACH }, &["default"]) else { return };
    let servers = Arc::new(servers);
    let with_kubo = |index| {
        let env = vec![("ORAMA_BLOBS_API_URL", servers.kubo_of(index))];
        Node::start(Options { servers: Some(Arc::clone(&servers)), env, ..Options::default() })
    };
    let (a, b) = (with_kubo(0), with_kubo(1));
    a.deploy("one", &module(1), &[]);
    b.deploy("two", &module(2), &[]);
    eventually("each runs the other's", || {
        b.invoke("one", "[]").status == 200 && a.invoke("two", "[]").status == 200
    });
    // What has run on two nodes is in two repositories.
    servers.kubo.node(0).kill();
    fs::remove_dir_all(b.home.join("data/artifacts")).unwrap();
    fs::remove_dir_all(b.home.join("data/copies")).unwrap();
    b.kill();
    b.start_again();
    assert_eq!(b.invoke("one", "[3]").expect(200).text(), "[3]");
}

#[test]
fn without_kubo_deploys_are_refused_and_what_is_here_goes_on() {
    let Ok(servers) = Servers::start(ONE_EACH, &["default"]) else { return };
    let servers = Arc::new(servers.proxied());
    let a = node(&servers);
    a.deploy("here", &module(1), &[]);
    let set = |fault| servers.proxies_of(Kind::Kubo).for_each(|proxy| proxy.set(fault));
    for (n, fault) in [Fault::Closed, Fault::Silent, Fault::Garbage].into_iter().enumerate() {
        set(fault);
        let b = node(&servers);
        let refused = a.try_deploy("new", &module(10 + n), &[]);
        assert_eq!(refused.header("retry-after"), Some("1"), "{fault:?}");
        refused.refusal(503, "UNAVAILABLE");
        a.get("/v1/functions/new").refusal(404, "FUNCTION_NOT_FOUND");
        assert_eq!(a.invoke("here", "[1]").expect(200).text(), "[1]", "{fault:?}");
        // This node never had it, and cannot have it now.
        let refused = b.invoke("here", "[1]");
        assert_eq!(refused.header("retry-after"), Some("1"), "{fault:?}: {}", refused.text());
        refused.refusal(503, "UNAVAILABLE");
        // What the last look found counts for a moment.
        eventually("it says so", || a.anonymous("GET", "/ready").send().status == 503);
        set(Fault::None);
        eventually("it heals by itself", || b.invoke("here", "[1]").status == 200);
        eventually("the other one as well", || a.anonymous("GET", "/ready").send().status == 200);
    }
    let blobs = a.home.join("data/blobs");
    a.deploy("new", &module(20), &[]);
    eventually("nothing of refused deploys is left", || files(&blobs) == 2);
}

#[test]
fn nodes_that_start_at_once_on_an_empty_cluster_agree() {
    for _ in 0..3 {
        let Ok(servers) = Servers::start(ONE_EACH, &["default"]) else { return };
        let servers = Arc::new(servers);
        let nodes: Vec<Node> = std::thread::scope(|scope| {
            let starting: Vec<_> = (0..3).map(|_| scope.spawn(|| node(&servers))).collect();
            starting.into_iter().map(|node| node.join().unwrap()).collect()
        });
        for (n, one) in nodes.iter().enumerate() {
            one.deploy(&format!("f{n}"), &module(n), &[]);
        }
        for one in &nodes {
            eventually("each has what all deployed", || {
                one.get("/v1/functions").expect(200).json()["count"] == nodes.len()
            });
            for n in 0..nodes.len() {
                one.invoke(&format!("f{n}"), "[]").expect(200);
            }
        }
    }
}

/// What a node sends while it has nothing to do is polling; each request to a server would be more than a byte.
#[test]
fn a_warm_invocation_asks_no_server() {
    const INVOCATIONS: u64 = 20_000;
    let Ok(servers) = Servers::start(ONE_EACH, &["default"]) else { return };
    let servers = Arc::new(servers.proxied());
    let (a, b) = (node(&servers), node(&servers));
    a.deploy("echo", &module(1), &[]);
    eventually("the other node runs it", || b.invoke("echo", "[]").status == 200);
    let sent = |kind: Kind| servers.proxies_of(kind).map(|proxy| proxy.sent_bytes()).sum::<u64>();
    let all = || [Kind::Platform, Kind::Olric, Kind::Database, Kind::Kubo].map(sent);
    let mut connection = b.connect();
    let request = b.invoke_bytes("echo", "[4]");
    let mut run = |count: u64| {
        for _ in 0..count {
            connection.write(&request);
            assert_eq!(connection.answer().expect(200).text(), "[4]");
        }
    };
    run(100);
    // Looks for deletions, pins and leases of the start are over.
    std::thread::sleep(Duration::from_secs(3));
    let begun = Instant::now();
    let before = all();
    run(INVOCATIONS);
    let after = all();
    let took = begun.elapsed();
    let idle = all();
    std::thread::sleep(took);
    let idle_after = all();
    let change = |before: [u64; 4], after: [u64; 4]| [0, 1, 2, 3].map(|n| after[n] - before[n]);
    let (busy, idle) = (change(before, after), change(idle, idle_after));
    eprintln!(
        "bytes to [platform, Olric, databases, kubo] in {took:?}: with {INVOCATIONS} invocations {busy:?}, idle {idle:?}"
    );
    assert_eq!((busy[2], busy[3]), (0, 0));
    assert!(busy[0] + busy[1] < INVOCATIONS, "{busy:?}, idle {idle:?}");
}

#[test]
fn what_is_deployed_elsewhere_is_compiled_before_it_is_asked_for() {
    let Some((_servers, a, b)) = two(ONE_EACH) else { return };
    for n in 0..5 {
        a.deploy(&format!("f{n}"), &module(n), &[]);
    }
    eventually("the other node has compiled them", || b.compilations() >= 5.0);
    for n in 0..5 {
        let name = format!("f{n}");
        eventually("it knows the function", || b.invoke(&name, "[]").status == 200);
    }
    assert_eq!((a.compilations(), b.compilations()), (5.0, 5.0), "each once on each node");
}
