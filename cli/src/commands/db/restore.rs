//! `orama db restore`: runs a file of SQL on an empty database.

use super::{rows, send};
use crate::client::Client;
use crate::error::{CliError, Result};
use crate::output;
use orama_server::store::database::script;
use serde_json::Value;

/// Statements of one call: a node takes 100.
const STATEMENTS_AT_ONCE: usize = 98;

/// Bytes of SQL of one call: a request's body has at most 1 MiB, and JSON writes some bytes as two.
const BYTES_AT_ONCE: usize = 400 << 10;

/// What is in a database, in the order in which it can be dropped.
const THINGS: &str = "SELECT type, name FROM sqlite_schema WHERE type IN ('table', 'view', 'trigger') AND name NOT LIKE 'sqlite!_%' ESCAPE '!' \
    AND name NOT IN (SELECT name FROM pragma_table_list WHERE type = 'shadow') \
    ORDER BY CASE type WHEN 'trigger' THEN 0 WHEN 'view' THEN 1 ELSE 2 END, rowid DESC";

/// Runs the command.
pub fn run(client: &Client, text: &str, clean: bool, json: bool) -> Result<()> {
    let statements = script::split(text)
        .map_err(|error| CliError::failed(format!("the file is not SQL: {}", error.message)))?;
    let things = things(client)?;
    if !clean && let Some((_, name)) = things.first() {
        return Err(CliError::failed(format!(
            "the database is not empty: it has {:?}",
            output::one_line(name)
        ))
        .hint("restore into another namespace, or add --clean to drop everything before"));
    }
    drop_all(client, things)?;
    let mut ran = 0;
    let mut rest = statements.as_slice();
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = rest.iter().take(STATEMENTS_AT_ONCE).take_while(|sql| {
            bytes += sql.len();
            bytes <= BYTES_AT_ONCE
        });
        let (now, later) = rest.split_at(fits.count().max(1));
        let batch: Vec<(bool, &str, &[Value])> = now.iter().map(|sql| (false, *sql, &[][..])).collect();
        send(client, &batch).map_err(|error| {
            let told = format!("{ran} of {} statements ran, the next ones failed", statements.len());
            if ran == 0 { error } else { error.hint(told) }
        })?;
        ran += now.len();
        rest = later;
    }
    if json {
        return output::line(&serde_json::json!({ "statements": ran }).to_string());
    }
    output::line(&format!("restored: {ran} statements ran"))
}

fn things(client: &Client) -> Result<Vec<(String, String)>> {
    let found = rows(client, &[THINGS])?.into_iter().flatten();
    Ok(found.map(|row| (row.text("type").to_owned(), row.text("name").to_owned())).collect())
}

/// Drops everything. A table that others refer to can be dropped when they are gone.
fn drop_all(client: &Client, mut things: Vec<(String, String)>) -> Result<()> {
    while !things.is_empty() {
        let (mut kept, mut refused, before) = (Vec::new(), None, things.len());
        for (kind, name) in things {
            let sql =
                format!("DROP {} IF EXISTS \"{}\"", kind.to_ascii_uppercase(), name.replace('"', "\"\""));
            if let Err(error) = send(client, &[(false, &sql, &[])]) {
                kept.push((kind, name));
                refused = Some(error);
            }
        }
        if kept.len() == before
            && let Some(error) = refused
        {
            return Err(error);
        }
        things = kept;
    }
    Ok(())
}
