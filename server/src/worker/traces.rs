//! Which trace an invocation belongs to, and what is told of it.

use super::core::Core;
use super::run::Cause;
use super::running::Running;
use crate::telemetry::RunSpan;
use http::HeaderMap;
use orama_runtime::invocation::{Failure, Outcome};
use orama_runtime::trace::{TRACEPARENT, TraceContext};
use std::sync::Arc;
use std::time::Instant;

/// The header with the id that a client gives its request.
const REQUEST_ID: &str = "x-request-id";

/// Characters of such an id; a longer one is not kept.
const REQUEST_ID_MAX: usize = 128;

/// The id that a client gave its request.
pub(super) fn request_id(headers: &HeaderMap) -> Option<Box<str>> {
    let id = headers.get(REQUEST_ID)?.to_str().ok()?;
    (1..=REQUEST_ID_MAX).contains(&id.len()).then(|| id.into())
}

/// The trace that a request continues. Whether it is recorded, a stranger does not decide.
pub(super) fn parent(core: &Core, headers: &HeaderMap, is_stranger: bool) -> Option<TraceContext> {
    let parent = TraceContext::parse(headers.get(TRACEPARENT)?.to_str().ok()?)?;
    match &core.shared.traces {
        Some(traces) if is_stranger => {
            // The lower half is random in every trace id.
            let is_sampled = parent.is_sampled && traces.takes(parent.trace_id as u64);
            Some(TraceContext { is_sampled, ..parent })
        }
        _ => Some(parent),
    }
}

/// The place of a run in its trace, and whether that is recorded: then it has a span of its own, else it is where its parent is.
pub(super) fn place(core: &Core, parent: Option<TraceContext>) -> (Option<TraceContext>, bool) {
    match own_span(core, parent) {
        Some(own) => (Some(own), true),
        None => (parent, false),
    }
}

fn own_span(core: &Core, parent: Option<TraceContext>) -> Option<TraceContext> {
    let traces = core.shared.traces.as_ref()?;
    let trace_id = match parent {
        Some(parent) if parent.is_sampled => parent.trace_id,
        Some(_) => return None,
        None => {
            let random = core.next_random();
            if !traces.takes(random) {
                return None;
            }
            u128::from(core.random_bits()?) << 64 | u128::from(random.max(1))
        }
    };
    let span_id = core.random_bits()?.max(1);
    Some(TraceContext { trace_id, span_id, is_sampled: true })
}

/// Hands a run that has ended over to whoever sends traces.
pub(super) fn tell(
    running: &Running,
    cause: &Cause,
    trace: TraceContext,
    (begun, request_id): (Instant, &str),
    outcome: &mut Outcome,
) {
    let Running { core, ready, .. } = running;
    let Some(traces) = &core.shared.traces else { return };
    traces.send(RunSpan {
        trace,
        parent_id: cause.trace.map(|parent| parent.span_id),
        function: Arc::clone(&ready.recorded),
        version: ready.function.version,
        trigger_type: cause.trigger_type,
        request_id: request_id.to_owned(),
        begun,
        ended: Instant::now(),
        phases: outcome.phases,
        memory_bytes: outcome.memory_bytes,
        http_status: cause.exchange.as_ref().map_or(0, |exchange| exchange.status()),
        error_code: outcome.result.as_ref().err().map(Failure::code),
        calls: outcome.spans.take().unwrap_or_default(),
    });
}
