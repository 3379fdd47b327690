//! Every limit of the node: sockets, requests, cores: default, minimum, maximum and the reason for each.

use orama_runtime::limits::{INSTANCE_SLOTS, Setting, TIMEOUT_SECONDS, WASM_MAX_BYTES};
use std::time::Duration;

/// Largest deploy request: the module and 1 MiB for the form's other fields.
pub const DEPLOY_MAX_BYTES: usize = WASM_MAX_BYTES + (1 << 20);

/// Largest body of any other control-plane request, in bytes.
pub const CONTROL_BODY_MAX_BYTES: usize = 1 << 20;

/// Serving threads of a node; the default is one a core.
pub const WORKERS: Setting = Setting { name: "workers", default: 1, min: 1, max: 1024, unit: "threads" };

/// The config's choice of [`INSTANCE_SLOTS`]; the upper end is what 47 bits of address space hold.
pub const INSTANCE_SLOTS_CHOICE: Setting =
    Setting { name: "instance_slots", default: INSTANCE_SLOTS, min: 1, max: 24_576, unit: "instances" };

/// Loaded native code of all modules together.
pub const MODULE_CACHE_MB: Setting =
    Setting { name: "module_cache_mb", default: 1024, min: 16, max: 1 << 20, unit: "MB" };

/// How long a stopping node lets accepted requests finish; the longest invocation takes 300 s.
pub const DRAIN_GRACE_SECONDS: Setting =
    Setting { name: "drain_grace_seconds", default: 30, min: 0, max: 600, unit: "seconds" };

/// From the first byte of a request to the end of its headers.
pub const HEADER_TIMEOUT_SECONDS: Setting =
    Setting { name: "header_timeout_seconds", default: 10, min: 1, max: 300, unit: "seconds" };

/// From the end of a request's headers to the end of its body.
pub const BODY_TIMEOUT_SECONDS: Setting =
    Setting { name: "body_timeout_seconds", default: 30, min: 1, max: 3600, unit: "seconds" };

/// How long a connection may stay open between requests. Above the 60 s for which common proxies reuse one.
pub const IDLE_TIMEOUT_SECONDS: Setting =
    Setting { name: "idle_timeout_seconds", default: 75, min: 1, max: 3600, unit: "seconds" };

/// Invocations that one logs request returns.
pub const LOGS_LIMIT: Setting =
    Setting { name: "limit", default: 50, min: 1, max: 1000, unit: "invocations" };

/// Entries that one list returns: what lists returned before they had pages.
pub const LIST_LIMIT: Setting = Setting { name: "limit", default: 1000, min: 1, max: 1000, unit: "entries" };

/// Free space of the disk below which deploys and stored objects are refused: the node's own logs and records go on for hours.
pub const DISK_RESERVE_MB: Setting =
    Setting { name: "disk_reserve_mb", default: 512, min: 0, max: 1 << 20, unit: "MB" };

/// Known credentials that a core remembers, and the control plane too, each about 200 bytes.
pub const CREDENTIALS_KNOWN_MAX: usize = 16_384;

/// Refused credentials that each of them remembers.
pub const CREDENTIALS_UNKNOWN_MAX: usize = 4_096;

/// Bodies of requests held in memory at once: four deploys of the largest size, of which one namespace alone may bring two.
pub const BODY_MEMORY_MB: Setting =
    Setting { name: "body_memory_mb", default: 264, min: 140, max: 1 << 20, unit: "MB" };

/// Bodies up to this size, in bytes, are not counted: their number is bounded by that of connections and invocations.
pub const BODY_COUNTED_FROM_BYTES: usize = 64 << 10;

/// Answers that their clients have not taken yet: 32 of the largest size.
pub const ANSWER_MEMORY_MB: Setting =
    Setting { name: "answer_memory_mb", default: 256, min: 32, max: 1 << 20, unit: "MB" };

/// Answers up to this size, in bytes, are not counted: a connection has one at a time, and the system takes most of them at once.
pub const ANSWER_COUNTED_FROM_BYTES: usize = 16 << 10;

/// Output that is encoded on the core; more, in bytes, is encoded on the backplane. JSON of 64 KiB takes some 50 us.
pub const ENCODED_ON_CORE_MAX_BYTES: usize = 64 << 10;

/// Connections open at once. An idle one holds some 15 kB.
pub const CONNECTIONS: Setting =
    Setting { name: "connections", default: 32_768, min: 16, max: 1 << 20, unit: "connections" };

/// Requests that the control plane answers at once. They wait for disks and servers, and each may hold an answer of some MB.
pub const CONTROL_REQUESTS_MAX: usize = 512;

/// What one namespace may hold of each share while it is alone; see [`crate::shares`]. 100 sets no bound for namespaces.
pub const NAMESPACE_SHARE_PERCENT: Setting =
    Setting { name: "namespace_share_percent", default: 50, min: 1, max: 100, unit: "percent" };

/// Linear memory of all guests that run or are parked.
pub const GUEST_MEMORY_MB: Setting =
    Setting { name: "guest_memory_mb", default: 2048, min: 64, max: 1 << 24, unit: "MB" };

/// The part of the machine's or the control group's memory that guests get unless it is configured: one in so many. The rest is
/// for code, caches, SQLite, compiling and the kernel.
pub const GUEST_MEMORY_PART: u64 = 2;

/// What guests get where the system does not tell how much memory there is.
pub const GUEST_MEMORY_FALLBACK_MB: u32 = GUEST_MEMORY_MB.default;

