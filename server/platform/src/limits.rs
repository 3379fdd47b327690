//! The limits of the platform: the registry, events, records, secrets and modules. Each has its default, minimum, maximum and
//! reason.

use std::time::Duration;

/// Age at which an invocation record is deleted.
pub const RECORD_RETENTION: Duration = Duration::from_hours(7 * 24);

/// Invocation records kept for one function; the oldest are deleted first.
pub const RECORDS_PER_FUNCTION: u32 = 10_000;

/// Invocation records kept for one function, in bytes: ten thousand with full logs would take ten times as much.
pub const RECORDS_PER_FUNCTION_BYTES: u64 = 64 << 20;

/// Invocation records kept on a node, in bytes; the oldest are deleted first.
pub const RECORDS_MAX_BYTES: u64 = 4 << 30;

/// Records waiting to be written, in bytes of memory; records above it are dropped and counted. About 200,000 without messages.
pub const RECORDS_QUEUE_MAX_BYTES: usize = 64 << 20;

/// Batches and flushes in the queue of the writer of records: one second of the busiest node. A further batch is dropped and
/// counted. [`RECORDS_QUEUE_MAX_BYTES`] bounds their bytes.
pub const RECORDS_QUEUE_MAX: usize = 16 << 10;

/// How long a record waits for others to share its commit, so that a crash loses less than 100 ms.
pub const RECORD_COMMIT_EVERY: Duration = Duration::from_millis(10);

/// How long statistics are kept.
pub const STATS_RETENTION: Duration = Duration::from_hours(30 * 24);

/// Seconds for which statistics are kept by the minute; later by the hour.
pub const STATS_MINUTES_KEPT_S: i64 = 2 * 3600;

/// Versions that one look at statistics tells of, about 1 KiB of memory each.
pub const STATS_TOLD_MAX: usize = 5_000;

/// Rows of statistics, some 400 bytes each; the oldest are deleted first.
pub const STATS_ROWS_MAX: i64 = 250_000;

/// Those of one namespace.
pub const STATS_ROWS_PER_NAMESPACE: i64 = 60_000;

/// Versions that have statistics of their own in one minute, about 1 KiB each. Those of others are only part of the node's.
pub const STATS_ACTIVE_MAX: usize = 20_000;

/// Those of one namespace.
pub const STATS_ACTIVE_PER_NAMESPACE: usize = 1_000;

/// Functions that the node's metrics tell of one by one. Each has at most 115 lines of 215 bytes, and all
/// together less than a megabyte.
pub const STATS_FUNCTIONS_MAX: usize = 40;

/// Modules that wait in memory to be compiled; above it a deploy gets 503. Their memory is
/// also bounded by the share of request bodies.
pub const COMPILES_WAITING_MAX: usize = 64;

/// Snapshots that wait for a turn: some minutes of work. Those beyond are made when a core first needs them.
pub const SNAPSHOTS_WAITING_MAX: usize = 2048;

/// The part of one namespace in [`SNAPSHOTS_WAITING_MAX`].
pub const SNAPSHOTS_WAITING_NAMESPACE_MAX: usize = 1024;

/// The part of one namespace in [`COMPILES_WAITING_MAX`].
pub const COMPILES_WAITING_NAMESPACE_MAX: usize = 16;

/// Compilation time from which on a namespace waits behind the others. Compiling a Go program of 3 MB takes 1 s of it.
pub const COMPILE_DEBT_MAX: Duration = Duration::from_secs(10);

/// Each namespace has a share of the time that compiles for it alone: one second in so many is not counted.
pub const COMPILE_DEBT_SHARE: u32 = 10;

/// Secrets of one namespace.
pub const SECRETS_MAX: u32 = 1000;

/// Triggers of one function.
pub const TRIGGERS_MAX: u32 = 100;

/// Functions that a key may be narrowed to.
pub const KEY_FUNCTIONS_MAX: usize = 100;

/// Characters of a key's name.
pub const KEY_NAME_MAX: usize = 64;

/// How exactly the node knows when a key was last used. So a key costs at most one write in this time on each node.
pub const KEY_USE_NOTED_EVERY: Duration = Duration::from_secs(3600);

/// How often the node writes which keys were used.
pub const KEY_USES_WRITTEN_EVERY: Duration = Duration::from_secs(60);

/// Aliases of one function.
pub const ALIASES_MAX: u32 = 32;

/// Versions of one function that share its traffic.
pub const TRAFFIC_VERSIONS_MAX: usize = 16;

