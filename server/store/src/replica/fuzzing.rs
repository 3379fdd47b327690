//! What fuzz targets call of replicas: a change's way from one replica through the log's text into another, without a server.

use super::entry::{self, Entry, Position};
use super::{apply, capture};
use rusqlite::{Connection, Transaction, TransactionBehavior};

/// Makes the tables of a replica, and notes what is changed from now on.
///
/// # Errors
/// What SQLite, or the capture, says.
pub fn open(connection: &Connection, schema: &str) -> Result<(), String> {
    let made = connection.execute_batch(schema).and_then(|()| apply::position(connection).map(drop));
    made.map_err(|error| error.to_string())?;
    capture::install(connection).map_err(|error| error.to_string())
}

/// Commits a change, and gives the text that the log would have of it.
///
/// # Errors
/// What `work` or SQLite says; then nothing was changed.
pub fn change(
    connection: &mut Connection,
    work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>,
) -> rusqlite::Result<String> {
    let t = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    capture::clear(&t)?;
    work(&t)?;
    let changes = capture::changes(&t)?;
    t.commit()?;
    Ok(entry::write(0, &changes))
}

/// Applies the texts of the log to another replica, all or none.
///
/// # Errors
/// Why they do not fit it.
pub fn apply(connection: &mut Connection, texts: &[String]) -> Result<(), String> {
    let read = texts.iter().zip(1..).map(|(text, generation)| Entry::read(generation, "id", text));
    let entries = read.collect::<Option<Vec<_>>>().ok_or("an entry that was written cannot be read")?;
    apply::entries(connection, &Position::default(), &entries).map(drop).map_err(|error| error.to_string())
}
