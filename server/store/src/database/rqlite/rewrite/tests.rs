//! What is put in for the time, and where it cannot be.

use super::super::guard;
use super::*;
use orama_runtime::services::StatementKind;

fn rewritten(sql: &str, args: Vec<SqlValue>) -> Result<String, String> {
    let allowed = guard::check(sql, StatementKind::Exec).map_err(|error| error.message)?;
    exec(&allowed, args, true, Timestamp::UNIX_EPOCH)
        .map(|rewritten| rewritten.sql)
        .map_err(|error| error.message)
}

#[test]
fn now_is_put_in_as_a_whole_argument_and_refused_as_a_part_of_one() {
    const MOMENT: &str = "'1970-01-01 00:00:00.000'";
    for (sql, expected) in [
        ("INSERT INTO t VALUES (date('now'))", format!("INSERT INTO t VALUES (date({MOMENT}))")),
        (
            "UPDATE t SET a = strftime('%s', \"Now\", '+1 day')",
            format!("UPDATE t SET a = strftime('%s', {MOMENT}, '+1 day')"),
        ),
        (
            "UPDATE t SET a = upper('now'), b = date(a)",
            "UPDATE t SET a = upper('now'), b = date(a)".to_owned(),
        ),
        (
            "UPDATE t SET a = timediff('2020-01-01', 'now'), b = date(a, 'now')",
            format!("UPDATE t SET a = timediff('2020-01-01', {MOMENT}), b = date(a, 'now')"),
        ),
        ("UPDATE t SET a = strftime('now', b)", "UPDATE t SET a = strftime('now', b)".to_owned()),
        (
            "UPDATE t SET a = datetime('now', 'subsec')",
            format!("UPDATE t SET a = datetime({MOMENT}, 'subsec')"),
        ),
        ("UPDATE t SET a = date(t.\"now\")", "UPDATE t SET a = date(t.\"now\")".to_owned()),
    ] {
        assert_eq!(rewritten(sql, Vec::new()), Ok(expected));
    }
    let now = || vec![SqlValue::Text("now".to_owned())];
    for (sql, args) in [
        ("UPDATE t SET a = date(('now'))", Vec::new()),
        ("UPDATE t SET a = date(coalesce(b, 'now'))", Vec::new()),
        ("UPDATE t SET a = date(+'now')", Vec::new()),
        ("UPDATE t SET a = date(b = 'now')", Vec::new()),
        ("UPDATE t SET a = date((SELECT 'now'))", Vec::new()),
        ("UPDATE t SET a = date(coalesce(b, ?))", now()),
        ("UPDATE t SET a = date((?))", now()),
    ] {
        let message = rewritten(sql, args).unwrap_err();
        assert!(message.contains("whole argument"), "{sql}: {message}");
    }
    assert_eq!(
        rewritten("INSERT INTO t SELECT?", vec![SqlValue::Real(f64::INFINITY)]),
        Ok("INSERT INTO t SELECT(iif(? IS NULL, (9e999), NULL))".to_owned())
    );
    for (sql, args) in [
        ("UPDATE t SET a = date('subsec')", Vec::new()),
        ("UPDATE t SET a = strftime('%s', \"SubSecond\", '+1 day')", Vec::new()),
        ("UPDATE t SET a = unixepoch(?)", vec![SqlValue::Text("subsec".to_owned())]),
    ] {
        let message = rewritten(sql, args).unwrap_err();
        assert!(message.contains("write 'now', 'subsec'"), "{sql}: {message}");
    }
    assert!(
        rewritten("UPDATE t SET a = date(coalesce(b, ?))", vec![SqlValue::Text("2020-01-01".to_owned())])
            .is_ok()
    );
}
