use super::*;
use crate::conformance::cache as suite;
use crate::conformance::{namespace, wait};
use crate::limits::{CACHE_NEAR_SECONDS, OLRIC_TIMEOUT};
use crate::olric::tests::olric;
use crate::pubsub::olric::OlricPubSub;
use orama_test_support::backends;
use orama_test_support::proxy::{Fault, Proxy};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Instant;
use suite::{get, set};
use tokio::runtime::Runtime;

mod faults;

/// Longer than anything that heals takes.
const PATIENCE: Duration = Duration::from_secs(60);
const NEAR: Duration = Duration::from_secs(CACHE_NEAR_SECONDS.default as u64);
const NEAR_BYTES: usize = 16 << 20;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// A node's cache, with pubsub over the same servers.
fn node(runtime: &Runtime, addresses: &[SocketAddr], near: Duration) -> OlricCache {
    node_of(runtime, addresses, addresses, near)
}

fn node_of(runtime: &Runtime, cache: &[SocketAddr], pubsub: &[SocketAddr], near: Duration) -> OlricCache {
    let _context = runtime.enter();
    let pubsub = Arc::new(OlricPubSub::new(olric(pubsub), "test"));
    let cache = OlricCache::new(olric(cache), "test", pubsub, NEAR_BYTES, near);
    // What is heard is heard from now on.
    std::thread::sleep(Duration::from_millis(300));
    cache
}

#[track_caller]
fn eventually(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The answer, if it is there when it is first asked for.
fn at_once(cache: &OlricCache, ns: &Namespace, key: &str) -> Option<Option<Bytes>> {
    match pin!(cache.get(ns, key)).as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Some(answer.unwrap()),
        Poll::Pending => None,
    }
}

/// Every second call goes to another node.
struct Alternating(OlricCache, OlricCache, AtomicBool);

impl Alternating {
    fn next(&self) -> &OlricCache {
        if self.2.fetch_xor(true, Ordering::Relaxed) { &self.0 } else { &self.1 }
    }
}

impl Cache for Alternating {
    fn get(&self, namespace: &Namespace, key: &str) -> Answer<Result<Option<Bytes>, ServiceError>> {
        self.next().get(namespace, key)
    }

    fn set(
        &self,
        namespace: &Namespace,
        key: &str,
        value: Bytes,
        ttl: Option<Duration>,
    ) -> Answer<Result<(), ServiceError>> {
        self.next().set(namespace, key, value, ttl)
    }

    fn delete(&self, namespace: &Namespace, key: &str) -> Answer<Result<(), ServiceError>> {
        self.next().delete(namespace, key)
    }

    fn increment(&self, namespace: &Namespace, key: &str, delta: i64) -> Answer<Result<i64, ServiceError>> {
        self.next().increment(namespace, key, delta)
    }
}

#[test]
fn it_is_a_cache() {
    let Ok(server) = backends::Olric::single() else { return };
    let runtime = runtime();
    let cache = node(&runtime, &server.addresses(), NEAR);
    for (name, case) in suite::CASES {
        eprintln!("case: {name}");
        case(&cache);
    }
}

#[test]
fn two_nodes_on_a_cluster_of_two_are_one_cache() {
    let Ok(server) = backends::Olric::cluster(2) else { return };
    let runtime = runtime();
    let addresses = server.addresses();
    // Without anything remembered, what one did is there for the other at once.
    let first = node(&runtime, &addresses[..1], Duration::ZERO);
    let second = node(&runtime, &addresses[1..], Duration::ZERO);
    let both = Alternating(first, second, AtomicBool::new(false));
    for (name, case) in suite::CASES {
        eprintln!("case: {name}");
        case(&both);
    }
}

