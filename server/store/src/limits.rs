//! The limits of the stores and backends. Each has its default, minimum, maximum and reason.

use orama_runtime::child::Limits;
use orama_runtime::limits::{DB_RESULT_MAX_BYTES, INSTANCE_SLOTS, Setting};
use std::time::Duration;

/// Stored modules that a start checks for references, so that a large store does not keep the disk busy.
pub const START_CLEANING_MAX: usize = 10_000;

/// Threads for blocking work of the cores and the control plane.
pub const BLOCKING_THREADS_MAX: usize = 32;

/// Redirects that one `http_fetch` follows.
pub const FETCH_REDIRECTS_MAX: usize = 10;

/// Largest text, blob or row of a namespace's database, in bytes. SQL functions cannot be interrupted within one value, and the
/// slowest take quadratic time. Larger data belong into `storage_put`.
pub const DB_VALUE_MAX_BYTES: usize = 4 << 20;

/// Size of a namespace's database, in bytes.
pub const DB_MAX_BYTES: usize = 1 << 30;

/// Size of a database's write-ahead log above which writes are refused while long queries prevent a checkpoint, in bytes.
pub const DB_WAL_MAX_BYTES: u64 = DB_MAX_BYTES as u64;

/// Bytes that one database call may write to the disk, including temporary files of sorts and joins: twice the largest database.
pub const DB_WRITTEN_MAX_BYTES: u64 = 2 * DB_MAX_BYTES as u64;

/// Instructions of one compiled statement: enough for some 10,000 rows of VALUES.
pub const DB_INSTRUCTIONS_MAX: i32 = 250_000;

/// Longest pattern of LIKE and GLOB, in bytes: matching takes time up to the product of text and pattern.
pub const DB_PATTERN_MAX_BYTES: i32 = 1000;

/// Depth to which triggers of a database may fire each other.
pub const DB_TRIGGER_DEPTH_MAX: i32 = 32;

/// Concurrent calls in SQL processes. Each may keep a core busy until its deadline.
pub const DB_CALLS_MAX: usize = 16;

/// Concurrent queries of one namespace, besides one write. Others wait.
pub const DB_READERS_MAX: usize = 3;

/// SQL processes, one for each namespace in use. An idle process has some 5 MB, and starting one takes some milliseconds. Twice
/// [`DB_CALLS_MAX`], so that there is always an idle one that can end for another.
pub const DB_PROCESSES_MAX: usize = 2 * DB_CALLS_MAX;

/// How long an idle SQL process is kept.
pub const DB_PROCESS_IDLE: Duration = Duration::from_secs(30);

/// How long a call may exceed its deadline before its process is killed. SQLite checks the clock between instructions, and a
/// rollback takes some 10 ms.
pub const DB_KILL_AFTER: Duration = Duration::from_secs(1);

/// Memory of SQLite in one process, in bytes: four connections with their pages, and some values of [`DB_VALUE_MAX_BYTES`] for
/// each call. A call that needs more fails.
pub const DB_HEAP_MAX_BYTES: usize = 64 << 20;

/// The kernel's limits of one SQL process.
pub const DB_PROCESS_LIMITS: Limits = Limits {
    // SQLite's, and for each of four calls the rows while their text grows, and the stacks.
    memory_bytes: DB_HEAP_MAX_BYTES as u64 + 6 * DB_RESULT_MAX_BYTES as u64,
    // It serves many calls; each is ended by the clock.
    cpu_seconds: None,
    // Four lanes, three for each of four connections, and temporary files of sorts and joins.
    descriptors: 256,
    file_bytes: DB_WRITTEN_MAX_BYTES + DB_WAL_MAX_BYTES,
    // Cores serve all namespaces, and come first.
    nice: 5,
};

/// Page cache of one connection, in bytes.
pub const DB_CACHE_BYTES: usize = 2 << 20;

/// The part of the cache's memory for one namespace: one in so many.
pub const CACHE_NAMESPACE_PART: usize = 4;

/// Queued messages of a subscription; with more, it reports lost messages. Messages only announce changes, so few are enough.
pub const PUBSUB_BACKLOG_MAX: usize = 1024;

/// Concurrent fetches of one namespace; further ones fail at once. A namespace may also not have more than are left on the node,
/// so two namespaces that take all they can get leave a quarter for others.
pub const FETCHES_PER_NAMESPACE: usize = 256;

/// Concurrent fetches of the node. Each may hold two bodies of 8 MiB.
pub const FETCHES_MAX: usize = 512;

/// Timeout of lookup, connection and TLS handshake together.
pub const FETCH_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an idle connection of `http_fetch` is kept. Most servers close theirs after 60 s or more.
pub const FETCH_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Idle connections of one namespace to one host and port.
pub const FETCH_IDLE_PER_HOST: usize = 8;

