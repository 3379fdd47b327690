//! The log's text of what transactions changed makes an equal database of an empty one, without a server: whatever the values,
//! the order, cascades and replaced rows.

use crate::sqlite::{self, Clock};
use crate::{Target, texts};
use orama_store::database::rqlite::fuzzing::exec;
use orama_store::replica::fuzzing as replica;

pub const TARGET: Target = Target { name: "captured_changes", check, seeds };

/// Between transactions.
const COMMIT: char = '\u{1d}';

/// Between the statements of one.
const BETWEEN: char = '\u{1e}';

/// Tables as those of the platform: strict, each with a key.
const SCHEMA: &str = "
    PRAGMA foreign_keys = ON;
    CREATE TABLE parents (name TEXT PRIMARY KEY, note ANY) STRICT;
    CREATE TABLE children (
        parent TEXT NOT NULL REFERENCES parents (name) ON DELETE CASCADE,
        number INTEGER NOT NULL,
        value ANY,
        PRIMARY KEY (parent, number)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE counted (id INTEGER PRIMARY KEY AUTOINCREMENT, value ANY, word TEXT UNIQUE) STRICT;
    CREATE TABLE \"a 'b\" (\"x \"\"y\" BLOB PRIMARY KEY, real REAL) STRICT;";

pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let [mut from, mut to] = [(); 2].map(|()| {
        let connection = sqlite::open(Clock::Now, "");
        replica::open(&connection, SCHEMA).expect("the tables are made");
        sqlite::bound(&connection);
        connection
    });
    let mut log = Vec::new();
    for transaction in text.split(COMMIT).take(8) {
        let changed = replica::change(&mut from, |t| {
            for sql in transaction.split(BETWEEN).take(8) {
                let Ok(mut statement) = t.prepare(sql) else { continue };
                let args = sqlite::some_args(statement.parameter_count().min(40), sql.len());
                // What changes rows and no schema. The node's own code names no tables of SQLite's.
                let is_change =
                    exec(sql, args.clone(), false, sqlite::NOW_MS).is_ok_and(|exec| exec.changes_rows);
                if is_change
                    && !sql.to_ascii_lowercase().contains("orama_")
                    && !sql.to_ascii_lowercase().contains("sqlite_")
                {
                    sqlite::run(&mut statement, &sqlite::plain(&args))?;
                }
            }
            Ok(())
        });
        log.extend(changed.ok());
    }
    // Large ones are refused before they are sent.
    if log.iter().map(String::len).sum::<usize>() > 200_000 {
        return;
    }
    if let Err(error) = sqlite::unbounded(|| replica::apply(&mut to, &log)) {
        panic!("{error}: {log:#?}");
    }
    let tables = |of| {
        let rows = sqlite::rows(of)?.into_iter();
        // The position is the replica's own. A sequence also counts rows that were not made in the end.
        let is_shared =
            |row: &String| !row.starts_with("orama_position") && !row.starts_with("sqlite_sequence");
        // SQL writes a zero without its sign, and compares it without.
        let unsigned = |row: String| row.replace("real 8000000000000000", "real 0000000000000000");
        Some(rows.filter(is_shared).map(unsigned).collect::<Vec<_>>())
    };
    let (Some(expected), Some(found)) = (tables(&from), tables(&to)) else { return };
    assert_eq!(found, expected, "{log:#?}");
    let made = log.iter().flat_map(|text| text.lines()).filter_map(|line| {
        line.strip_prefix(r#"INSERT INTO "counted" ("id","value","word") VALUES ("#)?
            .split(',')
            .next()?
            .parse()
            .ok()
    });
    let largest: i64 = made.max().unwrap_or(0);
    let sequence =
        sqlite::number(&to, "SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'counted'", ());
    assert!(sequence >= largest, "the id {largest} would be given again, after {sequence}");
    let unsound = "SELECT count(*) FROM pragma_foreign_key_check";
    assert_eq!(sqlite::number(&to, unsound, ()), sqlite::number(&from, unsound, ()));
}

fn seeds() -> Vec<Vec<u8>> {
    texts(&[
        "INSERT INTO parents VALUES ('p', ?), ('q', x'00')\u{1e}INSERT INTO children VALUES ('p', 1, 'a'), ('p', 2, NULL), ('q', 1, 0.1)\u{1d}DELETE FROM parents WHERE name = 'p'",
        "INSERT INTO counted (value, word) VALUES (?, 'w'), (?, NULL), (?, ''), (?, '''')\u{1d}REPLACE INTO counted (value, word) VALUES (9e999, 'w')\u{1d}UPDATE counted SET id = id + 100, value = -value",
        "INSERT INTO parents VALUES (char(0, 97), char(0)), ('x''00''', 'x''41'''), ('\u{2028}é', '-- ;')\u{1e}UPDATE parents SET name = name || '\n', note = typeof(note)",
        "INSERT INTO \"a 'b\" VALUES (x'', -0.0), (x'00ff', 5e-324), ('', 1.7976931348623157e308), (1, 0.1), (?, ?)\u{1d}UPDATE \"a 'b\" SET real = real / 3, \"x \"\"y\" = cast(\"x \"\"y\" AS BLOB)",
        "INSERT INTO counted (value) WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n LIMIT 40) SELECT i * 1e15 / 7 FROM n\u{1d}DELETE FROM counted WHERE id % 3 = 0\u{1e}INSERT INTO counted (value) VALUES (1)",
        "INSERT INTO parents VALUES ('a', 1)\u{1e}INSERT INTO children VALUES ('a', 1, 1)\u{1e}REPLACE INTO parents VALUES ('a', 2)\u{1d}INSERT INTO parents VALUES ('a', 3) ON CONFLICT (name) DO UPDATE SET note = excluded.note RETURNING note",
        "INSERT OR IGNORE INTO counted (id, value, word) VALUES (5, 9223372036854775807, 'a'), (5, -9223372036854775808, 'b'), (6, 9007199254740993, 'a')\u{1d}UPDATE OR REPLACE counted SET word = 'same'",
    ])
}
