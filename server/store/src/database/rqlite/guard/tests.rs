use super::*;

fn allowed(sql: &str) {
    if let Err(error) = check(sql, StatementKind::Exec) {
        panic!("{sql}: {error}");
    }
}

#[track_caller]
fn refused(sql: &str, told: &str) {
    for kind in [StatementKind::Exec, StatementKind::Query] {
        match check(sql, kind) {
            Ok(allowed) => panic!("{sql} is {:?}", allowed.kind),
            Err(error) => {
                assert!(error.message.contains(told) || kind == StatementKind::Query, "{sql}: {error}")
            }
        }
    }
}

#[test]
fn legal_sql_passes() {
    for sql in [
        "SELECT 1",
        "  /* a comment */ SELECT 1 -- another ; DROP TABLE t\n ; ; ",
        "VALUES (1, 'a'), (2, 'b')",
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9) SELECT sum(i) FROM n",
        "WITH a AS (WITH b AS MATERIALIZED (SELECT 1 AS x) SELECT * FROM b) SELECT (SELECT x FROM a) AS y",
        "SELECT row_number() OVER (PARTITION BY a ORDER BY b ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM t WINDOW w AS (ORDER BY c)",
        "SELECT count(*) FILTER (WHERE x > 1), group_concat(x, ',' ORDER BY x) FROM t",
        "SELECT a -> '$.b' ->> 'c', x'00ff', 0xff, 1e10, 1_000, ?, ?2, :name, @name, $name FROM t",
        "SELECT * FROM a LEFT JOIN b USING (id) NATURAL JOIN c CROSS JOIN json_each(c.j) ORDER BY 1 NULLS LAST LIMIT 1 OFFSET 2",
        "SELECT 'ATTACH DATABASE x', 'it''s; VACUUM', \"load_extension\", [BEGIN] FROM t WHERE 'load_extension(1)' = ?",
        "SELECT \"a\"\"b\", `c`, [d e] FROM \"the table\"",
        "SELECT name FROM pragma_table_info('t')",
        "SELECT * FROM sqlite_schema",
        "SELECT replace(x, 'a', 'b'), glob('a*', x), like('a%', x), x MATCH 'y', x REGEXP 'z' FROM t",
        "SELECT CASE WHEN EXISTS (SELECT 1) THEN 1 ELSE iif(a IS NOT DISTINCT FROM b, 1, 2) END",
        "EXPLAIN SELECT 1",
        "EXPLAIN QUERY PLAN SELECT * FROM t",
        "PRAGMA table_info(t)",
        "pragma main.index_list('i')",
        "PRAGMA user_version",
        "PRAGMA foreign_key_check",
        "INSERT INTO t VALUES (1)",
        "INSERT OR REPLACE INTO main.t (a, b) SELECT a, b FROM u WHERE true ON CONFLICT (a) DO UPDATE SET b = excluded.b RETURNING *",
        "REPLACE INTO t DEFAULT VALUES",
        "UPDATE OR IGNORE t AS x SET (a, b) = (1, 2), c = 3 FROM u WHERE u.id = x.id RETURNING a",
        "WITH d AS (SELECT 1) DELETE FROM t WHERE id IN d",
        "DELETE FROM sqlite_sequence WHERE name = 't'",
        "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, a TEXT NOT NULL DEFAULT 'x' CHECK (length(a) > 0), b AS (upper(a)) STORED, c REFERENCES u (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED, UNIQUE (a, c)) STRICT, WITHOUT ROWID",
        "CREATE TABLE IF NOT EXISTS t AS SELECT 1 AS x",
        "CREATE UNIQUE INDEX i ON t (lower(a) COLLATE NOCASE DESC) WHERE a IS NOT NULL",
        "CREATE VIEW v (a) AS SELECT a FROM t",
        "CREATE TRIGGER g AFTER UPDATE OF a, b ON t FOR EACH ROW WHEN new.a > 1 BEGIN UPDATE t SET b = 1; INSERT INTO u VALUES (new.a); DELETE FROM u; SELECT RAISE(ABORT, 'no'); END;",
        "CREATE TRIGGER g INSTEAD OF INSERT ON v BEGIN INSERT INTO t VALUES (1); END",
        "CREATE VIRTUAL TABLE w USING fts5 (a, b, tokenize = 'porter')",
        "CREATE VIRTUAL TABLE r USING rtree(id, x0, x1)",
        "ALTER TABLE t ADD COLUMN c DEFAULT 1",
        "ALTER TABLE t RENAME COLUMN a TO b",
        "ALTER TABLE t RENAME TO u",
        "ALTER TABLE t DROP COLUMN a",
        "DROP TABLE IF EXISTS t",
        "DROP INDEX i",
        "DROP VIEW v",
        "DROP TRIGGER g",
        "ANALYZE t",
        "REINDEX",
    ] {
        allowed(sql);
    }
}

