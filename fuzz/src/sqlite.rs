//! SQLite in memory for the targets: bounded, with a clock that stands still at a time of the target's choice.

use crate::ready;
use orama_runtime::services::SqlValue;
use rusqlite::ffi::{SQLITE_OK, sqlite3_initialize, sqlite3_vfs, sqlite3_vfs_find, sqlite3_vfs_register};
use rusqlite::limits::Limit;
use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, OpenFlags, Params, Statement};
use std::cell::Cell;
use std::ffi::{CStr, c_int};
use std::ptr;
use std::sync::Once;

/// Unix time at which a statement is rewritten, in milliseconds.
pub const NOW_MS: i64 = 1_700_000_000_123;

/// Other times at which servers may run it.
const EARLIER_MS: i64 = 981_173_106_004;
const LATER_MS: i64 = 2_035_000_000_777;

/// Unix time 0 as SQLite counts milliseconds, from noon on 24 November 4714 BC.
const EPOCH_MS: i64 = 210_866_760_000_000;

/// Steps of SQLite's machine after which a statement is interrupted, in hundreds.
const STEPS_MAX: u32 = 2_000;

/// Which clock a connection has.
#[derive(Clone, Copy)]
pub enum Clock {
    Now,
    Earlier,
    Later,
}

impl Clock {
    fn vfs(self) -> &'static CStr {
        match self {
            Self::Now => c"fuzz-now",
            Self::Earlier => c"fuzz-earlier",
            Self::Later => c"fuzz-later",
        }
    }
}

unsafe extern "C" fn stands<const UNIX_MS: i64>(_: *mut sqlite3_vfs, time: *mut i64) -> c_int {
    // SAFETY: SQLite gives a place for the answer.
    unsafe { *time = EPOCH_MS + UNIX_MS };
    SQLITE_OK
}

type Time = unsafe extern "C" fn(*mut sqlite3_vfs, *mut i64) -> c_int;

fn register_clocks() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let clocks: [(Clock, Time); 3] = [
            (Clock::Now, stands::<NOW_MS>),
            (Clock::Earlier, stands::<EARLIER_MS>),
            (Clock::Later, stands::<LATER_MS>),
        ];
        for (clock, time) in clocks {
            // SAFETY: the default VFS is there once SQLite is initialised; its copy lives for ever.
            unsafe {
                assert_eq!(sqlite3_initialize(), SQLITE_OK);
                let mut vfs = *sqlite3_vfs_find(ptr::null());
                vfs.zName = clock.vfs().as_ptr();
                vfs.xCurrentTimeInt64 = Some(time);
                assert_eq!(sqlite3_vfs_register(Box::into_raw(Box::new(vfs)), 0), SQLITE_OK);
            }
        }
    });
}

/// An empty database.
pub fn open(clock: Clock, schema: &str) -> Connection {
    register_clocks();
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = ready(Connection::open_in_memory_with_flags_and_vfs(flags, clock.vfs()));
    ready(connection.execute_batch(schema));
    connection
}

thread_local! {
    /// Whether the harness itself is at work, whose statements have no bound.
    static IS_HARNESS: Cell<bool> = const { Cell::new(false) };
}

/// Runs what the harness needs to the end, also where the input has used up its steps.
pub fn unbounded<T>(work: impl FnOnce() -> T) -> T {
    IS_HARNESS.set(true);
    let done = work();
    IS_HARNESS.set(false);
    done
}

/// Bounds what the statements from now on may use.
pub fn bound(connection: &Connection) {
    ready(connection.pragma_update(None, "max_page_count", 2_000));
    bound_work(connection);
}

/// The same, without what a guard would refuse.
pub fn bound_work(connection: &Connection) {
    let mut steps = 0;
    let too_long = move || {
        if IS_HARNESS.get() {
            return false;
        }
        steps += 1;
        steps > STEPS_MAX
    };
    ready(connection.progress_handler(100, Some(too_long)));
    ready(connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, 200_000));
}

