//! The constructors of host functions, and what the body of one can use.
//!
//! A guest may be started before its invocation exists. [`Functions::add`] waits for the invocation before it runs a body,
//! so no host function can forget to wait. Only the functions of the start-up set, which say nothing about a request, are
//! defined without it. The linker is private to this module: there is no third way.

use crate::abi::{OutOfBounds, View, view};
use crate::guest::{GuestState, Stop};
use crate::parking::arrive;
use crate::phases::Kind;
use crate::services::{Answer, ServiceError, Wait};
use std::future::poll_fn;
use std::task::Poll;
use std::time::Instant;
use wasmtime::{Caller, Error, FuncType, IntoFunc, Linker, Result, Val, WasmRet, WasmTyList};

/// Defines the host functions of one import module.
pub(crate) struct Functions<'l> {
    linker: &'l mut Linker<GuestState>,
    module: &'static str,
    bad_pointer: BadPointer,
    /// What the next ones are counted under.
    kind: Option<Kind>,
}

/// What happens to a call whose pointer or length reaches outside the guest's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadPointer {
    /// It traps with a message that names the host function.
    Traps,
    /// It returns its failure value, as WASI does with `EFAULT`.
    Fails,
}

/// The body of a host function: any `async fn(&mut Call<'_>, Arguments) -> Result<Output, Fault>`. One that awaits nothing is a
/// plain function that returns [`Ready`](std::future::Ready), which is cheaper.
///
/// The trait exists to state that the body's future is `Send`, which a bound on `AsyncFn` cannot.
pub(crate) trait Body<C, Arguments, Output>: Copy + Send + Sync + 'static {
    type Run: Future<Output = Result<Output, Fault>> + Send;

    fn run(self, call: C, arguments: Arguments) -> Self::Run;
}

impl<C, Arguments, Output, Function, Run> Body<C, Arguments, Output> for Function
where
    Function: Fn(C, Arguments) -> Run + Copy + Send + Sync + 'static,
    Run: Future<Output = Result<Output, Fault>> + Send,
{
    type Run = Run;

    fn run(self, call: C, arguments: Arguments) -> Run {
        self(call, arguments)
    }
}

/// The parameters of a host function, as a tuple of WebAssembly types.
pub(crate) trait Parameters: WasmTyList + Send + 'static {}

impl<T: WasmTyList + Send + 'static> Parameters for T {}

/// What a host function returns.
pub(crate) trait Returned: WasmRet + Copy + Send + Sync + 'static {}

impl<T: WasmRet + Copy + Send + Sync + 'static> Returned for T {}

/// A [`Body`] that runs in every call, whatever that call borrows.
pub(crate) trait HostFunction<P, R>: for<'a, 'b> Body<&'a mut Call<'b>, P, R> {}

impl<P, R, F: for<'a, 'b> Body<&'a mut Call<'b>, P, R>> HostFunction<P, R> for F {}

#[expect(clippy::disallowed_methods, reason = "the only place that defines host functions")]
impl<'l> Functions<'l> {
    pub(crate) fn new(
        linker: &'l mut Linker<GuestState>,
        module: &'static str,
        bad_pointer: BadPointer,
    ) -> Self {
        Self { linker, module, bad_pointer, kind: None }
    }

    /// The same, for functions that are counted as calls of a kind.
    pub(crate) fn of_kind(&mut self, kind: Kind) -> &mut Self {
        self.kind = Some(kind);
        self
    }

    /// Defines a host function. A call first waits for the invocation, then runs `body`. When the body fails, the error goes
    /// to the invocation's log under the function's name and the guest receives `failure`.
    pub(crate) fn add<P: Parameters, R: Returned>(
        &mut self,
        name: &'static str,
        failure: R,
        body: impl HostFunction<P, R>,
    ) -> Result<()> {
        self.define::<_, _, true, false>(name, failure, body)
    }

    /// Like [`Self::add`] for a function that returns bytes in memory from the guest's allocator, and 0 for a failure. It is
    /// refused while that allocator runs: its result could not be passed on when its work is done.
    pub(crate) fn add_bytes<P: Parameters>(
        &mut self,
        name: &'static str,
        body: impl HostFunction<P, i64>,
    ) -> Result<()> {
        self.define::<_, _, true, true>(name, 0, body)
    }

