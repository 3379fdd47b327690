//! Cases about values, and about what SQL means at a moment and on a server.

use super::super::namespace;
use super::{does, exec, failure, query, rows, run, text};
use orama_runtime::services::{Database, ErrorCode, SqlValue, StatementResult};

/// Values of every kind in columns that are declared as something else.
pub(super) fn declared_types(database: &dyn Database) {
    let ns = namespace();
    let types = ["BOOLEAN", "DATETIME", "DATE", "TIMESTAMP", "BLOB", "JSON", "ANYTHING (1, 2)"];
    let columns: Vec<_> = types.iter().enumerate().map(|(n, of)| format!("c{n} {of}")).collect();
    does(database, &ns, &format!("CREATE TABLE t (k INTEGER PRIMARY KEY, {})", columns.join(", ")));
    let values = [
        (text("2026-11-22 23:34:11"), r#""2026-11-22 23:34:11""#),
        (text("no date"), r#""no date""#),
        (text("x'41'"), r#""x'41'""#),
        (text(" X'' "), r#"" X'' ""#),
        (SqlValue::Blob(vec![0xff, 0, 0x74]), r#""/wB0""#),
        (SqlValue::Null, "null"),
    ];
    for (k, (value, _)) in values.iter().enumerate() {
        let mut args = vec![SqlValue::Integer(k as i64)];
        args.extend(types.iter().map(|_| value.clone()));
        let insert = exec("INSERT INTO t VALUES (?, ?, ?, ?, ?, ?, ?, ?)", args);
        assert!(run(database, &ns, vec![insert]).committed, "{value:?}");
    }
    for (k, (value, expected)) in values.iter().enumerate() {
        let k = vec![SqlValue::Integer(k as i64)];
        for (n, of) in types.iter().enumerate() {
            let found = rows(database, &ns, &format!("SELECT c{n} AS v FROM t WHERE k = ?"), k.clone());
            assert_eq!(found, format!("[{{\"v\":{expected}}}]"), "{value:?} as {of}");
        }
    }
    // Numbers: what SQLite makes of them by the column's type, it makes everywhere.
    does(database, &ns, "CREATE TABLE n (b BOOLEAN, d DATETIME, r REAL, x)");
    does(
        database,
        &ns,
        "INSERT INTO n VALUES (7, 1700000000, 3, 3.0), (-1, 1e300, 0.1, 9e999), (0, 2.5, -0.0, -9e999)",
    );
    let found = rows(database, &ns, "SELECT *, typeof(x) AS t FROM n", vec![]);
    let expected = r#"[{"b":7,"d":1700000000,"r":3.0,"x":3.0,"t":"real"},{"b":-1,"d":1e+300,"r":0.1,"x":null,"t":"real"},{"b":0,"d":2.5,"r":0.0,"x":null,"t":"real"}]"#;
    assert_eq!(found.replace("-0.0", "0.0"), expected);
    let found = rows(
        database,
        &ns,
        "SELECT NULL AS a, x'ff00' AS b UNION ALL SELECT x'00', 'text' UNION ALL SELECT 1, 1.0 UNION ALL SELECT CAST(x'610062' AS TEXT), 0.1 + 0.2",
        vec![],
    );
    let expected = r#"[{"a":null,"b":"/wA="},{"a":"AA==","b":"text"},{"a":1,"b":1.0},{"a":"a\u0000b","b":0.30000000000000004}]"#;
    assert_eq!(found, expected);
    // A value is made once, and rows keep their order.
    let found = rows(
        database,
        &ns,
        "SELECT CASE WHEN random() % 2 THEN 1 ELSE 'text' END AS v FROM json_each('[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]')",
        vec![],
    );
    assert_eq!(found.replace("\"text\"", "1"), format!("[{}]", [r#"{"v":1}"#; 16].join(",")));
    let found =
        rows(database, &ns, "SELECT value AS v FROM json_each('[2,3,1]') ORDER BY value DESC", vec![]);
    assert_eq!(found, r#"[{"v":3},{"v":2},{"v":1}]"#);
}

pub(super) fn arguments(database: &dyn Database) {
    let ns = namespace();
    let (a, b) = (SqlValue::Integer(1), text("x'42'"));
    let found = rows(database, &ns, "SELECT ?2 AS b, ?1 AS a, ?2 AS c", vec![a.clone(), b.clone()]);
    assert_eq!(found, r#"[{"b":"x'42'","a":1,"c":"x'42'"}]"#);
    let found = rows(database, &ns, "SELECT :a AS a, @b AS b, :a AS c", vec![a.clone(), b.clone()]);
    assert_eq!(found, r#"[{"a":1,"b":"x'42'","c":1}]"#);
    let found =
        rows(database, &ns, "SELECT typeof(?) AS t, ? IS NULL AS n", vec![b, SqlValue::Real(f64::INFINITY)]);
    assert_eq!(found, r#"[{"t":"text","n":0}]"#);
    let found = rows(
        database,
        &ns,
        "SELECT typeof(?) AS t, ? > 1e308 AS n",
        vec![SqlValue::Real(2.0), SqlValue::Real(f64::INFINITY)],
    );
    assert_eq!(found, r#"[{"t":"real","n":1}]"#);
    for sql in ["SELECT ?3", "SELECT ?1, ?", "SELECT :a, :b, :c", "SELECT ?0", "SELECT ?32767"] {
        let outcome = run(database, &ns, vec![query(sql, vec![a.clone()])]);
        assert_eq!(failure(&outcome), (ErrorCode::InvalidArgument, Some(0)), "{sql}: {outcome:?}");
    }
}

pub(super) fn functions_of_the_moment(database: &dyn Database) {
    let ns = namespace();
    does(database, &ns, "CREATE TABLE t (id INTEGER PRIMARY KEY, v)");
    for (sql, like) in [
        ("CURRENT_TIMESTAMP", "20__-__-__ __:__:__"),
        ("current_date", "20__-__-__"),
        ("CURRENT_TIME", "__:__:__"),
        ("datetime('now')", "20__-__-__ __:__:__"),
        ("datetime()", "20__-__-__ __:__:__"),
        ("datetime('NOW', '+1 day', 'start of month')", "20__-__-01 00:00:00"),
        ("date('now', 'localtime')", "20__-__-__"),
        ("strftime('%Y|%f', 'now')", "20__|__.___"),
        ("strftime('%Y')", "20__"),
        ("unixepoch()", "1_________"),
        ("julianday('now')", "24_____.%"),
        ("substr(timediff('now', '2000-01-01'), 1, 4)", "+002"),
        ("length(hex(randomblob(8)))", "16"),
        ("typeof(random())", "integer"),
        ("abs(random() % 1)", "0"),
        ("(SELECT 'now')", "now"),
    ] {
        does(database, &ns, &format!("INSERT INTO t (v) VALUES ({sql})"));
        let found = rows(database, &ns, "SELECT v LIKE ? AS is_like FROM t", vec![text(like)]);
        assert_eq!(found, r#"[{"is_like":1}]"#, "{sql}: {}", rows(database, &ns, "SELECT v FROM t", vec![]));
        does(database, &ns, "DELETE FROM t");
    }
    let now = exec("INSERT INTO t (v) VALUES (unixepoch(?)), (unixepoch('now'))", vec![text("now")]);
    assert!(run(database, &ns, vec![now]).committed);
    let close = "SELECT max(abs(v - unixepoch())) < 3600 AS is_close, count(*) AS n FROM t";
    assert_eq!(rows(database, &ns, close, vec![]), r#"[{"is_close":1,"n":2}]"#);
    does(database, &ns, "DELETE FROM t");
    // Random values are others each time, and in each row that is written out.
    for _ in 0..2 {
        does(database, &ns, "INSERT INTO t (v) VALUES (hex(randomblob(16))), (random()), (random())");
    }
    let count = "SELECT count(DISTINCT v) AS n FROM t";
    assert_eq!(rows(database, &ns, count, vec![]), r#"[{"n":6}]"#);
    does(database, &ns, "UPDATE t SET v = hex(randomblob(4)) WHERE id = 1");
    assert_eq!(rows(database, &ns, "SELECT length(v) AS n FROM t WHERE id = 1", vec![]), r#"[{"n":8}]"#);
    // What a connection knows of the statements before, within a call.
    let batch = vec![
        exec("INSERT INTO t (id, v) VALUES (70, 'a'), (71, 'b')", vec![]),
        exec("INSERT INTO t (id, v) VALUES (80, last_insert_rowid())", vec![]),
        query(
            "SELECT last_insert_rowid() AS id, changes() AS n, (SELECT v FROM t WHERE id = 80) AS v",
            vec![],
        ),
    ];
    let outcome = run(database, &ns, batch);
    let expected = r#"[{"id":80,"n":1,"v":71}]"#;
    assert!(
        matches!(&outcome.results[2], StatementResult::Query { rows, .. } if rows == expected),
        "{outcome:?}"
    );
}

pub(super) fn legal_sql(database: &dyn Database) {
    let ns = namespace();
    for sql in [
        "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE, up TEXT AS (upper(name)))",
        "CREATE INDEX i ON t (lower(name))",
        "CREATE TABLE log (what TEXT, id INTEGER REFERENCES t (id))",
        "CREATE TRIGGER made AFTER INSERT ON t BEGIN INSERT INTO log VALUES ('made', new.id); END",
        "CREATE VIEW v AS SELECT name FROM t",
        "INSERT INTO t (name) VALUES ('a') ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING id",
        "ALTER TABLE t ADD COLUMN more",
        "ALTER TABLE t RENAME COLUMN more TO other",
        "ALTER TABLE log RENAME TO history",
        "CREATE VIRTUAL TABLE words USING fts5 (text)",
        "INSERT INTO words VALUES ('the quick brown fox')",
        "CREATE TRIGGER told AFTER INSERT ON history BEGIN INSERT INTO words VALUES (new.what); END",
        "INSERT INTO t (name) VALUES ('b')",
        "CREATE VIRTUAL TABLE places USING rtree (id, x0, x1)",
        "INSERT INTO places VALUES (1, 0.0, 2.0)",
        "CREATE TABLE users_data (x)",
        "INSERT INTO users_data VALUES (1)",
        "ANALYZE",
        "REINDEX",
        "DROP VIEW v",
        "DROP TABLE places",
    ] {
        does(database, &ns, sql);
    }
    for (sql, expected) in [
        ("SELECT text FROM words WHERE words MATCH 'quick'", r#"[{"text":"the quick brown fox"}]"#),
        ("SELECT count(*) AS n FROM words", r#"[{"n":2}]"#),
        ("SELECT up FROM t ORDER BY id", r#"[{"up":"A"},{"up":"B"}]"#),
        ("SELECT json_extract('{\"a\":[1,2]}', '$.a[1]') AS j", r#"[{"j":2}]"#),
        ("SELECT value FROM json_each('[7]')", r#"[{"value":7}]"#),
        ("SELECT name FROM pragma_table_info('history')", r#"[{"name":"what"},{"name":"id"}]"#),
        ("PRAGMA user_version", r#"[{"user_version":0}]"#),
        ("PRAGMA foreign_key_check", "[]"),
        ("SELECT CAST(x'61ff62' AS TEXT) AS t", "[{\"t\":\"a\u{fffd}b\"}]"),
        ("SELECT 9e999 AS r", r#"[{"r":null}]"#),
        ("SELECT 1e300 AS big, 0.1 + 0.2 AS sum", r#"[{"big":1e+300,"sum":0.30000000000000004}]"#),
        ("SELECT seq FROM sqlite_sequence", r#"[{"seq":2}]"#),
    ] {
        assert_eq!(rows(database, &ns, sql, vec![]), expected, "{sql}");
    }
    for (sql, told) in [
        ("INSERT INTO t (name) VALUES ('a')", "UNIQUE constraint failed: t.name"),
        ("DELETE FROM words_data", "may not be modified"),
        ("INSERT INTO \"Words_Config\" VALUES ('x', 1)", "may not be modified"),
        ("CREATE VIRTUAL TABLE old USING fts4 (x)", "fts4"),
        ("PRAGMA user_version = 3", "user_version"),
        ("SAVEPOINT s", "db_transaction"),
        ("VACUUM", "VACUUM"),
        ("CREATE TEMP TABLE x (y)", "temporary"),
    ] {
        let outcome = run(database, &ns, vec![exec(sql, vec![])]);
        let message = outcome.failure.map(|failure| failure.error.message).unwrap_or_default();
        assert!(message.to_lowercase().contains(&told.to_lowercase()), "{sql}: {message}");
    }
    // A trigger that would fire itself for ever ends.
    does(database, &ns, "CREATE TABLE r (x)");
    does(database, &ns, "CREATE TRIGGER again AFTER INSERT ON r BEGIN INSERT INTO r VALUES (new.x + 1); END");
    does(database, &ns, "INSERT INTO r VALUES (1)");
}
