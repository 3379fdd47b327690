//! Every limit of the product in one place: default, minimum, maximum and the reason for each.

use std::ops::RangeInclusive;
use std::time::Duration;

/// A whole-number setting that a user may choose within bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// The name under which `function.yaml` and the deploy form know it.
    pub name: &'static str,
    /// What holds when the user says nothing.
    pub default: u32,
    /// Smallest accepted value.
    pub min: u32,
    /// Largest accepted value.
    pub max: u32,
    /// The unit, for messages.
    pub unit: &'static str,
}

impl Setting {
    /// Returns `value` when it lies within the bounds, else a sentence that names the field.
    ///
    /// # Errors
    /// A message that says which field is out of range, and the range.
    pub fn check(&self, value: i64) -> Result<u32, String> {
        u32::try_from(value).ok().filter(|v| self.range().contains(v)).ok_or_else(|| {
            format!("{} must be between {} and {} {}, got {value}", self.name, self.min, self.max, self.unit)
        })
    }

    /// The accepted values.
    #[must_use]
    pub fn range(&self) -> RangeInclusive<u32> {
        self.min..=self.max
    }
}

/// Linear memory of one instance. 256 MB is what one pool slot reserves; Go programs need about 4 MB to start.
pub const MEMORY_MB: Setting = Setting { name: "memory", default: 64, min: 1, max: 256, unit: "MB" };

/// Wall time of one invocation.
pub const TIMEOUT_SECONDS: Setting =
    Setting { name: "timeout", default: 30, min: 1, max: 300, unit: "seconds" };

/// Further attempts after a failed one.
pub const RETRY_COUNT: Setting =
    Setting { name: "retry.count", default: 0, min: 0, max: 5, unit: "attempts" };

/// Wait between attempts. A day bounds what a retry may hold in the queue.
pub const RETRY_DELAY_SECONDS: Setting =
    Setting { name: "retry.delay", default: 5, min: 0, max: 86_400, unit: "seconds" };

/// Longest name of a function, namespace or secret, in bytes: what fits a DNS label.
pub const NAME_MAX_BYTES: usize = 63;

/// Largest invocation input (HTTP body), in bytes: the contract's 1 MiB.
pub const INPUT_MAX_BYTES: usize = 1 << 20;

/// Largest standard output of one invocation, in bytes. Answers are held in memory until they are sent.
pub const OUTPUT_MAX_BYTES: usize = 8 << 20;

/// Largest wasm module accepted, in bytes. Standard Go programs are 3 to 20 MB.
pub const WASM_MAX_BYTES: usize = 64 << 20;

/// Largest deploy request: the module and 1 MiB for the form's other fields.
pub const DEPLOY_MAX_BYTES: usize = WASM_MAX_BYTES + (1 << 20);

/// Largest body of any other control-plane request, in bytes.
pub const CONTROL_BODY_MAX_BYTES: usize = 1 << 20;

/// Environment variables of one function version.
pub const ENV_MAX_ENTRIES: usize = 128;

/// Names and values of a version's environment together, in bytes; they are copied into every instance.
pub const ENV_MAX_BYTES: usize = 64 << 10;

/// Longest log message kept whole, in bytes; a longer one is cut and says so.
pub const LOG_MESSAGE_MAX_BYTES: usize = 8 << 10;

/// Log messages kept of one invocation; the record counts the ones dropped.
pub const LOG_MESSAGES_MAX: usize = 200;

/// All log messages of one invocation together, in bytes, so that one function cannot flood the store.
pub const LOG_TOTAL_MAX_BYTES: usize = 64 << 10;

/// Entries of one `iovec` array in `fd_read`/`fd_write`, as POSIX's `IOV_MAX`.
pub const IOVEC_MAX: u32 = 1024;

/// Subscriptions of one `poll_oneoff`.
pub const POLL_SUBSCRIPTIONS_MAX: u32 = 64;

/// Bytes that a host call copies, scans or makes between two looks at the clock: some 10 to 200 us of work.
pub const HOST_CHUNK_BYTES: usize = 64 << 10;

/// Longest name that a guest may hand to a host function (an environment key, a claim), in bytes.
pub const HOST_NAME_MAX_BYTES: usize = 4 << 10;

/// Elements of one table. Go hello has 4,000, a 64 MB Go program about 100,000.
pub const TABLE_MAX_ELEMENTS: usize = 1 << 18;

