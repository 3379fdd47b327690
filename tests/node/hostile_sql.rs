//! SQL that is meant to take the node down: it fails alone, and a tenant beside it notices nothing.

use crate::harness::{Node, Options, eventually};
use crate::honest::{Honest, SQL, deploy_as, tenant};
use crate::http::Request;
use crate::process::children_of;
use serde_json::{Value, json};
use std::fs;
use std::time::Duration;

/// Whole numbers without an end.
const NUMBERS: &str = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)";

/// Text of 4,000,000 zeros.
const ZEROS: &str = "hex(zeroblob(2000000))";

/// A kind and its SQL.
type Statement = (&'static str, String);

fn ops(statements: &[(&str, String)]) -> String {
    let ops: Vec<_> = statements.iter().map(|(kind, sql)| json!({ "kind": kind, "sql": sql })).collect();
    json!({ "ops": ops }).to_string()
}

fn times(count: usize, part: impl Fn(usize) -> String) -> String {
    (0..count).map(part).collect::<Vec<_>>().join(", ")
}

/// Two tenants of one node: each has a function that runs SQL.
struct Tenants {
    node: Node,
    hostile: String,
    honest: Honest,
}

impl Tenants {
    fn start() -> Self {
        let databases = &["default", "hostile", "honest"];
        let config = "guest_memory_mb = 512\n".to_owned();
        let node = Node::start(Options { databases, config, ..Options::default() });
        let hostile = tenant(&node, "hostile", "admin");
        let wasm = wat::parse_str(SQL).unwrap();
        for (name, seconds) in [("sql", "5"), ("brief", "2")] {
            deploy_as(&node, &hostile, name, &wasm, &[("timeout_seconds", seconds)]).expect(201);
        }
        Self { honest: Honest::settle(&node), node, hostile }
    }

    fn request(&self, key: &str, statements: &[(&str, String)]) -> Request {
        self.request_to("sql", key, statements)
    }

    fn request_to(&self, function: &str, key: &str, statements: &[(&str, String)]) -> Request {
        self.node.request_as(key, "POST", &format!("/v1/functions/{function}/invoke")).body(ops(statements))
    }

    fn does(&self, key: &str, statements: &[(&str, String)]) -> Value {
        let answer = self.request(key, statements).send().expect(200).json();
        assert_eq!(answer["error"], "", "{answer}");
        answer
    }

    /// Makes the hostile tenant's calls while the honest one works. Gives the hostile one's answers: a status, and the code of
    /// what came of the SQL.
    #[track_caller]
    fn attack(&self, function: &str, name: &str, calls: usize, statement: &Statement) -> Vec<(u16, String)> {
        let answers = self.honest.beside(&self.node, name, || {
            std::thread::scope(|scope| {
                let statements = std::slice::from_ref(statement);
                let attack = || self.request_to(function, &self.hostile, statements).send();
                let attacks: Vec<_> = (0..calls).map(|_| scope.spawn(attack)).collect();
                attacks.into_iter().map(|attack| attack.join().unwrap()).collect::<Vec<_>>()
            })
        });
        let told = answers.into_iter().map(|answer| {
            let code = answer.json()["code"].as_str().unwrap_or_default().to_owned();
            (answer.status, code)
        });
        told.collect()
    }
}

/// `orama: sql` processes of a node, and whether each is a zombie.
fn sql_processes(node: u32) -> Vec<(u32, bool)> {
    let named = children_of(node).into_iter().filter_map(|id| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        let (name, state) = stat.rsplit_once(") ")?;
        name.ends_with("(orama-sql").then(|| (id, state.starts_with('Z')))
    });
    named.collect()
}

/// Statements that ask for more memory than a process has.
fn without_end() -> Vec<(&'static str, Statement)> {
    let numbers = NUMBERS.trim_start_matches("WITH RECURSIVE ");
    vec![
        ("long names, many times", ("query", format!("SELECT {} FROM t", vec!["*"; 1900].join(",")))),
        (
            "arrays of megabytes",
            (
                "query",
                format!(
                    "WITH v (h) AS MATERIALIZED (SELECT substr({ZEROS}, 1, 3000000)), {numbers}
                     SELECT {} FROM (SELECT i FROM n LIMIT 400), v",
                    times(8, |_| "json_group_array(h || i)".into())
                ),
            ),
        ),
        (
            "pending terms",
            (
                "exec",
                format!(
                    "{NUMBERS} INSERT INTO ft SELECT hex(randomblob(9)) || ' ' || hex(randomblob(9)) FROM n"
                ),
            ),
        ),
        (
            "long texts that are joined",
            (
                "query",
                format!(
                    "WITH v (h) AS MATERIALIZED (SELECT hex(zeroblob(30000))), {numbers}
                     SELECT {} FROM (SELECT i FROM n LIMIT 60), v",
                    times(60, |n| format!("group_concat(h || {n})"))
                ),
            ),
        ),
        (
            "wide numbers",
            (
                "query",
                format!("SELECT {}", times(60, |n| format!("max(printf('%{}d', {n}))", 3_900_000 + n))),
            ),
        ),
        (
            "a window over everything",
            (
                "query",
                format!(
                    "{NUMBERS} SELECT max(l) FROM (SELECT length(group_concat(printf('%100000d', i)) OVER
                       (ORDER BY i DESC ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)) AS l
                     FROM (SELECT i FROM n LIMIT 100000))"
                ),
            ),
        ),
        (
            "rows that make longer rows",
            (
                "query",
                format!(
                    "WITH RECURSIVE t (x) AS (SELECT {ZEROS} UNION SELECT substr(x || length(x), 2) FROM t)
                     SELECT {} FROM t",
                    times(20, |n| format!("json_group_array(substr(x, {n}, 100000))"))
                ),
            ),
        ),
        ("large texts", ("query", format!("SELECT {}", times(60, |n| format!("max({ZEROS} || {n})"))))),
        ("blobs", ("query", format!("SELECT {}", times(60, |_| "max(randomblob(4000000))".into())))),
    ]
}

