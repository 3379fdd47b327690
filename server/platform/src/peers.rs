//! Peers, the other nodes of a cluster: which ones exist, and the invocation records that they keep.
//!
//! A record stays on the node where its function ran, so a node asks its peers for theirs. Nodes talk over pubsub. Each node
//! announces itself regularly. A question goes to all peers, and each sends its answer to the node that asked.

use crate::limits::{
    PEER_ANSWER_MAX_BYTES, PEER_ANSWERS_MAX, PEER_ANSWERS_WAITING_MAX, PEER_PATIENCE, PEER_QUESTIONS_MAX,
    PEERS_MAX,
};
use crate::platform::FlushCores;
use crate::records::{
    Cursor, Extras, Filter, Function, Part, Record, Records, Stats, TRIGGER_TYPES, WideFilter,
};
use bytes::Bytes;
use orama_runtime::invocation::{LogMessage, Status};
use orama_runtime::names::{FunctionName, Namespace};
use orama_store::blocking::{TaskFailed, blocking};
use orama_store::causes::Causes;
use orama_store::ids::new_id;
use orama_store::limits::{PEER_ALIVE_EVERY, PEER_GONE_AFTER};
use orama_store::part::PartError;
use orama_store::pubsub::{PubSub, Received};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, mpsc};

mod stats;
mod wide;

pub use wide::name_in_cursors;

/// The topic that all nodes listen to.
const ALL: &str = "neighbours";

/// Pause before a failed subscription is retried.
const SUBSCRIBE_AGAIN: Duration = Duration::from_secs(1);

/// A message between nodes.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Message {
    Alive { node: String, name: String, is_new: bool },
    Question(Question),
    Answer(Answer),
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Question {
    id: u64,
    /// The node that asks.
    from: String,
    namespace: String,
    function: String,
    limit: u32,
    since_ms: Option<i64>,
    status: Option<Status>,
    request_id: Option<String>,
    version: Option<u32>,
    #[serde(default)]
    is_brief: bool,
    /// Set where statistics are asked for and not records: from which second on. An empty `function` is all of them.
    #[serde(default)]
    stats_since_s: Option<i64>,
    /// About all functions of the namespace. A node of an earlier version does not answer it, as `function` is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wide: Option<Box<Wide>>,
}

/// A question about all functions of a namespace.
#[derive(Clone, Serialize, Deserialize)]
struct Wide {
    filter: WideFilter,
    /// What has arrived since, instead of the newest ones.
    since: Option<Cursor>,
}

#[derive(Default, Serialize, Deserialize)]
struct Answer {
    id: u64,
    node: String,
    records: Vec<WireRecord>,
    /// Whether older records were left out, because the answer had no room for them.
    is_cut: bool,
    #[serde(default)]
    stats: Vec<(String, u32, Stats)>,
    /// What belongs to a part of a namespace's records beside them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    complete_since_ms: Option<i64>,
    #[serde(default)]
    position: String,
    #[serde(default)]
    has_more: bool,
}

/// A [`Record`] as nodes send it to each other.
#[derive(Serialize, Deserialize)]
struct WireRecord {
    /// Where the question does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    function: Option<String>,
    request_id: String,
    version: u32,
    trigger_type: String,
    attempt: u32,
    status: Status,
    duration_us: u64,
    input_size: u64,
    output_size: u64,
    error: Option<String>,
    started_at_ms: i64,
    messages: Vec<LogMessage>,
    #[serde(default)]
    extras: Extras<'static>,
}

/// What the peers answered to a question.
#[derive(Debug, Default)]
pub struct Gathered {
    /// The peers' records.
    pub records: Vec<Record>,
    /// The time from which on the records are complete, in milliseconds since the Unix epoch. `None` if no peer left out older
    /// ones.
    pub complete_since_ms: Option<i64>,
    /// Statistics by function and version; several peers may have some of the same.
    pub stats: Vec<((FunctionName, u32), Stats)>,
    /// Names of the peers that did not answer.
    pub missing: Vec<String>,
    /// With a cursor, whether peers have more than they looked at.
    pub has_more: bool,
    /// Positions of the peers that answered, and those before of the others.
    pub positions: BTreeMap<String, String>,
}

