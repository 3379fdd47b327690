//! The services of a host without services.

use super::{
    Answer, BatchFailure, BatchMode, BatchOutcome, Cache, CallError, Called, Calls, Database, Event, Events,
    FetchRequest, FetchResponse, FunctionCall, Http, LaterRun, Outbox, OutboxOutcome, Published, SecretValue,
    Secrets, ServiceError, Statement, Storage,
};
use crate::invocation::Status;
use crate::names::Namespace;
use bytes::Bytes;
use std::future::ready;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Fails every call with [`ErrorCode::Unavailable`](super::ErrorCode::Unavailable).
#[derive(Debug, Clone, Copy, Default)]
pub struct Unavailable;

fn error() -> ServiceError {
    ServiceError::unavailable("not available on this node")
}

fn refuse<T: Send + 'static>() -> Answer<Result<T, ServiceError>> {
    Box::pin(ready(Err(error())))
}

impl Database for Unavailable {
    fn run(&self, _: &Namespace, _: BatchMode, _: Vec<Statement>, _: Instant) -> Answer<BatchOutcome> {
        let failure = Some(BatchFailure { index: None, error: error() });
        Box::pin(ready(BatchOutcome { failure, ..BatchOutcome::default() }))
    }
}

impl Cache for Unavailable {
    fn get(&self, _: &Namespace, _: &str) -> Answer<Result<Option<Bytes>, ServiceError>> {
        refuse()
    }

    fn set(&self, _: &Namespace, _: &str, _: Bytes, _: Option<Duration>) -> Answer<Result<(), ServiceError>> {
        refuse()
    }

    fn delete(&self, _: &Namespace, _: &str) -> Answer<Result<(), ServiceError>> {
        refuse()
    }

    fn increment(&self, _: &Namespace, _: &str, _: i64) -> Answer<Result<i64, ServiceError>> {
        refuse()
    }
}

impl Secrets for Unavailable {
    fn get(&self, _: &Namespace, _: &str) -> Answer<Result<Option<Arc<SecretValue>>, ServiceError>> {
        refuse()
    }
}

impl Http for Unavailable {
    fn fetch(
        &self,
        _: &Namespace,
        _: FetchRequest,
        _: Instant,
    ) -> Answer<Result<FetchResponse, ServiceError>> {
        refuse()
    }
}

impl Storage for Unavailable {
    fn put(&self, _: &Namespace, _: Bytes) -> Answer<Result<String, ServiceError>> {
        refuse()
    }

    fn get(&self, _: &Namespace, _: &str) -> Answer<Result<Option<Bytes>, ServiceError>> {
        refuse()
    }
}

impl Events for Unavailable {
    fn publish(&self, _: &Namespace, _: Vec<Event>) -> Answer<Result<Vec<Published>, ServiceError>> {
        refuse()
    }

    fn publish_later(&self, _: &Namespace, _: Event, _: Duration) -> Answer<Result<Published, ServiceError>> {
        refuse()
    }

    fn run_later(&self, _: &Namespace, _: LaterRun) -> Answer<Result<(), ServiceError>> {
        refuse()
    }
}

impl Outbox for Unavailable {
    fn run(&self, _: &Namespace, _: Vec<Statement>, _: Event, _: Instant) -> Answer<OutboxOutcome> {
        Box::pin(ready(OutboxOutcome::refused(error())))
    }
}

impl Calls for Unavailable {
    fn call(&self, _: FunctionCall) -> Answer<Called> {
        let ServiceError { code, message } = error();
        let error = CallError { status: Status::Error, code: code.as_str().to_owned(), message };
        Box::pin(ready(Called { request_id: String::new(), result: Err(error) }))
    }
}
