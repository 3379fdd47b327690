//! What the author of a version chooses beside its module.

use orama_runtime::function::{FunctionVersion, StartMode};
use orama_runtime::limits::{
    CONCURRENCY, KEEP_VERSIONS, MEMORY_MB, RETRY_COUNT, RETRY_DELAY_SECONDS, TIMEOUT_SECONDS,
};
use orama_runtime::web::WebSettings;
use std::collections::BTreeMap;

/// Settings that the author of a version chose. Every value has been checked.
#[derive(Clone)]
pub struct VersionSettings {
    /// Memory limit in MB.
    pub memory_limit_mb: u32,
    /// Timeout in seconds.
    pub timeout_seconds: u32,
    /// Whether it may be invoked without a credential.
    pub is_public: bool,
    /// Retries after a failure.
    pub retry_count: u32,
    /// Seconds between attempts.
    pub retry_delay_seconds: u32,
    /// How its instances are started.
    pub start: StartMode,
    /// Invocations of the function under way on a node at once; 0 sets no limit.
    pub concurrency: u32,
    /// Newest versions that the deploy leaves, this one included; 0 leaves all.
    pub keep_versions: u32,
    /// How the web may reach it.
    pub web: WebSettings,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
}

impl Default for VersionSettings {
    fn default() -> Self {
        Self {
            memory_limit_mb: MEMORY_MB.default,
            timeout_seconds: TIMEOUT_SECONDS.default,
            is_public: false,
            retry_count: RETRY_COUNT.default,
            retry_delay_seconds: RETRY_DELAY_SECONDS.default,
            start: StartMode::default(),
            concurrency: CONCURRENCY.default,
            keep_versions: KEEP_VERSIONS.default,
            web: WebSettings::default(),
            env: BTreeMap::new(),
        }
    }
}

impl From<&FunctionVersion> for VersionSettings {
    fn from(version: &FunctionVersion) -> Self {
        Self {
            memory_limit_mb: version.memory_limit_mb,
            timeout_seconds: version.timeout_seconds,
            is_public: version.is_public,
            retry_count: version.retry_count,
            retry_delay_seconds: version.retry_delay_seconds,
            start: version.start,
            concurrency: version.concurrency,
            keep_versions: version.keep_versions,
            web: version.web.clone(),
            env: version.env.clone(),
        }
    }
}
