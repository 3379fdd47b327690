//! Runs that a function asked for and does not wait for. They wait in queues of their own, some for each function and version,
//! and their queues are named as triggers are.

use super::store::{Kind, NewMessage, To};
use super::{Inner, now_ms, publish};
use crate::limits::LATER_RUN_LANES;
use crate::registry::{RegistryError, Which};
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
    let LaterRun { function, payload, depth, trace } = run;
    if depth > orama_runtime::limits::TRIGGER_DEPTH_MAX {
        let most = orama_runtime::limits::TRIGGER_DEPTH_MAX;
        return Err(ServiceError::invalid(format!("the depth limit of {most} was reached")));
    }
    let (name, which) = parse(&function)?;
    let version = number_of(inner, &namespace, &name, which).await?;
    let message_id = publish::message_id()?;
    let lane = message_id.bytes().fold(0_u8, u8::wrapping_add) % LATER_RUN_LANES;
    let (kind, data) = match String::from_utf8(payload.into()) {
        Ok(text) => (Kind::Input, text),
        Err(bytes) => (Kind::InputBase64, STANDARD.encode(bytes.into_bytes())),
    };
    let new = NewMessage {
        message_id,
        kind,
        event: Event { topic: TOPIC.to_owned(), data, depth, trace },
        published_at_ms: now_ms(),
        to: To::Queue { id: queue_id(&namespace, &name, version, lane), function: name },
    };
    publish::store(inner, namespace, vec![new]).await
}

fn parse(function: &str) -> Result<(FunctionName, Which), ServiceError> {
    let (name, which) = match function.split_once('@') {
        None => (function, Which::Live),
        Some((name, which)) => (name, Which::parse(which).map_err(ServiceError::invalid)?),
    };
    let name = FunctionName::new(name).map_err(|error| ServiceError::invalid(error.to_string()))?;
    Ok((name, which))
}

/// The version that a run keeps to; `None` for whichever is live when it runs. Refuses what could never run.
async fn number_of(
    inner: &Arc<Inner>,
    namespace: &Namespace,
    name: &FunctionName,
    which: Which,
) -> Result<Option<u32>, ServiceError> {
    let (asked, namespace, name) = (Arc::clone(inner), namespace.clone(), name.clone());
    let failed = |error: RegistryError| {
        tracing::error!(error = %Causes(&error), "a function could not be looked up");
        ServiceError::unavailable("the function could not be looked up; try again soon")
    };
    blocking_on(&inner.backplane, move || {
        let found = asked.registry.number_of(&namespace, &name, &which).map_err(failed)?;
        let number = found.ok_or_else(|| {
            let of = which.named().map_or_else(String::new, |which| format!("{which} of "));
            let message = format!("there is no {of}function {:?} in this namespace", name.as_str());
            ServiceError::new(ErrorCode::InvalidArgument, message)
        })?;
        Ok((which != Which::Live).then_some(number))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use orama_runtime::names::AliasName;

    #[test]
    fn the_version_is_in_the_id_of_a_queue() {
        let (namespace, function) = (Namespace::new("a").unwrap(), FunctionName::new("f").unwrap());
        assert_eq!(version(&queue_id(&namespace, &function, None, 3)), None);
        assert_eq!(version(&queue_id(&namespace, &function, Some(7), 3)), Some(7));
        assert_eq!(version("01a2b3c4-0000-7000-8000-000000000000"), None);
        for (text, parsed) in [
            ("f", Some(Which::Live)),
            ("f@2", Some(Which::Number(2))),
            ("f@live", Some(Which::Alias(AliasName::new("live").unwrap()))),
            ("f@0", None),
            ("f@+1", None),
            ("", None),
        ] {
            assert_eq!(parse(text).ok().map(|(_, which)| which), parsed, "{text}");
        }
    }
}
