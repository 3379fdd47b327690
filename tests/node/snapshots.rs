//! Snapshots on a node: made once in the background of a deploy, kept across restarts and crashes, and gone with their module.

use crate::harness::{Node, Options, eventually};
use orama_test_support::guests;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

impl Node {
    fn start_note(&self, name: &str) -> Option<String> {
        self.get(&format!("/v1/functions/{name}")).json()["start_note"].as_str().map(str::to_owned)
    }

    /// Waits until the node knows how the function starts.
    #[track_caller]
    fn know_start(&self, name: &str) -> String {
        eventually("the node knows how the function starts", || self.start_note(name).is_some());
        self.start_note(name).unwrap()
    }

    fn started_from_snapshot(&self) -> f64 {
        self.metric("orama_starts_total{start=\"snapshot\"}")
    }

    /// Invokes, and checks that the run went on from a snapshot.
    #[track_caller]
    fn invoke_from_snapshot(&self, name: &str, input: &str) -> Value {
        let before = self.started_from_snapshot();
        let answer = self.invoke(name, input).expect(200).json();
        assert!(self.started_from_snapshot() > before, "{name} started in another way");
        answer
    }

    /// The files of snapshots, with the time at which each was written.
    fn snapshots(&self) -> Vec<(PathBuf, SystemTime)> {
        let files = fs::read_dir(self.home.join("data/artifacts")).unwrap();
        let files = files.map(|entry| entry.unwrap().path());
        let is_snapshot = |path: &PathBuf| path.extension().is_some_and(|end| end == "snapshot");
        let with_time = |path: PathBuf| {
            let written = fs::metadata(&path).unwrap().modified().unwrap();
            (path, written)
        };
        files.filter(is_snapshot).map(with_time).collect()
    }
}

fn start() -> Node {
    Node::start(Options { workers: 1, ..Options::default() })
}

fn hello() -> Option<Vec<u8>> {
    Some(fs::read(guests::go("hello", &[]).ok()?).unwrap())
}

#[test]
fn a_go_function_goes_on_from_a_snapshot_also_after_restarts_and_a_crash() {
    let Some(wasm) = hello() else { return };
    let node = start();
    node.deploy("hello", &wasm, &[]);
    let note = node.know_start("hello");
    assert!(note.starts_with("starts from a snapshot: ") && note.ends_with(" us"), "{note}");
    assert_eq!(node.invoke_from_snapshot("hello", r#"{"name":"A"}"#)["result"], "Hello, A!");
    let made = node.snapshots();
    assert_eq!(made.len(), 1, "{made:?}");
    node.restart();
    assert_eq!(node.invoke_from_snapshot("hello", r#"{"name":"B"}"#)["result"], "Hello, B!");
    assert_eq!(node.start_note("hello").as_deref(), Some(note.as_str()));
    node.kill();
    node.start_again();
    assert_eq!(node.invoke_from_snapshot("hello", r#"{"name":"C"}"#)["result"], "Hello, C!");
    assert_eq!(node.snapshots(), made, "it was not made again");
    node.delete("/v1/functions/hello").expect(200);
    assert_eq!(node.snapshots(), []);
}

#[test]
fn a_damaged_snapshot_is_made_again_and_never_used() {
    let Some(wasm) = hello() else { return };
    let node = start();
    node.deploy("hello", &wasm, &[]);
    node.know_start("hello");
    let (path, _) = node.snapshots().remove(0);
    node.terminate();
    let made = fs::read(&path).unwrap();
    let mut damaged = made.clone();
    damaged[4096] ^= 1;
    fs::write(&path, damaged).unwrap();
    node.start_again();
    assert_eq!(node.invoke("hello", "{}").expect(200).json()["result"], "Hello, World!");
    assert!(node.know_start("hello").starts_with("starts from a snapshot"));
    node.invoke_from_snapshot("hello", "{}");
    // The seeds of Go's hash tables are in it, and nobody can compute them.
    let memory = made.len() - 4096;
    assert_ne!(made[..memory], fs::read(&path).unwrap()[..memory], "two snapshots of one program");
}

#[test]
fn each_version_has_the_snapshot_of_its_own_environment() {
    let Ok(wasm) = guests::go("chance", &[]) else { return };
    let wasm = fs::read(wasm).unwrap();
    let node = start();
    for value in ["one", "two"] {
        let env = json!({ "env_vars": { "MY_VAR": value } }).to_string();
        node.deploy("chance", &wasm, &[("metadata", &env)]);
        assert!(node.know_start("chance").starts_with("starts from a snapshot"));
        assert_eq!(node.invoke_from_snapshot("chance", "")["kept"], value);
    }
    assert_eq!(node.invoke_from_snapshot("chance@1", "")["kept"], "one");
    // With a version goes what holds its environment.
    node.delete("/v1/functions/chance@1").expect(200);
    let holds_env = |(path, _): &(PathBuf, SystemTime)| {
        fs::read(path).unwrap().windows(10).any(|bytes| bytes == b"MY_VAR=one")
    };
    assert!(!node.snapshots().iter().any(holds_env));
    let random = [(); 2].map(|()| node.invoke_from_snapshot("chance", "")["v2"].to_string());
    assert_ne!(random[0], random[1]);
}

#[test]
fn the_node_says_why_there_is_no_snapshot() {
    let Ok(wasm) = guests::go("chance", &[]) else { return };
    let node = start();
    let env = json!({ "env_vars": { "BEFORE_MAIN": "v2" } }).to_string();
    node.deploy("draws", &fs::read(wasm).unwrap(), &[("metadata", &env)]);
    let note = node.know_start("draws");
    assert!(note.starts_with("no snapshot of the start: the program asks for random numbers"), "{note}");
    node.deploy("echo", &guests::wat("echo"), &[("start", "snapshot")]);
    let note = node.know_start("echo");
    assert!(note.contains("not one of the standard Go compiler"), "{note}");
    node.invoke("echo", "{}").expect(200);
    assert_eq!(node.started_from_snapshot(), 0.0);
}

#[test]
fn other_start_modes_make_no_snapshot() {
    let Some(wasm) = hello() else { return };
    let node = start();
    for mode in ["command", "parked"] {
        node.deploy(mode, &wasm, &[("start", mode)]);
        node.invoke(mode, "{}").expect(200);
    }
    // Made in turn, so the others' would be there when this one is.
    node.deploy("snapshot", &wasm, &[("start", "snapshot")]);
    node.know_start("snapshot");
    assert_eq!(node.snapshots().len(), 1);
    assert_eq!(node.started_from_snapshot(), 0.0);
}

#[test]
fn a_function_of_the_sdk_prepares_itself_for_its_snapshot() {
    let Ok(wasm) = guests::go("sdk", &[]) else { return };
    let node = start();
    node.deploy("sdk", &fs::read(wasm).unwrap(), &[]);
    assert!(node.know_start("sdk").starts_with("starts from a snapshot"));
    // What it answers without a URL is an error of its own, from within its handler.
    let before = node.started_from_snapshot();
    node.invoke("sdk", "{}").refusal(500, "FUNCTION_EXIT");
    assert!(node.started_from_snapshot() > before);
}
