//! Services that note what they are asked and answer what a test wants.

use bytes::Bytes;
use orama_runtime::invocation::Status;
use orama_runtime::names::Namespace;
use orama_runtime::services::{
    Answer, BatchFailure, BatchMode, BatchOutcome, Cache, CallError, Called, Calls, Database, Event, Events,
    FetchRequest, FetchResponse, FunctionCall, Host, Http, LaterRun, Outbox, OutboxOutcome, Published,
    Scheduler, SecretValue, Secrets, ServiceError, Statement, Storage, Unbounded,
};
use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::{Duration, Instant};

/// What the services were asked, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    Run(BatchMode, Vec<Statement>),
    CacheGet(String),
    CacheSet(String, Bytes, Option<Duration>),
    CacheDelete(String),
    CacheIncrement(String, i64),
    Secret(String),
    Fetch(FetchRequest),
    Put(Bytes),
    Get(String),
    Publish(Vec<Event>),
    PublishLater(Event, Duration),
    RunLater(LaterRun),
    WithMessage(Vec<Statement>, Event),
    Function { function: String, payload: Bytes, depth: u32, trigger_depth: u32 },
}

/// When a service answers.
#[derive(Clone, Copy, PartialEq)]
pub enum When {
    AtOnce,
    After(Duration),
    Never,
}

pub struct Recorder {
    /// With the namespace each was for.
    pub calls: Mutex<Vec<(String, Call)>>,
    /// Time until the deadline that a service was told, for those that are.
    pub left: Mutex<Option<Duration>>,
    pub when: When,
    /// Answers that were dropped before they were there.
    pub given_up: Arc<AtomicUsize>,
    pub fail: Option<ServiceError>,
    pub outcome: BatchOutcome,
    /// Of cache, secrets and storage.
    pub found: Option<Bytes>,
    pub sum: i64,
    pub response: FetchResponse,
    pub suppressed_triggers: usize,
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            calls: Mutex::default(),
            left: Mutex::default(),
            when: When::AtOnce,
            given_up: Arc::default(),
            fail: None,
            outcome: BatchOutcome::default(),
            found: None,
            sum: 0,
            response: FetchResponse { status: 200, headers: Vec::new(), body: Bytes::new() },
            suppressed_triggers: 0,
        }
    }
}

struct GivenUp(Option<Arc<AtomicUsize>>);

impl GivenUp {
    fn answered(&mut self) {
        self.0 = None;
    }
}

