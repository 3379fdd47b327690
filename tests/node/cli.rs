//! The command line against a node.

use crate::harness::{Node, Options, eventually, lock, new_dir, orama, output, spawn, wait};
use orama_test_support::{guests, ports, tools};
use rustix::process::{Pid, Signal};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

/// A user's folder, whose commands find a node's credentials in its home.
struct User {
    dir: PathBuf,
    home: PathBuf,
}

impl User {
    fn of(node: &Node) -> Self {
        Self { dir: new_dir("user"), home: node.home.clone() }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = orama(arguments);
        command.current_dir(&self.dir).env("ORAMA_HOME", &self.home);
        // A compiler that the tests' own tools brought counts as installed.
        let tools = ["go", "tinygo"].iter().filter_map(|tool| Some(tools::find(tool)?.parent()?.to_owned()));
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.env("PATH", std::env::join_paths(std::env::split_paths(&path).chain(tools)).unwrap());
        command
    }

    /// Runs `orama function ...`, which must end with this code.
    #[track_caller]
    fn run(&self, code: i32, arguments: &[&str]) -> (String, String) {
        let output = output(self.command(&[&["function"], arguments].concat()));
        said(&output, code, arguments)
    }

    /// The same with `--json`: what it printed.
    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        let (stdout, stderr) = self.run(0, &[arguments, &["--json"]].concat());
        assert_eq!(stdout.trim_end().lines().count(), 1, "{stdout}");
        assert_eq!(stderr, "", "{arguments:?}");
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"))
    }

    /// The same where it fails: the error object.
    #[track_caller]
    fn json_error(&self, code: i32, arguments: &[&str]) -> Value {
        let (stdout, stderr) = self.run(code, &[arguments, &["--json"]].concat());
        assert_eq!(stdout, "");
        serde_json::from_str(&stderr).unwrap_or_else(|error| panic!("{error}: {stderr}"))
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

#[track_caller]
fn said(output: &Output, code: i32, arguments: &[&str]) -> (String, String) {
    let stdout = String::from_utf8(output.stdout.clone()).unwrap();
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}\nstdout: {stdout}\nstderr: {stderr}");
    (stdout, stderr)
}

#[test]
fn tinygo_builds_without_a_scheduler_only_what_can_do_without() {
    if tools::require_or_report("tinygo").is_err() {
        return;
    }
    let node = Node::start(Options::default());
    let user = User::of(&node);
    let goroutine = "done := make(chan string); go func() { done <- \"it ran\" }(); print(<-done)";
    let timer = "select { case <-time.After(time.Millisecond): print(\"it ran\") }";
    let neither = "queue := make(chan string, 1); queue <- \"it ran\"; time.Sleep(1); print(<-queue)";
    for (name, body, scheduler) in
        [("goroutine", goroutine, "asyncify"), ("timer", timer, "asyncify"), ("neither", neither, "none")]
    {
        let dir = user.dir.join(name);
        fs::create_dir_all(&dir).unwrap();
        let code = format!(
            "package main\nimport (\"os\"; \"time\")\nvar _ = time.Now\n\
             func print(text string) {{ os.Stdout.WriteString(text) }}\nfunc main() {{ {body} }}\n"
        );
        fs::write(dir.join("function.go"), code).unwrap();
        fs::write(dir.join("function.yaml"), format!("name: {name}\n")).unwrap();
        let (stdout, _) = user.run(0, &["build", name, "--compiler", "tinygo", "--json"]);
        let built: serde_json::Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(built["scheduler"], scheduler, "{name}");
        user.run(0, &["deploy", name]);
        let (stdout, _) = user.run(0, &["invoke", name, "--data", "{}"]);
        assert!(stdout.contains("it ran"), "{name}: {stdout}");
    }
    // Asked for, it is not second-guessed.
    let (stdout, _) = user.run(0, &["build", "neither", "--compiler", "tinygo", "--scheduler", "asyncify"]);
    assert!(stdout.contains("with its scheduler"), "{stdout}");
    let (_, stderr) = user.run(1, &["build", "goroutine", "--compiler", "tinygo", "--scheduler", "none"]);
    assert!(stderr.contains("without a scheduler"), "{stderr}");
}

/// A folder with a module and no sources, as from another language's compiler.
fn prebuilt(user: &User, name: &str, guest: &str, yaml: &str) {
    let dir = user.dir.join(name);
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("function.wasm"), guests::wat(guest)).unwrap();
    fs::write(dir.join("function.yaml"), format!("name: {name}\n{yaml}")).unwrap();
}