#[test]
fn what_one_node_sets_another_one_sees_within_a_second() {
    let Ok(server) = backends::Olric::cluster(2) else { return };
    let runtime = runtime();
    let addresses = server.addresses();
    let nodes = [node(&runtime, &addresses[..1], NEAR), node(&runtime, &addresses[1..], NEAR)];
    let ns = namespace();
    let mut slowest = Duration::ZERO;
    for round in 0..100 {
        let (writes, reads) = (&nodes[round % 2], &nodes[(round + 1) % 2]);
        // It remembers the old value, or that there was none.
        get(reads, &ns, "k");
        let value = format!("value {round}");
        set(writes, &ns, "k", value.as_bytes(), None);
        assert_eq!(get(writes, &ns, "k").unwrap(), value, "own writes are seen at once");
        let begun = Instant::now();
        eventually("the other node sees it", || get(reads, &ns, "k").is_some_and(|seen| seen == value));
        slowest = slowest.max(begun.elapsed());
    }
    eprintln!("100 of 100 seen by the other node, the slowest after {slowest:?}");
    wait(nodes[0].delete(&ns, "k")).unwrap();
    eventually("the other node sees the deletion", || get(&nodes[1], &ns, "k").is_none());
    // The first addition to what others may remember is told, and later ones need not be.
    set(&nodes[0], &ns, "n", b"5", None);
    eventually("the number", || get(&nodes[1], &ns, "n").is_some_and(|seen| seen == "5"));
    assert_eq!(wait(nodes[0].increment(&ns, "n", 1)).unwrap(), 6);
    eventually("the first sum", || get(&nodes[1], &ns, "n").is_some_and(|seen| seen == "6"));
    assert_eq!(wait(nodes[0].increment(&ns, "n", 1)).unwrap(), 7);
    assert_eq!(get(&nodes[1], &ns, "n").unwrap(), "7", "counters are read where they are");
}

#[test]
fn what_is_remembered_is_given_at_once_and_asks_nobody() {
    let Ok(server) = backends::Olric::single() else { return };
    let runtime = runtime();
    let proxy = Proxy::to(server.addresses()[0]);
    let cache = node_of(&runtime, &[proxy.address()], &server.addresses(), NEAR);
    let ns = namespace();
    let large = vec![7; 1 << 20];
    set(&cache, &ns, "k", &large, None);
    set(&cache, &ns, "n", b"5", None);
    for key in ["k", "n", "none"] {
        get(&cache, &ns, key);
    }
    let before = proxy.sent_bytes();
    for _ in 0..1000 {
        assert_eq!(at_once(&cache, &ns, "k").unwrap().unwrap(), large);
        assert_eq!(at_once(&cache, &ns, "n").unwrap().unwrap(), "5");
        assert_eq!(at_once(&cache, &ns, "none").unwrap(), None, "also that there is none");
    }
    assert_eq!(proxy.sent_bytes(), before);
    proxy.set(Fault::Closed);
    assert_eq!(at_once(&cache, &ns, "k").unwrap().unwrap(), large);
}

#[test]
fn a_value_is_forgotten_with_its_own_time() {
    let Ok(server) = backends::Olric::single() else { return };
    let runtime = runtime();
    let cache = node(&runtime, &server.addresses(), NEAR);
    let ns = namespace();
    let begun = Instant::now();
    let ttl = Duration::from_millis(900);
    set(&cache, &ns, "k", b"v", Some(ttl));
    let seen = get(&cache, &ns, "k");
    let remembered = at_once(&cache, &ns, "k");
    if begun.elapsed() < ttl {
        assert_eq!((seen.unwrap(), remembered.unwrap().unwrap()), (Bytes::from("v"), Bytes::from("v")));
    }
    std::thread::sleep(ttl);
    // That there is none may be remembered.
    assert_eq!(at_once(&cache, &ns, "k").flatten(), None, "it is not remembered any more");
    assert_eq!(get(&cache, &ns, "k"), None);
}