/// Hosts and ports to which one namespace keeps idle connections; with more, all its idle connections are closed.
pub const FETCH_HOSTS_PER_NAMESPACE: usize = 32;

/// Namespaces whose connections are kept; the least recently used are closed first.
pub const FETCH_NAMESPACES_MAX: u64 = 10_000;

/// Threads that resolve host names for guests. A lookup of the system cannot be cancelled, so a slow name server holds a thread
/// for seconds. No other work uses these threads.
pub const DNS_THREADS_MAX: usize = 64;

/// The part of one namespace in [`DNS_THREADS_MAX`].
pub const DNS_LOOKUPS_PER_NAMESPACE: usize = 8;

/// How often the names of the node's servers are resolved, so that guests do not reach a server with a new address.
pub const SERVER_NAMES_EVERY: Duration = Duration::from_secs(5);
/// How long an earlier address of such a name remains refused: some name servers rotate addresses.
pub const SERVER_NAMES_REMEMBERED: Duration = Duration::from_secs(600);

/// Consecutive failures that open a circuit. A single one may be a lost packet.
pub const BACKEND_FAILURES_MAX: u32 = 3;

/// The pause before the first trial call of an open circuit; it doubles with each failure.
pub const BACKEND_PAUSE_MIN: Duration = Duration::from_millis(100);
/// Its upper bound, and therefore how late a node notices that a backend is back.
pub const BACKEND_PAUSE_MAX: Duration = Duration::from_secs(1);

/// The pause before a retry; it doubles with each retry.
pub const BACKEND_RETRY_PAUSE_MIN: Duration = Duration::from_millis(20);
/// Its upper bound.
pub const BACKEND_RETRY_PAUSE_MAX: Duration = Duration::from_millis(500);

/// Successful calls that earn one retry, so that retries add at most a tenth to a backend's load.
pub const BACKEND_RETRY_EARNED_BY: u32 = 10;
/// Maximum saved retries.
pub const BACKEND_RETRIES_SAVED_MAX: u32 = 20;

/// Timeout of one cache call to Olric, which normally answers in less than a millisecond.
pub const OLRIC_TIMEOUT: Duration = Duration::from_secs(2);

/// Timeout of a connection to a member, including login and the first answer. Within [`OLRIC_TIMEOUT`], another member is tried.
pub const OLRIC_CONNECT_TIMEOUT: Duration = Duration::from_millis(700);

/// Connections to Olric. It runs the commands of a connection in order, so a slow command delays those after it.
pub const OLRIC_CONNECTIONS: usize = 4;

/// Commands in progress on every connection above which another one is opened.
pub const OLRIC_BUSY: usize = 4;

/// How long other members of Olric are preferred to one that could not be reached or was late.
pub const OLRIC_TROUBLE: Duration = Duration::from_secs(1);

/// Idle time on a connection to Olric after which the kernel sends keep-alive probes, and the pause between them.
pub const OLRIC_KEEPALIVE: Duration = Duration::from_secs(5);

/// How often a receiving connection is probed; the answer must arrive within [`OLRIC_TIMEOUT`].
pub const OLRIC_PING_EVERY: Duration = Duration::from_secs(2);

/// Timeout of a connection to a backend; within a data centre it takes a millisecond.
pub const BACKEND_CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long an idle connection to a backend is kept.
pub const BACKEND_IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Time in which a change of the platform database on rqlite is stored or fails: an election takes up to 2.4 s.
pub const PLATFORM_WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// The part of it that is reserved to determine the outcome of a change that rqlite did not answer.
pub const PLATFORM_RESOLVE_TIME: Duration = Duration::from_secs(2);
/// Attempts of a change when other nodes are first.
pub const PLATFORM_WRITE_TRIES: u32 = 32;
/// How often a node polls the log for entries whose announcement was lost.
pub const PLATFORM_PULL_EVERY: Duration = Duration::from_millis(500);
/// Timeout of one poll.
pub const PLATFORM_PULL_TIMEOUT: Duration = Duration::from_secs(4);
/// Log entries in one answer.
pub const PLATFORM_PULL_ENTRIES: i64 = 256;
/// Bytes of log entries in one answer, not counting the last one.
pub const PLATFORM_PULL_BYTES: i64 = 4 << 20;
/// Log entries kept in rqlite; a node that missed more rebuilds its replica.
pub const PLATFORM_LOG_ENTRIES: i64 = 4096;
/// Bytes of log entries kept in rqlite.
pub const PLATFORM_LOG_MAX_BYTES: i64 = 128 << 20;
/// Maximum size of one change, in bytes: rqlite's servers send it to each other in one message.
pub const PLATFORM_COMMIT_MAX_BYTES: usize = 48 << 20;
/// Timeout of rebuilding a replica.
pub const PLATFORM_COPY_TIMEOUT: Duration = Duration::from_secs(120);
/// How long the start of a node with a replica waits for new log entries. Without rqlite it continues with its replica.
pub const PLATFORM_START_PATIENCE: Duration = Duration::from_secs(2);
/// How long the start of a node without a replica waits for rqlite before it fails.
pub const PLATFORM_FIRST_START_PATIENCE: Duration = Duration::from_secs(30);