/// The largest weight of a version, so that shares of a thousandth of a percent are possible.
pub const TRAFFIC_WEIGHT_MAX: u32 = 100_000;

/// Triggers on patterns of topics of one namespace. Each is compared with a topic when that is first published.
pub const PATTERNS_MAX: u32 = 1000;

/// API keys of one namespace.
pub const KEYS_MAX: u32 = 1000;

/// Secrets that one transaction of a key rotation re-encrypts: it blocks other writers for some milliseconds.
pub const SECRETS_RESEALED_AT_ONCE: u32 = 32;

/// Secrets in plain text that one core caches, in bytes with their names; above it the cache is emptied.
pub const SECRETS_REMEMBERED_BYTES: usize = 64 << 20;

/// The part of one namespace in [`SECRETS_REMEMBERED_BYTES`]: sixteen of the largest values.
pub const SECRETS_REMEMBERED_NAMESPACE_BYTES: usize = 1 << 20;

/// Longest token, in bytes: it must fit beside other headers into the 8 KiB that common proxies allow.
pub const TOKEN_MAX_BYTES: usize = 8 << 10;

/// Tolerated difference between the clocks of an issuer and the node.
pub const TOKEN_LEEWAY: Duration = Duration::from_secs(60);

/// Public keys of one issuer; a token without a key id is tried with each key of its algorithm.
pub const TOKEN_KEYS_MAX: usize = 64;

/// Size of the file or answer with an issuer's keys, in bytes.
pub const TOKEN_KEYS_MAX_BYTES: u64 = 1 << 20;

/// Issuers of tokens. A token is tried with all that match its `iss`, and each issuer has a task.
pub const TOKEN_ISSUERS_MAX: usize = 64;

/// How often the keys at a URL are fetched again. Issuers announce a new key hours before they sign with it.
pub const TOKEN_KEYS_FETCH_EVERY: Duration = Duration::from_secs(300);

/// Pause after a failed fetch of keys.
pub const TOKEN_KEYS_RETRY_AFTER: Duration = Duration::from_secs(10);

/// Minimum time between two fetches because of tokens with an unknown key: anybody can send such tokens.
pub const TOKEN_KEYS_ASKED_EVERY: Duration = Duration::from_secs(10);

/// Time for one fetch of keys.
pub const TOKEN_KEYS_FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Default quota of functions of one namespace: more than a team needs.
pub const FUNCTIONS_MAX: u64 = 1000;

/// Function names that one namespace ever used. A deleted function leaves a row of some 100 bytes.
pub const FUNCTION_NAMES_MAX: u64 = 100_000;

/// Default quota of versions of one function: three deploys a day for a year. Each may have an environment of 64 KiB.
pub const VERSIONS_MAX: u64 = 1000;

/// Default quota of modules of one namespace, in bytes: some 1,000 of standard Go. Artifacts take three times as much in
/// addition.
pub const MODULES_TOTAL_MAX_BYTES: u64 = 4 << 30;

/// Default quota of environments of one namespace, in bytes: 1,000 of the largest. They are in the registry and in its replica on
/// every node.
pub const ENV_TOTAL_MAX_BYTES: u64 = 64 << 20;

/// Default quota of objects of one namespace.
pub const STORAGE_OBJECTS_MAX: u64 = 10_000;

/// Default quota of objects of one namespace, in bytes.
pub const STORAGE_TOTAL_MAX_BYTES: u64 = 1 << 30;

/// Objects written or read at the same time, each up to [`STORAGE_MAX_BYTES`] in memory.
pub const STORAGE_THREADS_MAX: usize = 8;

/// Topics whose triggers are cached, each about 300 bytes.
pub const TRIGGER_CACHE_MAX: u64 = 10_000;

/// Published events that wait for their commit, in bytes of memory; above it publishers get `UNAVAILABLE`.
pub const EVENTS_UNWRITTEN_MAX_BYTES: usize = 32 << 20;

/// Memory of an uncommitted event besides its data, and the same for each of its triggers. Because it counts in
/// [`EVENTS_UNWRITTEN_MAX_BYTES`], it bounds the number of events too.
pub const EVENT_COST_BYTES: usize = 1 << 10;

/// Outcomes of jobs that wait for their commit; with more, turns wait. One commit takes as many.
pub const JOB_OUTCOMES_MAX: usize = 1024;