#[test]
fn what_is_remembered_is_forgotten_after_a_while_though_nobody_tells() {
    let Ok(server) = backends::Olric::single() else { return };
    let runtime = runtime();
    let near = Duration::from_secs(1);
    let hears = Proxy::to(server.addresses()[0]);
    let deaf = node_of(&runtime, &server.addresses(), &[hears.address()], near);
    let other = node(&runtime, &server.addresses(), near);
    let ns = namespace();
    set(&other, &ns, "k", b"old", None);
    hears.set(Fault::Silent);
    assert_eq!(get(&deaf, &ns, "k").unwrap(), "old");
    set(&other, &ns, "k", b"new", None);
    eventually("the time it is remembered", || get(&deaf, &ns, "k").unwrap() == "new");
}

#[test]
fn many_who_miss_the_same_ask_once() {
    let Ok(server) = backends::Olric::single() else { return };
    let runtime = runtime();
    let proxy = Proxy::to(server.addresses()[0]);
    let cache = node_of(&runtime, &[proxy.address()], &server.addresses(), NEAR);
    let ns = namespace();
    set(&cache, &ns, "warm", b"connection", None);
    let before = proxy.sent_bytes();
    get(&cache, &ns, "one");
    let one = proxy.sent_bytes() - before;
    proxy.set(Fault::Slow(Duration::from_millis(200)));
    let before = proxy.sent_bytes();
    let answers: Vec<_> = (0..100)
        .map(|_| {
            let mut answer = cache.get(&ns, "two");
            // A fetch begins when somebody waits for it.
            let _ = answer.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            answer
        })
        .collect();
    for answer in answers {
        assert_eq!(wait(answer).unwrap(), None);
    }
    assert_eq!(proxy.sent_bytes() - before, one);
}

#[test]
fn a_change_that_is_heard_of_while_a_value_is_on_its_way_wins() {
    let Ok(server) = backends::Olric::single() else { return };
    let runtime = runtime();
    let proxy = Proxy::to(server.addresses()[0]);
    let slow = node_of(&runtime, &[proxy.address()], &server.addresses(), NEAR);
    let other = node(&runtime, &server.addresses(), NEAR);
    let ns = namespace();
    for round in 0..5 {
        let (old, new) = (format!("old {round}"), format!("new {round}"));
        set(&other, &ns, "k", old.as_bytes(), None);
        eventually("the old value", || get(&slow, &ns, "k").is_some_and(|seen| seen == old));
        slow.0.near.forget(&ns, "k");
        proxy.set(Fault::Slow(Duration::from_millis(300)));
        let mut fetch = slow.get(&ns, "k");
        let _ = fetch.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        // Olric has read it by then, and the answer is on its way.
        std::thread::sleep(Duration::from_millis(100));
        set(&other, &ns, "k", new.as_bytes(), None);
        std::thread::sleep(Duration::from_millis(100));
        // Whoever asked before may get what was there before.
        let seen = wait(fetch).unwrap().unwrap();
        assert!(seen == old || seen == new, "{seen:?}");
        proxy.set(Fault::None);
        eventually("the new value", || get(&slow, &ns, "k").unwrap() == new);
    }
}

#[test]
fn own_writes_are_seen_also_by_who_asks_beside_them() {
    let Ok(server) = backends::Olric::single() else { return };
    let runtime = runtime();
    let cache = node(&runtime, &server.addresses(), NEAR);
    let ns = namespace();
    let (latest, is_over) = (AtomicI64::new(-1), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Acquire) {
                    let written = latest.load(Ordering::Acquire);
                    let seen = get(&cache, &ns, "k")
                        .map_or(-1, |seen| std::str::from_utf8(&seen[1..]).unwrap().parse::<i64>().unwrap());
                    assert!(seen >= written, "{seen} was seen after {written} had been written");
                }
            });
        }
        for n in 0..500_i64 {
            set(&cache, &ns, "k", format!("v{n}").as_bytes(), None);
            latest.store(n, Ordering::Release);
        }
        is_over.store(true, Ordering::Release);
    });
}

