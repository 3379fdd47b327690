//! The tables of the platform database: reads them from a copy, and inserts them into a file of the node or into rqlite.

use super::{EVENTS, REGISTRY, TransferError, snapshot};
use crate::blob_stores::BlobStores;
use crate::events::schema as events;
use crate::limits::TRANSFER_ROWS_MAX;
use crate::limits::TRANSFER_ROWS_MAX_BYTES;
use crate::registry::{Registry, schema as registry};
use crate::settings::Places;
use orama_store::pubsub::memory::MemoryPubSub;
use orama_store::replica::{Layout, Shared};
use orama_store::rqlite::RqliteClient;
use orama_store::settings::RqliteAt;
use orama_store::sqlite::{Database, Durability, SqliteError};
use rusqlite::types::Value;
use rusqlite::{Connection, Transaction, params, params_from_iter};
use rusqlite_migration::Migrations;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use tokio::runtime::{Handle, Runtime};

/// The registry's tables, referenced tables first.
pub(super) const TABLES_OF_REGISTRY: &[&str] = &[
    "namespaces",
    "api_keys",
    "functions",
    "function_versions",
    "secrets",
    "triggers",
    "stored_objects",
    "quotas",
    "rates",
    "aliases",
    "traffic",
    "key_uses",
    "audit",
];

/// The events' tables, in the same order. [`Tables::copy_sequences`] names those whose ids are never reused.
pub(super) const TABLES_OF_EVENTS: &[&str] =
    &["messages", "queues", "jobs", "dead_letters", "later", "schedules", "outboxes"];

/// The runtime for calls to servers.
pub(super) fn runtime() -> Result<Runtime, TransferError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.map_err(|error| TransferError::store("threads", error))
}

/// The name of the client of the platform's servers.
pub(super) const PLATFORM: &str = "database.platform";

/// The file name of a replica and its layout.
fn copy_of(file: &str) -> (&'static str, Layout) {
    if file == EVENTS {
        (crate::events::COPY, events::SHARED)
    } else {
        (crate::registry::COPY, registry::SHARED)
    }
}

fn migrations(file: &str) -> Migrations<'static> {
    if file == EVENTS { events::migrations() } else { registry::migrations() }
}

fn shared(at: &RqliteAt, backplane: &Handle) -> Result<Shared, TransferError> {
    let client = RqliteClient::new(PLATFORM, at).map_err(|error| TransferError::store(PLATFORM, error))?;
    Ok(Shared {
        client,
        pubsub: Arc::new(MemoryPubSub::default()),
        backplane: backplane.clone(),
        node: "transfer".to_owned(),
    })
}

/// Copies one of the two platform files to a file in `parts`.
pub(super) fn snapshot(
    places: &Places,
    file: &str,
    parts: &Path,
    backplane: &Handle,
) -> Result<(), TransferError> {
    let Some(at) = &places.backends.platform else {
        // A node that never had an event has no tables for events.
        if !snapshot::take(&places.data().join(file), &parts.join(file))? {
            Database::open(parts, file, Durability::Process, &migrations(file))
                .map_err(|e| failed(file, e))?;
        }
        return Ok(());
    };
    // A new replica: the one in the home folder may be in use.
    let (dir, to) = (parts.join("copy"), parts.join(file));
    let (copy, layout) = copy_of(file);
    let database = Database::open_shared(&dir, copy, layout, shared(at, backplane)?);
    drop(database.map_err(|error| failed(file, error))?);
    snapshot::take(&dir.join(copy), &to)?;
    // A replica's layout is stored in rqlite.
    let steps = layout.steps.len();
    let noted = snapshot::open(&to).and_then(|c| c.pragma_update(None, "user_version", steps as i64));
    noted.map_err(|error| TransferError::store(file, error))
}

fn failed(file: &str, error: SqliteError) -> TransferError {
    TransferError::store(file, error)
}

