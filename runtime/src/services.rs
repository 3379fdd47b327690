//! What the runtime asks of the program that embeds it: a turn on its core, and the services that guests reach through
//! host functions.
//!
//! Every call names the namespace it is for, and the implementation keeps namespaces apart. A service answers what its
//! trait promises; what a guest sees of a failure is decided in `host`.

use crate::names::Namespace;
use bytes::Bytes;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

mod memory;
mod scheduler;
mod unavailable;

pub use memory::{GuestMemory, Unbounded};
pub use scheduler::{Scheduler, ThreadScheduler};
pub use unavailable::Unavailable;

/// A future that owns what it needs and may move between threads, as guests' host calls require. One that can answer
/// at once is ready when it is first polled; dropping one gives the call up.
pub type Answer<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// An [`Answer`] without a value.
pub type Wait = Answer<()>;

/// Everything that guests of one core reach. Each core has its own, so that counting its uses is not shared.
#[derive(Clone)]
pub struct Host {
    /// How guests give way.
    pub scheduler: Arc<dyn Scheduler>,
    /// `db_*`.
    pub database: Arc<dyn Database>,
    /// `cache_*`.
    pub cache: Arc<dyn Cache>,
    /// `get_secret`.
    pub secrets: Arc<dyn Secrets>,
    /// `http_fetch`.
    pub http: Arc<dyn Http>,
    /// `storage_*`.
    pub storage: Arc<dyn Storage>,
    /// `pubsub_publish`.
    pub events: Arc<dyn Events>,
    /// The budget of their memory.
    pub memory: Arc<dyn GuestMemory>,
}

impl Host {
    /// A host without services: each call answers that it is not available.
    #[must_use]
    pub fn without_services(scheduler: Arc<dyn Scheduler>) -> Self {
        let none = Arc::new(Unavailable);
        Self {
            scheduler,
            database: none.clone(),
            cache: none.clone(),
            secrets: none.clone(),
            http: none.clone(),
            storage: none.clone(),
            events: none,
            memory: Arc::new(Unbounded),
        }
    }
}

/// Why a service did not do what it was asked. The message is shown to the function's author: it names what was wrong
/// and holds no secret and nothing of another namespace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ServiceError {
    /// For programs.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
}

impl ServiceError {
    /// Any error.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The guest asked for something that cannot be.
    #[must_use]
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidArgument, message)
    }

    /// The service cannot be reached, or is busy; the same call may succeed later.
    #[must_use]
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Unavailable, message)
    }
}

/// The kinds of [`ServiceError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    /// The call is wrong: SQL, a name, a value.
    InvalidArgument,
    /// More than [`crate::limits::DB_STATEMENTS_MAX`].
    TooManyStatements,
    /// The call or its result is larger than a limit, which the message names.
    PayloadTooLarge,
    /// The invocation's deadline passed first.
    DeadlineExceeded,
    /// The service cannot answer now.
    Unavailable,
    /// The node failed.
    Internal,
}

impl ErrorCode {
    /// The word that guests are given.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::TooManyStatements => "TOO_MANY_STATEMENTS",
            Self::PayloadTooLarge => "PAYLOAD_TOO_LARGE",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::Unavailable => "UNAVAILABLE",
            Self::Internal => "INTERNAL",
        }
    }
}

/// A value bound to a statement's parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum SqlValue {
    /// NULL.
    Null,
    /// A whole number, exact.
    Integer(i64),
    /// Any other number.
    Real(f64),
    /// Text.
    Text(String),
    /// Bytes; JSON has them as an array of numbers from 0 to 255.
    Blob(Vec<u8>),
}

/// One SQL statement with its arguments.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// Whether rows are asked for.
    pub kind: StatementKind,
    /// One statement, without any other behind it.
    pub sql: String,
    /// Bound to `?` in order, as many as the statement has.
    pub args: Vec<SqlValue>,
}

/// What a statement is run for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatementKind {
    /// What it changes.
    Exec,
    /// Its rows. It may change nothing.
    Query,
}

/// How the statements of one call belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchMode {
    /// Queries only; where the database has several copies, as fresh as asked.
    Read(Consistency),
    /// The execs in their order, all or nothing; when they are committed, the queries in their order.
    Write,
}

/// How fresh a read must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Consistency {
    /// As the leader has it.
    #[default]
    Weak,
    /// As any copy has it.
    None,
    /// As it is now, also while the leader changes.
    Strong,
    /// As it was at most so long ago: the node may answer from what it read before. What it wrote itself since is in it.
    Within(Duration),
}

/// What a statement gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatementResult {
    /// Of [`StatementKind::Exec`].
    Exec {
        /// Rows inserted, updated or deleted; 0 for anything else.
        rows_affected: u64,
        /// The row id of the last insert on the connection; 0 without one.
        last_insert_id: i64,
    },
    /// Of [`StatementKind::Query`].
    Query {
        /// A JSON array with an object a row, keys in the order of the columns: NULL as null, integers exact, blobs as
        /// base64 text.
        rows: String,
        /// How many rows that are.
        row_count: usize,
    },
}

/// What came of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BatchOutcome {
    /// Whether the execs are durable. Without execs in the batch: whether everything went well.
    pub committed: bool,
    /// One for each statement in the batch's order, up to the one that failed. Execs that were undone are not there.
    pub results: Vec<StatementResult>,
    /// What went wrong.
    pub failure: Option<BatchFailure>,
}

