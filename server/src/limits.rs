//! The limits of the node's sockets, requests and cores. Each has its default, minimum, maximum and reason.

use orama_runtime::limits::{INSTANCE_SLOTS, Setting, TIMEOUT_SECONDS, WASM_MAX_BYTES};
use std::time::Duration;

/// Largest deploy request: the module and 1 MiB for the form's other fields.
pub const DEPLOY_MAX_BYTES: usize = WASM_MAX_BYTES + (1 << 20);

/// Largest body of any other control-plane request, in bytes.
pub const CONTROL_BODY_MAX_BYTES: usize = 1 << 20;

/// Cores of a node; the default is one for each processor.
pub const WORKERS: Setting = Setting { name: "workers", default: 1, min: 1, max: 1024, unit: "threads" };

/// The configurable value of [`INSTANCE_SLOTS`]; the maximum is what 47 bits of address space can hold.
pub const INSTANCE_SLOTS_CHOICE: Setting =
    Setting { name: "instance_slots", default: INSTANCE_SLOTS, min: 1, max: 24_576, unit: "instances" };

/// Loaded native code of all modules.
pub const MODULE_CACHE_MB: Setting =
    Setting { name: "module_cache_mb", default: 1024, min: 16, max: 1 << 20, unit: "MB" };

/// The grace period of a stopping node, in which accepted requests finish; the longest invocation takes 300 s.
pub const DRAIN_GRACE_SECONDS: Setting =
    Setting { name: "drain_grace_seconds", default: 30, min: 0, max: 600, unit: "seconds" };

/// Days that the audit trail is kept.
pub const AUDIT_KEEP_DAYS: Setting =
    Setting { name: "audit.keep_days", default: 90, min: 1, max: 3650, unit: "days" };

/// Time from the first byte of a request to the end of its headers.
pub const HEADER_TIMEOUT_SECONDS: Setting =
    Setting { name: "header_timeout_seconds", default: 10, min: 1, max: 300, unit: "seconds" };

/// Time from the end of a request's headers to the end of its body.
pub const BODY_TIMEOUT_SECONDS: Setting =
    Setting { name: "body_timeout_seconds", default: 30, min: 1, max: 3600, unit: "seconds" };

/// How long a connection may stay open between requests. Above the 60 s for which common proxies reuse one.
pub const IDLE_TIMEOUT_SECONDS: Setting =
    Setting { name: "idle_timeout_seconds", default: 75, min: 1, max: 3600, unit: "seconds" };

/// Invocations that one logs request returns.
pub const LOGS_LIMIT: Setting =
    Setting { name: "limit", default: 50, min: 1, max: 1000, unit: "invocations" };

/// Entries of one page of a list.
pub const LIST_LIMIT: Setting = Setting { name: "limit", default: 1000, min: 1, max: 1000, unit: "entries" };

/// Free disk space below which deploys and objects are refused: enough for hours of the node's own logs and records.
pub const DISK_RESERVE_MB: Setting =
    Setting { name: "disk_reserve_mb", default: 512, min: 0, max: 1 << 20, unit: "MB" };

/// Known credentials that a core remembers, and the control plane too, each about 200 bytes.
pub const CREDENTIALS_KNOWN_MAX: usize = 16_384;

/// Refused credentials that each of them remembers.
pub const CREDENTIALS_UNKNOWN_MAX: usize = 4_096;

/// Memory of all request bodies: four of the largest deploys, of which one namespace may have two.
pub const BODY_MEMORY_MB: Setting =
    Setting { name: "body_memory_mb", default: 264, min: 140, max: 1 << 20, unit: "MB" };

/// Bodies up to this size, in bytes, are not counted: the limits of connections and invocations bound their number.
pub const BODY_COUNTED_FROM_BYTES: usize = 64 << 10;

/// What a body takes of that whose rest arrives while its function runs: twice what the HTTP library buffers at most (408 KiB),
/// once read and once not.
pub const UPLOAD_ROOM_BYTES: usize = 1 << 20;

