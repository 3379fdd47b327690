//! Moves everything that a node or a cluster stores into one file, and from it into another home or cluster.
//!
//! An archive is a tar file. It contains copies of SQLite files, each of one moment, blobs under their content ids,
//! and at its end a manifest with the hash of each part. It omits what a node can rebuild (compiled code, caches).

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

mod archive;
mod export;
#[doc(hidden)]
pub mod fuzzing;
mod import;
mod platform;
mod snapshot;

pub use export::export;
pub use import::{import, is_unfinished};

/// The version of the archive's form.
const FORMAT: u32 = 1;

/// Parts by their names.
const REGISTRY: &str = "registry.db";
const EVENTS: &str = "events.db";
const RECORDS: &str = "records.db";
const SECRETS_KEY: &str = "secrets.key";
const MODULES: &str = "blobs";
const OBJECTS: &str = "objects";
const DATABASES: &str = "databases";
const MANIFEST: &str = "manifest.json";

/// Why nothing was moved, or not all of it.
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
    /// What was asked for cannot be done; nothing was changed.
    #[error("{0}")]
    Refused(String),
    /// The archive is not what it should be; nothing was changed.
    #[error("{}: {problem}", path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A store failed on the way.
    #[error("{what}: {message}; run the same command again")]
    Store {
        /// Which one.
        what: String,
        /// What it said.
        message: String,
    },
}

impl TransferError {
    fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |source| Self::File { path, source }
    }

    fn store(what: impl Into<String>, message: &dyn fmt::Display) -> Self {
        Self::Store { what: what.into(), message: message.to_string() }
    }
}

/// A part of an archive as its manifest has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its size.
    pub bytes: u64,
    /// BLAKE3 of its bytes, in hex.
    pub blake3: String,
}

/// What an archive holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The version of the archive's form.
    pub format: u32,
    /// The version of the program that wrote it.
    pub orama: String,
    /// When, in milliseconds since 1970.
    pub exported_at_ms: i64,
    /// All namespaces.
    pub namespaces: Vec<String>,
    /// Those whose database is in it.
    pub databases: Vec<String>,
    /// The master keys that its secrets need.
    pub secret_key_ids: Vec<String>,
    /// Rows by table, modules and objects.
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
        writeln!(f, "master key of the secrets: {key}")?;
        write!(f, "{} parts, {bytes} bytes", self.parts.len())
    }
}

#[cfg(test)]
mod tests;