/// How long a client may leave an answer without taking a byte of it.
pub const SEND_TIMEOUT_SECONDS: Setting =
    Setting { name: "send_timeout_seconds", default: 30, min: 1, max: 3600, unit: "seconds" };

/// What a body has to bring within [`BODY_WINDOW`]: the slowest mobile networks bring ten times as much.
pub const BODY_WINDOW_LEAST_BYTES: usize = 10 << 10;
/// See [`BODY_WINDOW_LEAST_BYTES`].
pub const BODY_WINDOW: Duration = Duration::from_secs(10);

/// How long it is remembered that a credential or a function is not known.
pub const UNKNOWN_KNOWN_FOR: Duration = Duration::from_secs(1);

/// Records that a core gathers before it hands them over, and the longest it keeps one. Together with
/// [`RECORD_COMMIT_EVERY`] a crash loses less than 100 ms.
pub const RECORD_BATCH_MAX: usize = 256;
/// See [`RECORD_BATCH_MAX`].
pub const RECORD_BATCH_EVERY: Duration = Duration::from_millis(10);

/// Commands that a core has not read: connections from other cores, triggered runs, questions. With more, runs find no room,
/// connections are dropped, and questions wait.
pub const CORE_COMMANDS_MAX: usize = 4096;

/// Largest value of a secret, in bytes: a certificate chain fits.
pub const SECRET_VALUE_MAX_BYTES: usize = 64 << 10;

/// How long one request may last with all its attempts and the pauses between them: the longest timeout of one.
pub const RETRY_PATIENCE: Duration = Duration::from_secs(TIMEOUT_SECONDS.max as u64);

/// How often it is looked whether that file has changed.
pub const TOKEN_KEYS_LOOK_EVERY: Duration = Duration::from_secs(2);

/// Memory of the cache that guests share, in MB; the least holds the largest values of a few namespaces.
pub const CACHE_MEMORY_MB: Setting =
    Setting { name: "cache.memory_mb", default: 256, min: 16, max: 1 << 20, unit: "MB" };

/// Triggered functions that a node runs at once, as a part of its instance slots: half of them are left for requests.
pub const TRIGGERED_SHARE: usize = 2;

/// Dead letters that one request returns.
pub const DEAD_LETTERS_LIMIT: Setting =
    Setting { name: "limit", default: 50, min: 1, max: 1000, unit: "dead letters" };

/// WebSockets open at once; each holds some 10 kB while it is idle. What they hold of messages counts in [`BODY_MEMORY_MB`].
pub const WEBSOCKETS: Setting =
    Setting { name: "websockets", default: 20_000, min: 1, max: 1 << 20, unit: "WebSockets" };

/// Messages of one WebSocket that wait for the one under way; with more, or with [`INPUT_MAX_BYTES`] of them,
/// nothing more is read until it has been answered.
pub const WEBSOCKET_WAITING_MAX: usize = 16;

/// What a WebSocket may hold of messages, in bytes, before it is counted in [`BODY_MEMORY_MB`].
pub const WEBSOCKET_COUNTED_FROM_BYTES: usize = 16 << 10;

/// How often a WebSocket's client is asked whether it is there; below the 60 s after which common proxies close.
pub const WEBSOCKET_PING_SECONDS: Setting =
    Setting { name: "websocket.ping_seconds", default: 30, min: 1, max: 300, unit: "seconds" };

/// Pings in a row that a WebSocket's client may leave without a sign of life.
pub const WEBSOCKET_PINGS_UNANSWERED_MAX: u32 = 2;

/// Linear memory of all parked guests of a node; what they touched of it is less (Go hello: 0.9 of 4.4 MB). Zero parks none.
pub const PARKED_MEMORY_MB: Setting =
    Setting { name: "parked_memory_mb", default: 512, min: 0, max: 1 << 20, unit: "MB" };

/// The part of [`GUEST_MEMORY_MB`] that parked guests may have, whatever [`PARKED_MEMORY_MB`] says: one in so many.
pub const PARKED_MEMORY_PART: usize = 4;

/// The part of one namespace in [`PARKED_MEMORY_MB`], and in the number of guests that a core parks: one in so many.
pub const PARKED_NAMESPACE_PART: usize = 4;

/// The part of a core's instances that may be parked: one in so many.
pub const PARKED_SLOTS_PART: usize = 2;

/// Mappings of a loaded module: its file is mapped, and its code within that is executable.
pub const MODULE_MAPPINGS: u64 = 3;

/// Mappings of one instance slot: a stack and its guard page, and a memory as its module's image, what was added to it
/// and what it may still get.
pub const SLOT_MAPPINGS: u64 = 6;

/// Mappings of everything else: the program, its libraries, its heap and the stacks of its threads.
pub const MAPPINGS_OF_NODE: u64 = 4096;

/// What a process may map where the system does not tell: Linux' own default.
pub const MAPPINGS_DEFAULT: u64 = 65_530;

/// Loaded modules take one in so many of the file descriptors; the others are for sockets and files.
pub const MODULES_DESCRIPTORS_SHARE: u64 = 2;

/// Modules that may be loaded however little the system allows.
pub const MODULES_FEWEST: usize = 8;

/// Machine code of single functions on disk. A Go module makes some 12 MB, and each edit of it one or two more. Its
/// index takes 1.5% of that in memory from the first compilation on. A file of the smallest one holds a batch.
pub const CODE_CACHE_MB: Setting =
    Setting { name: "code_cache_mb", default: 256, min: 16, max: 16_384, unit: "MB" };
