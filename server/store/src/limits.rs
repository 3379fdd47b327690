//! Every limit of the stores and backends: default, minimum, maximum and the reason for each.

use orama_runtime::child::Limits;
use orama_runtime::limits::{DB_RESULT_MAX_BYTES, INSTANCE_SLOTS, Setting};
use std::time::Duration;

/// Stored modules checked for references when a node starts, so that a large store does not keep the disk busy.
pub const START_CLEANING_MAX: usize = 10_000;

/// Threads that wait for the disk on behalf of the cores and the control plane.
pub const BLOCKING_THREADS_MAX: usize = 32;

/// Redirects that one `http_fetch` follows.
pub const FETCH_REDIRECTS_MAX: usize = 10;

/// Largest text, blob or row of a namespace's database, in bytes. A function over one value cannot be interrupted, and
/// the slowest of them take time by the square of it. Larger things belong into `storage_put`.
pub const DB_VALUE_MAX_BYTES: usize = 4 << 20;

/// Size of a namespace's database, in bytes.
pub const DB_MAX_BYTES: usize = 1 << 30;

/// Size that the write-ahead log of a database may reach before writes wait for long queries, in bytes.
pub const DB_WAL_MAX_BYTES: u64 = DB_MAX_BYTES as u64;

/// What one database call may write to the disk, temporary files of sorts and joins included, in bytes: twice all that
/// there can be to sort.
pub const DB_WRITTEN_MAX_BYTES: u64 = 2 * DB_MAX_BYTES as u64;

/// Instructions of one compiled statement: some 10,000 rows of VALUES.
pub const DB_INSTRUCTIONS_MAX: i32 = 250_000;

/// Longest pattern of LIKE and GLOB, in bytes: matching takes up to the product of text and pattern.
pub const DB_PATTERN_MAX_BYTES: i32 = 1000;

/// Depth to which triggers of a database may fire one another.
pub const DB_TRIGGER_DEPTH_MAX: i32 = 32;

/// Calls that run in SQL processes at once. Each may keep a core busy until its deadline.
pub const DB_CALLS_MAX: usize = 16;

/// Queries that run at once in one namespace, beside one write. Others wait.
pub const DB_READERS_MAX: usize = 3;

/// SQL processes at once, one for each namespace in use. An idle one has some 5 MB of its own, and starting one takes some
/// milliseconds. Twice [`DB_CALLS_MAX`], so that one is always idle and can end for another.
pub const DB_PROCESSES_MAX: usize = 2 * DB_CALLS_MAX;

/// How long a SQL process without calls stays.
pub const DB_PROCESS_IDLE: Duration = Duration::from_secs(30);

/// How long after its deadline a call may run before its process is killed. SQLite looks at the clock between instructions;
/// undoing a transaction takes some 10 ms.
pub const DB_KILL_AFTER: Duration = Duration::from_secs(1);

/// Memory that SQLite may take in one process, in bytes: four connections with their pages, and some values of
/// [`DB_VALUE_MAX_BYTES`] for each call. What needs more fails with an error of its call.
pub const DB_HEAP_MAX_BYTES: usize = 64 << 20;

/// What one SQL process may use of the machine.
pub const DB_PROCESS_LIMITS: Limits = Limits {
    // SQLite's, and for each of four calls the rows while their text grows, and the stacks.
    memory_bytes: DB_HEAP_MAX_BYTES as u64 + 6 * DB_RESULT_MAX_BYTES as u64,
    // It serves many calls; each is ended by the clock.
    cpu_seconds: None,
    // Three for each of four connections, and temporary files of sorts and joins.
    descriptors: 256,
    file_bytes: DB_WRITTEN_MAX_BYTES + DB_WAL_MAX_BYTES,
    // Cores serve all namespaces, and come first.
    nice: 5,
};

/// Pages that one connection keeps in memory, in bytes.
pub const DB_CACHE_BYTES: usize = 2 << 20;

/// The part of the cache's memory that one namespace may fill: one in so many.
pub const CACHE_NAMESPACE_PART: usize = 4;

/// Messages that a listener of the in-process pubsub may be behind; one further behind is told that it lost some. They
/// only say where to look, so few are enough.
pub const PUBSUB_BACKLOG_MAX: usize = 1024;

/// Fetches of one namespace under way at once; a further one is told that there are too many. Beside that, a namespace may not
/// have more than there are places left on the node: two that take all they can get leave a quarter of them.
pub const FETCHES_PER_NAMESPACE: usize = 256;

