//! What a new user does first: a function of each template, the SDK, completions, man pages, and mistyped commands.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod place;

use orama_test_support::tools;
use place::{Place, assert_exit, stderr, stdout};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

fn init(place: &Place, template: &str) {
    assert_exit(&place.run(&["function", "init", template, "--template", template]), 0);
}

#[test]
fn a_function_of_each_go_template_builds_and_passes_vet_alone() {
    let Ok(go) = tools::require_or_report("go") else { return };
    for template in ["json", "http", "webhook", "cron", "socket"] {
        let place = Place::new();
        init(&place, template);
        // As on an empty machine: nothing is fetched, and nothing of this repository is near.
        let arguments = ["function", "build", template, "--compiler", "go"];
        let output = place.command(&arguments).env("GOPROXY", "off").output().unwrap();
        assert_exit(&output, 0);
        let test = std::fs::read_to_string(place.path(template).join("function_test.go")).unwrap();
        if test.contains("orama/oramatest/sqlite") {
            // The database of its test comes from Go's module proxy, as docs/CLI.md says.
            let tidy = Command::new(&go).args(["mod", "tidy"]).current_dir(place.path(template)).output();
            let tidy = tidy.unwrap();
            assert!(tidy.status.success(), "{template}: {}", stderr(&tidy));
        }
        // As an editor sees it: for the machine itself, where the SDK has stand-ins.
        let vet = Command::new(&go).args(["vet", "."]).current_dir(place.path(template)).output().unwrap();
        assert!(vet.status.success(), "{template}: {}", stderr(&vet));
    }
}

#[test]
fn what_tinygo_lacks_is_built_by_standard_go() {
    let Ok(_) = tools::require_or_report("tinygo") else { return };
    let place = Place::new();
    init(&place, "http");
    let output = place.run(&["function", "build", "http"]);
    assert_exit(&output, 0);
    assert!(stderr(&output).contains("because TinyGo cannot"), "{}", stderr(&output));
    assert!(stdout(&output).starts_with("built function.wasm with Go:"), "{}", stdout(&output));
}

#[test]
fn a_function_in_rust_builds_and_a_missing_program_is_told() {
    let target =
        Command::new("rustc").args(["--print", "target-libdir", "--target", "wasm32-wasip1"]).output();
    let target = target.ok().and_then(|output| String::from_utf8(output.stdout).ok()).unwrap_or_default();
    if !Path::new(target.trim()).is_dir() {
        return tools::leave_out(
            "Rust's target wasm32-wasip1, which `rustup target add wasm32-wasip1` installs",
        );
    }
    let place = Place::new();
    init(&place, "rust");
    let build = || {
        // The crates are those of this workspace, which are there.
        let mut command = place.command(&["function", "build", "rust"]);
        command.env("CARGO_NET_OFFLINE", "true").env_remove("CARGO_TARGET_DIR").output().unwrap()
    };
    let output = build();
    assert_exit(&output, 0);
    assert!(stdout(&output).starts_with("built function.wasm with Rust:"), "{}", stdout(&output));
    assert!(fs::read(place.path("rust/function.wasm")).unwrap().starts_with(b"\0asm"));

    fs::write(place.path("rust/src/main.rs"), "fn main() { undefined_name() }\n").unwrap();
    let output = build();
    assert_exit(&output, 1);
    assert!(stderr(&output).contains("undefined_name"), "{}", stderr(&output));
    assert!(!place.path("rust/function.wasm").exists());

    fs::rename(place.path("rust/src/main.rs"), place.path("rust/src/lib.rs")).unwrap();
    fs::write(place.path("rust/src/lib.rs"), "").unwrap();
    let output = build();
    assert_exit(&output, 1);
    assert!(stderr(&output).contains("src/main.rs"), "{}", stderr(&output));
}

#[test]
fn a_function_in_c_comes_with_what_builds_it() {
    let place = Place::new();
    init(&place, "c");
    assert!(fs::read_to_string(place.path("c/Makefile")).unwrap().contains("function.wasm: function.c"));
    // Until `make` has run there is nothing to deploy.
    let output = place.run(&["function", "deploy", "c"]);
    assert_ne!(output.status.code(), Some(0));
}

