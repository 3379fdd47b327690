//! The binary as a script sees it, where no node is needed: files and exit codes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod place;

use place::{Place, assert_exit, dead_address, stderr, stdout};
use std::fs;

#[test]
fn init_writes_a_function_and_refuses_to_overwrite_it() {
    let place = Place::new();
    let output = place.run(&["function", "init", "hello"]);
    assert_exit(&output, 0);
    assert!(stdout(&output).contains("orama function deploy"), "{}", stdout(&output));
    for file in ["function.go", "function.yaml", "go.mod", ".gitignore"] {
        assert!(place.path("hello").join(file).is_file(), "{file}");
    }
    let before = fs::read(place.path("hello/function.go")).unwrap();
    let output = place.run(&["fn", "init", "hello"]);
    assert_exit(&output, 1);
    assert!(stderr(&output).contains("nothing is overwritten"), "{}", stderr(&output));
    assert_eq!(fs::read(place.path("hello/function.go")).unwrap(), before);
}

#[test]
fn a_bad_name_is_wrong_usage() {
    let place = Place::new();
    for name in ["9lives", "../escape", "", "a b"] {
        assert_exit(&place.run(&["function", "init", name]), 2);
    }
    assert_eq!(fs::read_dir(place.dir.path()).unwrap().count(), 1, "something besides the home was made");
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let place = Place::new();
    for arguments in [
        &["function"][..],
        &["no-such-command"],
        &["function", "invoke"],
        &["function", "invoke", "hello@0"],
        &["function", "list", "--no-such-flag"],
        &["function", "logs", "hello", "--limit", "0"],
        &["function", "logs", "hello", "--status", "odd"],
        &["function", "logs", "hello", "--since", "yesterday"],
        &["function", "build", "--compiler", "rustc"],
        &["function", "list", "--gateway-url", "not a url"],
        &["function", "delete", "hello"],
        &["serve", "--workers", "0"],
    ] {
        let output = place.run(arguments);
        assert_exit(&output, 2);
        assert!(!stderr(&output).is_empty(), "{arguments:?} said nothing");
    }
}

#[test]
fn help_has_examples_and_exits_with_0() {
    let place = Place::new();
    for arguments in
        [&["--help"][..], &["serve", "--help"], &["function", "deploy", "--help"], &["fn", "logs", "--help"]]
    {
        let output = place.run(arguments);
        assert_exit(&output, 0);
        assert!(stdout(&output).contains("  orama "), "{}", stdout(&output));
    }
}

#[test]
fn a_node_that_does_not_answer_is_exit_code_5_for_every_command() {
    let place = Place::new();
    let address = dead_address();
    fs::write(place.path("function.yaml"), "name: hello\n").unwrap();
    fs::write(place.path("function.wasm"), "\0asm").unwrap();
    for arguments in [
        &["list"][..],
        &["get", "hello"],
        &["versions", "hello"],
        &["logs", "hello"],
        &["invoke", "hello", "--data", "{}"],
        &["delete", "hello", "--force"],
        &["deploy"],
    ] {
        let output = place.run(&[&["function"], arguments, &["--gateway-url", &address]].concat());
        assert_exit(&output, 5);
        assert!(stderr(&output).contains(&address), "{arguments:?}: {}", stderr(&output));
        assert!(stdout(&output).is_empty(), "{arguments:?}: {}", stdout(&output));
    }
}

#[test]
fn the_credentials_file_names_the_node_and_its_key_is_never_shown() {
    let place = Place::new();
    let address = dead_address();
    let file = format!(
        "{{\"gateway_url\":\"{address}\",\"api_key\":\"orama_secretkey\",\"namespace\":\"default\"}}"
    );
    fs::write(place.path("home/credentials.json"), file).unwrap();
    let output = place.run(&["function", "list", "--json"]);
    assert_exit(&output, 5);
    let error: serde_json::Value = serde_json::from_str(&stderr(&output)).expect("one JSON object");
    assert!(error["error"].as_str().unwrap().contains(&address), "{error}");
    assert!(!stderr(&output).contains("secretkey"));
}

#[test]
fn a_bad_manifest_stops_a_deploy_before_anything_is_built() {
    let place = Place::new();
    fs::write(place.path("function.go"), "package main\n\nfunc main() {}\n").unwrap();
    fs::write(place.path("function.yaml"), "name: hello\nmemory: 64\nmemroy: 32\n").unwrap();
    let output = place.run(&["function", "deploy", "--gateway-url", &dead_address()]);
    assert_exit(&output, 1);
    assert!(stderr(&output).contains("function.yaml:3:1: unknown key \"memroy\""), "{}", stderr(&output));
    assert!(!place.path("function.wasm").exists());
}

#[test]
fn without_a_compiler_the_message_says_how_to_get_one() {
    let place = Place::new();
    assert_exit(&place.run(&["function", "init", "hello"]), 0);
    let output =
        place.command(&["function", "build", "hello"]).env("PATH", place.path("home")).output().unwrap();
    assert_exit(&output, 1);
    assert!(stderr(&output).contains("https://go.dev/dl/"), "{}", stderr(&output));
}
