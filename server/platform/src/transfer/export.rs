//! Writes the archive of a node's data, also while the node runs.

use super::archive::Writer;
use super::platform::{self, TABLES_OF_EVENTS, TABLES_OF_REGISTRY, Tables};
use super::{
    DATABASES, EVENTS, FORMAT, MODULES, Manifest, OBJECTS, RECORDS, REGISTRY, SECRETS_KEY, TransferError,
    snapshot,
};
use crate::limits::TRANSFER_DATABASE_TIMEOUT;
use crate::settings::Places;
use orama_runtime::names::Namespace;
use orama_store::blob::{Blobs, cid};
use orama_store::clock::now_ms;
use orama_store::database::sqlite;
use orama_store::rqlite::RqliteClient;
use orama_store::settings::{NamespaceDatabase, RqliteAt};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Instant;
use tokio::runtime::Handle;
use zeroize::Zeroizing;

/// Writes everything that `places` names to a new file. `with_secrets_key` includes the master key, so whoever has the file can
/// read the secrets.
///
/// # Errors
/// [`TransferError`]. No file is created then.
pub fn export(places: &Places, to: &Path, with_secrets_key: bool) -> Result<Manifest, TransferError> {
    let data = places.data();
    if places.backends.platform.is_none() && !data.join(REGISTRY).exists() {
        let home = places.home.display();
        return Err(TransferError::Refused(
            format!("{home} has no data of a node; choose another home with --home").into(),
        ));
    }
    let mut writer = Writer::create(to)?;
    let dir = to.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Beside the archive, because there is room for it. Deleted when it is dropped.
    let parts = tempfile::Builder::new()
        .prefix(".orama-export-")
        .tempdir_in(dir)
        .map_err(TransferError::file(dir))?;
    let parts = parts.path();
    let runtime = super::platform::runtime()?;

    // Events first: a job without a trigger is valid (its trigger was deleted), but a trigger must not lose its jobs.
    for file in [EVENTS, REGISTRY] {
        platform::snapshot(places, file, parts, runtime.handle())?;
        writer.file(file, &parts.join(file))?;
    }
    if snapshot::take(&data.join(RECORDS), &parts.join(RECORDS))? {
        writer.file(RECORDS, &parts.join(RECORDS))?;
    }
    let registry = Tables::open(&parts.join(REGISTRY), TABLES_OF_REGISTRY)?;
    let events = Tables::open(&parts.join(EVENTS), TABLES_OF_EVENTS)?;
    let mut counts: BTreeMap<String, u64> = registry.counts()?;
    counts.extend(events.counts()?);

    let namespaces = registry.texts("SELECT name FROM namespaces ORDER BY name")?;
    let mut databases = Vec::new();
    for name in &namespaces {
        let file = format!("{name}.db");
        if database(places, name, &parts.join(&file), runtime.handle())? {
            writer.file(&format!("{DATABASES}/{file}"), &parts.join(&file))?;
            databases.push(name.clone());
            fs::remove_file(parts.join(&file)).map_err(TransferError::file(parts))?;
        }
    }

    let stores = platform::blobs(places, &parts.join("fetched"), parts, runtime.handle())?;
    for (folder, sql, store) in [
        (MODULES, "SELECT DISTINCT wasm_cid FROM function_versions ORDER BY 1", &stores.modules),
        (OBJECTS, "SELECT DISTINCT cid FROM stored_objects ORDER BY 1", &stores.objects),
    ] {
        let cids = registry.texts(sql)?;
        counts.insert(folder.to_owned(), cids.len() as u64);
        for id in cids {
            let bytes = blob(&data.join(folder), &id, &**store)?;
            writer.part(&format!("{folder}/{id}"), bytes.len() as u64, bytes.as_slice())?;
        }
    }
    if with_secrets_key && let Some(key) = secrets_key(places, &data)? {
        writer.part(SECRETS_KEY, key.len() as u64, key.as_slice())?;
    }
    writer.finish(Manifest {
        format: FORMAT,
        orama: env!("CARGO_PKG_VERSION").to_owned(),
        exported_at_ms: now_ms(),
        namespaces,
        databases,
        secret_key_ids: registry.texts("SELECT DISTINCT key_id FROM secrets ORDER BY 1")?,
        counts,
        parts: BTreeMap::new(),
    })
}

/// Copies a namespace's database. Returns `false` if it has none.
fn database(places: &Places, name: &str, to: &Path, backplane: &Handle) -> Result<bool, TransferError> {
    let namespace = Namespace::new(name).map_err(|error| TransferError::store(REGISTRY, error))?;
    match places.backends.namespaces.get(&namespace) {
        Some(NamespaceDatabase::Rqlite(at)) => backup(&namespace, at, to, backplane).map(|()| true),
        None if places.backends.databases_are_mapped() => Ok(false),
        Some(NamespaceDatabase::Sqlite) | None => {
            let dir = places.data().join(DATABASES);
            let file = sqlite::file_of(&dir, &namespace).map_err(TransferError::file(&dir))?;
            snapshot::take(&file, to)
        }
    }
}

fn backup(namespace: &Namespace, at: &RqliteAt, to: &Path, backplane: &Handle) -> Result<(), TransferError> {
    let what = format!("database.namespaces.{namespace}");
    let client = RqliteClient::new(&what, at).map_err(|error| TransferError::store(what.as_str(), error))?;
    let mut file = File::create(to).map_err(TransferError::file(to))?;
    let sink = |piece: Option<&[u8]>| match piece {
        Some(piece) => file.write_all(piece),
        None => {
            file = File::create(to)?;
            Ok(())
        }
    };
    let deadline = Instant::now() + TRANSFER_DATABASE_TIMEOUT;
    backplane.block_on(client.backup(sink, deadline)).map_err(|error| TransferError::store(what, error))
}

/// Reads a blob from the node's folder or from IPFS. The folder is only read, because a running node writes to it.
fn blob(folder: &Path, id: &str, store: &dyn Blobs) -> Result<Vec<u8>, TransferError> {
    if let Ok(bytes) = fs::read(folder.join(id))
        && cid::of(&bytes) == id
    {
        return Ok(bytes);
    }
    let found = store.get(id).map_err(|error| TransferError::store(id, error))?;
    found.map(|bytes| bytes.to_vec()).ok_or_else(|| {
        TransferError::store(
            id,
            "it is missing or damaged; it may have been deleted while the archive was written",
        )
    })
}

/// The file with the master keys, or a file with the keys of the variable.
fn secrets_key(places: &Places, data: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, TransferError> {
    if let Some(keys) = &places.secrets_keys {
        let mut text = Zeroizing::new(Vec::new());
        for key in keys.all() {
            text.extend_from_slice(key.to_hex().as_bytes());
            text.push(b'\n');
        }
        return Ok(Some(text));
    }
    let path = places.secrets_key_file.clone().unwrap_or_else(|| data.join(SECRETS_KEY));
    match fs::read(&path) {
        Ok(bytes) => Ok(Some(Zeroizing::new(bytes))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(TransferError::file(&path)(error)),
    }
}