#[test]
fn from_init_to_an_answer_with_each_compiler() {
    let node = Node::start(Options::default());
    let user = User::of(&node);
    for (compiler, word) in [("tinygo", "TinyGo"), ("go", "Go")] {
        if tools::require_or_report(compiler).is_err() {
            continue;
        }
        let name = format!("hello-{compiler}");
        user.run(0, &["init", &name]);
        let wasm = user.dir.join(&name).join("function.wasm");
        let (stdout, stderr) = user.run(0, &["build", &name, "--compiler", compiler]);
        assert!(format!("{stdout}{stderr}").contains(&format!("with {word}")), "{stdout}{stderr}");
        assert!(fs::read(&wasm).unwrap().starts_with(b"\0asm"));
        let (stdout, _) = user.run(0, &["deploy", &name, "--compiler", compiler]);
        let deployed = node.get(&format!("/v1/functions/{name}")).expect(200).json();
        for part in [name.as_str(), deployed["wasm_cid"].as_str().unwrap()] {
            assert!(stdout.contains(part), "{part} is not in {stdout}");
        }
        assert!(stdout.contains(&fs::metadata(&wasm).unwrap().len().to_string()), "{stdout}");
        let (stdout, _) = user.run(0, &["invoke", &name, "--data", "{\"name\": \"Orama\"}"]);
        assert!(stdout.contains("Orama"), "{stdout}");

        // What was edited is built; the answer shows it.
        let source = user.dir.join(&name).join("function.go");
        let text = fs::read_to_string(&source).unwrap();
        assert!(text.contains("Hello"), "{text}");
        fs::write(&source, text.replace("Hello", "Servus")).unwrap();
        let (_, stderr) = user.run(0, &["deploy", &name, "--compiler", compiler]);
        assert!(stderr.contains("built function.wasm"), "says that it builds: {stderr}");
        let (stdout, _) = user.run(0, &["invoke", &name, "--data", "{\"name\": \"Orama\"}"]);
        assert!(stdout.contains("Servus"), "{stdout}");
        let (stdout, _) = user.run(0, &["invoke", &format!("{name}@1"), "--data", "{\"name\": \"Orama\"}"]);
        assert!(stdout.contains("Hello"), "{stdout}");

        // A build that fails leaves no module, and nothing is deployed.
        fs::write(&source, "package main\nfunc main() { no such thing }\n").unwrap();
        let (_, stderr) = user.run(1, &["deploy", &name, "--compiler", compiler]);
        assert!(stderr.contains("function.go"), "shows what the compiler said: {stderr}");
        assert!(!wasm.exists(), "a failed build leaves no module");
        user.run(1, &["build", &name, "--compiler", compiler]);
        assert_eq!(node.get(&format!("/v1/functions/{name}")).json()["version"], 2);
    }
}

#[test]
fn every_command_speaks_json() {
    let node = Node::start(Options::default());
    let user = User::of(&node);
    let made = user.json(&["init", "fresh"]);
    assert_eq!(made["name"], "fresh");
    prebuilt(&user, "echo", "echo", "memory: 32\ntimeout: 3\npublic: true\nenv:\n  A: \"1\"\n");
    prebuilt(&user, "failing", "exit_code", "");
    let first = user.json(&["deploy", "echo"]);
    assert_eq!(
        (&first["function"]["version"], &first["function"]["memory_limit_mb"]),
        (&1.into(), &32.into())
    );
    assert_eq!(
        (&first["function"]["timeout_seconds"], &first["function"]["is_public"]),
        (&3.into(), &true.into())
    );
    assert_eq!(user.json(&["deploy", "echo"])["compiled"], false);
    user.json(&["deploy", "failing"]);

    let answer = user.json(&["invoke", "echo", "--data", "{\"a\": 1.0}"]);
    assert_eq!(
        (&answer["status"], answer["output"].to_string()),
        (&"success".into(), "{\"a\":1.0}".to_owned())
    );
    let plain = user.json(&["invoke", "echo@1", "--data", "plain"]);
    assert_eq!(plain["output"], "plain");
    assert_eq!(user.json(&["list"])["count"], 2);
    assert_eq!(user.json(&["get", "echo@1"])["version"], 1);
    assert_eq!(user.json(&["versions", "echo"])["count"], 2);
    let id = plain["request_id"].as_str().unwrap();
    let logs = user.json(&["logs", "echo", "--request-id", id]);
    assert_eq!((&logs["count"], &logs["invocations"][0]["version"]), (&1.into(), &1.into()));
    assert_eq!(
        user.json(&["logs", "echo", "--limit", "1", "--status", "success", "--since", "15m"])["count"],
        1
    );
    assert_eq!(user.json(&["logs", "echo@2", "--status", "error"])["count"], 0);

    let error = user.json_error(1, &["invoke", "failing", "--data", "9"]);
    assert_eq!(error["code"], "FUNCTION_EXIT");
    assert_eq!(node.record("failing", error["request_id"].as_str().unwrap())["status"], "error");
    assert_eq!(user.json_error(3, &["get", "absent"])["code"], "FUNCTION_NOT_FOUND");
    assert_eq!(user.json_error(3, &["invoke", "echo@9"])["code"], "FUNCTION_NOT_FOUND");
    assert_eq!(user.json_error(4, &["list", "--api-key", "orama_wrong"])["code"], "UNAUTHORIZED");
    user.json_error(2, &["delete", "echo"]);
    assert_eq!(user.json(&["delete", "echo@1", "--force"])["versions_deleted"], 1);
    user.json(&["delete", "echo", "--force"]);
    assert_eq!(user.json_error(3, &["delete", "echo", "--force"])["code"], "FUNCTION_NOT_FOUND");
}

