//! SQL that is meant to take a node down. Each input is run against a real process; an honest namespace works on beside it.

use super::*;
use orama_runtime::services::Statement;

/// Whole numbers without an end.
const NUMBERS: &str = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)";

/// Text of 4,000,000 zeros.
const ZEROS: &str = "hex(zeroblob(2000000))";

/// Runs one statement by a deadline, while another namespace reads and writes.
fn attack(
    node: &Node,
    honest: &Namespace,
    name: &str,
    statements: Vec<Statement>,
    seconds: u64,
) -> BatchOutcome {
    let ns = namespace();
    let (last, setup) = statements.split_last().unwrap();
    for statement in setup {
        let outcome = suite::run(&node.databases, &ns, vec![statement.clone()]);
        assert_eq!(outcome.failure, None, "{name}");
    }
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let writes = last.kind == orama_runtime::services::StatementKind::Exec;
    let mode = if writes { BatchMode::Write } else { READ };
    // All of the namespace's turns of that kind.
    let count = if writes { 1 } else { DB_READERS_MAX };
    let mut calls: Vec<_> =
        (0..count).map(|_| node.databases.run(&ns, mode, vec![last.clone()], deadline)).collect();
    calls.iter_mut().for_each(begin);
    node.does(honest, "INSERT INTO t VALUES (1)");
    assert_ne!(node.rows(honest, "SELECT count(*) AS n FROM t"), "[]", "{name}");
    let mut outcomes: Vec<_> = calls.into_iter().map(wait).collect();
    // The namespace itself goes on too, in a new process where the old one was killed.
    assert_eq!(node.rows(&ns, "SELECT 1 AS x"), r#"[{"x":1}]"#, "{name}");
    assert!(outcomes.iter().all(|outcome| outcome.failure.is_some()), "{name}: {outcomes:?}");
    outcomes.remove(0)
}

fn times(count: usize, part: impl Fn(usize) -> String) -> String {
    (0..count).map(part).collect::<Vec<_>>().join(", ")
}

#[test]
fn statements_that_take_memory_without_end_fail_alone() {
    let node = Node::new();
    let honest = namespace();
    node.does(&honest, "CREATE TABLE t (x)");
    let read = |sql: String| query(&sql);
    let inputs = [
        (
            "long names of columns, many times",
            vec![
                exec(&format!("CREATE TABLE t (\"{}\")", "n".repeat(1_000_000))),
                exec("INSERT INTO t VALUES (1)"),
                read(format!("SELECT {} FROM t", vec!["*"; 1900].join(","))),
            ],
        ),
        (
            "arrays of megabytes",
            vec![read(format!(
                "WITH v (h) AS MATERIALIZED (SELECT substr({ZEROS}, 1, 3000000)), {} SELECT {} FROM (SELECT i FROM n LIMIT 400), v",
                NUMBERS.trim_start_matches("WITH RECURSIVE "),
                times(8, |_| "json_group_array(h || i)".into()),
            ))],
        ),
        (
            "the pending terms of a full-text index",
            vec![
                exec("CREATE VIRTUAL TABLE ft USING fts5 (x)"),
                exec("INSERT INTO ft (ft, rank) VALUES ('hashsize', 2000000000)"),
                exec(&format!(
                    "{NUMBERS} INSERT INTO ft SELECT hex(randomblob(9)) || ' ' || hex(randomblob(9)) || ' ' || hex(randomblob(9)) FROM n"
                )),
            ],
        ),
        (
            "the largest of many texts",
            vec![read(format!("SELECT {}", times(60, |n| format!("max({ZEROS} || {n})"))))],
        ),
        (
            "many padded texts",
            vec![read(format!("SELECT {}", times(60, |n| format!("max(printf('%.*c', 4000000, {n}))"))))],
        ),
        ("many blobs", vec![read(format!("SELECT {}", times(60, |_| "max(randomblob(4000000))".into())))]),
    ];
    for (name, statements) in inputs {
        let outcome = attack(&node, &honest, name, statements, 100);
        assert_eq!(code(&outcome), ErrorCode::PayloadTooLarge, "{name}: {outcome:?}");
    }
    let grown = suite::run(
        &node.databases,
        &namespace(),
        vec![read(format!("SELECT {}", times(60, |n| format!("max({ZEROS} || {n})"))))],
    );
    assert!(message(&grown).contains("needs more memory than the 64 MiB"), "{grown:?}");
}

#[test]
fn functions_that_cannot_be_interrupted_are_ended_after_the_deadline() {
    let node = Node::new();
    let honest = namespace();
    node.does(&honest, "CREATE TABLE t (x)");
    let inputs = [
        ("instr", format!("SELECT instr({ZEROS}, hex(zeroblob(1000000)) || '1')")),
        ("replace", format!("SELECT length(replace({ZEROS}, hex(zeroblob(1000000)) || '1', 'x'))")),
        ("trim", format!("SELECT length(trim({ZEROS}, replace(hex(zeroblob(150000)), '00', 'ab') || '0'))")),
        ("GLOB", format!("SELECT {ZEROS} GLOB '*' || printf('%.*c', 990, '0') || '1'")),
        (
            "json_patch",
            format!(
                "{NUMBERS}, o (a, b) AS (SELECT json_group_object('k' || i, i), json_group_object('q' || i, i)
                 FROM (SELECT i FROM n LIMIT 60000)) SELECT length(json_patch(a, b)) FROM o"
            ),
        ),
    ];
    for (name, sql) in inputs {
        let outcome = attack(&node, &honest, name, vec![query(&sql)], 2);
        assert_eq!(code(&outcome), ErrorCode::DeadlineExceeded, "{name}: {outcome:?}");
    }
}

#[test]
fn a_process_that_is_killed_for_one_call_fails_the_others_as_unavailable() {
    let node = Node::new();
    let ns = namespace();
    node.does(&ns, "CREATE TABLE t (x)");
    let far = Instant::now() + PATIENCE;
    let mut other = node.databases.run(&ns, READ, vec![query(ENDLESS)], far);
    begin(&mut other);
    let spin = format!("SELECT instr({ZEROS}, hex(zeroblob(1000000)) || '1')");
    let soon = Instant::now() + Duration::from_millis(500);
    let outcome = wait(node.databases.run(&ns, READ, vec![query(&spin)], soon));
    assert_eq!(code(&outcome), ErrorCode::DeadlineExceeded, "{outcome:?}");
    let outcome = wait(other);
    assert_eq!(code(&outcome), ErrorCode::Unavailable, "{outcome:?}");
    assert!(message(&outcome).contains("ended during the call"), "{outcome:?}");
    assert_eq!(node.rows(&ns, "SELECT * FROM t"), "[]");
}

fn exec(sql: &str) -> Statement {
    suite::exec(sql, vec![])
}

fn query(sql: &str) -> Statement {
    suite::query(sql, vec![])
}
