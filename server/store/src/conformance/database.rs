//! The suite of [`Database`].

use super::{namespace, wait};
use orama_runtime::limits::{DB_RESULT_MAX_BYTES, DB_ROWS_MAX, DB_STATEMENTS_MAX};
use orama_runtime::names::Namespace;
use orama_runtime::services::{
    BatchMode, BatchOutcome, Consistency, Database, ErrorCode, SqlValue, Statement, StatementKind,
    StatementResult,
};
use serde_json::Value;
use std::time::{Duration, Instant};
use values::{arguments, declared_types, functions_of_the_moment, legal_sql};

mod values;

/// Longer than any case takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A case of the suite.
pub(crate) type Case = fn(&dyn Database);

/// All cases.
pub(crate) const CASES: [(&str, Case); 22] = [
    ("values come back as they were bound", values_come_back),
    ("values of expressions have their JSON", expressions_have_their_json),
    ("rows are objects in the columns' order", rows_are_objects),
    ("a query that ran before sees a changed schema", changed_schema),
    ("counts of what changed", counts),
    ("a batch is all or nothing", all_or_nothing),
    ("queries come after the execs", queries_after_execs),
    ("a query that fails leaves the execs committed", failed_query_after_commit),
    ("queries change nothing", queries_change_nothing),
    ("an empty batch does nothing, well", empty_batch),
    ("wrong statements are told by place", wrong_statements),
    ("namespaces do not see one another", namespaces_are_apart),
    ("SQL that reaches further is refused", forbidden_sql),
    ("statements up to the limit", statement_limit),
    ("rows up to the limit", row_limit),
    ("bytes up to the limit", byte_limit),
    ("writers at once lose nothing", concurrent_writers),
    ("the deadline ends what runs", deadline),
    ("what a column is declared as changes no value", declared_types),
    ("arguments are bound by their place", arguments),
    ("time, randomness and the connection", functions_of_the_moment),
    ("what functions may do works", legal_sql),
];

pub(crate) fn exec(sql: &str, args: Vec<SqlValue>) -> Statement {
    Statement { kind: StatementKind::Exec, sql: sql.to_owned(), args }
}

pub(crate) fn query(sql: &str, args: Vec<SqlValue>) -> Statement {
    Statement { kind: StatementKind::Query, sql: sql.to_owned(), args }
}

pub(crate) fn text(text: &str) -> SqlValue {
    SqlValue::Text(text.to_owned())
}

/// Runs a batch of whichever kind its statements need.
pub(crate) fn run(
    database: &dyn Database,
    namespace: &Namespace,
    statements: Vec<Statement>,
) -> BatchOutcome {
    let writes = statements.iter().any(|statement| statement.kind == StatementKind::Exec);
    let mode = if writes { BatchMode::Write } else { BatchMode::Read(Consistency::Weak) };
    wait(database.run(namespace, mode, statements, Instant::now() + PATIENCE))
}

/// Runs one exec, which must go well.
pub(crate) fn does(database: &dyn Database, namespace: &Namespace, sql: &str) {
    let outcome = run(database, namespace, vec![exec(sql, vec![])]);
    assert!(outcome.committed && outcome.failure.is_none(), "{sql}: {outcome:?}");
}

/// The rows of one query, which must go well.
pub(crate) fn rows(database: &dyn Database, namespace: &Namespace, sql: &str, args: Vec<SqlValue>) -> String {
    let outcome = run(database, namespace, vec![query(sql, args)]);
    match outcome.results.as_slice() {
        [StatementResult::Query { rows, .. }] if outcome.committed => rows.clone(),
        _ => panic!("{sql}: {outcome:?}"),
    }
}

/// The code and place of what failed.
pub(crate) fn failure(outcome: &BatchOutcome) -> (ErrorCode, Option<usize>) {
    let failure = outcome.failure.as_ref().unwrap_or_else(|| panic!("nothing failed: {outcome:?}"));
    assert!(!failure.error.message.is_empty());
    (failure.error.code, failure.index)
}

