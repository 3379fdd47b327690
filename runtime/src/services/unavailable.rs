//! The services of a host without services.

use super::{
    Answer, BatchFailure, BatchMode, BatchOutcome, Cache, Database, Event, Events, FetchRequest,
    FetchResponse, Http, Published, SecretValue, Secrets, ServiceError, Statement, Storage,
};
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
    fn publish(&self, _: &Namespace, _: Event) -> Answer<Result<Published, ServiceError>> {
        refuse()
    }
}