#[test]
fn the_sdk_is_renewed_and_changes_are_kept() {
    let place = Place::new();
    init(&place, "json");
    let output = place.run(&["sdk", "update", "json"]);
    assert_exit(&output, 0);
    assert!(stdout(&output).contains("is that of this version"), "{}", stdout(&output));
    let file = place.path("json/orama/context.go");
    let original = fs::read(&file).unwrap();
    fs::write(&file, "package orama\n").unwrap();
    let output = place.run(&["sdk", "update", "json", "--json"]);
    assert_exit(&output, 1);
    let error: Value = serde_json::from_str(&stderr(&output)).unwrap();
    assert!(error["error"].as_str().unwrap().contains("context.go"), "{error}");
    assert_eq!(fs::read(&file).unwrap(), b"package orama\n");
    let output = place.run(&["sdk", "update", "json", "--force", "--json"]);
    assert_exit(&output, 0);
    let changes: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(changes["written"], serde_json::json!(["context.go"]));
    assert_eq!(fs::read(&file).unwrap(), original);
    assert_exit(&place.run(&["sdk", "update"]), 1);
}

#[test]
fn the_version_says_what_was_built_and_only_the_root_has_the_flag() {
    let place = Place::new();
    let output = place.run(&["version", "--json"]);
    assert_exit(&output, 0);
    let version: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    let lock = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock")).unwrap();
    let engine = version["engine"].as_str().unwrap().strip_prefix("wasmtime ").unwrap();
    assert!(lock.contains(&format!("name = \"wasmtime\"\nversion = \"{engine}\"")), "{engine}");
    assert!(version["target"].as_str().unwrap().contains(std::env::consts::ARCH), "{version}");
    for key in ["commit", "date"] {
        assert!(!version[key].as_str().unwrap().is_empty(), "{version}");
    }
    assert_exit(&place.run(&["-V"]), 0);
    // It deploys nothing, so it must not look as if it had.
    assert_exit(&place.run(&["function", "deploy", "--version", "1"]), 2);
    assert_exit(&place.run(&["function", "-V"]), 2);
}

#[test]
fn completions_and_man_pages_know_the_commands() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish"] {
        let output = place.run(&["completions", shell]);
        assert_exit(&output, 0);
        assert!(stdout(&output).contains("rotate-key"), "{shell}");
    }
    let pages = place.path("man");
    fs::create_dir(&pages).unwrap();
    assert_exit(&place.run(&["man", "man"]), 0);
    let page = fs::read_to_string(pages.join("orama-function-deploy.1")).unwrap();
    assert!(page.contains("compiler"), "{page}");
    assert!(fs::read_to_string(pages.join("orama.1")).unwrap().contains("ORAMA_HOME"));
    assert_exit(&place.run(&["man", "absent"]), 1);
}

#[test]
fn a_command_that_is_elsewhere_is_named() {
    let place = Place::new();
    for (arguments, command) in [
        (&["deploy"][..], "`orama function deploy`"),
        (&["secrets", "set", "A", "hidden-value"], "`orama function secrets set`"),
        (&["fn", "--json", "publish"], "`orama pubsub publish`"),
        (&["functions"], "function"),
    ] {
        let output = place.run(arguments);
        assert_exit(&output, 2);
        assert!(stderr(&output).contains(command), "{arguments:?}: {}", stderr(&output));
        assert!(!stderr(&output).contains("hidden-value"));
    }
}

#[test]
fn wrong_usage_is_json_where_json_was_asked_for() {
    let place = Place::new();
    for arguments in [
        &["function", "list", "--no-such-flag", "--json"][..],
        &["function", "deploy", "--json", "--compiler", "rustc"],
        &["--json", "deploy"],
        &["function", "--json"],
        &["function", "secrets", "set", "--json", "A", "hidden", "hidden-value"],
    ] {
        let output = place.run(arguments);
        assert_exit(&output, 2);
        let error: Value =
            serde_json::from_str(&stderr(&output)).unwrap_or_else(|e| panic!("{e}: {}", stderr(&output)));
        assert!(!error["error"].as_str().unwrap().is_empty(), "{error}");
        assert!(error["code"].is_null() && !error.to_string().contains("hidden-value"), "{error}");
    }
}
