//! Host functions that modules import and this node does not have. They resolve, so that such modules run, and fail as they do
//! where their service is not configured; the log says so.

use super::http::Failure;
use crate::call::{Call, Fault, Functions, Parameters, Returned};
use crate::services::ServiceError;
use wasmtime::{Error, Result};

/// A pointer and a length, once to four times.
type S1 = (i32, i32);
type S2 = (i32, i32, i32, i32);
type S4 = (i32, i32, i32, i32, i32, i32, i32, i32);

pub(super) fn link(functions: &mut Functions<'_>) -> Result<()> {
    absent::<S2, i32>(functions, "push_send")?;
    absent::<S2, i64>(functions, "push_send_v2")?;
    absent::<S2, i64>(functions, "push_send_topic")?;
    absent::<(i32, i32, i32, i32, i32, i32, i64), i64>(functions, "webrtc_admit")?;
    absent::<S2, i32>(functions, "webrtc_kick")?;
    absent::<(i32, i32, i32, i32, i32), i32>(functions, "webrtc_mute")?;
    absent::<(i32, i32, i64), i64>(functions, "capability_mint")?;
    absent::<S1, i32>(functions, "capability_revoke")?;
    absent::<(), i64>(functions, "get_caller_capability")?;
    absent::<(), i64>(functions, "get_caller_device_id")?;
    absent::<(i32, i32, i32, i64), i64>(functions, "storage_fetch_cap_mint")?;
    // Of sockets.
    absent::<(), i64>(functions, "get_ws_client_id")?;
    absent::<(), i64>(functions, "get_ws_event")?;
    absent::<S2, i32>(functions, "ws_send")?;
    absent::<(i32, i32, i32, i32, i32), i32>(functions, "ws_close")?;
    absent::<S2, i32>(functions, "ws_pubsub_bridge")?;
    absent::<S2, i32>(functions, "ws_pubsub_unbridge")?;
    absent::<S2, i32>(functions, "ws_broadcast")?;
    absent::<(i32, i32, i32, i32, i32, i32, i64), i32>(functions, "ephemeral_state_set")?;
    absent::<S2, i32>(functions, "ephemeral_state_clear")?;
    absent::<S1, i64>(functions, "ephemeral_state_list")?;
    // Their failures are told in what they return.
    functions.add_bytes("turn_credentials", turn_credentials)?;
    functions.add_bytes("anon_fetch", no_fetch)?;
    functions.add_bytes("anyone_fetch", no_fetch)
}

fn absent<P: Parameters, R: Returned + Default>(
    functions: &mut Functions<'_>,
    name: &'static str,
) -> Result<()> {
    functions.add(name, R::default(), refuse::<P, R>)
}

async fn refuse<P: Parameters, R: Returned>(_call: &mut Call<'_>, _arguments: P) -> Result<R, Fault> {
    Err(unavailable().into())
}

fn unavailable() -> ServiceError {
    ServiceError::unavailable("this node does not provide the function")
}

async fn turn_credentials(call: &mut Call<'_>, (): ()) -> Result<i64, Fault> {
    call.log_failure(&unavailable().message);
    call.give(br#"{"configured":false}"#).await
}

/// Never a direct request: whoever calls it wants to stay unknown.
async fn no_fetch(call: &mut Call<'_>, _request: S4) -> Result<i64, Fault> {
    let why = unavailable().message;
    call.log_failure(&why);
    let failure = serde_json::to_vec(&Failure { status: 0, error: &why }).map_err(Error::from)?;
    call.give(&failure).await
}
