//! The state that the host keeps for one guest.

use crate::function::FunctionVersion;
use crate::invocation::{Invocation, Level};
use crate::limits::{EPOCH_TICK, OUTPUT_COUNTED_FROM_BYTES, OUTPUT_MAX_BYTES, TABLE_MAX_ELEMENTS};
use crate::log::LogBuffer;
use crate::memory::Lease;
use crate::parking::Slot;
use crate::phases::{Kind, Phases, micros};
use crate::services::{Answer, GuestMemory, Host, ServiceError, Wait};
use crate::snapshot::rehearsal::Rehearsal;
use crate::trace::{Spans, TraceContext};
use bytes::Bytes;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wasmtime::{Memory, ResourceLimiter, TypedFunc, WasmBacktrace};
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::p1::WasiP1Ctx;

/// The store's data: one invocation of one function version.
pub(crate) struct GuestState {
    pub(crate) function: Arc<FunctionVersion>,
    /// Empty while `arrival` is set.
    pub(crate) invocation: Invocation,
    /// What a guest that was started without an invocation does at the first call that could tell it about one.
    pub(crate) arrival: Option<Arrival>,
    /// Set where the guest came from a snapshot.
    pub(crate) clock: Option<MonotonicClock>,
    /// Set where the run is compared with another one.
    pub(crate) rehearsal: Option<Box<Rehearsal>>,
    /// How much of the input that is there the guest has read.
    pub(crate) input_read: usize,
    pub(crate) output: Vec<u8>,
    /// Which of the standard descriptors the guest has not closed.
    pub(crate) open: [bool; 3],
    pub(crate) logs: LogBuffer,
    pub(crate) limiter: MemoryLimiter,
    pub(crate) deadline: Instant,
    /// When it was made, or given its invocation.
    pub(crate) begun: Instant,
    pub(crate) phases: Phases,
    /// Set where the run's trace is recorded.
    pub(crate) spans: Option<Box<Spans>>,
    pub(crate) host: Arc<Host>,
    /// Whether the instance exists. A failure before that is the node's fault unless the guest trapped.
    pub(crate) instantiated: bool,
    /// An empty backtrace for the error of `proc_exit`. wasmtime captures the guest's frames for an error without a backtrace,
    /// and every Go program exits.
    pub(crate) no_frames: Option<WasmBacktrace>,
    pub(crate) memory: Option<Memory>,
    /// Held for its destructor.
    pub(crate) slot_of_no_memory: Option<Lease>,
    pub(crate) allocator: Option<TypedFunc<i32, i32>>,
    /// Whether the guest's allocator runs for a host call. Such calls do not nest, because each takes a fiber.
    pub(crate) allocating: bool,
    /// Built at the first call that wasmtime-wasi implements. Most guests never make one.
    wasi: Option<Box<WasiP1Ctx>>,
}

fn deadline(begun: Instant, function: &FunctionVersion, invocation: &Invocation) -> Instant {
    let own = begun + function.timeout();
    invocation.deadline.map_or(own, |callers| callers.min(own))
}

/// Where the host calls of an invocation are kept, if its trace is recorded.
fn spans(invocation: &Invocation) -> Option<Box<Spans>> {
    invocation.is_traced.then(Box::default)
}

impl GuestState {
    pub(crate) fn new(function: Arc<FunctionVersion>, invocation: Invocation, host: Arc<Host>) -> Self {
        let limiter = MemoryLimiter::new(&function, &host);
        let begun = Instant::now();
        let deadline = deadline(begun, &function, &invocation);
        let spans = spans(&invocation);
        Self {
            function,
            invocation,
            arrival: None,
            clock: None,
            rehearsal: None,
            input_read: 0,
            output: Vec::new(),
            open: [true; 3],
            logs: LogBuffer::default(),
            limiter,
            deadline,
            begun,
            phases: Phases::default(),
            spans,
            host,
            instantiated: false,
            no_frames: None,
            memory: None,
            slot_of_no_memory: None,
            allocator: None,
            allocating: false,
            wasi: None,
        }
    }

