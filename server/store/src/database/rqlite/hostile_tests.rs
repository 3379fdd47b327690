//! SQL that would take minutes to read. Each of these inputs is a megabyte at most, as a guest may send it; an algorithm that
//! compares all its parts with one another does not come to an end within the time of a test.

use super::guard::check;
use super::rewrite;
use jiff::Timestamp;
use orama_runtime::limits::DB_SQL_MAX_BYTES;
use orama_runtime::services::{ServiceError, SqlValue, StatementKind};

fn join(count: usize, part: impl Fn(usize) -> String) -> String {
    (0..count).map(part).collect::<Vec<_>>().join(",")
}

/// Reads and rewrites a statement as a call does.
fn read(sql: &str, args: Vec<SqlValue>) -> Result<(), ServiceError> {
    assert!(sql.len() <= DB_SQL_MAX_BYTES, "{}", sql.len());
    let kind = if sql.starts_with("SELECT") { StatementKind::Query } else { StatementKind::Exec };
    let allowed = check(sql, kind)?;
    match kind {
        StatementKind::Query => rewrite::query(&allowed, args, None)?,
        StatementKind::Exec => rewrite::exec(&allowed, args, true, Timestamp::UNIX_EPOCH)?,
    };
    Ok(())
}

fn refusal(sql: &str, args: Vec<SqlValue>) -> String {
    read(sql, args).unwrap_err().message
}

#[test]
fn many_names_of_parameters_are_refused() {
    let names = join(100_000, |n| format!(":n{n}"));
    let message = refusal(&format!("SELECT 1 WHERE 1 IN ({names})"), vec![]);
    assert!(message.contains("at most 32766 parameters"), "{message}");
    let names = join(150_000, |n| format!(":{n:x}"));
    let message = refusal(&format!("SELECT 1 WHERE 1 IN ({names})"), vec![]);
    assert!(message.contains("tokens"), "{message}");
}

#[test]
fn as_many_parameters_as_sqlite_takes_are_read_in_one_go() {
    let names = join(32_766, |n| format!(":n{n}"));
    let again = join(60_000, |n| format!(":n{}", n % 32_766));
    let args = |value: &SqlValue| vec![value.clone(); 32_766];
    for value in [SqlValue::Integer(1), SqlValue::Real(f64::INFINITY), SqlValue::Text("now".into())] {
        read(&format!("SELECT 1 WHERE 1 IN ({names}) OR 1 IN ({again})"), args(&value)).unwrap();
    }
    let times = join(30_000, |n| format!("date(:n{n})"));
    read(&format!("DELETE FROM t WHERE x IN ({times})"), vec![SqlValue::Text("now".into()); 30_000]).unwrap();
}

#[test]
fn many_random_numbers_are_read_in_one_go() {
    let rows = join(40_000, |_| "(random())".into());
    read(&format!("INSERT INTO t VALUES {rows}"), vec![]).unwrap();
}

#[test]
fn long_lists_whose_parts_are_compared_are_refused() {
    let tables = join(30_000, |n| format!("c{n} AS (SELECT 1)"));
    let message = refusal(&format!("WITH {tables} DELETE FROM t"), vec![]);
    assert!(message.contains("a list of more than"), "{message}");
    let columns = join(60_000, |n| format!("c{n}=1"));
    let message = refusal(&format!("UPDATE t SET {columns}"), vec![]);
    assert!(message.contains("a list of more than"), "{message}");
    let columns = join(60_000, |n| format!("c{n}"));
    let message = refusal(&format!("CREATE TABLE t ({columns})"), vec![]);
    assert!(message.contains("a list of more than"), "{message}");
}

#[test]
fn many_rows_and_long_lists_of_values_are_not_refused() {
    let rows = join(20_000, |n| format!("({n}, 'a', ?)"));
    read(&format!("INSERT INTO t VALUES {rows}"), vec![SqlValue::Null; 20_000]).unwrap();
    let values = join(100_000, |n| n.to_string());
    read(&format!("SELECT 1 WHERE 1 IN ({values})"), vec![]).unwrap();
    let columns = join(1999, |n| format!("c{n} = {n}"));
    read(&format!("UPDATE t SET {columns}"), vec![]).unwrap();
}