/// Memory of all answers that clients have not read yet: 32 of the largest.
pub const ANSWER_MEMORY_MB: Setting =
    Setting { name: "answer_memory_mb", default: 256, min: 32, max: 1 << 20, unit: "MB" };

/// Answers up to this size, in bytes, are not counted: a connection has one at a time, and most fit into the socket's buffer.
pub const ANSWER_COUNTED_FROM_BYTES: usize = 16 << 10;

/// Output up to this size, in bytes, is checked and encoded on the core, and larger output on the backplane. 64 KiB take up
/// to 0.2 ms.
pub const ENCODED_ON_CORE_MAX_BYTES: usize = 64 << 10;

/// Open connections. An idle one takes some 15 kB.
pub const CONNECTIONS: Setting =
    Setting { name: "connections", default: 32_768, min: 16, max: 1 << 20, unit: "connections" };

/// Concurrent requests of the control plane. They wait for disks and servers, and each may hold an answer of some MB.
pub const CONTROL_REQUESTS_MAX: usize = 512;

/// The part of each share that one namespace may hold while it is alone; see [`crate::shares`]. 100 disables the bound.
pub const NAMESPACE_SHARE_PERCENT: Setting =
    Setting { name: "namespace_share_percent", default: 50, min: 1, max: 100, unit: "percent" };

/// Linear memory of all running and parked guests.
pub const GUEST_MEMORY_MB: Setting =
    Setting { name: "guest_memory_mb", default: 2048, min: 64, max: 1 << 24, unit: "MB" };

/// The default part of the machine's or the control group's memory for guests: one in so many. The rest is for code, caches,
/// SQLite, compiling and the kernel.
pub const GUEST_MEMORY_PART: u64 = 2;

/// Memory for guests if the system does not tell how much there is.
pub const GUEST_MEMORY_FALLBACK_MB: u32 = GUEST_MEMORY_MB.default;

/// How long a client may read nothing of its answer.
pub const SEND_TIMEOUT_SECONDS: Setting =
    Setting { name: "send_timeout_seconds", default: 30, min: 1, max: 3600, unit: "seconds" };

/// Bytes of a body that must arrive within [`BODY_WINDOW`]: the slowest mobile networks deliver ten times as much.
pub const BODY_WINDOW_LEAST_BYTES: usize = 10 << 10;
/// See [`BODY_WINDOW_LEAST_BYTES`].
pub const BODY_WINDOW: Duration = Duration::from_secs(10);

/// How long a refused credential or an unknown function is cached.
pub const UNKNOWN_KNOWN_FOR: Duration = Duration::from_secs(1);

/// Records that a core collects before it submits them, and the longest time that it keeps one. Together with
/// [`RECORD_COMMIT_EVERY`] a crash loses less than 100 ms.
pub const RECORD_BATCH_MAX: usize = 256;
/// See [`RECORD_BATCH_MAX`].
pub const RECORD_BATCH_EVERY: Duration = Duration::from_millis(10);

/// Queued commands of a core: connections from other cores, triggered runs, questions. If the queue is full, runs are refused,
/// connections are dropped, and questions wait.
pub const CORE_COMMANDS_MAX: usize = 4096;

/// Largest value of a secret, in bytes: a certificate chain fits.
pub const SECRET_VALUE_MAX_BYTES: usize = 64 << 10;

/// How long a request may last with all its attempts and pauses: the longest timeout of one attempt.
pub const RETRY_PATIENCE: Duration = Duration::from_secs(TIMEOUT_SECONDS.max as u64);

/// How often key files (tokens, master keys) are checked for changes.
pub const TOKEN_KEYS_LOOK_EVERY: Duration = Duration::from_secs(2);

/// Memory of the cache, in MB; the minimum holds the largest values of a few namespaces.
pub const CACHE_MEMORY_MB: Setting =
    Setting { name: "cache.memory_mb", default: 256, min: 16, max: 1 << 20, unit: "MB" };

