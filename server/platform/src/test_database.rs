//! What tests do to databases behind their owners' backs.

use orama_store::sqlite::{Database, SqliteError};
use rusqlite::Transaction;

/// [`Database::write`] for statements alone.
pub(crate) trait Change {
    fn change<T>(&self, work: impl FnMut(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T, SqliteError>;
}

impl Change for Database {
    fn change<T>(
        &self,
        mut work: impl FnMut(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, SqliteError> {
        self.write(|t| Ok(work(t)?))
    }
}