struct Peer {
    name: String,
    heard: Instant,
}

/// The peers that a node knows. Clones share them.
#[derive(Clone)]
pub struct Peers(Arc<Inner>);

struct Inner {
    id: String,
    name: String,
    pubsub: Arc<dyn PubSub>,
    records: Records,
    flush_cores: FlushCores,
    known: Mutex<HashMap<String, Peer>>,
    /// Questions of this node in progress. Each has at most [`PEER_ANSWERS_WAITING_MAX`] answers that it has not read.
    questions: Mutex<HashMap<u64, mpsc::Sender<Answer>>>,
    next_question: AtomicU64,
    /// Permits to ask a question.
    asking: Semaphore,
    /// Permits to answer a question.
    answering: Arc<Semaphore>,
}

impl Peers {
    /// Knows no peers yet. `name` is the node's name for people.
    #[must_use]
    pub fn new(name: String, pubsub: Arc<dyn PubSub>, records: Records, flush_cores: FlushCores) -> Self {
        Self(Arc::new(Inner {
            id: new_id(),
            name,
            pubsub,
            records,
            flush_cores,
            known: Mutex::default(),
            questions: Mutex::default(),
            next_question: AtomicU64::new(0),
            asking: Semaphore::new(PEER_QUESTIONS_MAX),
            answering: Arc::new(Semaphore::new(PEER_ANSWERS_MAX)),
        }))
    }

    /// Announces this node, notes its peers and answers their questions. Runs as long as the node.
    pub async fn run(self) {
        let own = format!("{ALL}/{}", self.0.id);
        tokio::join!(self.tell(), self.listen(ALL), self.listen(&own));
    }

    async fn tell(&self) {
        let mut is_new = true;
        loop {
            self.0.say(ALL, &self.0.alive(is_new)).await;
            is_new = false;
            tokio::time::sleep(PEER_ALIVE_EVERY).await;
        }
    }

    async fn listen(&self, topic: &str) {
        loop {
            let Ok(mut subscription) = self.0.pubsub.subscribe(topic).await else {
                tokio::time::sleep(SUBSCRIBE_AGAIN).await;
                continue;
            };
            loop {
                // A lost message needs no repair: a node announces itself again, and a client asks again.
                let Received::Message(message) = subscription.next().await else { continue };
                match serde_json::from_slice(&message) {
                    Ok(message) => self.hear(message).await,
                    Err(error) => tracing::debug!(%error, "a message of a peer could not be read"),
                }
            }
        }
    }

    async fn hear(&self, message: Message) {
        match message {
            Message::Alive { node, name, is_new } if node != self.0.id => {
                self.0.remember(node, name);
                if is_new {
                    self.0.say(ALL, &self.0.alive(false)).await;
                }
            }
            Message::Question(question) if question.from != self.0.id => {
                // If no permit is free, the peer that asked reports this node as missing.
                let Ok(turn) = Arc::clone(&self.0.answering).try_acquire_owned() else { return };
                let this = self.clone();
                tokio::spawn(async move {
                    let to = format!("{ALL}/{}", question.from);
                    if let Some(answer) = this.answer(question).await {
                        this.0.say(&to, &Message::Answer(answer)).await;
                    }
                    drop(turn);
                });
            }
            Message::Answer(answer) => {
                let question = self.0.questions.lock().get(&answer.id).cloned();
                if let Some(question) = question {
                    // It fails if the question has ended meanwhile.
                    let _over = question.send(answer).await;
                }
            }
            Message::Alive { .. } | Message::Question(_) => {}
        }
    }

