//! Every limit of what is deployed and of what happens to it: default, minimum, maximum and the reason for each.

use std::time::Duration;

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

/// Batches of records and flushes in the writer's queue; a further batch is dropped and counted. A second of the busiest node's.
/// [`RECORDS_QUEUE_MAX_BYTES`] bounds their bytes.
pub const RECORDS_QUEUE_MAX: usize = 16 << 10;

/// How long a record waits for others to share its commit, so that a crash loses less than 100 ms.
pub const RECORD_COMMIT_EVERY: Duration = Duration::from_millis(10);

/// Modules that wait in memory for their turn to be compiled; at more, a deploy is told to come back. What they take is
/// bounded by [`CONTROL_BODIES_MAX_BYTES`] besides.
pub const COMPILES_WAITING_MAX: usize = 64;

/// The part of one namespace in [`COMPILES_WAITING_MAX`].
pub const COMPILES_WAITING_NAMESPACE_MAX: usize = 16;

/// Secrets of one namespace.
pub const SECRETS_MAX: u32 = 1000;

/// Triggers of one function.
pub const TRIGGERS_MAX: u32 = 100;

/// API keys of one namespace.
pub const KEYS_MAX: u32 = 1000;

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

/// Public keys of one issuer of tokens; a token that names none is tried with each of its kind.
pub const TOKEN_KEYS_MAX: usize = 64;

/// Size of the file or answer that holds them, in bytes.
pub const TOKEN_KEYS_MAX_BYTES: u64 = 1 << 20;

/// Issuers of tokens. A token is tried with those of its `iss`, and each is watched by a task.
pub const TOKEN_ISSUERS_MAX: usize = 64;

/// How often the keys at a URL are fetched again. Issuers announce a new key hours before they sign with it.
pub const TOKEN_KEYS_FETCH_EVERY: Duration = Duration::from_secs(300);

/// The pause before keys are fetched again that could not be fetched.
pub const TOKEN_KEYS_RETRY_AFTER: Duration = Duration::from_secs(10);

/// The least time between two fetches that tokens with an unknown key cause: anybody can send such tokens.
pub const TOKEN_KEYS_ASKED_EVERY: Duration = Duration::from_secs(10);

/// Time for one fetch of keys.
pub const TOKEN_KEYS_FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Functions of one namespace, unless an operator set another quota: more than any product of one team has.
pub const FUNCTIONS_MAX: u64 = 1000;

/// Names that functions of one namespace ever had. Each keeps a row of some 100 bytes when its function is deleted.
pub const FUNCTION_NAMES_MAX: u64 = 100_000;

/// Versions of one function: three deploys a day for a year. Each may hold an environment of 64 KiB.
pub const VERSIONS_MAX: u64 = 1000;

/// Modules of one namespace, in bytes: some 1,000 of standard Go. Machine code takes three times as much besides.
pub const MODULES_TOTAL_MAX_BYTES: u64 = 4 << 30;

/// Environments of all versions of one namespace, in bytes: 1,000 of the largest. The registry holds them, also the copy
/// on every node.
pub const ENV_TOTAL_MAX_BYTES: u64 = 64 << 20;

/// Objects that one namespace may store.
pub const STORAGE_OBJECTS_MAX: u64 = 10_000;

/// Objects that one namespace stores together, in bytes.
pub const STORAGE_TOTAL_MAX_BYTES: u64 = 1 << 30;

/// Objects that are written or read at once, each up to [`STORAGE_MAX_BYTES`] in memory.
pub const STORAGE_THREADS_MAX: usize = 8;

/// Topics whose triggers are remembered, each about 300 bytes.
pub const TRIGGER_CACHE_MAX: u64 = 10_000;

/// Published events that wait for their commit, in bytes of memory; at more, publishers are told to come back.
pub const EVENTS_UNWRITTEN_MAX_BYTES: usize = 32 << 20;

/// Memory that an event takes beside its data until it is committed, and as much for each of its triggers. It counts that much
/// in [`EVENTS_UNWRITTEN_MAX_BYTES`], which so bounds the number of events too.
pub const EVENT_COST_BYTES: usize = 1 << 10;

