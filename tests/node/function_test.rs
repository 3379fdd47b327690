//! `orama function test`: cases of a folder on a node that is gone afterwards.

use crate::harness::{new_dir, orama};
use crate::process::{add_compilers, run};
use orama_test_support::{guests, tools};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A developer's folder. Its home and the folder for temporary files stay empty.
struct Desk {
    dir: PathBuf,
    temporary: PathBuf,
}

impl Desk {
    fn new() -> Self {
        Self { dir: new_dir("function-test"), temporary: new_dir("function-test-tmp") }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = orama(&["function"]);
        command.args(arguments).current_dir(&self.dir).env("TMPDIR", &self.temporary);
        command.env("ORAMA_HOME", self.dir.join("no-home")).env("CARGO_NET_OFFLINE", "true");
        command.env_remove("CARGO_TARGET_DIR");
        add_compilers(&mut command);
        command
    }

    /// Runs it; it must end with this code. Standard output and standard error.
    #[track_caller]
    fn run(&self, code: i32, arguments: &[&str]) -> (String, String) {
        run(code, self.command(arguments))
    }

    fn write(&self, file: &str, text: impl AsRef<[u8]>) {
        let path = self.dir.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A folder with a module and no sources.
    fn prebuilt(&self, name: &str, guest: &str) {
        self.write(&format!("{name}/function.wasm"), guests::wat(guest));
        self.write(&format!("{name}/function.yaml"), format!("name: {name}\n"));
    }

    fn case(&self, function: &str, name: &str, case: &Value) {
        self.write(&format!("{function}/testdata/{name}.json"), case.to_string());
    }

    /// The differences of the only case that is run.
    #[track_caller]
    fn differences(&self, code: i32, function: &str, case: &Value) -> Vec<String> {
        self.case(function, "only", case);
        let (stdout, _) = self.run(code, &["test", function, "--run", "only", "--compiler", "go", "--json"]);
        let report: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(report["cases"][0]["name"], "only", "{report}");
        let lines = report["cases"][0]["differences"].as_array().unwrap();
        lines.iter().map(|line| line.as_str().unwrap().to_owned()).collect()
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let mut left = fs::read_dir(&self.temporary).unwrap().map(|entry| entry.unwrap().file_name());
            // Go's own folders go a moment after it ended.
            assert!(left.all(|name| name.to_string_lossy().starts_with("go-")), "the node's home stayed");
            assert!(!self.dir.join("no-home").exists());
            let _ = fs::remove_dir_all(&self.dir);
            let _ = fs::remove_dir_all(&self.temporary);
        }
    }
}

#[test]
fn the_first_case_of_each_template_passes() {
    if tools::require_or_report("go").is_err() {
        return;
    }
    let desk = Desk::new();
    let target =
        Command::new("rustc").args(["--print", "target-libdir", "--target", "wasm32-wasip1"]).output();
    let target = target.ok().and_then(|output| String::from_utf8(output.stdout).ok()).unwrap_or_default();
    let mut templates = vec!["json", "http", "webhook", "cron", "socket"];
    if Path::new(target.trim()).is_dir() {
        templates.push("rust");
    }
    for template in templates {
        desk.run(0, &["init", template, "--template", template]);
        let (stdout, _) = desk.run(0, &["test", template, "--compiler", "go"]);
        assert!(stdout.ends_with("1 passed, 0 failed\n"), "{template}: {stdout}");
    }
}

#[test]
fn each_kind_of_expectation_fails_by_what_came_instead() {
    let desk = Desk::new();
    desk.prebuilt("echo", "echo");
    let of = |expect: Value| desk.differences(1, "echo", &json!({"input": {"a": 1}, "expect": expect}));
    assert_eq!(of(json!({"json": {"a": 2}})), ["body: $.a: expected 2, got 1"]);
    assert_eq!(of(json!({"text": "a"})), ["body: line 1: expected \"a\", got \"{\\\"a\\\":1}\""]);
    assert_eq!(of(json!({"contains": "b"})), ["body: expected \"b\" in it, got \"{\\\"a\\\":1}\""]);
    assert_eq!(of(json!({"contains": {"b": 1}})), ["body: $.b: expected 1, got nothing"]);
    assert_eq!(of(json!({"base64": ""})).len(), 1);
    assert_eq!(of(json!({"headers": {"x-none": "a"}})), ["header x-none: expected \"a\", got nothing"]);
    assert_eq!(of(json!({"cache": {"k": "v"}})), ["cache \"k\": expected \"v\", got nothing"]);
    assert_eq!(of(json!({"logs": ["x"]})), ["log: no message contains \"x\""]);
    let published = json!({"published": [{"topic": "t", "data": 1}]});
    assert_eq!(of(published), ["published: expected \"t\": 1"]);
    let rows = json!({"rows": [{"sql": "SELECT 1 AS one", "rows": [{"one": 2}]}]});
    assert_eq!(of(rows), ["rows of \"SELECT 1 AS one\": $[0].one: expected 2, got 1"]);
    assert_eq!(of(json!({"rows": [{"sql": "SELECT", "rows": []}]})).len(), 1);
    let status = of(json!({"status": 500}));
    assert!(status[0].starts_with("status: expected 500, got 200 with the body"), "{status:?}");

    // Everything that was said holds.
    let all = json!({
        "description": "all",
        "input": {"a": 1},
        "sql": ["CREATE TABLE t (a INTEGER, b TEXT)", "INSERT INTO t VALUES (1, 'x')"],
        "cache": {"k": "v"},
        "expect": {
            "json": {"a": 1.0}, "contains": {}, "headers": {"Content-Type": "application/json"}, "published": [], "logs": [],
            "rows": [{"sql": "SELECT * FROM t", "rows": [{"a": 1, "b": "x"}]}], "cache": {"k": "v", "other": null}
        }
    });
    assert_eq!(desk.differences(0, "echo", &all), [""; 0]);
    let bytes = json!({"request": {"path": "/p?q=1", "body_base64": "/wA="}, "expect": {"base64": "/wA="}});
    assert_eq!(desk.differences(0, "echo", &bytes), [""; 0]);
    let text = json!({"input_text": "plain\n", "expect": {"text": "plain\n"}});
    assert_eq!(desk.differences(0, "echo", &text), [""; 0]);
    // Migrations run before the statements of a case.
    desk.write("echo/migrations/0001_init.sql", "CREATE TABLE m (a INTEGER)");
    desk.write("echo/function.yaml", "name: echo\nmigrations: ./migrations\n");
    let migrated = json!({
        "input": 1, "sql": ["INSERT INTO m VALUES (7)"], "expect": {"rows": [{"sql": "SELECT a FROM m", "rows": [{"a": 7}]}]}
    });
    assert_eq!(desk.differences(0, "echo", &migrated), [""; 0]);
    desk.prebuilt("exits", "exit_code");
    let failing = json!({"input": 3, "expect": {"status": 500, "contains": {"code": "FUNCTION_EXIT"}}});
    assert_eq!(desk.differences(0, "exits", &failing), [""; 0]);
}

