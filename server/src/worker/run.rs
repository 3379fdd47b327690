//! Runs functions on one core, whatever caused it: finds their code, counts them, tries again, and records what came of it.

use super::cache::Ready;
use super::core::Core;
use super::cors;
use super::exchange::WebExchange;
use super::invoke::not_yours;
use super::running::Running;
use super::traces;
use crate::error::ApiError;
use crate::limits::{RETRY_PATIENCE, UNKNOWN_KNOWN_FOR};
use crate::routes::Target;
use bytes::Bytes;
use orama_platform::modules::LoadError;
use orama_platform::records::{self, CALLER_ENDED, CLIENT_GONE, NODE_STOPPED, Record, What};
use orama_platform::registry::Found;
use orama_runtime::function::{FunctionVersion, StartMode};
use orama_runtime::invocation::{Caller, Failure, Invocation, Outcome, Status};
use orama_runtime::names::Namespace;
use orama_runtime::phases::{Phases, micros};
use orama_runtime::services::Exchange;
use orama_runtime::trace::TraceContext;
use orama_runtime::{Ended, LoadedModule, SnapshotKey};
use orama_store::clock;
use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Why no code of a function is ready to run.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotReady {
    /// The caller may not run it, or its name cannot be one.
    #[error(transparent)]
    Refused(ApiError),
    /// The node's registry names no such function or version.
    #[error(transparent)]
    Unknown(ApiError),
    /// Its code cannot be loaded.
    #[error(transparent)]
    Code(#[from] LoadError),
    /// The registry cannot be read, or a task failed.
    #[error(transparent)]
    Node(ApiError),
}

impl From<NotReady> for ApiError {
    fn from(error: NotReady) -> Self {
        match error {
            NotReady::Refused(error) | NotReady::Unknown(error) | NotReady::Node(error) => error,
            NotReady::Code(error) => not_loaded(error),
        }
    }
}

/// Which functions a caller may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Those of the namespace, for what the node itself runs and for those who administer it.
    All,
    /// Those of the namespace that are not internal.
    Open,
    /// Those that are open to everybody.
    Public {
        /// Whether there is a credential, of another namespace.
        has_credential: bool,
    },
}

impl Access {
    fn check(self, function: &FunctionVersion) -> Result<(), ApiError> {
        match self {
            Self::Public { has_credential } if !function.is_public => Err(not_yours(has_credential)),
            Self::Open if function.web.is_internal => Err(ApiError::internal_function()),
            _ if !function.is_enabled => Err(ApiError::function_disabled()),
            Self::All | Self::Open | Self::Public { .. } => Ok(()),
        }
    }

    /// Whether a function is there is nobody's business but its namespace's.
    fn hide(self, unknown: ApiError) -> NotReady {
        match self {
            Self::Public { has_credential } => NotReady::Refused(not_yours(has_credential)),
            Self::All | Self::Open => NotReady::Unknown(unknown),
        }
    }
}

