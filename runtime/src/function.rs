//! What the runtime knows of a deployed function: one immutable version of it.

use crate::names::{FunctionName, Namespace};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The identity of a wasm module: BLAKE3 of its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct WasmHash([u8; 32]);

impl WasmHash {
    /// Hashes a module.
    #[must_use]
    pub fn of(wasm: &[u8]) -> Self {
        Self(*blake3::hash(wasm).as_bytes())
    }

    /// Takes a hash that was stored.
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

/// How instances of a function come to their invocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StartMode {
    /// Parked where the node finds that it helps.
    #[default]
    Auto,
    /// Started before there is a request, and parked where they would look at it.
    Parked,
    /// Started by the request.
    Command,
}

impl StartMode {
    /// All of them, as they are written.
    pub const NAMES: [&str; 3] = ["auto", "parked", "command"];

    /// The word in `function.yaml` and in answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Parked => "parked",
            Self::Command => "command",
        }
    }
}

impl FromStr for StartMode {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        [Self::Auto, Self::Parked, Self::Command]
            .into_iter()
            .find(|mode| mode.as_str() == word)
            .ok_or_else(|| format!("start must be one of {}, got {word:?}", Self::NAMES.join(", ")))
    }
}

/// One version of a function. It never changes: a change is a new version.
#[derive(Clone)]
pub struct FunctionVersion {
    /// The version's id, unique on the node.
    pub id: String,
    /// The tenant it belongs to.
    pub namespace: Namespace,
    /// The function's name.
    pub name: FunctionName,
    /// Counts from 1 with each deploy of the name.
    pub version: u32,
    /// Which module it runs.
    pub wasm_hash: WasmHash,
    /// Under which content id the module is stored.
    pub wasm_cid: String,
    /// Linear memory limit in MB, within [`crate::limits::MEMORY_MB`].
    pub memory_limit_mb: u32,
    /// Wall time limit in seconds, within [`crate::limits::TIMEOUT_SECONDS`].
    pub timeout_seconds: u32,
    /// Whether it may be invoked without a credential.
    pub is_public: bool,
    /// Further attempts after a failure.
    pub retry_count: u32,
    /// Seconds between attempts.
    pub retry_delay_seconds: u32,
    /// Environment variables, readable by `get_env` and as WASI's environ.
    pub env: BTreeMap<String, String>,
    /// How its instances come to their invocation.
    pub start: StartMode,
    /// Milliseconds since the Unix epoch.
    pub created_at_ms: i64,
    /// Milliseconds since the Unix epoch.
    pub updated_at_ms: i64,
}

impl FunctionVersion {
    /// The memory limit in bytes.
    #[must_use]
    pub const fn memory_limit_bytes(&self) -> usize {
        (self.memory_limit_mb as usize) << 20
    }

    /// The wall time limit.
    #[must_use]
    pub const fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds as u64)
    }
}

// Environment values may be tenants' secrets, so they are left out.
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