#[test]
fn what_reaches_further_is_refused() {
    for (sql, told) in [
        ("ATTACH 'x' AS y", "ATTACH"),
        ("aTtAcH\tDATABASE\n'x'\r\nAS y", "ATTACH"),
        ("/**/ATTACH/**/'x'/**/AS/**/y", "ATTACH"),
        ("--\nATTACH ':memory:' AS y;", "ATTACH"),
        ("EXPLAIN ATTACH 'x' AS y", "ATTACH"),
        ("ATTACH (SELECT 'x') AS y", "ATTACH"),
        ("DETACH main", "ATTACH"),
        ("VACUUM", "VACUUM"),
        ("VACUUM main INTO 'copy.db'", "VACUUM"),
        ("vacuum into ?", "VACUUM"),
        ("BEGIN", "db_transaction"),
        ("BEGIN EXCLUSIVE TRANSACTION", "db_transaction"),
        ("COMMIT", "db_transaction"),
        ("END TRANSACTION", "db_transaction"),
        ("ROLLBACK TO SAVEPOINT s", "db_transaction"),
        ("SAVEPOINT s", "db_transaction"),
        ("RELEASE s", "db_transaction"),
        ("SELECT load_extension('x')", "load_extension"),
        ("SELECT LOAD_EXTENSION ( 'x' )", "load_extension"),
        ("SELECT \"load_extension\"('x')", "load_extension"),
        ("SELECT [Load_Extension]/**/('x')", "load_extension"),
        ("SELECT `load_extension`--\n('x')", "load_extension"),
        ("SELECT (SELECT max(load_extension('x')) FROM (SELECT 1))", "load_extension"),
        (
            "WITH a AS (WITH b AS (SELECT load_extension('x')) SELECT * FROM b) SELECT * FROM a",
            "load_extension",
        ),
        ("CREATE VIEW v AS SELECT load_extension('x')", "load_extension"),
        ("CREATE TABLE t (a DEFAULT (load_extension('x')))", "load_extension"),
        ("CREATE TABLE t (a, b AS (load_extension(a)))", "load_extension"),
        ("CREATE TABLE t (a CHECK (load_extension(a)))", "load_extension"),
        ("CREATE INDEX i ON t (load_extension(a))", "load_extension"),
        ("CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT load_extension('x'); END", "load_extension"),
        ("INSERT INTO t VALUES (1) RETURNING load_extension('x')", "load_extension"),
        ("SELECT 1 ORDER BY load_extension('x')", "load_extension"),
        ("SELECT fts3_tokenizer('simple')", "fts3_tokenizer"),
        ("SELECT writefile('x', 'y')", "writefile"),
        ("SELECT readfile('/etc/passwd')", "readfile"),
        ("SELECT edit('x')", "edit"),
        ("SELECT \u{feff}load_extension('x')", "byte order mark"),
    ] {
        refused(sql, told);
    }
}