/// The function and its code: from this core's memory, else from the registry and the disk.
///
/// # Errors
/// 401 or 403 where the caller may not run it, before any code is loaded; 404 where there is none; 503 where its code cannot be
/// loaded now.
pub(super) async fn ready(
    core: &Rc<Core>,
    namespace: &Namespace,
    path_name: &str,
    access: Access,
) -> Result<Rc<Ready>, NotReady> {
    let generation = {
        let mut cache = core.cache.borrow_mut();
        let generation = cache.refresh(&core.shared.registry_generation);
        if let Some(ready) = cache.function(namespace, path_name) {
            access.check(&ready.function).map_err(NotReady::Refused)?;
            note_use(core, ready);
            return Ok(Rc::clone(ready));
        }
        if let Some(error) = cache.unknown_function(namespace, path_name, Instant::now()) {
            return Err(access.hide(error));
        }
        generation
    };
    let target = Target::parse(path_name).map_err(NotReady::Refused)?;
    let user = core.users.borrow_mut().enter(namespace);
    let (Found { function, traffic }, module) =
        look_up(core, namespace, target, access).await.map_err(|error| match error {
            NotReady::Unknown(unknown) => {
                let until = Instant::now() + UNKNOWN_KNOWN_FOR;
                let mut cache = core.cache.borrow_mut();
                cache.keep_unknown_function(generation, (namespace, path_name), unknown.clone(), until);
                access.hide(unknown)
            }
            error => error,
        })?;
    let module = match module {
        Some(module) => module,
        None => {
            let (modules, wanted) = (core.shared.modules.clone(), Arc::clone(&function));
            let made = core.shared.backplane.spawn(async move { modules.make(wanted).await });
            made.await.map_err(|error| NotReady::Node(ApiError::internal(error)))??
        }
    };
    // Counting who uses it is a write each time, so each core counts for itself.
    let function = Arc::new(FunctionVersion::clone(&function));
    let noted_at = Cell::new(core.shared.modules.age());
    let kept = core.keeper.pool(&function, &module);
    keep_start(core, &function, &module);
    let FunctionVersion { namespace, name, .. } = &*function;
    let recorded = Arc::new(records::Function { namespace: namespace.clone(), name: name.clone() });
    let tenant = core.callers.namespace(namespace);
    let places = (function.concurrency > 0).then(|| core.shared.shares.places(namespace, name));
    let cors = cors::of_function(core, &function.web);
    let ready = Rc::new(Ready {
        function,
        recorded,
        module,
        kept,
        noted_at,
        tenant,
        cors,
        places,
        traffic,
        _user: user,
    });
    core.tally(&ready, What::ColdLoad);
    // Of code that was thrown out meanwhile, cores were told already.
    if !ready.module.is_evicted() {
        core.cache.borrow_mut().keep_function(generation, path_name, Rc::clone(&ready));
    }
    Ok(ready)
}

/// Asks for a snapshot of the function's start, unless the node knows of one or why there is none. Nobody waits for it.
fn keep_start(core: &Core, function: &Arc<FunctionVersion>, module: &LoadedModule) {
    let is_wanted = function.start.may_resume() && module.can_resume();
    if !(is_wanted || function.start == StartMode::Snapshot) {
        return;
    }
    let notes = &core.shared.start_notes;
    if let Some(start) = module.starts().get(&SnapshotKey::of(function)) {
        return notes.put_start(&function.id, &start);
    }
    let (modules, function, notes) = (core.shared.modules.clone(), Arc::clone(function), Arc::clone(notes));
    core.shared.backplane.spawn(async move { modules.keep_start(function, notes).await });
}

/// Asks the registry and, where the caller may, loads the code; none where it has to be made first.
async fn look_up(
    core: &Core,
    namespace: &Namespace,
    Target { name, which }: Target,
    access: Access,
) -> Result<(Found, Option<Arc<LoadedModule>>), NotReady> {
    let (shared, namespace) = (Arc::clone(&core.shared), namespace.clone());
    core.ask(move || {
        let found = shared.registry.find(&namespace, &name, &which);
        let found = found.map_err(|error| NotReady::Node(ApiError::internal(error)))?;
        let unknown = || NotReady::Unknown(ApiError::function_not_found(name.as_str(), &which));
        let found = found.ok_or_else(unknown)?;
        access.check(&found.function).map_err(NotReady::Refused)?;
        let module = shared.modules.load(&found.function)?;
        Ok((found, module))
    })
    .await
    .map_err(NotReady::Node)?
}

fn not_loaded(error: LoadError) -> ApiError {
    match error {
        LoadError::NoRoom(_) => {
            tracing::warn!(%error, "a function cannot be called now");
            ApiError::overloaded("the node has no room to load the function's code")
        }
        LoadError::Later(_) => {
            tracing::warn!(%error, "a function cannot be called now");
            ApiError::unavailable("the function's code is not on this node yet; try again soon")
        }
        LoadError::Failed(_) => ApiError::code_unavailable(error),
    }
}

/// Tells the node's cache of loaded code, once in each of its ages, that this code is in use.
fn note_use(core: &Core, ready: &Ready) {
    let age = core.shared.modules.age();
    if ready.noted_at.replace(age) != age {
        core.shared.modules.note_use(&ready.function.wasm_hash);
    }
}