    /// Like [`Self::add`] for a function of the start-up set: it does not wait for the invocation. A body that sometimes says
    /// something about a request calls [`Call::arrive`] before it does.
    pub(crate) fn add_start_up<P: Parameters, R: Returned>(
        &mut self,
        name: &'static str,
        failure: R,
        body: impl HostFunction<P, R>,
    ) -> Result<()> {
        self.define::<_, _, false, false>(name, failure, body)
    }

    fn define<P: Parameters, R: Returned, const WAITS: bool, const ALLOCATES: bool>(
        &mut self,
        name: &'static str,
        failure: R,
        body: impl HostFunction<P, R>,
    ) -> Result<()> {
        let (bad_pointer, kind) = (self.bad_pointer, self.kind);
        self.linker.func_wrap_async(
            self.module,
            name,
            move |caller: Caller<'_, GuestState>, arguments: P| {
                // Made outside of the future, which would else hold its parts twice.
                let mut call = Call { caller, name, kind };
                Box::new(async move {
                    // Most calls come after the invocation, so it is looked for before a future is made to wait for it.
                    if WAITS
                        && call.state().arrival.is_some()
                        && let Err(stop) = arrive(&mut call.caller).await
                    {
                        return Err(stop.into());
                    }
                    if ALLOCATES && call.state().allocating {
                        return call.fail(within_allocator().into(), failure, bad_pointer);
                    }
                    let span = kind.and_then(|kind| call.state().begin_host_call(kind));
                    let ran = body.run(&mut call, arguments).await;
                    if let Some(span) = span {
                        call.state().end_host_call(name, span, ran.is_err());
                    }
                    match ran {
                        Ok(value) => Ok(value),
                        Err(fault) => call.fail(fault, failure, bad_pointer),
                    }
                })
            },
        )?;
        Ok(())
    }

    /// Defines a function of the start-up set that never waits for anything.
    pub(crate) fn add_start_up_sync<Arguments, Output>(
        &mut self,
        name: &'static str,
        function: impl IntoFunc<GuestState, Arguments, Output>,
    ) -> Result<()> {
        self.linker.func_wrap(self.module, name, function)?;
        Ok(())
    }

    /// Like [`Self::add_start_up_sync`], for a function whose signature is a value. It returns one `i32`.
    pub(crate) fn add_start_up_dynamic(
        &mut self,
        name: &'static str,
        parameters: impl IntoIterator<Item = wasmtime::ValType>,
        function: impl Fn(&GuestState, &[Val]) -> i32 + Send + Sync + 'static,
    ) -> Result<()> {
        let signature = FuncType::new(self.linker.engine(), parameters, [wasmtime::ValType::I32]);
        self.linker.func_new(self.module, name, signature, move |caller, arguments, results| {
            if let Some(result) = results.first_mut() {
                *result = Val::I32(function(caller.data(), arguments));
            }
            Ok(())
        })?;
        Ok(())
    }
}

/// A guest's allocator, or a thread of the guest that runs meanwhile, calls a function that needs the allocator itself.
pub(crate) fn within_allocator() -> ServiceError {
    ServiceError::invalid(
        "the guest's allocator may not call this function, and nothing else may while it runs",
    )
}

/// Why the body of a host function did not return a value. Boxed, because every call moves a result that may hold one.
pub(crate) enum Fault {
    /// Ends the guest.
    Trap(Error),
    /// The guest passed a range that is not within its memory.
    OutOfBounds(Box<OutOfBounds>),
    /// The call failed, and the guest goes on.
    Failed(Box<ServiceError>),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Trap(error)
    }
}

impl From<Stop> for Fault {
    fn from(stop: Stop) -> Self {
        Self::Trap(Error::from(stop))
    }
}

impl From<OutOfBounds> for Fault {
    fn from(range: OutOfBounds) -> Self {
        Self::OutOfBounds(Box::new(range))
    }
}

impl From<ServiceError> for Fault {
    fn from(error: ServiceError) -> Self {
        Self::Failed(Box::new(error))
    }
}

