//! `pubsub_publish`: a message to a topic of the namespace.

use super::json::{self, JsonArgument};
use crate::abi::text;
use crate::call::{Call, Fault, Functions};
use crate::limits::{EVENT_MAX_BYTES, TOPIC_MAX_BYTES, TRIGGER_DEPTH_MAX};
use crate::services::{Event, ServiceError};
use serde::de::IgnoredAny;
use wasmtime::Result;

pub(super) fn link(functions: &mut Functions<'_>) -> Result<()> {
    functions.add("pubsub_publish", 0, pubsub_publish)
}

async fn pubsub_publish(
    call: &mut Call<'_>,
    (topic, topic_size, data, data_size): (i32, i32, i32, i32),
) -> Result<i32, Fault> {
    let data = JsonArgument { what: "the data", range: (data, data_size), max_bytes: EVENT_MAX_BYTES };
    let (memory, _) = call.memory()?;
    memory.argument(data.range)?;
    let topic = checked_topic(memory.argument((topic, topic_size))?)?;
    let data = json::read(call, data, one_value).await??;
    let state = call.state();
    let depth = state.invocation.trigger_depth.saturating_add(1);
    let answer = state.host.events.publish(&state.function.namespace, Event { topic, data, depth });
    let published = call.ask(answer).await?;
    if published.suppressed_triggers > 0 {
        let why = format!(
            "{} triggers did not fire: the depth limit of {TRIGGER_DEPTH_MAX} was reached",
            published.suppressed_triggers
        );
        call.log_failure(&why);
    }
    Ok(1)
}

fn checked_topic(bytes: &[u8]) -> Result<String, ServiceError> {
    match text("the topic", bytes, TOPIC_MAX_BYTES)? {
        "" => Err(ServiceError::invalid("the topic is empty")),
        topic => Ok(topic.to_owned()),
    }
}

/// Accepts one JSON value and returns its text unchanged.
fn one_value(text: &str) -> Result<String, ServiceError> {
    serde_json::from_str::<IgnoredAny>(text)
        .map_err(|error| json::refused("the data is not a JSON value", &error))?;
    Ok(text.to_owned())
}