/// Why a batch stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchFailure {
    /// The failed statement's place in the batch, counted from 0; `None` when the batch as a whole failed.
    pub index: Option<usize>,
    /// What was wrong.
    pub error: ServiceError,
}

impl From<ServiceError> for BatchFailure {
    fn from(error: ServiceError) -> Self {
        Self { index: None, error }
    }
}

/// The SQL database of each namespace, made when it is first used.
///
/// Statements reach nothing but their namespace's own data: no other file, no attached database, no extension, no
/// setting. Limits: [`crate::limits::DB_STATEMENTS_MAX`], [`crate::limits::DB_ROWS_MAX`] a query,
/// [`crate::limits::DB_RESULT_MAX_BYTES`] for a batch's results together; over one is an error, never a part.
pub trait Database: Send + Sync + 'static {
    /// Runs a batch. It has an outcome by the deadline, at which a running statement is interrupted and the batch
    /// undone. Committed means durable. A batch without statements succeeds.
    fn run(
        &self,
        namespace: &Namespace,
        mode: BatchMode,
        statements: Vec<Statement>,
        deadline: Instant,
    ) -> Answer<BatchOutcome>;
}

/// A cache of each namespace. What it holds may be gone at any time, counters included.
pub trait Cache: Send + Sync + 'static {
    /// The value; `None` when there is none, or when its time is over.
    fn get(&self, namespace: &Namespace, key: &str) -> Answer<Result<Option<Bytes>, ServiceError>>;

    /// Keeps a value for `ttl`, or without an end. It replaces value and time of an older one.
    fn set(
        &self,
        namespace: &Namespace,
        key: &str,
        value: Bytes,
        ttl: Option<Duration>,
    ) -> Answer<Result<(), ServiceError>>;

    /// Removes a value; `false` when there was none.
    fn delete(&self, namespace: &Namespace, key: &str) -> Answer<Result<bool, ServiceError>>;

    /// Adds to a number and returns the sum, atomically. A missing one counts as 0 and has no end; one that is there keeps
    /// its time. Numbers are decimal text, also for [`Self::get`]. An error for what is no number, and for a sum beyond 64 bits.
    fn increment(&self, namespace: &Namespace, key: &str, delta: i64) -> Answer<Result<i64, ServiceError>>;
}

/// A secret's value; overwritten in memory when the last copy goes.
pub struct SecretValue(Zeroizing<String>);

impl SecretValue {
    /// Takes a value.
    #[must_use]
    pub fn new(value: String) -> Self {
        Self(Zeroizing::new(value))
    }

    /// The text, for its owner alone.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

// A value must not reach a log by accident.
impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(…)")
    }
}

/// The secrets of each namespace.
pub trait Secrets: Send + Sync + 'static {
    /// A secret's value now; `None` when there is no such secret.
    fn get(
        &self,
        namespace: &Namespace,
        name: &str,
    ) -> Answer<Result<Option<Arc<SecretValue>>, ServiceError>>;
}

/// An HTTP request of a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchRequest {
    /// The method as the guest wrote it.
    pub method: String,
    /// The URL as the guest wrote it.
    pub url: String,
    /// Names and values as the guest wrote them.
    pub headers: Vec<(String, String)>,
    /// The body; empty for none.
    pub body: Bytes,
}

/// The answer to a [`FetchRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchResponse {
    /// The HTTP status.
    pub status: u16,
    /// Names and values in the order in which they came; a value that is not UTF-8 with replacement characters.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Bytes,
}

/// HTTP to the outside.
pub trait Http: Send + Sync + 'static {
    /// Fetches; answers by the deadline, and within [`crate::limits::FETCH_TIMEOUT`]. Any HTTP status is a response.
    fn fetch(
        &self,
        namespace: &Namespace,
        request: FetchRequest,
        deadline: Instant,
    ) -> Answer<Result<FetchResponse, ServiceError>>;
}

/// Content-addressed storage of each namespace.
pub trait Storage: Send + Sync + 'static {
    /// Keeps bytes, at most [`crate::limits::STORAGE_MAX_BYTES`], and returns their content id when they are durable.
    fn put(&self, namespace: &Namespace, bytes: Bytes) -> Answer<Result<String, ServiceError>>;

    /// What this namespace stored under the id; `None` when it stored nothing there.
    fn get(&self, namespace: &Namespace, cid: &str) -> Answer<Result<Option<Bytes>, ServiceError>>;
}

/// A message to a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The topic; at most [`crate::limits::TOPIC_MAX_BYTES`].
    pub topic: String,
    /// One JSON value as text, kept as it is; at most [`crate::limits::EVENT_MAX_BYTES`].
    pub data: String,
    /// How many triggers stand behind it: 1 for what no triggered function published.
    pub depth: u32,
}

/// What became of an [`Event`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The message's id.
    pub message_id: String,
    /// Triggers that did not fire because the depth is beyond [`crate::limits::TRIGGER_DEPTH_MAX`].
    pub held_back: usize,
}

/// Messages to topics, and the triggers that fire for them.
pub trait Events: Send + Sync + 'static {
    /// Publishes. When it answers, every invocation that the message triggers is durable.
    fn publish(&self, namespace: &Namespace, event: Event) -> Answer<Result<Published, ServiceError>>;
}
