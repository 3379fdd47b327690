//! What the operator decides about a node: flags, `ORAMA_…` variables, a TOML file, and defaults, in that order.

use crate::limits::{
    AUDIT_KEEP_DAYS, BODY_TIMEOUT_SECONDS, CACHE_MEMORY_MB, CODE_CACHE_MB, DISK_RESERVE_MB,
    DRAIN_GRACE_SECONDS, HEADER_TIMEOUT_SECONDS, IDLE_TIMEOUT_SECONDS, INSTANCE_SLOTS_CHOICE,
    MODULE_CACHE_MB, PARKED_MEMORY_MB, SEND_TIMEOUT_SECONDS, WEBSOCKET_PING_SECONDS,
};
use crate::shares::ShareSettings;
use crate::telemetry::TelemetrySettings;
use orama_platform::secrets::MasterKeys;
use orama_platform::settings::{Places, TokenIssuer};
use orama_runtime::Effort;
use orama_runtime::limits::Setting;
use orama_runtime::limits::{COMPILE_MEMORY_MB, COMPILE_SECONDS};
use orama_runtime::web::CorsFields;
use orama_store::egress::EgressTarget;
use orama_store::limits::CACHE_NEAR_SECONDS;
use orama_store::settings::Backends;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

mod check;
mod error;
mod given;
mod issuers;
mod key;
mod keys;
mod load;
mod page;
mod raw;
mod report;
mod variables;

pub use check::findings;
pub use error::{ConfigError, Place};
pub(crate) use keys::LOG_VARIABLE;
pub use load::Loaded;
pub use page::page;
pub use report::Entry;
pub use variables::Misspelt;

/// Where a node listens unless it is told otherwise.
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 6001);

/// How the cores wait for the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IoDriver {
    /// What was measured to cost less: epoll.
    Auto,
    /// io_uring, or the start fails.
    IoUring,
    /// epoll.
    Epoll,
}

/// How the node writes its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What the node says of itself on standard error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// What is logged, as `tracing` has it.
    pub filter: String,
    /// How it is written.
    pub format: LogFormat,
    /// Whether each request is logged.
    pub access: bool,
}

impl LogSettings {
    /// Lines for people, without those of requests.
    #[must_use]
    pub fn text(filter: &str) -> Self {
        Self { filter: filter.to_owned(), format: LogFormat::Text, access: false }
    }
}

/// Everything a node needs to know before it starts. It was checked as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Address and port to serve; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Address and port for metrics, health and readiness alone.
    pub metrics_listen: Option<SocketAddr>,
    /// The folder that holds everything of the node; absolute.
    pub home: PathBuf,
    /// Serving threads.
    pub workers: NonZeroUsize,
    /// How the serving threads wait for the network.
    pub io_driver: IoDriver,
    /// Guests alive at once.
    pub instance_slots: u32,
    /// The CPU that code is compiled for, such as `native` or `x86-64-v3`. Whether this machine has it is found out at the start.
    pub cpu_level: String,
    /// Upper bound of loaded native code, in MB.
    pub module_cache_mb: u32,
    /// Linear memory of all guests that wait for an invocation, in MB.
    pub parked_memory_mb: u32,
    /// Upper bound of the machine code of single functions kept on disk, in MB; 0 keeps none.
    pub code_cache_mb: u32,
    /// Memory of a process that compiles a module, in MB.
    pub compile_memory_mb: u32,
    /// Wall time of one compilation.
    pub compile_time: Duration,
    /// What deploys do for fast code. No file or variable says it: only a node for development does less than everything.
    pub effort: Effort,
    /// Free space of the disk below which deploys and stored objects are refused, in MB; 0 keeps none.
    pub disk_reserve_mb: u32,
    /// Days that the audit trail is kept.
    pub audit_keep_days: u32,
    /// How long a stopping node lets accepted requests finish.
    pub drain_grace: Duration,
    /// Time for a request's headers.
    pub header_timeout: Duration,
    /// Time for a request's body.
    pub body_timeout: Duration,
    /// Time between requests of one connection.
    pub idle_timeout: Duration,
    /// Time in which a client takes some of its answer.
    pub send_timeout: Duration,
    /// What namespaces and addresses may hold, and how often they may ask.
    pub shares: ShareSettings,
    /// Upper bound of what guests keep in the cache, in MB.
    pub cache_memory_mb: u32,
    /// How long what was read of a shared cache is remembered; zero is not at all.
    pub cache_near: Duration,
    /// Private targets that guests may reach by HTTP: hosts, hosts with a port, or address ranges.
    pub egress_allow: Vec<EgressTarget>,
    /// Targets that guests may not reach by HTTP, whatever [`Self::egress_allow`] says.
    pub egress_deny: Vec<EgressTarget>,
    /// The keys of `ORAMA_SECRETS_KEY`; they win over any file. Never a key of the config file, which others may read.
    pub secrets_keys: Option<MasterKeys>,
    /// The file with the key that encrypts secrets; without it one in the home folder.
    pub secrets_key_file: Option<PathBuf>,
    /// Who signs the tokens that are accepted: the issuer of `auth.jwt`, and those of `[[auth.issuers]]`. Without any, no
    /// token is.
    pub issuers: Vec<TokenIssuer>,
    /// Origins of pages that may open WebSockets beside those of the node's own host; `*` for all.
    pub websocket_origins: Vec<String>,
    /// Which pages of other origins may call functions that do not say so themselves.
    pub cors: Option<CorsFields>,
    /// How often a WebSocket's client is asked whether it is there.
    pub websocket_ping: Duration,
    /// What is sent to a collector of traces and metrics.
    pub telemetry: TelemetrySettings,
    /// What the node logs, and how.
    pub log: LogSettings,
    /// Where everything is kept.
    pub backends: Backends,
}

