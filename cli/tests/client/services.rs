//! The commands for secrets, triggers, messages, namespaces and keys against a stand-in for the node: which request each
//! sends, what it shows, and what it never shows.

use crate::stand::Stand;
use orama_test_support::{ports, tools};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};

#[test]
fn a_secret_is_set_from_an_argument_a_file_or_standard_input() {
    let stand = Stand::answering(200, json!({ "message": "m", "name": "KEY", "namespace": "default" }));
    let set = ["function", "secrets", "set", "KEY"];
    let check = |value: &str, (stdout, stderr): (String, String)| {
        assert_eq!(stdout, "set secret KEY\n");
        assert!(value.is_empty() || !stderr.contains(value.trim_end()), "{stderr}");
        let (line, body) = stand.asked();
        assert_eq!(line, "PUT /v1/functions/secrets");
        assert_eq!(body, json!({ "name": "KEY", "value": value }));
        stderr
    };
    assert_eq!(check("pa55 word", stand.run(0, &[&set[..], &["pa55 word"]].concat())), "");
    // What looks like a flag is none, and known flags stay flags.
    check("-----BEGIN KEY", stand.run(0, &[&set[..], &["-----BEGIN KEY"]].concat()));
    check("--pa55", stand.run(0, &[&set[..], &["--pa55"]].concat()));
    check("", stand.run(0, &[&set[..], &[""]].concat()));

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key.p8");
    let pem = "-----BEGIN PRIVATE KEY-----\nMIGTAg\n-----END PRIVATE KEY-----\n";
    fs::write(&file, pem).unwrap();
    let from_file = [&set[..], &["--from-file", file.to_str().unwrap()]].concat();
    assert_eq!(check(pem, stand.run(0, &from_file)), "");
    let stderr = check("pa55\n", stand.feed(0, &[&set[..], &["-"]].concat(), b"pa55\n"));
    assert!(stderr.contains("ends with a line break"), "{stderr}");

    let (stdout, stderr) = stand.run(0, &[&set[..], &["v", "--json"]].concat());
    assert_eq!(stdout, "{\"message\":\"m\",\"name\":\"KEY\",\"namespace\":\"default\"}\n");
    assert_eq!(stderr, "");
}

#[test]
fn secrets_of_a_file_are_sent_together_or_not_at_all() {
    let stand = Stand::answering(200, "{}");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(".env");
    let set = ["function", "secrets", "set", "--env-file", file.to_str().unwrap()];
    fs::write(&file, "# keys\nA=one\nB='t w o'\n").unwrap();
    assert_eq!(stand.run(0, &set).0, "set secret A\nset secret B\n");
    let expected = [("A", "one"), ("B", "t w o")];
    assert_eq!(stand.bodies(), expected.map(|(name, value)| json!({ "name": name, "value": value })));
    fs::write(&file, "A=one\npa55w0rd\n").unwrap();
    let (_, stderr) = stand.run(1, &set);
    assert!(stderr.contains(".env:2: expected NAME=VALUE") && !stderr.contains("pa55"), "{stderr}");
    stand.run(2, &[&set[..], &["A"]].concat());
    stand.was_not_asked();
}

#[test]
fn a_secret_that_cannot_be_set_is_refused_without_showing_it() {
    let stand = Stand::answering(200, "{}");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key.der");
    fs::write(&file, b"pa55\xff").unwrap();
    let path = file.to_str().unwrap();
    for (code, arguments, named) in [
        (2, &["KEY"][..], "required"),
        (2, &["KEY", "pa55", "--from-file", path], "cannot be used"),
        (2, &["KEY", "pa55", "w0rd"], "unexpected"),
        (2, &["pa55 w0rd", "KEY"], "invalid"),
        (2, &["KEY", "pa55", "--from-file"], "value"),
        (1, &["KEY", "--from-file", path], "key.der is not UTF-8 text: byte 5"),
        (1, &["KEY", "--from-file", "/nonexistent/key"], "/nonexistent/key"),
    ] {
        let (stdout, stderr) = stand.run(code, &[&["function", "secrets", "set"], arguments].concat());
        assert!(stdout.is_empty() && stderr.contains(named), "{arguments:?}: {stderr}");
        assert!(!stderr.contains("pa55") && !stderr.contains("w0rd"), "{stderr}");
    }
    let long = vec![b'x'; (64 << 10) + 1];
    let (_, stderr) = stand.feed(1, &["fn", "secrets", "set", "KEY", "-"], &long);
    assert!(stderr.contains("standard input is larger than 65536 bytes"), "{stderr}");
    stand.was_not_asked();
    let refusing = Stand::answering(422, json!({ "error": "too many secrets", "code": "TOO_MANY" }));
    let (_, stderr) = refusing.run(1, &["fn", "secrets", "set", "KEY", "pa55"]);
    assert!(stderr.contains("too many secrets") && !stderr.contains("pa55"), "{stderr}");
}

