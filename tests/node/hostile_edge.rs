//! One tenant, or a stranger, who takes all that can be had of what all share at the edge: places, bodies, answers, memory,
//! requests. Beside each attack an honest tenant works without a single error.

use crate::harness::{Node, Options, eventually};
use crate::honest::{Honest, deploy_as, key, resident_bytes, tenant};
use crate::http::{Answer, Connection, Request};
use orama_test_support::guests;
use serde_json::json;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Long enough for an attack to show.
pub const WHILE: Duration = Duration::from_secs(3);

/// A node with an honest tenant and a hostile one.
pub struct Place {
    pub node: Node,
    pub honest: Honest,
    pub hostile: String,
}

impl Place {
    /// The config is the node's, besides a budget for guests that does not depend on the machine.
    pub fn new(config: &str) -> Self {
        let guests = if config.contains("guest_memory_mb") { "" } else { "guest_memory_mb = 512\n" };
        let node = Node::start(Options { config: format!("{guests}{config}"), ..Options::default() });
        let place = Self { honest: Honest::settle(&node), hostile: tenant(&node, "hostile", "deploy"), node };
        place.deploy("echo", &guests::wat("echo"), &[("is_public", "true")]).expect(201);
        place
    }

    /// Deploys a function of the hostile tenant.
    pub fn deploy(&self, name: &str, wasm: &[u8], fields: &[(&str, &str)]) -> Answer {
        deploy_as(&self.node, &self.hostile, name, wasm, fields)
    }

    /// A request to the hostile tenant's public function, without a credential.
    pub fn stranger(&self, function: &str) -> Request {
        self.node.anonymous("POST", &format!("/v1/invoke/hostile/{function}"))
    }

    /// A request of the hostile tenant to its own function.
    pub fn tenant(&self, function: &str) -> Request {
        self.node.request_as(&self.hostile, "POST", &format!("/v1/functions/{function}/invoke"))
    }

    /// Does something while the honest tenant works; nothing of that may fail.
    #[track_caller]
    pub fn beside<T>(&self, what: &str, attack: impl FnOnce() -> T) -> T {
        self.honest.beside(&self.node, what, attack)
    }

    pub fn used(&self, kind: &str) -> f64 {
        self.node.metric(&format!("orama_share_used{{kind=\"{kind}\"}}"))
    }

    pub fn limit(&self, kind: &str) -> f64 {
        self.node.metric(&format!("orama_share_limit{{kind=\"{kind}\"}}"))
    }

    /// Resident memory of the node, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        resident_bytes(self.node.pid(), "VmRSS:")
    }

    pub fn open(&self, count: usize, bytes: &[u8]) -> Vec<Connection> {
        let open = |_| {
            let mut connection = self.node.connect();
            connection.write(bytes);
            connection
        };
        (0..count).map(open).collect()
    }
}

/// Writes `length` bytes, of which the first is `first`.
pub fn long_answer(first: char, length: usize) -> Vec<u8> {
    let source = format!(
        r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 130)
  (data (i32.const 0) "\40\00\00\00")
  (func (export "_start")
    (memory.fill (i32.const 64) (i32.const 120) (i32.const {length}))
    (i32.store8 (i32.const 64) (i32.const {}))
    (i32.store (i32.const 4) (i32.const {length}))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#,
        first as u32
    );
    wat::parse_str(source).unwrap()
}

/// Grows its memory to `pages`, writes to each page, and sleeps for some seconds.
fn hungry(pages: u32) -> Vec<u8> {
    let source = format!(
        r#"(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") (local $at i32)
    (if (i32.eq (memory.grow (i32.const {})) (i32.const -1)) (then unreachable))
    (loop $next
      (i32.store8 offset=4096 (local.get $at) (i32.const 1))
      (local.set $at (i32.add (local.get $at) (i32.const 4096)))
      (br_if $next (i32.lt_u (local.get $at) (i32.const {}))))
    (i32.store (i32.const 80) (i32.const 1))
    (i64.store (i32.const 64) (i64.const 0))
    (i64.store (i32.const 72) (i64.const 0))
    (i64.store (i32.const 88) (i64.const 4000000000))
    (drop (call $poll (i32.const 64) (i32.const 128) (i32.const 1) (i32.const 32)))))"#,
        pages - 1,
        pages * 65_536 - 8_192
    );
    wat::parse_str(source).unwrap()
}

