//! Real programs, from standard Go and from TinyGo: what they print, how they end, and what they can learn.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{function, log, node, text};
use orama_runtime::LoadedModule;
use orama_runtime::invocation::{Failure, Outcome};
use orama_test_support::{guests, tools::Missing};
use std::path::PathBuf;
use std::sync::Arc;

type Build = fn(&str, &[&str]) -> Result<PathBuf, Missing>;

/// A guest, or `None` when its compiler is missing, which was reported.
fn load(build: Build, name: &str, tags: &[&str]) -> Option<Arc<LoadedModule>> {
    let wasm = std::fs::read(build(name, tags).ok()?).unwrap();
    Some(node().load(&wasm, 64).unwrap())
}

fn run(module: &Arc<LoadedModule>, input: &str) -> Outcome {
    node().run_both(module, function(64, 60), input.as_bytes())
}

fn trap(outcome: &Outcome) -> &str {
    match &outcome.result {
        Err(Failure::Trap(message)) => message,
        other => panic!("{other:?}"),
    }
}

fn hello_greets(build: Build) {
    let Some(hello) = load(build, "hello", &[]) else { return };
    let outcome = run(&hello, "{\"name\":\"Orama\"}");
    assert_eq!((&outcome.result, text(&outcome)), (&Ok(()), "{\"result\":\"Hello, Orama!\"}"));
    assert_eq!(text(&run(&hello, "")), "{\"result\":\"Hello, World!\"}");
    let outcome = run(&hello, "not JSON");
    assert_eq!(outcome.result, Err(Failure::Exit(1)));
    assert!(log(&outcome)[0].starts_with("error: invalid character"), "{:?}", log(&outcome));
}

#[test]
fn go_hello_greets() {
    hello_greets(guests::go);
}

#[test]
fn tinygo_hello_greets() {
    hello_greets(guests::tinygo);
}

fn programs_end_as_they_should(build: Build) -> Option<Arc<LoadedModule>> {
    let misc = load(build, "misc", &[])?;
    let ends = |input: &str| run(&misc, input).result;
    assert_eq!(ends("{\"do\":\"exit\",\"code\":3}"), Err(Failure::Exit(3)));
    assert_eq!(ends("{\"do\":\"exit\",\"code\":0}"), Ok(()));
    assert_eq!(ends("{\"do\":\"oom\"}"), Err(Failure::OutOfMemory { limit_mb: 64 }));
    assert!(matches!(ends("{\"do\":\"flood\"}"), Err(Failure::OutputTooLarge { .. })));
    let spun = node().run_both(&misc, function(64, 1), b"{\"do\":\"spin\"}");
    assert_eq!(spun.result, Err(Failure::Timeout(1)));
    let last = log(&spun).pop().unwrap();
    assert!(last.contains("main.spinForever"), "{last}");
    let slept = node().run_both(&misc, function(64, 1), b"{\"do\":\"sleep\",\"ms\":3600000}");
    assert_eq!(slept.result, Err(Failure::Timeout(1)));
    assert_eq!(text(&run(&misc, "{\"do\":\"sleep\",\"ms\":20}")), "{\"slept_ms\":20}");
    assert_eq!(text(&run(&misc, "{\"do\":\"goroutines\",\"n\":10}")), "{\"sum\":45}");
    assert_eq!(run(&misc, "{\"do\":\"output\",\"n\":1000000}").output.len(), 1_000_000);
    let environment = "{\"args\":[\"the-function\"],\"environ\":[\"MY_VAR=my value\"]}";
    assert_eq!(text(&run(&misc, "{\"do\":\"env\"}")), environment);
    let random =
        [(); 2].map(|()| text(&node().run(&misc, function(64, 60), b"{\"do\":\"random\"}")).to_owned());
    assert_ne!(random[0], random[1]);
    let lines = run(&misc, "{\"do\":\"stderr\",\"n\":2}");
    let expected = ["error: stderr line 0", "error: stderr line 1", "error: stderr without an end of line"];
    assert_eq!(log(&lines), expected);
    let files = run(&misc, "{\"do\":\"files\"}");
    assert_eq!(files.result, Ok(()));
    assert!(!text(&files).contains(":\"\""), "something was allowed: {}", text(&files));
    Some(misc)
}

#[test]
fn go_programs_end_as_they_should() {
    let Some(misc) = programs_end_as_they_should(guests::go) else { return };
    let panicked = run(&misc, "{\"do\":\"panic\",\"text\":\"on purpose\"}");
    assert_eq!(panicked.result, Err(Failure::Exit(2)));
    assert!(log(&panicked).iter().any(|m| m.contains("on purpose")), "{:?}", log(&panicked));
    assert_eq!(run(&misc, "{\"do\":\"nil\"}").result, Err(Failure::Exit(2)));
    let recursed = run(&misc, "{\"do\":\"recurse\"}");
    assert!(trap(&recursed).contains("call stack exhausted in main.recurseForever"), "{}", trap(&recursed));
    assert!(
        trap(&recursed).ends_with(
            "may take 1024 KiB of stack, some 20,000 calls of Go: recurse less deep, or use a loop"
        )
    );
}

#[test]
fn tinygo_programs_end_as_they_should() {
    let Some(misc) = programs_end_as_they_should(guests::tinygo) else { return };
    let panicked = run(&misc, "{\"do\":\"panic\",\"text\":\"on purpose\"}");
    let message = trap(&panicked);
    assert!(message.contains("unreachable") && message.contains("panic"), "{message}");
    trap(&run(&misc, "{\"do\":\"recurse\"}"));
}

fn a_guest_learns_of_its_caller(build: Build) {
    for (tags, module) in [(&[][..], "env"), (&["host_host"], "host"), (&["host_orama"], "orama")] {
        let Some(misc) = load(build, "misc", tags) else { return };
        let outcome = run(&misc, "{\"do\":\"context\",\"text\":\"told\"}");
        assert_eq!(
            text(&outcome),
            "{\"caller_wallet\":\"0xwallet\",\"claim\":\"a claim\",\"env\":\"my value\",\"env_empty_key\":\"\",\
             \"env_missing\":\"\",\"jwt_subject\":\"subject-1\",\"leaked\":0,\"request_id\":\"request-1\"}",
            "{module}: {:?}",
            outcome.result
        );
        assert_eq!(log(&outcome), ["info: info: told", "error: error: told", "info: "], "{module}");
        let scopes = run(&misc, "{\"do\":\"context\",\"key\":\"scopes\"}");
        assert!(text(&scopes).contains("\"claim\":\"[\\\"a\\\",\\\"b\\\"]\""), "{module}: {}", text(&scopes));
        let services = run(&misc, "{\"do\":\"unavailable\"}");
        assert_eq!(services.result, Ok(()), "{module}");
        assert!(text(&services).contains("\"leaked\":0"), "{module}: {}", text(&services));
        assert!(text(&services).contains("not available on this node"), "{module}: {}", text(&services));
        // One line for each call whose result cannot say what was wrong.
        assert_eq!(log(&services).len(), 11, "{module}: {:?}", log(&services));
        assert!(log(&services).iter().all(|m| m.ends_with(": not available on this node")), "{module}");
    }
}

#[test]
fn go_learns_of_its_caller_under_each_module_name() {
    a_guest_learns_of_its_caller(guests::go);
}

#[test]
fn tinygo_learns_of_its_caller_under_each_module_name() {
    a_guest_learns_of_its_caller(guests::tinygo);
}