/// Things told to be wrong with one module; a hostile one may have a million.
pub const MODULE_PROBLEMS_SHOWN: usize = 20;

/// A function's or an import's name comes from the module; longer ones are cut in messages, in bytes.
pub const WASM_NAME_SHOWN_BYTES: usize = 120;

/// How often running guests are asked whether their slice or their deadline has passed.
pub const EPOCH_TICK: Duration = Duration::from_millis(1);

/// Instances alive at once on a node, each with a fiber stack. 4,096 are possible and make the start longer,
/// where the guard page of each stack is set up by a system call, and three mappings each of the kernel's 65,530.
pub const INSTANCE_SLOTS: u32 = 1024;

/// Fiber stacks beyond one an instance: a host call that calls the guest's allocator back runs on a second one.
pub const EXTRA_STACKS: u32 = 128;

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

/// Age at which an invocation's record is deleted.
pub const RECORD_RETENTION: Duration = Duration::from_hours(7 * 24);

/// Invocation records kept of one function; older ones are deleted first.
pub const RECORDS_PER_FUNCTION: u32 = 10_000;

/// Invocation records kept of one function, in bytes: without it, ten thousand with full logs would take ten times as much.
pub const RECORDS_PER_FUNCTION_BYTES: u64 = 64 << 20;

/// Invocation records kept on a node, in bytes; the oldest of all functions are deleted first.
pub const RECORDS_MAX_BYTES: u64 = 4 << 30;

/// Records waiting to be written, in bytes of memory; over it they are dropped and counted. About 200,000 without messages.
pub const RECORDS_QUEUE_MAX_BYTES: usize = 64 << 20;

/// How long a record waits for others to share its commit, so that a crash loses less than 100 ms.
pub const RECORD_COMMIT_EVERY: Duration = Duration::from_millis(10);

/// Invocations that one logs request returns.
pub const LOGS_LIMIT: Setting =
    Setting { name: "limit", default: 50, min: 1, max: 1000, unit: "invocations" };

/// Credentials remembered by the control plane, each about 200 bytes.
pub const CREDENTIAL_CACHE_MAX: u64 = 10_000;

/// Stored modules checked for references when a node starts, so that a large store does not keep the disk busy.
pub const START_CLEANING_MAX: usize = 10_000;

/// Modules that wait in memory for their turn to be compiled; at more, a deploy is told to come back. What they take is
/// bounded by [`CONTROL_BODIES_MAX_BYTES`] besides.
pub const COMPILES_WAITING_MAX: usize = 64;

/// The part of one namespace in [`COMPILES_WAITING_MAX`].
pub const COMPILES_WAITING_NAMESPACE_MAX: usize = 16;

/// Bytes of control-plane requests held in memory at once; at more, a client is told to come back.
pub const CONTROL_BODIES_MAX_BYTES: usize = 4 * DEPLOY_MAX_BYTES;

/// Records that a core gathers before it hands them over, and the longest it keeps one. Together with
/// [`RECORD_COMMIT_EVERY`] a crash loses less than 100 ms.
pub const RECORD_BATCH_MAX: usize = 256;
/// See [`RECORD_BATCH_MAX`].
pub const RECORD_BATCH_EVERY: Duration = Duration::from_millis(10);

/// Threads that wait for the disk on behalf of the cores and the control plane.
pub const BLOCKING_THREADS_MAX: usize = 32;

/// Longest key of a cache entry, in bytes; distributed caches take no longer ones.
pub const CACHE_KEY_MAX_BYTES: usize = 256;

/// Largest value of a cache entry, in bytes.
pub const CACHE_VALUE_MAX_BYTES: usize = 1 << 20;

/// Longest SQL statement, in bytes.
pub const DB_SQL_MAX_BYTES: usize = 1 << 20;

/// Arguments or operations that a guest hands to one database call as JSON, in bytes.
pub const DB_ARGUMENTS_MAX_BYTES: usize = 16 << 20;

/// Statements of one database call.
pub const DB_STATEMENTS_MAX: usize = 100;

/// Rows that one query may give.
pub const DB_ROWS_MAX: usize = 10_000;

/// Rows of one database call together, in bytes of JSON.
pub const DB_RESULT_MAX_BYTES: usize = 32 << 20;

/// Longest name of a secret, in bytes, and its form: that of functions' names.
pub const SECRET_NAME_MAX_BYTES: usize = NAME_MAX_BYTES;

