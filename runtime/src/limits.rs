//! Every limit of the runtime, and of what a function may ask for, in one place: default, minimum, maximum and the reason for
//! each.

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

/// Invocations of one function under way on a node at once; 0 sets no limit of the function's own. More than a node's instance
/// slots would say nothing.
pub const CONCURRENCY: Setting =
    Setting { name: "concurrency", default: 0, min: 0, max: 10_000, unit: "invocations" };

/// Newest versions of a function that a deploy leaves; 0 leaves all. More than the quota of versions would say nothing.
pub const KEEP_VERSIONS: Setting =
    Setting { name: "keep_versions", default: 0, min: 0, max: 100_000, unit: "versions" };

/// Largest body of a request to a function. Larger ones belong into an object store.
pub const MAX_BODY_MB: Setting = Setting { name: "max_body", default: 1, min: 1, max: 32, unit: "MB" };

/// How long browsers may remember a preflight's answer. Firefox keeps none for longer than a day.
pub const CORS_MAX_AGE_SECONDS: Setting =
    Setting { name: "cors.max_age", default: 600, min: 0, max: 86_400, unit: "seconds" };

/// Entries of each list of `cors`.
pub const CORS_ENTRIES_MAX: usize = 64;

/// Longest entry of such a list, in bytes: a host's name has 253.
pub const CORS_ENTRY_MAX_BYTES: usize = 280;

/// Methods that pages may use where `cors` does not say which.
pub const CORS_METHODS_DEFAULT: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];

/// Longest name of a function, namespace or secret, in bytes: what fits a DNS label.
pub const NAME_MAX_BYTES: usize = 63;

/// Largest invocation input (HTTP body), in bytes: the contract's 1 MiB.
pub const INPUT_MAX_BYTES: usize = 1 << 20;

/// Statements of one `exec_and_publish`: the node adds two of its own to them.
pub const OUTBOX_STATEMENTS_MAX: usize = DB_STATEMENTS_MAX - 2;

/// Calls of functions by functions in one chain. Each takes an instance until those after it have ended.
pub const CALL_DEPTH_MAX: u32 = 8;

/// Largest standard output of one invocation, in bytes. Answers are held in memory until they are sent.
pub const OUTPUT_MAX_BYTES: usize = 8 << 20;

/// Output up to this size, in bytes, does not count in the node's budget of memory; it is less than the guest's own memory.
pub const OUTPUT_COUNTED_FROM_BYTES: usize = 64 << 10;

/// Largest wasm module accepted, in bytes. Standard Go programs are 3 to 20 MB.
pub const WASM_MAX_BYTES: usize = 64 << 20;

/// Environment variables of one function version.
pub const ENV_MAX_ENTRIES: usize = 128;

/// Names and values of a version's environment together, in bytes; they are copied into every instance.
pub const ENV_MAX_BYTES: usize = 64 << 10;

/// Longest log message kept whole, in bytes; a longer one is cut and says so.
pub const LOG_MESSAGE_MAX_BYTES: usize = 8 << 10;

/// Log messages kept of one invocation: half of them are its first ones and half its last ones. The record counts the others.
pub const LOG_MESSAGES_MAX: usize = 200;

/// All log messages of one invocation together, in bytes, so that one function cannot flood the store. Half of it is for the
/// first ones, half for the last ones.
pub const LOG_TOTAL_MAX_BYTES: usize = 64 << 10;

/// Lines of a failed function's standard output that its log gets besides: half of them the first ones, half the last ones.
pub const LOG_OUTPUT_LINES_MAX: usize = 50;

/// Bytes of a failed function's standard output that its log gets: half from its beginning, half from its end.
pub const LOG_OUTPUT_MAX_BYTES: usize = 16 << 10;

/// Bytes of a panic's line that an error repeats.
pub const PANIC_SHOWN_BYTES: usize = 512;

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

/// Local variables times blocks of one function. The code generator keeps some bytes for each pair: 50 million took 450 MB,
/// and 1,000 million more than 4 GB.
pub const FUNCTION_COMPLEXITY_MAX: u64 = 50_000_000;

