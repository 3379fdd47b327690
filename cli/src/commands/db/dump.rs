//! `orama db dump`: writes a database as SQL that makes it again.

use super::{Row, rows};
use crate::client::Client;
use crate::error::{CliError, Result, io};
use crate::output;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::Permissions;
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::Builder;

/// Rows that are read at once. A node gives at most 10,000.
const ROWS_AT_ONCE: usize = 2_000;

/// Bytes of one INSERT, well below the limit of a request's body.
const INSERT_BYTES: usize = 128 << 10;

/// Everything but SQLite's own; tables first.
const SCHEMA: &str = "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite!_%' ESCAPE '!' \
    ORDER BY CASE type WHEN 'table' THEN 0 WHEN 'index' THEN 1 WHEN 'view' THEN 2 ELSE 3 END, rowid";

/// Tables, with what they are: `table`, `virtual` or `shadow`.
const TABLES: &str = "SELECT name, type, wr FROM pragma_table_list WHERE schema = 'main'";

/// Which tables refer to which.
const REFERENCES: &str = "SELECT t.name AS child, f.\"table\" AS parent FROM sqlite_schema t, pragma_foreign_key_list(t.name) f WHERE t.type = 'table'";

/// The next numbers of AUTOINCREMENT.
const SEQUENCES: &str = "SELECT name, seq FROM sqlite_sequence";

/// A table whose rows are written.
struct Table {
    name: String,
    has_rowid: bool,
    columns: Vec<String>,
    keys: Vec<String>,
}

/// Runs the command.
pub fn run(client: &Client, to: Option<&Path>, json: bool) -> Result<()> {
    let mut counted = 0;
    match to {
        None => {
            let mut out = BufWriter::new(std::io::stdout().lock());
            counted += write(client, &mut out)?;
            let flushed = out.flush();
            flushed.map_err(|error| CliError::failed("cannot write the dump").caused_by(error))?;
        }
        Some(path) => {
            // Under a name of its own first, so that what stops in the middle does not look like a dump.
            let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
            // Readable as any file that a command writes.
            let mode = Permissions::from_mode(0o666);
            let part = Builder::new().prefix(".orama-dump-").permissions(mode).tempfile_in(dir);
            let part = part.map_err(|error| io("write to", dir, error))?;
            let mut out = BufWriter::new(part.as_file());
            counted += write(client, &mut out)?;
            let flushed = out.flush();
            drop(out);
            let synced = flushed.and_then(|()| part.as_file().sync_all());
            synced.map_err(|error| io("write", part.path(), error))?;
            part.persist(path).map_err(|error| io("write", path, error.error))?;
        }
    }
    if json && to.is_some() {
        return output::line(&serde_json::json!({ "rows": counted }).to_string());
    }
    output::note(&format!("{counted} rows"));
    Ok(())
}

fn write(client: &Client, out: &mut dyn Write) -> Result<u64> {
    let mut found = rows(client, &[SCHEMA, TABLES, REFERENCES])?.into_iter();
    let (schema, kinds, references) = (
        found.next().unwrap_or_default(),
        found.next().unwrap_or_default(),
        found.next().unwrap_or_default(),
    );
    let put = |out: &mut dyn Write, text: &str| {
        let written = out.write_all(text.as_bytes());
        written.map_err(|error| CliError::failed("cannot write the dump").caused_by(error))
    };
    let shadows: BTreeSet<&str> =
        kinds.iter().filter(|kind| kind.text("type") == "shadow").map(|kind| kind.text("name")).collect();
    let without_rowid: BTreeSet<&str> =
        kinds.iter().filter(|kind| *kind.get("wr") == 1).map(|kind| kind.text("name")).collect();
    let tables: Vec<&Row> = schema
        .iter()
        .filter(|entry| entry.text("type") == "table" && !shadows.contains(entry.text("name")))
        .collect();
    for entry in &tables {
        put(out, &format!("{};\n", entry.text("sql")))?;
    }
    let names: Vec<&str> = tables.iter().map(|entry| entry.text("name")).collect();
    let mut counted = 0;
    for name in parents_first(&names, &references) {
        let table = columns_of(client, name, !without_rowid.contains(name))?;
        counted += write_rows(client, &table, &mut |text| put(out, text))?;
    }
    // Afterwards, so that no trigger runs and no index is kept up while rows come.
    for entry in schema.iter().filter(|entry| entry.text("type") != "table") {
        put(out, &format!("{};\n", entry.text("sql")))?;
    }
    if tables.iter().any(|entry| entry.text("sql").to_ascii_uppercase().contains("AUTOINCREMENT")) {
        for sequence in rows(client, &[SEQUENCES])?.into_iter().flatten() {
            let (name, seq) = (quoted(sequence.text("name")), sequence.get("seq").clone());
            put(out, &format!("UPDATE sqlite_sequence SET seq = {seq} WHERE name = {name};\n"))?;
        }
    }
    Ok(counted)
}

