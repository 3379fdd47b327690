//! The table, and whatever else SQLite has, put to both guards.

use super::*;
use crate::database::rqlite::{guard as parser, rewrite};
use crate::database::sqlite::child::guard::{Guard, refusal};
use jiff::Timestamp;
use orama_runtime::services::{ServiceError, StatementKind};
use rusqlite::Connection;
use rusqlite::hooks::{AuthAction, AuthContext};
use std::collections::BTreeSet;

/// What the authorizer says of a statement that SQLite prepares and runs on a new database; `None` if it allows it.
fn authorizer(sql: &str) -> Option<String> {
    let connection = Connection::open_in_memory().unwrap();
    connection.execute_batch("CREATE TABLE t (a); CREATE VIRTUAL TABLE words USING fts5 (a)").unwrap();
    let guard = Guard::install(&connection).unwrap();
    // What else is wrong with it does not matter here.
    let _ = connection.prepare(sql).and_then(|mut statement| {
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {}
        Ok(())
    });
    guard.take_refusal()
}

/// What the authorizer says of a call of a function, whether this SQLite has it or not.
fn authorizer_of_function(function_name: &str) -> Option<String> {
    let action = AuthAction::Function { function_name };
    refusal(&AuthContext { action, database_name: None, accessor: None })
}

/// What the parser says of a statement.
fn parser(sql: &str) -> Option<String> {
    parser::check(sql, StatementKind::Exec).err().map(|error| error.message)
}

/// Names that SQLite itself reports.
fn names(list: &str) -> BTreeSet<String> {
    let connection = Connection::open_in_memory().unwrap();
    let mut statement = connection.prepare(&format!("SELECT DISTINCT name FROM {list}")).unwrap();
    let names = statement.query_map([], |row| row.get(0)).unwrap();
    names.collect::<rusqlite::Result<_>>().unwrap()
}

#[test]
fn both_guards_decide_alike_on_every_pragma() {
    let all = names("pragma_pragma_list");
    assert!(all.len() > 50 && PRAGMAS.iter().all(|(name, _)| all.contains(*name)), "{all:?}");
    let mut allowed = 0;
    for name in &all {
        let takes_name = PRAGMAS.iter().find(|(known, _)| known == name).map(|(_, takes_name)| *takes_name);
        let forms = [
            (format!("PRAGMA {name}"), takes_name.is_some()),
            (format!("PRAGMA main.{}", name.to_uppercase()), takes_name.is_some()),
            (format!("PRAGMA {name}(t)"), takes_name == Some(true)),
            (format!("PRAGMA {name} = 1"), takes_name == Some(true)),
        ];
        for (sql, is_allowed) in forms {
            let (embedded, servers) = (authorizer(&sql), parser(&sql));
            assert_eq!(
                (embedded.is_none(), servers.is_none()),
                (is_allowed, is_allowed),
                "{sql}: {embedded:?} {servers:?}"
            );
            allowed += usize::from(is_allowed);
        }
    }
    assert_eq!(allowed, 2 * PRAGMAS.len() + 2 * PRAGMAS.iter().filter(|(_, takes_name)| *takes_name).count());
}

#[test]
fn both_guards_decide_alike_on_every_pragma_that_is_a_table() {
    let tables = names("pragma_module_list");
    let tables: Vec<_> = tables.iter().filter(|name| name.starts_with("pragma_")).collect();
    assert!(!tables.is_empty());
    // SQLite has a pragma as a table when it is first named.
    for name in names("pragma_pragma_list") {
        let sql = format!("SELECT * FROM pragma_{name}");
        let is_table = Connection::open_in_memory().unwrap().prepare(&sql).is_ok();
        let is_allowed = PRAGMAS.iter().any(|(known, _)| *known == name);
        assert_eq!(parser(&sql).is_none(), is_allowed, "{sql}");
        if is_table {
            assert_eq!(authorizer(&sql).is_none(), is_allowed, "{sql}");
        }
    }
}

#[test]
fn both_guards_decide_alike_on_every_module() {
    let all = names("pragma_module_list");
    assert!(MODULES.iter().all(|name| all.contains(*name)), "{all:?}");
    for name in all.iter().map(String::as_str).chain(["csv", "zipfile", "series"]) {
        let arguments = if name == "fts5vocab" { "words, row" } else { "a, b, c" };
        let sql = format!("CREATE VIRTUAL TABLE v USING {name} ({arguments})");
        let is_allowed = MODULES.contains(&name);
        assert_eq!(parser(&sql).is_none(), is_allowed, "{sql}");
        // SQLite looks for the module first.
        if all.contains(name) {
            assert_eq!(authorizer(&sql).is_none(), is_allowed, "{sql}");
        }
    }
}

#[test]
fn both_guards_decide_alike_on_every_function() {
    let all = names("pragma_function_list");
    let all: BTreeSet<_> = all.iter().map(String::as_str).chain(FUNCTIONS.map(|(name, _)| name)).collect();
    for name in all {
        let is_refused =
            FUNCTIONS.iter().any(|(known, rule)| *known == name && matches!(rule, Rule::Refused(_)));
        let (embedded, servers) = (authorizer_of_function(name), parser(&format!("SELECT \"{name}\"(1)")));
        assert_eq!((embedded.is_some(), servers.is_some()), (is_refused, is_refused), "{name}");
        assert_eq!(embedded, servers, "{name}");
    }
    assert!(authorizer("SELECT load_extension('x')").is_some(), "SQLite asks the authorizer");
}

#[test]
fn functions_whose_values_would_differ_are_replaced_for_servers() {
    let exec = |sql: &str| -> Result<String, ServiceError> {
        let allowed = parser::check(sql, StatementKind::Exec)?;
        Ok(rewrite::exec(&allowed, vec![], true, Timestamp::UNIX_EPOCH)?.sql)
    };
    for (name, rule) in FUNCTIONS {
        let call = match name {
            "randomblob" => format!("{name}(8)"),
            "strftime" => format!("{name}('%s', 'now')"),
            "timediff" => format!("{name}('now', 'now')"),
            _ if rule == Rule::Time => format!("{name}('now')"),
            _ => format!("{name}()"),
        };
        let (insert, default) =
            (format!("INSERT INTO t VALUES ({call})"), format!("CREATE TABLE u (a DEFAULT ({call}))"));
        match rule {
            Rule::Refused(why) => assert!(exec(&insert).unwrap_err().message.contains(why), "{name}"),
            Rule::Random => {
                assert!(!exec(&insert).unwrap().contains(name), "{name}");
                assert!(exec(&default).unwrap_err().message.contains("random()"), "{name}");
            }
            Rule::Time => assert!(!exec(&insert).unwrap().contains("'now'"), "{name}"),
            Rule::Connection => assert!(exec(&insert).unwrap_err().message.contains(name), "{name}"),
        }
    }
}