/// Blocks within one another in one function. The validation, which runs in the node, keeps 90 bytes for each: a function of the
/// largest size could have 3.8 million.
pub const BLOCK_DEPTH_MAX: u64 = 200_000;

/// Function types of a module with all their parameters and results. Loaded code keeps some 16 bytes for each that is one byte in
/// the module: 30 million took 500 MB.
pub const TYPE_VALUES_MAX: usize = 100_000;

/// Memory of a process that compiles a module. A standard Go program of 5 MB takes 200 MB.
pub const COMPILE_MEMORY_MB: Setting =
    Setting { name: "compile_memory_mb", default: 2048, min: 256, max: 1 << 20, unit: "MB" };

/// Wall time of one compilation. A standard Go program of 3 MB takes 1.5 s on two idle cores; the largest module is 20 times
/// as large.
pub const COMPILE_SECONDS: Setting =
    Setting { name: "compile_seconds", default: 60, min: 1, max: 3600, unit: "seconds" };

/// Open files of a process that compiles: the socket, and the code cache's files.
pub const COMPILE_DESCRIPTORS: u64 = 64;

/// Native code for each byte of wasm that a parent takes from a process that compiles. Go's is 3, and the worst of the test
/// guests has 12.
pub const COMPILE_CODE_PER_WASM: usize = 32;

/// Native code that a parent takes in any case, in bytes: small modules have tables and padding.
pub const COMPILE_CODE_SMALLEST_BYTES: usize = 4 << 20;

/// Bytes that a guest's bulk operation (`memory.copy` and the like) handles between two checkpoints. Fresh pages cost the most:
/// 64 KiB of them take 45 us.
pub const BULK_CHUNK_BYTES: i32 = 64 << 10;

/// Pages of an instance's memory that are reset one by one when it is dropped, and stay in its slot. Further ones are given
/// back to the system. Go hello writes 150 of 4 KiB.
pub const RESET_PAGES: usize = 256;

/// Disjoint regions of written pages that are reset one by one. What lies behind them is given back to the system.
pub const RESET_REGIONS: usize = 128;

/// The size up to which an image may be of data segments that are far apart, in bytes.
pub const IMAGE_SMALLEST_BYTES: u64 = 1 << 20;

/// The size up to which a larger image may be, by the bytes of its data segments.
pub const IMAGE_PER_DATA: u64 = 2;

/// Stacks that a thread keeps for its next guests, and for other threads'. Each has up to 1.3 MB, of which the part that was used
/// is resident.
pub const STACKS_KEPT: usize = 512;

/// Functions, imports, globals and tables' elements of a module that each instance has an entry for. Go hello has 6,000, a 64
/// MB Go program 20 times that. An entry has 16 to 40 bytes.
pub const INSTANCE_ENTRIES_MAX: u64 = 150_000;

/// Linear memory, in bytes, from which on the reclaim thread drops a guest instead of its core. Dropping a smaller guest takes
/// 6 ms at most. Programs of Go up to 1.23 have 26 MB and touch 2 of them, so they stay on their core.
pub const RECLAIM_FROM_BYTES: usize = 32 << 20;

/// Guests that may wait for the reclaim thread. When the queue is full, a core drops its guest itself.
pub const RECLAIM_QUEUE: usize = 16;

/// Pause between two attempts to take a slot while the reclaim thread drops guests.
pub const RECLAIM_WAIT: Duration = Duration::from_millis(1);

/// Attempts to take such a slot, about a second. A full queue of the largest guests takes 0.8 s.
pub const RECLAIM_ATTEMPTS: u32 = 1000;

/// Bytes of a function's wasm between two checkpoints where it has no loop. They hold 3,000 calls of host functions, which take
/// about 1 ms.
pub const STRAIGHT_CODE_MAX_BYTES: usize = 16 << 10;

/// How often running guests are asked whether their slice or their deadline has passed.
pub const EPOCH_TICK: Duration = Duration::from_millis(1);