#[test]
fn cases_do_not_see_each_other_and_what_a_function_did_is_seen() {
    if tools::require_or_report("go").is_err() {
        return;
    }
    let desk = Desk::new();
    desk.run(0, &["init", "store"]);
    let source = r#"package main

import "orama"

func main() { orama.Handle(run) }

func run(in map[string]any) (any, error) {
	orama.LogInfo("it is " + orama.Env("WORD") + orama.Secret("TOKEN"))
	if _, err := orama.Execute("CREATE TABLE t (a TEXT)"); err != nil {
		return nil, err
	}
	if _, err := orama.Execute("INSERT INTO t VALUES (?)", in["a"]); err != nil {
		return nil, err
	}
	for _, n := range []int{1, 2} {
		if err := orama.Publish("store:added", map[string]any{"n": n}); err != nil {
			return nil, err
		}
	}
	return orama.Cache.Incr("count"), nil
}
"#;
    desk.write("store/function.go", source);
    // Its own trigger does not run it in a test.
    desk.write(
        "store/function.yaml",
        "name: store\ntriggers:\n  - topic: \"store:*\"\nenv:\n  WORD: \"of the manifest\"\n",
    );
    fs::remove_dir_all(desk.dir.join("store/testdata")).unwrap();
    let case = |a: &str| {
        json!({
            "env": {"WORD": "said "}, "secrets": {"TOKEN": "in secret"}, "input": {"a": a},
            "expect": {
                "json": 1, "logs": ["it is said in secret"],
                "published": [{"topic": "store:added", "data": {"n": 2}}, {"topic": "store:added", "data": {"n": 1}}],
                "rows": [{"sql": "SELECT a FROM t", "rows": [{"a": a}]}], "cache": {"count": "1"}
            }
        })
    };
    desk.case("store", "first", &case("x"));
    desk.case("store", "second", &case("y"));
    let mut wrong = case("z");
    wrong["expect"]["published"] = json!([{"topic": "store:added", "data": {"n": 1}}]);
    desk.case("store", "third", &wrong);
    let (stdout, stderr) = desk.run(1, &["test", "store", "--compiler", "go"]);
    for line in
        ["ok    first", "ok    second", "FAIL  third", "store/testdata/third.json", "2 passed, 1 failed"]
    {
        assert!(stdout.contains(line), "{line}: {stdout}");
    }
    assert!(stdout.contains("      published: got \"store:added\": {\"n\":2}\n"), "{stdout}");
    assert!(stdout.contains("      the log has \"it is said in secret\"\n"), "{stdout}");
    assert!(stderr.contains("error: a case of 3 failed"), "{stderr}");
    let (stdout, _) = desk.run(0, &["test", "store", "--compiler", "go", "--run", "*con"]);
    assert!(stdout.ends_with("1 passed, 0 failed\n"), "{stdout}");

    // Nothing runs where a case or the code is wrong.
    desk.write("store/testdata/fourth.json", "{\"input\": 1,\n \"expects\": {}}");
    let (_, stderr) = desk.run(1, &["test", "store", "--compiler", "go"]);
    assert!(stderr.contains("store/testdata/fourth.json:2:10: unknown field `expects`"), "{stderr}");
    fs::remove_file(desk.dir.join("store/testdata/fourth.json")).unwrap();
    desk.write("store/function.go", "package main\n\nfunc main() { undefined() }\n");
    let (_, stderr) = desk.run(1, &["test", "store", "--compiler", "go"]);
    assert!(stderr.contains("undefined: undefined"), "{stderr}");
}