/// Fetches of the node under way at once. Each may hold two bodies of 8 MiB.
pub const FETCHES_MAX: usize = 512;

/// Time for a name's look-up, a connection and TLS together.
pub const FETCH_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection of guests' fetches stays open without use. Servers mostly close theirs after 60 s and more.
pub const FETCH_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Unused connections kept to one host and port for one namespace.
pub const FETCH_IDLE_PER_HOST: usize = 8;

/// Hosts and ports to which one namespace may keep unused connections; at more, all of its are closed.
pub const FETCH_HOSTS_PER_NAMESPACE: usize = 32;

/// Namespaces whose connections are kept; the longest unused are closed first.
pub const FETCH_NAMESPACES_MAX: u64 = 10_000;

/// Threads that look up host names for guests. The system's look-up cannot be ended early, so a slow name server holds
/// them for seconds; they are nobody else's.
pub const DNS_THREADS_MAX: usize = 64;

/// The part of one namespace in [`DNS_THREADS_MAX`].
pub const DNS_LOOKUPS_PER_NAMESPACE: usize = 8;

/// How often the names of the node's servers are resolved, so that guests do not reach a server that moved.
pub const SERVER_NAMES_EVERY: Duration = Duration::from_secs(5);
/// How long an address that such a name had stays out of reach: name servers give some names' addresses in turns.
pub const SERVER_NAMES_REMEMBERED: Duration = Duration::from_secs(600);

/// Failures in a row after which a backend is not asked any more for a while. One may be a packet that was lost.
pub const BACKEND_FAILURES_MAX: u32 = 3;

/// The pause before a backend that failed is asked again; it doubles with each failure.
pub const BACKEND_PAUSE_MIN: Duration = Duration::from_millis(100);
/// Its upper bound, and so how late a node notices that a backend is back.
pub const BACKEND_PAUSE_MAX: Duration = Duration::from_secs(1);

/// The pause before a call to a backend is made once more; it doubles with each retry.
pub const BACKEND_RETRY_PAUSE_MIN: Duration = Duration::from_millis(20);
/// Its upper bound.
pub const BACKEND_RETRY_PAUSE_MAX: Duration = Duration::from_millis(500);

/// Calls that must succeed for one retry, so that retries add at most a tenth to a backend's load.
pub const BACKEND_RETRY_EARNED_BY: u32 = 10;
/// Retries that may be saved up.
pub const BACKEND_RETRIES_SAVED_MAX: u32 = 20;

/// Time for one service call that Olric is asked for: it answers in less than a millisecond, and a busy one in some.
pub const OLRIC_TIMEOUT: Duration = Duration::from_secs(2);

/// Time for a connection to one of its nodes with login and the first answer; within [`OLRIC_TIMEOUT`] another node has its turn.
pub const OLRIC_CONNECT_TIMEOUT: Duration = Duration::from_millis(700);

/// Connections to Olric. It works on the commands of one in their order, so one that is slow holds up those behind it.
pub const OLRIC_CONNECTIONS: usize = 4;

/// Commands under way on each connection when another one is opened.
pub const OLRIC_BUSY: usize = 4;

/// How long other nodes of Olric are preferred to one that could not be reached or was late.
pub const OLRIC_TROUBLE: Duration = Duration::from_secs(1);

/// Idle time on a connection to Olric after which the kernel sends keep-alive probes, and the pause between them.
pub const OLRIC_KEEPALIVE: Duration = Duration::from_secs(5);

/// How often a connection that only listens is tried; its answer has [`OLRIC_TIMEOUT`].
pub const OLRIC_PING_EVERY: Duration = Duration::from_secs(2);