#[test]
fn secrets_are_listed_and_the_master_key_is_rotated() {
    let stand = Stand::answering(200, json!({ "secrets": ["A", "B"], "count": 2 }));
    assert_eq!(stand.run(0, &["fn", "secrets", "list", "--namespace", "team"]).0, "A\nB\n");
    assert_eq!(stand.asked().0, "GET /v1/functions/secrets?namespace=team");
    let empty = Stand::answering(200, json!({ "secrets": [], "count": 0 }));
    let (stdout, stderr) = empty.run(0, &["fn", "secrets", "list"]);
    assert!(stdout.is_empty() && stderr.contains("no secrets"), "{stdout}{stderr}");
    let stand = Stand::answering(200, json!({ "key_id": "k2", "reencrypted": 3 }));
    let (stdout, _) = stand.run(0, &["secrets", "rotate-key"]);
    assert!(stdout.contains("k2") && stdout.contains("3 secrets"), "{stdout}");
    assert_eq!(stand.asked().0, "POST /v1/secrets/rotate-key");
}

#[test]
fn triggers_are_added_listed_and_deleted() {
    let added = json!({ "trigger_id": "t-1", "function": "hello", "topic": "calls:invite" });
    let add = ["function", "triggers", "add", "hello", "--topic", "calls:invite"];
    for (status, word) in [(201, "added trigger t-1"), (200, "kept trigger t-1")] {
        let stand = Stand::answering(status, &added);
        let (stdout, _) = stand.run(0, &add);
        assert!(stdout.starts_with(word) && stdout.contains("calls:invite"), "{stdout}");
        let asked = stand.asked();
        assert_eq!(asked.0, "POST /v1/functions/hello/triggers");
        assert_eq!(asked.1, json!({ "topic": "calls:invite" }));
    }
    let listed = json!({ "count": 1, "triggers": [
        { "id": "t-1", "kind": "pubsub", "topic": "calls:invite", "enabled": true },
    ]});
    let stand = Stand::answering(200, listed);
    let (stdout, _) = stand.run(0, &["fn", "triggers", "list", "hello"]);
    assert_eq!(stdout, "ID   KIND    TOPIC         ENABLED\nt-1  pubsub  calls:invite  yes\n");
    assert_eq!(stand.asked().0, "GET /v1/functions/hello/triggers");
    let listed = json!({ "count": 1, "triggers": [{ "id": "t-2", "kind": "cron", "cron_expression": "0 9 * * *",
        "timezone": "UTC", "enabled": false, "next_run_at": null, "last_run_at": "2026-02-23T09:00:00.000Z",
        "last_status": "error", "skipped_slots": 0 }] });
    let (stdout, _) = Stand::answering(200, listed).run(0, &["fn", "triggers", "list", "hello"]);
    assert!(stdout.contains("TOPIC OR SCHEDULE") && stdout.contains("0 9 * * * UTC"), "{stdout}");
    assert!(stdout.contains("2026-02-23T09:00:00.000Z error"), "{stdout}");
    let stand = Stand::answering(200, json!({ "message": "m", "trigger_id": "t-1" }));
    // Nothing is asked, also without a terminal.
    assert_eq!(stand.run(0, &["fn", "triggers", "delete", "hello", "t-1"]).0, "deleted trigger t-1\n");
    assert_eq!(stand.asked().0, "DELETE /v1/functions/hello/triggers/t-1");
    for bad in ["..", "a/b", ""] {
        stand.run(2, &["fn", "triggers", "delete", "hello", bad]);
    }
    stand.run(2, &["fn", "triggers", "add", "hello"]);
    stand.was_not_asked();
}

#[test]
fn dead_letters_are_shown_and_replayed() {
    let letters = json!({ "count": 1, "dead_letters": [{
        "id": "d-1", "message_id": "m-1", "trigger_id": "t-1", "topic": "calls:invite", "data": { "a": 1 },
        "trigger_depth": 1, "attempts": 3, "error": "exited with code 1", "request_id": "r-1",
        "published_at": "2026-02-23T19:00:00.000Z", "failed_at": "2026-02-23T19:00:10.000Z",
    }]});
    let stand = Stand::answering(200, letters);
    let (stdout, _) = stand.run(0, &["fn", "triggers", "dead-letters", "hello", "--limit", "5"]);
    let row = "d-1  2026-02-23T19:00:10.000Z  calls:invite  3         exited with code 1";
    assert_eq!(stdout.lines().nth(1), Some(row), "{stdout}");
    assert_eq!(stand.asked().0, "GET /v1/functions/hello/dead-letters?limit=5");
    let stand = Stand::answering(202, json!({ "message": "m", "replayed": 1 }));
    for (arguments, path) in [(["hello", "d-1"], "/d-1/replay"), (["hello", "--all"], "/replay")] {
        let (stdout, _) = stand.run(0, &[&["fn", "triggers", "replay"], &arguments[..]].concat());
        assert_eq!(stdout, "hello runs again for 1 dead letter\n");
        assert_eq!(stand.asked().0, format!("POST /v1/functions/hello/dead-letters{path}"));
    }
    stand.run(2, &["fn", "triggers", "replay", "hello"]);
    stand.run(2, &["fn", "triggers", "replay", "hello", "d-1", "--all"]);
    stand.was_not_asked();
}

