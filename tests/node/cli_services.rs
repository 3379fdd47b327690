//! The command line of the services against a node: secrets, namespaces, keys, and logs that are followed.

use crate::harness::{Node, Options, eventually, lock, spawn, wait};
use crate::shell::Shell;
use orama_test_support::guests;
use rustix::process::{Pid, Signal};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const PEM: &str = "-----BEGIN PRIVATE KEY-----\nMIGTAgEAMBMGByqGSM49\n-----END PRIVATE KEY-----\n";

#[test]
fn secrets_come_from_arguments_files_and_standard_input_and_are_never_shown() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    let shell = Shell::of(&node);
    let secrets = ["function", "secrets"];
    let (stdout, stderr) = shell.run(0, &[&secrets[..], &["list"]].concat());
    assert!(stdout.is_empty() && stderr.contains("no secrets"), "{stdout}{stderr}");
    assert_eq!(shell.run(0, &["function", "secrets", "set", "INLINE", "pa55 word"]).0, "set secret INLINE\n");
    fs::write(shell.dir.join("key.p8"), PEM).unwrap();
    let set = shell.json(&["fn", "secrets", "set", "PEM", "--from-file", "key.p8"]);
    assert_eq!((&set["name"], &set["namespace"]), (&"PEM".into(), &"default".into()));
    let mut command = shell.command(&["fn", "secrets", "set", "PIPED", "-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = spawn(command).unwrap();
    child.stdin.take().unwrap().write_all(b"from a pipe").unwrap();
    assert!(child.wait_with_output().unwrap().status.success());

    // Sorted, and names alone.
    assert_eq!(shell.run(0, &["fn", "secrets", "list"]).0, "INLINE\nPEM\nPIPED\n");
    let listed = shell.json(&["fn", "secrets", "list"]);
    assert_eq!(listed, serde_json::json!({ "secrets": ["INLINE", "PEM", "PIPED"], "count": 3 }));
    shell.run(2, &["fn", "secrets", "set", "bad name", "v"]);
    let (_, stderr) = shell.run(2, &["fn", "secrets", "delete", "PEM"]);
    assert!(stderr.contains("--force"), "{stderr}");
    assert_eq!(shell.run(0, &["fn", "secrets", "delete", "PEM", "--force"]).0, "deleted secret PEM\n");
    assert_eq!(shell.code(3, &["fn", "secrets", "delete", "PEM", "--force"]), "SECRET_NOT_FOUND");
    let (stdout, _) = shell.run(0, &["secrets", "rotate-key"]);
    assert!(stdout.contains("2 secrets"), "{stdout}");
    assert_eq!(shell.json(&["fn", "secrets", "list"])["count"], 2);
    let log = node.stderr();
    assert!(!log.contains("pa55") && !log.contains("from a pipe") && !log.contains("MIGTAgEA"), "{log}");
}

#[test]
fn namespaces_and_their_keys() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    let shell = Shell::of(&node);
    assert_eq!(shell.run(0, &["namespace", "create", "team-a"]).0, "created namespace team-a\n");
    assert_eq!(shell.code(1, &["namespace", "create", "team-a"]), "NAMESPACE_EXISTS");
    shell.run(2, &["namespace", "create", "9lives"]);
    let listed = shell.json(&["namespace", "list"]);
    assert_eq!(listed["count"], 2, "{listed}");
    assert!(shell.run(0, &["namespace", "list"]).0.contains("team-a"));

    // Standard output is the key, for a script.
    let (stdout, stderr) = shell.run(0, &["keys", "create", "--role", "admin", "--namespace", "team-a"]);
    let key = stdout.trim_end();
    assert!(key.starts_with("orama_") && stderr.contains("team-a") && !stderr.contains(key), "{stderr}");
    let admin = Shell::with_key(&node, key);
    assert_eq!(admin.json(&["function", "secrets", "set", "A", "of team-a"])["namespace"], "team-a");
    assert_eq!(shell.json(&["function", "secrets", "list"])["count"], 0);
    assert_eq!(shell.json(&["function", "secrets", "list", "--namespace", "team-a"])["count"], 1);
    let invoke = admin.json(&["keys", "create", "--role", "invoke"]);
    assert_eq!((&invoke["namespace"], &invoke["role"]), (&"team-a".into(), &"invoke".into()));
    let listed = admin.json(&["keys", "list"]);
    assert_eq!(listed["count"], 2, "{listed}");
    assert!(!listed.to_string().contains("orama_"), "{listed}");

    // 4: what a role may not, and what is another namespace's.
    let invoker = Shell::with_key(&node, invoke["api_key"].as_str().unwrap());
    for (who, arguments) in [
        (&invoker, &["function", "secrets", "list"][..]),
        (&invoker, &["keys", "create", "--role", "admin"]),
        (&admin, &["keys", "list", "--namespace", "default"]),
        (&admin, &["namespace", "list"]),
        (&admin, &["namespace", "delete", "team-a", "--force"]),
        (&admin, &["secrets", "rotate-key"]),
    ] {
        assert_eq!(who.code(4, arguments), "FORBIDDEN", "{arguments:?}");
    }

    // A deleted key is refused at once; the operator reaches it without naming its namespace.
    let id = invoke["id"].as_str().unwrap();
    assert_eq!(shell.run(0, &["keys", "delete", id]).0, format!("deleted key {id}\n"));
    assert_eq!(shell.code(3, &["keys", "delete", id]), "KEY_NOT_FOUND");
    assert_eq!(invoker.code(4, &["function", "list"]), "UNAUTHORIZED");

    shell.run(2, &["namespace", "delete", "team-a"]);
    assert_eq!(shell.run(0, &["namespace", "delete", "team-a", "--force"]).0, "deleted namespace team-a\n");
    assert_eq!(shell.code(3, &["namespace", "delete", "team-a", "--force"]), "NAMESPACE_NOT_FOUND");
    assert_eq!(admin.code(4, &["function", "list"]), "UNAUTHORIZED");
}

