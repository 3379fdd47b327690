//! Imports an archive into an empty home or an empty cluster.
//!
//! All checks come before the first write: the archive's hashes, that each target is empty, that each namespace has a database to
//! go to, and that the secrets can be decrypted there. A marker file in the home then says that an import is in progress. Each
//! step is idempotent, so the same command continues after a crash. No node starts on the home while the marker exists.

use super::platform::{self, PLATFORM, Tables};
use super::{
    DATABASES, MODULES, Manifest, OBJECTS, RECORDS, REGISTRY, SECRETS_KEY, TransferError, archive, snapshot,
};
use crate::limits::TRANSFER_DATABASE_TIMEOUT;
use crate::registry::Registry;
use crate::secrets::SecretStore;
use crate::settings::Places;
use bytes::Bytes;
use orama_runtime::names::Namespace;
use orama_store::blob::{Blobs, cid};
use orama_store::causes::{Cause, Problem};
use orama_store::files::{self, HomeLock};
use orama_store::rqlite::{Level, Options, RqliteClient, RqliteError, Statement, Value};
use orama_store::settings::{NamespaceDatabase, RqliteAt};
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// The marker of an import in progress, in the home folder.
pub(super) const UNFINISHED_FILE: &str = "import.json";

/// The folder in the home into which the archive is unpacked.
const STAGING: &str = "import.parts";

/// Timeout of the check that a server is empty.
const ASK_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(serde::Serialize, serde::Deserialize)]
struct Note {
    /// The archive's id.
    archive: String,
}

/// Whether an import into this home is unfinished, so no node may start there.
#[must_use]
pub fn is_unfinished(home: &Path) -> bool {
    home.join(UNFINISHED_FILE).exists()
}

/// Imports everything of an archive into `places`.
///
/// # Errors
/// [`TransferError`]; its message says whether anything was written.
pub fn import(places: &Places, from: &Path) -> Result<Manifest, TransferError> {
    let _lock =
        HomeLock::acquire(&places.home).map_err(|error| TransferError::Refused(Problem::of(error)))?;
    let staging = places.home.join(STAGING);
    remove_dir(&staging)?;
    files::private_dir(&staging).map_err(TransferError::file(&staging))?;
    let imported = run(places, from, &staging);
    remove_dir(&staging)?;
    imported
}

fn run(places: &Places, from: &Path, staging: &Path) -> Result<Manifest, TransferError> {
    let runtime = platform::runtime()?;
    let backplane = runtime.handle();
    let (manifest, id) = archive::unpack(from, staging)?;
    let note = places.home.join(UNFINISHED_FILE);
    let tables = platform::files().map(|(file, tables)| Tables::open_any(staging, file, tables));
    let [events, registry] = tables;
    let (events, registry) = (events?, registry?);
    check_counts(from, &manifest, &events, &registry)?;
    check_places(places, &manifest)?;
    check_secrets(places, staging)?;
    match read_note(&note)? {
        Some(begun) if begun.archive == id => {}
        Some(_) => {
            return Err(TransferError::Refused(format!(
                "an import of another archive into {} was begun and not finished; finish it first, or begin with an empty home, and \
                 with empty servers",
                places.home.display()
            ).into()));
        }
        None => check_empty(places, &manifest, backplane)?,
    }
    let text =
        serde_json::to_vec(&Note { archive: id }).map_err(|error| TransferError::store("the note", error))?;
    files::write_atomic(&note, &text).map_err(TransferError::file(&note))?;

    let data = places.data();
    files::private_dir(&data).map_err(TransferError::file(&data))?;
    place_blobs(places, &manifest, staging, backplane)?;
    for name in &manifest.databases {
        place_database(places, name, &staging.join(DATABASES).join(format!("{name}.db")), backplane)?;
    }
    if manifest.parts.contains_key(RECORDS) {
        place_file(&staging.join(RECORDS), &data.join(RECORDS))?;
    }
    let has_own_key = places.secrets_keys.is_none() && places.secrets_key_file.is_none();
    if has_own_key && staging.join(SECRETS_KEY).exists() {
        place_file(&staging.join(SECRETS_KEY), &data.join(SECRETS_KEY))?;
    }
    // Triggers come after their jobs, and functions last: nothing can be called before everything is there.
    for ((file, _), from) in platform::files().into_iter().zip([&events, &registry]) {
        let target = platform::open_target(places, file, backplane)?;
        from.copy_to(&target)?;
        if file != REGISTRY {
            from.copy_sequences(&target)?;
        }
        verify(file, from, &target)?;
    }
    fs::remove_file(&note).map_err(TransferError::file(&note))?;
    Ok(manifest)
}

