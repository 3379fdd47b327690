//! What the guard of rqlite takes, SQLite's authorizer takes too, as one statement of the kind that the guard found. And a query
//! gives a tenant the same JSON on rqlite, where it is wrapped in another one, as on the embedded database.

use crate::sqlite::{self, Clock};
use crate::targets::sql_rewrite::SCHEMA;
use crate::{Target, ready, texts};
use orama_store::database::rqlite::fuzzing as remote;
use orama_store::database::sqlite::fuzzing::{self as embedded, Guarded};
use orama_store::rqlite::Statement;
use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode};

pub const TARGET: Target = Target { name: "sql_guard", check, seeds };

/// What the guard says when SQLite refuses a statement whatever the authorizer says.
const ALWAYS: &str = "not authorized";

pub fn check(bytes: &[u8]) {
    let Ok(sql) = std::str::from_utf8(bytes) else { return };
    let connection = sqlite::open(Clock::Now, SCHEMA);
    let guarded = ready(Guarded::install(&connection));
    sqlite::bound_work(&connection);
    let prepared = connection.prepare(sql);
    let count = prepared.as_ref().map_or(0, |statement| statement.parameter_count()).min(40);
    let args = sqlite::some_args(count, sql.len());
    let is_query = remote::query(sql, args.clone());
    let is_taken = is_query.is_ok() || remote::exec(sql, args.clone(), false, sqlite::NOW_MS).is_ok();
    if !is_taken {
        return;
    }
    match &prepared {
        Err(rusqlite::Error::MultipleStatement) => panic!("{sql:?}: more than one statement was taken"),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::AuthorizationForStatementDenied) => {
            let why = guarded.take_refusal().unwrap_or_else(|| ALWAYS.to_owned());
            panic!("{sql:?} was taken, and SQLite's authorizer says: {why}");
        }
        Err(_) => return,
        Ok(_) => {}
    }
    let (Ok(query), Ok(mut prepared)) = (is_query, prepared) else { return };
    assert!(prepared.readonly(), "{sql:?} was taken for a query and changes something");
    if let Some(columns) = query.columns {
        assert_eq!(columns, prepared.column_count(), "{sql:?}: columns");
    }
    if !query.gives_rows || is_different_each_time(sql) {
        return;
    }
    ready(sqlite::bind(&mut prepared, &sqlite::plain(&args)));
    // What SQLite refuses, it refuses in both forms, though not always in the same words.
    let Ok(expected) = embedded::rows(&mut prepared) else { return };
    match as_remote(&connection, sql, &query) {
        // SQLite keeps no sign of a zero in the rows that the wrapping query makes first. There, it names a column as the query
        // spells it, and here as its table does.
        Ok(found) => {
            let (found, expected) = (values(&found), values(&expected.replace(":-0.0", ":0.0")));
            assert_eq!(found, expected, "{sql:?}: rqlite's rows are on the left");
        }
        Err(error) if sqlite::is_bounded(&error) => {}
        Err(error) => panic!("{sql:?}: on rqlite {error}, and else {expected}"),
    }
}

/// The rows of a query as the node asks rqlite for them.
fn as_remote(on: &Connection, sql: &str, query: &remote::Query) -> rusqlite::Result<String> {
    // A column without a name has that of its text, in which a value may have been written out.
    let is_sent_as_it_is = sql.contains(&query.sent.sql);
    let names = if is_sent_as_it_is { query.names() } else { Statement::new(sql, Vec::new()) };
    let names: Vec<String> = on.prepare(&names.sql)?.column_names().into_iter().map(str::to_owned).collect();
    let Statement { sql, params } = query.values(names.len());
    let mut statement = on.prepare(&sql)?;
    sqlite::bind(&mut statement, &params)?;
    let mut rows = statement.raw_query();
    let mut values = Vec::new();
    while let Some(row) = rows.next()? {
        values
            .push((0..names.len()).map(|column| row.get::<_, Value>(column)).collect::<Result<Vec<_>, _>>()?);
    }
    Ok(remote::json(&names, values).unwrap_or_else(|error| error.to_string()))
}

/// The values of each row, in order and without their names.
fn values(json: &str) -> Vec<Vec<serde_json::Value>> {
    let rows: Vec<serde_json::Map<String, serde_json::Value>> = ready(serde_json::from_str(json));
    rows.into_iter().map(|row| row.into_iter().map(|(_, value)| value).collect()).collect()
}

/// Whether a query asks for what differs from one run to the next.
fn is_different_each_time(sql: &str) -> bool {
    let sql = sql.to_ascii_lowercase();
    ["random", "changes", "last_insert_rowid", "sqlite_offset", "pragma", "sqlite_"]
        .iter()
        .any(|word| sql.contains(word))
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = texts(&[
        "SELECT * FROM t",
        "SELECT t.*, day AS \"a\"\"b\", n + 1, x'00ff', 1e300 * 10, -0.0, 'x''y', NULL FROM t, d WHERE id = ? ORDER BY 1 DESC LIMIT 2",
        "VALUES (1, ?), (NULL, 2.5) -- the end",
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 20) SELECT i, count(*) OVER (ORDER BY i) FROM n;",
        "WITH m (I) AS (SELECT 3) SELECT i, ID, t.A, count(*) OVER (ORDER BY i) FROM m, t;",
        "SELECT 1 UNION SELECT 2 EXCEPT SELECT id FROM t INTERSECT VALUES (3)",
        "PRAGMA table_info(t)",
        "PRAGMA main.foreign_key_check('t')",
        "SELECT * FROM pragma_table_info('t')",
        "EXPLAIN QUERY PLAN SELECT * FROM t JOIN d ON d.n = t.id",
        "CREATE TABLE x (a INTEGER PRIMARY KEY AUTOINCREMENT, b REFERENCES t (id) ON DELETE CASCADE, c AS (a + 1) STORED) STRICT",
        "CREATE VIRTUAL TABLE f USING fts5 (x, content='')",
        "CREATE VIRTUAL TABLE r USING rtree (id, a, b)",
        "CREATE TRIGGER g INSTEAD OF INSERT ON v BEGIN DELETE FROM t; SELECT raise(IGNORE); END",
        "CREATE VIEW v (a) AS SELECT id FROM t",
        "CREATE UNIQUE INDEX IF NOT EXISTS i ON t (lower(b) COLLATE NOCASE DESC) WHERE b > ''",
        "ALTER TABLE t RENAME COLUMN a TO z",
        "ALTER TABLE d ADD COLUMN z TEXT NOT NULL DEFAULT (1 + 1)",
        "ANALYZE",
        "REINDEX t",
        "DROP TABLE IF EXISTS t",
        "ATTACH ':memory:' AS x",
        "VACUUM INTO 'x'",
        "SELECT load_extension('x')",
        "CREATE TEMP TABLE x (a)",
        "BEGIN; DELETE FROM t",
        "SELECT fts5_source_id(), json(?), like('%', 'x'), iif(1, 2, 3), (SELECT max(c) FROM t), EXISTS (SELECT 1)",
        "UPDATE sqlite_schema SET sql = ''",
        "INSERT INTO t (a) SELECT value FROM json_each(?) WHERE true ON CONFLICT DO NOTHING RETURNING *",
        "DELETE FROM t INDEXED BY i WHERE a IS NOT DISTINCT FROM ?1",
        "PRAGMA journal_mode = DELETE",
    ]);
    seeds.extend((crate::targets::sql_rewrite::TARGET.seeds)());
    seeds
}