impl Fault {
    /// Separates a failure that the body reports to the guest in its result from what it cannot handle.
    pub(crate) fn caught<T>(result: Result<T, Self>) -> Result<Result<T, ServiceError>, Self> {
        match result {
            Ok(value) => Ok(Ok(value)),
            Err(Self::Failed(error)) => Ok(Err(*error)),
            Err(other) => Err(other),
        }
    }
}

/// Traps the invocation with a message that names the host function.
#[derive(Debug, thiserror::Error)]
#[error("{host_function}: {range}")]
struct BadRange {
    host_function: &'static str,
    // Not a `#[source]`: a trap shows its innermost cause alone, which would lose the function's name.
    range: OutOfBounds,
}

/// One call of a host function.
pub(crate) struct Call<'a> {
    pub(crate) caller: Caller<'a, GuestState>,
    name: &'static str,
    kind: Option<Kind>,
}

impl<'a> Call<'a> {
    /// Waits for the invocation. Returns at once when it is there.
    pub(crate) async fn arrive(&mut self) -> Result<(), Fault> {
        Ok(arrive(&mut self.caller).await?)
    }

    /// The guest's state. Borrowed mutably, because a shared reference to a caller is not `Send`.
    pub(crate) fn state(&mut self) -> &mut GuestState {
        self.caller.data_mut()
    }

    /// The guest's memory and its state, side by side.
    pub(crate) fn memory(&mut self) -> Result<(View<'_>, &mut GuestState)> {
        view(&mut self.caller)
    }

    /// Writes to the invocation's log what went wrong in this call.
    pub(crate) fn log_failure(&mut self, why: &str) {
        let name = self.name;
        self.state().log_failure(name, why);
    }

    /// Waits for a service's answer, at most until the invocation's deadline. An answer that is ready costs one poll.
    pub(crate) async fn wait_for<T>(&mut self, mut answer: Answer<T>) -> Result<T, Fault> {
        let mut waits: Option<(Wait, Instant)> = None;
        let answered = poll_fn(|context| {
            if let Poll::Ready(answer) = answer.as_mut().poll(context) {
                return Poll::Ready(Ok(answer));
            }
            let state = self.state();
            let (deadline, _) = waits.get_or_insert_with(|| {
                let now = Instant::now();
                (state.host.scheduler.sleep(state.deadline.saturating_duration_since(now)), now)
            });
            deadline.as_mut().poll(context).map(|()| Err(Fault::from(Stop::Timeout)))
        })
        .await;
        if let (Some(kind), Some((_, since))) = (self.kind, waits) {
            self.state().waited(kind, since.elapsed());
        }
        answered
    }

    /// Says what this call is about, for the trace that it belongs to, if there is one.
    pub(crate) fn describe(&mut self, detail: impl FnOnce() -> String) {
        if let Some(spans) = &mut self.state().spans {
            spans.describe(&detail());
        }
    }

    /// What this call tells its guest is a failure.
    pub(crate) fn note_failure(&mut self) {
        if let Some(spans) = &mut self.state().spans {
            spans.note_failure();
        }
    }

    /// Waits for a service that may refuse.
    pub(crate) async fn ask<T>(&mut self, answer: Answer<Result<T, ServiceError>>) -> Result<T, Fault> {
        let answered = self.wait_for(answer).await?;
        if answered.is_err() {
            self.note_failure();
        }
        Ok(answered?)
    }

    /// Yields the core when the work begun at `since` has taken a slice.
    ///
    /// # Errors
    /// [`Stop::Timeout`] when the deadline has passed.
    pub(crate) async fn yield_if_due(&mut self, since: &mut Instant) -> Result<(), Stop> {
        if let Some(turn) = self.state().yield_if_due(since)? {
            turn.await;
        }
        Ok(())
    }

    /// What the guest receives when the body did not return a value.
    #[cold]
    fn fail<Output>(&mut self, fault: Fault, failure: Output, bad_pointer: BadPointer) -> Result<Output> {
        match fault {
            Fault::Trap(error) => Err(error),
            Fault::Failed(error) => {
                self.log_failure(&error.message);
                Ok(failure)
            }
            Fault::OutOfBounds(_) if bad_pointer == BadPointer::Fails => Ok(failure),
            Fault::OutOfBounds(range) => {
                Err(Error::from(BadRange { host_function: self.name, range: *range }))
            }
        }
    }
}