fn read_note(path: &Path) -> Result<Option<Note>, TransferError> {
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|_| {
            TransferError::Refused(
                format!("{} is not the marker of an import; move it away", path.display()).into(),
            )
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(TransferError::file(path)(error)),
    }
}

/// Checks that the copies have as many rows as the manifest says.
fn check_counts(
    from: &Path,
    manifest: &Manifest,
    events: &Tables,
    registry: &Tables,
) -> Result<(), TransferError> {
    for (table, count) in events.counts()?.into_iter().chain(registry.counts()?) {
        if manifest.counts.get(&table).is_some_and(|expected| *expected != count) {
            let problem = format!("{table} has {count} rows, but the manifest says otherwise").into();
            return Err(TransferError::Archive { path: from.to_owned(), problem });
        }
    }
    Ok(())
}

/// Checks that each namespace with a database has a place for it.
fn check_places(places: &Places, manifest: &Manifest) -> Result<(), TransferError> {
    if !places.backends.databases_are_mapped() {
        return Ok(());
    }
    let is_placed = |name: &&String| {
        Namespace::new(name).is_ok_and(|namespace| places.backends.namespaces.contains_key(&namespace))
    };
    let lost: Vec<_> = manifest.databases.iter().filter(|name| !is_placed(name)).collect();
    match lost[..] {
        [] => Ok(()),
        _ => {
            let keys: Vec<_> = lost.iter().map(|name| format!("database.namespaces.{name}")).collect();
            Err(TransferError::Refused(
                format!(
                    "these namespaces have a database, but database.namespaces names no servers for it: {}",
                    keys.join(", ")
                )
                .into(),
            ))
        }
    }
}

/// Checks that the new node will be able to decrypt the secrets.
fn check_secrets(places: &Places, staging: &Path) -> Result<(), TransferError> {
    let registry = Registry::open(staging).map_err(|error| TransferError::store(REGISTRY, error))?;
    SecretStore::open(&registry, places, staging).map(drop).map_err(|error| {
        TransferError::Refused(Problem::caused(
            format!("the archive's secrets could not be read: {error}"),
            error,
        ))
    })
}

/// Checks that every target is empty.
fn check_empty(places: &Places, manifest: &Manifest, backplane: &Handle) -> Result<(), TransferError> {
    let data = places.data();
    if fs::read_dir(&data).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(TransferError::Refused(
            format!(
                "{} is not empty; import into a new home, before a node has started on it",
                data.display()
            )
            .into(),
        ));
    }
    if let Some(at) = &places.backends.platform {
        let tables =
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name IN ('namespaces', 'messages')";
        if !ask(PLATFORM, at, tables, backplane)?.is_empty() {
            let names = ask(PLATFORM, at, "SELECT name FROM namespaces ORDER BY name LIMIT 5", backplane)?;
            if !names.is_empty() {
                return Err(TransferError::Refused(
                    format!("database.platform is not empty: it has the namespaces {}", names.join(", "))
                        .into(),
                ));
            }
        }
    }
    for name in &manifest.databases {
        if let Some((key, at)) = servers(places, name) {
            let found = ask(
                &key,
                at,
                "SELECT name FROM sqlite_schema WHERE name NOT LIKE 'sqlite%' LIMIT 5",
                backplane,
            )?;
            if !found.is_empty() {
                return Err(TransferError::Refused(
                    format!("{key} is not empty: it has {}", found.join(", ")).into(),
                ));
            }
        }
    }
    Ok(())
}

