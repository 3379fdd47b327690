//! What a namespace may have so much of: the quotas, their defaults, and what to do when one is used up.

use crate::limits::{
    ENV_TOTAL_MAX_BYTES, FUNCTION_NAMES_MAX, FUNCTIONS_MAX, MODULES_TOTAL_MAX_BYTES, STORAGE_OBJECTS_MAX,
    STORAGE_TOTAL_MAX_BYTES, VERSIONS_MAX,
};
use orama_store::limits::DB_MAX_BYTES;
use std::fmt;

/// Something that is counted for each namespace and bounded. An operator may set another bound than the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quota {
    /// Functions that exist.
    Functions,
    /// Names that functions ever had: a name keeps its version numbers when its function is deleted.
    FunctionNames,
    /// Versions of one function.
    Versions,
    /// Bytes of all modules; one that several versions run counts once.
    ModuleBytes,
    /// Bytes of the environments of all versions.
    EnvBytes,
    /// Stored objects.
    Objects,
    /// Their bytes.
    ObjectBytes,
    /// Bytes of the namespace's database, where it is a file of the node's.
    DatabaseBytes,
}

impl Quota {
    /// Every quota, in the order in which they are shown.
    pub const ALL: [Self; 8] = [
        Self::Functions,
        Self::FunctionNames,
        Self::Versions,
        Self::ModuleBytes,
        Self::EnvBytes,
        Self::Objects,
        Self::ObjectBytes,
        Self::DatabaseBytes,
    ];

    /// The name in the API and in the registry.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Functions => "functions",
            Self::FunctionNames => "function_names",
            Self::Versions => "versions",
            Self::ModuleBytes => "module_bytes",
            Self::EnvBytes => "env_bytes",
            Self::Objects => "objects",
            Self::ObjectBytes => "object_bytes",
            Self::DatabaseBytes => "database_bytes",
        }
    }

    /// The quota of a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|quota| quota.name() == name)
    }

    /// The bound where the operator set none.
    #[must_use]
    pub const fn default_limit(self) -> u64 {
        match self {
            Self::Functions => FUNCTIONS_MAX,
            Self::FunctionNames => FUNCTION_NAMES_MAX,
            Self::Versions => VERSIONS_MAX,
            Self::ModuleBytes => MODULES_TOTAL_MAX_BYTES,
            Self::EnvBytes => ENV_TOTAL_MAX_BYTES,
            Self::Objects => STORAGE_OBJECTS_MAX,
            Self::ObjectBytes => STORAGE_TOTAL_MAX_BYTES,
            Self::DatabaseBytes => DB_MAX_BYTES as u64,
        }
    }

    /// The largest bound that an operator can set: what SQLite's and JSON's numbers hold alike, and what a database can have.
    #[must_use]
    pub const fn largest_limit(self) -> u64 {
        match self {
            Self::DatabaseBytes => DB_MAX_BYTES as u64,
            _ => 1 << 53,
        }
    }

    /// What a tenant can do when it is used up.
    const fn advice(self) -> &'static str {
        match self {
            Self::Functions => "delete functions that are not used",
            Self::FunctionNames => "deploy under a name that was used before",
            Self::Versions => "delete versions that are not used",
            Self::ModuleBytes | Self::EnvBytes => "delete versions or functions that are not used",
            Self::Objects | Self::ObjectBytes => "delete the namespace if its objects are not used",
            Self::DatabaseBytes => "delete rows that are not used",
        }
    }
}

/// How much of a quota a namespace uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// What is counted.
    pub quota: Quota,
    /// How much there is; of [`Quota::Versions`], that of the function that has most.
    pub used: u64,
    /// How much there may be.
    pub limit: u64,
}

/// From this share on, in percent, a tenant is warned.
const WARN_PERCENT: u64 = 80;

impl Usage {
    /// The share that is used, in whole percent, rounded down.
    #[must_use]
    pub const fn percent(&self) -> u64 {
        let limit = if self.limit == 0 { 1 } else { self.limit };
        (self.used as u128 * 100 / limit as u128) as u64
    }

    /// Whether so much is used that the tenant should know before it is used up.
    #[must_use]
    pub const fn is_near(&self) -> bool {
        self.percent() >= WARN_PERCENT
    }

    /// Says so to the tenant.
    #[must_use]
    pub fn warning(&self) -> String {
        let Self { quota, used, limit } = self;
        format!(
            "{}% of the quota `{}` is used: {used} of {limit}; {}, or ask the operator for a higher quota",
            self.percent(),
            quota.name(),
            quota.advice()
        )
    }
}

/// A change would exceed a quota.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct QuotaExceeded {
    /// The namespace.
    pub namespace: String,
    /// The quota.
    pub quota: Quota,
    /// How much there is.
    pub used: u64,
    /// How much the change would add.
    pub more: u64,
    /// How much there may be.
    pub limit: u64,
}

impl fmt::Display for QuotaExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { namespace, quota, used, more, limit } = self;
        write!(
            f,
            "namespace {namespace:?} would exceed its quota `{}`: {used} used, {more} more, {limit} allowed; {}, or ask \
             the operator for a higher quota",
            quota.name(),
            quota.advice()
        )
    }
}
