//! Events as one core's guests publish them: within the rate of their namespace.

use crate::shares::{Meter, RateKind, Shares};
use hashlink::LruCache;
use orama_platform::events::NodeEvents;
use orama_platform::outbox::Outboxes;
use orama_runtime::names::Namespace;
use orama_runtime::services::{
    Answer, Event, Events, LaterRun, Outbox, OutboxOutcome, Published, ServiceError, Statement,
};
use parking_lot::Mutex;
use std::future::ready;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Namespaces of which a core keeps its own counts, some 300 bytes each.
const METERS_MAX: usize = 4_096;

/// The events of a node as one core's guests reach them, with transactions or without.
pub(crate) struct CoreEvents {
    events: Arc<NodeEvents>,
    outboxes: Outboxes,
    shares: Arc<Shares>,
    /// Only this core locks it, so that it is free whenever it is asked for.
    meters: Mutex<LruCache<Namespace, Meter>>,
}

impl CoreEvents {
    pub(crate) fn new(events: Arc<NodeEvents>, outboxes: Outboxes, shares: Arc<Shares>) -> Self {
        Self { events, outboxes, shares, meters: Mutex::new(LruCache::new(METERS_MAX)) }
    }

    /// Takes a token of the namespace for each of so many messages.
    fn admit(&self, namespace: &Namespace, messages: usize) -> Result<(), ServiceError> {
        let mut meters = self.meters.lock();
        let meter = match meters.get_mut(namespace) {
            Some(meter) => meter,
            None => {
                let party = self.shares.namespace(namespace);
                let meter = Meter::new(&self.shares, party, Some(namespace.clone()));
                meters.entry(namespace.clone()).or_insert(meter)
            }
        };
        for _ in 0..messages {
            let taken = meter.take(&self.shares, RateKind::Publishes);
            taken.map_err(|limited| ServiceError::unavailable(limited.to_string()))?;
        }
        Ok(())
    }
}

impl Events for CoreEvents {
    fn publish(
        &self,
        namespace: &Namespace,
        events: Vec<Event>,
    ) -> Answer<Result<Vec<Published>, ServiceError>> {
        match self.admit(namespace, events.len()) {
            Ok(()) => self.events.publish(namespace, events),
            Err(limited) => Box::pin(ready(Err(limited))),
        }
    }

    fn publish_later(
        &self,
        namespace: &Namespace,
        event: Event,
        delay: Duration,
    ) -> Answer<Result<Published, ServiceError>> {
        match self.admit(namespace, 1) {
            Ok(()) => self.events.publish_later(namespace, event, delay),
            Err(limited) => Box::pin(ready(Err(limited))),
        }
    }

    fn run_later(&self, namespace: &Namespace, run: LaterRun) -> Answer<Result<(), ServiceError>> {
        match self.admit(namespace, 1) {
            Ok(()) => self.events.run_later(namespace, run),
            Err(limited) => Box::pin(ready(Err(limited))),
        }
    }
}

impl Outbox for CoreEvents {
    fn run(
        &self,
        namespace: &Namespace,
        statements: Vec<Statement>,
        event: Event,
        deadline: Instant,
    ) -> Answer<OutboxOutcome> {
        match self.admit(namespace, 1) {
            Ok(()) => self.outboxes.run(namespace, statements, event, deadline),
            Err(limited) => Box::pin(ready(OutboxOutcome::refused(limited))),
        }
    }
}