/// Outcomes of jobs on their way to the disk; with more, turns wait. One commit takes as many.
pub const JOB_OUTCOMES_MAX: usize = 1024;

/// Changes in the queue of the events' writer: all events that [`EVENTS_UNWRITTEN_MAX_BYTES`] admits, a batch of outcomes,
/// and the leases of turns. A full queue refuses publishers and leases, and outcomes wait.
pub const EVENT_CHANGES_MAX: usize =
    EVENTS_UNWRITTEN_MAX_BYTES / (2 * EVENT_COST_BYTES) + 2 * JOB_OUTCOMES_MAX;

/// Renewals of leases that the dispatcher has not seen: it asks for one every three seconds.
pub const RENEWALS_MAX: usize = 16;

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

/// The data of dead letters that one request returns, in bytes; fewer are returned when theirs is more.
pub const DEAD_LETTERS_PAGE_MAX_BYTES: usize = 8 << 20;

/// Memory that a loaded module takes beside its code, in bytes: what wasmtime keeps to link and to instantiate it.
pub const MODULE_OVERHEAD_BYTES: usize = 32 << 10;

/// When one part in so many of what may be loaded was loaded anew, cores tell again which modules they use; and when the
/// system has no room for a module, so many go.
pub const MODULES_AGES: u64 = 16;

/// Modules that are fetched at once, each up to [`WASM_MAX_BYTES`] in memory.
pub const MODULE_FETCHES_MAX: usize = 4;

/// How long an invocation waits for code that its node must fetch or compile first; the work goes on when it gives up.
pub const CODE_PATIENCE: Duration = Duration::from_secs(30);

/// Modules deployed elsewhere that wait to be compiled before somebody asks for them; further ones are when they are asked for.
pub const PREWARM_WAITING_MAX: usize = 256;

/// How often it is looked whether functions were deployed or deleted, by a counter in memory.
pub const RECONCILE_EVERY: Duration = Duration::from_millis(100);

/// How often removals that failed are tried again, and how often pins are compared with what must be pinned.
pub const BLOBS_RETRY_EVERY: Duration = Duration::from_secs(30);
/// See [`BLOBS_RETRY_EVERY`].
pub const BLOBS_REPAIR_EVERY: Duration = Duration::from_mins(10);

/// How long a request for logs waits for other nodes.
pub const PEER_PATIENCE: Duration = Duration::from_secs(1);

/// Answers of other nodes that one question has not read yet; with more, the receiver of messages waits.
pub const PEER_ANSWERS_WAITING_MAX: usize = 8;

/// Records that one node sends another at once, in bytes.
pub const PEER_ANSWER_MAX_BYTES: usize = 4 << 20;

/// Nodes of a cluster that one of them remembers.
pub const PEERS_MAX: usize = 256;

/// Requests for logs that ask other nodes at once; more wait, and at last answer without them.
pub const PEER_QUESTIONS_MAX: usize = 8;

/// Questions of other nodes that are answered at once; to more a node is silent.
pub const PEER_ANSWERS_MAX: usize = 4;

/// Largest manifest of an archive, in bytes: some 500,000 parts.
pub const TRANSFER_MANIFEST_MAX_BYTES: u64 = 128 << 20;

/// Rows of the platform's tables that an import stores as one change.
pub const TRANSFER_ROWS_MAX: usize = 500;
/// Their bytes, after which a change is closed: a row itself has at most some MB.
pub const TRANSFER_ROWS_MAX_BYTES: usize = 1 << 20;

/// How long the copy of one namespace's database to or from its servers may take.
pub const TRANSFER_DATABASE_TIMEOUT: Duration = Duration::from_secs(600);

/// How long a request to delete a namespace waits for what still runs there, before it is told that the rest follows.
pub const NAMESPACE_DELETION_PATIENCE: Duration = Duration::from_secs(10);

/// Deploys that store their module at once: each waits on a thread for the disk and for servers.
pub const DEPLOYS_STORING_MAX: usize = 4;
