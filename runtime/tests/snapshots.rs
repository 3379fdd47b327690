//! Snapshots of programs of standard Go and of reactors: the same meaning as a run from the start, and nothing that two
//! invocations share.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{block_on, function, host, invocation, log, node, text};
use orama_runtime::function::{FunctionVersion, WasmHash};
use orama_runtime::invocation::Outcome;
use orama_runtime::services::ThreadScheduler;
use orama_runtime::{LoadedModule, Snapshot, Start};
use orama_test_support::guests;
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};

/// A module with a function that runs it.
struct Guest {
    module: Arc<LoadedModule>,
    function: FunctionVersion,
}

impl Guest {
    /// `None` when Go is missing, which was reported.
    fn new(name: &str) -> Option<Self> {
        Some(Self::of(name, &std::fs::read(guests::go(name, &[]).ok()?).unwrap()))
    }

    fn reactor(name: &str) -> Self {
        Self::of(name, &guests::wat(name))
    }

    fn of(name: &str, wasm: &[u8]) -> Self {
        static COMPILED: Mutex<BTreeMap<String, Arc<LoadedModule>>> = Mutex::new(BTreeMap::new());
        let mut compiled = COMPILED.lock().unwrap();
        let module = compiled.entry(name.to_owned()).or_insert_with(|| node().load(wasm, 256).unwrap());
        let module = Arc::clone(module);
        let function = FunctionVersion { wasm_hash: WasmHash::of(wasm), ..function(256, 10) };
        Self { module, function }
    }

    fn make(&self) -> Start {
        node().compiler.make_start(&self.module, &self.function).unwrap()
    }

    /// A machine that is busy with other tests may measure no gain at first.
    #[track_caller]
    fn snapshot(&self) -> Arc<Snapshot> {
        let mut refusals = Vec::new();
        for _ in 0..5 {
            match self.make() {
                Start::Snapshot(snapshot) => return snapshot,
                Start::Whole(why) => refusals.push(why),
            }
        }
        panic!("no snapshot: {refusals:?}");
    }

    #[track_caller]
    fn refusal(&self) -> String {
        match self.make() {
            Start::Snapshot(_) => panic!("a snapshot was made"),
            Start::Whole(why) => why.to_string(),
        }
    }

    fn resume(&self, snapshot: &Snapshot, input: &[u8]) -> Outcome {
        let (host, function) = (host(ThreadScheduler), Arc::new(self.function.clone()));
        let run = node().engine.run_from(
            &self.module,
            Some(snapshot),
            &function,
            invocation("request-1", input),
            &host,
        );
        block_on(run).outcome
    }

    fn json(&self, snapshot: &Snapshot) -> Value {
        let outcome = self.resume(snapshot, b"");
        assert_eq!(outcome.result, Ok(()), "{:?}", log(&outcome));
        serde_json::from_slice(&outcome.output).unwrap()
    }

    /// A run from the snapshot cannot be told from one from the start.
    #[track_caller]
    fn compare(&self, snapshot: &Snapshot, input: &str) {
        let whole = node().run(&self.module, self.function.clone(), input.as_bytes());
        let resumed = self.resume(snapshot, input.as_bytes());
        assert_eq!(text(&resumed), text(&whole), "{input}");
        assert_eq!(resumed.result, whole.result, "{input}");
        assert_eq!(log(&resumed), log(&whole), "{input}");
    }
}

#[test]
fn a_run_from_a_snapshot_means_the_same() {
    let Some(hello) = Guest::new("hello") else { return };
    let snapshot = hello.snapshot();
    for input in ["", "{}", "{\"name\":\"Orama\"}", "not JSON", "[1,2]"] {
        hello.compare(&snapshot, input);
    }
}

#[test]
fn everything_that_a_program_can_do_works_from_a_snapshot() {
    let Some(misc) = Guest::new("misc") else { return };
    let snapshot = misc.snapshot();
    for input in [
        "{\"do\":\"exit\",\"code\":3}",
        "{\"do\":\"exit\",\"code\":0}",
        "{\"do\":\"env\"}",
        "{\"do\":\"goroutines\",\"n\":100}",
        "{\"do\":\"sleep\",\"ms\":20}",
        "{\"do\":\"stderr\",\"n\":2}",
        "{\"do\":\"files\"}",
        "{\"do\":\"flood\"}",
        "{\"do\":\"oom\"}",
    ] {
        misc.compare(&snapshot, input);
    }
    let output = misc.resume(&snapshot, b"{\"do\":\"output\",\"n\":1000000}").output;
    assert_eq!(output.len(), 1_000_000);
}