/// Memory of the read cache, in bytes; one namespace has at most one in [`CACHE_NAMESPACE_PART`].
pub const DB_READS_KEPT_MAX_BYTES: usize = 64 << 20;
/// Concurrent writing calls to a namespace's rqlite; others wait. The servers run them one after the other, and most of the time
/// is latency.
pub const DB_REMOTE_WRITES_MAX: usize = 8;

/// Concurrent reading calls to a namespace's rqlite: each may hold [`DB_REMOTE_REPLY_MAX_BYTES`].
pub const DB_REMOTE_READS_MAX: usize = 8;

/// Largest answer of a namespace's rqlite to one call, in bytes: the maximum rows of a call, in the servers' wider encoding.
pub const DB_REMOTE_REPLY_MAX_BYTES: usize = 2 * DB_RESULT_MAX_BYTES;

/// Timeout of one writing statement on a server, even if its caller's deadline is earlier. All servers of a cluster must reach
/// the same result, so it is far above the time that the slowest of them needs.
pub const DB_REMOTE_WRITE_MIN: Duration = Duration::from_secs(1);

/// Queries of a namespace whose number of columns is cached.
pub const DB_REMOTE_SHAPES_MAX: usize = 512;

/// Tokens of one statement for rqlite: some 12,000 rows of ten values. The syntax tree takes some 100 bytes for each.
pub const DB_REMOTE_TOKENS_MAX: usize = 250_000;

/// Text of all statements of one call for rqlite, in bytes: half a second of parsing.
pub const DB_REMOTE_SQL_MAX_BYTES: usize = 4 << 20;

/// Calls whose long statements are parsed at the same time, on the whole node.
pub const DB_REMOTE_PARSES_MAX: usize = 2;

/// Largest random blob that is written into a statement for rqlite, in bytes.
pub const DB_RANDOM_MAX_BYTES: usize = 4 << 10;

/// Timeout of dropping a namespace's tables on its servers.
pub const DB_REMOTE_REMOVE_MAX: Duration = Duration::from_secs(30);

/// Timeout of a connection to kubo, which runs near the node.
pub const IPFS_CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Timeout of a command of kubo, including retries: adding waits for its disk, which may be busy.
pub const IPFS_TIMEOUT: Duration = Duration::from_secs(5);

/// A command that transfers a blob gets one more second for so many bytes.
pub const IPFS_BYTES_PER_SECOND: u64 = 4 << 20;

/// How long kubo may search for a blob among its peers.
pub const IPFS_SEARCH_PATIENCE: Duration = Duration::from_secs(10);

/// Retries of a failed command.
pub const IPFS_RETRIES_MAX: u32 = 2;

/// Longest list of pins that is read, in bytes; each pin takes some 100.
pub const IPFS_LIST_MAX_BYTES: usize = 32 << 20;

/// Copies of modules that other nodes have put, in bytes, and the same for objects. Others are fetched when they are needed.
pub const BLOB_COPIES_MAX_BYTES: u64 = 2 << 30;

/// How old a node's list of Olric members may be when it selects the member of a counter.
pub const OLRIC_MEMBERS_EVERY: Duration = Duration::from_secs(1);

/// Concurrent calls of Olric, each with up to [`CACHE_VALUE_MAX_BYTES`]: one for each instance of a node of the default size.
pub const OLRIC_CALLS_MAX: usize = INSTANCE_SLOTS as usize;

/// How long a node keeps a value of the shared cache in its near cache. Invalidations arrive sooner; this bounds the effect
/// of one that was lost. Zero disables the near cache.
pub const CACHE_NEAR_SECONDS: Setting =
    Setting { name: "cache.near_seconds", default: 10, min: 0, max: 3600, unit: "seconds" };

/// Invalidations that wait to be sent to other nodes; with more, those are told to drop everything.
pub const CACHE_INVALIDATIONS_MAX: usize = 16 << 10;

/// Invalidations in one message: at most 256 of the longest keys, some 80 kB.
pub const CACHE_INVALIDATIONS_AT_ONCE: usize = 256;

/// Counters without expiry that a node has created and removes when it replaces them, each about 200 bytes.
pub const CACHE_NUMBERS_REMEMBERED: u64 = 10_000;
/// How often a node announces itself to its peers.
pub const PEER_ALIVE_EVERY: Duration = Duration::from_secs(5);
/// The silence after which a peer counts as gone.
pub const PEER_GONE_AFTER: Duration = Duration::from_secs(15);
