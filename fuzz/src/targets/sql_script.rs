//! The statements into which a script is split are those that SQLite runs one after the other.

use crate::sqlite::{self, Clock};
use crate::targets::sql_rewrite::SCHEMA;
use crate::{Target, texts};
use orama_store::database::script::split;
use rusqlite::fallible_iterator::FallibleIterator as _;
use rusqlite::{Batch, Connection};

pub const TARGET: Target = Target { name: "sql_script", check, seeds };

/// Statements of a script that are run.
const STEPS_MAX: usize = 12;

pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // SQLite ends at a zero byte and takes a byte order mark for a space; the database refuses both elsewhere.
    if text.contains(['\0', '\u{feff}']) {
        return;
    }
    let Ok(pieces) = split(text) else { return };
    let mut from = 0;
    for piece in &pieces {
        let at = text[from..].find(piece).expect("each statement is a part of the text, in order");
        from += at + piece.len();
    }
    let open = || {
        let connection = sqlite::open(Clock::Now, SCHEMA);
        sqlite::bound(&connection);
        connection
    };
    let (whole, split) = (open(), open());
    let mut steps = Batch::new(&whole, text);
    for index in 0..STEPS_MAX {
        let by_sqlite = match steps.next() {
            Ok(None) => {
                assert_eq!(pieces.len(), index, "{text:?}: {pieces:?}");
                break;
            }
            Ok(Some(mut statement)) => sqlite::run(&mut statement, &[]),
            Err(error) => Err(error),
        };
        let Some(piece) = pieces.get(index) else {
            // What cannot be read may be nothing but a comment without an end.
            assert!(by_sqlite.is_err(), "{text:?}: SQLite has more than {pieces:?}");
            break;
        };
        let by_piece = one(&split, piece);
        if [&by_sqlite, &by_piece].iter().any(|ran| ran.as_ref().is_err_and(sqlite::is_bounded)) {
            return;
        }
        assert_eq!(by_sqlite.is_ok(), by_piece.is_ok(), "{text:?}: {piece:?}: {by_sqlite:?} {by_piece:?}");
        if by_sqlite.is_err() {
            break;
        }
    }
    assert_eq!(sqlite::rows(&whole), sqlite::rows(&split), "{text:?}");
}

/// Runs a text that must be one statement.
fn one(on: &Connection, piece: &str) -> rusqlite::Result<()> {
    let mut steps = Batch::new(on, piece);
    let Some(mut statement) = steps.next()? else { panic!("{piece:?} is no statement") };
    let ran = sqlite::run(&mut statement, &[]);
    drop(statement);
    if ran.is_ok() {
        assert!(matches!(steps.next(), Ok(None)), "{piece:?} is more than one statement");
    }
    ran
}

fn seeds() -> Vec<Vec<u8>> {
    texts(&[
        "CREATE TABLE n (a); INSERT INTO n VALUES (';'), (\"x\"); -- end;\nDELETE FROM n;",
        "/* ; */ CREATE TRIGGER g AFTER INSERT ON t BEGIN UPDATE t SET a = CASE WHEN 1 THEN 2 END; DELETE FROM k; END; INSERT INTO t (a) VALUES (1)",
        "CREATE TEMP TRIGGER IF NOT EXISTS g INSTEAD OF DELETE ON t BEGIN SELECT 1; END;;; SELECT 2",
        "SELECT [a;b], `c;d` FROM t; SELECT 'it''s; '; SELECT x'00';",
        "CREATE VIEW trigger1 AS SELECT 1; CREATE INDEX i ON t (a); EXPLAIN CREATE TRIGGER h BEFORE UPDATE ON t BEGIN SELECT 1; END; SELECT 3",
        "INSERT INTO t (a) VALUES (1)\n;\n-- nothing\n;UPDATE t SET a = 2 WHERE id = 1; BEGIN; INSERT INTO t (a) VALUES (3); COMMIT; END",
    ])
}
