//! Export and import: moves everything that a node or a cluster stores through one file into another home or cluster.
//!
//! An archive is a tar file. It contains consistent copies of SQLite files, blobs under their content ids, and at its end a
//! manifest with the hash of each part. It omits what a node can rebuild: artifacts and caches.

use orama_store::causes::{Cause, Problem};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

mod archive;
mod export;
mod import;
mod platform;
mod snapshot;

pub use export::export;
pub use import::{import, is_unfinished};

/// The version of the archive format.
const FORMAT: u32 = 1;

/// Names of parts.
const REGISTRY: &str = "registry.db";
const EVENTS: &str = "events.db";
const RECORDS: &str = "records.db";
const SECRETS_KEY: &str = "secrets.key";
const MODULES: &str = "blobs";
const OBJECTS: &str = "objects";
const DATABASES: &str = "databases";
const MANIFEST: &str = "manifest.json";

/// Why an export or an import failed.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The disk.
    #[error("{}: {source}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The request cannot be carried out; nothing was changed.
    #[error("{0}")]
    Refused(#[source] Problem),
    /// The archive is damaged or not an archive; nothing was changed.
    #[error("{}: {problem}", path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        problem: Problem,
    },
    /// A store failed. Running the same command again continues.
    #[error("{what}: {source}; run the same command again")]
    Store {
        /// The store.
        what: String,
        /// Its error.
        source: Cause,
    },
}

impl TransferError {
    fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |source| Self::File { path, source }
    }

    fn store(what: impl Into<String>, source: impl Into<Cause>) -> Self {
        Self::Store { what: what.into(), source: source.into() }
    }
}

/// A part of an archive, as its manifest lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its size.
    pub bytes: u64,
    /// BLAKE3 of its bytes, in hex.
    pub blake3: String,
}

/// The manifest of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The version of the archive format.
    pub format: u32,
    /// The version of the node that wrote it.
    pub orama: String,
    /// When it was written, in milliseconds since the Unix epoch.
    pub exported_at_ms: i64,
    /// All namespaces.
    pub namespaces: Vec<String>,
    /// Namespaces whose database is in the archive.
    pub databases: Vec<String>,
    /// Ids of the master keys that its secrets need.
    pub secret_key_ids: Vec<String>,
    /// Numbers of rows by table, of modules and of objects.
    pub counts: BTreeMap<String, u64>,
    /// Its parts.
    pub parts: BTreeMap<String, Part>,
}

impl fmt::Display for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: u64 = self.parts.values().map(|part| part.bytes).sum();
        writeln!(f, "namespaces: {}", self.namespaces.len())?;
        writeln!(f, "databases of namespaces: {}", self.databases.len())?;
        for (what, count) in &self.counts {
            writeln!(f, "{what}: {count}")?;
        }
        let key = if self.parts.contains_key(SECRETS_KEY) { "in the archive" } else { "not in the archive" };
        writeln!(f, "master key: {key}")?;
        write!(f, "{} parts, {bytes} bytes", self.parts.len())
    }
}

#[cfg(test)]
mod tests;