#[test]
fn messages_run_functions_and_what_fails_can_be_replayed() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    let shell = Shell::of(&node);
    node.deploy("echo", &guests::wat("echo"), &[]);
    node.deploy("fails", &guests::wat("trap_unreachable"), &[]);
    let add = |function: &'static str| ["function", "triggers", "add", function, "--topic", "calls:invite"];
    let (stdout, _) = shell.run(0, &add("echo"));
    assert!(stdout.starts_with("added trigger ") && stdout.contains("calls:invite"), "{stdout}");
    // The same topic again is the same trigger.
    let id = shell.json(&add("echo"))["trigger_id"].as_str().unwrap().to_owned();
    assert!(stdout.contains(&id), "{stdout}");
    assert!(shell.run(0, &add("echo")).0.starts_with("kept trigger "));
    shell.run(0, &add("fails"));
    assert_eq!(shell.code(3, &add("absent")), "FUNCTION_NOT_FOUND");
    let listed = shell.json(&["fn", "triggers", "list", "echo"]);
    let expected =
        serde_json::json!([{ "id": id, "kind": "pubsub", "topic": "calls:invite", "enabled": true }]);
    assert_eq!((&listed["count"], &listed["triggers"]), (&1.into(), &expected));
    assert!(shell.run(0, &["fn", "triggers", "list", "echo"]).0.contains(&id));

    let message = "{\"b\": 1.0, \"a\": [12345678901234567890]}";
    let published = shell.json(&["pubsub", "publish", "calls:invite", message]);
    assert!(published["message_id"].is_string() && published["topic"] == "calls:invite", "{published}");
    let logs = |name: &str| shell.json(&["function", "logs", name]);
    eventually("the function ran", || logs("echo")["count"] == 1);
    assert_eq!(logs("echo")["invocations"][0]["trigger_type"], "pubsub");
    shell.run(2, &["pubsub", "publish", "calls:invite", "not json"]);

    let letters = |arguments: &[&str]| {
        shell.json(&[&["function", "triggers", "dead-letters", "fails"], arguments].concat())
    };
    eventually("the message is a dead letter", || letters(&[])["count"] == 1);
    let letter = letters(&[])["dead_letters"][0].clone();
    let kept = (&letter["message_id"], &letter["data"].to_string(), &letter["attempts"]);
    assert_eq!(kept.0, &published["message_id"]);
    assert_eq!((kept.1.as_str(), kept.2), ("{\"a\":[12345678901234567890],\"b\":1.0}", &1.into()));
    let first = letter["id"].as_str().unwrap();
    assert!(shell.run(0, &["fn", "triggers", "dead-letters", "fails"]).0.contains(first));
    // It fails again and is a dead letter again, by another id.
    let replay = ["function", "triggers", "replay", "fails"];
    let (stdout, _) = shell.run(0, &[&replay[..], &[first]].concat());
    assert_eq!(stdout, "fails runs again for 1 dead letter\n");
    eventually("it ran again", || logs("fails")["count"] == 2 && letters(&[])["count"] == 1);
    shell.run(0, &["pubsub", "publish", "calls:invite", "null"]);
    eventually("there are two", || letters(&[])["count"] == 2);
    assert_eq!(letters(&["--limit", "1"])["count"], 1);
    assert_eq!(shell.json(&[&replay[..], &["--all"]].concat())["replayed"], 2);
    eventually("both ran again", || logs("fails")["count"] == 5 && letters(&[])["count"] == 2);
    assert_eq!(shell.code(3, &[&replay[..], &["no-such-id"]].concat()), "DEAD_LETTER_NOT_FOUND");
    assert_eq!(shell.run(0, &["fn", "triggers", "dead-letters", "echo"]).1, "no dead letters\n");

    // A key that may invoke may publish, and no more.
    let key = shell.json(&["keys", "create", "--role", "invoke"])["api_key"].as_str().unwrap().to_owned();
    let invoker = Shell::with_key(&node, &key);
    invoker.run(0, &["pubsub", "publish", "nobody:listens", "1"]);
    assert_eq!(invoker.code(4, &add("echo")), "FORBIDDEN");
    assert_eq!(invoker.code(4, &["fn", "triggers", "list", "echo"]), "FORBIDDEN");

    assert_eq!(shell.run(0, &["fn", "triggers", "delete", "echo", &id]).0, format!("deleted trigger {id}\n"));
    assert_eq!(shell.code(3, &["fn", "triggers", "delete", "echo", &id]), "TRIGGER_NOT_FOUND");
    let (stdout, stderr) = shell.run(0, &["fn", "triggers", "list", "echo"]);
    assert!(stdout.is_empty() && stderr.contains("no triggers"), "{stdout}{stderr}");
}