#[test]
fn no_two_instances_of_a_snapshot_share_a_random_number() {
    const INSTANCES: usize = 10_000;
    let Some(chance) = Guest::new("chance") else { return };
    let snapshot = chance.snapshot();
    let mut seen: [HashSet<String>; 4] = Default::default();
    let mut orders = HashSet::new();
    for _ in 0..INSTANCES {
        let told = chance.json(&snapshot);
        for (seen, what) in seen.iter_mut().zip(["crypto", "v1", "v2", "pcg"]) {
            assert!(seen.insert(told[what].to_string()), "{what} came twice: {told}");
        }
        orders.insert(told["order"].to_string());
    }
    // Iteration begins at one of the places of a map.
    assert!(orders.len() > 8, "{}", orders.len());
}

#[test]
fn clocks_go_on_from_a_snapshot() {
    let Some(chance) = Guest::new("chance") else { return };
    let snapshot = chance.snapshot();
    let unix_ns = || std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as i64;
    for _ in 0..20 {
        let before = unix_ns();
        let told = chance.json(&snapshot);
        let (now, elapsed) = (told["now"].as_i64().unwrap(), told["elapsed"].as_i64().unwrap());
        assert!((before..=unix_ns()).contains(&now), "{before} {now}");
        // Not since the snapshot was made, and never backwards.
        assert!((0..unix_ns() - before + 1_000_000_000).contains(&elapsed), "{elapsed}");
    }
}

#[test]
fn what_invocations_must_not_share_is_no_part_of_a_snapshot() {
    let Some(mut guest) = Guest::new("chance") else { return };
    for what in ["v1", "v2", "hash", "crypto"] {
        guest.function.env.insert("BEFORE_MAIN".to_owned(), what.to_owned());
        let why = guest.refusal();
        assert!(why.contains("asks for random numbers during its start"), "{what}: {why}");
    }
    // The seed of a map is the program's own business.
    guest.function.env.insert("BEFORE_MAIN".to_owned(), "map".to_owned());
    assert_eq!(guest.json(&guest.snapshot())["kept"], "the-function".len());
    // The time of day ends the start: each invocation looks at it for itself.
    guest.function.env.insert("BEFORE_MAIN".to_owned(), "today".to_owned());
    let snapshot = guest.snapshot();
    let kept: HashSet<_> = (0..20).map(|_| guest.json(&snapshot)["kept"].to_string()).collect();
    assert_eq!(kept.len(), 20);
}

#[test]
fn a_snapshot_is_of_one_environment() {
    let Some(mut guest) = Guest::new("chance") else { return };
    let first = guest.snapshot();
    assert_eq!(guest.json(&first)["kept"], "my value");
    // Test processes share the folder of snapshots, so the value is one that none had before.
    let another = format!("another {:?}", std::time::SystemTime::now());
    guest.function.env.insert("MY_VAR".to_owned(), another.clone());
    assert!(node().compiler.find_start(&guest.module, &guest.function).unwrap().is_none());
    let second = guest.snapshot();
    assert_eq!(guest.json(&second)["kept"], another.as_str());
    assert_eq!(guest.json(&first)["kept"], "my value");
}

#[test]
fn a_reactor_goes_on_after_it_was_initialized() {
    let guest = Guest::reactor("reactor_prepared");
    let snapshot = guest.snapshot();
    assert!(snapshot.resumed_time() < snapshot.start_time());
    // Each invocation finds what _initialize left, and not what another one changed.
    for input in ["a", "b", "c"] {
        guest.compare(&snapshot, input);
        assert_eq!(text(&guest.resume(&snapshot, input.as_bytes())), format!("1y{input}"));
    }
}

#[test]
fn a_reactor_whose_state_invocations_must_not_share_has_no_snapshot() {
    for (name, reason) in [
        ("reactor_random", "asks for random numbers during its start"),
        ("reactor_reads", "orama_handle is for that"),
        ("reactor_table", "whose state is all in its memory and in integer globals"),
    ] {
        let why = Guest::reactor(name).refusal();
        assert!(why.contains(reason), "{name}: {why}");
    }
    let guest = Guest::reactor("reactor_random");
    let run = || node().run(&guest.module, guest.function.clone(), b"").output;
    assert_ne!(run(), run());
}

#[test]
fn other_modules_have_no_snapshot() {
    let hello = node().guest("echo");
    assert!(!hello.can_resume());
    match node().compiler.make_start(&hello, &function(64, 10)).unwrap() {
        Start::Whole(why) => assert!(why.contains("not one of the standard Go compiler"), "{why}"),
        Start::Snapshot(_) => panic!("a snapshot was made"),
    }
}
