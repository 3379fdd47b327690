//! Use case: run migrations on a namespace's database, each once.
//!
//! A migration is a transaction of its own, with the row that says that it ran. Nodes that run the same one at once therefore
//! cannot both succeed: one finds the row of the other.

use crate::limits::{MIGRATION_NAME_MAX_BYTES, MIGRATION_TIMEOUT, MIGRATIONS_MAX};
use orama_runtime::limits::DB_STATEMENTS_MAX;
use orama_runtime::names::Namespace;
use orama_runtime::services::{
    BatchMode, BatchOutcome, Consistency, Database, ErrorCode, ServiceError, SqlValue, Statement,
    StatementKind, StatementResult,
};
use orama_store::clock::now_ms;
use orama_store::database::script;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Instant;

const CREATE: &str = "CREATE TABLE IF NOT EXISTS _orama_migrations (name TEXT PRIMARY KEY, hash TEXT NOT NULL, applied_ms INTEGER NOT NULL)";
const INSERT: &str = "INSERT INTO _orama_migrations (name, hash, applied_ms) VALUES (?, ?, ?)";
const SELECT: &str = "SELECT name, hash, applied_ms FROM _orama_migrations ORDER BY name";
const EXISTS: &str = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name = '_orama_migrations'";

/// A migration: a file of SQL.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Migration {
    /// The file's name. It begins with a number, by which migrations are ordered.
    pub name: String,
    /// Its statements.
    pub sql: String,
}

/// A migration that ran.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Applied {
    /// Its name.
    pub name: String,
    /// The BLAKE3 hash of its SQL.
    hash: String,
    /// When it ran, in milliseconds since the Unix epoch.
    pub applied_ms: i64,
}

/// Why migrations were not all run. Those before the one that is named ran, and stay.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The list cannot be one.
    #[error("{0}")]
    Invalid(String),
    /// A migration that ran already has other SQL now.
    #[error("migration {0:?} ran already with other SQL; undo the change to it, and make a new migration")]
    Changed(String),
    /// A migration cannot be run: its name, the number of the statement from 1 or 0 for the whole, and the error.
    #[error("migration {name:?}{}: {}", at(*.statement), .error.message)]
    Failed {
        /// Its name.
        name: String,
        /// The statement, from 1; 0 where it is none of them.
        statement: usize,
        /// The error.
        error: ServiceError,
    },
    /// The database could not be asked which migrations ran.
    #[error("the database does not tell which migrations ran: {}", .0.message)]
    Unknown(ServiceError),
}

fn at(statement: usize) -> String {
    if statement == 0 { String::new() } else { format!(", statement {statement}") }
}

/// Checks and orders a list of migrations.
///
/// # Errors
/// [`MigrateError::Invalid`].
pub fn ordered(mut migrations: Vec<Migration>) -> Result<Vec<Migration>, MigrateError> {
    if migrations.len() > MIGRATIONS_MAX {
        return Err(MigrateError::Invalid(format!("there may be at most {MIGRATIONS_MAX} migrations")));
    }
    let mut numbers = BTreeMap::new();
    for migration in &migrations {
        let name = &migration.name;
        if name.len() > MIGRATION_NAME_MAX_BYTES {
            let why = format!("the name of a migration has at most {MIGRATION_NAME_MAX_BYTES} bytes");
            return Err(MigrateError::Invalid(why));
        }
        let Some(number) = number(name) else {
            let why =
                format!("the name of migration {name:?} must begin with a number, such as 0001_init.sql");
            return Err(MigrateError::Invalid(why));
        };
        if let Some(other) = numbers.insert(number, name.clone()) {
            return Err(MigrateError::Invalid(format!(
                "migrations {other:?} and {name:?} have the same number"
            )));
        }
    }
    migrations.sort_by_key(|migration| number(&migration.name));
    Ok(migrations)
}

fn number(name: &str) -> Option<u64> {
    let digits = name.bytes().take_while(u8::is_ascii_digit).count();
    name.get(..digits)?.parse().ok()
}

/// Runs those of the ordered migrations that did not run yet; returns their names.
///
/// # Errors
/// [`MigrateError`].
pub async fn run(
    database: &dyn Database,
    namespace: &Namespace,
    migrations: &[Migration],
) -> Result<Vec<String>, MigrateError> {
    let mut ran = Vec::new();
    if migrations.is_empty() {
        // The namespace may have no database at all.
        return Ok(ran);
    }
    let mut known = applied(database, namespace).await?;
    for migration in migrations {
        if is_known(&known, migration)? {
            continue;
        }
        if let Err(error) = run_one(database, namespace, migration).await {
            // Another node may have been faster.
            known = applied(database, namespace).await?;
            if !is_known(&known, migration)? {
                return Err(error);
            }
            continue;
        }
        ran.push(migration.name.clone());
    }
    Ok(ran)
}