/// Instances alive at once on a node, each with a slot for its memory and a stack, which are up to six mappings of the kernel's
/// 65,530.
pub const INSTANCE_SLOTS: u32 = 1024;

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

/// Messages of one `pubsub_publish_batch`, the contract's 100.
pub const PUBLISH_BATCH_MAX: usize = 100;

/// Largest JSON of one `pubsub_publish_batch`, in bytes. Four of the largest events fit in.
pub const PUBLISH_BATCH_MAX_BYTES: usize = 4 << 20;

/// Longest time that a message may wait before it is published: the contract's 30 days.
pub const PUBLISH_DELAY_MAX: Duration = Duration::from_hours(30 * 24);

/// Arguments of one SQL statement: what SQLite takes.
pub const DB_STATEMENT_ARGUMENTS_MAX: usize = 32_766;

/// A longer time of a cache entry is as good as none; clocks and caches can add this much without overflowing.
pub const CACHE_TTL_MAX: Duration = Duration::from_hours(100 * 366 * 24);

/// Headers of an answer that a function shapes: the contract's 64.
pub const ANSWER_HEADERS_MAX: usize = 64;

/// Names and values of those headers together, in bytes. Common servers in front of a node take 16 to 64 KiB.
pub const ANSWER_HEADERS_MAX_BYTES: usize = 16 << 10;

/// The same as JSON: room for escapes.
pub const ANSWER_HEADERS_JSON_MAX_BYTES: usize = 4 * ANSWER_HEADERS_MAX_BYTES;

/// Bytes of one call of `http_response_write`. There is no limit on their sum.
pub const ANSWER_WRITE_MAX_BYTES: usize = OUTPUT_MAX_BYTES;

/// Headers that `http_fetch` is handed as JSON, in bytes: room for [`FETCH_HEADERS_MAX_BYTES`] with escapes.
pub const FETCH_HEADERS_JSON_MAX_BYTES: usize = 4 * FETCH_HEADERS_MAX_BYTES;

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

/// Time for all runs with which the snapshot of a program's start is made and proven. A large web handler takes 20 ms.
pub const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(5);

/// Runs from the start and from the snapshot that are timed, of which the shortest counts.
pub const SNAPSHOT_ROUNDS: u32 = 3;

/// A snapshot that saves less of a run than this is not worth its file.
pub const SNAPSHOT_GAIN_PERCENT_MIN: u32 = 20;

/// Largest part of a memory that a snapshot keeps, from the first page that is not zero to the last. Go up to 1.23 spans 26 MB.
pub const SNAPSHOT_IMAGE_MAX_BYTES: usize = 64 << 20;

/// Pages of a snapshot that are not zero, in bytes: what its file takes of the disk. A web handler has 7 MB.
pub const SNAPSHOT_SET_MAX_BYTES: usize = 32 << 20;

/// Generators of random numbers that are found in a program. Go 1.26 has two.
pub const SNAPSHOT_RANDOM_STATES_MAX: usize = 16;

/// A namespace's snapshots of one loaded module. Functions that share a module need one for each name and environment.
pub const SNAPSHOTS_OF_MODULE_MAX: usize = 1024;

/// What a namespace's snapshots may take of the disk: some 1,400 of usual ones. The oldest go, and are made again when needed.
pub const SNAPSHOTS_OF_NAMESPACE_MAX_BYTES: u64 = 4 << 30;

/// Snapshots that a process has loaded: each has a file open and a mapping beside those of its module. Functions beyond run from
/// their start.
pub const SNAPSHOTS_LOADED_MAX: u64 = 2048;
/// The part of the file descriptors for snapshots, one in so many. Modules have half.
pub const SNAPSHOTS_DESCRIPTORS_SHARE: u64 = 8;

/// How long rows may be kept where a function asks for it (`cache_ttl`). What may be older than an hour belongs into the cache.
pub const DB_READS_KEPT_MAX: Duration = Duration::from_hours(1);
/// The part of those that one namespace may have, one in so many.
pub const SNAPSHOTS_OWNER_PART: u64 = 2;