#[test]
fn pragmas_other_places_and_tables_of_the_servers_are_refused() {
    for (sql, told) in [
        ("PRAGMA journal_mode = DELETE", "journal_mode"),
        ("PRAGMA main.journal_mode", "journal_mode"),
        ("PRAGMA \"writable_schema\"(1)", "writable_schema"),
        ("PRAGMA user_version = 3", "user_version"),
        ("PRAGMA user_version(3)", "user_version"),
        ("EXPLAIN PRAGMA wal_checkpoint", "wal_checkpoint"),
        ("SELECT * FROM pragma_database_list", "database_list"),
        ("SELECT * FROM PRAGMA_database_list()", "database_list"),
        ("SELECT * FROM 'pragma_wal_checkpoint'", "wal_checkpoint"),
        ("SELECT * FROM t JOIN \"pragma_database_list\"", "database_list"),
        ("SELECT 1 IN pragma_database_list", "database_list"),
        ("CREATE TEMP TABLE x (y)", "temporary"),
        ("CREATE TEMPORARY VIEW x AS SELECT 1", "temporary"),
        ("CREATE TABLE temp.x (y)", "temporary"),
        ("CREATE TABLE \"TEMP\".x (y)", "temporary"),
        ("CREATE VIRTUAL TABLE temp.x USING fts5(y)", "temporary"),
        ("CREATE TEMP TRIGGER x AFTER INSERT ON t BEGIN SELECT 1; END", "temporary"),
        ("CREATE VIRTUAL TABLE x USING fts4(y)", "fts4"),
        ("CREATE VIRTUAL TABLE x USING dbstat", "dbstat"),
        ("CREATE VIRTUAL TABLE x USING \"csv\"(filename='/etc/passwd')", "csv"),
        ("INSERT INTO sqlite_schema VALUES (1)", "sqlite_schema"),
        ("UPDATE \"SQLITE_MASTER\" SET sql = ''", "sqlite_master"),
        ("DELETE FROM main.'sqlite_schema'", "sqlite_schema"),
        ("WITH x AS (SELECT 1) DELETE FROM sqlite_master", "sqlite_master"),
        ("CREATE TRIGGER g AFTER INSERT ON t BEGIN DELETE FROM sqlite_master; END", "sqlite_master"),
        ("DROP TABLE sqlite_schema", "sqlite_schema"),
    ] {
        refused(sql, told);
    }
}

#[test]
fn what_is_not_one_whole_statement_is_refused() {
    for (sql, told) in [
        ("SELECT 1; SELECT 2", "more than one"),
        ("SELECT 1; ATTACH 'x' AS y", "more than one"),
        ("SELECT 1;;;\n--\n; x", "more than one"),
        ("CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; END; DROP TABLE t", "more than one"),
        ("INSERT INTO t VALUES (';'); VACUUM", "more than one"),
        ("", "no SQL statement"),
        (" ; ;", "no SQL statement"),
        ("-- SELECT 1", "no SQL statement"),
        ("/* SELECT 1 */", "no SQL statement"),
        ("EXPLAIN", "unexpected end"),
        ("SELEC 1", "near \"SELEC\": syntax error at line 1, column 1"),
        ("SELECT 1,\n  FROM t", "near \"FROM\": syntax error at line 2, column 3"),
        ("SELECT 'x", "an unterminated quote at line 1, column 8"),
        ("SELECT /* x", "an unterminated comment"),
        ("SELECT [x", "an unterminated bracket"),
        ("SELECT x'0'", "a malformed blob"),
        ("SELECT 1 \u{b} FROM t", "unrecognized token"),
        (".read x", "syntax error"),
    ] {
        refused(sql, told);
    }
}

#[test]
fn queries_may_only_read() {
    for sql in [
        "INSERT INTO t VALUES (1) RETURNING x",
        "WITH x AS (SELECT 1) UPDATE t SET a = 1",
        "CREATE TABLE t (x)",
        "DROP TABLE t",
        "ANALYZE",
        "REINDEX",
    ] {
        let error = check(sql, StatementKind::Query).unwrap_err();
        assert!(error.message.contains("exec"), "{sql}: {error}");
    }
    assert!(check("EXPLAIN DELETE FROM t", StatementKind::Query).is_ok());
}

#[test]
fn kinds_and_columns_are_known() {
    let kind = |sql: &str| check(sql, StatementKind::Exec).unwrap().kind;
    assert_eq!(kind("SELECT 1, 2 AS b FROM t"), Kind::Rows { columns: Some(2) });
    assert_eq!(kind("SELECT 1, * FROM t"), Kind::Rows { columns: None });
    assert_eq!(kind("SELECT 1 UNION SELECT * FROM t"), Kind::Rows { columns: Some(1) });
    assert_eq!(kind("VALUES (1, 2, 3)"), Kind::Rows { columns: Some(3) });
    assert_eq!(kind("INSERT INTO t VALUES (1), (2)"), Kind::Insert { is_plain: true });
    assert_eq!(kind("INSERT INTO t SELECT 1"), Kind::Insert { is_plain: false });
    assert_eq!(
        kind("INSERT INTO t VALUES (1) ON CONFLICT DO UPDATE SET a = 1"),
        Kind::Insert { is_plain: false }
    );
    let shadows = |sql: &str| check(sql, StatementKind::Exec).unwrap().maybe_shadows;
    assert_eq!(shadows("DELETE FROM \"Words_Data\""), ["words_data"]);
    assert_eq!(shadows("DELETE FROM words"), [""; 0]);
}