/// The part of the instance slots for triggered functions, one in so many: half of them are left for requests.
pub const TRIGGERED_SHARE: usize = 2;

/// Dead letters that one request returns.
pub const DEAD_LETTERS_LIMIT: Setting =
    Setting { name: "limit", default: 50, min: 1, max: 1000, unit: "dead letters" };

/// Open WebSockets; an idle one takes some 10 kB. Their messages count in [`BODY_MEMORY_MB`].
pub const WEBSOCKETS: Setting =
    Setting { name: "websockets", default: 20_000, min: 1, max: 1 << 20, unit: "WebSockets" };

/// Queued messages of one WebSocket. With more, or with [`INPUT_MAX_BYTES`] of them, nothing is read until the current message
/// has been answered.
pub const WEBSOCKET_WAITING_MAX: usize = 16;

/// Messages of a WebSocket up to this size, in bytes, are not counted in [`BODY_MEMORY_MB`].
pub const WEBSOCKET_COUNTED_FROM_BYTES: usize = 16 << 10;

/// Interval of WebSocket pings; below the 60 s after which common proxies close a connection.
pub const WEBSOCKET_PING_SECONDS: Setting =
    Setting { name: "websocket.ping_seconds", default: 30, min: 1, max: 300, unit: "seconds" };

/// How often metrics are sent to a collector; 0 is never.
pub const TELEMETRY_METRICS_SECONDS: Setting =
    Setting { name: "telemetry.metrics_seconds", default: 60, min: 0, max: 3600, unit: "seconds" };

/// Consecutive pings that a WebSocket's client may leave unanswered.
pub const WEBSOCKET_PINGS_UNANSWERED_MAX: u32 = 2;

/// Linear memory of all parked guests of a node. They touch less of it (Go hello: 0.9 of 4.4 MB). Zero disables parking.
pub const PARKED_MEMORY_MB: Setting =
    Setting { name: "parked_memory_mb", default: 512, min: 0, max: 1 << 20, unit: "MB" };

/// The maximum part of [`GUEST_MEMORY_MB`] for parked guests, even if [`PARKED_MEMORY_MB`] is larger: one in so many.
pub const PARKED_MEMORY_PART: usize = 4;

/// The part of one namespace in [`PARKED_MEMORY_MB`] and in the number of parked guests of a core: one in so many.
pub const PARKED_NAMESPACE_PART: usize = 4;

/// The part of a core's instances that may be parked: one in so many.
pub const PARKED_SLOTS_PART: usize = 2;

/// Memory mappings of a loaded module: its file, in which the code is executable, and its memory image.
pub const MODULE_MAPPINGS: u64 = 4;

/// Memory mappings of one instance slot: the stack, its guard page, and the linear memory (the module's image, the grown part,
/// the reserved part).
pub const SLOT_MAPPINGS: u64 = 6;

/// Memory mappings of everything else: the program, its libraries, its heap and the stacks of its threads.
pub const MAPPINGS_OF_NODE: u64 = 4096;

/// Maximum memory mappings if the system does not tell: Linux's default.
pub const MAPPINGS_DEFAULT: u64 = 65_530;

/// The part of the file descriptors for loaded modules, one in so many; the others are for sockets and files.
pub const MODULES_DESCRIPTORS_SHARE: u64 = 2;

/// Descriptors of a loaded module: its code's, and its memory image's.
pub const MODULE_DESCRIPTORS: u64 = 2;

/// Modules that may be loaded even if the system allows less.
pub const MODULES_FEWEST: usize = 8;

/// Size of the code cache on disk. A Go module takes some 12 MB, and each edit of it one or two more. The index takes 1.5% of it
/// in memory after the first compilation. At the minimum, a file still holds a batch.
pub const CODE_CACHE_MB: Setting =
    Setting { name: "code_cache_mb", default: 256, min: 16, max: 16_384, unit: "MB" };
