//! Real servers that die, freeze or speak nonsense under load: nothing that was acknowledged is lost, nothing hangs, nothing is
//! claimed that is not so, and all heals by itself. Each run prints its counts.

use super::writes::{Counts, Writes};
use crate::harness::{Compiler, Node, Options, Servers, eventually, lock};
use crate::servers::Sizes;
use orama_test_support::backends::Server;
use orama_test_support::guests;
use orama_test_support::proxy::Fault;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Nodes on servers of the test's own; none when a server is missing, which was reported.
fn nodes(count: usize, sizes: Sizes, is_proxied: bool) -> Option<(Arc<Servers>, Vec<Node>)> {
    let servers = Servers::start(sizes, &[]).ok()?;
    let servers = Arc::new(if is_proxied { servers.proxied() } else { servers });
    let start = || Node::start(Options { servers: Some(Arc::clone(&servers)), ..Options::default() });
    let nodes = (0..count).map(|_| start()).collect();
    Some((servers, nodes))
}

#[test]
fn writes_while_the_leader_of_rqlite_is_killed_again_and_again() {
    let Some((servers, nodes)) = nodes(2, Sizes { rqlite: 3, olric: 1, kubo: 1 }, false) else { return };
    let nodes: Vec<_> = nodes.iter().collect();
    nodes[0].listen();
    let writes = Writes::new();
    writes.beside(&nodes, || {
        writes.go_on();
        for _ in 0..3 {
            let leader = servers.platform.leader();
            servers.platform.node(leader).kill();
            writes.go_on();
            servers.platform.node(leader).start();
            writes.go_on();
        }
    });
    writes.check(&nodes);
}

#[test]
fn writes_while_the_leader_of_rqlite_is_paused() {
    let Some((servers, nodes)) = nodes(2, Sizes { rqlite: 3, olric: 1, kubo: 1 }, false) else { return };
    let nodes: Vec<_> = nodes.iter().collect();
    nodes[0].listen();
    let writes = Writes::new();
    writes.beside(&nodes, || {
        for _ in 0..2 {
            writes.go_on();
            let leader = servers.platform.leader();
            servers.platform.node(leader).pause();
            writes.go_on();
            servers.platform.node(leader).resume();
        }
        writes.go_on();
    });
    writes.check(&nodes);
}

#[test]
fn messages_while_one_of_two_nodes_is_killed_again_and_again() {
    let Some((_servers, nodes)) = nodes(2, Sizes { rqlite: 1, olric: 1, kubo: 1 }, false) else { return };
    nodes[0].listen();
    let (messages, next, is_over) = (Counts::default(), AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Acquire) {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n < 900 {
                    messages.count(n, |n| nodes[0].publish_number(n));
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        for _ in 0..3 {
            let before = messages.acknowledged();
            eventually("messages", || messages.acknowledged() > before + 100);
            nodes[1].kill();
            let before = messages.acknowledged();
            eventually("messages", || messages.acknowledged() > before + 50);
            nodes[1].start_again();
        }
        is_over.store(true, Ordering::Release);
    });
    messages.show("messages");
    let run = || nodes.iter().flat_map(Node::numbers_run).collect::<BTreeSet<_>>();
    // What the killed node had begun runs again when its lease is over.
    eventually("all have run", || lock(&messages.acknowledged).is_subset(&run()));
    eprintln!("{} different messages have run", run().len());
}

/// Callers that count until it is over, and what came of it.
#[derive(Default)]
struct Counting {
    acknowledged: AtomicU64,
    /// They may have been counted all the same.
    failed: AtomicU64,
    slowest_ms: AtomicU64,
    is_over: AtomicBool,
}

impl Counting {
    /// Counts until it is over; a count of 0 says that it failed.
    fn run(&self, count: impl Fn() -> u64) {
        while !self.is_over.load(Ordering::Acquire) {
            let begun = Instant::now();
            let counter = if count() == 0 { &self.failed } else { &self.acknowledged };
            counter.fetch_add(1, Ordering::Relaxed);
            self.slowest_ms.fetch_max(begun.elapsed().as_millis() as u64, Ordering::Relaxed);
        }
    }
}

#[test]
fn counting_while_a_member_of_olric_is_killed() {
    let Some((servers, nodes)) = nodes(2, Sizes { rqlite: 1, olric: 2, kubo: 1 }, false) else { return };
    let Some(misc) = nodes[0].misc(Compiler::TinyGo, "orama") else { return };
    let count = |node: &Node, key: &str| {
        let body = json!({ "do": "cache_incr", "key": key }).to_string();
        node.invoke(&misc, body).expect(200).json()["value"].as_u64().unwrap()
    };
    eventually("the other node has heard of it", || nodes[1].invoke(&misc, "{}").status == 200);
    for round in 0..2 {
        let key = format!("key{round}");
        let counting = Counting::default();
        std::thread::scope(|scope| {
            for node in &nodes {
                scope.spawn(|| counting.run(|| count(node, &key)));
            }
            let more = |than: u64| counting.acknowledged.load(Ordering::Relaxed) > than;
            eventually("counting", || more(200));
            servers.olric.node(round).kill();
            let before = counting.acknowledged.load(Ordering::Relaxed);
            eventually("counting goes on", || more(before + 200));
            counting.is_over.store(true, Ordering::Release);
        });
        let (acknowledged, failed) = (counting.acknowledged.into_inner(), counting.failed.into_inner());
        let there = count(&nodes[0], &key) - 1;
        eprintln!(
            "{there} there, {acknowledged} acknowledged, {failed} failed, the slowest answer after {} ms",
            counting.slowest_ms.into_inner()
        );
        assert!((acknowledged..=acknowledged + failed).contains(&there));
        servers.olric.node(round).start();
        nodes.iter().for_each(Node::becomes_ready);
        // It takes over its part before the other one goes.
        std::thread::sleep(Duration::from_secs(3));
    }
}