#[test]
fn a_message_is_published_as_it_was_written() {
    let stand = Stand::answering(202, json!({ "message_id": "m-1", "topic": "t" }));
    let written = "{\"b\": 1.0, \"a\": 123456789012345678901}";
    let (stdout, _) = stand.run(0, &["pubsub", "publish", "t", written]);
    assert_eq!(stdout, "published message m-1 to t\n");
    let requests = std::mem::take(&mut *stand.requests.lock());
    stand.keys.lock().clear();
    let expected = format!("{{\"topic\":\"t\",\"data\":{written}}}");
    assert_eq!(requests, [("POST /v1/pubsub/publish".to_owned(), expected)]);
    for (data, value) in [("-5", json!(-5)), ("\"text\"", json!("text")), ("null", json!(null))] {
        stand.run(0, &["pubsub", "publish", "t", data]);
        assert_eq!(stand.asked().1["data"], value);
    }
    stand.feed(0, &["pubsub", "publish", "t", "-"], b"[1,\n2]\n");
    assert_eq!(stand.asked().1["data"], json!([1, 2]));
    let (_, stderr) = stand.run(2, &["pubsub", "publish", "t", "{\"a\": b}"]);
    assert!(stderr.contains("not JSON") && stderr.contains("line 1 column 7"), "{stderr}");
    stand.was_not_asked();
}

#[test]
fn namespaces_and_keys() {
    let stand = Stand::answering(201, json!({ "name": "team-a", "created_at": "2026-02-23T19:00:00.000Z" }));
    assert_eq!(stand.run(0, &["namespace", "create", "team-a"]).0, "created namespace team-a\n");
    assert_eq!(stand.asked(), ("POST /v1/namespaces".to_owned(), json!({ "name": "team-a" })));
    let entry = json!({ "name": "team-a", "created_at": "2026-02-23T19:00:00.000Z" });
    let stand = Stand::answering(200, json!({ "namespaces": [entry], "count": 1 }));
    assert!(stand.run(0, &["namespace", "list"]).0.contains("team-a"));
    assert_eq!(stand.asked().0, "GET /v1/namespaces");
    let stand = Stand::answering(200, json!({ "message": "m", "name": "team-a" }));
    assert_eq!(stand.run(0, &["namespace", "delete", "team-a", "--force"]).0, "deleted namespace team-a\n");
    assert_eq!(stand.asked().0, "DELETE /v1/namespaces/team-a");

    let key = json!({ "id": "k-1", "api_key": "orama_new", "namespace": "team-a", "role": "invoke" });
    let stand = Stand::answering(201, key);
    let (stdout, stderr) = stand.run(0, &["keys", "create", "--role", "invoke", "--namespace", "team-a"]);
    assert_eq!(stdout, "orama_new\n");
    assert!(stderr.contains("k-1") && !stderr.contains("orama_new"), "{stderr}");
    let (line, body) = stand.asked();
    assert_eq!(line, "POST /v1/keys");
    assert_eq!(body, json!({ "namespace": "team-a", "role": "invoke" }));
    stand.run(2, &["keys", "create"]);
    stand.run(2, &["keys", "create", "--role", "operator"]);
    stand.was_not_asked();
    let created_at = "2026-02-23T19:00:00.000Z";
    let keys = json!({ "count": 2, "keys": [
        { "id": "k-1", "namespace": "team-a", "role": "admin", "created_at": created_at, "current": true },
        { "id": "k-2", "namespace": "team-a", "role": "invoke", "created_at": created_at },
    ]});
    let stand = Stand::answering(200, keys);
    let (stdout, _) = stand.run(0, &["keys", "list", "--namespace", "team-a"]);
    let current: Vec<bool> = stdout.lines().skip(1).map(|line| line.contains("in use")).collect();
    assert_eq!(current, [true, false], "{stdout}");
    assert_eq!(stand.asked().0, "GET /v1/keys?namespace=team-a");
    let stand = Stand::answering(200, json!({ "message": "m", "id": "k-2" }));
    assert_eq!(stand.run(0, &["keys", "delete", "k-2"]).0, "deleted key k-2\n");
    assert_eq!(stand.asked().0, "DELETE /v1/keys/k-2");
}