/// A text as SQL writes it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A name as SQL writes it.
fn name(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// The tables so that each comes after those that it refers to, as far as that is possible.
fn parents_first<'a>(names: &[&'a str], references: &[Row]) -> Vec<&'a str> {
    let mut waiting: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for reference in references {
        let (child, parent) = (reference.text("child"), reference.text("parent"));
        if !child.eq_ignore_ascii_case(parent) {
            waiting.entry(child).or_default().insert(parent.to_ascii_lowercase());
        }
    }
    let (mut left, mut ordered) = (names.to_vec(), Vec::new());
    while !left.is_empty() {
        let is_free = |name: &&&str| {
            let parents = waiting.get(**name);
            parents
                .is_none_or(|parents| !left.iter().any(|other| parents.contains(&other.to_ascii_lowercase())))
        };
        // Tables that refer to each other in a circle come in the order that they have.
        let next = left.iter().find(is_free).or(left.first()).copied().unwrap_or_default();
        left.retain(|name| *name != next);
        ordered.push(next);
    }
    ordered
}

fn columns_of(client: &Client, table: &str, has_rowid: bool) -> Result<Table> {
    // Hidden ones are computed, or belong to virtual tables.
    let sql =
        format!("SELECT name, pk FROM pragma_table_xinfo({}) WHERE hidden = 0 ORDER BY cid", quoted(table));
    let found = rows(client, &[&sql])?.into_iter().flatten().collect::<Vec<_>>();
    let columns: Vec<String> = found.iter().map(|column| column.text("name").to_owned()).collect();
    let mut keys: Vec<_> = found
        .iter()
        .filter_map(|column| {
            Some((column.get("pk").as_u64().filter(|pk| *pk > 0)?, column.text("name").to_owned()))
        })
        .collect();
    keys.sort();
    // A column may hide the row id.
    let hides = |alias: &str| columns.iter().any(|column| column.eq_ignore_ascii_case(alias));
    let has_rowid = has_rowid && !hides("rowid");
    Ok(Table {
        name: table.to_owned(),
        has_rowid,
        columns,
        keys: keys.into_iter().map(|(_, name)| name).collect(),
    })
}

/// Writes a table's rows in the order of their keys; returns how many there are.
fn write_rows(client: &Client, table: &Table, put: &mut dyn FnMut(&str) -> Result<()>) -> Result<u64> {
    let columns: Vec<String> = table.columns.iter().map(|column| name(column)).collect();
    // The row id is written where nothing else would keep it.
    let own_key = table.has_rowid && table.keys.is_empty();
    let into: Vec<String> =
        own_key.then(|| "rowid".to_owned()).into_iter().chain(columns.iter().cloned()).collect();
    let values = into.iter().map(|column| format!("quote({column})")).collect::<Vec<_>>().join(" || ',' || ");
    let order = if table.has_rowid {
        "rowid".to_owned()
    } else {
        let keys = if table.keys.is_empty() { &table.columns } else { &table.keys };
        keys.iter().map(|key| name(key)).collect::<Vec<_>>().join(", ")
    };
    let (mut counted, mut last) = (0_u64, None::<String>);
    let begin = format!("INSERT INTO {} ({}) VALUES\n", name(&table.name), into.join(", "));
    loop {
        let (place, at) = match &last {
            // By the key where there is one, so that a page costs the same wherever it is.
            Some(rowid) if table.has_rowid => (format!("WHERE rowid > {rowid}"), String::new()),
            Some(_) => (String::new(), format!(" OFFSET {counted}")),
            None => (String::new(), String::new()),
        };
        let rowid = if table.has_rowid { "rowid" } else { "0" };
        let sql = format!(
            "SELECT {values} AS v, {rowid} AS r FROM {} {place} ORDER BY {order} LIMIT {ROWS_AT_ONCE}{at}",
            name(&table.name)
        );
        let page: Vec<_> = rows(client, &[&sql])?.into_iter().flatten().collect();
        let mut insert = String::new();
        for row in &page {
            let value = row.text("v");
            if !insert.is_empty() && insert.len() + value.len() > INSERT_BYTES {
                put(&format!("{begin}{insert};\n"))?;
                insert.clear();
            }
            let between = if insert.is_empty() { "" } else { ",\n" };
            insert.push_str(&format!("{between}({value})"));
            last = Some(row.get("r").to_string());
            counted += 1;
        }
        if !insert.is_empty() {
            put(&format!("{begin}{insert};\n"))?;
        }
        if page.len() < ROWS_AT_ONCE {
            return Ok(counted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_come_after_those_that_they_refer_to() {
        let reference = |child: &str, parent: &str| {
            Row(vec![("child".to_owned(), child.into()), ("parent".to_owned(), parent.into())])
        };
        let references =
            [reference("a", "B"), reference("b", "c"), reference("c", "c"), reference("d", "gone")];
        assert_eq!(parents_first(&["a", "b", "c", "d"], &references), ["c", "b", "a", "d"]);
        let circle = [reference("a", "b"), reference("b", "a")];
        assert_eq!(parents_first(&["a", "b"], &circle), ["a", "b"]);
    }
}
