//! The keys of the config file and the variables, and what each takes.

use super::{Config, IoDriver};
use crate::limits::{
    ANSWER_MEMORY_MB, AUDIT_KEEP_DAYS, BODY_MEMORY_MB, BODY_TIMEOUT_SECONDS, CACHE_MEMORY_MB, CODE_CACHE_MB,
    CONNECTIONS, DISK_RESERVE_MB, DRAIN_GRACE_SECONDS, GUEST_MEMORY_MB, HEADER_TIMEOUT_SECONDS,
    IDLE_TIMEOUT_SECONDS, INSTANCE_SLOTS_CHOICE, MODULE_CACHE_MB, NAMESPACE_SHARE_PERCENT, PARKED_MEMORY_MB,
    SEND_TIMEOUT_SECONDS, TELEMETRY_METRICS_SECONDS, WEBSOCKET_PING_SECONDS, WEBSOCKETS, WORKERS,
};
use crate::shares::{Rate, Rates, TrustedProxies};
use crate::telemetry::TelemetrySettings;
use crate::worker::AllowedOrigins;
use orama_platform::settings::TokenIssuer;
use orama_runtime::CpuLevel;
use orama_runtime::limits::Setting;
use orama_runtime::limits::{COMPILE_MEMORY_MB, COMPILE_SECONDS};
use orama_runtime::names::Namespace;
use orama_runtime::web::{Cors, CorsError, CorsFields};
use orama_store::egress::EgressTarget;
use orama_store::limits::CACHE_NEAR_SECONDS;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// A value as it was given. Variables are text even where the file has a number.
pub(super) enum Given<'a> {
    Text(&'a str),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    List(Vec<&'a str>),
    Variable(&'a str),
    Other(&'static str),
}

impl Given<'_> {
    pub(super) fn text(&self) -> Result<&str, String> {
        match self {
            Self::Text(text) | Self::Variable(text) => Ok(text),
            Self::Integer(n) => Err(format!("expected a text in quotes, got the number {n}")),
            Self::Float(n) => Err(format!("expected a text in quotes, got the number {n}")),
            Self::Boolean(yes) => Err(format!("expected a text in quotes, got {yes}")),
            Self::List(_) => Err("expected a text in quotes, got a list".to_owned()),
            Self::Other(kind) => Err(format!("expected a text in quotes, got {kind}")),
        }
    }

    pub(super) fn integer(&self) -> Result<i64, String> {
        match self {
            Self::Integer(n) => Ok(*n),
            Self::Variable(text) => {
                text.trim().parse().map_err(|_| format!("expected a whole number, got {text:?}"))
            }
            Self::Text(text) => Err(format!("expected a whole number without quotes, got {text:?}")),
            Self::Float(n) => Err(format!("expected a whole number, got {n}")),
            Self::Boolean(yes) => Err(format!("expected a whole number, got {yes}")),
            Self::List(_) => Err("expected a whole number, got a list".to_owned()),
            Self::Other(kind) => Err(format!("expected a whole number, got {kind}")),
        }
    }

    /// Texts; a variable has commas between them.
    pub(super) fn list(&self) -> Result<Vec<String>, String> {
        match self {
            Self::List(texts) => Ok(texts.iter().map(|text| (*text).to_owned()).collect()),
            Self::Variable(text) => Ok(text.split(',').map(|text| text.trim().to_owned()).collect()),
            Self::Text(_) | Self::Integer(_) | Self::Float(_) | Self::Boolean(_) | Self::Other(_) => {
                Err("expected a list of texts, such as [\"a\", \"b\"]".to_owned())
            }
        }
    }

    pub(super) fn boolean(&self) -> Result<bool, String> {
        match self {
            Self::Boolean(yes) => Ok(*yes),
            Self::Variable(text) => {
                text.trim().parse().map_err(|_| format!("expected true or false, got {text:?}"))
            }
            Self::Text(_) | Self::Integer(_) | Self::Float(_) | Self::List(_) | Self::Other(_) => {
                Err("expected true or false without quotes".to_owned())
            }
        }
    }

    pub(super) fn path(&self) -> Result<PathBuf, String> {
        match self.text()? {
            "" => Err("the path is empty".to_owned()),
            path => Ok(PathBuf::from(path)),
        }
    }

    /// A number from 0 to 1.
    pub(super) fn share(&self) -> Result<f64, String> {
        let share = match self {
            Self::Float(share) => Some(*share),
            Self::Integer(n) => Some(*n as f64),
            Self::Variable(text) => text.trim().parse().ok(),
            Self::Text(_) | Self::Boolean(_) | Self::List(_) | Self::Other(_) => None,
        };
        let is_share = |share: &f64| (0.0..=1.0).contains(share);
        share.filter(is_share).ok_or_else(|| "expected a number from 0 to 1, such as 0.01".to_owned())
    }

    pub(super) fn setting(&self, setting: Setting) -> Result<u32, String> {
        setting.check(self.integer()?)
    }

    pub(super) fn seconds(&self, setting: Setting) -> Result<Duration, String> {
        self.setting(setting).map(|s| Duration::from_secs(u64::from(s)))
    }
}