#[test]
fn statements_that_take_memory_without_end_fail_alone() {
    let tenants = Tenants::start();
    let name = "n".repeat(500_000);
    tenants.does(
        &tenants.hostile,
        &[
            ("exec", format!("CREATE TABLE t (\"{name}\")")),
            ("exec", "INSERT INTO t VALUES (1)".into()),
            ("exec", "CREATE VIRTUAL TABLE ft USING fts5 (x)".into()),
            ("exec", "INSERT INTO ft (ft, rank) VALUES ('hashsize', 2000000000)".into()),
        ],
    );
    for (name, statement) in without_end() {
        for (status, code) in tenants.attack("sql", name, 3, &statement) {
            // A slow machine may come to the deadline first.
            let is_told = status == 200 && ["PAYLOAD_TOO_LARGE", "UNAVAILABLE"].contains(&code.as_str());
            assert!(is_told || status == 504, "{name}: {status} {code}");
        }
        tenants.does(&tenants.hostile, &[("query", "SELECT 1".into())]);
    }
    assert!(sql_processes(tenants.node.pid()).iter().all(|(_, is_zombie)| !is_zombie));
}

#[test]
fn functions_that_cannot_be_interrupted_end_with_their_deadline() {
    let tenants = Tenants::start();
    tenants.does(
        &tenants.hostile,
        &[
            ("exec", "CREATE VIRTUAL TABLE ft USING fts5 (x)".into()),
            ("exec", "INSERT INTO ft VALUES (replace(hex(zeroblob(500000)), '00', 'a '))".into()),
        ],
    );
    let keys = |sign: &str| {
        format!("({NUMBERS} SELECT json_group_object({sign}i, 1) FROM (SELECT i FROM n LIMIT 150000))")
    };
    // Each must run on until it is ended, so that it shows something.
    let inputs = [
        ("LIKE", format!("SELECT {ZEROS} LIKE '%{}1'", "0_".repeat(490))),
        ("GLOB", format!("SELECT {ZEROS} GLOB '*{}1'", "[0-9]".repeat(190))),
        ("json_patch", format!("SELECT length(json_patch({}, {}))", keys(""), keys("-"))),
        ("snippet", "SELECT length(snippet(ft, 0, '', '', '', 64)) FROM ft WHERE ft MATCH 'a'".into()),
        ("instr", format!("SELECT instr({ZEROS}, hex(zeroblob(1000000)) || '1')")),
        ("trim", format!("SELECT length(trim({ZEROS}, replace(hex(zeroblob(150000)), '00', 'ab') || '0'))")),
        ("replace", format!("SELECT length(replace({ZEROS}, hex(zeroblob(1000000)) || '1', 'x'))")),
    ];
    for (name, sql) in inputs {
        for (status, _) in tenants.attack("brief", name, 3, &("query", sql)) {
            assert_eq!(status, 504, "{name}");
        }
        // No turn is lost, and no core burns on.
        tenants.does(&tenants.hostile, &[("query", "SELECT 1".into())]);
        assert!(tenants.node.stderr().contains("a call exceeded its deadline"), "{name}");
    }
}

#[test]
fn a_killed_sql_process_fails_calls_under_way_and_loses_nothing_acknowledged() {
    let tenants = Tenants::start();
    let (mut acknowledged, mut failed) = (0, 0);
    for round in 0..10 {
        let processes = sql_processes(tenants.node.pid());
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(3 * round));
            for (id, _) in processes {
                let pid = rustix::process::Pid::from_raw(id.cast_signed()).unwrap();
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        });
        for _ in 0..10 {
            let insert = [("exec", "INSERT INTO t VALUES (1)".to_owned())];
            let answer = tenants.request(&tenants.honest.key, &insert).send().expect(200).json();
            if answer["committed"] == true {
                acknowledged += 1;
            } else {
                assert_eq!(answer["code"], "UNAVAILABLE", "{answer}");
                failed += 1;
            }
        }
        killer.join().unwrap();
    }
    // The last kill may meet this call instead of an insert.
    let query = [("query", "SELECT count(*) AS n FROM t".to_owned())];
    let answer = loop {
        let answer = tenants.request(&tenants.honest.key, &query).send().expect(200).json();
        if answer["committed"] == true {
            break answer;
        }
        assert_eq!(answer["code"], "UNAVAILABLE", "{answer}");
        failed += 1;
        assert!(failed <= 10, "one call at most for each kill: {failed}");
    };
    assert!(failed <= 10, "one call at most for each kill: {failed}");
    let count = answer["results"][0]["rows"][0]["n"].as_i64().unwrap();
    assert!(
        (acknowledged..=acknowledged + failed).contains(&count),
        "{count} of {acknowledged} and {failed}"
    );
}

#[test]
fn a_killed_node_leaves_no_sql_process() {
    let tenants = Tenants::start();
    let processes = sql_processes(tenants.node.pid());
    assert_eq!(processes.len(), 1);
    tenants.node.kill();
    // Whoever inherits it may not have waited for it yet.
    let has_ended =
        |id: &u32| fs::read_to_string(format!("/proc/{id}/stat")).map_or(true, |stat| stat.contains(") Z "));
    eventually("its process is gone", || processes.iter().all(|(id, _)| has_ended(id)));
    tenants.node.start_again();
    let answer = tenants.does(&tenants.honest.key, &[("query", "SELECT count(*) AS n FROM t".into())]);
    assert_eq!(answer["results"][0]["rows"][0]["n"], 0);
}
