//! What the operator decides about a node: flags, `ORAMA_…` variables, a TOML file, and defaults, in that order.

use crate::limits::{
    AUDIT_KEEP_DAYS, BODY_TIMEOUT_SECONDS, CACHE_MEMORY_MB, CODE_CACHE_MB, DISK_RESERVE_MB,
    DRAIN_GRACE_SECONDS, HEADER_TIMEOUT_SECONDS, IDLE_TIMEOUT_SECONDS, INSTANCE_SLOTS_CHOICE,
    MODULE_CACHE_MB, PARKED_MEMORY_MB, SEND_TIMEOUT_SECONDS, WEBSOCKET_PING_SECONDS,
};
use crate::shares::ShareSettings;
use crate::telemetry::TelemetrySettings;
use keys::{Given, KEYS};
use orama_platform::secrets::{KEY_VARIABLE, MasterKeys};
use orama_platform::settings::{Places, TokenIssuer};
use orama_runtime::Effort;
use orama_runtime::limits::Setting;
use orama_runtime::limits::{COMPILE_MEMORY_MB, COMPILE_SECONDS};
use orama_runtime::web::{Cors, CorsError, CorsFields};
use orama_store::egress::EgressTarget;
use orama_store::limits::CACHE_NEAR_SECONDS;
use orama_store::settings::Backends;
use raw::RawConfig;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::de::{DeTable, DeValue};
use zeroize::Zeroizing;

mod issuers;
mod keys;
mod raw;

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

/// Everything a node needs to know before it starts. It was checked as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Address and port to serve; port 0 takes any free one.
    pub listen: SocketAddr,
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

/// Why a configuration was refused: one line that names where to look.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the config file {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{}:{line}: not valid TOML: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Counts from 1.
        line: usize,
        /// What the parser said.
        message: String,
    },
    /// A key that this version does not know.
    #[error("{}:{line}: unknown key `{key}`; the keys are {}", path.display(), key_names())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// Counts from 1.
        line: usize,
        /// The key as written.
        key: String,
    },
    /// A value that its key does not take.
    #[error("{place}: bad value for `{key}`: {message}")]
    BadValue {
        /// File and line, or the variable.
        place: Place,
        /// The key.
        key: String,
        /// What is accepted, and what was there.
        message: String,
    },
    /// The keys of the secrets are not what they must be. The message does not repeat them.
    #[error("environment variable {KEY_VARIABLE}: {0}")]
    SecretsKey(String),
    /// What is said of pages of other origins does not fit together.
    #[error("the configuration: {0}")]
    Cors(#[source] CorsError),
    /// No home folder can be derived.
    #[error("no home folder: set ORAMA_HOME, or HOME, or pass --home")]
    NoHome,
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A line of the config file, counted from 1.
    File(PathBuf, usize),
    /// An environment variable.
    Variable(String),
    /// The command line, or a default made from the environment.
    Flag,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Flag => f.write_str("command line"),
        }
    }
}

fn key_names() -> String {
    let keys = KEYS.iter().map(|key| key.name.to_owned());
    keys.chain(raw::key_names()).chain(issuers::key_names()).collect::<Vec<_>>().join(", ")
}

impl Config {
    /// Reads and checks the whole configuration.
    ///
    /// # Errors
    /// [`ConfigError`], a single line that names the file and line or the variable, the key, and what is accepted.
    pub fn load(overrides: &Overrides) -> Result<Self, ConfigError> {
        // A variable that is not UTF-8 is seen as its nearest text, so that it is refused by name and not ignored.
        Self::load_with(overrides, &|name| std::env::var_os(name).map(|v| v.to_string_lossy().into_owned()))
    }

    /// [`Self::load`] with the environment as a function, which tests and embedders choose.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_with(
        overrides: &Overrides,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        // An empty variable counts as unset, as shells make it hard to unset one for a single command.
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let mut config = Self::defaults();
        let mut raw = RawConfig::default();