/// Largest value of a secret, in bytes: a certificate chain fits.
pub const SECRET_VALUE_MAX_BYTES: usize = 64 << 10;

/// Secrets of one namespace.
pub const SECRETS_MAX: u32 = 1000;

/// Time that one `http_fetch` may take from its start to the last byte of the answer.
pub const FETCH_TIMEOUT: Duration = Duration::from_secs(30);

/// Largest body that `http_fetch` sends, in bytes.
pub const FETCH_REQUEST_MAX_BYTES: usize = 8 << 20;

/// Largest body that `http_fetch` takes, in bytes.
pub const FETCH_RESPONSE_MAX_BYTES: usize = 8 << 20;

/// Headers of a request of `http_fetch`, and of its answer.
pub const FETCH_HEADERS_MAX: usize = 100;

/// Names and values of those headers together, in bytes.
pub const FETCH_HEADERS_MAX_BYTES: usize = 64 << 10;

/// Redirects that one `http_fetch` follows.
pub const FETCH_REDIRECTS_MAX: usize = 10;

/// Longest URL of `http_fetch`, in bytes.
pub const FETCH_URL_MAX_BYTES: usize = 8 << 10;

/// Largest object of `storage_put`, in bytes.
pub const STORAGE_MAX_BYTES: usize = 32 << 20;

/// Longest topic, in bytes.
pub const TOPIC_MAX_BYTES: usize = 256;

/// Largest data of one event, in bytes. The event that a function reads must fit [`INPUT_MAX_BYTES`] with its frame.
pub const EVENT_MAX_BYTES: usize = INPUT_MAX_BYTES - (4 << 10);

/// Depth of the last event that fires triggers.
pub const TRIGGER_DEPTH_MAX: u32 = 5;

/// Triggers of one function.
pub const TRIGGERS_MAX: u32 = 100;

/// How long one request may last with all its attempts and the pauses between them: the longest timeout of one.
pub const RETRY_PATIENCE: Duration = Duration::from_secs(TIMEOUT_SECONDS.max as u64);

/// API keys of one namespace.
pub const KEYS_MAX: u32 = 1000;

/// How long a request to delete a namespace waits for what still runs there, before it is told that the rest follows.
pub const NAMESPACE_DELETION_PATIENCE: Duration = Duration::from_secs(10);

/// Secrets that one transaction of a key rotation encrypts anew: some milliseconds, in which nobody else can write.
pub const SECRETS_RESEALED_AT_ONCE: u32 = 32;

/// Secrets in plain that one core remembers, in bytes with their names; at more, it starts anew.
pub const SECRETS_REMEMBERED_BYTES: usize = 64 << 20;

/// The part of one namespace in [`SECRETS_REMEMBERED_BYTES`]: sixteen of the largest values.
pub const SECRETS_REMEMBERED_NAMESPACE_BYTES: usize = 1 << 20;

/// Longest token of a caller, in bytes: what fits beside other headers in the 8 KiB that common proxies allow.
pub const TOKEN_MAX_BYTES: usize = 8 << 10;

/// How far the clocks of who signs tokens and of the node may be apart.
pub const TOKEN_LEEWAY: Duration = Duration::from_secs(60);

/// Public keys in the file that `auth.jwt` names; a token that names none is tried with each of its kind.
pub const TOKEN_KEYS_MAX: usize = 64;

/// Size of that file, in bytes.
pub const TOKEN_KEYS_MAX_BYTES: u64 = 1 << 20;

/// How often it is looked whether that file has changed.
pub const TOKEN_KEYS_LOOK_EVERY: Duration = Duration::from_secs(2);

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

/// Threads that work on databases at once: half of [`BLOCKING_THREADS_MAX`], so that other work goes on.
pub const DB_THREADS_MAX: usize = BLOCKING_THREADS_MAX / 2;

/// Queries that run at once in one namespace, beside one write. Others wait.
pub const DB_READERS_MAX: usize = 3;

/// Open connections to databases of all namespaces, each some 100 kB and up to [`DB_CACHE_BYTES`]. Those not used for
/// longest are closed first.
pub const DB_CONNECTIONS_MAX: usize = 128;

/// Pages that one connection keeps in memory, in bytes.
pub const DB_CACHE_BYTES: usize = 2 << 20;

