//! The traits that the embedding program implements: how guests share a core, and the services behind the host functions.
//!
//! Every call names its namespace, and an implementation keeps namespaces apart. An implementation reports failures as its trait
//! says; `host` decides what the guest sees of them.

use crate::names::Namespace;
use crate::trace::TraceContext;
use bytes::Bytes;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

mod calls;
mod exchange;
mod memory;
mod scheduler;
mod unavailable;

pub use calls::{CallError, Called, Calls, FunctionCall};
pub use exchange::{AnswerHead, Exchange};
pub use memory::{GuestMemory, Unbounded};
pub use scheduler::{Scheduler, ThreadScheduler};
pub use unavailable::Unavailable;

/// A future that owns its data and can move between threads, as host calls require. An answer that is known at once is ready at
/// the first poll. Dropping the future cancels the call.
pub type Answer<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// An [`Answer`] without a value.
pub type Wait = Answer<()>;

/// Everything that the guests of one core can reach. Each core has its own, so that cores share no reference count.
#[derive(Clone)]
pub struct Host {
    /// How guests yield.
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
    /// `pubsub_*` and `function_invoke_async`.
    pub events: Arc<dyn Events>,
    /// `exec_and_publish`.
    pub outbox: Arc<dyn Outbox>,
    /// `function_invoke` and `function_invoke_v2`.
    pub calls: Arc<dyn Calls>,
    /// The budget of their memory.
    pub memory: Arc<dyn GuestMemory>,
}

impl Host {
    /// A host without services. Each call fails with [`ErrorCode::Unavailable`].
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
            events: none.clone(),
            outbox: none.clone(),
            calls: none,
            memory: Arc::new(Unbounded),
        }
    }
}

/// Why a service refused or failed. The function's author sees the message. So it names what was wrong, and contains no
/// secret and nothing of another namespace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ServiceError {
    /// What a program decides by.
    pub code: ErrorCode,
    /// What a person reads.
    pub message: String,
}

impl ServiceError {
    /// An error of any kind.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// [`ErrorCode::InvalidArgument`]: the guest's request is wrong.
    #[must_use]
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidArgument, message)
    }

    /// [`ErrorCode::Unavailable`]: the service is unreachable or busy. The same call may succeed later.
    #[must_use]
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Unavailable, message)
    }
}

/// The kinds of [`ServiceError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    /// The request is wrong: its SQL, a name, a value.
    InvalidArgument,
    /// The batch has more than [`crate::limits::DB_STATEMENTS_MAX`] statements.
    TooManyStatements,
    /// The request or its result exceeds a limit, which the message names.
    PayloadTooLarge,
    /// The invocation's deadline passed before the answer.
    DeadlineExceeded,
    /// The service cannot answer now. A retry may succeed.
    Unavailable,
    /// The node failed.
    Internal,
}

impl ErrorCode {
    /// The word that guests receive.
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
    /// An integer, exact.
    Integer(i64),
    /// Any other number.
    Real(f64),
    /// Text.
    Text(String),
    /// Bytes. In JSON: an array of integers from 0 to 255.
    Blob(Vec<u8>),
}

/// One SQL statement with its arguments.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// Whether it returns rows.
    pub kind: StatementKind,
    /// Exactly one statement.
    pub sql: String,
    /// One value for each `?`, in order.
    pub args: Vec<SqlValue>,
}

/// The purpose of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatementKind {
    /// To change data.
    Exec,
    /// To return rows. It must not change data.
    Query,
}

/// How the statements of one batch run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchMode {
    /// Queries only. The consistency applies where the database has several replicas.
    Read(Consistency),
    /// First the execs in order, all or nothing. Once they are committed, the queries in order.
    Write,
}

/// How fresh a read must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Consistency {
    /// The state of the leader.
    #[default]
    Weak,
    /// The state of any replica.
    None,
    /// The latest state, also during a change of the leader.
    Strong,
    /// A state of at most this age, which the node may take from its read cache. It includes the node's own writes.
    Within(Duration),
}