        let file = overrides.config_file.clone().or_else(|| variable("ORAMA_CONFIG").map(PathBuf::from));
        if let Some(path) = file {
            config.read_file(&path, &mut raw)?;
        }
        let variable_of = |key: &str| format!("ORAMA_{}", key.to_ascii_uppercase().replace('.', "_"));
        for key in KEYS {
            let name = variable_of(key.name);
            if let Some(value) = variable(&name) {
                (key.set)(&mut config, &Given::Variable(&value)).map_err(|message| {
                    ConfigError::BadValue { place: Place::Variable(name), key: key.name.to_owned(), message }
                })?;
            }
        }
        for key in raw::key_names().filter(|key| !key.contains('*')) {
            let name = variable_of(&key);
            if let Some(value) = variable(&name) {
                raw.set(&key, &Given::Variable(&value), Place::Variable(name))?;
            }
        }
        if let Some(cors) = &config.cors {
            // Each value was checked; that nobody is allowed shows only at the end.
            Cors::try_from(cors.clone()).map_err(ConfigError::Cors)?;
        }
        config.backends = raw.finish(&config.backends.cluster, &variable)?;
        if let Some(value) = variable(KEY_VARIABLE).map(Zeroizing::new) {
            let keys = MasterKeys::parse(value.split(',').map(str::trim));
            config.secrets_keys = Some(keys.map_err(ConfigError::SecretsKey)?);
        }
        config.listen = overrides.listen.unwrap_or(config.listen);
        config.workers = overrides.workers.unwrap_or(config.workers);
        if let Some(home) = &overrides.home {
            config.home.clone_from(home);
        }
        if config.home.as_os_str().is_empty() {
            let user = variable("HOME").map(PathBuf::from).or_else(std::env::home_dir);
            config.home = user.ok_or(ConfigError::NoHome)?.join(".orama");
        }
        config.home = std::path::absolute(&config.home).map_err(|e| ConfigError::BadValue {
            place: Place::Flag,
            key: "home".to_owned(),
            message: format!("{}: {e}", config.home.display()),
        })?;
        Ok(config)
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
            backends: Backends::default(),
        }
    }

    fn read_file(&mut self, path: &Path, raw: &mut RawConfig) -> Result<(), ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        let table = DeTable::parse(&text).map_err(|e| ConfigError::Syntax {
            path: path.to_owned(),
            line: line_of(&text, e.span().map_or(0, |span| span.start)),
            message: e.message().to_owned(),
        })?;
        self.read_table(path, &text, "", table.get_ref(), raw)
    }

    /// Walked by hand, as an error must name both key and line whichever of the two is wrong.
    fn read_table(
        &mut self,
        path: &Path,
        text: &str,
        prefix: &str,
        table: &DeTable<'_>,
        raw: &mut RawConfig,
    ) -> Result<(), ConfigError> {
        // In the file's order, so that the first mistake is told first.
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in entries {
            let line = line_of(text, key.span().start);
            let name = format!("{prefix}{}", key.get_ref());
            if let DeValue::Table(inner) = value.get_ref() {
                let prefix = format!("{name}.");
                if KEYS.iter().any(|known| known.name.starts_with(&prefix)) || raw::is_table(&prefix) {
                    self.read_table(path, text, &prefix, inner, raw)?;
                    continue;
                }
            }
            if name == issuers::KEY {
                self.issuers.extend(issuers::parse(path, text, line, value.get_ref())?);
                continue;
            }
            let known = KEYS.iter().find(|known| known.name == name);
            if known.is_none() && !raw::is_key(&name) {
                return Err(ConfigError::UnknownKey { path: path.to_owned(), line, key: name });
            }
            let place = Place::File(path.to_owned(), line);
            let bad = |message| ConfigError::BadValue { place: place.clone(), key: name.clone(), message };
            let given = match value.get_ref() {
                DeValue::String(text) => Given::Text(text),
                DeValue::Integer(n) => i64::from_str_radix(n.as_str(), n.radix())
                    .map(Given::Integer)
                    .map_err(|_| bad(format!("the number {} is too large", n.as_str())))?,
                DeValue::Array(values) => {
                    let texts = values.iter().map(|value| match value.get_ref() {
                        DeValue::String(text) => Ok(&**text),
                        other => Err(bad(format!("expected texts in the list, got {}", other.type_str()))),
                    });
                    Given::List(texts.collect::<Result<_, _>>()?)
                }
                DeValue::Float(n) => {
                    Given::Float(n.as_str().parse().map_err(|_| bad("not a number".to_owned()))?)
                }
                DeValue::Boolean(yes) => Given::Boolean(*yes),
                other => Given::Other(other.type_str()),
            };
            match known {
                Some(known) => (known.set)(self, &given).map_err(bad)?,
                None => raw.set(&name, &given, place)?,
            }
        }
        Ok(())
    }
}

/// The line of a byte offset, counted from 1.
fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

#[cfg(test)]
mod tests;