/// Connections that no call used for so long are closed when another is opened.
pub const DB_IDLE: Duration = Duration::from_secs(300);

/// Memory of the cache that guests share, in MB; the least holds the largest values of a few namespaces.
pub const CACHE_MEMORY_MB: Setting =
    Setting { name: "cache.memory_mb", default: 256, min: 16, max: 1 << 20, unit: "MB" };

/// The part of the cache's memory that one namespace may fill: one in so many.
pub const CACHE_NAMESPACE_PART: usize = 4;

/// Objects that one namespace may store.
pub const STORAGE_OBJECTS_MAX: u64 = 10_000;

/// Objects that one namespace stores together, in bytes.
pub const STORAGE_TOTAL_MAX_BYTES: u64 = 1 << 30;

/// Objects that are written or read at once, each up to [`STORAGE_MAX_BYTES`] in memory.
pub const STORAGE_THREADS_MAX: usize = 8;

/// Messages that a listener of the in-process pubsub may be behind; one further behind is told that it lost some. They
/// only say where to look, so few are enough.
pub const PUBSUB_BACKLOG_MAX: usize = 1024;

/// Topics whose triggers are remembered, each about 300 bytes.
pub const TRIGGER_CACHE_MAX: u64 = 10_000;

/// Published events that wait for their commit, in bytes of memory; at more, publishers are told to come back.
pub const EVENTS_UNWRITTEN_MAX_BYTES: usize = 32 << 20;

/// Those of one namespace, so that none fills the queue for all.
pub const EVENTS_UNWRITTEN_NAMESPACE_MAX_BYTES: usize = EVENTS_UNWRITTEN_MAX_BYTES / 4;

/// Jobs (one for each trigger of an event) that one namespace may have waiting; at more, its publishers are told to
/// come back.
pub const JOBS_WAITING_MAX: u64 = 100_000;

/// The data of those jobs together, in bytes, counted for each job.
pub const JOBS_WAITING_MAX_BYTES: u64 = 512 << 20;

/// Jobs of one trigger that are looked at at once.
pub const JOBS_WINDOW: u32 = 64;

/// How long one trigger may use a place before the others of its namespace have their turn.
pub const JOBS_TURN: Duration = Duration::from_millis(250);

/// Triggered functions that a node runs at once, as a part of its instance slots: half of them are left for requests.
pub const TRIGGERED_SHARE: usize = 2;

/// Triggered functions of one namespace that run at once, as a part of the node's: 32 of 512.
pub const TRIGGERED_NAMESPACE_SHARE: usize = 16;

/// How long the outcome of a job may wait for others to share its commit. After a crash it runs again.
pub const JOB_OUTCOME_COMMIT_EVERY: Duration = Duration::from_millis(20);

/// How long a node keeps a trigger's jobs to itself without saying so again. What a lost node held is free after it.
pub const JOB_LEASE: Duration = Duration::from_secs(15);

/// Dead letters kept of one namespace; the oldest are dropped first, also when they are as old as
/// [`RECORD_RETENTION`].
pub const DEAD_LETTERS_MAX: u64 = 10_000;

/// The data of those dead letters together, in bytes.
pub const DEAD_LETTERS_MAX_BYTES: u64 = 128 << 20;

/// Dead letters that one request returns.
pub const DEAD_LETTERS_LIMIT: Setting =
    Setting { name: "limit", default: 50, min: 1, max: 1000, unit: "dead letters" };

/// The data of dead letters that one request returns, in bytes; fewer are returned when theirs is more.
pub const DEAD_LETTERS_PAGE_MAX_BYTES: usize = 8 << 20;

/// Arguments of one SQL statement: what SQLite takes.
pub const DB_STATEMENT_ARGUMENTS_MAX: usize = 32_766;

/// A longer time of a cache entry is as good as none; clocks and caches can add this much without overflowing.
pub const CACHE_TTL_MAX: Duration = Duration::from_hours(100 * 366 * 24);

/// Headers that `http_fetch` is handed as JSON, in bytes: room for [`FETCH_HEADERS_MAX_BYTES`] with escapes.
pub const FETCH_HEADERS_JSON_MAX_BYTES: usize = 4 * FETCH_HEADERS_MAX_BYTES;

/// Fetches of one namespace under way at once; a further one is told that there are too many.
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