    /// The state of a guest that starts before its invocation exists.
    pub(crate) fn starting(function: Arc<FunctionVersion>, host: Arc<Host>, slot: Arc<Slot>) -> Self {
        Self { arrival: Some(Arrival::Parked(slot)), ..Self::new(function, Invocation::default(), host) }
    }

    /// Begins an invocation. Its timeout counts from here.
    pub(crate) fn begin(&mut self, invocation: Invocation) {
        self.invocation = invocation;
        self.begun = Instant::now();
        self.deadline = deadline(self.begun, &self.function, &self.invocation);
        self.phases = Phases::default();
        self.spans = spans(&self.invocation);
    }

    /// The start is over: what follows is the run.
    pub(crate) fn has_started(&mut self) {
        self.phases.start_us = micros(self.begun.elapsed());
    }

    /// Counts a host call; its span and when it began, where the run is traced.
    pub(crate) fn begin_host_call(&mut self, kind: Kind) -> Option<(u64, Instant)> {
        let calls = self.phases.of_mut(kind);
        calls.count = calls.count.saturating_add(1);
        let spans = self.spans.as_mut()?;
        Some((spans.begin(self.invocation.trace.as_ref()?), Instant::now()))
    }

    pub(crate) fn end_host_call(&mut self, name: &'static str, (id, begun): (u64, Instant), is_failed: bool) {
        if let Some(spans) = &mut self.spans {
            spans.end(name, id, begun, is_failed);
        }
    }

    /// Adds to the time that the guest waited for host calls.
    pub(crate) fn waited(&mut self, kind: Kind, time: Duration) {
        let calls = self.phases.of_mut(kind);
        calls.waited_us = calls.waited_us.saturating_add(micros(time));
    }

    /// The place in the trace of what a host call causes.
    pub(crate) fn trace(&self) -> Option<TraceContext> {
        let own = self.invocation.trace?;
        let span_id = self.spans.as_ref().map_or(own.span_id, |spans| spans.current());
        Some(TraceContext { span_id, ..own })
    }

    /// Ready when other guests of the core have had their turn.
    pub(crate) fn yield_now(&self) -> Wait {
        self.host.scheduler.yield_now(&self.function.namespace)
    }

    /// The context of the calls that wasmtime-wasi implements: no files, no sockets, nothing inherited.
    pub(crate) fn wasi(&mut self) -> &mut WasiP1Ctx {
        self.wasi.get_or_insert_with(|| Box::new(WasiCtxBuilder::new().build_p1()))
    }

    /// Whether its calls so far have changed something that is kept outside of its memory.
    pub(crate) fn has_state_outside(&self) -> bool {
        self.open != [true; 3] || self.wasi.is_some()
    }

    /// Whether the descriptor is a standard stream that the guest has not closed.
    pub(crate) fn is_open(&self, fd: i32) -> bool {
        usize::try_from(fd).is_ok_and(|fd| self.open.get(fd) == Some(&true))
    }

    /// Whether the guest has read all input that is there, and more may come.
    pub(crate) fn awaits_input(&self) -> bool {
        self.input_read >= self.invocation.input.len()
            && self.invocation.exchange.as_ref().is_some_and(|exchange| exchange.has_more_input())
    }

    /// The next input of a guest that [awaits](Self::awaits_input) some.
    pub(crate) fn next_input(&self) -> Answer<Result<Option<Bytes>, ServiceError>> {
        match &self.invocation.exchange {
            Some(exchange) => exchange.next_input(),
            None => Box::pin(std::future::ready(Ok(None))),
        }
    }

    /// Goes on with input that has arrived.
    pub(crate) fn take_input(&mut self, arrived: Option<Bytes>) {
        self.invocation.input = arrived.unwrap_or_default();
        self.input_read = 0;
    }

    /// Appends to standard output.
    pub(crate) fn write_output(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        if bytes.len() > OUTPUT_MAX_BYTES - self.output.len().min(OUTPUT_MAX_BYTES) {
            return Err(Stop::OutputTooLarge);
        }
        if self.output.len() + bytes.len() > OUTPUT_COUNTED_FROM_BYTES && !self.limiter.take(bytes.len()) {
            return Err(Stop::NoRoom);
        }
        self.output.extend_from_slice(bytes);
        Ok(())
    }

