//! Where the key of `credentials.json` goes: to the node that it was saved for, and to no other address.

use crate::stand::{Stand, said};
use serde_json::{Value, json};
use std::fs;
use std::net::TcpListener;
use std::process::{Command, Stdio};

const SAVED: &str = "orama_saved";

/// A home whose `credentials.json` holds [`SAVED`] for one address.
struct Home(tempfile::TempDir);

impl Home {
    fn of(gateway_url: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = json!({ "gateway_url": gateway_url, "api_key": SAVED, "namespace": "default" });
        fs::write(dir.path().join("credentials.json"), file.to_string()).unwrap();
        Self(dir)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orama"));
        command.args(arguments).stdin(Stdio::null()).env("ORAMA_HOME", self.0.path());
        for variable in ["ORAMA_GATEWAY_URL", "ORAMA_API_KEY", "ORAMA_NAMESPACE"] {
            command.env_remove(variable);
        }
        command
    }

    #[track_caller]
    fn run(&self, code: i32, arguments: &[&str]) -> (String, String) {
        said(self.command(arguments).output().unwrap(), code)
    }
}

fn functions() -> Stand {
    Stand::answering(200, json!({ "functions": [], "count": 0 }))
}

fn port(stand: &Stand) -> &str {
    stand.address.rsplit_once(':').unwrap().1
}

fn keys(stand: &Stand) -> Vec<Option<String>> {
    std::mem::take(&mut *stand.keys.lock())
}

#[test]
fn the_saved_key_goes_to_the_address_that_it_was_saved_for() {
    let node = functions();
    let home = Home::of(&node.address);
    let with_path = format!("{}/some/path", node.address);
    for url in [None, Some(&node.address), Some(&with_path)] {
        let flag = url.map_or(vec![], |url| vec!["--gateway-url", url.as_str()]);
        home.run(0, &[&["function", "list"], &flag[..]].concat());
        assert_eq!(keys(&node), [Some(format!("Bearer {SAVED}"))], "{url:?}");
    }
}

#[test]
fn the_saved_key_is_not_sent_to_another_port_host_or_scheme() {
    let elsewhere = functions();
    let port = port(&elsewhere);
    for (saved, given) in [
        ("http://127.0.0.1:1".to_owned(), elsewhere.address.clone()),
        ("http://127.0.0.1".to_owned(), elsewhere.address.clone()),
        ("http://127.0.0.1:1".to_owned(), format!("http://localhost:{port}")),
        (format!("http://127.0.0.2:{port}"), elsewhere.address.clone()),
        (format!("http://node.example:{port}"), elsewhere.address.clone()),
        (format!("http://[::1]:{port}"), elsewhere.address.clone()),
        (format!("http://localhost:{port}"), elsewhere.address.clone()),
        (elsewhere.address.clone(), format!("https://127.0.0.1:{port}")),
        (elsewhere.address.clone(), format!("https://localhost:{port}")),
        (format!("https://127.0.0.1:{port}"), elsewhere.address.clone()),
    ] {
        let home = Home::of(&saved);
        let (stdout, stderr) = home.run(4, &["function", "list", "--gateway-url", &given]);
        assert!(stdout.is_empty() && !stderr.contains(SAVED), "{stdout}{stderr}");
        for part in [&saved, &given, "ORAMA_API_KEY", "--api-key"] {
            assert!(stderr.contains(part), "{part} is not in {stderr}");
        }
        let mut by_variable = home.command(&["function", "list", "--json"]);
        let (_, stderr) = said(by_variable.env("ORAMA_GATEWAY_URL", &given).output().unwrap(), 4);
        let error: Value = serde_json::from_str(&stderr).unwrap();
        assert!(error["error"].as_str().unwrap().contains(&saved), "{error}");
        assert_eq!(keys(&elsewhere), [], "saved for {saved}, given {given}: something was sent");
    }
}

