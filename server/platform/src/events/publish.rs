//! Publishing: turns messages into durable jobs.

use super::store::{Kind, NewMessage, To};
use super::tally::Waiting;
use super::triggers::{Key, Triggers};
use super::writer::{Change, Publish};
use super::{Inner, NodeEvents, NotTaken, check_topic, direct, now_ms};
use crate::limits::EVENT_COST_BYTES;
use crate::registry::RegistryError;
use orama_runtime::limits::{EVENT_MAX_BYTES, TRIGGER_DEPTH_MAX};
use orama_runtime::names::Namespace;
use orama_runtime::services::{Answer, ErrorCode, Event, Events, LaterRun, Published, ServiceError};
use orama_store::blocking::blocking_on;
use orama_store::causes::Causes;
use orama_store::ids::id_from;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

impl Events for NodeEvents {
    fn publish(
        &self,
        namespace: &Namespace,
        events: Vec<Event>,
    ) -> Answer<Result<Vec<Published>, ServiceError>> {
        match self.inner.without_jobs(namespace, &events) {
            Ok(Some(published)) => return Box::pin(ready(Ok(published))),
            Ok(None) => {}
            Err(error) => return Box::pin(ready(Err(error))),
        }
        let (inner, namespace) = (Arc::clone(&self.inner), namespace.clone());
        Box::pin(async move { publish(&inner, namespace, events).await })
    }

    fn publish_later(
        &self,
        namespace: &Namespace,
        event: Event,
        delay: Duration,
    ) -> Answer<Result<Published, ServiceError>> {
        let (inner, namespace) = (Arc::clone(&self.inner), namespace.clone());
        Box::pin(async move {
            check(&event)?;
            let (message_id, published_at_ms) = (message_id()?, now_ms());
            if event.depth > TRIGGER_DEPTH_MAX {
                return Ok(Published { message_id, suppressed_triggers: 1 });
            }
            let delay_ms = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
            let due_ms = published_at_ms.saturating_add(delay_ms);
            let published = Published { message_id: message_id.clone(), suppressed_triggers: 0 };
            let to = To::Later { due_ms };
            let new = NewMessage { message_id, kind: Kind::Event, event, published_at_ms, to };
            store(&inner, namespace, vec![new]).await?;
            inner.sooner(due_ms);
            Ok(published)
        })
    }

    fn run_later(&self, namespace: &Namespace, run: LaterRun) -> Answer<Result<(), ServiceError>> {
        let (inner, namespace) = (Arc::clone(&self.inner), namespace.clone());
        Box::pin(async move { direct::run_later(&inner, namespace, run).await })
    }
}

impl NodeEvents {
    /// Checks an event of any publisher, who has checked that its data is JSON.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check_event(&self, event: &Event) -> Result<(), ServiceError> {
        check(event)
    }
}

impl Inner {
    /// The answer to a publish that fires no trigger, as far as memory tells.
    fn without_jobs(
        &self,
        namespace: &Namespace,
        events: &[Event],
    ) -> Result<Option<Vec<Published>>, ServiceError> {
        events.iter().try_for_each(check)?;
        let mut published = Vec::with_capacity(events.len());
        for event in events {
            let known = self.triggers.known(&(namespace.clone(), event.topic.clone()));
            match known {
                Some(triggers) if triggers.is_empty() || event.depth > TRIGGER_DEPTH_MAX => published
                    .push(Published { message_id: message_id()?, suppressed_triggers: triggers.len() }),
                _ => return Ok(None),
            }
        }
        Ok(Some(published))
    }
}

/// The id of a message, created without a lock that cores share.
pub(super) fn message_id() -> Result<String, ServiceError> {
    let mut random = [0; 10];
    getrandom::fill(&mut random).map_err(|error| {
        tracing::error!(%error, "the system provides no random bytes for a message's id");
        ServiceError::unavailable("the node could not create the message's id; try again")
    })?;
    Ok(id_from(&random).to_string())
}

fn check(event: &Event) -> Result<(), ServiceError> {
    check_topic(&event.topic).map_err(|error| ServiceError::invalid(error.to_string()))?;
    if event.data.len() > EVENT_MAX_BYTES {
        let message = format!("the data of an event may have at most {EVENT_MAX_BYTES} bytes");
        return Err(ServiceError::new(ErrorCode::PayloadTooLarge, message));
    }
    Ok(())
}

async fn publish(
    inner: &Arc<Inner>,
    namespace: Namespace,
    events: Vec<Event>,
) -> Result<Vec<Published>, ServiceError> {
    let (mut published, mut messages) = (Vec::with_capacity(events.len()), Vec::new());
    for event in events {
        let key = (namespace.clone(), event.topic.clone());
        let triggers = match inner.triggers.known(&key) {
            Some(triggers) => triggers,
            None => find(inner, key).await?,
        };
        let message_id = message_id()?;
        let is_suppressed = event.depth > TRIGGER_DEPTH_MAX;
        let suppressed_triggers = if is_suppressed { triggers.len() } else { 0 };
        published.push(Published { message_id: message_id.clone(), suppressed_triggers });
        if !is_suppressed && !triggers.is_empty() {
            let to = To::Triggers(triggers);
            messages.push(NewMessage { message_id, kind: Kind::Event, event, published_at_ms: now_ms(), to });
        }
    }
    if !messages.is_empty() {
        store(inner, namespace, messages).await?;
    }
    Ok(published)
}

async fn find(inner: &Arc<Inner>, key: Key) -> Result<Triggers, ServiceError> {
    let asked = Arc::clone(inner);
    let failed = |error: RegistryError| {
        tracing::error!(error = %Causes(&error), "the triggers of a topic could not be read");
        ServiceError::unavailable("the triggers of the topic could not be read; try again soon")
    };
    blocking_on(&inner.backplane, move || asked.triggers.find(key).map_err(failed)).await
}

/// Makes messages and their jobs durable, all in one transaction.
pub(super) async fn store(
    inner: &Inner,
    namespace: Namespace,
    messages: Vec<NewMessage>,
) -> Result<(), ServiceError> {
    let sum = |of: fn(&NewMessage) -> Waiting| messages.iter().map(of).sum::<Waiting>();
    let (jobs, later) = (sum(NewMessage::jobs), sum(NewMessage::later));
    let data: usize = messages.iter().map(|message| message.event.data.len()).sum();
    let cost = data + EVENT_COST_BYTES * (messages.len() + jobs.jobs as usize);
    let (answer, wait) = oneshot::channel();
    inner.tallies.admit(&namespace, jobs, later, cost)?;
    let owner = namespace.clone();
    let publish = Publish { namespace, messages, jobs, later, cost, answer };
    if let Err(error) = inner.try_change(Change::Publish(Box::new(publish))) {
        inner.tallies.written(&owner, jobs, cost);
        inner.tallies.remove(&owner, jobs);
        inner.tallies.remove_later(&owner, later);
        return Err(match error {
            NotTaken::Full => {
                ServiceError::unavailable("too many events are being published; try again soon")
            }
            NotTaken::Ended => ServiceError::unavailable("the node is stopping"),
        });
    }
    wait.await.unwrap_or_else(|_| Err(ServiceError::unavailable("the node is stopping")))
}