pub(super) type Set = fn(&mut Config, &Given<'_>) -> Result<(), String>;

/// One option: its key in the file, with its table's name before a dot. The variable is `ORAMA_` and the key in capitals,
/// `_` for the dot.
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) set: Set,
}

pub(super) const KEYS: &[Key] = &[
    Key { name: "listen", set: |c, v| listen_address(v.text()?).map(|a| c.listen = a) },
    Key { name: "home", set: |c, v| v.path().map(|path| c.home = path) },
    Key {
        name: "workers",
        set: |c, v| {
            let n = usize::try_from(v.setting(WORKERS)?).ok().and_then(NonZeroUsize::new);
            c.workers = n.ok_or("must be at least 1")?;
            Ok(())
        },
    },
    Key {
        name: "io_driver",
        set: |c, v| {
            c.io_driver = match v.text()? {
                "auto" => IoDriver::Auto,
                "io_uring" => IoDriver::IoUring,
                "epoll" => IoDriver::Epoll,
                other => return Err(format!("expected \"auto\", \"io_uring\" or \"epoll\", got {other:?}")),
            };
            Ok(())
        },
    },
    Key {
        name: "instance_slots",
        set: |c, v| v.setting(INSTANCE_SLOTS_CHOICE).map(|n| c.instance_slots = n),
    },
    Key {
        name: "cpu_level",
        set: |c, v| {
            let level = v.text()?;
            level.parse::<CpuLevel>().map_err(|error| error.to_string())?;
            c.cpu_level = level.to_owned();
            Ok(())
        },
    },
    Key { name: "module_cache_mb", set: |c, v| v.setting(MODULE_CACHE_MB).map(|n| c.module_cache_mb = n) },
    Key { name: "parked_memory_mb", set: |c, v| v.setting(PARKED_MEMORY_MB).map(|n| c.parked_memory_mb = n) },
    Key {
        name: "audit.keep_days",
        set: |c, v| v.setting(AUDIT_KEEP_DAYS).map(|days| c.audit_keep_days = days),
    },
    Key {
        name: "code_cache_mb",
        set: |c, v| {
            c.code_cache_mb = match v.integer()? {
                0 => 0,
                _ => v.setting(CODE_CACHE_MB).map_err(|why| format!("{why} (0 switches it off)"))?,
            };
            Ok(())
        },
    },
    Key { name: "disk_reserve_mb", set: |c, v| v.setting(DISK_RESERVE_MB).map(|n| c.disk_reserve_mb = n) },
    Key {
        name: "compile_memory_mb",
        set: |c, v| v.setting(COMPILE_MEMORY_MB).map(|n| c.compile_memory_mb = n),
    },
    Key { name: "compile_seconds", set: |c, v| v.seconds(COMPILE_SECONDS).map(|d| c.compile_time = d) },
    Key {
        name: "drain_grace_seconds",
        set: |c, v| v.seconds(DRAIN_GRACE_SECONDS).map(|d| c.drain_grace = d),
    },
    Key {
        name: "header_timeout_seconds",
        set: |c, v| v.seconds(HEADER_TIMEOUT_SECONDS).map(|d| c.header_timeout = d),
    },
    Key {
        name: "body_timeout_seconds",
        set: |c, v| v.seconds(BODY_TIMEOUT_SECONDS).map(|d| c.body_timeout = d),
    },
    Key {
        name: "idle_timeout_seconds",
        set: |c, v| v.seconds(IDLE_TIMEOUT_SECONDS).map(|d| c.idle_timeout = d),
    },
    Key {
        name: "send_timeout_seconds",
        set: |c, v| v.seconds(SEND_TIMEOUT_SECONDS).map(|d| c.send_timeout = d),
    },
    Key {
        name: "guest_memory_mb",
        set: |c, v| v.setting(GUEST_MEMORY_MB).map(|n| c.shares.guest_memory_mb = Some(n)),
    },
    Key {
        name: "body_memory_mb",
        set: |c, v| v.setting(BODY_MEMORY_MB).map(|n| c.shares.body_memory_mb = n),
    },
    Key {
        name: "answer_memory_mb",
        set: |c, v| v.setting(ANSWER_MEMORY_MB).map(|n| c.shares.answer_memory_mb = n),
    },
    Key { name: "connections", set: |c, v| v.setting(CONNECTIONS).map(|n| c.shares.connections = n) },
    Key { name: "websockets", set: |c, v| v.setting(WEBSOCKETS).map(|n| c.shares.websockets = n) },
    Key {
        name: "namespace_share_percent",
        set: |c, v| v.setting(NAMESPACE_SHARE_PERCENT).map(|n| c.shares.namespace_percent = n),
    },
    Key {
        name: "trusted_proxies",
        set: |c, v| TrustedProxies::parse(&v.list()?).map(|proxies| c.shares.trusted_proxies = proxies),
    },
    Key {
        name: "rates.requests_per_namespace",
        set: |c, v| rate(v).map(|rate| c.shares.rates.requests.namespace = rate),
    },
    Key {
        name: "rates.requests_per_key",
        set: |c, v| rate(v).map(|rate| c.shares.rates.requests.key = rate),
    },
    Key {
        name: "rates.requests_per_address",
        set: |c, v| rate(v).map(|rate| c.shares.rates.requests.address = rate),
    },
    Key {
        name: "rates.deploys_per_namespace",
        set: |c, v| rate(v).map(|rate| c.shares.rates.deploys.namespace = rate),
    },
    Key { name: "rates.deploys_per_key", set: |c, v| rate(v).map(|rate| c.shares.rates.deploys.key = rate) },
    Key {
        name: "rates.publishes_per_namespace",
        set: |c, v| rate(v).map(|rate| c.shares.rates.publishes.namespace = rate),
    },
    Key {
        name: "rates.publishes_per_key",
        set: |c, v| rate(v).map(|rate| c.shares.rates.publishes.key = rate),
    },
    Key {
        name: "rates.failed_credentials_per_address",
        set: |c, v| rate(v).map(|rate| c.shares.rates.failed_credentials.address = rate),
    },
    Key { name: "cache.memory_mb", set: |c, v| v.setting(CACHE_MEMORY_MB).map(|n| c.cache_memory_mb = n) },
    Key { name: "cache.near_seconds", set: |c, v| v.seconds(CACHE_NEAR_SECONDS).map(|d| c.cache_near = d) },
    Key { name: "egress.allow", set: |c, v| targets(v).map(|targets| c.egress_allow = targets) },
    Key { name: "egress.deny", set: |c, v| targets(v).map(|targets| c.egress_deny = targets) },
    Key {
        name: "cluster",
        set: |c, v| {
            let name = v.text()?;
            c.backends.cluster = Namespace::new(name).map_err(|error| error.to_string())?.to_string();
            Ok(())
        },
    },
    Key { name: "secrets.key_file", set: |c, v| v.path().map(|path| c.secrets_key_file = Some(path)) },
    Key { name: "auth.jwt", set: |c, v| v.path().map(|path| set_token_file(&mut c.issuers, path)) },
    Key {
        name: "websocket.allowed_origins",
        set: |c, v| {
            let origins = v.list()?;
            AllowedOrigins::parse(&origins)?;
            c.websocket_origins = origins;
            Ok(())
        },
    },
    Key {
        name: "cors.origins",
        set: |c, v| {
            let origins = v.list()?;
            set_cors(c, |cors| cors.origins = origins)
        },
    },
    Key {
        name: "cors.methods",
        set: |c, v| {
            let methods = v.list()?;
            set_cors(c, |cors| cors.methods = methods)
        },
    },
    Key {
        name: "cors.headers",
        set: |c, v| {
            let headers = v.list()?;
            set_cors(c, |cors| cors.headers = headers)
        },
    },
    Key {
        name: "cors.credentials",
        set: |c, v| {
            let credentials = v.boolean()?;
            set_cors(c, |cors| cors.credentials = credentials)
        },
    },
    Key {
        name: "cors.max_age",
        set: |c, v| {
            let seconds = v.integer()?;
            set_cors(c, |cors| cors.max_age = seconds)
        },
    },
    Key {
        name: "websocket.ping_seconds",
        set: |c, v| v.seconds(WEBSOCKET_PING_SECONDS).map(|d| c.websocket_ping = d),
    },
    Key {
        name: "telemetry.endpoint",
        set: |c, v| {
            c.telemetry.endpoint = Some(TelemetrySettings::endpoint(v.text()?)?);
            Ok(())
        },
    },
    Key { name: "telemetry.sample", set: |c, v| v.share().map(|share| c.telemetry.sample = share) },
    Key {
        name: "telemetry.metrics_seconds",
        set: |c, v| v.seconds(TELEMETRY_METRICS_SECONDS).map(|d| c.telemetry.metrics_every = d),
    },
];

/// `auth.jwt` is one issuer: a variable replaces what the file says of it.
fn set_token_file(issuers: &mut Vec<TokenIssuer>, path: PathBuf) {
    issuers.retain(|issuer| issuer.issuer.is_some());
    issuers.insert(0, TokenIssuer::file(path));
}

/// Changes what the node says of pages of other origins, and checks it as far as it was said.
fn set_cors(config: &mut Config, set: impl FnOnce(&mut CorsFields)) -> Result<(), String> {
    let cors = config.cors.get_or_insert_default();
    set(cors);
    match Cors::try_from(cors.clone()) {
        Ok(_) | Err(CorsError::NoOrigin) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

fn targets(given: &Given<'_>) -> Result<Vec<EgressTarget>, String> {
    given.list()?.iter().map(|entry| entry.parse()).collect()
}

/// A rate, or `off` for none.
fn rate(given: &Given<'_>) -> Result<Option<Rate>, String> {
    Rates::parse(given.text()?)
}

fn listen_address(text: &str) -> Result<SocketAddr, String> {
    SocketAddr::from_str(text)
        .map_err(|_| format!("expected an IP address and a port, such as 127.0.0.1:6001, got {text:?}"))
}