/// The result of one statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatementResult {
    /// The result of [`StatementKind::Exec`].
    Exec {
        /// Rows inserted, updated or deleted; 0 for any other statement.
        rows_affected: u64,
        /// The row id of the connection's last insert; 0 if there was none.
        last_insert_id: i64,
    },
    /// The result of [`StatementKind::Query`].
    Query {
        /// A JSON array with one object per row, keys in the order of the columns. NULL is null, integers are exact, blobs are
        /// base64 text.
        rows: String,
        /// The number of rows.
        row_count: usize,
    },
}

/// The outcome of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BatchOutcome {
    /// Whether the execs are durable. For a batch without execs: whether it succeeded.
    pub committed: bool,
    /// One result per statement in the batch's order, up to the one that failed. Execs that were rolled back have none.
    pub results: Vec<StatementResult>,
    /// Why the batch failed; `None` if it succeeded.
    pub failure: Option<BatchFailure>,
}

/// Why a batch stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchFailure {
    /// The index of the failed statement, from 0; `None` when the batch failed as a whole.
    pub index: Option<usize>,
    /// The error.
    pub error: ServiceError,
}

impl From<ServiceError> for BatchFailure {
    fn from(error: ServiceError) -> Self {
        Self { index: None, error }
    }
}

/// The SQL database of each namespace. The first use creates it.
///
/// Statements reach only their namespace's own data: no other file, no attached database, no extension, no setting. The
/// limits are [`crate::limits::DB_STATEMENTS_MAX`] per batch, [`crate::limits::DB_ROWS_MAX`] per query, and
/// [`crate::limits::DB_RESULT_MAX_BYTES`] for all results of a batch. Exceeding one is an error, never a truncated result.
pub trait Database: Send + Sync + 'static {
    /// Runs a batch and answers by the deadline, at which it interrupts the running statement and rolls the batch back. Committed
    /// means durable. A batch without statements succeeds.
    fn run(
        &self,
        namespace: &Namespace,
        mode: BatchMode,
        statements: Vec<Statement>,
        deadline: Instant,
    ) -> Answer<BatchOutcome>;
}

/// The cache of each namespace. It may evict any entry at any time, counters included.
pub trait Cache: Send + Sync + 'static {
    /// The value; `None` if it is missing or expired.
    fn get(&self, namespace: &Namespace, key: &str) -> Answer<Result<Option<Bytes>, ServiceError>>;

    /// Stores a value for `ttl`, or without expiry. Replaces an older value and its expiry.
    fn set(
        &self,
        namespace: &Namespace,
        key: &str,
        value: Bytes,
        ttl: Option<Duration>,
    ) -> Answer<Result<(), ServiceError>>;

    /// Removes a value. Succeeds if there was none.
    fn delete(&self, namespace: &Namespace, key: &str) -> Answer<Result<(), ServiceError>>;

    /// Adds to a number atomically and returns the sum. A missing number counts as 0 and does not expire; an existing one
    /// keeps its expiry. [`Self::get`] returns numbers as decimal text. A value that is not a number is an error, and so is a
    /// sum beyond 64 bits.
    fn increment(&self, namespace: &Namespace, key: &str, delta: i64) -> Answer<Result<i64, ServiceError>>;
}

/// The value of a secret. Its memory is overwritten when it is dropped.
pub struct SecretValue(Zeroizing<String>);

impl SecretValue {
    /// Wraps a value.
    #[must_use]
    pub fn new(value: String) -> Self {
        Self(Zeroizing::new(value))
    }

    /// The text. It must reach only its owner.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

// Keeps the value out of logs.
impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(…)")
    }
}

/// The secrets of each namespace.
pub trait Secrets: Send + Sync + 'static {
    /// The current value; `None` if there is no such secret.
    fn get(
        &self,
        namespace: &Namespace,
        name: &str,
    ) -> Answer<Result<Option<Arc<SecretValue>>, ServiceError>>;
}

/// An HTTP request that a guest makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchRequest {
    /// The method as the guest wrote it.
    pub method: String,
    /// The URL as the guest wrote it.
    pub url: String,
    /// Header names and values as the guest wrote them.
    pub headers: Vec<(String, String)>,
    /// The body; empty without one.
    pub body: Bytes,
}

/// The response to a [`FetchRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchResponse {
    /// The HTTP status.
    pub status: u16,
    /// Header names and values in the order of arrival. Bytes that are not UTF-8 become replacement characters.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Bytes,
}