/// The servers of a namespace, and the config key that names them.
fn servers<'a>(places: &'a Places, name: &str) -> Option<(String, &'a RqliteAt)> {
    let namespace = Namespace::new(name).ok()?;
    match places.backends.namespaces.get(&namespace)? {
        NamespaceDatabase::Rqlite(at) => Some((format!("database.namespaces.{name}"), at)),
        NamespaceDatabase::Sqlite => None,
    }
}

fn ask(key: &str, at: &RqliteAt, sql: &str, backplane: &Handle) -> Result<Vec<String>, TransferError> {
    let refused = |error: RqliteError| TransferError::Refused(Problem::of(error).at(key));
    let client = RqliteClient::new(key, at).map_err(refused)?;
    let options = Options { level: Level::Linearizable, ..Options::default() };
    let statements = [Statement::new(sql, [])];
    let asked = client.query(&statements, &options, Instant::now() + ASK_TIMEOUT);
    let rows = backplane.block_on(asked).map_err(refused)?;
    let texts = rows.into_iter().flat_map(|rows| rows.values).flatten();
    Ok(texts.filter_map(|value| if let Value::Text(text) = value { Some(text) } else { None }).collect())
}

fn place_blobs(
    places: &Places,
    manifest: &Manifest,
    staging: &Path,
    backplane: &Handle,
) -> Result<(), TransferError> {
    let stores = platform::blobs(places, &places.data(), staging, backplane)?;
    for name in manifest.parts.keys() {
        let store: &dyn Blobs = match name.split_once('/') {
            Some((MODULES, _)) => &*stores.modules,
            Some((OBJECTS, _)) => &*stores.objects,
            _ => continue,
        };
        let path = staging.join(name);
        let bytes = Bytes::from(fs::read(&path).map_err(TransferError::file(&path))?);
        let id = cid::of(&bytes);
        if !name.ends_with(&id) {
            return Err(TransferError::store(name.as_str(), "its bytes do not match its content id"));
        }
        store.put_as(&id, &bytes).map_err(|error| TransferError::store(name.as_str(), error))?;
    }
    Ok(())
}

fn place_database(places: &Places, name: &str, from: &Path, backplane: &Handle) -> Result<(), TransferError> {
    let Some((key, at)) = servers(places, name) else {
        let dir = places.data().join(DATABASES);
        files::private_dir(&dir).map_err(TransferError::file(&dir))?;
        return place_file(from, &dir.join(format!("{name}.db")));
    };
    let failed = |error: Cause| TransferError::store(key.as_str(), error);
    // Servers accept only a file without a write-ahead log.
    let mode =
        || snapshot::open(from)?.query_row("PRAGMA journal_mode = DELETE", [], |row| row.get::<_, String>(0));
    mode().map_err(|error| failed(error.into()))?;
    let file = fs::read(from).map_err(TransferError::file(from))?;
    let client = RqliteClient::new(&key, at).map_err(|error| failed(error.into()))?;
    let loaded = client.load(file.into(), Instant::now() + TRANSFER_DATABASE_TIMEOUT);
    backplane.block_on(loaded).map_err(|error| failed(error.into()))
}

/// Moves a file to its final place. Both are in the home folder.
fn place_file(from: &Path, to: &Path) -> Result<(), TransferError> {
    let placed = || {
        fs::File::open(from)?.sync_all()?;
        fs::rename(from, to)?;
        to.parent().map_or(Ok(()), |dir| fs::File::open(dir)?.sync_all())
    };
    placed().map_err(TransferError::file(to))
}

/// Checks that all rows were imported.
fn verify(file: &str, from: &Tables, target: &orama_store::sqlite::Database) -> Result<(), TransferError> {
    for (table, expected) in from.counts()? {
        let sql = format!("SELECT count(*) FROM {table}");
        let counted = target.read(|c| c.query_row(&sql, [], |row| row.get::<_, i64>(0)));
        let found = counted.map_err(|error: rusqlite::Error| TransferError::store(file, error))?;
        if u64::try_from(found).ok() != Some(expected) {
            let message = format!("{table} has {found} rows; expected {expected}");
            return Err(TransferError::store(file, message));
        }
    }
    Ok(())
}

fn remove_dir(dir: &Path) -> Result<(), TransferError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(TransferError::file(dir)(error)),
        _ => Ok(()),
    }
}
