//! Guests that are started before their request: they see nothing but their own, and those that cannot wait run on demand.

use crate::harness::{Compiler, Node, Options, eventually};
use crate::http::Answer;
use orama_test_support::guests;
use serde_json::{Value, json};
use std::time::{Duration, UNIX_EPOCH};

impl Node {
    fn of_one_core(config: &str) -> Self {
        Self::start(Options { workers: 1, config: config.to_owned(), ..Options::default() })
    }

    fn parked(&self) -> f64 {
        self.metric("orama_parked_instances")
    }

    fn started_parked(&self) -> f64 {
        self.metric("orama_starts_total{start=\"parked\"}")
    }

    /// Invokes in a guest that waited for it.
    #[track_caller]
    fn invoke_parked(&self, name: &str, input: &str) -> Answer {
        // A request in the moment of a look at the metrics makes the next one a moment later.
        for _ in 0..20 {
            eventually("a guest waits", || self.parked() >= 1.0);
            let before = self.started_parked();
            let answer = self.invoke(name, input);
            if self.started_parked() > before {
                return answer;
            }
        }
        panic!("{name} is never started before its request");
    }

    fn details(&self, name: &str) -> Value {
        self.get(&format!("/v1/functions/{name}")).json()
    }
}

fn unix_ns() -> u64 {
    u64::try_from(UNIX_EPOCH.elapsed().unwrap().as_nanos()).unwrap()
}

fn sees_only_its_own_request(compiler: Compiler) {
    let node = Node::of_one_core("");
    for (name, tags) in [("in-main", &[][..]), ("in-init", &["in_init"])] {
        let built = match compiler {
            Compiler::Go => guests::go("start", tags),
            Compiler::TinyGo => guests::tinygo("start", tags),
        };
        let Ok(built) = built else { return };
        node.deploy(name, &std::fs::read(built).unwrap(), &[("start", "parked")]);
        node.invoke(name, "first").expect(200);
        for round in 0..6 {
            // What waits now was started with another secret.
            eventually("a guest waits", || node.parked() >= 1.0);
            let body = json!({ "name": "S", "value": format!("{name} {round}") }).to_string();
            node.request("PUT", "/v1/functions/secrets").body(body).send().expect(200);
            let begun = unix_ns();
            let input = format!("{{\"round\":{round}}}");
            let answer = node.invoke_parked(name, &input).expect(200);
            let ended = unix_ns();
            let id = answer.header("x-request-id").unwrap().to_owned();
            let seen = answer.json();
            assert_eq!(
                seen,
                json!({
                    "unix_nano": seen["unix_nano"], "request_id": id, "wallet": "",
                    "secret": format!("{name} {round}"), "input": input,
                })
            );
            let told = seen["unix_nano"].as_u64().unwrap();
            assert!((begun..=ended).contains(&told), "{begun} {told} {ended}");
            let record = node.record(name, &id);
            let messages = record["messages"].as_array().unwrap();
            assert_eq!((messages.len(), &messages[0]["message"]), (1, &json!("looked")), "{record}");
        }
        // Its guests would be taken for those of the next one.
        node.delete(&format!("/v1/functions/{name}")).expect(200);
        eventually("nothing waits any more", || node.parked() == 0.0);
    }
}

#[test]
fn a_go_program_that_waited_sees_only_its_own_request() {
    sees_only_its_own_request(Compiler::Go);
}

#[test]
fn a_tinygo_program_that_waited_sees_only_its_own_request() {
    sees_only_its_own_request(Compiler::TinyGo);
}

