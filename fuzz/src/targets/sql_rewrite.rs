//! What rqlite's servers are sent instead of a tenant's statement makes the same tables whatever a server's clock and random
//! numbers are; and, where no random numbers are asked for, the tables that the statement itself makes at the moment of the call.

use crate::sqlite::{self, Clock, NOW_MS};
use crate::{Target, texts};
use orama_store::database::rqlite::fuzzing::{Exec, exec};
use rusqlite::types::Value;
use rusqlite::{Connection, params};

pub const TARGET: Target = Target { name: "sql_rewrite", check, seeds };

/// Between the statements of a call.
const BETWEEN: char = '\u{1e}';

pub const SCHEMA: &str = "
    CREATE TABLE t (id INTEGER PRIMARY KEY, a, b TEXT, c REAL);
    CREATE TABLE d (day DATE, at TIMESTAMP, n INT UNIQUE, \"then\" TEXT DEFAULT 'then');
    CREATE TABLE k (x TEXT, y BLOB, PRIMARY KEY (x, y)) WITHOUT ROWID;
    INSERT INTO t VALUES (1, 'one', 'b', 1.5), (2, NULL, 'no', -1e300), (3, x'00ff', '', 0);
    INSERT INTO d VALUES ('2020-02-29', 1582934400, 1, 'no'), (NULL, '2020-02-29 12:00', 2, '');";

/// One database for each way to run the statements.
struct Stand {
    /// The tenant's text on a server whose clock shows the time of the call; two of them tell whether it is random.
    as_written: [Connection; 2],
    /// What servers are sent, at other times.
    as_sent: [Connection; 2],
}

pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let open = |clock| {
        let connection = sqlite::open(clock, SCHEMA);
        sqlite::bound(&connection);
        connection
    };
    let mut stand = Stand {
        as_written: [open(Clock::Now), open(Clock::Now)],
        as_sent: [open(Clock::Earlier), open(Clock::Later)],
    };
    let (mut is_first, mut is_random) = (true, false);
    for sql in text.split(BETWEEN).take(8) {
        let Some(count) = parameters(&stand.as_sent[0], sql) else { continue };
        let args = sqlite::some_args(count, sql.len());
        let plain = sqlite::plain(&args);
        let Ok(exec) = exec(sql, args, is_first, NOW_MS) else { continue };
        if (exec.is_schema && says_when_run(sql)) || has_shadow(&stand.as_sent[0], &exec) {
            continue;
        }
        if !stand.step(sql, &plain, &exec, &mut is_random) {
            return;
        }
        is_first &= !exec.changes_rows;
    }
}

impl Stand {
    /// Runs a statement everywhere and compares; `false` where nothing follows.
    fn step(&mut self, sql: &str, plain: &[Value], exec: &Exec, is_random: &mut bool) -> bool {
        let sent = [&self.as_sent[0], &self.as_sent[1]].map(|on| run(on, &exec.sent.sql, &exec.sent.params));
        let written = [&self.as_written[0], &self.as_written[1]].map(|on| run(on, sql, plain));
        if sent.iter().chain(&written).any(|ran| ran.as_ref().is_err_and(sqlite::is_bounded)) {
            return false;
        }
        if exec.one_row && self.as_sent[0].changes() > 1 {
            return false;
        }
        let tables = |on: &Connection| sqlite::rows(on);
        let (Some(a), Some(b), Some(c), Some(d)) = (
            tables(&self.as_sent[0]),
            tables(&self.as_sent[1]),
            tables(&self.as_written[0]),
            tables(&self.as_written[1]),
        ) else {
            return false;
        };
        let what = &exec.sent.sql;
        assert_eq!(sent[0].is_ok(), sent[1].is_ok(), "{sql:?} as {what:?}: {sent:?}");
        assert_eq!(a, b, "{sql:?} as {what:?}: servers differ");
        assert_eq!(sqlite::schema(&self.as_sent[0]), sqlite::schema(&self.as_sent[1]), "{sql:?} as {what:?}");
        *is_random |= c != d;
        if !*is_random {
            assert_eq!(
                sent[0].is_ok(),
                written[0].is_ok(),
                "{sql:?} as {what:?}: {sent:?}, as written: {written:?}"
            );
            assert_eq!(a, c, "{sql:?} as {what:?}: not what was asked for");
        }
        sent[0].is_ok() && !a.iter().any(|row| is_beyond_a_text(row))
    }
}

