//! Contexts of the command line: log in to nodes, choose between them, and see who one is.

use crate::harness::{Node, Options, new_dir, orama, output};
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Output, Stdio};

fn run(home: &Path, arguments: &[&str]) -> Output {
    let mut command = orama(arguments);
    command.env("ORAMA_HOME", home).stdin(Stdio::null());
    output(command)
}

#[track_caller]
fn told(output: &Output) -> String {
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}{stderr}");
    stdout.into_owned()
}

fn log_in(home: &Path, address: &str, key: &str, arguments: &[&str]) -> Output {
    let mut command = orama(&["login", address]);
    command.args(arguments).env("ORAMA_HOME", home);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{key}").unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn commands_go_to_the_node_that_was_chosen() {
    let (near, far) = (Node::start(Options::default()), Node::start(Options::default()));
    let home = new_dir("user");
    fs::copy(near.home.join("credentials.json"), home.join("credentials.json")).unwrap();
    let far_address = format!("http://{}", far.address());
    let made = far
        .request("POST", "/v1/keys")
        .body(json!({ "role": "deploy", "name": "laptop" }).to_string())
        .send();
    let key = made.expect(201).json()["api_key"].as_str().unwrap().to_owned();

    let said = told(&log_in(&home, &far_address, &format!("\u{feff} {key} \r"), &["--name", "far"]));
    assert!(said.contains("as deploy of namespace default"), "{said}");
    let file = home.join("contexts.json");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let who = told(&run(&home, &["whoami"]));
    assert!(who.contains(&far_address) && who.contains("laptop"), "{who}");
    assert!(!who.contains(&key) && !told(&run(&home, &["context", "list"])).contains(&key));
    // One command at another node.
    let here: Value =
        serde_json::from_str(&told(&run(&home, &["whoami", "--context", "local", "--json"]))).unwrap();
    assert_eq!(here["role"], "operator");
    let mut by_variable = orama(&["whoami", "--json"]);
    by_variable.env("ORAMA_HOME", &home).env("ORAMA_CONTEXT", "local");
    assert_eq!(serde_json::from_slice::<Value>(&output(by_variable).stdout).unwrap()["role"], "operator");
    // The saved key goes to no other address.
    let elsewhere = run(&home, &["whoami", "--gateway-url", &format!("http://{}", near.address())]);
    assert_eq!(elsewhere.status.code(), Some(4));
    told(&run(&home, &["context", "use", "local"]));
    assert!(told(&run(&home, &["whoami"])).contains("operator"));
    told(&run(&home, &["context", "use", "far"]));
    told(&run(&home, &["context", "delete", "far"]));
    assert!(told(&run(&home, &["whoami"])).contains("operator"), "the local node is used again");
    let unknown = run(&home, &["context", "use", "far"]);
    assert_eq!(unknown.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("the contexts are local"));
}

#[test]
fn a_key_that_the_node_refuses_is_not_saved() {
    let node = Node::start(Options::default());
    let home = new_dir("user");
    let address = format!("http://{}", node.address());
    for (key, code) in [(format!("orama_{}", "A".repeat(43)), 4), (String::new(), 2)] {
        let refused = log_in(&home, &address, &key, &[]);
        assert_eq!(refused.status.code(), Some(code), "{}", String::from_utf8_lossy(&refused.stderr));
        assert!(!home.join("contexts.json").exists());
    }
    let refused = log_in(&home, &address, "x", &["--name", "local"]);
    assert_eq!(refused.status.code(), Some(2));
    let refused = log_in(&home, "ftp://x", "x", &[]);
    assert_eq!(refused.status.code(), Some(2));
    fs::write(home.join("contexts.json"), "{\"contexts\": 12345678}").unwrap();
    let damaged = run(&home, &["whoami"]);
    let stderr = String::from_utf8_lossy(&damaged.stderr).into_owned();
    assert!(
        !damaged.status.success() && stderr.contains("contexts.json") && !stderr.contains("1234"),
        "{stderr}"
    );
}

#[test]
fn a_key_is_created_as_it_was_asked_for() {
    let node = Node::start(Options::default());
    let created = run(
        &node.home,
        &[
            "keys",
            "create",
            "--role",
            "deploy",
            "--name",
            "ci",
            "--function",
            "hello",
            "--expires",
            "30d",
            "--json",
        ],
    );
    let created: Value = serde_json::from_str(&told(&created)).unwrap();
    assert_eq!((&created["name"], &created["functions"]), (&json!("ci"), &json!(["hello"])));
    let list = told(&run(&node.home, &["keys", "list"]));
    assert!(list.contains("ci") && list.contains("hello") && list.contains("never"), "{list}");
    let refused = run(&node.home, &["keys", "create", "--role", "admin", "--function", "hello"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("deploy and invoke"));
    assert_eq!(
        run(&node.home, &["keys", "create", "--role", "invoke", "--expires", "0d"]).status.code(),
        Some(2)
    );
}