#[test]
fn a_guest_has_its_whole_time_however_long_it_waited() {
    let node = Node::of_one_core("");
    let Some(misc) = node.misc(Compiler::TinyGo, "env") else { return };
    let wasm = std::fs::read(guests::tinygo("misc", &[]).unwrap()).unwrap();
    node.deploy("timed", &wasm, &[("start", "parked"), ("timeout_seconds", "1")]);
    node.delete(&format!("/v1/functions/{misc}")).expect(200);
    node.invoke("timed", r#"{"do":"echo"}"#).expect(200);
    eventually("a guest waits", || node.parked() >= 1.0);
    std::thread::sleep(Duration::from_millis(1500));
    let answer = node.invoke_parked("timed", r#"{"do":"sleep","ms":400}"#);
    answer.expect(200);
    let answer = node.invoke_parked("timed", r#"{"do":"spin"}"#);
    let id = answer.header("x-request-id").unwrap().to_owned();
    answer.refusal(504, "TIMEOUT");
    let duration_ms = node.record("timed", &id)["duration_ms"].as_f64().unwrap();
    assert!(duration_ms >= 999.0, "{duration_ms}");
}

#[test]
fn what_waits_goes_with_its_version() {
    let node = Node::of_one_core("");
    let wasm = guests::wat("echo");
    let deploy = |name| node.deploy(name, &wasm, &[("start", "parked")]);
    deploy("f");
    deploy("g");
    node.invoke("f", "1").expect(200);
    node.invoke("g", "1").expect(200);
    eventually("each has one", || node.parked() == 2.0);
    deploy("f");
    eventually("the old version's is gone", || node.parked() == 1.0);
    node.invoke("f", "2").expect(200);
    eventually("the new version has one", || node.parked() == 2.0);
    node.delete("/v1/functions/f").expect(200);
    eventually("the deleted function's is gone", || node.parked() == 1.0);
    assert_eq!(node.invoke_parked("g", "[3]").expect(200).body, b"[3]");
    assert!(node.terminate().success());
}

#[test]
fn guests_that_cannot_wait_run_on_demand_and_their_details_say_why() {
    let node = Node::of_one_core("");
    let cases = [
        (
            "trap_unreachable",
            500,
            "started by the request: the function fails during its start: the function trapped: ",
        ),
        (
            "memory_grow_then_trap",
            500,
            "started by the request: the function fails during its start: the function ran out of memory",
        ),
        (
            "spin",
            504,
            "started by the request: the function fails during its start: the function did not finish within",
        ),
        ("empty", 200, "started by the request: the function ends without reading its input"),
    ];
    for (guest, status, note) in cases {
        node.deploy(guest, &guests::wat(guest), &[("start", "parked"), ("timeout_seconds", "1")]);
        assert_eq!(node.details(guest)["start_note"], Value::Null);
        assert_eq!(node.invoke(guest, "").status, status, "{guest}");
        eventually("its start was tried", || node.details(guest)["start_note"] != Value::Null);
        let told = node.details(guest)["start_note"].as_str().unwrap().to_owned();
        assert!(told.starts_with(note), "{guest}: {told}");
        assert_eq!(node.invoke(guest, "").status, status, "{guest}");
    }
    // One that exits waits before it does.
    node.deploy("exits", &guests::wat("exit_code"), &[("start", "parked")]);
    node.invoke("exits", "3").refusal(500, "FUNCTION_EXIT");
    node.invoke_parked("exits", "0").expect(200);
    node.invoke_parked("exits", "4").refusal(500, "FUNCTION_EXIT");
    assert_eq!(node.details("exits")["start_note"], Value::Null);
}

#[test]
fn nothing_waits_where_it_was_not_asked_for_or_there_is_no_memory_for_it() {
    let node = Node::of_one_core("");
    let wasm = guests::wat("echo");
    node.deploy("command", &wasm, &[("start", "command")]);
    node.deploy("auto", &wasm, &[]);
    assert_eq!(
        (&node.details("command")["start"], &node.details("auto")["start"]),
        (&json!("command"), &json!("auto"))
    );
    for name in ["command", "auto"] {
        for _ in 0..200 {
            node.invoke(name, "x").expect(200);
        }
    }
    // One whose start costs nothing is found out after some guests.
    eventually("nothing waits", || node.parked() == 0.0);
    let poor = Node::of_one_core("parked_memory_mb = 0\n");
    poor.deploy("f", &wasm, &[("start", "parked")]);
    for _ in 0..50 {
        assert_eq!(poor.invoke("f", "[1]").expect(200).body, b"[1]");
    }
    assert_eq!((poor.parked(), poor.started_parked()), (0.0, 0.0));
}

#[test]
fn one_namespace_does_not_take_all_the_memory_for_what_waits() {
    // A part of 1 MiB for the namespace: 16 guests of one page.
    let node = Node::of_one_core("parked_memory_mb = 4\n");
    let wasm = guests::wat("exit_code");
    for number in 0..40 {
        let name = format!("f{number}");
        node.deploy(&name, &wasm, &[("start", "parked")]);
        node.invoke(&name, "0").expect(200);
    }
    eventually("as many wait as may", || node.parked() >= 16.0);
    for number in 0..40 {
        node.invoke(&format!("f{number}"), "0").expect(200);
        assert!(node.parked() <= 16.0);
    }
    assert_eq!(node.metric("orama_parked_memory_bytes"), node.parked() * 65536.0);
}

#[test]
fn a_node_full_of_waiting_guests_still_runs_others() {
    let node = Node::of_one_core("instance_slots = 16\nnamespace_share_percent = 100\n");
    let wasm = guests::wat("echo");
    for number in 0..8 {
        let name = format!("f{number}");
        node.deploy(&name, &wasm, &[("start", "parked")]);
        node.invoke(&name, "x").expect(200);
    }
    eventually("some wait", || node.parked() >= 2.0);
    node.deploy("slow", &guests::wat("sleep_100_ms"), &[]);
    let mut running: Vec<_> = (0..16).map(|_| node.connect()).collect();
    running.iter_mut().for_each(|connection| connection.write(node.invoke_bytes("slow", "")));
    for connection in &mut running {
        connection.answer().expect(200);
    }
}

#[test]
fn a_start_that_nobody_knows_is_refused() {
    let node = Node::of_one_core("");
    let answer = node.try_deploy("f", &guests::wat("echo"), &[("start", "soon")]);
    let text = answer.refusal(422, "INVALID_CONFIG");
    assert!(text.contains("`start`: start must be one of auto, snapshot, parked, command, got"), "{text}");
}
