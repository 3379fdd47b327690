//! The host functions of the product, the same under each of the module names that guests import from.
//!
//! What a guest sees of a failure is decided here: the documented value and, where that cannot say what was wrong, a
//! line of level `error` in its log.

mod cache;
mod context;
mod database;
mod http;
mod json;
mod log;
mod pubsub;
mod secret;
mod storage;

use crate::guest::{GuestState, Stop};
use crate::services::{Answer, ServiceError};
use std::future::poll_fn;
use std::task::Poll;
use std::time::Instant;
use wasmtime::{Caller, Error, Linker, Result};

/// The module names under which every host function is found.
pub(crate) const MODULES: [&str; 3] = ["env", "host", "orama"];

/// Links every host function under each module name.
pub(crate) fn link(linker: &mut Linker<GuestState>) -> Result<()> {
    for module in MODULES {
        context::link(linker, module)?;
        secret::link(linker, module)?;
        database::link(linker, module)?;
        cache::link(linker, module)?;
        http::link(linker, module)?;
        storage::link(linker, module)?;
        pubsub::link(linker, module)?;
        log::link(linker, module)?;
    }
    Ok(())
}

/// Waits for a service, at most until the invocation's deadline. An answer that is there at once costs no more than
/// looking at it.
async fn answered<T>(caller: &mut Caller<'_, GuestState>, mut answer: Answer<T>) -> Result<T> {
    let mut deadline = None;
    poll_fn(|context| {
        if let Poll::Ready(answer) = answer.as_mut().poll(context) {
            return Poll::Ready(Ok(answer));
        }
        // As mutable, for a shared reference to a caller may not move between threads.
        let state = caller.data_mut();
        let deadline = deadline.get_or_insert_with(|| {
            state.host.scheduler.sleep(state.deadline.saturating_duration_since(Instant::now()))
        });
        deadline.as_mut().poll(context).map(|()| Err(Error::from(Stop::Timeout)))
    })
    .await
}

/// Asks a service, unless its arguments were refused. What goes wrong is logged, and leaves nothing.
async fn ask<T>(
    caller: &mut Caller<'_, GuestState>,
    host_function: &'static str,
    asked: Result<Answer<Result<T, ServiceError>>, ServiceError>,
) -> Result<Option<T>> {
    let answer = match asked {
        Ok(answer) => answered(caller, answer).await?,
        Err(why) => Err(why),
    };
    Ok(match answer {
        Ok(value) => Some(value),
        Err(why) => {
            caller.data_mut().log_failure(host_function, &why.message);
            None
        }
    })
}