    async fn answer(&self, question: Question) -> Option<Answer> {
        // So that the answer has the latest invocations of this node.
        (self.0.flush_cores)().await;
        let (records, id, node) = (self.0.records.clone(), question.id, self.0.id.clone());
        if let Some(since_s) = question.stats_since_s {
            let stats = blocking(move || Ok::<_, TaskFailed>(stats::own(&records, &question, since_s)));
            let stats = stats.await.ok()??;
            return Some(Answer { id, node, stats, ..Answer::default() });
        }
        let is_wide = question.wide.is_some();
        let own = node.clone();
        let found =
            blocking(move || Ok::<_, TaskFailed>(own_records(&records, &question, &own))).await.ok()??;
        let Part { records: found, complete_since_ms, position, has_more } = found;
        let (mut bytes, count) = (0, found.len());
        let records: Vec<_> = found
            .into_iter()
            .map(|record| {
                let function = is_wide.then(|| record.function.name.to_string());
                WireRecord { function, ..WireRecord::from(record) }
            })
            .take_while(|record| {
                bytes += record.bytes();
                bytes <= PEER_ANSWER_MAX_BYTES
            })
            .collect();
        let (is_cut, stats) = (records.len() < count, Vec::new());
        Some(Answer { id, node, is_cut, records, stats, complete_since_ms, position, has_more })
    }

    /// Asks the peers for records of a function. Returns within [`PEER_PATIENCE`].
    pub async fn ask(&self, namespace: &Namespace, name: &FunctionName, filter: &Filter) -> Gathered {
        self.ask_all(Question::new(namespace, name, filter), namespace).await
    }

    async fn ask_all(&self, question: Question, namespace: &Namespace) -> Gathered {
        let mut missing: HashMap<String, String> = self
            .0
            .known
            .lock()
            .iter()
            .filter(|(_, peer)| peer.heard.elapsed() < PEER_GONE_AFTER)
            .map(|(node, peer)| (node.clone(), peer.name.clone()))
            .collect();
        let mut gathered = Gathered::default();
        if !missing.is_empty() {
            let asked = self.gather(question, namespace, &mut missing, &mut gathered);
            // The peers that have not answered by then remain in `missing`.
            let _ = tokio::time::timeout(PEER_PATIENCE, asked).await;
        }
        gathered.missing = missing.into_values().collect();
        gathered.missing.sort();
        gathered
    }

    async fn gather(
        &self,
        question: Question,
        namespace: &Namespace,
        missing: &mut HashMap<String, String>,
        gathered: &mut Gathered,
    ) {
        let Ok(_turn) = self.0.asking.acquire().await else { return };
        let id = self.0.next_question.fetch_add(1, Ordering::Relaxed);
        let (sender, mut answers) = mpsc::channel(PEER_ANSWERS_WAITING_MAX);
        let _waiting = Waiting::new(&self.0, id, sender);
        let of = question.function.clone();
        let question = Question { id, from: self.0.id.clone(), ..question };
        self.0.say(ALL, &Message::Question(question)).await;
        // Functions by their names.
        let mut functions: HashMap<String, Arc<Function>> = HashMap::new();
        while !missing.is_empty() {
            let Some(answer) = answers.recv().await else { return };
            if missing.remove(&answer.node).is_none() {
                continue;
            }
            if answer.is_cut {
                let oldest = answer.records.last().map_or(i64::MAX, |record| record.started_at_ms);
                gathered.complete_since_ms = gathered.complete_since_ms.max(Some(oldest));
            }
            gathered.complete_since_ms = gathered.complete_since_ms.max(answer.complete_since_ms);
            gathered.has_more |= answer.has_more;
            let named = |(name, version, stats): (String, u32, Stats)| {
                Some(((FunctionName::new(&name).ok()?, version), stats))
            };
            gathered.stats.extend(answer.stats.into_iter().filter_map(named));
            gathered.positions.insert(answer.node, answer.position);
            for record in answer.records {
                let name = record.function.as_deref().unwrap_or(&of);
                if let Some(function) = function_of(&mut functions, namespace, name) {
                    gathered.records.push(record.into_record(&function));
                }
            }
        }
    }
}

/// The function of a name, which is made once; `None` for what is no name.
fn function_of(
    known: &mut HashMap<String, Arc<Function>>,
    namespace: &Namespace,
    name: &str,
) -> Option<Arc<Function>> {
    if let Some(function) = known.get(name) {
        return Some(Arc::clone(function));
    }
    let of = FunctionName::new(name).ok()?;
    let function = Arc::new(Function { namespace: namespace.clone(), name: of });
    known.insert(name.to_owned(), Arc::clone(&function));
    Some(function)
}