    /// What a host call waits for before it continues its work, when the work begun at `since` has taken a slice.
    pub(crate) fn yield_if_due(&self, since: &mut Instant) -> Result<Option<Wait>, Stop> {
        let now = Instant::now();
        if now.duration_since(*since) < EPOCH_TICK {
            return Ok(None);
        }
        if now >= self.deadline {
            return Err(Stop::Timeout);
        }
        *since = now;
        Ok(Some(self.yield_now()))
    }

    /// Logs why a host call failed. The guest itself receives only the documented failure value.
    pub(crate) fn log_failure(&mut self, host_function: &str, why: &str) {
        self.logs.push(Level::Error, &format!("{host_function}: {why}"));
    }
}

/// Ends a guest from within a host call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Stop {
    #[error("exit with code {0}")]
    Exit(i32),
    #[error("output limit exceeded")]
    OutputTooLarge,
    #[error("deadline exceeded")]
    Timeout,
    #[error("no room for the output")]
    NoRoom,
    /// The guest's start is over, and a snapshot is made of it.
    #[error("the start is over")]
    Snapshot,
}

/// How the start of a guest without an invocation ends.
pub(crate) enum Arrival {
    /// The guest waits for its invocation.
    Parked(Arc<Slot>),
    /// The guest is stopped, and a snapshot is made of it.
    Snapshot,
}

/// The monotonic clock of a guest that came from a snapshot: it goes on from the snapshot's time.
pub(crate) struct MonotonicClock {
    from_ns: u64,
    begun: Instant,
}

impl From<u64> for MonotonicClock {
    /// A clock that shows this many nanoseconds now.
    fn from(from_ns: u64) -> Self {
        Self { from_ns, begun: Instant::now() }
    }
}

impl MonotonicClock {
    pub(crate) fn now_ns(&self) -> u64 {
        self.from_ns.saturating_add(self.begun.elapsed().as_nanos() as u64)
    }
}

/// Enforces the memory limit of a guest's function version.
pub(crate) struct MemoryLimiter {
    limit_bytes: usize,
    /// Whether the last request for memory was refused and the guest has not read input since. Reading input shows that it could
    /// go on. Writing output does not: some runtimes report there that memory ran out.
    pub(crate) denied: bool,
    /// The same for memory that the guest may have and the node has not.
    pub(crate) no_room: bool,
    /// Taken of the node's budget, for which namespace.
    taken_bytes: usize,
    budget: Arc<dyn GuestMemory>,
    function: Arc<FunctionVersion>,
}

impl MemoryLimiter {
    fn new(function: &Arc<FunctionVersion>, host: &Host) -> Self {
        Self {
            limit_bytes: function.memory_limit_bytes(),
            denied: false,
            no_room: false,
            taken_bytes: 0,
            budget: Arc::clone(&host.memory),
            function: Arc::clone(function),
        }
    }

    /// Takes bytes of the node's budget, which are given back when the guest is dropped.
    pub(crate) fn take(&mut self, bytes: usize) -> bool {
        let taken = self.budget.take(&self.function.namespace, bytes);
        if taken {
            self.taken_bytes += bytes;
        }
        taken
    }

    /// Gives back bytes that [`Self::take`] took.
    pub(crate) fn give_back(&mut self, bytes: usize) {
        self.taken_bytes -= bytes;
        self.budget.give_back(&self.function.namespace, bytes);
    }
}

impl Drop for MemoryLimiter {
    fn drop(&mut self) {
        if self.taken_bytes > 0 {
            self.budget.give_back(&self.function.namespace, self.taken_bytes);
        }
    }
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.denied = desired > self.limit_bytes;
        self.no_room = !self.denied && !self.take(desired.saturating_sub(current));
        Ok(!self.denied && !self.no_room)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_MAX_ELEMENTS)
    }
}
