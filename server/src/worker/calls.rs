//! Functions that call functions: the called one runs on the core of its caller, within the caller's deadline.
//!
//! A caller keeps its place and its instance while it waits, so calls have places that others may not take
//! ([`Running::enter_call`]). A call that finds none waits for one, as its caller cannot do better.

use super::answer::held;
use super::core::Core;
use super::run::{Access, Asker, Cause, ready, run_with_retries};
use super::running::Running;
use super::spread::spread_call;
use super::until::{Until, until};
use crate::error::ApiError;
use crate::shares::Party;
use bytes::Bytes;
use orama_platform::auth::jwt::SUBJECT_SHOWN;
use orama_runtime::invocation::{Caller, Outcome, Status};
use orama_runtime::services::{Answer, CallError, Called, Calls, FunctionCall};
use std::cell::RefCell;
use std::future::ready as at_once;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use tokio::sync::oneshot;

thread_local! {
    static CORE: RefCell<Weak<Core>> = const { RefCell::new(Weak::new()) };
}

/// Makes a core the one that its thread's guests call functions on.
pub(super) fn serve_here(core: &Rc<Core>) {
    CORE.set(Rc::downgrade(core));
}

/// The calls of a core's guests.
#[derive(Debug, Clone, Copy)]
pub(super) struct CoreCalls;

impl Calls for CoreCalls {
    fn call(&self, call: FunctionCall) -> Answer<Called> {
        let Some(core) = CORE.with_borrow(Weak::upgrade) else {
            return Box::pin(at_once(stopping()));
        };
        let (answer, wait) = oneshot::channel();
        monoio::spawn(serve(core, call, answer));
        Box::pin(async move { wait.await.unwrap_or_else(|_| stopping()) })
    }
}

fn stopping() -> Called {
    refused(&ApiError::unavailable("the node is stopping"), String::new())
}

/// Runs a called function until it has ended or its caller is gone.
async fn serve(core: Rc<Core>, call: FunctionCall, mut answer: oneshot::Sender<Called>) {
    let request_id = match core.request_id() {
        Ok(id) => id,
        Err(error) => {
            error.log("");
            // The caller may have gone.
            let _ = answer.send(refused(&error, String::new()));
            return;
        }
    };
    let called = match until(run(&core, call, &request_id), answer.closed()).await {
        Until::Done(called) => called,
        Until::Ended => return,
        Until::Panicked => {
            tracing::error!(request_id, "a called function's run panicked");
            let error = ApiError::new(
                http::StatusCode::INTERNAL_SERVER_ERROR,
                "INTERNAL",
                "the node failed to run the function",
            );
            refused(&error, request_id)
        }
    };
    // The caller may have gone.
    let _ = answer.send(called);
}

async fn run(core: &Rc<Core>, call: FunctionCall, request_id: &str) -> Called {
    let running = match enter(core, &call, request_id).await {
        Ok(running) => running,
        Err(error) => {
            if error.status.is_server_error() {
                error.log(request_id);
            }
            return refused(&error, String::new());
        }
    };
    let cause = Cause {
        trigger_type: "function",
        trigger_depth: call.trigger_depth,
        call_depth: call.depth,
        deadline: Some(call.deadline),
        asker: Asker { caller: call.caller.as_ref().and_then(subject), ..Asker::default() },
        caller: call.caller,
        exchange: None,
        trace: call.trace,
    };
    let parties = [Some(running.party()), None];
    let (outcome, _) = run_with_retries(running, call.payload, request_id, &cause).await;
    called(core, outcome, parties, request_id)
}

/// How records name who is behind a call; none without a token.
fn subject(caller: &Arc<Caller>) -> Option<Arc<str>> {
    let subject: String = caller.subject.chars().take(SUBJECT_SHOWN).collect();
    (!subject.is_empty()).then(|| subject.into())
}

async fn enter(core: &Rc<Core>, call: &FunctionCall, request_id: &str) -> Result<Running, ApiError> {
    let ready = ready(core, &call.namespace, &call.function, Access::All).await?;
    let ready = spread_call(core, ready, request_id).await?;
    // A function in a loop would otherwise be the way around the rate of its namespace.
    let entered = match core.callers.admit(&ready.tenant) {
        Ok(()) => Running::enter_call(core, &ready, call.depth).await.map_err(ApiError::from),
        Err(error) => Err(error),
    };
    entered.inspect_err(|error| core.tally_refusal(&ready, error))
}

/// What the caller is told. Large output is counted until the caller has taken it.
fn called(core: &Core, outcome: Outcome, parties: [Option<Arc<Party>>; 2], request_id: &str) -> Called {
    let result = match &outcome.result {
        Ok(()) => match held(&core.shared.shares, Bytes::from(outcome.output), parties) {
            Ok(output) => Ok(output),
            Err(error) => return refused(&error, request_id.to_owned()),
        },
        Err(failure) => Err(CallError {
            status: outcome.status(),
            code: failure.code().to_owned(),
            message: outcome.error().unwrap_or_default(),
        }),
    };
    Called { request_id: request_id.to_owned(), result }
}

fn refused(error: &ApiError, request_id: String) -> Called {
    let ApiError { code, message, .. } = error;
    let error = CallError { status: Status::Error, code: (*code).to_owned(), message: message.clone() };
    Called { request_id, result: Err(error) }
}