/// HTTP requests to the outside.
pub trait Http: Send + Sync + 'static {
    /// Sends a request and answers by the deadline, and within [`crate::limits::FETCH_TIMEOUT`]. Any HTTP status is a response.
    fn fetch(
        &self,
        namespace: &Namespace,
        request: FetchRequest,
        deadline: Instant,
    ) -> Answer<Result<FetchResponse, ServiceError>>;
}

/// Content-addressed storage of each namespace.
pub trait Storage: Send + Sync + 'static {
    /// Stores at most [`crate::limits::STORAGE_MAX_BYTES`] and returns their content id once they are durable.
    fn put(&self, namespace: &Namespace, bytes: Bytes) -> Answer<Result<String, ServiceError>>;

    /// The bytes that this namespace stored under the id; `None` if it stored none.
    fn get(&self, namespace: &Namespace, cid: &str) -> Answer<Result<Option<Bytes>, ServiceError>>;
}

/// A message to a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The topic; at most [`crate::limits::TOPIC_MAX_BYTES`].
    pub topic: String,
    /// One JSON value as text, delivered unchanged; at most [`crate::limits::EVENT_MAX_BYTES`].
    pub data: String,
    /// Position in a chain of triggers: 1 when no triggered function published it.
    pub depth: u32,
    /// The trace that what it triggers belongs to.
    pub trace: Option<TraceContext>,
}

/// The result of publishing an [`Event`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The message's id.
    pub message_id: String,
    /// Triggers that did not fire because the depth exceeds [`crate::limits::TRIGGER_DEPTH_MAX`].
    pub suppressed_triggers: usize,
}

/// The outcome of a transaction with a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxOutcome {
    /// The transaction's.
    pub batch: BatchOutcome,
    /// The message's number among those of the namespace; 0 if nothing was committed.
    pub seq: i64,
    /// Whether the message was published already, with the number of triggers that did not fire; `None` if nothing was committed.
    pub published: Option<Result<usize, ServiceError>>,
}

impl OutboxOutcome {
    /// Nothing was done.
    #[must_use]
    pub fn refused(error: ServiceError) -> Self {
        let batch = BatchOutcome { failure: Some(error.into()), ..BatchOutcome::default() };
        Self { batch, seq: 0, published: None }
    }
}

/// What stands for the message's number in the data of an event of [`Outbox::run`].
pub const OUTBOX_SEQ: &str = "{{seq}}";

/// Transactions with messages.
pub trait Outbox: Send + Sync + 'static {
    /// Runs a batch as [`Database::run`] does in [`BatchMode::Write`], at most [`crate::limits::OUTBOX_STATEMENTS_MAX`]
    /// statements, and publishes the event if it was committed: both or neither. [`OUTBOX_SEQ`] in its data becomes the
    /// message's number.
    fn run(
        &self,
        namespace: &Namespace,
        statements: Vec<Statement>,
        event: Event,
        deadline: Instant,
    ) -> Answer<OutboxOutcome>;
}

/// A run of a function that nobody waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaterRun {
    /// `name` or `name@version`, as the guest wrote it: not checked.
    pub function: String,
    /// Standard input; at most [`crate::limits::EVENT_MAX_BYTES`].
    pub payload: Bytes,
    /// As [`Event::depth`].
    pub depth: u32,
    /// As [`Event::trace`].
    pub trace: Option<TraceContext>,
}

/// Publishes messages to topics and fires their triggers.
pub trait Events: Send + Sync + 'static {
    /// Publishes events: all or none. When it answers, every invocation that they trigger is durable.
    fn publish(
        &self,
        namespace: &Namespace,
        events: Vec<Event>,
    ) -> Answer<Result<Vec<Published>, ServiceError>>;

    /// Publishes an event when a time has passed, at most [`crate::limits::PUBLISH_DELAY_MAX`]. When it answers, that is durable.
    fn publish_later(
        &self,
        namespace: &Namespace,
        event: Event,
        delay: Duration,
    ) -> Answer<Result<Published, ServiceError>>;

    /// Runs a function soon, at least once. When it answers, that is durable.
    fn run_later(&self, namespace: &Namespace, run: LaterRun) -> Answer<Result<(), ServiceError>>;
}
