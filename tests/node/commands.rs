//! The command line without compilers, with standard output and standard error looked at apart.

use crate::harness::{Node, Options, eventually, lock, new_dir, orama, output, spawn, wait};
use crate::process::run;
use orama_test_support::{guests, tools};
use rustix::process::{Pid, Signal};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

/// A user's folder.
struct Desk {
    dir: PathBuf,
    home: PathBuf,
    /// What is installed.
    path: std::ffi::OsString,
}

impl Desk {
    /// Where these compilers are installed, and nothing else.
    fn with(node: &Node, compilers: &[&str]) -> Self {
        let mut path: Vec<PathBuf> =
            compilers.iter().map(|tool| tools::find(tool).unwrap().parent().unwrap().to_owned()).collect();
        if !path.is_empty() {
            // Compilers run programs of the system.
            path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        }
        Self { dir: new_dir("desk"), home: node.home.clone(), path: std::env::join_paths(path).unwrap() }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = orama(&["function"]);
        command.args(arguments).current_dir(&self.dir).env("ORAMA_HOME", &self.home).env("PATH", &self.path);
        command
    }

    /// Runs it; it must end with this code. Standard output and standard error.
    #[track_caller]
    fn run(&self, code: i32, arguments: &[&str]) -> (String, String) {
        let (stdout, stderr) = run(code, self.command(arguments));
        assert_eq!(code == 0, !stderr.contains("error: "), "{arguments:?}\n{stderr}");
        (stdout, stderr)
    }