#[test]
fn every_command_that_needs_a_key_refuses_another_nodes() {
    let elsewhere = Stand::answering(200, "{}");
    let home = Home::of("http://127.0.0.1:1");
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("function.yaml"), "name: hello\n").unwrap();
    fs::write(folder.path().join("function.wasm"), "\0asm").unwrap();
    for arguments in [
        &["function", "deploy", folder.path().to_str().unwrap()][..],
        &["function", "get", "f"],
        &["function", "versions", "f"],
        &["function", "delete", "f", "--force"],
        &["function", "logs", "f"],
        &["function", "logs", "f", "--follow"],
        &["function", "secrets", "set", "A", "v"],
        &["function", "secrets", "list"],
        &["function", "secrets", "delete", "A", "--force"],
        &["function", "triggers", "add", "f", "--topic", "t"],
        &["function", "triggers", "list", "f"],
        &["function", "triggers", "delete", "f", "x"],
        &["function", "triggers", "dead-letters", "f"],
        &["function", "triggers", "replay", "f", "--all"],
        &["pubsub", "publish", "t", "1"],
        &["namespace", "create", "n"],
        &["namespace", "list"],
        &["namespace", "delete", "n", "--force"],
        &["keys", "create", "--role", "admin"],
        &["keys", "list"],
        &["keys", "delete", "x"],
        &["secrets", "rotate-key"],
    ] {
        home.run(4, &[arguments, &["--gateway-url", &elsewhere.address]].concat());
        assert_eq!(keys(&elsewhere), [], "{arguments:?} sent something");
    }
}

#[test]
fn localhost_means_the_saved_loopback_address_and_nobody_else_on_the_port() {
    let node = functions();
    let port = port(&node);
    let home = Home::of(&node.address);
    // Another user of the machine may listen on the same port of [::1], where it exists.
    let stranger = TcpListener::bind(format!("[::1]:{port}"));
    let stranger = stranger.ok().map(|listener| Stand::start(listener, String::new()));
    home.run(0, &["function", "list", "--gateway-url", &format!("http://localhost:{port}")]);
    assert_eq!(keys(&node), [Some(format!("Bearer {SAVED}"))]);
    if let Some(stranger) = stranger {
        assert_eq!(keys(&stranger), [], "the stranger was connected to");
    }
}

#[test]
fn a_key_that_is_given_for_another_node_is_sent_there() {
    let elsewhere = functions();
    let home = Home::of("http://127.0.0.1:1");
    home.run(0, &["function", "list", "--gateway-url", &elsewhere.address, "--api-key", " orama_k\n"]);
    assert_eq!(keys(&elsewhere), [Some("Bearer orama_k".to_owned())]);
    let mut command = home.command(&["function", "list", "--gateway-url", &elsewhere.address]);
    said(command.env("ORAMA_API_KEY", "\u{feff}orama_k\r\n").output().unwrap(), 0);
    assert_eq!(keys(&elsewhere), [Some("Bearer orama_k".to_owned())]);
    // The saved namespace belongs to the saved key.
    assert!(elsewhere.requests.lock().iter().all(|(line, _)| line == "GET /v1/functions"));
}

#[test]
fn a_public_function_of_another_node_is_invoked_without_a_key() {
    let home = Home::of("http://127.0.0.1:1");
    let public = Stand::answering(200, json!({ "hello": "World" }));
    let invoke = ["function", "invoke", "hello", "--namespace", "team", "--gateway-url"];
    let (stdout, _) = home.run(0, &[&invoke[..], &[&public.address]].concat());
    assert_eq!(stdout, "{\"hello\":\"World\"}");
    assert_eq!(keys(&public), [None]);
    assert_eq!(public.requests.lock()[0].0, "POST /v1/functions/hello/invoke?namespace=team");

    let private =
        Stand::answering(401, json!({ "error": "a credential is needed", "code": "UNAUTHENTICATED" }));
    let (_, stderr) = home.run(4, &[&invoke[..], &[&private.address]].concat());
    assert_eq!(keys(&private), [None]);
    for part in ["http://127.0.0.1:1", &private.address, "ORAMA_API_KEY"] {
        assert!(stderr.contains(part), "{part} is not in {stderr}");
    }
}

#[test]
fn a_redirect_is_not_followed() {
    let elsewhere = functions();
    for status in [301, 302, 303, 307, 308] {
        let answer = format!(
            "HTTP/1.1 {status} X\r\nlocation: {}/v1/functions\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            elsewhere.address
        );
        let node = Stand::start(TcpListener::bind(("127.0.0.1", 0)).unwrap(), answer);
        let (_, stderr) = Home::of(&node.address).run(1, &["function", "list"]);
        assert!(
            stderr.contains(&status.to_string()) && stderr.contains("redirects are not followed"),
            "{stderr}"
        );
        assert_eq!(keys(&node), [Some(format!("Bearer {SAVED}"))]);
        assert_eq!(keys(&elsewhere), [], "{status}: the other address was connected to");
    }
}