/// WebSockets open at once on one core; each holds some 10 kB while it is idle, and up to [`INPUT_MAX_BYTES`] of
/// messages that wait beside the one that is being read.
pub const WEBSOCKETS_MAX: usize = 10_000;

/// Messages of one WebSocket that wait for the one under way; with more, or with [`INPUT_MAX_BYTES`] of them,
/// nothing more is read until it has been answered.
pub const WEBSOCKET_WAITING_MAX: usize = 16;

/// How often a WebSocket's client is asked whether it is there; below the 60 s after which common proxies close.
pub const WEBSOCKET_PING_SECONDS: Setting =
    Setting { name: "websocket.ping_seconds", default: 30, min: 1, max: 300, unit: "seconds" };

/// Pings in a row that a WebSocket's client may leave without a sign of life.
pub const WEBSOCKET_PINGS_UNANSWERED_MAX: u32 = 2;

/// Linear memory of all parked guests of a node; what they touched of it is less (Go hello: 0.9 of 4.4 MB). Zero parks none.
pub const PARKED_MEMORY_MB: Setting =
    Setting { name: "parked_memory_mb", default: 512, min: 0, max: 1 << 20, unit: "MB" };

/// The part of one namespace in [`PARKED_MEMORY_MB`], and in the number of guests that a core parks: one in so many.
pub const PARKED_NAMESPACE_PART: usize = 4;

/// The part of a core's instances that may be parked: one in so many.
pub const PARKED_SLOTS_PART: usize = 2;

/// Guests of one function version parked on one core. With a ring of eight, Go programs ran at 0.7 of the throughput that
/// they have on demand, as none finds its memory in the processor's caches.
pub const PARKED_DEPTH_MAX: usize = 8;

/// Time that a core may need until it comes to park another guest, besides the starts themselves.
pub const REFILL_WINDOW: Duration = Duration::from_millis(2);

/// A pool that was not asked so long is emptied.
pub const PARKED_IDLE: Duration = Duration::from_secs(60);

/// A start that takes less than this is not worth moving out of the request: what parking itself costs is not far below.
pub const PARKING_WORTH: Duration = Duration::from_micros(12);

/// How long a pool whose guests are asked for as soon as they are parked starts no others, at first and at most.
pub const PARKING_PAUSE_MIN: Duration = Duration::from_millis(4);
/// See [`PARKING_PAUSE_MIN`].
pub const PARKING_PAUSE_MAX: Duration = Duration::from_millis(500);

/// Memory that a loaded module takes beside its code, in bytes: what wasmtime keeps to link and to instantiate it.
pub const MODULE_OVERHEAD_BYTES: usize = 32 << 10;

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

/// When one part in so many of what may be loaded was loaded anew, cores tell again which modules they use; and when the
/// system has no room for a module, so many go.
pub const MODULES_AGES: u64 = 16;

/// Machine code of single functions on disk. A Go module makes some 12 MB, and each edit of it one or two more. Its
/// index takes 1.5% of that in memory from the first compilation on. A file of the smallest one holds a batch.
pub const CODE_CACHE_MB: Setting =
    Setting { name: "code_cache_mb", default: 256, min: 16, max: 16_384, unit: "MB" };

/// Files among which that code is divided; the oldest is dropped when there is no room for more.
pub const CODE_CACHE_FILES: u64 = 8;

/// Code of one function that is kept, in bytes. With a batch of it, it fits a file of the smallest cache.
pub const CODE_CACHE_ENTRY_MAX_BYTES: usize = 256 << 10;

/// Code that is gathered in memory before it is written, in bytes.
pub const CODE_CACHE_BATCH_BYTES: usize = 512 << 10;

/// Pages of 64 KiB by which a module's memory may be grown before it starts. TinyGo programs were fastest with one to four
/// more; at 64 more, walking through the free memory took three times as long as the collections that it saves.
pub const EXTRA_PAGES_MAX: u32 = 64;

/// Starts and runs that are timed with each size, of which the shortest counts.
pub const EXTRA_PAGES_ROUNDS: u32 = 6;

/// Time for all of them together: enough for starts and runs of 4 ms, and what a module that spins costs a deploy.
pub const EXTRA_PAGES_PATIENCE: Duration = Duration::from_millis(300);

