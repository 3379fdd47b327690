//! Runs functions for events, on the core that has the least to do.

use super::core::Core;
use super::run::{Access, Asker, Cause, NotReady, ready, run};
use super::running::Running;
use super::until::{Until, until};
use super::{Command, Peer};
use crate::error::ApiError;
use orama_platform::events::{Ran, Run, Triggered};
use orama_platform::modules::LoadError;
use orama_runtime::invocation::Failure;
use orama_runtime::limits::{RETRY_COUNT, RETRY_DELAY_SECONDS};
use std::borrow::Cow;
use std::future::ready as at_once;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;

/// A core as events see it.
struct Place {
    core: Peer,
    /// Handed over and not answered.
    handed: AtomicU64,
}

/// Hands triggered runs to the cores.
pub(crate) fn runner(cores: impl Iterator<Item = Peer>) -> Run {
    let places: Arc<[Place]> = cores.map(|core| Place { core, handed: AtomicU64::new(0) }).collect();
    Arc::new(move |triggered| {
        // What was handed over a moment ago is not counted as running yet.
        let load = |place: &Place| place.core.counters.running().max(place.handed.load(Ordering::Relaxed));
        let Some(best) = (0..places.len()).min_by_key(|at| places.get(*at).map(load)) else {
            return Box::pin(at_once(Ran::NoRoom));
        };
        let places = Arc::clone(&places);
        Box::pin(async move {
            let Some(place) = places.get(best) else { return Ran::NoRoom };
            let (answer, wait) = oneshot::channel();
            place.handed.fetch_add(1, Ordering::Relaxed);
            let sent = place.core.commands.try_send(Command::Run(triggered, answer));
            // A core that ends answers nothing.
            let ran = if sent.is_ok() { wait.await.unwrap_or(Ran::NoRoom) } else { Ran::NoRoom };
            place.handed.fetch_sub(1, Ordering::Relaxed);
            ran
        })
    })
}

/// Runs a function on this core and tells what came of it; nothing when the node stops first.
pub(super) async fn serve(core: Rc<Core>, triggered: Triggered, answer: oneshot::Sender<Ran>) {
    if core.stopping.get() {
        return;
    }
    let request_id = match core.request_id() {
        Ok(id) => id,
        // Dropping the answer says that nothing ran.
        Err(error) => return error.log(""),
    };
    let ran = match until(run_once(&core, triggered, &request_id), core.stop.notified()).await {
        Until::Done(ran) => ran,
        Until::Ended => return,
        Until::Panicked => {
            tracing::error!(request_id, "a triggered run panicked");
            node_failed("the node failed to run the function".to_owned(), &request_id)
        }
    };
    // The dispatcher may have gone.
    let _ = answer.send(ran);
}

async fn run_once(core: &Rc<Core>, triggered: Triggered, request_id: &str) -> Ran {
    let Triggered { namespace, function, version, trigger_type, event, depth, attempt, trace } = triggered;
    let path_name = match version {
        Some(version) => Cow::Owned(format!("{function}@{version}")),
        None => Cow::Borrowed(function.as_str()),
    };
    let ready = match ready(core, &namespace, &path_name, Access::All).await {
        Ok(ready) => ready,
        Err(error) => return not_ready(error, request_id),
    };
    let Ok(running) = Running::enter(core, &ready, None) else { return Ran::NoRoom };
    let cause = Cause {
        trigger_type,
        trigger_depth: depth,
        call_depth: 0,
        deadline: None,
        caller: None,
        exchange: None,
        trace,
        asker: Asker::default(),
    };
    let outcome = run(&running, event, request_id, &cause, attempt).await;
    core.hand_over_records();
    match &outcome.result {
        Ok(()) => Ran::Succeeded,
        Err(Failure::Overloaded) => Ran::NoRoom,
        Err(_) => Ran::Failed {
            error: outcome.error().unwrap_or_default(),
            request_id: request_id.to_owned(),
            retry_count: ready.function.retry_count,
            retry_delay: Duration::from_secs(ready.function.retry_delay_seconds.into()),
        },
    }
}

/// What it means that a run could not begin.
fn not_ready(error: NotReady, request_id: &str) -> Ran {
    match error {
        NotReady::Unknown(_) => Ran::UnknownFunction,
        NotReady::Code(error @ (LoadError::NoRoom(_) | LoadError::Later(_))) => {
            tracing::warn!(%error, request_id, "an event waits: the code of its function cannot be loaded now");
            Ran::NoRoom
        }
        NotReady::Refused(_) | NotReady::Code(LoadError::Failed(_)) | NotReady::Node(_) => {
            let error = ApiError::from(error);
            error.log(request_id);
            node_failed(error.message, request_id)
        }
    }
}

/// The node's fault, so the function's own settings do not count: it is tried as often as one may ask for.
fn node_failed(error: String, request_id: &str) -> Ran {
    Ran::Failed {
        error,
        request_id: request_id.to_owned(),
        retry_count: RETRY_COUNT.max,
        retry_delay: Duration::from_secs(RETRY_DELAY_SECONDS.default.into()),
    }
}
