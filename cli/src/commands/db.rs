//! `orama db`: queries, dumps, restores and migrates a namespace's database.

use super::confirm::confirm;
use crate::args::DbCommand;
use crate::client::{Client, DEPLOY_TIMEOUT};
use crate::error::{CliError, Result, io};
use crate::{migrations, output};
use reqwest::Method;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::{Value, json};
use std::fmt;
use std::fs;
use std::io::Read;
use std::path::Path;

mod dump;
mod restore;

/// The words with which a statement begins that only reads.
const READS: [&str; 5] = ["SELECT", "VALUES", "WITH", "EXPLAIN", "PRAGMA"];

/// The node's answer to statements.
#[derive(Deserialize)]
struct Answered {
    results: Vec<Outcome>,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Outcome {
    Exec { rows_affected: u64, last_insert_id: i64 },
    Query { rows: Vec<Row> },
}

/// A row with its columns in their order.
pub(super) struct Row(pub(super) Vec<(String, Value)>);

impl Row {
    /// A column's value; null where there is none.
    fn get(&self, column: &str) -> &Value {
        self.0.iter().find(|(name, _)| name == column).map_or(&Value::Null, |(_, value)| value)
    }

    /// A column's text; empty where it is none.
    fn text(&self, column: &str) -> &str {
        self.get(column).as_str().unwrap_or_default()
    }
}

impl<'de> Deserialize<'de> for Row {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Columns;

        impl<'de> Visitor<'de> for Columns {
            type Value = Row;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a row")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> std::result::Result<Row, M::Error> {
                let mut columns = Vec::new();
                while let Some(column) = map.next_entry()? {
                    columns.push(column);
                }
                Ok(Row(columns))
            }
        }

        deserializer.deserialize_map(Columns)
    }
}

#[derive(Deserialize)]
struct Migrated {
    applied: Vec<String>,
    present: usize,
}

#[derive(Deserialize)]
struct Applied {
    name: String,
}

#[derive(Deserialize)]
struct AllApplied {
    migrations: Vec<Applied>,
}

/// Runs a command of the group.
pub fn run(
    connect: impl Fn(&crate::args::Connection) -> Result<Client>,
    command: DbCommand,
    json: bool,
) -> Result<()> {
    match command {
        DbCommand::Query { sql, values, write, connection } => {
            let sql = if sql == "-" { text_of(Path::new("-"))? } else { sql };
            query(&connect(&connection)?, &sql, &values, write, json)
        }
        DbCommand::Dump { output, connection } => dump::run(&connect(&connection)?, output.as_deref(), json),
        DbCommand::Restore { file, clean, force, connection } => {
            // Read first, so that nothing is dropped for a file that cannot be read.
            let text = text_of(&file)?;
            let client = connect(&connection)?;
            if clean {
                confirm(force, "everything in the database", "")?;
            }
            restore::run(&client, &text, clean, json)
        }
        DbCommand::Migrate { dir, dry_run, connection } => {
            let list = migrations::read(&dir)?;
            migrate(&connect(&connection)?, &list, dry_run, json)
        }
    }
}

/// The text of a file, or of standard input.
fn text_of(path: &Path) -> Result<String> {
    if path == Path::new("-") {
        let mut text = String::new();
        let read = std::io::stdin().read_to_string(&mut text);
        read.map_err(|error| CliError::failed("cannot read standard input").caused_by(error))?;
        return Ok(text);
    }
    fs::read_to_string(path).map_err(|error| io("read", path, error))
}

/// Sends statements: `(is a query, SQL, values)`.
pub(super) fn send(client: &Client, statements: &[(bool, &str, &[Value])]) -> Result<crate::client::Answer> {
    let ops: Vec<Value> = statements
        .iter()
        .map(|(is_query, sql, values)| {
            json!({ "kind": if *is_query { "query" } else { "exec" }, "sql": sql, "args": values })
        })
        .collect();
    let request = client.request(Method::POST, &["db", "query"]).timeout(DEPLOY_TIMEOUT);
    client.send(request.json(&json!({ "ops": ops })))
}

/// The rows of queries that see one state of the database.
pub(super) fn rows(client: &Client, queries: &[&str]) -> Result<Vec<Vec<Row>>> {
    let statements: Vec<(bool, &str, &[Value])> = queries.iter().map(|sql| (true, *sql, &[][..])).collect();
    let answered: Answered = send(client, &statements)?.json()?;
    let rows = answered.results.into_iter().map(|outcome| match outcome {
        Outcome::Query { rows } => Ok(rows),
        Outcome::Exec { .. } => Err(CliError::failed("the node answered another question")),
    });
    rows.collect()
}

fn query(client: &Client, sql: &str, values: &[String], write: bool, json: bool) -> Result<()> {
    let first = sql.trim_start().split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
    let is_query = !write && READS.iter().any(|word| word.eq_ignore_ascii_case(first));
    let values: Vec<Value> = values
        .iter()
        .map(|text| serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.clone())))
        .collect();
    let answer = send(client, &[(is_query, sql, &values)])?;
    if json {
        return output::line(&answer.line()?);
    }
    match answer.json::<Answered>()?.results.into_iter().next() {
        Some(Outcome::Query { rows }) => table(&rows),
        Some(Outcome::Exec { rows_affected, last_insert_id }) => {
            let id = if last_insert_id == 0 { String::new() } else { format!(", last id {last_insert_id}") };
            let word = if rows_affected == 1 { "row" } else { "rows" };
            output::line(&format!("{rows_affected} {word} changed{id}"))
        }
        None => Err(CliError::failed("the node gave no result")),
    }
}

/// Prints rows as a table.
fn table(rows: &[Row]) -> Result<()> {
    let Some(first) = rows.first() else {
        output::note("no rows");
        return Ok(());
    };
    let columns: Vec<&str> = first.0.iter().map(|(name, _)| name.as_str()).collect();
    let shown = |value: &Value| match value {
        Value::Null => "NULL".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let cells = rows.iter().map(|row| row.0.iter().map(|(_, value)| shown(value)).collect());
    output::line(&output::table(&columns, cells).join("\n"))
}

fn migrate(
    client: &Client,
    list: &[orama_server::platform::migrations::Migration],
    dry_run: bool,
    json: bool,
) -> Result<()> {
    if dry_run {
        let answer = client.send(client.request(Method::GET, &["db", "migrations"]))?;
        let known: AllApplied = answer.json()?;
        let is_known = |name: &str| known.migrations.iter().any(|applied| applied.name == name);
        let pending: Vec<_> =
            list.iter().map(|migration| migration.name.as_str()).filter(|name| !is_known(name)).collect();
        if json {
            return output::line(&json!({ "pending": pending }).to_string());
        }
        return match pending.as_slice() {
            [] => output::line("all migrations have run"),
            pending => output::line(&format!("would run\n  {}", pending.join("\n  "))),
        };
    }
    let request = client.request(Method::POST, &["db", "migrations"]).timeout(DEPLOY_TIMEOUT);
    let answer = client.send(request.json(&json!({ "migrations": list })))?;
    if json {
        return output::line(&answer.line()?);
    }
    let Migrated { applied, present } = answer.json()?;
    for name in &applied {
        output::line(&format!("ran {}", output::one_line(name)))?;
    }
    output::line(&format!("{} ran now, {present} had run before", applied.len()))
}