#[test]
fn deploys_while_kubo_is_killed() {
    let Some((servers, nodes)) = nodes(2, Sizes { rqlite: 1, olric: 1, kubo: 1 }, false) else { return };
    let nodes: Vec<_> = nodes.iter().collect();
    nodes[0].listen();
    let writes = Writes::new();
    writes.beside(&nodes, || {
        for _ in 0..3 {
            writes.go_on();
            servers.kubo.node(0).kill();
            let before = writes.secrets.acknowledged();
            eventually("what needs no kubo goes on", || writes.secrets.acknowledged() > before + 30);
            nodes[0].warm();
            servers.kubo.node(0).start();
        }
        writes.go_on();
    });
    writes.check(&nodes);
}

#[test]
fn bad_ways_to_every_backend() {
    let Some((servers, nodes)) = nodes(1, Sizes { rqlite: 1, olric: 1, kubo: 1 }, true) else { return };
    let node = &nodes[0];
    node.deploy("echo", &guests::wat("echo"), &[]);
    node.listen();
    let Some(misc) = node.misc(Compiler::TinyGo, "orama") else { return };
    let cache = |body: Value| node.invoke(&misc, body.to_string()).expect(200).json();
    let well = node.warm();
    let writes = Writes::new();
    for fault in
        [Fault::Closed, Fault::Silent, Fault::Deaf, Fault::Garbage, Fault::Slow(Duration::from_secs(8))]
    {
        writes.beside(&[node], || writes.go_on());
        cache(json!({ "do": "cache_set", "key": "kept", "value": "v" }));
        assert_eq!(cache(json!({ "do": "cache_get", "key": "kept" })), json!({ "value": "v" }));
        servers.proxies.iter().for_each(|proxy| proxy.set(fault));
        let before = writes.acknowledged();
        writes.beside(&[node], || {
            eventually("what is missing is named", || {
                let (status, backends) = node.ready();
                status == 503 && ["platform", "cache", "pubsub"].iter().all(|name| backends[name] == "failed")
            });
            // Long enough that each kind of request has failed.
            let begun = Instant::now();
            let begun_all = |counts: &Counts| !lock(&counts.failed).is_empty();
            eventually("requests fail", || {
                begun_all(&writes.secrets)
                    && begun_all(&writes.versions)
                    && begun.elapsed() > Duration::from_secs(3)
            });
        });
        let missing = node.ready().1;
        assert_eq!(
            cache(json!({ "do": "cache_incr", "key": "n" })),
            json!({ "value": 0 }),
            "{fault:?}: no wrong success"
        );
        let cut_off = node.warm();
        eprintln!(
            "{fault:?}: {missing}; {} acknowledged while it was so; a warm invocation takes {cut_off:?} instead of {well:?}, {:.2} times",
            writes.acknowledged() - before,
            cut_off.as_secs_f64() / well.as_secs_f64()
        );
        servers.proxies.iter().for_each(|proxy| proxy.set(Fault::None));
        node.becomes_ready();
        eventually("the cache counts again", || {
            cache(json!({ "do": "cache_incr", "key": "n" }))["value"].as_u64() > Some(0)
        });
    }
    writes.check(&[node]);
}

#[test]
fn with_every_backend_frozen_warm_functions_go_on() {
    let Some((servers, nodes)) = nodes(1, Sizes { rqlite: 1, olric: 1, kubo: 1 }, false) else { return };
    let node = &nodes[0];
    node.deploy("echo", &guests::wat("echo"), &[]);
    let all = |act: fn(&Server)| {
        [servers.platform.node(0), servers.olric.node(0), servers.kubo.node(0)].into_iter().for_each(act);
    };
    for round in 0..3 {
        let well = node.warm();
        all(Server::pause);
        eventually("what is missing is named", || {
            let backends = node.ready().1;
            ["platform", "cache", "pubsub", "blobs"].iter().all(|name| backends[name] == "failed")
        });
        let frozen = node.warm();
        let counts = Counts::default();
        (0..3).for_each(|n| counts.count(1000 * (round + 1) + n, |n| node.put_secret(n)));
        counts.show("secrets");
        assert_eq!(counts.acknowledged(), 0, "nobody can have stored them");
        eprintln!(
            "a warm invocation takes {frozen:?} instead of {well:?}, {:.2} times; {}",
            frozen.as_secs_f64() / well.as_secs_f64(),
            node.ready().1
        );
        all(Server::resume);
        node.becomes_ready();
        eventually("secrets are stored again", || {
            node.put_secret(round).is_ok_and(|answer| answer.status == 200)
        });
    }
}
