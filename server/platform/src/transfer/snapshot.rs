//! Consistent copies of SQLite files, also while a node writes to them.

use super::TransferError;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use std::path::Path;

/// Copies a database to a new file. Returns `false` if there is no such database. Row ids do not change.
pub(super) fn take(from: &Path, to: &Path) -> Result<bool, TransferError> {
    if !from.try_exists().map_err(TransferError::file(from))? {
        return Ok(false);
    }
    let name = from.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let copied = || -> rusqlite::Result<()> {
        // The database stays as it is; a reader of a database in WAL mode writes only to the `-shm` file.
        let source = open_as(from, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        source.execute("VACUUM INTO ?1", [to.to_string_lossy()])?;
        Ok(())
    };
    copied().map_err(|error| TransferError::store(name, error))?;
    Ok(true)
}

/// Opens a database that may have been written by a tenant's SQL.
pub(super) fn open(path: &Path) -> rusqlite::Result<Connection> {
    open_as(path, OpenFlags::SQLITE_OPEN_READ_WRITE)
}

fn open_as(path: &Path, access: OpenFlags) -> rusqlite::Result<Connection> {
    let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(std::time::Duration::from_secs(30))?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    Ok(connection)
}