#[test]
fn a_function_is_shown_with_its_address_and_a_misspelt_one_with_what_was_meant() {
    let node = Node::start(Options::default());
    let user = User::of(&node);
    prebuilt(&user, "echo", "echo", "");
    user.run(0, &["deploy", "echo"]);
    let (stdout, _) = user.run(0, &["get", "echo"]);
    let url = format!("http://{}/fn/default/echo", node.address());
    assert!(stdout.contains(&url), "{stdout}");
    assert!(user.run(0, &["deploy", "echo"]).0.contains(&url));
    for arguments in
        [&["get", "ecko"][..], &["invoke", "ecko"], &["versions", "ecko"], &["rm", "ecko", "--force"]]
    {
        let (_, stderr) = user.run(3, arguments);
        assert!(stderr.contains("did you mean echo?"), "{arguments:?}: {stderr}");
    }
    let (stdout, stderr) = user.run(0, &["invoke", "echo", "-i", "--data", "{}"]);
    assert_eq!(stdout, "{}");
    for part in ["status: 200", "x-request-id: ", "x-duration-ms: ", "content-type: application/json"] {
        assert!(stderr.contains(part), "{part} is not in {stderr}");
    }
}

#[test]
fn exit_codes_and_words_for_people() {
    let node = Node::start(Options::default());
    let user = User::of(&node);
    prebuilt(&user, "echo", "echo", "");
    prebuilt(&user, "logger", "log_env", "");
    prebuilt(&user, "bad", "no_start", "");
    let (stdout, stderr) = user.run(0, &["list"]);
    assert!(stdout.is_empty() && stderr.contains("no function"), "{stdout}{stderr}");
    user.run(0, &["deploy", "echo"]);
    user.run(0, &["deploy", "logger"]);
    let (_, stderr) = user.run(1, &["deploy", "bad"]);
    assert!(stderr.contains("_start") && stderr.contains("INVALID_MODULE"), "{stderr}");
    let (stdout, _) = user.run(0, &["list"]);
    assert!(stdout.contains("echo") && stdout.contains("logger") && !stdout.contains("bad"), "{stdout}");
    let (stdout, _) = user.run(0, &["get", "echo"]);
    assert!(stdout.contains("64 MB") && stdout.contains("30 s"), "{stdout}");
    user.run(0, &["ls"]);
    user.run(0, &["versions", "echo"]);
    user.run(0, &["invoke", "logger"]);
    let (stdout, _) = user.run(0, &["logs", "logger"]);
    assert!(stdout.contains("info") && stdout.contains("error"), "{stdout}");

    // What a function wrote comes out byte for byte, from every kind of input.
    let (stdout, _) = user.run(0, &["invoke", "echo", "--data", "no end of line"]);
    assert_eq!(stdout, "no end of line");
    fs::write(user.dir.join("input.json"), "[1, 2]\n").unwrap();
    assert_eq!(user.run(0, &["invoke", "echo", "--data", "@input.json"]).0, "[1, 2]\n");
    let mut command = user.command(&["fn", "invoke", "echo"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = spawn(command).unwrap();
    child.stdin.take().unwrap().write_all(b"{\"from\":\"stdin\"}").unwrap();
    assert_eq!(child.wait_with_output().unwrap().stdout, b"{\"from\":\"stdin\"}");

    // 2: wrong usage. 4: not authorised. 5: nobody there.
    user.run(2, &["invoke", "not a name"]);
    user.run(2, &["frobnicate"]);
    let (_, stderr) = user.run(2, &["delete", "echo"]);
    assert!(stderr.contains("--force"), "{stderr}");
    node.get("/v1/functions/echo").expect(200);
    user.run(4, &["list", "--api-key", "orama_wrong"]);
    let dead = format!("http://{}", ports::free(1)[0]);
    let (_, stderr) = user.run(5, &["list", "--gateway-url", &dead, "--api-key", &node.key()]);
    assert!(stderr.contains("orama serve"), "says what to do: {stderr}");
    let (_, stderr) = user.run(4, &["list", "--gateway-url", &dead]);
    assert!(stderr.contains(&dead) && stderr.contains("belongs to"), "{stderr}");
    let stranger = User { dir: new_dir("stranger"), home: new_dir("empty-home") };
    let url = format!("http://{}", node.address());
    let (_, stderr) = stranger.run(4, &["list", "--gateway-url", &url]);
    assert!(stderr.contains("ORAMA_API_KEY"), "{stderr}");

    // Variables stand above the file, and flags above variables.
    let mut command = stranger.command(&["function", "list", "--json"]);
    command.env("ORAMA_GATEWAY_URL", &url).env("ORAMA_API_KEY", node.key());
    let (stdout, _) = said(&output(command), 0, &["list"]);
    assert!(stdout.contains("echo"), "{stdout}");
    let mut command = user.command(&["function", "list", "--gateway-url", &url, "--api-key", &node.key()]);
    command.env("ORAMA_GATEWAY_URL", "http://127.0.0.1:1").env("ORAMA_API_KEY", "orama_wrong");
    said(&output(command), 0, &["list"]);
    let mut command = user.command(&["function", "list"]);
    command.env("ORAMA_NAMESPACE", "nowhere");
    said(&output(command), 3, &["list"]);

    let (stdout, _) = user.run(0, &["delete", "echo", "--force"]);
    assert!(stdout.contains("echo"), "{stdout}");
    user.run(3, &["invoke", "echo"]);
}

/// Runs `orama demo` until it has said everything, hands over what it said, and ends it.
fn demo(home: &Path, path: Option<&str>, check: impl FnOnce(&str)) {
    let mut command = orama(&["demo", "--listen", "127.0.0.1:0"]);
    command.arg("--home").arg(home).stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Some(path) = path {
        command.env("PATH", path);
    }
    let mut child = spawn(command).unwrap();
    let said = Arc::new(Mutex::new(String::new()));
    let (stdout, into) = (child.stdout.take().unwrap(), Arc::clone(&said));
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            lock(&into).push_str(&format!("{line}\n"));
        }
    });
    eventually("the demo is done", || lock(&said).contains("Ctrl-C") || reader.is_finished());
    let text = lock(&said).clone();
    assert!(text.contains("Ctrl-C"), "{text}");
    check(&text);
    rustix::process::kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(wait(&mut child).code(), Some(0));
    reader.join().unwrap();
    assert!(!lock(&said).contains("orama_"), "the key stands on the screen");
}