fn values_come_back(database: &dyn Database) {
    let ns = namespace();
    does(database, &ns, "CREATE TABLE t (k INTEGER PRIMARY KEY, v)");
    let values = [
        (SqlValue::Null, "null"),
        (SqlValue::Integer(0), "0"),
        (SqlValue::Integer(-1), "-1"),
        (SqlValue::Integer(9_007_199_254_740_993), "9007199254740993"),
        (SqlValue::Integer(i64::MAX), "9223372036854775807"),
        (SqlValue::Integer(i64::MIN), "-9223372036854775808"),
        (SqlValue::Real(0.1), "0.1"),
        (SqlValue::Real(-2.5), "-2.5"),
        (text(""), r#""""#),
        (text("plain"), r#""plain""#),
        (text("quote \" backslash \\ line\nend"), r#""quote \" backslash \\ line\nend""#),
        (text("zero\0byte"), r#""zero\u0000byte""#),
        (text("äöü 語 🎈"), r#""äöü 語 🎈""#),
        (SqlValue::Blob(vec![]), r#""""#),
        (SqlValue::Blob(vec![0, 1, 254, 255]), r#""AAH+/w==""#),
    ];
    for (k, (value, expected)) in values.into_iter().enumerate() {
        let k = SqlValue::Integer(k as i64);
        let insert = exec("INSERT INTO t (k, v) VALUES (?, ?)", vec![k.clone(), value.clone()]);
        let outcome = run(database, &ns, vec![insert]);
        assert!(outcome.committed, "{value:?}: {outcome:?}");
        let found = rows(database, &ns, "SELECT v FROM t WHERE k = ?", vec![k]);
        let expected: Value = serde_json::from_str(&format!("[{{\"v\":{expected}}}]")).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&found).unwrap(), expected, "{value:?}");
    }
    // As text too: a reader of JSON may know no whole numbers beyond 2^53.
    let large = rows(database, &ns, "SELECT v FROM t WHERE v = ?", vec![SqlValue::Integer(i64::MAX)]);
    assert_eq!(large, r#"[{"v":9223372036854775807}]"#);
}

fn expressions_have_their_json(database: &dyn Database) {
    let ns = namespace();
    let found = rows(
        database,
        &ns,
        "SELECT 1 + 1 AS sum, 1.5 AS half, NULL AS missing, 'x' AS word, x'ff' AS bytes, 3 > 2 AS yes",
        vec![],
    );
    let expected = serde_json::json!([
        {"sum": 2, "half": 1.5, "missing": null, "word": "x", "bytes": "/w==", "yes": 1}
    ]);
    assert_eq!(serde_json::from_str::<Value>(&found).unwrap(), expected);
}

fn rows_are_objects(database: &dyn Database) {
    let ns = namespace();
    does(database, &ns, "CREATE TABLE t (a INTEGER, b TEXT)");
    assert_eq!(rows(database, &ns, "SELECT * FROM t", vec![]), "[]");
    does(database, &ns, "INSERT INTO t VALUES (1, 'one'), (2, 'two')");
    let outcome = run(database, &ns, vec![query("SELECT b, a FROM t ORDER BY a", vec![])]);
    let expected = r#"[{"b":"one","a":1},{"b":"two","a":2}]"#;
    assert_eq!(
        outcome.results,
        [StatementResult::Query { rows: expected.to_owned(), row_count: 2 }],
        "{outcome:?}"
    );
    // A name that comes twice hides no value.
    let twice = rows(database, &ns, "SELECT 1 AS x, 2 AS x, 3 AS x", vec![]);
    assert_eq!(twice, r#"[{"x":1,"x:1":2,"x:2":3}]"#);
    // Names need escaping too.
    assert_eq!(rows(database, &ns, r#"SELECT 1 AS "a""b""#, vec![]), r#"[{"a\"b":1}]"#);
}

fn changed_schema(database: &dyn Database) {
    let ns = namespace();
    does(database, &ns, "CREATE TABLE t (x)");
    does(database, &ns, "INSERT INTO t VALUES (0)");
    let mut expected = r#"[{"x":0"#.to_owned();
    for column in ["a", "b", "c"] {
        assert_eq!(rows(database, &ns, "SELECT * FROM t", vec![]), format!("{expected}}}]"));
        let add = exec(&format!("ALTER TABLE t ADD COLUMN {column} DEFAULT 1"), vec![]);
        let outcome = run(database, &ns, vec![add, query("SELECT * FROM t", vec![])]);
        expected.push_str(&format!(",\"{column}\":1"));
        assert!(
            matches!(&outcome.results[1], StatementResult::Query { rows, .. } if *rows == format!("{expected}}}]")),
            "{outcome:?}"
        );
    }
}

fn counts(database: &dyn Database) {
    let ns = namespace();
    let batch = vec![
        exec("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)", vec![]),
        exec("INSERT INTO t (id, v) VALUES (7, 'a'), (8, 'b'), (9, 'c')", vec![]),
        exec("UPDATE t SET v = 'x' WHERE id > 7", vec![]),
        exec("UPDATE t SET v = 'y' WHERE id > 100", vec![]),
        exec("DELETE FROM t", vec![]),
        exec("DROP TABLE t", vec![]),
    ];
    let outcome = run(database, &ns, batch);
    assert!(outcome.committed && outcome.failure.is_none(), "{outcome:?}");
    let counted: Vec<u64> = outcome
        .results
        .iter()
        .map(|result| match result {
            StatementResult::Exec { rows_affected, .. } => *rows_affected,
            StatementResult::Query { .. } => panic!("{result:?}"),
        })
        .collect();
    assert_eq!(counted, [0, 3, 2, 0, 3, 0]);
    assert!(matches!(outcome.results[1], StatementResult::Exec { last_insert_id: 9, .. }), "{outcome:?}");
}

fn all_or_nothing(database: &dyn Database) {
    let ns = namespace();
    does(database, &ns, "CREATE TABLE t (id INTEGER PRIMARY KEY)");
    let batch = vec![
        exec("INSERT INTO t VALUES (1)", vec![]),
        exec("CREATE TABLE made (x)", vec![]),
        exec("INSERT INTO t VALUES (1)", vec![]),
        exec("INSERT INTO t VALUES (2)", vec![]),
        query("SELECT * FROM t", vec![]),
    ];
    let outcome = run(database, &ns, batch);
    assert_eq!(failure(&outcome), (ErrorCode::InvalidArgument, Some(2)));
    assert!(!outcome.committed && outcome.results.is_empty(), "what was undone is not there: {outcome:?}");
    let tables = rows(database, &ns, "SELECT name FROM sqlite_schema WHERE type = 'table'", vec![]);
    assert_eq!(tables, r#"[{"name":"t"}]"#);
    // A statement that would keep its first half, or undo the whole by itself.
    for sql in ["INSERT OR FAIL INTO t VALUES (1), (2), (1)", "INSERT OR ROLLBACK INTO t VALUES (1), (1)"] {
        let outcome = run(database, &ns, vec![exec("INSERT INTO t VALUES (10)", vec![]), exec(sql, vec![])]);
        assert_eq!(failure(&outcome), (ErrorCode::InvalidArgument, Some(1)), "{sql}");
        assert_eq!(rows(database, &ns, "SELECT * FROM t", vec![]), "[]", "{sql}");
    }
    does(database, &ns, "INSERT INTO t VALUES (1)");
}

fn queries_after_execs(database: &dyn Database) {
    let ns = namespace();
    let batch = vec![
        query("SELECT count(*) AS n FROM t", vec![]),
        exec("CREATE TABLE t (x)", vec![]),
        query("SELECT max(x) AS m FROM t", vec![]),
        exec("INSERT INTO t VALUES (5)", vec![]),
    ];
    let outcome = run(database, &ns, batch);
    assert!(outcome.committed && outcome.failure.is_none(), "{outcome:?}");
    let rows_at = |index: usize| match &outcome.results[index] {
        StatementResult::Query { rows, row_count: 1 } => rows.as_str(),
        other => panic!("{other:?}"),
    };
    assert_eq!((outcome.results.len(), rows_at(0), rows_at(2)), (4, r#"[{"n":1}]"#, r#"[{"m":5}]"#));
    assert!(matches!(outcome.results[3], StatementResult::Exec { rows_affected: 1, .. }));
}

fn failed_query_after_commit(database: &dyn Database) {
    let ns = namespace();
    let batch = vec![
        exec("CREATE TABLE t (x)", vec![]),
        query("SELECT 1 AS one", vec![]),
        query("SELECT * FROM missing", vec![]),
        exec("INSERT INTO t VALUES (1)", vec![]),
        query("SELECT 2 AS two", vec![]),
    ];
    let outcome = run(database, &ns, batch);
    assert_eq!(failure(&outcome), (ErrorCode::InvalidArgument, Some(2)));
    assert!(outcome.committed && outcome.results.len() == 2, "{outcome:?}");
    assert_eq!(rows(database, &ns, "SELECT * FROM t", vec![]), r#"[{"x":1}]"#);
}

fn queries_change_nothing(database: &dyn Database) {
    let ns = namespace();
    does(database, &ns, "CREATE TABLE t (x)");
    for sql in [
        "INSERT INTO t VALUES (1)",
        "INSERT INTO t VALUES (1) RETURNING x",
        "WITH one AS (SELECT 1) INSERT INTO t SELECT * FROM one",
        "CREATE TABLE u (x)",
        "DROP TABLE t",
    ] {
        let outcome = run(database, &ns, vec![query(sql, vec![])]);
        assert_eq!(failure(&outcome), (ErrorCode::InvalidArgument, Some(0)), "{sql}");
        let after_exec = vec![exec("UPDATE t SET x = 2", vec![]), query(sql, vec![])];
        let outcome = run(database, &ns, after_exec);
        assert_eq!(failure(&outcome), (ErrorCode::InvalidArgument, Some(1)), "{sql}");
    }
    let statements = vec![exec("INSERT INTO t VALUES (1)", vec![])];
    let deadline = Instant::now() + PATIENCE;
    let outcome = wait(database.run(&ns, BatchMode::Read(Consistency::None), statements, deadline));
    assert_eq!(failure(&outcome), (ErrorCode::InvalidArgument, Some(0)));
    assert_eq!(rows(database, &ns, "SELECT * FROM t", vec![]), "[]");
}

fn empty_batch(database: &dyn Database) {
    for mode in [BatchMode::Write, BatchMode::Read(Consistency::Weak)] {
        let outcome = wait(database.run(&namespace(), mode, vec![], Instant::now() + PATIENCE));
        assert_eq!(outcome, BatchOutcome { committed: true, ..BatchOutcome::default() });
    }
}

fn wrong_statements(database: &dyn Database) {
    let ns = namespace();
    does(database, &ns, "CREATE TABLE t (x)");
    let one = || vec![SqlValue::Integer(1)];
    let wrong = [
        ("SELEC 1", vec![], "SELEC"),
        ("SELECT * FROM missing", vec![], "missing"),
        ("SELECT missing FROM t", vec![], "missing"),
        ("SELECT 1; SELECT 2", vec![], "more than one"),
        ("SELECT 1; DROP TABLE t", vec![], "more than one"),
        ("SELECT ?", vec![], "argument"),
        ("SELECT 1", one(), "argument"),
        ("SELECT ?, ?", one(), "argument"),
        ("", vec![], "no SQL statement"),
        ("-- a comment", vec![], "no SQL statement"),
        (";", vec![], "no SQL statement"),
        ("SELECT 1\0", vec![], "zero byte"),
    ];
    for (sql, args, told) in wrong {
        let outcome = run(database, &ns, vec![query("SELECT 1", vec![]), query(sql, args.clone())]);
        assert_eq!(failure(&outcome), (ErrorCode::InvalidArgument, Some(1)), "{sql}: {outcome:?}");
        assert!(!outcome.committed, "{sql}");
        let message = outcome.failure.unwrap().error.message;
        assert!(message.contains(told), "{sql}: {message}");
        let outcome = run(database, &ns, vec![exec("INSERT INTO t VALUES (1)", vec![]), exec(sql, args)]);
        assert_eq!(failure(&outcome), (ErrorCode::InvalidArgument, Some(1)), "{sql}: {outcome:?}");
    }
    assert_eq!(rows(database, &ns, "SELECT * FROM t", vec![]), "[]");
    // What ends a statement is no other one.
    for sql in
        ["SELECT 1 AS x;", "SELECT 1 AS x ; ", "  SELECT 1 AS x -- ; SELECT 2", "SELECT 1 AS x; /* c */"]
    {
        assert_eq!(rows(database, &ns, sql, vec![]), r#"[{"x":1}]"#, "{sql}");
    }
}

fn namespaces_are_apart(database: &dyn Database) {
    let (a, b) = (namespace(), namespace());
    does(database, &a, "CREATE TABLE t (x)");
    does(database, &a, "INSERT INTO t VALUES ('of a')");
    let outcome = run(database, &b, vec![query("SELECT * FROM t", vec![])]);
    assert_eq!(failure(&outcome), (ErrorCode::InvalidArgument, Some(0)));
    assert_eq!(rows(database, &b, "SELECT name FROM sqlite_schema", vec![]), "[]");
    does(database, &b, "CREATE TABLE t (x)");
    does(database, &b, "INSERT INTO t VALUES ('of b')");
    assert_eq!(rows(database, &a, "SELECT * FROM t", vec![]), r#"[{"x":"of a"}]"#);
    assert_eq!(rows(database, &b, "SELECT * FROM t", vec![]), r#"[{"x":"of b"}]"#);
}

fn forbidden_sql(database: &dyn Database) {
    let ns = namespace();
    does(database, &ns, "CREATE TABLE t (x)");
    let before = rows(database, &ns, "SELECT sql FROM sqlite_schema", vec![]);
    for sql in [
        "ATTACH 'other.db' AS other",
        "ATTACH ':memory:' AS other",
        "DETACH main",
        "VACUUM",
        "VACUUM INTO 'copy.db'",
        "BEGIN",
        "BEGIN IMMEDIATE",
        "COMMIT",
        "END",
        "ROLLBACK",
        "SAVEPOINT s",
        "RELEASE s",
        "SELECT load_extension('x.so')",
        "SELECT fts3_tokenizer('simple')",
        "PRAGMA journal_mode = DELETE",
        "PRAGMA synchronous = OFF",
        "PRAGMA foreign_keys = OFF",
        "PRAGMA writable_schema = ON",
        "PRAGMA trusted_schema = ON",
        "PRAGMA max_page_count = 1000000000",
        "PRAGMA temp_store_directory = '/'",
        "PRAGMA cache_size = 100000000",
        "PRAGMA query_only = ON",
        "PRAGMA locking_mode = EXCLUSIVE",
        "PRAGMA wal_checkpoint(TRUNCATE)",
        "PRAGMA mmap_size = 1000000000",
        "PRAGMA database_list",
        "SELECT * FROM pragma_database_list",
        "CREATE TEMP TABLE hidden (x)",
        "CREATE TEMP VIEW hidden AS SELECT 1",
        "CREATE TABLE temp.hidden (x)",
        "CREATE VIRTUAL TABLE temp.hidden USING fts5(x)",
        "CREATE TEMP TRIGGER hidden AFTER INSERT ON t BEGIN SELECT 1; END",
        "INSERT INTO sqlite_schema VALUES ('table', 'u', 'u', 0, 'CREATE TABLE u (x)')",
        "UPDATE sqlite_schema SET sql = 'CREATE TABLE t (y)'",
        "DELETE FROM sqlite_master",
    ] {
        let outcome = run(database, &ns, vec![exec("INSERT INTO t VALUES (1)", vec![]), exec(sql, vec![])]);
        assert!(!outcome.committed, "{sql} was done");
        assert_eq!(failure(&outcome), (ErrorCode::InvalidArgument, Some(1)), "{sql}: {outcome:?}");
        let outcome = run(database, &ns, vec![query(sql, vec![])]);
        assert_eq!(failure(&outcome), (ErrorCode::InvalidArgument, Some(0)), "{sql}: {outcome:?}");
    }
    assert_eq!(rows(database, &ns, "SELECT sql FROM sqlite_schema", vec![]), before);
    assert_eq!(rows(database, &ns, "SELECT * FROM t", vec![]), "[]");
}

fn statement_limit(database: &dyn Database) {
    let ns = namespace();
    let batch = |count: usize| (0..count).map(|_| query("SELECT 1 AS x", vec![])).collect::<Vec<_>>();
    let outcome = run(database, &ns, batch(DB_STATEMENTS_MAX));
    assert!(outcome.committed && outcome.results.len() == DB_STATEMENTS_MAX, "{outcome:?}");
    let outcome = run(database, &ns, batch(DB_STATEMENTS_MAX + 1));
    assert_eq!(failure(&outcome), (ErrorCode::TooManyStatements, None));
    assert!(outcome.results.is_empty());
}

fn row_limit(database: &dyn Database) {
    let ns = namespace();
    let batch = |count: usize| {
        let sql =
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) SELECT i FROM n";
        vec![query(sql, vec![SqlValue::Integer(count as i64)])]
    };
    let outcome = run(database, &ns, batch(DB_ROWS_MAX));
    assert!(
        matches!(outcome.results[..], [StatementResult::Query { row_count: DB_ROWS_MAX, .. }]),
        "{:?}",
        outcome.failure
    );
    let outcome = run(database, &ns, batch(DB_ROWS_MAX + 1));
    assert_eq!(failure(&outcome), (ErrorCode::PayloadTooLarge, Some(0)));
    assert!(outcome.results.is_empty() && !outcome.committed);
    assert!(outcome.failure.unwrap().error.message.contains("10000 rows"));
}

fn byte_limit(database: &dyn Database) {
    const FRAME: usize = r#"[{"v":""}]"#.len();
    const PART: usize = 1 << 20;
    let ns = namespace();
    does(database, &ns, "CREATE TABLE t (v TEXT)");
    let part = text(&"x".repeat(PART));
    assert!(run(database, &ns, vec![exec("INSERT INTO t VALUES (?)", vec![part])]).committed);
    // Every part counts with its frame; the last one fills the rest.
    let parts = DB_RESULT_MAX_BYTES / (PART + FRAME);
    let rest = DB_RESULT_MAX_BYTES - parts * (PART + FRAME) - FRAME;
    let batch = |rest: usize| {
        let mut batch: Vec<_> = (0..parts).map(|_| query("SELECT v FROM t", vec![])).collect();
        batch.push(query("SELECT substr(v, 1, ?) AS v FROM t", vec![SqlValue::Integer(rest as i64)]));
        batch
    };
    let outcome = run(database, &ns, batch(rest));
    assert!(outcome.committed, "{:?}", outcome.failure);
    let bytes = outcome.results.iter().map(|result| match result {
        StatementResult::Query { rows, .. } => rows.len(),
        StatementResult::Exec { .. } => 0,
    });
    assert_eq!(bytes.sum::<usize>(), DB_RESULT_MAX_BYTES);
    let outcome = run(database, &ns, batch(rest + 1));
    assert_eq!(failure(&outcome), (ErrorCode::PayloadTooLarge, Some(parts)));
    assert!(outcome.failure.unwrap().error.message.contains("32 MiB"));
}

fn concurrent_writers(database: &dyn Database) {
    const WRITERS: usize = 8;
    const TIMES: usize = 25;
    let ns = namespace();
    does(database, &ns, "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER)");
    does(database, &ns, "INSERT INTO t VALUES (1, 0)");
    std::thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(|| {
                for _ in 0..TIMES {
                    let batch = vec![
                        exec("UPDATE t SET n = n + 1 WHERE id = 1", vec![]),
                        exec("INSERT INTO t (n) SELECT n FROM t WHERE id = 1", vec![]),
                    ];
                    let outcome = run(database, &ns, batch);
                    assert!(outcome.committed, "{outcome:?}");
                    rows(database, &ns, "SELECT n FROM t WHERE id = 1", vec![]);
                }
            });
        }
    });
    let counted =
        rows(database, &ns, "SELECT count(DISTINCT n) AS n, max(n) AS m FROM t WHERE id > 1", vec![]);
    assert_eq!(counted, format!("[{{\"n\":{0},\"m\":{0}}}]", WRITERS * TIMES), "each saw the one before it");
}

fn deadline(database: &dyn Database) {
    const ENDLESS: &str = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)";
    let ns = namespace();
    does(database, &ns, "CREATE TABLE t (x)");
    let soon = || Instant::now() + Duration::from_millis(200);
    let count = format!("{ENDLESS} SELECT count(*) FROM n");
    let read = BatchMode::Read(Consistency::Weak);
    let outcome = wait(database.run(&ns, read, vec![query(&count, vec![])], soon()));
    assert_eq!(failure(&outcome), (ErrorCode::DeadlineExceeded, Some(0)));
    let batch = vec![
        exec("INSERT INTO t VALUES (1)", vec![]),
        exec(&format!("INSERT INTO t {ENDLESS} SELECT i FROM n"), vec![]),
    ];
    let outcome = wait(database.run(&ns, BatchMode::Write, batch, soon()));
    // Where the database is elsewhere, it may say too late which statement it was, and that it was undone.
    assert!(matches!(failure(&outcome), (ErrorCode::DeadlineExceeded, None | Some(1))), "{outcome:?}");
    assert!(!outcome.committed && outcome.results.is_empty());
    // A query after the commit takes nothing back.
    let batch = vec![exec("INSERT INTO t VALUES (2)", vec![]), query(&count, vec![])];
    let outcome = wait(database.run(&ns, BatchMode::Write, batch, Instant::now() + Duration::from_secs(2)));
    assert_eq!(failure(&outcome), (ErrorCode::DeadlineExceeded, Some(1)));
    assert!(outcome.committed, "{outcome:?}");
    // One that has passed already.
    let passed = Instant::now().checked_sub(Duration::from_secs(1)).unwrap_or_else(Instant::now);
    let outcome =
        wait(database.run(&ns, BatchMode::Write, vec![exec("INSERT INTO t VALUES (3)", vec![])], passed));
    assert_eq!(failure(&outcome).0, ErrorCode::DeadlineExceeded);
    assert_eq!(rows(database, &ns, "SELECT x FROM t", vec![]), r#"[{"x":2}]"#);
    does(database, &ns, "INSERT INTO t VALUES (4)");
}