fn add_ones(cache: &OlricCache, ns: &Namespace, key: &str, count: i64) {
    for _ in 0..count {
        wait(cache.increment(ns, key, 1)).unwrap();
    }
}

#[test]
fn additions_of_two_nodes_through_two_members_lose_nothing() {
    const EACH: i64 = 300;
    let Ok(server) = backends::Olric::cluster(2) else { return };
    let runtime = runtime();
    let addresses = server.addresses();
    let nodes = [node(&runtime, &addresses[..1], NEAR), node(&runtime, &addresses[1..], NEAR)];
    let ns = namespace();
    for key in ["a", "b", "c"] {
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (node, ns) = (&nodes[thread % 2], &ns);
                scope.spawn(move || add_ones(node, ns, key, EACH));
            }
        });
        assert_eq!(wait(nodes[0].increment(&ns, key, 0)).unwrap(), 4 * EACH, "{key}");
    }
}

#[test]
fn what_is_added_to_a_number_that_was_replaced_does_not_change_the_new_one() {
    let Ok(server) = backends::Olric::single() else { return };
    let runtime = runtime();
    let cache = node(&runtime, &server.addresses(), NEAR);
    let ns = namespace();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let (cache, ns, is_over) = (&cache, &ns, &is_over);
            scope.spawn(move || {
                while !is_over.load(Ordering::Acquire) {
                    // Between sets of 1,000,000 at most some hundreds are added.
                    let sum = wait(cache.increment(ns, "n", 1)).unwrap();
                    assert!((1_000_000..1_100_000).contains(&sum) || sum < 100_000, "{sum}");
                }
            });
        }
        for _ in 0..200 {
            set(&cache, &ns, "n", b"1000000", None);
        }
        is_over.store(true, Ordering::Release);
    });
    let before = wait(cache.increment(&ns, "n", 0)).unwrap();
    assert_eq!(wait(cache.increment(&ns, "n", 1)).unwrap(), before + 1);
}

#[test]
fn a_removed_namespace_leaves_nothing_for_a_new_one_of_its_name_on_any_node() {
    let Ok(server) = backends::Olric::cluster(2) else { return };
    let runtime = runtime();
    let addresses = server.addresses();
    let nodes = [node(&runtime, &addresses[..1], NEAR), node(&runtime, &addresses[1..], NEAR)];
    let (gone, stays) = (namespace(), namespace());
    for ns in [&gone, &stays] {
        for n in 0..50 {
            set(&nodes[0], ns, &format!("k{n}"), b"v", None);
            wait(nodes[0].increment(ns, &format!("n{n}"), 1)).unwrap();
        }
        get(&nodes[1], ns, "k0");
    }
    nodes[0].remove(&gone).unwrap();
    eventually("the other node forgets", || get(&nodes[1], &gone, "k0").is_none());
    for n in 0..50 {
        assert_eq!(get(&nodes[1], &gone, &format!("k{n}")), None);
        assert_eq!(wait(nodes[1].increment(&gone, &format!("n{n}"), 1)).unwrap(), 1);
        assert_eq!(get(&nodes[1], &stays, &format!("k{n}")).unwrap(), "v");
    }
    // Once more, as after a crash.
    nodes[0].remove(&gone).unwrap();
}

#[test]
fn values_beyond_olrics_tables_are_refused_with_a_reason() {
    let Ok(server) = backends::Olric::single() else { return };
    let runtime = runtime();
    let other = OlricError::Said { code: "ENTRYTOOLARGE".to_owned(), detail: "of 127.0.0.1:1".to_owned() };
    let failed = Failed::from(other);
    assert_eq!(failed.error.code, ErrorCode::PayloadTooLarge);
    assert!(failed.error.message.contains("tableSize") && !failed.error.message.contains("127.0.0.1"));
    // The tests' servers have room for the largest.
    let cache = node(&runtime, &server.addresses(), NEAR);
    set(&cache, &namespace(), "k", &vec![7; 1 << 20], None);
}
