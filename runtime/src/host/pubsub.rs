//! `pubsub_*`: messages to topics of the namespace.

use super::json::{self, Elements, JsonArgument};
use crate::abi::{Range, text};
use crate::call::{Call, Fault, Functions};
use crate::limits::{
    EVENT_MAX_BYTES, PUBLISH_BATCH_MAX, PUBLISH_BATCH_MAX_BYTES, PUBLISH_DELAY_MAX, TOPIC_MAX_BYTES,
    TRIGGER_DEPTH_MAX,
};
use crate::services::{ErrorCode, Event, OUTBOX_SEQ, ServiceError};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::time::Duration;
use wasmtime::Result;

pub(super) fn link(functions: &mut Functions<'_>) -> Result<()> {
    functions.add("pubsub_publish", 0, pubsub_publish)?;
    functions.add("pubsub_publish_batch", 0, pubsub_publish_batch)?;
    functions.add("pubsub_publish_later", 0, pubsub_publish_later)
}

async fn pubsub_publish(
    call: &mut Call<'_>,
    (topic, topic_size, data, data_size): (i32, i32, i32, i32),
) -> Result<i32, Fault> {
    let event = event(call, (topic, topic_size), (data, data_size), one_value).await?;
    publish(call, vec![event]).await
}

async fn pubsub_publish_batch(call: &mut Call<'_>, messages: Range) -> Result<i32, Fault> {
    let messages = JsonArgument { what: "the messages", range: messages, max_bytes: PUBLISH_BATCH_MAX_BYTES };
    let messages = json::read(call, messages, batch).await??;
    let (depth, trace) = (depth(call), call.state().trace());
    let event = |(topic, data)| Event { topic, data, depth, trace };
    publish(call, messages.into_iter().map(event).collect()).await
}

async fn pubsub_publish_later(
    call: &mut Call<'_>,
    (topic, topic_size, data, data_size, delay_ms): (i32, i32, i32, i32, i64),
) -> Result<i32, Fault> {
    let event = event(call, (topic, topic_size), (data, data_size), one_value).await?;
    let delay = u64::try_from(delay_ms).map(Duration::from_millis);
    let delay = delay.ok().filter(|delay| *delay <= PUBLISH_DELAY_MAX).ok_or_else(|| {
        let most = PUBLISH_DELAY_MAX.as_millis();
        ServiceError::invalid(format!("the delay must be from 0 to {most} ms (30 days), got {delay_ms}"))
    })?;
    let state = call.state();
    let answer = state.host.events.publish_later(&state.function.namespace, event, delay);
    let published = call.ask(answer).await?;
    note_suppressed(call, published.suppressed_triggers);
    Ok(1)
}

async fn publish(call: &mut Call<'_>, events: Vec<Event>) -> Result<i32, Fault> {
    let state = call.state();
    let answer = state.host.events.publish(&state.function.namespace, events);
    let published = call.ask(answer).await?;
    note_suppressed(call, published.iter().map(|published| published.suppressed_triggers).sum());
    Ok(1)
}

/// Tells in the log that triggers did not fire.
pub(super) fn note_suppressed(call: &mut Call<'_>, suppressed: usize) {
    if suppressed > 0 {
        let why =
            format!("{suppressed} triggers did not fire: the depth limit of {TRIGGER_DEPTH_MAX} was reached");
        call.log_failure(&why);
    }
}

/// The depth of what this run publishes.
pub(super) fn depth(call: &mut Call<'_>) -> u32 {
    call.state().invocation.trigger_depth.saturating_add(1)
}

/// An event from its topic and its data, which `check` takes.
pub(super) async fn event(
    call: &mut Call<'_>,
    topic: Range,
    data: Range,
    check: fn(&str) -> Result<String, ServiceError>,
) -> Result<Event, Fault> {
    let data = JsonArgument { what: "the data", range: data, max_bytes: EVENT_MAX_BYTES };
    let (memory, _) = call.memory()?;
    memory.argument(data.range)?;
    let topic = checked_topic(memory.argument(topic)?)?;
    let data = json::read(call, data, check).await??;
    call.describe(|| topic.clone());
    Ok(Event { topic, data, depth: depth(call), trace: call.state().trace() })
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

/// The same for a text in which [`OUTBOX_SEQ`] stands for a number.
pub(super) fn value_with_seq(text: &str) -> Result<String, ServiceError> {
    if text.contains(OUTBOX_SEQ) {
        one_value(&text.replace(OUTBOX_SEQ, "0"))?;
        return Ok(text.to_owned());
    }
    one_value(text)
}

/// One message of a batch.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Message<'a> {
    #[serde(borrow)]
    topic: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    data_base64: Option<Cow<'a, str>>,
}

/// A field that is present, even if it is null.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Topics and data of a batch.
fn batch(text: &str) -> Result<Vec<(String, String)>, ServiceError> {
    let messages: Elements<'_, PUBLISH_BATCH_MAX> =
        serde_json::from_str(text).map_err(|error| json::refused("the messages", &error))?;
    if messages.count > PUBLISH_BATCH_MAX {
        let why = format!("a batch has at most {PUBLISH_BATCH_MAX} messages, not {}", messages.count);
        return Err(ServiceError::invalid(why));
    }
    let read = |(index, raw): (usize, &RawValue)| {
        message(raw).map_err(|error| {
            let message = format!("message {index} (counted from 0): {}", error.message);
            ServiceError { message, ..error }
        })
    };
    messages.first.into_iter().enumerate().map(read).collect()
}

fn message(raw: &RawValue) -> Result<(String, String), ServiceError> {
    let message: Message<'_> =
        serde_json::from_str(raw.get()).map_err(|error| json::refused("it is not understood", &error))?;
    let topic = checked_topic(message.topic.as_bytes())?;
    let data = match (message.data, message.data_base64) {
        (Some(data), None) => data.get().to_owned(),
        (None, Some(base64)) if BASE64_STANDARD.decode(&*base64).is_ok() => {
            serde_json::to_string(&base64).map_err(|error| json::refused("the field data_base64", &error))?
        }
        (None, Some(_)) => {
            return Err(ServiceError::invalid("the field data_base64 must be base64 with padding"));
        }
        _ => return Err(ServiceError::invalid("it needs either data or data_base64")),
    };
    if data.len() > EVENT_MAX_BYTES {
        let why = format!("the data has {} bytes, more than the limit of {EVENT_MAX_BYTES}", data.len());
        return Err(ServiceError::new(ErrorCode::PayloadTooLarge, why));
    }
    Ok((topic, data))
}
