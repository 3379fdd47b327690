//! What an invocation can learn about itself: its caller, its id and its environment.

use crate::abi::{Range, text};
use crate::call::{Call, Fault, Functions};
use crate::guest::GuestState;
use crate::invocation::Caller;
use crate::limits::HOST_NAME_MAX_BYTES;
use wasmtime::Result;

pub(super) fn link(functions: &mut Functions<'_>) -> Result<()> {
    functions.add("get_caller_wallet", 0, get_caller_wallet)?;
    functions.add("get_caller_jwt_subject", 0, get_caller_jwt_subject)?;
    functions.add("get_caller_claim", 0, get_caller_claim)?;
    functions.add("get_request_id", 0, get_request_id)?;
    functions.add("get_env", 0, get_env)
}

async fn get_caller_wallet(call: &mut Call<'_>, (): ()) -> Result<i64, Fault> {
    give_value(call, |state| of_caller(state, |caller| &caller.wallet)).await
}

async fn get_caller_jwt_subject(call: &mut Call<'_>, (): ()) -> Result<i64, Fault> {
    give_value(call, |state| of_caller(state, |caller| &caller.subject)).await
}

async fn get_request_id(call: &mut Call<'_>, (): ()) -> Result<i64, Fault> {
    give_value(call, |state| &state.invocation.request_id).await
}

async fn get_env(call: &mut Call<'_>, key: Range) -> Result<i64, Fault> {
    give_named(call, key, |state, key| state.function.env.get(key).map_or("", String::as_str)).await
}

async fn get_caller_claim(call: &mut Call<'_>, claim: Range) -> Result<i64, Fault> {
    give_named(call, claim, |state, claim| {
        let caller = state.invocation.caller.as_deref();
        caller.and_then(|caller| caller.claims.get(claim)).map_or("", String::as_str)
    })
    .await
}

fn of_caller(state: &GuestState, field: fn(&Caller) -> &str) -> &str {
    state.invocation.caller.as_deref().map_or("", field)
}

async fn give_value(call: &mut Call<'_>, read: fn(&GuestState) -> &str) -> Result<i64, Fault> {
    let value = read(call.state()).to_owned();
    call.give(value.as_bytes()).await
}

async fn give_named(
    call: &mut Call<'_>,
    name: Range,
    look_up: for<'a> fn(&'a GuestState, &str) -> &'a str,
) -> Result<i64, Fault> {
    let (memory, state) = call.memory()?;
    let value = look_up(state, text("the name", memory.argument(name)?, HOST_NAME_MAX_BYTES)?).to_owned();
    call.give(value.as_bytes()).await
}
