//! What an invocation can learn about itself: its caller, its id and its environment.

use crate::abi::{Range, View, text};
use crate::call::{Call, Fault, Functions};
use crate::guest::GuestState;
use crate::invocation::Caller;
use crate::limits::HOST_NAME_MAX_BYTES;
use wasmtime::{Caller as Guest, Result};

pub(super) fn link(functions: &mut Functions<'_>) -> Result<()> {
    functions.add_bytes("get_caller_wallet", get_caller_wallet)?;
    functions.add_bytes("get_caller_jwt_subject", get_caller_jwt_subject)?;
    functions.add_bytes("get_caller_claim", get_caller_claim)?;
    functions.add_bytes("get_request_id", get_request_id)?;
    functions.add_bytes("get_env", get_env)?;
    functions
        .add_start_up_sync("snapshot_pending", |guest: Guest<'_, GuestState>| snapshot_pending(guest.data()))
}

/// 1 while the start is run for a snapshot: what the program does now, its invocations need not do.
fn snapshot_pending(state: &GuestState) -> i32 {
    state.rehearsal.is_some().into()
}

async fn get_caller_wallet(call: &mut Call<'_>, (): ()) -> Result<i64, Fault> {
    let wallet = of_caller(call.state(), |caller| &caller.wallet).to_owned();
    call.give(wallet.as_bytes()).await
}

async fn get_caller_jwt_subject(call: &mut Call<'_>, (): ()) -> Result<i64, Fault> {
    let subject = of_caller(call.state(), |caller| &caller.subject).to_owned();
    call.give(subject.as_bytes()).await
}

async fn get_request_id(call: &mut Call<'_>, (): ()) -> Result<i64, Fault> {
    let id = call.state().invocation.request_id.clone();
    call.give(id.as_bytes()).await
}

async fn get_env(call: &mut Call<'_>, key: Range) -> Result<i64, Fault> {
    let (memory, state) = call.memory()?;
    let value = state.function.env.get(checked_name(&memory, key)?).cloned().unwrap_or_default();
    call.give(value.as_bytes()).await
}

async fn get_caller_claim(call: &mut Call<'_>, claim: Range) -> Result<i64, Fault> {
    let (memory, state) = call.memory()?;
    let claim = checked_name(&memory, claim)?;
    let caller = state.invocation.caller.as_deref();
    let value = caller.and_then(|caller| caller.claims.get(claim)).cloned().unwrap_or_default();
    call.give(value.as_bytes()).await
}

fn of_caller(state: &GuestState, field: fn(&Caller) -> &str) -> &str {
    state.invocation.caller.as_deref().map_or("", field)
}

#[inline]
fn checked_name<'a>(memory: &'a View<'_>, name: Range) -> Result<&'a str, Fault> {
    Ok(text("the name", memory.argument(name)?, HOST_NAME_MAX_BYTES)?)
}
