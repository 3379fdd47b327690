//! One immutable version of a deployed function, as the runtime sees it.

use crate::limits::{
    CONCURRENCY, KEEP_VERSIONS, MEMORY_MB, RETRY_COUNT, RETRY_DELAY_SECONDS, TIMEOUT_SECONDS,
};
use crate::names::{FunctionName, Namespace};
use crate::web::WebSettings;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The identity of a module: the BLAKE3 hash of its wasm bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct WasmHash([u8; 32]);

impl WasmHash {
    /// Hashes a module.
    #[must_use]
    pub fn of(wasm: &[u8]) -> Self {
        Self(*blake3::hash(wasm).as_bytes())
    }

    /// A hash that was stored.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for WasmHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from(self.0).to_hex())
    }
}

impl fmt::Debug for WasmHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// When instances of a function start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum StartMode {
    /// From a snapshot where there can be one. Else the node parks guests where it measures a benefit.
    #[default]
    Auto,
    /// From a snapshot of the program's start, or with the request where there can be none.
    Snapshot,
    /// Before the request. The guest is parked at the first call that could tell it about the request.
    Parked,
    /// With the request.
    Command,
}

impl StartMode {
    /// All modes, as `function.yaml` writes them.
    pub const NAMES: [&str; 4] = ["auto", "snapshot", "parked", "command"];

    /// The word in `function.yaml` and in responses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Snapshot => "snapshot",
            Self::Parked => "parked",
            Self::Command => "command",
        }
    }

    /// Whether guests may wait for their invocations.
    #[must_use]
    pub const fn may_park(self) -> bool {
        matches!(self, Self::Auto | Self::Parked)
    }

    /// Whether invocations may go on from a snapshot.
    #[must_use]
    pub const fn may_resume(self) -> bool {
        matches!(self, Self::Auto | Self::Snapshot)
    }
}

/// A word that names no [`StartMode`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("start must be one of {}, got {word:?}", StartMode::NAMES.join(", "))]
pub struct UnknownStartMode {
    word: String,
}

impl FromStr for StartMode {
    type Err = UnknownStartMode;

    fn from_str(word: &str) -> Result<Self, UnknownStartMode> {
        [Self::Auto, Self::Snapshot, Self::Parked, Self::Command]
            .into_iter()
            .find(|mode| mode.as_str() == word)
            .ok_or_else(|| UnknownStartMode { word: word.to_owned() })
    }
}

/// One version of a function. It never changes; a deploy creates a new version.
#[derive(Clone)]
pub struct FunctionVersion {
    /// The version's id, unique on the node.
    pub id: String,
    /// The tenant it belongs to.
    pub namespace: Namespace,
    /// The function's name.
    pub name: FunctionName,
    /// The number of the version; the first deploy of a name creates version 1.
    pub version: u32,
    /// The module that it runs.
    pub wasm_hash: WasmHash,
    /// The content id under which the module is stored.
    pub wasm_cid: String,
    /// Limit of linear memory in MB, within [`crate::limits::MEMORY_MB`].
    pub memory_limit_mb: u32,
    /// Timeout of an invocation in seconds, within [`crate::limits::TIMEOUT_SECONDS`].
    pub timeout_seconds: u32,
    /// Whether it can be invoked without a credential.
    pub is_public: bool,
    /// Further attempts after a failed one.
    pub retry_count: u32,
    /// Seconds between attempts.
    pub retry_delay_seconds: u32,
    /// Environment variables, for `get_env` and for WASI's environ.
    pub env: BTreeMap<String, String>,
    /// When its instances start.
    pub start: StartMode,
    /// Invocations of the function under way on a node at once, all versions together; 0 sets no limit.
    pub concurrency: u32,
    /// Newest versions of the function that its deploy left; 0 left all.
    pub keep_versions: u32,
    /// How the web may reach it.
    pub web: WebSettings,
    /// Whether the function may run at all; it belongs to the function, not to the version.
    pub is_enabled: bool,
    /// Milliseconds since the Unix epoch.
    pub created_at_ms: i64,
    /// Milliseconds since the Unix epoch.
    pub updated_at_ms: i64,
}

impl FunctionVersion {
    /// Version 1 of a private function with the default limits, no environment and no id.
    #[must_use]
    pub fn new(namespace: Namespace, name: FunctionName, wasm_hash: WasmHash) -> Self {
        Self {
            id: String::new(),
            namespace,
            name,
            version: 1,
            wasm_hash,
            wasm_cid: String::new(),
            memory_limit_mb: MEMORY_MB.default,
            timeout_seconds: TIMEOUT_SECONDS.default,
            is_public: false,
            retry_count: RETRY_COUNT.default,
            retry_delay_seconds: RETRY_DELAY_SECONDS.default,
            env: BTreeMap::new(),
            start: StartMode::default(),
            concurrency: CONCURRENCY.default,
            keep_versions: KEEP_VERSIONS.default,
            web: WebSettings::default(),
            is_enabled: true,
            created_at_ms: 0,
            updated_at_ms: 0,
        }
    }

    /// The memory limit in bytes.
    #[must_use]
    pub const fn memory_limit_bytes(&self) -> usize {
        (self.memory_limit_mb as usize) << 20
    }

    /// The timeout of an invocation.
    #[must_use]
    pub const fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds as u64)
    }
}

// Without `env`, whose values may be secrets.
impl fmt::Debug for FunctionVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FunctionVersion")
            .field("namespace", &self.namespace)
            .field("name", &self.name)
            .field("version", &self.version)
            .field("wasm_hash", &self.wasm_hash)
            .finish_non_exhaustive()
    }
}
