//! The audit trail: who changed what of the control plane, from where, when, and with which outcome.
//!
//! A request that changes something runs [`within`] its [`Change`]. The registry writes the record of a change in the transaction
//! that makes it. What was refused, and credentials that are not good, wait in memory for a moment ([`Waiting`]): a stranger must
//! not make the node write for each request.

use orama_runtime::names::Namespace;
use orama_store::blocking::TaskFailed;
use orama_store::clock::now_ms;
use orama_store::ids::new_id;
use parking_lot::Mutex;
use std::sync::Arc;

mod waiting;

pub(crate) use waiting::Waiting;

/// The outcome of what was done.
pub const OK: &str = "ok";

/// What a credential that is not good is recorded as.
pub const LOGIN: &str = "login";

/// Characters of a text of a record; the rest is cut off.
const TEXT_MAX: usize = 256;

tokio::task_local! {
    static CHANGE: Arc<Change>;
}

/// One record of the trail. It holds nothing secret: of keys their ids, of secrets their names.
#[derive(Clone)]
pub struct Record {
    /// Its id, which sorts by time.
    pub id: String,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// Whose it is: the namespace that was acted in; empty for what only operators see.
    pub namespace: String,
    /// The API key's id; empty for a token, and without a credential.
    pub key_id: String,
    /// The token's subject; empty for a key alone.
    pub subject: String,
    /// The client's address.
    pub address: String,
    /// What was done, such as `deploy` or `alias.set`.
    pub action: String,
    /// To what.
    pub target: String,
    /// [`OK`], or the code of the error.
    pub outcome: String,
    /// How many times, where several are one record.
    pub count: u64,
}

impl Record {
    /// Tells the node's log. Texts of clients are escaped.
    pub(crate) fn log(&self) {
        tracing::info!(
            action = self.action,
            of = ?self.target,
            outcome = self.outcome,
            namespace = self.namespace,
            key_id = self.key_id,
            subject = ?self.subject,
            address = self.address,
            count = self.count,
            "control plane"
        );
    }
}

/// Who asks for a change, and from where.
pub struct Who {
    /// The namespace of the credential.
    pub namespace: Namespace,
    /// The API key's id; empty for a token.
    pub key_id: String,
    /// The token's subject.
    pub subject: Option<String>,
    /// The client's address, where it is known.
    pub address: String,
}

/// A change that a request asks for. It becomes one record.
pub struct Change(Mutex<State>);

struct State {
    record: Record,
    is_written: bool,
}

impl Change {
    /// Begins a change.
    #[must_use]
    pub fn new(who: Who, action: &str, target: &str) -> Arc<Self> {
        let record = Record {
            id: new_id(),
            at_ms: now_ms(),
            namespace: who.namespace.to_string(),
            key_id: who.key_id,
            subject: who.subject.as_deref().map(cut).unwrap_or_default(),
            address: who.address,
            action: action.to_owned(),
            target: cut(target),
            outcome: OK.to_owned(),
            count: 1,
        };
        Arc::new(Self(Mutex::new(State { record, is_written: false })))
    }

    /// The record of the change that succeeds; `None` if it is written already.
    pub(crate) fn done(&self) -> Option<Record> {
        let state = self.0.lock();
        (!state.is_written).then(|| state.record.clone())
    }

    /// The record of a refusal. After a change was recorded, this is about what did not follow.
    pub(crate) fn refused(&self, code: &str) -> Record {
        let state = self.0.lock();
        let id = if state.is_written { new_id() } else { state.record.id.clone() };
        Record { id, outcome: code.to_owned(), ..state.record.clone() }
    }

    /// Notes that a record was committed.
    pub(crate) fn written(&self, record: &Record) {
        self.0.lock().is_written = true;
        record.log();
    }
}

/// The first characters of a text.
fn cut(text: &str) -> String {
    text.chars().take(TEXT_MAX).collect()
}

/// Runs the work of a request that asks for a change.
pub async fn within<F: Future>(change: Arc<Change>, work: F) -> F::Output {
    CHANGE.scope(change, work).await
}

/// The change that is under way here.
pub(crate) fn current() -> Option<Arc<Change>> {
    CHANGE.try_with(Arc::clone).ok()
}

/// Says in which namespace the change under way acts, where that is not the credential's.
pub fn acts_in(namespace: &Namespace) {
    with_record(|record| record.namespace = namespace.to_string());
}

/// Says that the change under way is about the node, so that only operators see it.
pub fn acts_on_node() {
    with_record(|record| record.namespace.clear());
}

/// Says what the change under way is about. It holds nothing secret.
pub fn is_about(target: &str) {
    with_record(|record| record.target = cut(target));
}

/// Says what the change under way does, where its route does not tell.
pub fn does(action: &str) {
    with_record(|record| action.clone_into(&mut record.action));
}

fn with_record(set: impl FnOnce(&mut Record)) {
    if let Some(change) = current() {
        set(&mut change.0.lock().record);
    }
}

/// [`orama_store::blocking::blocking`] that takes the change under way along.
///
/// # Errors
/// As there.
pub async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, E>
where
    T: Send + 'static,
    E: From<TaskFailed> + Send + 'static,
{
    let change = current();
    orama_store::blocking::blocking(move || match change {
        Some(change) => CHANGE.sync_scope(change, work),
        None => work(),
    })
    .await
}

/// The same work with the change under way, for a task of its own.
pub(crate) async fn carried<F: Future>(change: Option<Arc<Change>>, work: F) -> F::Output {
    match change {
        Some(change) => within(change, work).await,
        None => work.await,
    }
}
