//! Runs that a function asked for and does not wait for. They wait in queues of their own, some for each function and version,
//! and their queues are named as triggers are.

use super::store::{Kind, NewMessage, To};
use super::{Inner, now_ms, publish};
use crate::limits::LATER_RUN_LANES;
use crate::registry::RegistryError;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use orama_runtime::names::{FunctionName, Namespace};
use orama_runtime::services::{ErrorCode, Event, LaterRun, ServiceError};
use orama_store::blocking::blocking_on;
use orama_store::causes::Causes;
use std::sync::Arc;

/// The topic of their messages, which no other message has.
const TOPIC: &str = "_orama/invoke";

/// Beginning of the ids of their queues.
const PREFIX: &str = "invoke:";

/// The id of a queue of a function: the namespace, the function, its version or 0 for the newest, and the lane.
fn queue_id(namespace: &Namespace, function: &FunctionName, version: Option<u32>, lane: u8) -> String {
    format!("{PREFIX}{namespace}:{function}:{}:{lane}", version.unwrap_or(0))
}

/// The version in the id of a queue; `None` where the newest runs, and for the id of a trigger.
pub(super) fn version(id: &str) -> Option<u32> {
    let version = id.strip_prefix(PREFIX)?.rsplit(':').nth(1)?;
    version.parse().ok().filter(|version| *version > 0)
}

/// Makes a run durable.
pub(super) async fn run_later(
    inner: &Arc<Inner>,
    namespace: Namespace,
    run: LaterRun,
) -> Result<(), ServiceError> {
    let LaterRun { function, payload, depth } = run;
    if depth > orama_runtime::limits::TRIGGER_DEPTH_MAX {
        let most = orama_runtime::limits::TRIGGER_DEPTH_MAX;
        return Err(ServiceError::invalid(format!("the depth limit of {most} was reached")));
    }
    let (name, version) = parse(&function)?;
    exists(inner, &namespace, &name, version).await?;
    let message_id = publish::message_id()?;
    let lane = message_id.bytes().fold(0_u8, u8::wrapping_add) % LATER_RUN_LANES;
    let (kind, data) = match String::from_utf8(payload.into()) {
        Ok(text) => (Kind::Input, text),
        Err(bytes) => (Kind::InputBase64, STANDARD.encode(bytes.into_bytes())),
    };
    let new = NewMessage {
        message_id,
        kind,
        event: Event { topic: TOPIC.to_owned(), data, depth },
        published_at_ms: now_ms(),
        to: To::Queue { id: queue_id(&namespace, &name, version, lane), function: name },
    };
    publish::store(inner, namespace, vec![new]).await
}

fn parse(function: &str) -> Result<(FunctionName, Option<u32>), ServiceError> {
    let (name, version) = match function.split_once('@') {
        None => (function, None),
        Some((name, version)) => {
            let number = version.bytes().all(|byte| byte.is_ascii_digit()).then(|| version.parse().ok());
            let number = number.flatten().filter(|number: &u32| *number > 0).ok_or_else(|| {
                ServiceError::invalid("the text after the @ must be a version number from 1 on")
            })?;
            (name, Some(number))
        }
    };
    let name = FunctionName::new(name).map_err(|error| ServiceError::invalid(error.to_string()))?;
    Ok((name, version))
}

/// Refuses what could never run.
async fn exists(
    inner: &Arc<Inner>,
    namespace: &Namespace,
    name: &FunctionName,
    version: Option<u32>,
) -> Result<(), ServiceError> {
    let (asked, namespace, name) = (Arc::clone(inner), namespace.clone(), name.clone());
    let failed = |error: RegistryError| {
        tracing::error!(error = %Causes(&error), "a function could not be looked up");
        ServiceError::unavailable("the function could not be looked up; try again soon")
    };
    blocking_on(&inner.backplane, move || {
        let found = asked.registry.function(&namespace, &name, version).map_err(failed)?;
        found.map(drop).ok_or_else(|| {
            let which = version.map_or_else(String::new, |version| format!("version {version} of "));
            let message = format!("there is no {which}function {:?} in this namespace", name.as_str());
            ServiceError::new(ErrorCode::InvalidArgument, message)
        })
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_in_the_id_of_a_queue() {
        let (namespace, function) = (Namespace::new("a").unwrap(), FunctionName::new("f").unwrap());
        assert_eq!(version(&queue_id(&namespace, &function, None, 3)), None);
        assert_eq!(version(&queue_id(&namespace, &function, Some(7), 3)), Some(7));
        assert_eq!(version("01a2b3c4-0000-7000-8000-000000000000"), None);
        for (text, parsed) in
            [("f", Some(None)), ("f@2", Some(Some(2))), ("f@0", None), ("f@+1", None), ("", None)]
        {
            assert_eq!(parse(text).ok().map(|(_, version)| version), parsed, "{text}");
        }
    }
}
