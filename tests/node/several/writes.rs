//! Load on nodes, and what became of each request.

use crate::harness::{Node, eventually, lock};
use crate::http::Answer;
use orama_test_support::guests;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What became of requests of one kind.
#[derive(Default)]
pub struct Counts {
    pub acknowledged: Mutex<BTreeSet<u64>>,
    /// Those that failed, by status; 0 is no answer at all.
    pub failed: Mutex<BTreeMap<u16, u64>>,
    slowest_ms: AtomicU64,
}

impl Counts {
    /// Sends number `n` and notes what came of it.
    pub fn count(&self, n: u64, send: impl FnOnce(u64) -> std::io::Result<Answer>) {
        let begun = Instant::now();
        let answer = send(n);
        self.slowest_ms.fetch_max(begun.elapsed().as_millis() as u64, Ordering::Relaxed);
        match answer {
            Ok(answer) if answer.status < 300 => drop(lock(&self.acknowledged).insert(n)),
            Ok(answer) => {
                assert_eq!(answer.status, 503, "{}", answer.text());
                *lock(&self.failed).entry(503).or_default() += 1;
                // As its clients do.
                std::thread::sleep(Duration::from_millis(50));
            }
            Err(error) => {
                // A read that timed out is a request that hangs.
                assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "no answer");
                *lock(&self.failed).entry(0).or_default() += 1;
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }

    pub fn acknowledged(&self) -> usize {
        lock(&self.acknowledged).len()
    }

    pub fn show(&self, what: &str) {
        let slowest = self.slowest_ms.load(Ordering::Relaxed);
        let (acknowledged, failed) = (self.acknowledged(), lock(&self.failed));
        eprintln!(
            "{what}: {acknowledged} acknowledged, failed by status {failed:?}, the slowest answer after {slowest} ms"
        );
    }

    #[track_caller]
    pub fn all_are_in(&self, there: &BTreeSet<u64>, what: &str) {
        let lost: Vec<_> = lock(&self.acknowledged).difference(there).copied().collect();
        assert!(lost.is_empty(), "{what}: acknowledged and lost: {lost:?}");
    }
}

impl Node {
    pub fn put_secret(&self, n: u64) -> std::io::Result<Answer> {
        let body = json!({ "name": format!("s{n}"), "value": "v" }).to_string();
        self.request("PUT", "/v1/functions/secrets").body(body).try_send()
    }

    pub fn secret_numbers(&self) -> BTreeSet<u64> {
        let secrets = self.get("/v1/functions/secrets").expect(200).json()["secrets"].clone();
        secrets.as_array().unwrap().iter().filter_map(|name| name.as_str()?.get(1..)?.parse().ok()).collect()
    }

    pub fn publish_number(&self, n: u64) -> std::io::Result<Answer> {
        let body = json!({ "topic": "faults", "data": n }).to_string();
        self.request("POST", "/v1/pubsub/publish").body(body).try_send()
    }

    /// A function that logs each event of the topic.
    pub fn listen(&self) {
        self.deploy("reader", &guests::wat("log_input"), &[]);
        let answer = self.request("POST", "/v1/functions/reader/triggers");
        answer.body(json!({ "topic": "faults" }).to_string()).send().expect(201);
    }

    /// The numbers whose events ran here. Each node keeps the records of what it ran.
    pub fn numbers_run(&self) -> BTreeSet<u64> {
        let logs = self.logs("reader", "?limit=1000");
        let texts = logs["invocations"].as_array().unwrap().iter();
        let texts = texts.filter_map(|record| record["messages"][0]["message"].as_str());
        texts.filter_map(|text| serde_json::from_str::<Value>(text).ok()?["data"].as_u64()).collect()
    }

    pub fn ready(&self) -> (u16, Value) {
        let answer = self.anonymous("GET", "/ready").send();
        (answer.status, answer.json()["backends"].clone())
    }