impl Drop for GivenUp {
    fn drop(&mut self) {
        if let Some(count) = &self.0 {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Recorder {
    pub fn host(self: &Arc<Self>, scheduler: impl Scheduler) -> Arc<Host> {
        Arc::new(Host {
            scheduler: Arc::new(scheduler),
            database: self.clone(),
            cache: self.clone(),
            secrets: self.clone(),
            http: self.clone(),
            storage: self.clone(),
            events: self.clone(),
            calls: self.clone(),
            outbox: self.clone(),
            memory: Arc::new(Unbounded),
        })
    }

    /// What was asked; all of it for the namespace of the function.
    pub fn calls(&self) -> Vec<Call> {
        let calls = self.calls.lock().unwrap().clone();
        assert!(calls.iter().all(|(namespace, _)| namespace == "tests"), "{calls:?}");
        calls.into_iter().map(|(_, call)| call).collect()
    }

    fn note(&self, namespace: &Namespace, call: Call) {
        self.calls.lock().unwrap().push((namespace.to_string(), call));
    }

    fn later<T: Send + 'static>(&self, value: T) -> Answer<T> {
        let (mut value, when, begun) = (Some(value), self.when, Instant::now());
        let mut given_up = GivenUp(Some(Arc::clone(&self.given_up)));
        Box::pin(poll_fn(move |context| {
            let ready = match when {
                When::AtOnce => true,
                When::After(wait) => begun.elapsed() >= wait,
                When::Never => false,
            };
            if ready {
                given_up.answered();
                return Poll::Ready(value.take().unwrap());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        }))
    }

    fn answer<T: Send + 'static>(&self, value: T) -> Answer<Result<T, ServiceError>> {
        self.later(self.fail.clone().map_or(Ok(value), Err))
    }
}

impl Database for Recorder {
    fn run(
        &self,
        namespace: &Namespace,
        mode: BatchMode,
        statements: Vec<Statement>,
        deadline: Instant,
    ) -> Answer<BatchOutcome> {
        self.note(namespace, Call::Run(mode, statements));
        *self.left.lock().unwrap() = Some(deadline.saturating_duration_since(Instant::now()));
        self.later(match &self.fail {
            Some(error) => {
                let failure = Some(BatchFailure { index: Some(0), error: error.clone() });
                BatchOutcome { failure, ..BatchOutcome::default() }
            }
            None => self.outcome.clone(),
        })
    }
}

impl Cache for Recorder {
    fn get(&self, namespace: &Namespace, key: &str) -> Answer<Result<Option<Bytes>, ServiceError>> {
        self.note(namespace, Call::CacheGet(key.to_owned()));
        self.answer(self.found.clone())
    }

    fn set(
        &self,
        namespace: &Namespace,
        key: &str,
        value: Bytes,
        ttl: Option<Duration>,
    ) -> Answer<Result<(), ServiceError>> {
        self.note(namespace, Call::CacheSet(key.to_owned(), value, ttl));
        self.answer(())
    }

    fn delete(&self, namespace: &Namespace, key: &str) -> Answer<Result<(), ServiceError>> {
        self.note(namespace, Call::CacheDelete(key.to_owned()));
        self.answer(())
    }

    fn increment(&self, namespace: &Namespace, key: &str, delta: i64) -> Answer<Result<i64, ServiceError>> {
        self.note(namespace, Call::CacheIncrement(key.to_owned(), delta));
        self.answer(self.sum)
    }
}

impl Secrets for Recorder {
    fn get(
        &self,
        namespace: &Namespace,
        name: &str,
    ) -> Answer<Result<Option<Arc<SecretValue>>, ServiceError>> {
        self.note(namespace, Call::Secret(name.to_owned()));
        let text = |found: &Bytes| Arc::new(SecretValue::new(String::from_utf8(found.to_vec()).unwrap()));
        self.answer(self.found.as_ref().map(text))
    }
}

impl Http for Recorder {
    fn fetch(
        &self,
        namespace: &Namespace,
        request: FetchRequest,
        deadline: Instant,
    ) -> Answer<Result<FetchResponse, ServiceError>> {
        self.note(namespace, Call::Fetch(request));
        *self.left.lock().unwrap() = Some(deadline.saturating_duration_since(Instant::now()));
        self.answer(self.response.clone())
    }
}

impl Storage for Recorder {
    fn put(&self, namespace: &Namespace, bytes: Bytes) -> Answer<Result<String, ServiceError>> {
        self.note(namespace, Call::Put(bytes));
        self.answer("bafkreicid".to_owned())
    }

    fn get(&self, namespace: &Namespace, cid: &str) -> Answer<Result<Option<Bytes>, ServiceError>> {
        self.note(namespace, Call::Get(cid.to_owned()));
        self.answer(self.found.clone())
    }
}

impl Recorder {
    fn published(&self) -> Published {
        Published { message_id: "message-1".to_owned(), suppressed_triggers: self.suppressed_triggers }
    }
}

impl Events for Recorder {
    fn publish(
        &self,
        namespace: &Namespace,
        events: Vec<Event>,
    ) -> Answer<Result<Vec<Published>, ServiceError>> {
        let published = events.iter().map(|_| self.published()).collect();
        self.note(namespace, Call::Publish(events));
        self.answer(published)
    }

    fn publish_later(
        &self,
        namespace: &Namespace,
        event: Event,
        delay: Duration,
    ) -> Answer<Result<Published, ServiceError>> {
        self.note(namespace, Call::PublishLater(event, delay));
        self.answer(self.published())
    }

    fn run_later(&self, namespace: &Namespace, run: LaterRun) -> Answer<Result<(), ServiceError>> {
        self.note(namespace, Call::RunLater(run));
        self.answer(())
    }
}

impl Outbox for Recorder {
    fn run(
        &self,
        namespace: &Namespace,
        statements: Vec<Statement>,
        event: Event,
        deadline: Instant,
    ) -> Answer<OutboxOutcome> {
        *self.left.lock().unwrap() = Some(deadline.saturating_duration_since(Instant::now()));
        self.note(namespace, Call::WithMessage(statements, event));
        let mut outcome = OutboxOutcome {
            batch: self.outcome.clone(),
            seq: 7,
            published: Some(Ok(self.suppressed_triggers)),
        };
        if let Some(error) = &self.fail {
            outcome = OutboxOutcome::refused(error.clone());
        }
        self.later(outcome)
    }
}

impl Calls for Recorder {
    fn call(&self, call: FunctionCall) -> Answer<Called> {
        let FunctionCall { namespace, function, payload, depth, trigger_depth, .. } = call;
        self.note(&namespace, Call::Function { function, payload, depth, trigger_depth });
        let result = match &self.fail {
            None => Ok(Bytes::from_static(b"output")),
            Some(error) => Err(CallError {
                status: Status::Timeout,
                code: error.code.as_str().to_owned(),
                message: error.message.clone(),
            }),
        };
        // A refusal has no run.
        let request_id = if result.is_ok() { "r-2".to_owned() } else { String::new() };
        self.later(Called { request_id, result })
    }
}