#[test]
fn sleepers_leave_room_for_others() {
    let place = Place::new("");
    let fields = [("is_public", "true"), ("timeout_seconds", "60")];
    place.deploy("sleepy", &guests::wat("sleep_hour"), &fields).expect(201);
    let honest = place.node.request_as(&place.honest.key, "POST", "/v1/invoke/hostile/sleepy").bytes();
    for (what, bytes, most) in [
        ("a tenant that sleeps", place.tenant("sleepy").bytes(), 512.0),
        ("a stranger that sleeps", place.stranger("sleepy").bytes(), 342.0),
        ("a neighbour that calls a public function", honest, 342.0),
    ] {
        let connections = place.beside(what, || {
            let connections = place.open(1_100, &bytes);
            eventually("it has what it gets", || place.used("invocations") > most * 0.9);
            sleep(WHILE);
            // Three of the honest tenant may be under way.
            assert!(place.used("invocations") <= most + 4.0, "{}", place.used("invocations"));
            connections
        });
        drop(connections);
        eventually("they are gone", || place.used("invocations") <= 1.0);
    }
    assert!(place.node.metric("orama_share_refused_total{kind=\"invocations\",scope=\"namespace\"}") > 100.0);
    assert!(place.node.metric("orama_share_refused_total{kind=\"invocations\",scope=\"address\"}") > 100.0);
}

#[test]
fn memory_of_guests_stays_within_the_nodes_budget() {
    const MB: f64 = (1 << 20) as f64;
    let place = Place::new("guest_memory_mb = 600\nparked_memory_mb = 16\n");
    let fields = [("is_public", "true"), ("memory_limit_mb", "256")];
    place.deploy("large", &hungry(4_000), &fields).expect(201);
    place.deploy("middle", &hungry(500), &fields).expect(201);
    place.deploy("speaks", &long_answer('x', 8_000_000), &fields).expect(201);
    let before = place.resident_bytes();
    for (what, count, bytes) in [
        ("thirty of 250 MB", 30, place.tenant("large").bytes()),
        ("two hundred of 31 MB", 200, place.stranger("middle").bytes()),
        ("a hundred that speak", 100, place.tenant("speaks").bytes()),
    ] {
        place.beside(what, || {
            let mut connections = place.open(count, &bytes);
            let begun = Instant::now();
            while begun.elapsed() < WHILE {
                assert!(place.used("guest_memory_bytes") <= 310.0 * MB, "a namespace has half at most");
                let more = place.resident_bytes().saturating_sub(before);
                assert!(more < 900 << 20, "{what}: {more} bytes more than before");
                sleep(Duration::from_millis(50));
            }
            let mut served = 0;
            for connection in &mut connections {
                let answer = connection.answer();
                match answer.status {
                    200 => served += 1,
                    _ => drop(answer.refusal(503, "OVERLOADED")),
                }
            }
            assert!(served > 0, "{what}: {served} were served");
        });
    }
    eventually("all is given back", || place.used("guest_memory_bytes") < 32.0 * MB);
    let deny = place.tenant("large").send();
    assert_eq!(deny.status, 200, "alone it has room: {deny:?}");
}

#[test]
fn requests_that_come_too_often_are_told_when_to_come_back() {
    let place = Place::new(
        "[rates]\nrequests_per_key = \"2/s burst 30\"\ndeploys_per_namespace = \"6/h burst 3\"\n\
         publishes_per_key = \"1/h burst 1\"\n",
    );
    let limited = |answer: Answer, scope: &str| {
        let answer = answer.expect(429);
        let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert_eq!(answer.json()["scope"], scope);
        answer.refusal(429, "RATE_LIMITED");
        wait
    };
    let other = key(&place.node, "hostile", "invoke");
    let tired = key(&place.node, "hostile", "invoke");
    let call = |key: &str| place.node.request_as(key, "POST", "/v1/functions/echo/invoke").body("[1]");
    let (begun, mut served) = (Instant::now(), 0);
    let refused = loop {
        let answer = call(&tired).send();
        if answer.status != 200 {
            break answer;
        }
        served += 1;
    };
    let most = 30 + 2 * (begun.elapsed().as_secs() + 1);
    assert!((30..=most).contains(&served), "{served} of at most {most}");
    assert_eq!(limited(refused, "key"), 1);
    call(&other).send().expect(200);
    sleep(Duration::from_millis(1_100));
    call(&tired).send().expect(200);

    let publisher = key(&place.node, "hostile", "invoke");
    let publish = || {
        let request = place.node.request_as(&publisher, "POST", "/v1/pubsub/publish");
        request.body("{\"topic\":\"t\",\"data\":1}")
    };
    publish().send().expect(202);
    assert!((3_000..=3_600).contains(&limited(publish().send(), "key")));

    // One deploy of each namespace was made before. Another key does not help.
    for name in ["a", "b"] {
        deploy_as(&place.node, &key(&place.node, "hostile", "deploy"), name, &guests::wat("echo"), &[])
            .expect(201);
    }
    let fresh = key(&place.node, "hostile", "deploy");
    let form: [(&str, &[u8]); 2] = [("name", b"c"), ("wasm", &guests::wat("echo"))];
    let deploy = place.node.request_as(&fresh, "POST", "/v1/functions").form(&form);
    assert!((1..=600).contains(&limited(deploy.send(), "namespace")));
    deploy_as(&place.node, &place.honest.key, "c", &guests::wat("echo"), &[]).expect(201);
}