/// What asks before it deletes.
const DELETES: [&[&str]; 4] = [
    &["function", "delete", "hello"],
    &["fn", "delete", "hello@2"],
    &["function", "secrets", "delete", "KEY"],
    &["namespace", "delete", "team-a"],
];

#[test]
fn what_cannot_be_brought_back_is_not_deleted_without_a_terminal() {
    let stand = Stand::answering(200, "{}");
    for arguments in DELETES {
        for json in [false, true] {
            let with_json = if json { &["--json"][..] } else { &[] };
            let (stdout, stderr) = stand.run(2, &[arguments, with_json].concat());
            assert!(stdout.is_empty() && stderr.contains("--force"), "{arguments:?}: {stderr}");
        }
        stand.was_not_asked();
        stand.run(0, &[arguments, &["--force"]].concat());
        assert!(stand.asked().0.starts_with("DELETE "));
    }
}

#[test]
fn on_a_terminal_only_yes_deletes() {
    let Ok(script) = tools::require_or_report("script") else { return };
    let stand = Stand::answering(200, "{}");
    for arguments in DELETES {
        for (typed, code) in [("y\n", 0), ("YES\n", 0), ("n\n", 1), ("\n", 1), ("maybe\n", 1)] {
            let orama = stand.command(&[]);
            let line = [&[orama.get_program().to_str().unwrap()], arguments].concat().join(" ");
            let mut command = Command::new(&script);
            command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
            command.envs(orama.get_envs().filter_map(|(name, value)| Some((name, value?))));
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = command.spawn().unwrap();
            child.stdin.as_ref().unwrap().write_all(typed.as_bytes()).unwrap();
            let output = read_until_end(&mut child);
            assert_eq!(child.wait().unwrap().code(), Some(code), "{arguments:?} {typed:?}: {output}");
            assert!(output.contains("[y/N]"), "{output}");
            assert_eq!(output.contains("not deleted"), code == 1, "{output}");
            if code == 0 {
                assert!(stand.asked().0.starts_with("DELETE "));
            } else {
                stand.was_not_asked();
            }
        }
    }
}

/// What a child prints until it ends. Its standard input stays open: an end of it would be an answer as well.
fn read_until_end(child: &mut Child) -> String {
    let mut output = String::new();
    child.stdout.take().unwrap().read_to_string(&mut output).unwrap();
    output
}

#[test]
fn every_command_has_the_contracts_exit_codes_and_json_errors() {
    let dead = format!("http://{}", ports::free(1)[0]);
    let refusal = |code: &str| json!({ "error": "refused so", "code": code, "request_id": "r" });
    for arguments in [
        &["function", "secrets", "set", "A", "v"][..],
        &["function", "secrets", "list"],
        &["function", "secrets", "delete", "A", "--force"],
        &["function", "triggers", "add", "f", "--topic", "t"],
        &["function", "triggers", "list", "f"],
        &["function", "triggers", "delete", "f", "x"],
        &["function", "triggers", "dead-letters", "f"],
        &["function", "triggers", "replay", "f", "--all"],
        &["function", "logs", "f", "--follow"],
        &["pubsub", "publish", "t", "1"],
        &["namespace", "create", "n"],
        &["namespace", "list"],
        &["namespace", "delete", "n", "--force"],
        &["keys", "create", "--role", "admin"],
        &["keys", "list"],
        &["keys", "delete", "x"],
        &["secrets", "rotate-key"],
    ] {
        for (status, code) in [(404, 3), (401, 4), (403, 4), (409, 1), (500, 1)] {
            let stand = Stand::answering(status, refusal("SOME_CODE"));
            let (stdout, stderr) = stand.run(code, &[arguments, &["--json"]].concat());
            assert_eq!(stdout, "", "{arguments:?}");
            let error: Value = serde_json::from_str(&stderr).unwrap();
            assert_eq!((&error["error"], &error["code"]), (&json!("refused so"), &json!("SOME_CODE")));
        }
        let stand = Stand::answering(200, "{}");
        let (stdout, stderr) = stand.run(5, &[arguments, &["--gateway-url", &dead]].concat());
        assert!(stdout.is_empty() && stderr.contains(&dead), "{arguments:?}: {stderr}");
        // Every help has an example or says what the command is for.
        let (help, _) = stand.run(0, &[arguments, &["--help"]].concat());
        assert!(help.contains("Usage: orama"), "{help}");
    }
}