/// The migrations that ran, by name.
///
/// # Errors
/// [`MigrateError::Unknown`]
pub async fn applied(database: &dyn Database, namespace: &Namespace) -> Result<Vec<Applied>, MigrateError> {
    let ask = |sql: &str| {
        let statement = Statement { kind: StatementKind::Query, sql: sql.to_owned(), args: Vec::new() };
        let mode = BatchMode::Read(Consistency::Strong);
        database.run(namespace, mode, vec![statement], Instant::now() + MIGRATION_TIMEOUT)
    };
    if rows(ask(EXISTS).await)? == "[]" {
        return Ok(Vec::new());
    }
    let rows = rows(ask(SELECT).await)?;
    serde_json::from_str(&rows).map_err(|_| {
        let why = "the table _orama_migrations has other columns than the node's";
        MigrateError::Unknown(ServiceError::invalid(why))
    })
}

fn rows(outcome: BatchOutcome) -> Result<String, MigrateError> {
    match (outcome.failure, outcome.results.into_iter().next()) {
        (None, Some(StatementResult::Query { rows, .. })) => Ok(rows),
        (Some(failure), _) => Err(MigrateError::Unknown(failure.error)),
        (None, _) => {
            Err(MigrateError::Unknown(ServiceError::new(ErrorCode::Internal, "the database gave no result")))
        }
    }
}

fn is_known(known: &[Applied], migration: &Migration) -> Result<bool, MigrateError> {
    match known.iter().find(|applied| applied.name == migration.name) {
        None => Ok(false),
        Some(applied) if applied.hash == hash(&migration.sql) => Ok(true),
        Some(_) => Err(MigrateError::Changed(migration.name.clone())),
    }
}

fn hash(sql: &str) -> String {
    blake3::hash(sql.as_bytes()).to_hex().to_string()
}

async fn run_one(
    database: &dyn Database,
    namespace: &Namespace,
    migration: &Migration,
) -> Result<(), MigrateError> {
    let failed = |statement: usize, error: ServiceError| MigrateError::Failed {
        name: migration.name.clone(),
        statement,
        error,
    };
    let texts = script::split(&migration.sql).map_err(|error| failed(0, error))?;
    // Beside them stand those that note it.
    let most = DB_STATEMENTS_MAX - 2;
    if texts.len() > most {
        let why = format!("it has {} statements, more than the limit of {most}; split it", texts.len());
        return Err(failed(0, ServiceError::new(ErrorCode::TooManyStatements, why)));
    }
    let count = texts.len();
    let exec = |sql: &str| Statement { kind: StatementKind::Exec, sql: sql.to_owned(), args: Vec::new() };
    let mut statements = vec![exec(CREATE)];
    statements.extend(texts.into_iter().map(exec));
    let args = [
        SqlValue::Text(migration.name.clone()),
        SqlValue::Text(hash(&migration.sql)),
        SqlValue::Integer(now_ms()),
    ];
    statements.push(Statement { args: args.into(), ..exec(INSERT) });
    let deadline = Instant::now() + MIGRATION_TIMEOUT;
    let outcome = database.run(namespace, BatchMode::Write, statements, deadline).await;
    match outcome.failure {
        None => Ok(()),
        Some(failure) => {
            let statement = failure.index.filter(|index| (1..=count).contains(index)).unwrap_or(0);
            Err(failed(statement, failure.error))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn migration(name: &str) -> Migration {
        Migration { name: name.to_owned(), sql: "SELECT 1".to_owned() }
    }

    #[test]
    fn migrations_are_ordered_by_number() {
        let names = |list: &[&str]| {
            ordered(list.iter().map(|name| migration(name)).collect())
                .map(|list| list.into_iter().map(|migration| migration.name).collect::<Vec<_>>())
                .map_err(|error| error.to_string())
        };
        assert_eq!(
            names(&["10_b.sql", "9_c.sql", "0001_a.sql"]).unwrap(),
            ["0001_a.sql", "9_c.sql", "10_b.sql"]
        );
        for (bad, told) in [
            (&["init.sql"][..], "must begin with a number"),
            (&["1_a.sql", "01_b.sql"], "same number"),
            (&["99999999999999999999_a.sql"], "must begin with a number"),
        ] {
            assert!(names(bad).unwrap_err().contains(told), "{bad:?}");
        }
        assert!(ordered((0..=MIGRATIONS_MAX).map(|n| migration(&n.to_string())).collect()).is_err());
    }

    #[test]
    fn a_changed_migration_is_told() {
        let known = [Applied { name: "1.sql".to_owned(), hash: hash("SELECT 1"), applied_ms: 0 }];
        assert!(is_known(&known, &migration("1.sql")).unwrap());
        assert!(!is_known(&known, &migration("2.sql")).unwrap());
        let changed = Migration { sql: "SELECT 2".to_owned(), ..migration("1.sql") };
        assert!(matches!(is_known(&known, &changed), Err(MigrateError::Changed(_))));
    }
}
