//! One guest, one run: a fresh instance for every invocation.

use crate::engine::Engine;
use crate::function::{FunctionVersion, WasmHash};
use crate::guest::GuestState;
use crate::invocation::{Invocation, Outcome};
use crate::limits::{MEMORY_MB, TIMEOUT_SECONDS};
use crate::module::LoadedModule;
use crate::names::{FunctionName, Namespace};
use crate::services::{Host, ThreadScheduler};
use crate::trap;
use std::sync::Arc;
use std::time::Instant;
use wasmtime::{Store, UpdateDeadline, WasmBacktrace};

/// Ticks of the engine's epoch that a guest may run before others on its core are let in.
const SLICE_TICKS: u64 = 1;

impl Engine {
    /// Runs a function once, in memory that no other invocation has seen.
    ///
    /// The guest runs on the thread that polls the future, and yields through the host's scheduler when its slice is over.
    /// Dropping the future ends the guest.
    pub async fn run(
        &self,
        module: &LoadedModule,
        function: &Arc<FunctionVersion>,
        invocation: Invocation,
        host: &Arc<Host>,
    ) -> Outcome {
        let state = GuestState::new(Arc::clone(function), invocation, Arc::clone(host));
        let mut store = Store::new(&self.0.wasmtime, state);
        let no_frames = WasmBacktrace::capture(&store);
        store.data_mut().no_frames = Some(no_frames);
        store.limiter(|state| &mut state.limiter);
        store.set_epoch_deadline(SLICE_TICKS);
        store.epoch_deadline_callback(|context| {
            let state = context.data();
            Ok(if Instant::now() >= state.deadline {
                UpdateDeadline::Interrupt
            } else {
                UpdateDeadline::YieldCustom(SLICE_TICKS, state.host.scheduler.yield_now())
            })
        });
        let ended = start(module, &mut store).await;
        let mut state = store.into_data();
        let result = match ended {
            Ok(()) => Ok(()),
            Err(error) => trap::failure(&error, &mut state),
        };
        Outcome { output: state.output, result, messages: state.logs.finish() }
    }
}

async fn start(module: &LoadedModule, store: &mut Store<GuestState>) -> wasmtime::Result<()> {
    let instance = module.pre.instantiate_async(&mut *store).await?;
    store.data_mut().instantiated = true;
    if let Some(memory) = &module.memory {
        let memory = instance.get_module_export(&mut *store, memory).and_then(wasmtime::Extern::into_memory);
        store.data_mut().memory = memory;
    }
    let start = instance
        .get_module_export(&mut *store, &module.start)
        .and_then(wasmtime::Extern::into_func)
        .ok_or_else(|| wasmtime::Error::msg("_start is not exported"))?
        .typed::<(), ()>(&*store)?;
    start.call_async(store, ()).await
}

/// The state of a store in which nothing runs: wasmtime wants one to look at the linker's functions.
pub(crate) fn idle_state() -> GuestState {
    let (Ok(namespace), Ok(name)) = (Namespace::new("none"), FunctionName::new("none")) else {
        unreachable!("both names follow the rule")
    };
    let function = FunctionVersion {
        id: String::new(),
        namespace,
        name,
        version: 0,
        wasm_hash: WasmHash::from_bytes([0; 32]),
        wasm_cid: String::new(),
        memory_limit_mb: MEMORY_MB.default,
        timeout_seconds: TIMEOUT_SECONDS.default,
        is_public: false,
        retry_count: 0,
        retry_delay_seconds: 0,
        env: std::collections::BTreeMap::new(),
        created_at_ms: 0,
        updated_at_ms: 0,
    };
    let invocation =
        Invocation { request_id: String::new(), input: bytes::Bytes::new(), caller: None, trigger_depth: 0 };
    let host = Host::without_services(Arc::new(ThreadScheduler));
    GuestState::new(Arc::new(function), invocation, Arc::new(host))
}
