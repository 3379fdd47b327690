//! The binary as a script sees it, where no node is needed: files, builds with the real compilers, exit codes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use orama_test_support::{ports, tools};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use wasmparser::{KnownCustom, Name, Parser, Payload};

/// A folder of its own, with an empty home, and `orama` to run in it.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("home")).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orama"));
        command.args(arguments).current_dir(self.dir.path()).stdin(Stdio::null());
        for variable in ["ORAMA_GATEWAY_URL", "ORAMA_API_KEY", "ORAMA_NAMESPACE"] {
            command.env_remove(variable);
        }
        command.env("ORAMA_HOME", self.path("home"));
        // A compiler that the tests' own tools brought counts as installed.
        let tools = ["go", "tinygo"].iter().filter_map(|tool| Some(tools::find(tool)?.parent()?.to_owned()));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(std::env::split_paths(&path).chain(tools)).unwrap();
        command.env("PATH", path);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn assert_exit(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "stdout: {}\nstderr: {}", stdout(output), stderr(output));
}

/// An address where nothing listens.
fn dead_address() -> String {
    format!("http://{}", ports::free(1)[0])
}

/// The names of functions that the module's name section holds: what a trap can show.
fn function_names(module: &[u8]) -> Vec<String> {
    for payload in Parser::new(0).parse_all(module) {
        let Payload::CustomSection(section) = payload.expect("a module") else { continue };
        let KnownCustom::Name(names) = section.as_known() else { continue };
        for name in names {
            if let Name::Function(map) = name.unwrap() {
                return map.into_iter().map(|naming| naming.unwrap().name.to_owned()).collect();
            }
        }
    }
    Vec::new()
}

fn assert_names_functions(module: &[u8]) {
    let names = function_names(module);
    let known = "decodeState";
    assert!(names.iter().any(|name| name.contains(known)), "{known} is not among {} names", names.len());
}

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

#[test]
fn the_bundled_module_names_its_functions() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/hello/prebuilt/hello.wasm");
    assert_names_functions(&fs::read(path).unwrap());
}

#[test]
fn standard_go_builds_a_new_function_with_its_function_names() {
    let Ok(_) = tools::require_or_report("go") else { return };
    builds("go", "Go", "");
}

#[test]
fn tinygo_builds_a_new_function_with_its_function_names() {
    let Ok(_) = tools::require_or_report("tinygo") else { return };
    builds("tinygo", "TinyGo", " without a scheduler (no goroutines)");
}

fn builds(compiler: &str, name: &str, how: &str) {
    let place = Place::new();
    assert_exit(&place.run(&["function", "init", "hello"]), 0);
    let output = place.run(&["function", "build", "hello", "--compiler", compiler]);
    assert_exit(&output, 0);
    assert!(
        stdout(&output).starts_with(&format!("built function.wasm with {name}{how}: ")),
        "{}",
        stdout(&output)
    );
    let first = output;
    let module = fs::read(place.path("hello/function.wasm")).unwrap();
    assert_names_functions(&module);
    let files = fs::read_dir(place.path("hello")).unwrap().count();
    assert_eq!(files, 5, "the build left something behind");

    let output = place.run(&["function", "build", "hello", "--compiler", compiler, "--json"]);
    assert_exit(&output, 0);
    let built: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(built["compiler"], name);
    assert_eq!(built["size_bytes"], module.len());
    let start = built["start"].as_str().unwrap();
    assert_eq!(start.contains("from a snapshot"), compiler == "go", "{start}");
    assert!(stdout(&first).ends_with(&format!("{start}\n")), "{}", stdout(&first));
    assert_eq!(fs::read(place.path("hello/function.wasm")).unwrap(), module, "the same code, another module");
}

#[test]
fn a_lone_function_go_builds_and_a_failed_build_leaves_no_old_module() {
    let Ok(_) = tools::require_or_report("go") else { return };
    let place = Place::new();
    let build = ["function", "build", "--compiler", "go"];
    fs::write(place.path("function.yaml"), "name: hello\n").unwrap();
    fs::write(place.path("function.go"), "package main\n\nfunc main() { println(\"ok\") }\n").unwrap();
    assert_exit(&place.run(&build), 0);
    assert!(place.path("function.wasm").is_file());

    fs::write(place.path("function.go"), "package main\n\nfunc main() { undefinedName() }\n").unwrap();
    let output = place.run(&build);
    assert_exit(&output, 1);
    assert!(stderr(&output).contains("undefined: undefinedName"), "{}", stderr(&output));
    assert!(!place.path("function.wasm").exists(), "the old module is still there");
}

#[test]
fn deploy_builds_what_changed_and_leaves_alone_what_did_not() {
    let Ok(_) = tools::require_or_report("go") else { return };
    let place = Place::new();
    assert_exit(&place.run(&["function", "init", "hello"]), 0);
    let address = dead_address();
    // No node answers: what is looked at is whether the module was built before.
    let deploy = || {
        let output =
            place.run(&["function", "deploy", "hello", "--compiler", "go", "--gateway-url", &address]);
        assert_exit(&output, 5);
        stderr(&output).contains("built function.wasm with Go")
    };
    assert!(deploy(), "no module yet");
    assert!(!deploy(), "nothing changed");
    fs::write(place.path("hello/function.yaml"), "name: hello\nmemory: 32\n").unwrap();
    assert!(!deploy(), "the manifest is no source");
    fs::write(place.path("hello/more.go"), "package main\n").unwrap();
    assert!(deploy(), "a source is new");
}