/// Sees to it that an invocation is recorded, also when its client leaves or the node stops before it ends.
struct Unfinished<'a> {
    core: &'a Rc<Core>,
    /// The request whose body may have come meanwhile.
    exchange: Option<&'a WebExchange>,
    begun: Instant,
    record: Option<Record>,
}

impl Unfinished<'_> {
    fn uploaded_bytes(&self) -> u64 {
        self.exchange.map_or(0, WebExchange::uploaded_bytes) as u64
    }

    fn finish(mut self, outcome: &mut Outcome) {
        let duration = self.begun.elapsed();
        if let Some(mut record) = self.record.take() {
            record.status = outcome.status();
            record.error = outcome.error();
            record.error_code = outcome.result.as_ref().err().map_or("", Failure::code);
            record.http_status = self.exchange.map_or(0, WebExchange::status);
            record.phases = outcome.phases;
            record.memory_bytes = outcome.memory_bytes;
            record.duration_us = duration.as_micros() as u64;
            record.output_size = outcome.output.len() as u64;
            record.input_size += self.uploaded_bytes();
            record.messages = std::mem::take(&mut outcome.messages);
            self.core.counters.invoked(record.status, duration);
            self.core.record(record);
        }
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if let Some(mut record) = self.record.take() {
            let duration = self.begun.elapsed();
            record.duration_us = duration.as_micros() as u64;
            record.input_size += self.uploaded_bytes();
            let (who, code) = if self.core.stopping.get() {
                ("the node was stopped", NODE_STOPPED)
            } else if record.trigger_type == "function" {
                ("the function that called it ended", CALLER_ENDED)
            } else {
                ("the client closed the connection", CLIENT_GONE)
            };
            record.error_code = code;
            record.error = Some(format!("{who} before the function had finished"));
            self.core.counters.invoked(record.status, duration);
            self.core.record(record);
        }
    }
}

/// What caused an invocation.
pub(super) struct Cause {
    /// One of [`orama_platform::records::TRIGGER_TYPES`].
    pub(super) trigger_type: &'static str,
    /// How many triggers stand behind it.
    pub(super) trigger_depth: u32,
    /// How many functions that called each other stand behind it.
    pub(super) call_depth: u32,
    /// When it is ended, where that is not its own timeout alone.
    pub(super) deadline: Option<Instant>,
    /// Who called, where a token told it.
    pub(super) caller: Option<Arc<Caller>>,
    /// The HTTP request that it serves.
    pub(super) exchange: Option<Arc<WebExchange>>,
    /// The trace that it continues.
    pub(super) trace: Option<TraceContext>,
    /// Who asked for it, as its record tells.
    pub(super) asker: Asker,
}

/// Who asked for an invocation, as its record tells.
#[derive(Default)]
pub(super) struct Asker {
    /// The subject of a token, or else the id of a key.
    pub(super) caller: Option<Arc<str>>,
    pub(super) client: Option<IpAddr>,
    /// The id that the client gave its request.
    pub(super) request_id: Option<Box<str>>,
}

/// Runs a function once and records it.
pub(super) async fn run(
    running: &Running,
    input: Bytes,
    request_id: &str,
    cause: &Cause,
    attempt: u32,
) -> Outcome {
    let Running { core, ready, .. } = running;
    let mut record = begin_record(ready, &input, request_id, cause, attempt);
    let (trace, is_traced) = traces::place(core, cause.trace);
    record.trace_id = trace.map_or(0, |trace| trace.trace_id);
    let exchange = cause.exchange.as_deref();
    let begun = Instant::now();
    let unfinished = Unfinished { core, exchange, begun, record: Some(record) };
    let invocation = Invocation {
        request_id: request_id.to_owned(),
        input,
        caller: cause.caller.clone(),
        trigger_depth: cause.trigger_depth,
        call_depth: cause.call_depth,
        deadline: cause.deadline,
        exchange: cause.exchange.clone().map(|exchange| exchange as Arc<dyn Exchange>),
        trace,
        is_traced,
    };
    let Ended { mut outcome, instance } = in_instance(core, ready, invocation).await;
    if let Some(trace) = trace.filter(|_| is_traced) {
        traces::tell(running, cause, trace, (begun, request_id), &mut outcome);
    }
    unfinished.finish(&mut outcome);
    // Giving the memory back must not hold up the answer.
    core.keeper.bury(instance);
    outcome
}