    /// The time of a warm invocation: the median of many.
    pub fn warm(&self) -> Duration {
        let mut times: Vec<_> = (0..200)
            .map(|_| {
                let begun = Instant::now();
                assert_eq!(self.invoke("echo", "{\"a\":1}").expect(200).text(), "{\"a\":1}");
                begun.elapsed()
            })
            .collect();
        times.sort();
        times[times.len() / 2]
    }

    #[track_caller]
    pub fn becomes_ready(&self) {
        eventually("the node is ready", || self.ready().0 == 200);
    }
}

/// Writes from several nodes at once: secrets, versions of a function and messages.
pub struct Writes {
    pub secrets: Counts,
    pub versions: Counts,
    pub messages: Counts,
    next: AtomicU64,
}

impl Writes {
    pub fn new() -> Self {
        let (secrets, versions, messages) = (Counts::default(), Counts::default(), Counts::default());
        Self { secrets, versions, messages, next: AtomicU64::new(0) }
    }

    pub fn deploy(&self, node: &Node, wasm: &[u8]) {
        // The number is the version's.
        let mut version = None;
        let begun = Instant::now();
        let answer = node.deploy_request("echo", wasm, &[]).try_send();
        if let Ok(answer) = &answer
            && answer.status == 201
        {
            version = answer.json()["function"]["version"].as_u64();
        }
        let taken = begun.elapsed().as_millis() as u64;
        self.versions.slowest_ms.fetch_max(taken, Ordering::Relaxed);
        self.versions.count(version.unwrap_or_default(), |_| answer);
    }

    fn write_until(&self, is_over: &AtomicBool, node: &Node, wasm: &[u8]) {
        while !is_over.load(Ordering::Acquire) {
            let n = self.next.fetch_add(1, Ordering::Relaxed);
            // One node keeps at most 1,000 secrets, and tells of 1,000 runs.
            if n < 900 {
                self.secrets.count(n, |n| node.put_secret(n));
                self.messages.count(n, |n| node.publish_number(n));
            }
            if n.is_multiple_of(8) {
                self.deploy(node, wasm);
            }
            std::thread::sleep(Duration::from_millis(15));
        }
    }

    /// Runs until `work` has ended.
    pub fn beside(&self, nodes: &[&Node], work: impl FnOnce()) {
        let wasm = guests::wat("echo");
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for node in nodes {
                scope.spawn(|| self.write_until(&is_over, node, &wasm));
            }
            work();
            is_over.store(true, Ordering::Release);
        });
    }

    pub fn acknowledged(&self) -> usize {
        self.secrets.acknowledged() + self.versions.acknowledged() + self.messages.acknowledged()
    }

    /// Waits until some more writes of each kind were acknowledged.
    #[track_caller]
    pub fn go_on(&self) {
        let kinds = [&self.secrets, &self.versions, &self.messages];
        let before = kinds.map(Counts::acknowledged);
        eventually("writes go on", || {
            let is_enough = |(kind, before): (&&Counts, usize)| kind.acknowledged() > before + 2;
            self.next.load(Ordering::Relaxed) >= 900 || kinds.iter().zip(before).all(is_enough)
        });
    }

    /// All that was acknowledged is on every node.
    #[track_caller]
    pub fn check(&self, nodes: &[&Node]) {
        self.secrets.show("secrets");
        self.versions.show("deploys");
        self.messages.show("messages");
        for node in nodes {
            eventually("the secrets", || lock(&self.secrets.acknowledged).is_subset(&node.secret_numbers()));
            for version in lock(&self.versions.acknowledged).iter() {
                let answer = node.invoke(&format!("echo@{version}"), "[1]");
                assert_eq!((answer.status, answer.text().as_str()), (200, "[1]"), "version {version}");
            }
        }
        let run = || nodes.iter().flat_map(|node| node.numbers_run()).collect::<BTreeSet<_>>();
        eventually("all messages have run", || lock(&self.messages.acknowledged).is_subset(&run()));
        self.messages.all_are_in(&run(), "messages");
    }
}