/// Changes in the queue of the events' writer: all events that [`EVENTS_UNWRITTEN_MAX_BYTES`] admits, a batch of outcomes,
/// and the leases of turns. A full queue refuses publishers and leases, and outcomes wait.
pub const EVENT_CHANGES_MAX: usize =
    EVENTS_UNWRITTEN_MAX_BYTES / (2 * EVENT_COST_BYTES) + 2 * JOB_OUTCOMES_MAX;

/// Renewals of leases that the dispatcher has not read: it requests one every three seconds.
pub const RENEWALS_MAX: usize = 16;

/// The same for one namespace, so that none fills the queue.
pub const EVENTS_UNWRITTEN_NAMESPACE_MAX_BYTES: usize = EVENTS_UNWRITTEN_MAX_BYTES / 4;

/// Waiting jobs of one namespace, one for each trigger of an event; above it its publishers get `UNAVAILABLE`.
pub const JOBS_WAITING_MAX: u64 = 100_000;

/// Data of the waiting jobs of one namespace, in bytes, counted for each job.
pub const JOBS_WAITING_MAX_BYTES: u64 = 512 << 20;

/// Messages of one namespace that wait for their time; above it its publishers get `UNAVAILABLE`.
pub const LATER_MAX: u64 = 200_000;

/// Data of the messages of one namespace that wait for their time, in bytes.
pub const LATER_MAX_BYTES: u64 = 512 << 20;

/// Messages that become due in one transaction.
pub const LATER_AT_ONCE: u32 = 500;

/// Runs that [`run_later`](orama_runtime::services::Events::run_later) accepted and that one function has at once on the node.
/// They are spread over as many queues.
pub const LATER_RUN_LANES: u8 = 8;

/// How often nodes that share databases look for messages that others left in an outbox, and the pause after a message could not
/// be published. Each look is a query for each namespace that has an outbox.
pub const OUTBOX_SWEEP_EVERY: Duration = Duration::from_secs(15);

/// Rows of an outbox that are published at once when it is swept.
pub const OUTBOX_ROWS_AT_ONCE: u32 = 100;

/// Jobs of one trigger that are read at once.
pub const JOBS_WINDOW: u32 = 64;

/// How long a trigger's turn lasts before another trigger of its namespace gets one.
pub const JOBS_TURN: Duration = Duration::from_millis(250);

/// The part of a namespace in the node's concurrent triggered functions, one in so many: 32 of 512.
pub const TRIGGERED_NAMESPACE_SHARE: usize = 16;

/// How long the outcome of a job may wait for others to share its commit. After a crash it runs again.
pub const JOB_OUTCOME_COMMIT_EVERY: Duration = Duration::from_millis(20);

/// Duration of a lease without a renewal. After it, other nodes can take the triggers of a lost node.
pub const JOB_LEASE: Duration = Duration::from_secs(15);

/// Dead letters kept for one namespace; the oldest are deleted first, and all that are older than
/// [`RECORD_RETENTION`].
pub const DEAD_LETTERS_MAX: u64 = 10_000;

/// Data of the dead letters of one namespace, in bytes.
pub const DEAD_LETTERS_MAX_BYTES: u64 = 128 << 20;

/// Data of the dead letters that one request returns, in bytes.
pub const DEAD_LETTERS_PAGE_MAX_BYTES: usize = 8 << 20;

/// Memory of a loaded module besides its code, in bytes: wasmtime's data to link and instantiate it.
pub const MODULE_OVERHEAD_BYTES: usize = 32 << 10;

/// Cores report which modules they use each time this part of the capacity, one in so many, was newly loaded. If the system has
/// no room for a module, the same part is evicted.
pub const MODULES_AGES: u64 = 16;

/// Modules fetched at the same time, each up to [`WASM_MAX_BYTES`] in memory.
pub const MODULE_FETCHES_MAX: usize = 4;

/// How long an invocation waits for code that its node must fetch or compile. The work continues after that.
pub const CODE_PATIENCE: Duration = Duration::from_secs(30);

/// Modules deployed elsewhere that wait to be compiled in advance; further ones are compiled when they are invoked.
pub const PREWARM_WAITING_MAX: usize = 256;

/// How often the reconciler compares the registry's generation, a counter in memory.
pub const RECONCILE_EVERY: Duration = Duration::from_millis(100);

/// How often failed removals are retried, and how often pins are compared with the registry.
pub const BLOBS_RETRY_EVERY: Duration = Duration::from_secs(30);
/// See [`BLOBS_RETRY_EVERY`].
pub const BLOBS_REPAIR_EVERY: Duration = Duration::from_mins(10);