/// How long a connection to a backend may take to come about; within a machine room it takes a millisecond.
pub const BACKEND_CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a connection to a backend is kept that nobody uses.
pub const BACKEND_IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Time in which a change of the platform's data on rqlite is stored, or answered as an error: an election takes up to 2.4 s.
pub const PLATFORM_WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// The part of it that is kept to find out what came of a change that rqlite did not answer.
pub const PLATFORM_RESOLVE_TIME: Duration = Duration::from_secs(2);
/// How often a change is tried again when other nodes were faster.
pub const PLATFORM_WRITE_TRIES: u32 = 32;
/// How often a node asks for the changes of others whose message was lost.
pub const PLATFORM_PULL_EVERY: Duration = Duration::from_millis(500);
/// Time for one such question.
pub const PLATFORM_PULL_TIMEOUT: Duration = Duration::from_secs(4);
/// Changes that one answer brings.
pub const PLATFORM_PULL_ENTRIES: i64 = 256;
/// Their bytes, but for the last one.
pub const PLATFORM_PULL_BYTES: i64 = 4 << 20;
/// Changes that rqlite keeps for nodes that were away; one that missed more makes its copy anew.
pub const PLATFORM_LOG_ENTRIES: i64 = 4096;
/// Their bytes.
pub const PLATFORM_LOG_MAX_BYTES: i64 = 128 << 20;
/// Bytes of one change at most: rqlite's nodes send it to each other in one piece.
pub const PLATFORM_COMMIT_MAX_BYTES: usize = 48 << 20;
/// Time to make a copy anew.
pub const PLATFORM_COPY_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a node with a copy waits at its start for what others changed; without rqlite it goes on with what it has.
pub const PLATFORM_START_PATIENCE: Duration = Duration::from_secs(2);
/// The same for a node without a copy, which cannot go on.
pub const PLATFORM_FIRST_START_PATIENCE: Duration = Duration::from_secs(30);

/// Rows that are kept in a node's memory, in bytes; one namespace has at most one in [`CACHE_NAMESPACE_PART`].
pub const DB_READS_KEPT_MAX_BYTES: usize = 64 << 20;
/// Calls that write at once to a namespace's database on servers of its own; others wait. The servers run them one after the
/// other, and the way there takes most of the time.
pub const DB_REMOTE_WRITES_MAX: usize = 8;

/// Calls that read at once from such a database: each may hold [`DB_REMOTE_REPLY_MAX_BYTES`].
pub const DB_REMOTE_READS_MAX: usize = 8;

/// What such a server may answer to one call, in bytes: all rows that a call may have, in the server's wider form.
pub const DB_REMOTE_REPLY_MAX_BYTES: usize = 2 * DB_RESULT_MAX_BYTES;

/// Time that a server has for one statement that writes, also when its caller's deadline comes sooner. Every server of a
/// cluster must come to the same end, so it is far beyond what a statement takes on the slowest of them.
pub const DB_REMOTE_WRITE_MIN: Duration = Duration::from_secs(1);

/// Queries of a namespace whose number of columns is kept.
pub const DB_REMOTE_SHAPES_MAX: usize = 512;

/// Tokens of one statement that the node reads for such servers: some 12,000 rows of ten values. Its syntax tree takes some 100
/// bytes for each.
pub const DB_REMOTE_TOKENS_MAX: usize = 250_000;

/// Text of all statements of one call for such servers, in bytes: half a second of reading.
pub const DB_REMOTE_SQL_MAX_BYTES: usize = 4 << 20;

/// Calls whose long statements are read at once, on all cores together.
pub const DB_REMOTE_PARSES_MAX: usize = 2;

/// Largest random blob that is put into a statement for all servers of a database, in bytes.
pub const DB_RANDOM_MAX_BYTES: usize = 4 << 10;

/// How long the deletion of a namespace's tables on its servers may take.
pub const DB_REMOTE_REMOVE_MAX: Duration = Duration::from_secs(30);

/// Time for a connection to kubo, which stands beside the node or near it.
pub const IPFS_CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Time for one of kubo's commands, retries included: adding waits for its disk, which others may keep busy.
pub const IPFS_TIMEOUT: Duration = Duration::from_secs(5);

/// Commands that carry a blob have a second more for so many bytes of it.
pub const IPFS_BYTES_PER_SECOND: u64 = 4 << 20;

/// How long kubo may look among its peers for a blob that it lacks.
pub const IPFS_SEARCH_PATIENCE: Duration = Duration::from_secs(10);

/// How often a command that did not come through is sent again.
pub const IPFS_RETRIES_MAX: u32 = 2;

/// Longest list of pins that is read, in bytes; each takes some 100.
pub const IPFS_LIST_MAX_BYTES: usize = 32 << 20;

/// Copies of modules that other nodes put, in bytes, and of objects as much again: the rest is fetched when it is needed.
pub const BLOB_COPIES_MAX_BYTES: u64 = 2 << 30;

/// How old the members of an Olric cluster may be that a node knows when it asks one to count.
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

/// Numbers without an end that a node made and removes when it replaces them, each about 200 bytes.
pub const CACHE_NUMBERS_REMEMBERED: u64 = 10_000;
/// How often a node tells the others that it is there, and after which silence it is not any more.
pub const PEER_ALIVE_EVERY: Duration = Duration::from_secs(5);
/// See [`PEER_ALIVE_EVERY`].
pub const PEER_GONE_AFTER: Duration = Duration::from_secs(15);