/// Less of a start and run than this and [`EXTRA_PAGES_GAIN_PERCENT_MIN`] is no reason to change a module's memory.
pub const EXTRA_PAGES_GAIN_MIN: Duration = Duration::from_micros(20);
/// See [`EXTRA_PAGES_GAIN_MIN`].
pub const EXTRA_PAGES_GAIN_PERCENT_MIN: u32 = 15;

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

/// How long rows may be kept where a function asks for it (`cache_ttl`). What may be older than an hour belongs into the cache.
pub const DB_READS_KEPT_MAX: Duration = Duration::from_hours(1);

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

/// Deploys that store their module at once: each waits on a thread for the disk and for servers.
pub const DEPLOYS_STORING_MAX: usize = 4;

/// Modules that are fetched at once, each up to [`WASM_MAX_BYTES`] in memory.
pub const MODULE_FETCHES_MAX: usize = 4;

/// How long an invocation waits for code that its node must fetch or compile first; the work goes on when it gives up.
pub const CODE_PATIENCE: Duration = Duration::from_secs(30);

/// Modules deployed elsewhere that wait to be compiled before somebody asks for them; further ones are when they are asked for.
pub const PREWARM_WAITING_MAX: usize = 256;

/// How often it is looked whether functions were deployed or deleted, by a counter in memory.
pub const FOLLOW_EVERY: Duration = Duration::from_millis(100);

/// How often removals that failed are tried again, and how often pins are compared with what must be pinned.
pub const BLOBS_RETRY_EVERY: Duration = Duration::from_secs(30);
/// See [`BLOBS_RETRY_EVERY`].
pub const BLOBS_REPAIR_EVERY: Duration = Duration::from_mins(10);

/// How old the members of an Olric cluster may be that a node knows when it asks one to count.
pub const OLRIC_MEMBERS_EVERY: Duration = Duration::from_secs(1);

/// Concurrent calls of Olric, each with up to [`CACHE_VALUE_MAX_BYTES`]: one for each instance of a node of the default size.
pub const OLRIC_CALLS_MAX: usize = INSTANCE_SLOTS as usize;

/// How long a node remembers what it read of a shared cache. Other nodes tell it of changes; this bounds what a message that
/// was lost can do. Zero remembers nothing.
pub const CACHE_NEAR_SECONDS: Setting =
    Setting { name: "cache.near_seconds", default: 10, min: 0, max: 3600, unit: "seconds" };

/// Changes in the cache that wait to be told to other nodes; with more, they are told to forget everything.
pub const CACHE_NEWS_MAX: usize = 16 << 10;

/// Changes told in one message: at most 256 of the longest keys, some 80 kB.
pub const CACHE_NEWS_AT_ONCE: usize = 256;

/// Numbers without an end that a node made and removes when it replaces them, each about 200 bytes.
pub const CACHE_NUMBERS_REMEMBERED: u64 = 10_000;
/// How often a node tells the others that it is there, and after which silence it is not any more.
pub const NEIGHBOUR_ALIVE_EVERY: Duration = Duration::from_secs(5);
/// See [`NEIGHBOUR_ALIVE_EVERY`].
pub const NEIGHBOUR_GONE_AFTER: Duration = Duration::from_secs(15);

/// How long a request for logs waits for other nodes.
pub const NEIGHBOUR_PATIENCE: Duration = Duration::from_secs(1);

/// Records that one node tells another at once, in bytes.
pub const NEIGHBOUR_ANSWER_MAX_BYTES: usize = 4 << 20;

/// Nodes of a cluster that one of them remembers.
pub const NEIGHBOURS_MAX: usize = 256;

/// Requests for logs that ask other nodes at once; more wait, and at last answer without them.
pub const NEIGHBOUR_QUESTIONS_MAX: usize = 8;

/// Questions of other nodes that are answered at once; to more a node is silent.
pub const NEIGHBOUR_ANSWERS_MAX: usize = 4;

/// Largest manifest of an archive, in bytes: some 500,000 parts.
pub const TRANSFER_MANIFEST_MAX_BYTES: u64 = 128 << 20;

/// Rows of the platform's tables that an import stores as one change.
pub const TRANSFER_ROWS_MAX: usize = 500;
/// Their bytes, after which a change is closed: a row itself has at most some MB.
pub const TRANSFER_ROWS_MAX_BYTES: usize = 1 << 20;

/// How long the copy of one namespace's database to or from its servers may take.
pub const TRANSFER_DATABASE_TIMEOUT: Duration = Duration::from_secs(600);