#[test]
fn guesses_of_credentials_are_slowed_down_and_known_ones_are_not() {
    let config =
        "trusted_proxies = [\"127.0.0.1\"]\n[rates]\nfailed_credentials_per_address = \"1/min burst 4\"\n";
    let place = Place::new(config);
    let guess = |n: usize, from: &str| {
        let key = format!("orama_{n:043}");
        let request = place.node.request_as(&key, "POST", "/v1/functions/echo/invoke");
        request.header("x-forwarded-for", from).send()
    };
    place.beside("guessing credentials", || {
        for n in 0..4 {
            guess(n, "192.0.2.1").refusal(401, "UNAUTHORIZED");
        }
        for n in 0..200 {
            guess(n, "192.0.2.1").refusal(429, "RATE_LIMITED");
        }
        // The client's own claim stands before what the proxy saw of it.
        guess(5, "198.51.100.9, 192.0.2.1").refusal(429, "RATE_LIMITED");
        guess(6, "192.0.2.2").refusal(401, "UNAUTHORIZED");
        // A key that was known before a change of the registry is still known after it.
        deploy_as(&place.node, &place.honest.key, "other", &guests::wat("echo"), &[]).expect(201);
        let known = place.node.request_as(&place.honest.key, "POST", "/v1/functions/echo/invoke");
        known.header("x-forwarded-for", "192.0.2.1").body("[1]").send().expect(200);
    });
    let alone = Place::new("[rates]\nfailed_credentials_per_address = \"1/min burst 4\"\n");
    for n in 0..8 {
        let request = alone.node.request_as(&format!("orama_{n:043}"), "GET", "/v1/functions");
        let answer = request.header("x-forwarded-for", &format!("192.0.2.{n}")).send();
        assert_eq!(answer.status, if n < 4 { 401 } else { 429 }, "nobody else's word counts");
    }
}

#[test]
fn public_belongs_to_the_function_and_not_to_a_version() {
    let place = Place::new("");
    let call = |name: &str| place.stranger(name).body("[1]").send().status;
    place.deploy("door", &guests::wat("echo"), &[("is_public", "true")]).expect(201);
    assert_eq!((call("door"), call("door@1")), (200, 200));
    place.deploy("door", &guests::wat("echo"), &[("is_public", "false")]).expect(201);
    assert_eq!((call("door"), call("door@1"), call("door@2")), (401, 401, 401));
    place.tenant("door@1").body("[1]").send().expect(200);
    place.deploy("door", &guests::wat("echo"), &[("is_public", "true")]).expect(201);
    assert_eq!((call("door"), call("door@2"), call("door@1")), (200, 200, 200));
    // The same holds for a neighbour, and for a WebSocket.
    let neighbour = |name: &str| {
        let path = format!("/v1/invoke/hostile/{name}");
        place.node.request_as(&place.honest.key, "POST", &path).body("[1]").send().status
    };
    let socket = |name: &str| {
        let path = format!("/v1/functions/{name}/ws?namespace=hostile");
        place.node.anonymous("GET", &path).upgrade().send().status
    };
    assert_eq!(
        (neighbour("door@1"), neighbour("door@2"), socket("door@1"), socket("door@2")),
        (200, 200, 101, 101)
    );
    place.node.request_as(&place.hostile, "DELETE", "/v1/functions/door@3").send().expect(200);
    assert_eq!((call("door"), call("door@1")), (401, 401), "the newest that is left says so");
    assert_eq!(
        (neighbour("door@1"), neighbour("door"), socket("door@1"), socket("door")),
        (403, 403, 401, 401)
    );
}

#[test]
fn what_was_not_known_is_known_as_soon_as_it_is_there() {
    let place = Place::new("");
    for n in 0..20 {
        let name = format!("new-{n}");
        place.tenant(&name).send().refusal(404, "FUNCTION_NOT_FOUND");
        place.tenant(&name).send().refusal(404, "FUNCTION_NOT_FOUND");
        place.stranger(&name).send().refusal(401, "UNAUTHORIZED");
        place.deploy(&name, &guests::wat("echo"), &[]).expect(201);
        place.tenant(&name).body("[1]").send().expect(200);
    }
}

#[test]
fn versions_with_large_environments_and_lists_of_them_slow_nobody_down() {
    let place = Place::new("");
    let metadata = json!({ "env_vars": { "BIG": "x".repeat(60_000) } }).to_string();
    let at_once = |count: usize, what: &(dyn Fn() + Sync)| {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..count).for_each(|_| what()));
            }
        });
    };
    place.beside("versions with large environments", || {
        at_once(40, &|| {
            drop(place.deploy("large", &guests::wat("echo"), &[("metadata", &metadata)]).expect(201));
        });
    });
    place.beside("lists of them", || {
        at_once(50, &|| {
            let list = place.node.request_as(&place.hostile, "GET", "/v1/functions/large/versions").send();
            let list = list.expect(200);
            assert_eq!(list.json()["count"], 160);
            assert!(!list.text().contains("xxxx"), "an environment is shown");
        });
    });
}
