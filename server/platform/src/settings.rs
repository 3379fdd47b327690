//! Where a node keeps what it keeps.

use crate::secrets::MasterKeys;
use orama_store::settings::Backends;
use std::path::PathBuf;

/// The folder, the backends and the keys that hold a node's data. The node's config, or a command that moves data, says them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// The folder that holds everything of the node; absolute.
    pub home: PathBuf,
    /// Where each kind of data is: embedded, or on servers.
    pub backends: Backends,
    /// The master keys of the environment; they win over any file.
    pub secrets_keys: Option<MasterKeys>,
    /// The file with the master keys; without it one in [`Self::data`].
    pub secrets_key_file: Option<PathBuf>,
}

impl Places {
    /// The folder of the node's data.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.home.join("data")
    }
}