/// Whether a statement met a bound of the harness, and so says nothing.
pub fn is_bounded(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::OperationInterrupted
                | ErrorCode::TooBig
                | ErrorCode::DiskFull
                | ErrorCode::OutOfMemory
        )
    )
}

/// Runs a statement to its end.
pub fn run(statement: &mut Statement<'_>, params: &[Value]) -> rusqlite::Result<()> {
    bind(statement, params)?;
    let mut rows = statement.raw_query();
    while rows.next()?.is_some() {}
    Ok(())
}

/// Binds parameters by their numbers.
pub fn bind(statement: &mut Statement<'_>, params: &[Value]) -> rusqlite::Result<()> {
    params.iter().zip(1..).try_for_each(|(value, index)| statement.raw_bind_parameter(index, value))
}

/// Binds a tenant's arguments as the embedded database does.
pub fn plain(args: &[SqlValue]) -> Vec<Value> {
    args.iter()
        .map(|arg| match arg {
            SqlValue::Null => Value::Null,
            SqlValue::Integer(number) => Value::Integer(*number),
            SqlValue::Real(number) => Value::Real(*number),
            SqlValue::Text(text) => Value::Text(text.clone()),
            SqlValue::Blob(bytes) => Value::Blob(bytes.clone()),
        })
        .collect()
}

/// Arguments of all kinds, among them those that rqlite cannot be sent as they are.
pub fn some_args(count: usize, from: usize) -> Vec<SqlValue> {
    let all = [
        SqlValue::Text("now".to_owned()),
        SqlValue::Integer(7),
        SqlValue::Real(f64::INFINITY),
        SqlValue::Text("x'41'".to_owned()),
        SqlValue::Null,
        SqlValue::Real(-0.0),
        SqlValue::Blob(vec![0, 255]),
        SqlValue::Text("a\0b".to_owned()),
        SqlValue::Real(f64::NAN),
        SqlValue::Integer(i64::MIN),
        SqlValue::Text(" X'' ".to_owned()),
        SqlValue::Real(f64::NEG_INFINITY),
        SqlValue::Real(0.1),
    ];
    (0..count).map(|index| all[(from + index) % all.len()].clone()).collect()
}

/// The names of what is there, with the text that made it.
pub fn schema(connection: &Connection) -> Vec<(String, Option<String>)> {
    unbounded(|| {
        let mut statement =
            ready(connection.prepare("SELECT type || ' ' || name, sql FROM sqlite_schema ORDER BY 1"));
        let rows = ready(statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))));
        rows.map(ready).collect()
    })
}

/// The number that a query of the harness gives.
pub fn number(of: &Connection, sql: &str, params: impl Params) -> i64 {
    unbounded(|| ready(of.query_row(sql, params, |row| row.get(0))))
}

/// All rows of all tables as literals; `None` where a bound of the harness is met.
pub fn rows(connection: &Connection) -> Option<Vec<String>> {
    let mut all = Vec::new();
    for (name, _) in schema(connection) {
        let Some(table) = name.strip_prefix("table ") else { continue };
        // A virtual table may be damaged, by a change of the tables inside it.
        let Ok(mut statement) =
            connection.prepare(&format!("SELECT * FROM \"{}\"", table.replace('"', "\"\"")))
        else {
            continue;
        };
        let columns = statement.column_count();
        let mut rows = statement.raw_query();
        loop {
            match rows.next() {
                Ok(Some(row)) => {
                    let values: Vec<_> =
                        (0..columns).map(|column| literal(&ready(row.get(column)))).collect();
                    all.push(format!("{table}: {}", values.join(",")));
                }
                Ok(None) => break,
                Err(error) if is_bounded(&error) => return None,
                Err(_) => break,
            }
        }
    }
    Some(all)
}

fn literal(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Integer(number) => number.to_string(),
        Value::Real(number) => format!("real {:016x}", number.to_bits()),
        Value::Text(text) => format!("{text:?}"),
        Value::Blob(bytes) => format!("blob {bytes:02x?}"),
    }
}
