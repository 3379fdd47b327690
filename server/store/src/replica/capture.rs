//! Captures the changes of a transaction, row by row, as SQL that has the same effect on an equal database.
//!
//! TEMP triggers on the writer's connection see every row, including rows changed by cascades, and by REPLACE because
//! `recursive_triggers` is on. Each statement has the row's values as literals, so it means the same on every node.

use super::ReplicaError;
use super::entry::Change;
use rusqlite::Connection;
use std::fmt::Write;

/// A table that belongs to the replica itself.
pub(super) const POSITION: &str = "orama_position";

/// A table and its columns.
pub(super) struct Table {
    pub(super) name: String,
    pub(super) columns: Vec<String>,
    key: Vec<String>,
}

/// The shared tables: all but the replica's own and SQLite's internal ones.
pub(super) fn tables(c: &Connection) -> rusqlite::Result<Vec<Table>> {
    let mut names = c.prepare(
        "SELECT name FROM main.sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name <> ?1",
    )?;
    let names = names.query_map([POSITION], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
    let mut tables = Vec::with_capacity(names.len());
    for name in names {
        let mut info = c.prepare("SELECT name, pk FROM pragma_table_xinfo(?1) WHERE hidden = 0")?;
        let columns = info.query_map([&name], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?;
        let columns = columns.collect::<rusqlite::Result<Vec<_>>>()?;
        let mut key: Vec<_> = columns.iter().filter(|(_, place)| *place > 0).collect();
        key.sort_by_key(|(_, place)| *place);
        let key = key.into_iter().map(|(name, _)| name.clone()).collect();
        let columns = columns.into_iter().map(|(name, _)| name).collect();
        tables.push(Table { name, columns, key });
    }
    Ok(tables)
}

/// Creates the triggers for all current tables.
pub(super) fn install(c: &Connection) -> Result<(), ReplicaError> {
    c.execute_batch(
        "PRAGMA recursive_triggers = ON;
         CREATE TEMP TABLE IF NOT EXISTS orama_changes (n INTEGER PRIMARY KEY, tbl TEXT NOT NULL, sql TEXT NOT NULL);
         CREATE TEMP TABLE IF NOT EXISTS orama_capture (is_on INTEGER NOT NULL);
         DELETE FROM temp.orama_capture;
         INSERT INTO temp.orama_capture VALUES (1);",
    )?;
    let tables = tables(c)?;
    let mut sql = String::new();
    for (index, table) in tables.iter().enumerate() {
        if table.key.is_empty() {
            return Err(ReplicaError::NoKey(table.name.clone()));
        }
        table.triggers(index, &mut sql);
    }
    c.execute_batch(&sql)?;
    Ok(())
}

/// Drops the captured changes.
pub(super) fn clear(c: &Connection) -> rusqlite::Result<()> {
    c.execute_batch("DELETE FROM temp.orama_changes")
}

/// Switches capturing on or off. It is off while entries of other nodes are applied.
pub(super) fn set(c: &Connection, is_on: bool) -> rusqlite::Result<()> {
    c.prepare_cached("UPDATE temp.orama_capture SET is_on = ?1")?.execute([is_on])?;
    Ok(())
}

/// The changes captured since [`clear`], in order.
pub(super) fn changes(c: &Connection) -> rusqlite::Result<Vec<Change>> {
    let mut statement = c.prepare_cached("SELECT tbl, sql FROM temp.orama_changes ORDER BY n")?;
    let rows = statement.query_map([], |row| Ok(Change { table: row.get(0)?, sql: row.get(1)? }))?;
    rows.collect()
}

pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn text(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

/// A SQL expression that evaluates to the literal of a value. No literal can express a text with NUL, and quote() would truncate
/// it.
fn literal(value: &str) -> String {
    format!(
        "CASE WHEN typeof({value}) = 'text' AND instr({value}, char(0)) > 0 \
         THEN 'CAST(x''' || hex({value}) || ''' AS TEXT)' ELSE quote({value}) END"
    )
}

/// Builds a SQL expression from alternating texts and values.
#[derive(Default)]
struct Expression(String);

impl Expression {
    fn text(&mut self, part: &str) -> &mut Self {
        self.part(&text(part))
    }

    fn literal(&mut self, row: &str, column: &str) -> &mut Self {
        self.part(&format!("({})", literal(&format!("{row}.{}", quoted(column)))))
    }

    fn part(&mut self, part: &str) -> &mut Self {
        if !self.0.is_empty() {
            self.0.push_str(" || ");
        }
        self.0.push_str(part);
        self
    }
}

impl Table {
    fn triggers(&self, index: usize, sql: &mut String) {
        let table = quoted(&self.name);
        let statements = [
            ("INSERT", self.insert(&table)),
            ("UPDATE", self.update(&table)),
            ("DELETE", self.delete(&table)),
        ];
        for (event, Expression(statement)) in statements {
            // Writing to a string does not fail.
            let _ = write!(
                sql,
                "DROP TRIGGER IF EXISTS temp.orama_{event}_{index};
                 CREATE TEMP TRIGGER orama_{event}_{index} AFTER {event} ON main.{table}
                 WHEN (SELECT is_on FROM orama_capture) BEGIN
                 INSERT INTO orama_changes (tbl, sql) VALUES ({}, {statement}); END;",
                text(&self.name)
            );
        }
    }

    fn insert(&self, table: &str) -> Expression {
        let names: Vec<_> = self.columns.iter().map(|column| quoted(column)).collect();
        let mut statement = Expression::default();
        statement.text(&format!("INSERT INTO {table} ({}) VALUES (", names.join(",")));
        for (index, column) in self.columns.iter().enumerate() {
            if index > 0 {
                statement.text(",");
            }
            statement.literal("NEW", column);
        }
        statement.text(")");
        statement
    }

    fn update(&self, table: &str) -> Expression {
        let mut statement = Expression::default();
        statement.text(&format!("UPDATE {table} SET "));
        for (index, column) in self.columns.iter().enumerate() {
            statement.text(&format!("{}{}=", if index > 0 { "," } else { "" }, quoted(column)));
            statement.literal("NEW", column);
        }
        self.row(&mut statement);
        statement
    }

    fn delete(&self, table: &str) -> Expression {
        let mut statement = Expression::default();
        statement.text(&format!("DELETE FROM {table}"));
        self.row(&mut statement);
        statement
    }

    /// A WHERE clause that selects the row by its old key.
    fn row(&self, statement: &mut Expression) {
        for (index, column) in self.key.iter().enumerate() {
            let word = if index == 0 { " WHERE" } else { " AND" };
            statement.text(&format!("{word} {} IS ", quoted(column)));
            statement.literal("OLD", column);
        }
    }
}