#[test]
fn what_is_made_to_take_long_is_refused_soon() {
    let deep = |count: usize| format!("SELECT {}1{}", "(".repeat(count), ")".repeat(count));
    allowed(&deep(900));
    refused(&deep(200_000), "nested");
    refused(&"(".repeat(1 << 20), "nested");
    let list = |count: usize| vec!["c"; count].join(",");
    allowed(&format!("SELECT 1 WHERE 1 IN ({})", vec!["1"; 20_000].join(",")));
    allowed(&format!("INSERT INTO t VALUES {}", vec!["(1)"; 20_000].join(",")));
    refused(&format!("INSERT INTO t ({}) VALUES (1)", list(200_000)), "columns");
    refused(&format!("CREATE TABLE t ({})", list(200_000)), "columns");
    refused(
        &format!("CREATE TRIGGER g AFTER UPDATE OF {} ON t BEGIN SELECT 1; END", list(200_000)),
        "columns",
    );
    for long in ["1+", "- ", "NOT ", "a.", "CASE WHEN ", "x -> ", "~", "'a'||"] {
        drop(check(&format!("SELECT {}1", long.repeat(100_000)), StatementKind::Query));
    }
}

/// What random statements are made of.
const WORDS: [&str; 74] = [
    "SELECT",
    "FROM",
    "WHERE",
    "INSERT",
    "INTO",
    "VALUES",
    "UPDATE",
    "SET",
    "DELETE",
    "CREATE",
    "TABLE",
    "VIEW",
    "TRIGGER",
    "BEGIN",
    "END",
    ";",
    "(",
    ")",
    ",",
    "*",
    ".",
    "=",
    "'a'",
    "\"b\"",
    "[c]",
    "`d`",
    "x'00'",
    "?",
    "?3",
    ":n",
    "$m",
    "1",
    "0x1",
    "1.5e3",
    "-",
    "--",
    "\n",
    "/*",
    "*/",
    "||",
    "->",
    "->>",
    "<<",
    "!=",
    "OVER",
    "WINDOW",
    "FILTER",
    "AS",
    "ON",
    "CONFLICT",
    "DO",
    "NOTHING",
    "RETURNING",
    "WITH",
    "RECURSIVE",
    "PRAGMA",
    "ATTACH",
    "load_extension",
    "random",
    "datetime",
    "'now'",
    "CURRENT_TIME",
    "EXPLAIN",
    "QUERY",
    "PLAN",
    "VIRTUAL",
    "USING",
    "fts5",
    "\u{feff}",
    "é",
    "'",
    "\"",
    "NULL",
    "IN",
];

/// Any order of any tokens is allowed or refused; nothing else comes of it, and what is allowed is one statement.
#[test]
fn random_tokens_never_panic() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % below as u64).unwrap()
    };
    let (mut allowed, mut read) = (0, 0);
    for _ in 0..60_000 {
        let mut sql = ["SELECT", "INSERT INTO t", "CREATE", "", "UPDATE t SET"][next(5)].to_owned();
        for _ in 0..next(14) {
            sql.push_str([" ", "", "\t"][next(3)]);
            sql.push_str(WORDS[next(WORDS.len())]);
        }
        for kind in [StatementKind::Exec, StatementKind::Query] {
            if let Ok(statement) = check(&sql, kind) {
                allowed += 1;
                let first = statement.tokens.kind(0);
                assert!(first != Some(TokenType::TK_ATTACH) && first != Some(TokenType::TK_BEGIN), "{sql}");
                let args = vec![orama_runtime::services::SqlValue::Null; 3];
                let sent = super::super::rewrite::exec(&statement, args, true, jiff::Timestamp::now());
                read += usize::from(sent.is_ok());
            }
        }
    }
    assert!(allowed > 100, "{allowed} of them are SQL, {read} with three parameters");
}
