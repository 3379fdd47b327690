//! Empties a database, for which rqlite has no command.

use crate::rqlite::{Level, Options, RqliteClient, RqliteError, Statement, Value};
use std::time::Instant;

/// Everything in the schema, dependent objects first. Shadow tables are dropped with their virtual tables.
const EVERYTHING: &str = "SELECT s.type, s.name FROM sqlite_schema s JOIN pragma_table_list l ON l.name = s.name AND l.schema = 'main' \
     WHERE l.type <> 'shadow' AND s.name NOT LIKE 'sqlite\\_%' ESCAPE '\\' \
     UNION ALL SELECT type, name FROM sqlite_schema WHERE type = 'trigger' \
     UNION ALL SELECT type, name FROM sqlite_schema WHERE name LIKE 'sqlite\\_stat_' ESCAPE '\\' \
     ORDER BY 1 DESC";

/// Drops all tables, views, indexes and triggers in one transaction. Idempotent.
pub(super) async fn drop_all(client: &RqliteClient, deadline: Instant) -> Result<(), RqliteError> {
    let found = found(client, deadline).await?;
    if found.is_empty() {
        return Ok(());
    }
    let asked = [Statement::new("PRAGMA foreign_keys", [])];
    let enforces = client.query(&asked, &Options::default(), deadline).await?;
    let enforces = enforces
        .first()
        .and_then(|rows| rows.values.first())
        .is_some_and(|row| row[..] == [Value::Integer(1)]);
    // One entry of the servers' log. Foreign keys cannot be switched off within a transaction, so it is begun explicitly.
    let mut sql = vec!["PRAGMA foreign_keys = OFF".to_owned(), "BEGIN IMMEDIATE".to_owned()];
    // Triggers, views, tables: their kinds in reverse alphabetical order.
    for kind in ["trigger", "view", "table"] {
        for (_, name) in found.iter().filter(|(of, _)| of == kind) {
            sql.push(format!("DROP {kind} IF EXISTS \"{}\"", name.replace('"', "\"\"")));
        }
    }
    sql.push("COMMIT".to_owned());
    if enforces {
        sql.push("PRAGMA foreign_keys = ON".to_owned());
    }
    let statements: Vec<_> = sql.into_iter().map(|sql| Statement::new(sql, [])).collect();
    let options = Options { rewrites: false, ..Options::default() };
    client.execute(&statements, &options, deadline).await?;
    let left = self::found(client, deadline).await?;
    match left.first() {
        None => Ok(()),
        Some((kind, name)) => Err(RqliteError::Protocol(
            format!("the {kind} {name} and {} others remain", left.len() - 1).into(),
        )),
    }
}

/// Kind and name of everything in the schema.
async fn found(client: &RqliteClient, deadline: Instant) -> Result<Vec<(String, String)>, RqliteError> {
    let options = Options { level: Level::Linearizable, ..Options::default() };
    let rows = client.query(&[Statement::new(EVERYTHING, [])], &options, deadline).await?;
    let rows = rows.into_iter().flat_map(|rows| rows.values);
    Ok(rows
        .filter_map(|row| match <[Value; 2]>::try_from(row) {
            Ok([Value::Text(kind), Value::Text(name)]) => Some((kind, name)),
            _ => None,
        })
        .collect())
}