/// Reads this node's records for a question. `None` if the question is invalid or the records cannot be read. Blocks.
fn own_records(records: &Records, question: &Question, node: &str) -> Option<Part> {
    let namespace = Namespace::new(&question.namespace).ok()?;
    let found = match question.wide.as_deref() {
        Some(Wide { filter, since }) => {
            records.flush();
            records.of_namespace(&namespace, filter, since.as_ref().map(|cursor| (cursor, node)))
        }
        None => {
            let name = FunctionName::new(&question.function).ok()?;
            records.flush();
            let found = records.query(&namespace, &name, &question.filter());
            found.map(|records| Part { records, ..Part::default() })
        }
    };
    let found = found.inspect_err(|error| {
        tracing::warn!(error = %Causes(error), "records could not be read for a peer");
    });
    found.ok()
}

/// A question that waits for answers. Dropping it ends the question.
struct Waiting<'a>(&'a Inner, u64);

impl<'a> Waiting<'a> {
    fn new(inner: &'a Inner, id: u64, sender: mpsc::Sender<Answer>) -> Self {
        inner.questions.lock().insert(id, sender);
        Self(inner, id)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.questions.lock().remove(&self.1);
    }
}

impl Inner {
    fn alive(&self, is_new: bool) -> Message {
        Message::Alive { node: self.id.clone(), name: self.name.clone(), is_new }
    }

    fn remember(&self, node: String, name: String) {
        let mut known = self.known.lock();
        known.retain(|_, peer| peer.heard.elapsed() < PEER_GONE_AFTER);
        if known.len() < PEERS_MAX || known.contains_key(&node) {
            known.insert(node, Peer { name, heard: Instant::now() });
        }
    }

    /// Sends a message. A failure is only logged, because nothing depends on a single message.
    async fn say(&self, topic: &str, message: &Message) {
        let sent = match serde_json::to_vec(message) {
            Ok(bytes) => self.pubsub.publish(topic, Bytes::from(bytes)).await.map_err(PartError::from),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = sent {
            tracing::debug!(%error, "a message to peers could not be sent");
        }
    }
}

impl Question {
    /// Without an id, and without who asks.
    fn new(namespace: &Namespace, name: &FunctionName, filter: &Filter) -> Self {
        let Filter { limit, since_ms, status, request_id, version, is_brief } = filter.clone();
        let (namespace, function) = (namespace.to_string(), name.to_string());
        Self {
            namespace,
            function,
            limit,
            since_ms,
            status,
            request_id,
            version,
            is_brief,
            ..Self::default()
        }
    }

    fn filter(&self) -> Filter {
        Filter {
            limit: self.limit,
            since_ms: self.since_ms,
            status: self.status,
            request_id: self.request_id.clone(),
            version: self.version,
            is_brief: self.is_brief,
        }
    }
}

impl WireRecord {
    /// About how many bytes the record takes in an answer.
    fn bytes(&self) -> usize {
        let messages: usize = self.messages.iter().map(|message| message.message.len() + 80).sum();
        300 + self.error.as_ref().map_or(0, String::len) + messages
    }

    fn into_record(self, function: &Arc<Function>) -> Record {
        let trigger_type = TRIGGER_TYPES.into_iter().find(|known| *known == self.trigger_type);
        Record {
            request_id: self.request_id.as_str().into(),
            function: Arc::clone(function),
            version: self.version,
            trigger_type: trigger_type.unwrap_or("other"),
            attempt: self.attempt,
            status: self.status,
            duration_us: self.duration_us,
            input_size: self.input_size,
            output_size: self.output_size,
            error: self.error,
            started_at_ms: self.started_at_ms,
            messages: self.messages,
            ..self.extras.into_record(Arc::clone(function))
        }
    }
}

impl From<Record> for WireRecord {
    fn from(record: Record) -> Self {
        let extras = Extras::of(&record).into_owned();
        Self {
            function: None,
            request_id: record.request_id.as_str().to_owned(),
            version: record.version,
            trigger_type: record.trigger_type.to_owned(),
            attempt: record.attempt,
            status: record.status,
            duration_us: record.duration_us,
            input_size: record.input_size,
            output_size: record.output_size,
            error: record.error,
            started_at_ms: record.started_at_ms,
            messages: record.messages,
            extras,
        }
    }
}

#[cfg(test)]
mod tests;