    /// A folder with a module and no sources.
    fn prebuilt(&self, name: &str, guest: &str) {
        let dir = self.dir.join(name);
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("function.wasm"), guests::wat(guest)).unwrap();
        fs::write(dir.join("function.yaml"), format!("name: {name}\n")).unwrap();
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

#[test]
fn without_a_compiler_modules_are_deployed_and_sources_are_not() {
    let node = Node::start(Options::default());
    let desk = Desk::with(&node, &[]);
    desk.prebuilt("echo", "echo");
    let (stdout, _) = desk.run(0, &["deploy", "echo"]);
    assert!(stdout.starts_with("deployed echo\n"), "{stdout}");
    assert_eq!(desk.run(0, &["invoke", "echo", "--data", "{}"]).0, "{}");
    desk.run(0, &["init", "sources"]);
    for command in ["build", "deploy"] {
        let (stdout, stderr) = desk.run(1, &[command, "sources"]);
        assert!(
            stdout.is_empty() && stderr.contains("neither TinyGo nor Go is installed"),
            "{stdout}{stderr}"
        );
    }
    let (_, stderr) = desk.run(1, &["build", "sources", "--compiler", "go"]);
    assert!(stderr.contains("Go is not installed"), "{stderr}");
    node.get("/v1/functions/sources").refusal(404, "FUNCTION_NOT_FOUND");
}

#[test]
fn results_go_to_standard_output_and_everything_else_does_not() {
    for (compiler, name) in [("tinygo", "TinyGo"), ("go", "Go")] {
        if tools::require_or_report(compiler).is_err() {
            continue;
        }
        let node = Node::start(Options::default());
        let desk = Desk::with(&node, &[compiler, "go"]);
        desk.run(0, &["init", "hello"]);
        let (stdout, stderr) = desk.run(0, &["build", "hello", "--compiler", compiler, "--json"]);
        let built: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!((&built["compiler"], stderr.as_str()), (&name.into(), ""), "{built}");
        let wasm = desk.dir.join("hello/function.wasm");
        assert_eq!(built["size_bytes"], fs::metadata(&wasm).unwrap().len());
        let module = fs::read(&wasm).unwrap();

        // Nothing changed, so the compiler gives the same module.
        let (stdout, stderr) = desk.run(0, &["deploy", "hello", "--compiler", compiler]);
        let start = stdout.lines().nth(5).unwrap_or_default();
        assert_eq!(start.starts_with("  start       starts from a snapshot: "), compiler == "go", "{stdout}");
        assert_eq!(stdout.lines().count(), if compiler == "go" { 6 } else { 5 }, "{stdout}");
        assert!(stderr.contains("uploading hello"), "{stderr}");
        assert!(fs::read(&wasm).unwrap() == module, "the same code, another module");

        let source = desk.dir.join("hello/function.go");
        let text = fs::read_to_string(&source).unwrap();
        fs::write(&source, text.replace("Hello", "Servus")).unwrap();
        let (stdout, stderr) = desk.run(0, &["deploy", "hello", "--compiler", compiler]);
        assert!(stdout.starts_with("deployed hello\n  version     2\n"), "{stdout}");
        for progress in [&format!("building function.wasm with {name}"), "uploading hello"] {
            assert!(stderr.contains(progress), "{progress:?} is not in {stderr}");
        }

        let (stdout, _) = desk.run(0, &["invoke", "hello", "--data", "{\"name\":\"you\"}"]);
        assert_eq!(stdout, "{\"message\":\"Servus, you!\"}");

        // A failed build takes the outdated module away.
        fs::write(&source, "package main\n\nfunc main() { undefined() }\n").unwrap();
        let (stdout, stderr) = desk.run(1, &["build", "hello", "--compiler", compiler]);
        assert!(stdout.is_empty() && stderr.contains("undefined"), "{stdout}{stderr}");
        assert!(!wasm.exists());
        assert_eq!(node.get("/v1/functions/hello").json()["version"], 2);
    }
}

#[test]
fn a_mistake_in_function_yaml_is_told_with_its_line() {
    let node = Node::start(Options::default());
    let desk = Desk::with(&node, &[]);
    desk.prebuilt("echo", "echo");
    for (text, line, named) in [
        ("name: echo\ntimeut: 3\n", 2, "timeut"),
        ("name: echo\n\nmemory: 257\n", 3, "256"),
        ("name: 9echo\n", 1, "9echo"),
        ("memory: 32\n", 1, "name"),
    ] {
        fs::write(desk.dir.join("echo/function.yaml"), text).unwrap();
        let (_, stderr) = desk.run(1, &["deploy", "echo"]);
        let place = format!("function.yaml:{line}:");
        assert!(stderr.contains(&place) && stderr.contains(named), "{text:?}: {stderr}");
    }
    assert_eq!(node.get("/v1/functions").json()["count"], 0);
}

#[test]
fn logs_and_versions_show_what_was_asked_for() {
    let node = Node::start(Options::default());
    let desk = Desk::with(&node, &[]);
    desk.prebuilt("exits", "exit_code");
    desk.run(0, &["deploy", "exits"]);
    desk.run(0, &["deploy", "exits"]);
    let ids: Vec<String> = [("exits@1", "0"), ("exits@2", "0"), ("exits@2", "3")]
        .map(|(target, input)| {
            let answer = node.invoke(target, input);
            // Records of one millisecond have no order.
            std::thread::sleep(std::time::Duration::from_millis(5));
            answer.header("x-request-id").unwrap().to_owned()
        })
        .to_vec();
    let shown = |arguments: &[&str]| -> Vec<bool> {
        let (stdout, _) = desk.run(0, &[&["logs"], arguments].concat());
        ids.iter().map(|id| stdout.contains(id)).collect()
    };
    assert_eq!(shown(&["exits"]), [true, true, true]);
    assert_eq!(shown(&["exits", "--limit", "1"]), [false, false, true]);
    assert_eq!(shown(&["exits", "--status", "error"]), [false, false, true]);
    assert_eq!(shown(&["exits", "--status", "success"]), [true, true, false]);
    assert_eq!(shown(&["exits@1"]), [true, false, false]);
    assert_eq!(shown(&["exits", "--request-id", &ids[1]]), [false, true, false]);
    assert_eq!(shown(&["exits", "--since", "1h"]), [true, true, true]);
    let (stdout, stderr) = desk.run(0, &["logs", "exits", "--since", "2999-01-01T00:00:00Z"]);
    assert_eq!((stdout.as_str(), stderr.as_str()), ("", "no invocations\n"));
    let (stdout, _) = desk.run(0, &["logs", "exits", "--status", "error"]);
    assert!(stdout.contains("failed") && stdout.contains("code 3"), "{stdout}");

    // The answer of a function that failed is an error, and says where to look.
    let (stdout, stderr) = desk.run(1, &["invoke", "exits", "--data", "3"]);
    assert!(stdout.is_empty() && stderr.contains("FUNCTION_EXIT"), "{stdout}{stderr}");
    assert!(stderr.contains("orama function logs exits"), "{stderr}");

    let versions = || desk.run(0, &["versions", "exits"]).0.lines().count() - 1;
    assert_eq!(versions(), 2);
    let (stdout, _) = desk.run(0, &["delete", "exits@2", "--force"]);
    assert_eq!((stdout.as_str(), versions()), ("deleted exits@2\n", 1));
    desk.run(3, &["get", "exits@2"]);
    desk.run(0, &["invoke", "exits", "--data", "0"]);
    desk.run(0, &["deploy", "exits"]);
    assert_eq!(desk.run(0, &["delete", "exits", "--force"]).0, "deleted exits\n");
    for command in ["get", "versions", "logs", "invoke"] {
        desk.run(3, &[command, "exits"]);
    }
}

/// A demo on an empty home that runs; what it said so far.
fn demo(home: &Path, arguments: &[&str]) -> (std::process::Child, Arc<Mutex<String>>) {
    let mut command = orama(&["demo"]);
    command.args(arguments).arg("--home").arg(home).env("PATH", "/nonexistent");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = spawn(command).unwrap();
    let said = Arc::new(Mutex::new(String::new()));
    let (stdout, into) = (child.stdout.take().unwrap(), Arc::clone(&said));
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            lock(&into).push_str(&format!("{line}\n"));
        }
    });
    (child, said)
}

#[test]
fn the_demo_takes_a_free_port_and_ends_with_sigterm() {
    let home = new_dir("demo");
    // Taken by this test, or by whoever was faster.
    let _taken = TcpListener::bind("127.0.0.1:6001");
    let (mut child, said) = demo(&home, &[]);
    eventually("the demo is done", || lock(&said).contains("Ctrl-C"));
    let text = lock(&said).clone();
    assert!(text.contains("127.0.0.1:6001 is in use; the demo takes a free port instead"), "{text}");
    assert!(text.contains("answered {\"message\":\"Hello, World!\"}"), "{text}");
    let key = fs::read_to_string(home.join("credentials.json")).unwrap();
    let credentials: Value = serde_json::from_str(&key).unwrap();
    assert!(!text.contains(credentials["api_key"].as_str().unwrap()), "the key stands on the screen");
    // Another command on this machine finds it by its home.
    let mut command = orama(&["function", "invoke", "demo-hello", "--data", "{\"name\":\"you\"}"]);
    command.env("ORAMA_HOME", &home);
    assert_eq!(output(command).stdout, b"{\"message\":\"Hello, you!\"}");
    rustix::process::kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(wait(&mut child).code(), Some(0));
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert!(stderr.contains("uploading demo-hello") && !stderr.contains("ERROR"), "{stderr}");
    fs::remove_dir_all(home).unwrap();
}
