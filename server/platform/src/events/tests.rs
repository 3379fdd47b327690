//! What is promised of events, on the real file with the real dispatcher; only what a function does is the test's.

mod clock;
mod dead_letters;
mod delivery;
mod direct;
mod durability;
mod shared;

use super::*;
use crate::registry::{NewVersion, Source, Trigger, VersionSettings};
use orama_runtime::function::{StartMode, WasmHash};
use orama_runtime::limits::{EVENT_MAX_BYTES, TRIGGER_DEPTH_MAX};
use orama_runtime::services::{ErrorCode, Event, Events, Published};
use orama_store::pubsub::memory::MemoryPubSub;
use serde_json::Value;
use std::collections::BTreeMap;
use std::future::ready;
use std::time::Instant;
use tempfile::TempDir;
use tokio::sync::oneshot;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a function of a test does with an event.
type Behaviour = Arc<dyn Fn(Triggered) -> Answer<Ran> + Send + Sync>;

/// Events in a folder, and what its functions were given.
struct Bench {
    dir: TempDir,
    registry: Registry,
    records: Records,
    pubsub: Arc<MemoryPubSub>,
    events: NodeEvents,
    ran: Arc<Mutex<Vec<Triggered>>>,
}

fn namespace(name: &str) -> Namespace {
    Namespace::new(name).unwrap()
}

fn function(name: &str) -> FunctionName {
    FunctionName::new(name).unwrap()
}

fn event(topic: &str, data: impl ToString) -> Event {
    Event { topic: topic.to_owned(), data: data.to_string(), depth: 1, trace: None }
}

/// The data of an event that a function was given.
fn data(triggered: &Triggered) -> Value {
    serde_json::from_slice::<Value>(&triggered.event).unwrap()["data"].clone()
}

fn failed(error: &str, retry_count: u32, retry_delay: Duration) -> Ran {
    Ran::Failed { error: error.to_owned(), request_id: "r-1".to_owned(), retry_count, retry_delay }
}

/// A behaviour that needs no waiting.
fn at_once(what: impl Fn(&Triggered) -> Ran + Send + Sync + 'static) -> Behaviour {
    Arc::new(move |triggered| Box::pin(ready(what(&triggered))))
}

fn succeed() -> Behaviour {
    at_once(|_| Ran::Succeeded)
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::open(dir.path()).unwrap();
        for name in ["a", "b"] {
            registry.create_namespace(&namespace(name)).unwrap();
        }
        let pubsub = Arc::new(MemoryPubSub::default());
        let events = open(&dir, &registry, &pubsub);
        let records = Records::open(dir.path()).unwrap();
        Self { dir, registry, records, pubsub, events, ran: Arc::default() }
    }

    /// Adds a function with a trigger in namespace `a`; the trigger's id.
    fn trigger(&self, name: &str, topic: &str) -> String {
        self.trigger_in("a", name, topic)
    }

    fn trigger_in(&self, ns: &str, name: &str, topic: &str) -> String {
        let version = NewVersion {
            namespace: namespace(ns),
            name: function(name),
            wasm_hash: WasmHash::of(b""),
            wasm_cid: String::new(),
            wasm_bytes: 8,
            settings: VersionSettings {
                memory_limit_mb: 64,
                timeout_seconds: 30,
                is_public: false,
                retry_count: 0,
                retry_delay_seconds: 0,
                start: StartMode::default(),
                concurrency: 0,
                keep_versions: 0,
                web: Default::default(),
                env: BTreeMap::new(),
            },
            triggers: None,
            alias: None,
            origin: Default::default(),
        };
        self.registry.deploy(version).unwrap();
        self.add_trigger(ns, name, Source::Topic(topic.to_owned())).id
    }

    fn add_trigger(&self, ns: &str, name: &str, source: Source) -> Trigger {
        match self.registry.add_trigger(&namespace(ns), &function(name), &source).unwrap() {
            crate::registry::AddedTrigger::New(trigger) => trigger,
            other => panic!("{other:?}"),
        }
    }

    async fn publish(&self, event: Event) -> Published {
        self.events.publish(&namespace("a"), vec![event]).await.unwrap().remove(0)
    }

    fn start(&self, behaviour: Behaviour) {
        self.start_with(behaviour, 64);
    }

    fn start_with(&self, behaviour: Behaviour, running_max: usize) {
        let ran = Arc::clone(&self.ran);
        let run: Run = Arc::new(move |triggered| {
            ran.lock().push(triggered.clone());
            behaviour(triggered)
        });
        self.events.start(run, self.records.clone(), running_max);
    }

    /// Ends the events and opens them again, as a restart does.
    fn reopen(mut self) -> Self {
        self.events.stop();
        self.events.wait_stopped(PATIENCE);
        self.events = open(&self.dir, &self.registry, &self.pubsub);
        self.ran = Arc::default();
        self
    }

    fn ran(&self) -> Vec<Triggered> {
        self.ran.lock().clone()
    }

    /// The data of all events that a function was given, in order.
    fn given(&self, name: &str) -> Vec<Value> {
        self.ran().iter().filter(|ran| ran.function.as_str() == name).map(data).collect()
    }

    async fn eventually(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !done(self) {
            assert!(
                begun.elapsed() < PATIENCE,
                "never: {what}; ran {:?}, {:?}",
                self.ran(),
                self.events.counts()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until no job is left.
    async fn settled(&self) {
        self.eventually("no job is left", |bench| {
            let counts = bench.events.counts();
            (counts.waiting, counts.running) == (0, 0)
        })
        .await;
    }

    fn rows(&self, table: &str) -> i64 {
        let sql = format!("SELECT count(*) FROM {table}");
        self.events
            .inner
            .database
            .read(|c| c.query_row(&sql, [], |row| row.get(0)))
            .map_err(|e: rusqlite::Error| e)
            .unwrap()
    }
}

fn open(dir: &TempDir, registry: &Registry, pubsub: &Arc<MemoryPubSub>) -> NodeEvents {
    let pubsub = Arc::<MemoryPubSub>::clone(pubsub);
    NodeEvents::open(dir.path(), registry, pubsub, Handle::current()).unwrap()
}

/// A message to the queue of a trigger of `f`.
fn message_to(trigger_id: &str, event: Event) -> store::NewMessage {
    store::NewMessage {
        message_id: "m".to_owned(),
        kind: store::Kind::Event,
        event,
        published_at_ms: 1,
        to: store::To::Queue { id: trigger_id.to_owned(), function: function("f") },
    }
}
