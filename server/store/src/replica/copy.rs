//! Rebuilds a replica from a backup of rqlite.

use super::apply::{self, ApplyError};
use super::capture::{self, POSITION, quoted};
use super::entry::{self, Position};
use super::{ReplicaError, unavailable};
use crate::rqlite::RqliteClient;
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior};
use std::fs::File;
use std::io::{Seek, Write};
use std::path::Path;
use std::time::Instant;
use tempfile::NamedTempFile;

/// Downloads a backup to a file beside the replica.
pub(super) async fn fetch(
    client: RqliteClient,
    mut file: File,
    deadline: Instant,
) -> Result<(), crate::rqlite::RqliteError> {
    let sink = move |piece: Option<&[u8]>| match piece {
        Some(piece) => file.write_all(piece),
        None => file.set_len(0).and_then(|()| file.rewind()),
    };
    client.backup(sink, deadline).await
}

/// A temporary file for a backup, which is deleted when it is dropped.
pub(super) fn file(beside: &Path) -> Result<NamedTempFile, ReplicaError> {
    let folder = beside.parent().unwrap_or(Path::new("."));
    tempfile::Builder::new().prefix(".copy-").tempfile_in(folder).map_err(unavailable)
}

/// The position of a backup in the log of a stream.
pub(super) fn position(backup: &Path, stream: &str) -> Result<Option<Position>, ReplicaError> {
    let source = Connection::open_with_flags(backup, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let last = source
        .query_row(
            "SELECT gen, id, changes FROM orama_log WHERE stream = ?1 ORDER BY gen DESC LIMIT 1",
            [stream],
            |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?)),
        )
        .optional()?;
    let Some((generation, id, text)) = last else { return Ok(None) };
    let (schema, _) = entry::read_schema(&text).ok_or_else(|| unavailable("the log is damaged"))?;
    Ok(Some(Position { generation, id, schema }))
}

/// Replaces the tables of the replica by those of a backup, in one step for readers.
pub(super) fn replace(
    connection: &mut Connection,
    backup: &Path,
    steps: &[&str],
    position: &Position,
) -> Result<(), ApplyError> {
    // Neither is possible within a transaction.
    connection.pragma_update(None, "foreign_keys", false)?;
    let attached = connection.execute("ATTACH DATABASE ?1 AS backup", [backup.to_string_lossy()]);
    let replaced = attached.map_err(ApplyError::from).and_then(|_| {
        let replaced = fill(connection, steps, position);
        connection.execute_batch("DETACH DATABASE backup")?;
        replaced
    });
    connection.pragma_update(None, "foreign_keys", true)?;
    capture::install(connection)?;
    replaced
}

fn fill(connection: &mut Connection, steps: &[&str], position: &Position) -> Result<(), ApplyError> {
    let t = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for table in capture::tables(&t)? {
        t.execute_batch(&format!("DROP TABLE main.{}", quoted(&table.name)))?;
    }
    for step in steps.iter().take(position.schema) {
        t.execute_batch(step)?;
    }
    for table in capture::tables(&t)? {
        let name = quoted(&table.name);
        let columns: Vec<_> = table.columns.iter().map(|column| quoted(column)).collect();
        let columns = columns.join(",");
        t.execute_batch(&format!("INSERT INTO main.{name} ({columns}) SELECT {columns} FROM backup.{name}"))?;
    }
    if has_sequence(&t, "main")? {
        t.execute_batch("DELETE FROM main.sqlite_sequence")?;
        if has_sequence(&t, "backup")? {
            t.execute(
                "INSERT INTO main.sqlite_sequence (name, seq) SELECT name, seq FROM backup.sqlite_sequence
                 WHERE name IN (SELECT name FROM main.sqlite_schema WHERE type = 'table' AND name <> ?1)",
                [POSITION],
            )?;
        }
    }
    apply::set_position(&t, position)?;
    t.commit()?;
    Ok(())
}

/// Whether a database has the table of AUTOINCREMENT sequences.
fn has_sequence(c: &Connection, schema: &str) -> rusqlite::Result<bool> {
    let sql = format!("SELECT EXISTS (SELECT 1 FROM {schema}.sqlite_schema WHERE name = 'sqlite_sequence')");
    c.query_row(&sql, [], |row| row.get(0))
}