/// Whether rows have what no rewriting of a later statement sees, as docs/DATA.md says: a largest id, after which SQLite gives
/// random ones, and a text that a function of time takes for the time of the server.
fn is_beyond_a_text(row: &str) -> bool {
    row.contains(&i64::MAX.to_string()) || row.to_ascii_lowercase().contains("\"now\"")
}

fn run(on: &Connection, sql: &str, params: &[Value]) -> rusqlite::Result<()> {
    sqlite::run(&mut on.prepare(sql)?, params)
}

/// How many arguments a statement takes; `None` where SQLite does not take it.
fn parameters(on: &Connection, sql: &str) -> Option<usize> {
    on.prepare(sql).ok().map(|statement| statement.parameter_count()).filter(|count| *count <= 40)
}

/// Whether a table, a trigger or a view may ask for the time when it is used. Each server tells its own time then;
/// docs/DATA.md says so.
fn says_when_run(sql: &str) -> bool {
    let sql = sql.to_ascii_lowercase();
    let makes_rows = sql.trim_start().starts_with("create table") && sql.contains("as select");
    !makes_rows && ["current", "date", "time", "julianday", "unixepoch"].iter().any(|word| sql.contains(word))
}

/// Whether a statement is refused by the one that is sent before it.
fn has_shadow(on: &Connection, exec: &Exec) -> bool {
    exec.maybe_shadows.iter().any(|table| {
        let sql = "SELECT count(*) FROM pragma_table_list WHERE type = 'shadow' AND lower(name) = ?1";
        sqlite::number(on, sql, params![table]) > 0
    })
}

fn seeds() -> Vec<Vec<u8>> {
    texts(&[
        "INSERT INTO t (a, b) VALUES (CURRENT_TIMESTAMP, current_date), (CURRENT_TIME, datetime('now', '+1 day'))",
        "INSERT INTO t (a) VALUES (?), (?2), (:x), (?)\u{1e}UPDATE t SET c = ?, b = @y WHERE id = ?3",
        "UPDATE t SET a = julianday('now') - julianday(), c = unixepoch(), b = strftime('%s %f')",
        "INSERT INTO t (a, b) VALUES (random(), hex(randomblob(8))), (abs(random() % 2), randomblob(0))",
        "UPDATE t SET a = random(), b = randomblob(16) WHERE id = 2",
        "INSERT INTO d (n, day) SELECT id + 10, date('now', ?) FROM t ORDER BY id DESC",
        "INSERT INTO t (a) VALUES (1)\u{1e}INSERT INTO t (a, b) VALUES (last_insert_rowid(), changes())",
        "INSERT INTO d (n) VALUES (1) ON CONFLICT (n) DO UPDATE SET at = datetime(\"now\"), day = date(d.\"then\")",
        "REPLACE INTO k VALUES (time('now', 'start of day'), ?) -- the end",
        "DELETE FROM d WHERE at < strftime('%Y-%m-%d', 'now') /* now */;",
        "CREATE TABLE u AS SELECT date('now') AS day, id FROM t\u{1e}DELETE FROM u WHERE day = date()",
        "WITH n (x) AS (VALUES (CURRENT_TIMESTAMP)) INSERT INTO t (b) SELECT x FROM n RETURNING b, timediff('now', '2020-01-01')",
        "CREATE TRIGGER r AFTER INSERT ON t BEGIN UPDATE d SET at = NEW.a; END\u{1e}INSERT INTO t (a) VALUES (datetime())",
        "CREATE VIRTUAL TABLE f USING fts5 (x)\u{1e}INSERT INTO f VALUES (date('NoW'))\u{1e}INSERT INTO f (f) VALUES ('rebuild')",
        "UPDATE d SET \"then\" = 'Now', day = date('2020' || '-01-01', CASE WHEN n = 1 THEN 'localtime' ELSE 'utc' END)",
        "INSERT INTO t (a) VALUES (strftime('now')), (date(('now'))), (date(+'now')), (\"date\"('now')), ([time]())",
        "INSERT INTO t (a, b) SELECT value, date(value) FROM json_each('[\"2020-01-01\"]')",
        "INSERT INTO t (a) VALUES (date(coalesce(?, 'now'))), (date((?))), (date(b = 'now'))",
        "UPDATE t SET a = (SELECT max(date(b)) FROM t), b = date(b, 'subsec') FROM d WHERE d.n = t.id",
    ])
}
