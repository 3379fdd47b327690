//! `pubsub_publish`: a message to a topic of the namespace.

use super::{ask, json};
use crate::abi::{text, view};
use crate::guest::GuestState;
use crate::limits::{EVENT_MAX_BYTES, TOPIC_MAX_BYTES, TRIGGER_DEPTH_MAX};
use crate::parking::arrive;
use crate::services::{Event, ServiceError};
use serde::de::IgnoredAny;
use wasmtime::{Caller, Linker, Result};

const PUBLISH: &str = "pubsub_publish";

pub(super) fn link(linker: &mut Linker<GuestState>, module: &str) -> Result<()> {
    linker.func_wrap_async(
        module,
        PUBLISH,
        |mut caller: Caller<'_, GuestState>, (topic, topic_size, data, data_size): (i32, i32, i32, i32)| {
            Box::new(async move {
                arrive(&mut caller).await;
                publish(&mut caller, (topic, topic_size), (data, data_size)).await
            })
        },
    )?;
    Ok(())
}

async fn publish(caller: &mut Caller<'_, GuestState>, topic: (i32, i32), data: (i32, i32)) -> Result<i32> {
    let (memory, _) = view(caller)?;
    memory.argument(PUBLISH, data)?;
    let topic = checked_topic(memory.argument(PUBLISH, topic)?);
    let event = match topic {
        Ok(topic) => json::read(caller, PUBLISH, ("the data", data, EVENT_MAX_BYTES), one_value)
            .await?
            .map(|data| (topic, data)),
        Err(why) => Err(why),
    };
    let state = caller.data();
    let asked = event.map(|(topic, data)| {
        let depth = state.invocation.trigger_depth.saturating_add(1);
        state.host.events.publish(&state.function.namespace, Event { topic, data, depth })
    });
    let Some(published) = ask(caller, PUBLISH, asked).await? else { return Ok(0) };
    if published.held_back > 0 {
        let why = format!(
            "{} triggers did not fire: the depth limit of {TRIGGER_DEPTH_MAX} was reached",
            published.held_back
        );
        caller.data_mut().log_failure(PUBLISH, &why);
    }
    Ok(1)
}

fn checked_topic(bytes: &[u8]) -> Result<String, ServiceError> {
    match text("the topic", bytes, TOPIC_MAX_BYTES)? {
        "" => Err(ServiceError::invalid("the topic is empty")),
        topic => Ok(topic.to_owned()),
    }
}

/// The text as it is, if it is one JSON value.
fn one_value(text: &str) -> Result<String, ServiceError> {
    serde_json::from_str::<IgnoredAny>(text)
        .map_err(|error| json::refused("the data is not a JSON value", &error))?;
    Ok(text.to_owned())
}