#[test]
fn the_demo_answers_and_its_curl_line_works() {
    if tools::require_or_report("curl").is_err() {
        return;
    }
    let home = new_dir("demo");
    // Once with the bundled module, once built from source where a compiler is there.
    for path in [Some("/nonexistent"), None] {
        demo(&home, path, |text| {
            assert!(text.contains("listening on http://127.0.0.1:"), "{text}");
            assert_eq!(path.is_some(), text.contains("bundled module"), "{text}");
            let answered = text.lines().find_map(|line| line.strip_prefix("answered ")).unwrap();
            let answer: Value = serde_json::from_str(answered).unwrap();
            assert!(answer.to_string().contains("World"), "{answer}");
            let script: Vec<&str> = text
                .lines()
                .skip_while(|line| !line.starts_with("curl "))
                .take_while(|line| !line.is_empty())
                .collect();
            let mut sh = Command::new("sh");
            sh.args(["-c", &script.join("\n")]).stdin(Stdio::null());
            let output = output(sh);
            assert!(output.status.success(), "{script:?}: {output:?}");
            let by_curl: Value = serde_json::from_slice(&output.stdout).unwrap();
            let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
            assert_eq!(keys(&by_curl), keys(&answer), "{by_curl}");
        });
    }
    fs::remove_dir_all(home).unwrap();
}