/// Runs a function from a snapshot of its start, in a guest that waits for it, or else from its start.
async fn in_instance(core: &Core, ready: &Ready, invocation: Invocation) -> Ended {
    let begun = Instant::now();
    let waited = core.turns.enter(&ready.function.namespace, begun).await;
    let mut ended = in_its_turn(core, ready, invocation, begun).await;
    ended.outcome.phases.wait_us = micros(waited);
    ended
}

async fn in_its_turn(core: &Core, ready: &Ready, invocation: Invocation, begun: Instant) -> Ended {
    let snapshot = ready.kept.pool.borrow_mut().snapshot();
    let parked = if snapshot.is_some() { None } else { core.keeper.take(&ready.kept, begun) };
    core.counters.started(parked.is_some(), snapshot.is_some());
    if let Some(parked) = parked {
        return core.turns.count(parked.run(invocation)).await;
    }
    core.keeper.make_room(core.running.get(), core.shared.running_max);
    let snapshot = snapshot.as_deref().map(std::ops::Deref::deref);
    let Ready { module, function, .. } = ready;
    let guest = core.shared.engine.run_from(module, snapshot, function, invocation, &core.host);
    core.turns.count(guest).await
}

/// Runs a function, again after a failure as its version says, as long as its caller waits and
/// [`RETRY_PATIENCE`] lasts. Returns the last attempt's outcome, and the time that all took together.
pub(super) async fn run_with_retries(
    mut running: Running,
    mut input: Bytes,
    request_id: &str,
    cause: &Cause,
) -> (Outcome, Duration) {
    let begun = Instant::now();
    let (core, ready) = (Rc::clone(&running.core), Rc::clone(&running.ready));
    let address = running.address.clone();
    let attempts = 1 + ready.function.retry_count;
    let mut attempt = 1;
    loop {
        // The last attempt takes the input itself: most functions have only one, and the first copy allocates.
        let input = if attempt < attempts { input.clone() } else { std::mem::take(&mut input) };
        let outcome = run(&running, input, request_id, cause, attempt).await;
        let pause = Duration::from_secs(ready.function.retry_delay_seconds.into());
        let may_retry = match &outcome.result {
            // Another attempt would meet the same crowd.
            Ok(()) | Err(Failure::Overloaded) => false,
            Err(_) => {
                attempt < attempts
                    && begun.elapsed() + pause < RETRY_PATIENCE
                    && cause.deadline.is_none_or(|deadline| Instant::now() + pause < deadline)
                    && cause.exchange.as_ref().is_none_or(|exchange| exchange.may_begin_anew())
            }
        };
        if !may_retry {
            return (outcome, begun.elapsed());
        }
        // Who only waits takes nobody's place.
        drop(running);
        core.host.scheduler.sleep(pause).await;
        let entered = match cause.call_depth {
            0 => Running::enter(&core, &ready, address.as_ref()),
            depth => Running::enter_call(&core, &ready, depth).await,
        };
        running = match entered {
            Ok(running) => running,
            Err(_) => return (outcome, begun.elapsed()),
        };
        attempt += 1;
    }
}

fn begin_record(ready: &Ready, input: &Bytes, request_id: &str, cause: &Cause, attempt: u32) -> Record {
    Record {
        request_id: request_id.into(),
        function: Arc::clone(&ready.recorded),
        version: ready.function.version,
        trigger_type: cause.trigger_type,
        attempt,
        status: Status::Error,
        duration_us: 0,
        input_size: input.len() as u64,
        output_size: 0,
        error: None,
        started_at_ms: clock::now_ms(),
        messages: Vec::new(),
        caller: cause.asker.caller.clone(),
        client: cause.asker.client,
        client_request_id: cause.asker.request_id.clone(),
        error_code: "",
        http_status: 0,
        phases: Phases::default(),
        memory_bytes: 0,
        trace_id: 0,
    }
}
