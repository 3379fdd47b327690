//! A folder of migrations: files of SQL whose names begin with numbers.

use crate::error::{CliError, Result, io};
use orama_server::platform::migrations::{Migration, ordered};
use std::fs;
use std::path::Path;

/// Reads the `.sql` files of a folder, in the order of their numbers.
///
/// # Errors
/// When the folder or a file cannot be read, or a name has no number.
pub fn read(dir: &Path) -> Result<Vec<Migration>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(|error| io("read", dir, error))? {
        let path = entry.map_err(|error| io("read", dir, error))?.path();
        if path.extension().is_none_or(|extension| extension != "sql") {
            continue;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let sql = fs::read_to_string(&path).map_err(|error| io("read", &path, error))?;
        found.push(Migration { name, sql });
    }
    if found.is_empty() {
        return Err(CliError::failed(format!("there is no .sql file in {}", dir.display()))
            .hint("write the first one, for example 0001_init.sql"));
    }
    ordered(found).map_err(|error| CliError::failed(format!("{}: {error}", dir.display())))
}
