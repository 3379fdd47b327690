//! Applies log entries to the local replica.

use super::capture::{self, POSITION};
use super::entry::{Entry, Position};
use super::{Applied, ReplicaError};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

/// Why entries were not applied. None of them was.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApplyError {
    /// The entries do not fit the replica's rows.
    #[error("a log entry does not fit this replica: {0}")]
    Diverged(String),
    #[error(transparent)]
    Failed(#[from] ReplicaError),
}

impl From<rusqlite::Error> for ApplyError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// The replica's position; `None` if it is empty.
pub(super) fn position(c: &Connection) -> rusqlite::Result<Option<Position>> {
    c.execute_batch(&format!(
        "CREATE TABLE IF NOT EXISTS {POSITION} (one INTEGER PRIMARY KEY CHECK (one = 1), gen INTEGER NOT NULL,
            id TEXT NOT NULL, layout INTEGER NOT NULL) STRICT"
    ))?;
    c.query_row(&format!("SELECT gen, id, layout FROM {POSITION}"), [], |row| {
        Ok(Position { generation: row.get(0)?, id: row.get(1)?, schema: row.get::<_, u32>(2)? as usize })
    })
    .optional()
}

/// Sets the position of the replica within the transaction.
pub(super) fn set_position(t: &Transaction<'_>, position: &Position) -> rusqlite::Result<()> {
    // This table is not shared, so it has no trigger.
    t.prepare_cached(&format!(
        "INSERT OR REPLACE INTO {POSITION} (one, gen, id, layout) VALUES (1, ?1, ?2, ?3)"
    ))?
    .execute(params![position.generation, position.id, position.schema as i64])?;
    Ok(())
}

/// Applies entries after the replica's position, all or none.
pub(super) fn entries(
    connection: &mut Connection,
    from: &Position,
    entries: &[Entry],
) -> Result<Applied, ApplyError> {
    let mut applied = Applied::default();
    let Some(last) = entries.last() else { return Ok(applied) };
    let t = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    capture::set(&t, false)?;
    let mut schema = from.schema;
    for entry in entries {
        applied.tables.extend(entry.tables().map(str::to_owned));
        for change in &entry.changes {
            run(&t, &change.sql, entry.schema != schema)?;
        }
        schema = entry.schema;
    }
    set_position(&t, &last.position())?;
    capture::set(&t, true)?;
    t.commit()?;
    if schema != from.schema {
        capture::install(connection)?;
    }
    Ok(applied)
}

fn run(t: &Transaction<'_>, sql: &str, is_layout: bool) -> Result<(), ApplyError> {
    let diverged = |error: rusqlite::Error| match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::ConstraintViolation | rusqlite::ErrorCode::Unknown) => {
            ApplyError::Diverged(error.to_string())
        }
        _ => error.into(),
    };
    if is_layout {
        return t.execute_batch(sql).map_err(diverged);
    }
    match t.execute(sql, []) {
        Ok(1) => Ok(()),
        Ok(rows) => Err(ApplyError::Diverged(format!("a statement for one row changed {rows}"))),
        Err(error) => Err(diverged(error)),
    }
}