/// A command that follows logs, and the lines that it printed.
pub struct Follower {
    child: Child,
    stdout: Arc<Mutex<Vec<String>>>,
    stderr: Arc<Mutex<Vec<String>>>,
}

impl Follower {
    fn start(shell: &Shell, arguments: &[&str]) -> Self {
        Self::of(shell.command(&[&["function", "logs", "--follow"], arguments].concat()))
    }

    /// Another command that prints lines until it is interrupted.
    pub fn of(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = spawn(command).unwrap();
        let stdout = lines(child.stdout.take().unwrap());
        let stderr = lines(child.stderr.take().unwrap());
        Self { child, stdout, stderr }
    }

    /// Waits until it printed so many lines, and hands them out.
    #[track_caller]
    pub fn printed(&self, count: usize) -> Vec<String> {
        eventually("the lines are printed", || lock(&self.stdout).len() >= count);
        lock(&self.stdout).clone()
    }

    #[track_caller]
    pub fn interrupt(mut self) {
        rustix::process::kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        assert_eq!(wait(&mut self.child).code(), Some(0));
    }
}

fn lines(from: impl std::io::Read + Send + 'static) -> Arc<Mutex<Vec<String>>> {
    let kept = Arc::<Mutex<Vec<String>>>::default();
    let into = Arc::clone(&kept);
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            lock(&into).push(line);
        }
    });
    kept
}

/// Invokes; the request's id.
fn invoke(node: &Node, name: &str, input: &str) -> String {
    node.invoke(name, input).header("x-request-id").unwrap().to_owned()
}

#[test]
fn followed_logs_show_each_invocation_once_across_a_restart_of_the_node() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    let shell = Shell::of(&node);
    shell.run(3, &["function", "logs", "absent", "--follow"]);
    node.deploy("exits", &guests::wat("exit_code"), &[]);
    let before = ["0", "0", "3"].map(|input| {
        // So that each starts in a millisecond of its own.
        std::thread::sleep(Duration::from_millis(2));
        invoke(&node, "exits", input)
    });

    let people = Follower::start(&shell, &["exits"]);
    let programs = Follower::start(&shell, &["exits", "--json", "--limit", "2"]);
    let began = node.record("exits", &before[2])["started_at"].as_str().unwrap().to_owned();
    let since = Follower::start(&shell, &["exits", "--since", &began]);
    // Oldest first, with what went wrong under it.
    let shown = people.printed(4);
    for (line, id) in shown.iter().zip(&before) {
        assert!(line.ends_with(id), "{shown:?}");
    }
    assert!(shown[3].contains("failed") && shown[3].contains("code 3"), "{shown:?}");
    programs.printed(2);
    since.printed(2);

    let after = invoke(&node, "exits", "0");
    assert!(people.printed(5)[4].ends_with(&after));
    programs.printed(3);
    since.printed(3);
    node.restart();
    let last = invoke(&node, "exits", "0");
    assert!(people.printed(6)[5].ends_with(&last));
    let objects = programs.printed(4);
    let ids: Vec<Value> = objects
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["request_id"].clone())
        .collect();
    assert_eq!(ids, [before[1].as_str(), &before[2], &after, &last]);
    // What started before the time that was asked for never comes.
    for (line, id) in since.printed(4).iter().zip([before[2].as_str(), "code 3", &after, &last]) {
        assert!(line.ends_with(id), "{line:?}");
    }
    for (follower, marker) in [(&people, "waiting for the node"), (&programs, "{\"notice\":")] {
        let notices = lock(&follower.stderr).clone();
        assert_eq!(notices.len(), 2, "{notices:?}");
        assert!(notices[0].contains(marker) && notices[1].contains("answers again"), "{notices:?}");
    }
    [people, programs, since].into_iter().for_each(Follower::interrupt);
}

#[test]
fn followed_logs_end_when_the_function_goes() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    let shell = Shell::of(&node);
    node.deploy("empty", &guests::wat("empty"), &[]);
    invoke(&node, "empty", "");
    let mut follower = Follower::start(&shell, &["empty"]);
    follower.printed(1);
    shell.run(0, &["function", "delete", "empty", "--force"]);
    assert_eq!(wait(&mut follower.child).code(), Some(3));
}
