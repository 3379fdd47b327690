//! Publishing: turns a message into durable jobs.

use super::triggers::{Key, Triggers};
use super::writer::{Change, Publish};
use super::{Inner, NodeEvents, NotTaken, check_topic, now_ms};
use crate::limits::EVENT_COST_BYTES;
use crate::registry::RegistryError;
use orama_runtime::limits::{EVENT_MAX_BYTES, TRIGGER_DEPTH_MAX};
use orama_runtime::names::Namespace;
use orama_runtime::services::{Answer, ErrorCode, Event, Events, Published, ServiceError};
use orama_store::blocking::blocking_on;
use orama_store::causes::Causes;
use orama_store::ids::id_from;
use std::future::ready;
use std::sync::Arc;
use tokio::sync::oneshot;

impl Events for NodeEvents {
    fn publish(&self, namespace: &Namespace, event: Event) -> Answer<Result<Published, ServiceError>> {
        if let Err(error) = check(&event) {
            return Box::pin(ready(Err(error)));
        }
        let Event { topic, data, depth } = event;
        let key = (namespace.clone(), topic);
        let message_id = match message_id() {
            Ok(id) => id,
            Err(error) => return Box::pin(ready(Err(error))),
        };
        match self.inner.triggers.known(&key) {
            Some(triggers) if triggers.is_empty() || depth > TRIGGER_DEPTH_MAX => {
                Box::pin(ready(Ok(Published { message_id, suppressed_triggers: triggers.len() })))
            }
            known => {
                let inner = Arc::clone(&self.inner);
                Box::pin(async move {
                    let (namespace, topic) = key.clone();
                    let triggers = match known {
                        Some(triggers) => triggers,
                        None => find(&inner, key).await?,
                    };
                    if triggers.is_empty() || depth > TRIGGER_DEPTH_MAX {
                        return Ok(Published { message_id, suppressed_triggers: triggers.len() });
                    }
                    let event = Event { topic, data, depth };
                    store_event(&inner, namespace, event, &message_id, triggers).await?;
                    Ok(Published { message_id, suppressed_triggers: 0 })
                })
            }
        }
    }
}

/// The id of a message, created without a lock that cores share.
fn message_id() -> Result<String, ServiceError> {
    let mut random = [0; 10];
    getrandom::fill(&mut random).map_err(|error| {
        tracing::error!(%error, "the system provides no random bytes for a message's id");
        ServiceError::unavailable("the node could not create the message's id; try again")
    })?;
    Ok(id_from(&random).to_string())
}

/// Checks an event of any publisher. The publisher has checked that its data is JSON.
fn check(event: &Event) -> Result<(), ServiceError> {
    check_topic(&event.topic).map_err(|error| ServiceError::invalid(error.to_string()))?;
    if event.data.len() > EVENT_MAX_BYTES {
        let message = format!("the data of an event may have at most {EVENT_MAX_BYTES} bytes");
        return Err(ServiceError::new(ErrorCode::PayloadTooLarge, message));
    }
    Ok(())
}

async fn find(inner: &Arc<Inner>, key: Key) -> Result<Triggers, ServiceError> {
    let asked = Arc::clone(inner);
    let failed = |error: RegistryError| {
        tracing::error!(error = %Causes(&error), "the triggers of a topic could not be read");
        ServiceError::unavailable("the triggers of the topic could not be read; try again soon")
    };
    blocking_on(&inner.backplane, move || asked.triggers.find(key).map_err(failed)).await
}

/// Makes an event and its jobs durable.
async fn store_event(
    inner: &Inner,
    namespace: Namespace,
    event: Event,
    message_id: &str,
    triggers: Triggers,
) -> Result<(), ServiceError> {
    let cost = event.data.len() + EVENT_COST_BYTES * (1 + triggers.len());
    let (answer, wait) = oneshot::channel();
    let publish = Publish {
        published_at_ms: now_ms(),
        message_id: message_id.to_owned(),
        namespace,
        event,
        triggers,
        cost,
        answer,
    };
    inner.tallies.admit(&publish.namespace, publish.jobs(), cost)?;
    let (owner, jobs) = (publish.namespace.clone(), publish.jobs());
    if let Err(error) = inner.try_change(Change::Publish(Box::new(publish))) {
        inner.tallies.written(&owner, jobs, cost);
        inner.tallies.remove(&owner, jobs);
        return Err(match error {
            NotTaken::Full => {
                ServiceError::unavailable("too many events are being published; try again soon")
            }
            NotTaken::Ended => ServiceError::unavailable("the node is stopping"),
        });
    }
    wait.await.unwrap_or_else(|_| Err(ServiceError::unavailable("the node is stopping")))
}