/// How long a request for logs waits for answers of peers.
pub const PEER_PATIENCE: Duration = Duration::from_secs(1);

/// Answers of peers that one question has not read; with more, the receiver of messages waits.
pub const PEER_ANSWERS_WAITING_MAX: usize = 8;

/// Records in one answer to a peer, in bytes.
pub const PEER_ANSWER_MAX_BYTES: usize = 4 << 20;

/// Peers that a node keeps track of.
pub const PEERS_MAX: usize = 256;

/// Requests for logs that ask peers at the same time; further ones wait, and in the end answer without peers.
pub const PEER_QUESTIONS_MAX: usize = 8;

/// Questions of peers that are answered at the same time; further ones get no answer.
pub const PEER_ANSWERS_MAX: usize = 4;

/// Largest manifest of an archive, in bytes: some 500,000 parts.
pub const TRANSFER_MANIFEST_MAX_BYTES: u64 = 128 << 20;

/// Rows of the platform database that an import writes in one transaction.
pub const TRANSFER_ROWS_MAX: usize = 500;
/// Bytes of rows after which a transaction is closed: a single row has at most some MB.
pub const TRANSFER_ROWS_MAX_BYTES: usize = 1 << 20;

/// Timeout of copying one namespace's database from or to its servers.
pub const TRANSFER_DATABASE_TIMEOUT: Duration = Duration::from_secs(600);

/// How long a request to delete a namespace waits for invocations there before it is answered that the rest follows.
pub const NAMESPACE_DELETION_PATIENCE: Duration = Duration::from_secs(10);

/// Deploys that store their module at the same time: each occupies a thread that waits for disks and servers.
pub const DEPLOYS_STORING_MAX: usize = 4;

/// Migrations of one namespace.
pub const MIGRATIONS_MAX: usize = 1000;

/// Length of a migration's name, in bytes.
pub const MIGRATION_NAME_MAX_BYTES: usize = 128;

/// How long one migration may take: an index over a large table takes tens of seconds.
pub const MIGRATION_TIMEOUT: Duration = Duration::from_secs(60);

/// Refusals of one namespace that are recorded in a second, each as a record of the audit trail; further ones are counted.
pub const AUDIT_REFUSED_PER_SECOND: usize = 10;

/// Refusals of all namespaces that wait to be recorded, and namespaces that have some: some 500 bytes each.
pub const AUDIT_WAITING_MAX: usize = 1024;

/// Addresses of which the audit trail counts bad credentials; those of further addresses are counted together.
pub const AUDIT_ADDRESSES_MAX: usize = 256;

/// How often the count of an address's bad credentials is written, after the first one.
pub const AUDIT_LOGINS_WRITTEN_EVERY: Duration = Duration::from_secs(60);

/// Bad credentials of an address within this time are one record.
pub const AUDIT_LOGINS_TOGETHER: Duration = Duration::from_secs(600);

/// How often records of the audit trail that need not be durable with a change are written.
pub const AUDIT_WRITTEN_EVERY: Duration = Duration::from_secs(1);

/// How often old records of the audit trail are removed.
pub const AUDIT_PRUNED_EVERY: Duration = Duration::from_secs(600);

/// Changes that the audit trail of one namespace keeps: some 4 MB.
pub const AUDIT_CHANGES_MAX: u64 = 10_000;

/// Refusals that it keeps. They do not take the place of changes: whoever may do nothing can make many.
pub const AUDIT_REFUSALS_MAX: u64 = 5_000;

/// Records of the audit trail that one transaction removes: it blocks other writers for some milliseconds.
pub const AUDIT_PRUNED_AT_ONCE: u32 = 500;

/// Records of the audit trail that a request looks at; where its filter leaves few of them, the next page goes on.
pub const AUDIT_SCANNED_MAX: usize = 20_000;

/// Blocks of records that one request for a namespace's logs looks at; the next page goes on.
pub const LOGS_BLOCKS_VISITED_MAX: usize = 20_000;

/// Of those, blocks that it decodes.
pub const LOGS_BLOCKS_DECODED_MAX: usize = 4096;

/// The same in bytes: some 100 ms of a processor.
pub const LOGS_BYTES_MAX: usize = 16 << 20;

/// Bytes of blocks that one request decodes that follows logs. A peer's answer has room for them.
pub const LOGS_ARRIVED_BYTES_MAX: usize = 1 << 20;
