//! What the node bounds: memory, time, connections, and how often.

use crate::config::key::{Key, Takes};
use crate::limits::{
    ANSWER_MEMORY_MB, BODY_MEMORY_MB, BODY_TIMEOUT_SECONDS, CACHE_MEMORY_MB, CODE_CACHE_MB, CONNECTIONS,
    DISK_RESERVE_MB, DRAIN_GRACE_SECONDS, GUEST_MEMORY_MB, HEADER_TIMEOUT_SECONDS, IDLE_TIMEOUT_SECONDS,
    MODULE_CACHE_MB, NAMESPACE_SHARE_PERCENT, PARKED_MEMORY_MB, SEND_TIMEOUT_SECONDS, WEBSOCKETS,
};
use orama_runtime::limits::{COMPILE_MEMORY_MB, COMPILE_SECONDS};
use orama_store::limits::CACHE_NEAR_SECONDS;

pub(super) const KEYS: &[Key] = &[
    Key::new(
        "module_cache_mb",
        "Loaded code of all modules.",
        Takes::Number(MODULE_CACHE_MB, |c| &mut c.module_cache_mb),
    ),
    Key::new(
        "parked_memory_mb",
        "Linear memory of parked instances; 0 parks none.",
        Takes::Number(PARKED_MEMORY_MB, |c| &mut c.parked_memory_mb),
    ),
    Key::new(
        "code_cache_mb",
        "Machine code of single functions kept on disk; 0 keeps none.",
        Takes::Other {
            form: "0, or 16 to 16384 MB",
            set: |c, v| {
                c.code_cache_mb = match v.integer()? {
                    0 => 0,
                    _ => v.setting(CODE_CACHE_MB).map_err(|why| format!("{why} (0 switches it off)"))?,
                };
                Ok(())
            },
            get: |c| Some(c.code_cache_mb.to_string()),
        },
    ),
    Key::new(
        "disk_reserve_mb",
        "Free space of the disk below which deploys and stored objects are refused.",
        Takes::Number(DISK_RESERVE_MB, |c| &mut c.disk_reserve_mb),
    ),
    Key::new(
        "compile_memory_mb",
        "Memory of a process that compiles a module.",
        Takes::Number(COMPILE_MEMORY_MB, |c| &mut c.compile_memory_mb),
    ),
    Key::new(
        "compile_seconds",
        "Time of one compilation.",
        Takes::Seconds(COMPILE_SECONDS, |c| &mut c.compile_time),
    ),
    Key::new(
        "drain_grace_seconds",
        "How long a stopping node lets accepted requests finish.",
        Takes::Seconds(DRAIN_GRACE_SECONDS, |c| &mut c.drain_grace),
    ),
    Key::new(
        "header_timeout_seconds",
        "Time for the head of a request.",
        Takes::Seconds(HEADER_TIMEOUT_SECONDS, |c| &mut c.header_timeout),
    ),
    Key::new(
        "body_timeout_seconds",
        "Time for the body of a request, and 1 s more for each MiB that is allowed.",
        Takes::Seconds(BODY_TIMEOUT_SECONDS, |c| &mut c.body_timeout),
    ),
    Key::new(
        "idle_timeout_seconds",
        "How long a connection may be without a request.",
        Takes::Seconds(IDLE_TIMEOUT_SECONDS, |c| &mut c.idle_timeout),
    ),
    Key::new(
        "send_timeout_seconds",
        "How long a client may take nothing of its answer.",
        Takes::Seconds(SEND_TIMEOUT_SECONDS, |c| &mut c.send_timeout),
    ),
    Key::new(
        "guest_memory_mb",
        "Linear memory of running and parked instances, and large outputs.",
        Takes::Other {
            form: "64 to 16777216 MB",
            set: |c, v| v.setting(GUEST_MEMORY_MB).map(|n| c.shares.guest_memory_mb = Some(n)),
            get: |c| c.shares.guest_memory_mb.map(|n| n.to_string()),
        },
    )
    .default("half of the machine's or the control group's memory"),
    Key::new(
        "body_memory_mb",
        "Bodies of requests held at once.",
        Takes::Number(BODY_MEMORY_MB, |c| &mut c.shares.body_memory_mb),
    ),
    Key::new(
        "answer_memory_mb",
        "Answers that clients have not taken yet.",
        Takes::Number(ANSWER_MEMORY_MB, |c| &mut c.shares.answer_memory_mb),
    ),
    Key::new(
        "connections",
        "Connections open at once, at most half of the open files.",
        Takes::Number(CONNECTIONS, |c| &mut c.shares.connections),
    ),
    Key::new(
        "websockets",
        "WebSockets open at once, at most half of the open files.",
        Takes::Number(WEBSOCKETS, |c| &mut c.shares.websockets),
    ),
    Key::new(
        "namespace_share_percent",
        "What one namespace may hold of each share while it is alone; 100 removes the bound.",
        Takes::Number(NAMESPACE_SHARE_PERCENT, |c| &mut c.shares.namespace_percent),
    ),
    Key::new(
        "rates.requests_per_namespace",
        "Requests of a namespace.",
        Takes::Rate(|c| &mut c.shares.rates.requests.namespace),
    ),
    Key::new(
        "rates.requests_per_key",
        "Requests with one key or token.",
        Takes::Rate(|c| &mut c.shares.rates.requests.key),
    ),
    Key::new(
        "rates.requests_per_address",
        "Requests of an address without a credential of the function's namespace.",
        Takes::Rate(|c| &mut c.shares.rates.requests.address),
    ),
    Key::new(
        "rates.deploys_per_namespace",
        "Deploys of a namespace.",
        Takes::Rate(|c| &mut c.shares.rates.deploys.namespace),
    ),
    Key::new(
        "rates.deploys_per_key",
        "Deploys with one key or token.",
        Takes::Rate(|c| &mut c.shares.rates.deploys.key),
    ),
    Key::new(
        "rates.publishes_per_namespace",
        "Messages that a namespace publishes, over HTTP and by functions.",
        Takes::Rate(|c| &mut c.shares.rates.publishes.namespace),
    ),
    Key::new(
        "rates.publishes_per_key",
        "Messages published over HTTP with one key.",
        Takes::Rate(|c| &mut c.shares.rates.publishes.key),
    ),
    Key::new(
        "rates.failed_credentials_per_address",
        "Requests of an address with unknown credentials.",
        Takes::Rate(|c| &mut c.shares.rates.failed_credentials.address),
    ),
    Key::new(
        "cache.memory_mb",
        "Memory of the cache, or of the near cache.",
        Takes::Number(CACHE_MEMORY_MB, |c| &mut c.cache_memory_mb),
    ),
    Key::new(
        "cache.near_seconds",
        "How long the near cache keeps a value of a shared cache; 0 keeps none.",
        Takes::Seconds(CACHE_NEAR_SECONDS, |c| &mut c.cache_near),
    ),
];