/// What the command line says; it wins over everything else.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// The TOML file to read; `ORAMA_CONFIG` otherwise. Without both there is no file.
    pub config_file: Option<PathBuf>,
    /// See [`Config::listen`].
    pub listen: Option<SocketAddr>,
    /// See [`Config::home`].
    pub home: Option<PathBuf>,
    /// See [`Config::workers`].
    pub workers: Option<NonZeroUsize>,
}

impl Config {
    /// Reads and checks the whole configuration.
    ///
    /// # Errors
    /// As [`Loaded::read`].
    pub fn load(overrides: &Overrides) -> Result<Self, ConfigError> {
        Loaded::read(overrides).map(|loaded| loaded.config)
    }

    /// [`Self::load`] with the environment as a function, which tests and embedders choose.
    ///
    /// # Errors
    /// As [`Loaded::read`].
    pub fn load_with(
        overrides: &Overrides,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        Loaded::read_with(overrides, variable).map(|loaded| loaded.config)
    }

    /// Where the node keeps what it keeps.
    #[must_use]
    pub fn places(&self) -> Places {
        Places {
            home: self.home.clone(),
            backends: self.backends.clone(),
            secrets_keys: self.secrets_keys.clone(),
            secrets_key_file: self.secrets_key_file.clone(),
        }
    }

    /// What an operator may not have meant, though it works.
    #[must_use]
    pub fn remarks(&self) -> Vec<&'static str> {
        let mut remarks = self.backends.remarks();
        if self.backends.platform.is_some() && self.secrets_keys.is_none() && self.secrets_key_file.is_none()
        {
            remarks.push(
                "secrets are shared by `database.platform`, but the key is this node's own: other nodes need it too (`secrets.key_file`, or ORAMA_SECRETS_KEY)",
            );
        }
        remarks
    }

    /// What holds when nothing is said; the home folder is still open.
    fn defaults() -> Self {
        let seconds = |s: Setting| Duration::from_secs(u64::from(s.default));
        Self {
            listen: DEFAULT_LISTEN,
            metrics_listen: None,
            home: PathBuf::new(),
            workers: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            io_driver: IoDriver::Auto,
            instance_slots: INSTANCE_SLOTS_CHOICE.default,
            cpu_level: "native".to_owned(),
            module_cache_mb: MODULE_CACHE_MB.default,
            parked_memory_mb: PARKED_MEMORY_MB.default,
            code_cache_mb: CODE_CACHE_MB.default,
            compile_memory_mb: COMPILE_MEMORY_MB.default,
            compile_time: Duration::from_secs(COMPILE_SECONDS.default.into()),
            effort: Effort::Full,
            disk_reserve_mb: DISK_RESERVE_MB.default,
            audit_keep_days: AUDIT_KEEP_DAYS.default,
            drain_grace: seconds(DRAIN_GRACE_SECONDS),
            header_timeout: seconds(HEADER_TIMEOUT_SECONDS),
            body_timeout: seconds(BODY_TIMEOUT_SECONDS),
            idle_timeout: seconds(IDLE_TIMEOUT_SECONDS),
            send_timeout: seconds(SEND_TIMEOUT_SECONDS),
            shares: ShareSettings::default(),
            cache_memory_mb: CACHE_MEMORY_MB.default,
            cache_near: seconds(CACHE_NEAR_SECONDS),
            egress_allow: Vec::new(),
            egress_deny: Vec::new(),
            secrets_keys: None,
            secrets_key_file: None,
            issuers: Vec::new(),
            websocket_origins: Vec::new(),
            cors: None,
            websocket_ping: seconds(WEBSOCKET_PING_SECONDS),
            telemetry: TelemetrySettings::default(),
            log: LogSettings::text("info"),
            backends: Backends::default(),
        }
    }
}

#[cfg(test)]
mod tests;
