//! What an invocation may know of itself: its caller, its id and its environment.

use crate::abi::{give, text, view};
use crate::guest::GuestState;
use crate::invocation::Caller as Who;
use crate::limits::HOST_NAME_MAX_BYTES;
use crate::parking::arrive;
use wasmtime::{Caller, Linker, Result};

/// Reads a value of the invocation's state.
type Read = fn(&GuestState) -> &str;

/// Looks a name up in the invocation's state.
type Lookup = for<'a> fn(&'a GuestState, &str) -> &'a str;

fn who(state: &GuestState, field: fn(&Who) -> &str) -> &str {
    state.invocation.caller.as_deref().map_or("", field)
}

pub(super) fn link(linker: &mut Linker<GuestState>, module: &str) -> Result<()> {
    let values: [(&'static str, Read); 3] = [
        ("get_caller_wallet", |state| who(state, |caller| &caller.wallet)),
        ("get_caller_jwt_subject", |state| who(state, |caller| &caller.subject)),
        ("get_request_id", |state| &state.invocation.request_id),
    ];
    for (name, read) in values {
        linker.func_wrap_async(module, name, move |mut caller: Caller<'_, GuestState>, (): ()| {
            Box::new(async move {
                arrive(&mut caller).await;

                let value = read(caller.data()).to_owned();
                give(&mut caller, name, value.as_bytes()).await
            })
        })?;
    }
    let lookups: [(&'static str, Lookup); 2] = [
        ("get_env", |state, key| state.function.env.get(key).map_or("", String::as_str)),
        ("get_caller_claim", |state, claim| {
            let caller = state.invocation.caller.as_deref();
            caller.and_then(|caller| caller.claims.get(claim)).map_or("", String::as_str)
        }),
    ];
    for (name, lookup) in lookups {
        linker.func_wrap_async(
            module,
            name,
            move |mut caller: Caller<'_, GuestState>, key: (i32, i32)| {
                Box::new(async move {
                    arrive(&mut caller).await;

                    let (memory, state) = view(&mut caller)?;
                    let value = match text("the name", memory.argument(name, key)?, HOST_NAME_MAX_BYTES) {
                        Ok(key) => lookup(state, key).to_owned(),
                        Err(why) => {
                            state.log_failure(name, &why.message);
                            return Ok(0);
                        }
                    };
                    give(&mut caller, name, value.as_bytes()).await
                })
            },
        )?;
    }
    Ok(())
}