/// The blob store. `dir` is its folder; `parts` has a copy of the registry.
pub(super) fn blobs(
    places: &Places,
    dir: &Path,
    parts: &Path,
    backplane: &Handle,
) -> Result<BlobStores, TransferError> {
    let registry = Registry::open(parts).map_err(|error| TransferError::store("blobs", error))?;
    BlobStores::open(places, dir, &registry, backplane).map_err(|error| TransferError::store("blobs", error))
}

/// Inserts rows in one transaction.
fn insert_rows(target: &Database, insert: &str, rows: &[Vec<Value>]) -> Result<(), SqliteError> {
    target.write(|t: &Transaction<'_>| {
        let mut statement = t.prepare_cached(insert)?;
        for values in rows {
            statement.execute(params_from_iter(values))?;
        }
        Ok(())
    })
}

/// The tables of a copy.
pub(super) struct Tables {
    connection: Connection,
    tables: &'static [&'static str],
}

impl Tables {
    /// Opens a copy with the current layout.
    pub(super) fn open(path: &Path, tables: &'static [&'static str]) -> Result<Self, TransferError> {
        let connection = snapshot::open(path).map_err(|error| TransferError::store(name_of(path), error))?;
        Ok(Self { connection, tables })
    }

    /// Opens a copy of any older version and migrates it to the current layout.
    pub(super) fn open_any(
        dir: &Path,
        file: &str,
        tables: &'static [&'static str],
    ) -> Result<Self, TransferError> {
        let migrated = Database::open(dir, file, Durability::Process, &migrations(file));
        drop(migrated.map_err(|error| failed(file, error))?);
        Self::open(&dir.join(file), tables)
    }

    /// The number of rows of each table.
    pub(super) fn counts(&self) -> Result<BTreeMap<String, u64>, TransferError> {
        let count = |table: &&str| {
            let sql = format!("SELECT count(*) FROM {table}");
            let rows: i64 = self.connection.query_row(&sql, [], |row| row.get(0))?;
            Ok(((*table).to_owned(), u64::try_from(rows).unwrap_or(0)))
        };
        self.tables.iter().map(count).collect::<rusqlite::Result<_>>().map_err(damaged)
    }

    /// The first column of a query.
    pub(super) fn texts(&self, sql: &str) -> Result<Vec<String>, TransferError> {
        let read = || -> rusqlite::Result<Vec<String>> {
            self.connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
        };
        read().map_err(damaged)
    }

    /// Inserts all rows in batches. A row that exists stays, so this is idempotent.
    pub(super) fn copy_to(&self, target: &Database) -> Result<(), TransferError> {
        for table in self.tables {
            self.copy_table(table, target)?;
        }
        Ok(())
    }

    fn copy_table(&self, table: &str, target: &Database) -> Result<(), TransferError> {
        let sql = format!("SELECT name FROM pragma_table_info('{table}')");
        let columns = self.texts(&sql)?;
        let places = vec!["?"; columns.len()].join(", ");
        let insert = format!("INSERT OR IGNORE INTO {table} ({}) VALUES ({places})", columns.join(", "));
        let mut statement = self
            .connection
            .prepare(&format!("SELECT {} FROM {table}", columns.join(", ")))
            .map_err(damaged)?;
        let mut rows = statement.query([]).map_err(damaged)?;
        let (mut batch, mut bytes) = (Vec::new(), 0);
        loop {
            let row = rows.next().map_err(damaged)?;
            let is_last = row.is_none();
            if let Some(row) = row {
                let values = (0..columns.len()).map(|column| row.get::<_, Value>(column));
                let values: Vec<Value> = values.collect::<rusqlite::Result<_>>().map_err(damaged)?;
                bytes += values.iter().map(size_of).sum::<usize>();
                batch.push(values);
            }
            if is_last || batch.len() >= TRANSFER_ROWS_MAX || bytes >= TRANSFER_ROWS_MAX_BYTES {
                insert_rows(target, &insert, &batch).map_err(|error| failed(table, error))?;
                batch.clear();
                bytes = 0;
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// Makes `target` continue after the highest id that was ever assigned. Its rows are imported already.
    pub(super) fn copy_sequences(&self, target: &Database) -> Result<(), TransferError> {
        let last = |table: &str| -> Result<Option<i64>, TransferError> {
            let sql = "SELECT max(seq) FROM sqlite_sequence WHERE name = ?1";
            self.connection.query_row(sql, [table], |row| row.get(0)).map_err(damaged)
        };
        let (message, queue, job) = (last("messages")?, last("queues")?, last("jobs")?);
        let (letter, later) = (last("dead_letters")?, last("later")?);
        // Inserting and deleting a row advances the sequence in a way that replicas on other nodes repeat.
        let moved = target.write(|t: &Transaction<'_>| {
            let is_free = |table: &str, id: i64| -> rusqlite::Result<bool> {
                let sql = format!("SELECT NOT EXISTS (SELECT 1 FROM {table} WHERE id >= ?1)");
                t.query_row(&sql, [id], |row| row.get(0))
            };
            let mut undo = Vec::new();
            let mut put = |table: &'static str, id: Option<i64>, sql: &str| -> rusqlite::Result<()> {
                if let Some(id) = id
                    && is_free(table, id)?
                {
                    t.execute(sql, params![id])?;
                    undo.push((table, id));
                }
                Ok(())
            };
            put(
                "messages",
                message,
                "INSERT INTO messages (id, message_id, namespace, topic, data, depth, published_at_ms) VALUES (?1, '', '', '', '', 0, 0)",
            )?;
            put(
                "queues",
                queue,
                "INSERT INTO queues (id, trigger_id, namespace, function) VALUES (?1, ' import', '', '')",
            )?;
            put(
                "jobs",
                job,
                "INSERT INTO jobs (id, queue, message) SELECT ?1, (SELECT max(id) FROM queues), max(id) FROM messages",
            )?;
            put(
                "dead_letters",
                letter,
                "INSERT INTO dead_letters (id, dead_letter_id, namespace, function, trigger_id, message, size_bytes, attempts, error, \
                 request_id, failed_at_ms) SELECT ?1, ' import', '', '', '', max(id), 0, 0, '', '', 0 FROM messages",
            )?;
            put(
                "later",
                later,
                "INSERT INTO later (id, message_id, namespace, topic, data, depth, published_at_ms, due_ms) \
                 VALUES (?1, '', '', '', '', 0, 0, 0)",
            )?;
            for (table, id) in undo.into_iter().rev() {
                t.execute(&format!("DELETE FROM {table} WHERE id = ?1"), [id])?;
            }
            // Leases belonged to nodes of the old cluster.
            t.execute("UPDATE queues SET lease_owner = NULL, lease_until_ms = 0 WHERE lease_owner IS NOT NULL", [])?;
            Ok::<_, SqliteError>(())
        });
        moved.map_err(|error| failed(EVENTS, error))
    }
}

/// Opens the target: a file in the home folder, or the tables in rqlite with their replica.
pub(super) fn open_target(
    places: &Places,
    file: &str,
    backplane: &Handle,
) -> Result<Arc<Database>, TransferError> {
    let data = places.data();
    let opened = match &places.backends.platform {
        None => Database::open(&data, file, Durability::Power, &migrations(file)).map(Arc::new),
        Some(at) => {
            let (copy, layout) = copy_of(file);
            Database::open_shared(&data, copy, layout, shared(at, backplane)?)
        }
    };
    opened.map_err(|error| failed(file, error))
}

fn size_of(value: &Value) -> usize {
    match value {
        Value::Text(text) => text.len(),
        Value::Blob(bytes) => bytes.len(),
        Value::Null | Value::Integer(_) | Value::Real(_) => 8,
    }
}

fn damaged(error: rusqlite::Error) -> TransferError {
    TransferError::store("the copy of the platform's tables", error)
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Selects one of the two platform files by its name.
pub(super) fn files() -> [(&'static str, &'static [&'static str]); 2] {
    [(EVENTS, TABLES_OF_EVENTS), (REGISTRY, TABLES_OF_REGISTRY)]
}
