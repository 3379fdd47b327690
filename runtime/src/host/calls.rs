//! `function_invoke*`: runs another function of the namespace, and waits for its output or not.

use super::{json, pubsub};
use crate::abi::{Range, bounded, text};
use crate::call::{Call, Fault, Functions};
use crate::invocation::Status;
use crate::limits::{
    CALL_DEPTH_MAX, EVENT_MAX_BYTES, HOST_NAME_MAX_BYTES, INPUT_MAX_BYTES, OUTPUT_COUNTED_FROM_BYTES,
};
use crate::phases::Kind;
use crate::services::{CallError, Called, FunctionCall, LaterRun, ServiceError};
use bytes::Bytes;
use serde::Serialize;
use wasmtime::{Error, Result};

/// Pointers and lengths of a function's name and its input.
type Arguments = (i32, i32, i32, i32);

/// Those that wait for the called function.
pub(crate) const WAITING: [&str; 2] = ["function_invoke", "function_invoke_v2"];

pub(super) fn link(functions: &mut Functions<'_>) -> Result<()> {
    let [invoke, invoke_v2] = WAITING;
    functions.of_kind(Kind::Calls).add_bytes(invoke, function_invoke)?;
    functions.add_bytes(invoke_v2, function_invoke_v2)?;
    functions.of_kind(Kind::Events).add("function_invoke_async", 0, function_invoke_async)
}

async fn function_invoke(call: &mut Call<'_>, arguments: Arguments) -> Result<i64, Fault> {
    let Called { request_id, result } = invoke(call, arguments).await?;
    match result {
        Ok(output) => call.give(&output).await,
        Err(CallError { message, .. }) => {
            let run = if request_id.is_empty() { String::new() } else { format!(" (request {request_id})") };
            call.log_failure(&format!("{message}{run}"));
            Ok(0)
        }
    }
}

/// A call as `function_invoke_v2` tells of it; the output comes after.
#[derive(Serialize)]
struct Reply<'a> {
    status: Status,
    error: &'a str,
    code: &'a str,
    request_id: &'a str,
}

async fn function_invoke_v2(call: &mut Call<'_>, arguments: Arguments) -> Result<i64, Fault> {
    let called = match Fault::caught(invoke(call, arguments).await)? {
        Ok(called) => called,
        Err(ServiceError { code, message }) => {
            let error = CallError { status: Status::Error, code: code.as_str().to_owned(), message };
            Called { request_id: String::new(), result: Err(error) }
        }
    };
    let error = called.result.as_ref().err();
    let reply = Reply {
        status: error.map_or(Status::Success, |error| error.status),
        error: error.map_or("", |error| &error.message),
        code: error.map_or("", |error| &error.code),
        request_id: &called.request_id,
    };
    let mut reply = serde_json::to_vec(&reply).map_err(Error::from)?;
    let output = called.result.as_deref().unwrap_or_default();
    json::add_bytes(call, &mut reply, "output", output).await?;
    call.give(&reply).await
}

async fn function_invoke_async(call: &mut Call<'_>, arguments: Arguments) -> Result<i32, Fault> {
    let (function, payload) = what(call, arguments, EVENT_MAX_BYTES).await?;
    call.describe(|| function.clone());
    let (depth, trace) = (pubsub::depth(call), call.state().trace());
    let run = LaterRun { function, payload, depth, trace };
    let state = call.state();
    let answer = state.host.events.run_later(&state.function.namespace, run);
    call.ask(answer).await?;
    Ok(1)
}

/// The function's name and its input.
async fn what(
    call: &mut Call<'_>,
    (name, name_size, payload, payload_size): Arguments,
    payload_max_bytes: usize,
) -> Result<(String, Bytes), Fault> {
    let payload: Range = (payload, payload_size);
    let (memory, _) = call.memory()?;
    // A range outside the memory traps whatever else is wrong, so all ranges are checked first.
    let name = memory.argument((name, name_size))?;
    bounded("the payload", memory.argument(payload)?, payload_max_bytes)?;
    let function = text("the function's name", name, HOST_NAME_MAX_BYTES)?.to_owned();
    Ok((function, Bytes::from(call.take(payload).await?)))
}

async fn invoke(call: &mut Call<'_>, arguments: Arguments) -> Result<Called, Fault> {
    let (function, payload) = what(call, arguments, INPUT_MAX_BYTES).await?;
    call.describe(|| function.clone());
    let state = call.state();
    // Small ones are less than the guest's own memory.
    let counted = if payload.len() > OUTPUT_COUNTED_FROM_BYTES { payload.len() } else { 0 };
    let depth = state.invocation.call_depth + 1;
    if depth > CALL_DEPTH_MAX {
        let why = format!("calls of functions may be {CALL_DEPTH_MAX} deep; this one would be one more");
        return Err(ServiceError::invalid(why).into());
    }
    let request = FunctionCall {
        namespace: state.function.namespace.clone(),
        function,
        payload,
        caller: state.invocation.caller.clone(),
        trigger_depth: state.invocation.trigger_depth,
        depth,
        deadline: state.deadline,
        trace: state.trace(),
    };
    if counted > 0 && !state.limiter.take(counted) {
        return Err(ServiceError::unavailable("the node has no room for the payload now").into());
    }
    let answer = state.host.calls.call(request);
    let called = call.wait_for(answer).await?;
    if called.result.is_err() {
        call.note_failure();
    }
    if counted > 0 {
        call.state().limiter.give_back(counted);
    }
    Ok(called)
}
