//! Runs a guest: a fresh instance for every invocation.

use crate::engine::Engine;
use crate::function::{FunctionVersion, WasmHash};
use crate::guest::GuestState;
use crate::invocation::{Invocation, Outcome};
use crate::limits::{RECLAIM_ATTEMPTS, RECLAIM_WAIT};
use crate::memory::{Lease, MemoryImage, WASM_PAGE_BYTES};
use crate::module::{Entry, LoadedModule};
use crate::names::{FunctionName, Namespace};
use crate::reclaim::{self, GuestStore};
use crate::services::{Host, ThreadScheduler};
use crate::snapshot::Snapshot;
use crate::trap;
use std::sync::Arc;
use std::time::Instant;
use wasmtime::{Instance, Memory, ModuleExport, ResourceLimiter, Store, UpdateDeadline, WasmBacktrace};

/// Epoch ticks that a guest may run before it yields to others on its core.
pub(crate) const SLICE_TICKS: u64 = 1;

/// A run that has ended.
pub struct Ended {
    /// Its outcome.
    pub outcome: Outcome,
    /// Its instance. Dropping it returns its memory, which takes up to 60 us for a Go program, so send the answer first.
    pub instance: SpentInstance,
}

/// An instance whose run has ended. It occupies its slot until it is dropped.
pub struct SpentInstance(#[expect(dead_code, reason = "held for its destructor")] GuestStore);

impl Engine {
    /// Runs one invocation in fresh memory, from the program's start.
    ///
    /// The guest runs on the thread that polls the future. It yields through the host's scheduler at the end of each slice of
    /// [`EPOCH_TICK`](crate::limits::EPOCH_TICK). Dropping the future ends the guest.
    pub async fn run(
        &self,
        module: &LoadedModule,
        function: &Arc<FunctionVersion>,
        invocation: Invocation,
        host: &Arc<Host>,
    ) -> Ended {
        self.run_from(module, None, function, invocation, host).await
    }

    /// Like [`Self::run`], from a snapshot of the program's start if there is one.
    pub async fn run_from(
        &self,
        module: &LoadedModule,
        snapshot: Option<&Snapshot>,
        function: &Arc<FunctionVersion>,
        invocation: Invocation,
        host: &Arc<Host>,
    ) -> Ended {
        let mut store = self.store(GuestState::new(Arc::clone(function), invocation, Arc::clone(host)));
        let ended = start(module, snapshot, &mut store).await;
        finish(store, ended)
    }

    pub(crate) fn store(&self, state: GuestState) -> GuestStore {
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
                UpdateDeadline::YieldCustom(SLICE_TICKS, state.yield_now())
            })
        });
        GuestStore::new(store)
    }
}

pub(crate) fn finish(mut store: GuestStore, ended: wasmtime::Result<()>) -> Ended {
    let memory_bytes = store.data().memory.map_or(0, |memory| memory.data_size(&*store)) as u64;
    let state = store.data_mut();
    let result = match ended {
        Ok(()) => Ok(()),
        Err(error) => trap::classify(error, state),
    };
    let output = std::mem::take(&mut state.output);
    let mut logs = std::mem::take(&mut state.logs);
    if result.is_err() {
        logs.push_output(&output);
    }
    let log = logs.finish();
    let (phases, spans) = (state.phases, state.spans.take());
    let outcome =
        Outcome { output, result, messages: log.messages, panic: log.panic, phases, memory_bytes, spans };
    Ended { outcome, instance: SpentInstance(store) }
}

/// Creates the instance and runs it from its start, or from a snapshot of that.
pub(crate) async fn start(
    module: &LoadedModule,
    snapshot: Option<&Snapshot>,
    store: &mut GuestStore,
) -> wasmtime::Result<()> {
    let (instance, entry) = prepare(module, snapshot, store).await?;
    store.data_mut().has_started();
    run_entry(&instance, entry, store).await
}

/// Creates an instance from a snapshot or as the module declares it, with what its run has to call.
pub(crate) async fn prepare<'m>(
    module: &'m LoadedModule,
    snapshot: Option<&Snapshot>,
    store: &mut GuestStore,
) -> wasmtime::Result<(Instance, &'m Entry)> {
    let Some((snapshot, resume)) = snapshot.zip(module.resume.as_ref()) else {
        return Ok((create(module, store).await?, &module.entry));
    };
    let instance = instantiate(module, &snapshot.image, store).await?;
    store.data_mut().instantiated = true;
    let memory = exported_memory(module, &instance, store);
    let memory = memory.ok_or_else(|| wasmtime::Error::msg("the memory is not exported"))?;
    account(store, memory)?;
    snapshot.restore(resume, store, &instance, memory)?;
    Ok((instance, &resume.entry))
}

/// Creates an instance that is ready to start.
pub(crate) async fn create(module: &LoadedModule, store: &mut GuestStore) -> wasmtime::Result<Instance> {
    let instance = instantiate(module, &module.image, store).await?;
    store.data_mut().instantiated = true;
    let memory = exported_memory(module, &instance, store);
    if let Some(memory) = memory.filter(|_| module.extra_pages > 0) {
        grow(store, memory, module.extra_pages).await?;
    }
    Ok(instance)
}

/// Runs an instance to its end.
pub(crate) async fn run_entry(
    instance: &Instance,
    entry: &Entry,
    store: &mut GuestStore,
) -> wasmtime::Result<()> {
    call(instance, &entry.first, store).await?;
    match &entry.then {
        Some(then) => {
            store.data_mut().has_started();
            call(instance, then, store).await
        }
        None => Ok(()),
    }
}

/// Calls an exported function without parameters and results.
pub(crate) async fn call(
    instance: &Instance,
    function: &ModuleExport,
    store: &mut GuestStore,
) -> wasmtime::Result<()> {
    let function = instance
        .get_module_export(&mut **store, function)
        .and_then(wasmtime::Extern::into_func)
        .ok_or_else(|| wasmtime::Error::msg("the function to start is not exported"))?
        .typed::<(), ()>(&**store)?;
    function.call_async(&mut **store, ()).await
}

/// The memory through which host functions reach the guest.
fn exported_memory(module: &LoadedModule, instance: &Instance, store: &mut GuestStore) -> Option<Memory> {
    let memory = instance.get_module_export(&mut **store, module.memory.as_ref()?);
    let memory = memory.and_then(wasmtime::Extern::into_memory);
    store.data_mut().memory = memory;
    memory
}

/// Counts the memory that a snapshot has and its module does not declare.
fn account(store: &mut GuestStore, memory: Memory) -> wasmtime::Result<()> {
    let declared = memory.ty(&**store).minimum() * WASM_PAGE_BYTES;
    let has = memory.data_size(&**store);
    let may_have = store.data_mut().limiter.memory_growing(declared as usize, has, None)?;
    if may_have { Ok(()) } else { Err(wasmtime::Error::msg("no memory for the snapshot of its start")) }
}

/// All slots for memories are in use.
#[derive(Debug, thiserror::Error)]
#[error("all slots for instances are in use")]
pub(crate) struct NoSlot;

/// Creates the instance.
pub(crate) async fn instantiate(
    module: &LoadedModule,
    image: &Arc<MemoryImage>,
    store: &mut GuestStore,
) -> wasmtime::Result<Instance> {
    let slot = take_slot(image, store).await?;
    if !module.has_memory {
        // It occupies its slot all the same.
        store.data_mut().slot_of_no_memory = Some(slot);
        return module.pre.instantiate_async(&mut **store).await;
    }
    slot.offer(image);
    let created = module.pre.instantiate_async(&mut **store).await;
    // The memory comes before all code of the guest, so what is still there is the slot of an instance that failed before.
    Lease::withdraw();
    created
}

/// Takes a slot. If all are taken while large guests are being dropped, it waits for one of theirs.
async fn take_slot(image: &MemoryImage, store: &mut GuestStore) -> Result<Lease, NoSlot> {
    let memories = image.memories();
    for _ in 0..RECLAIM_ATTEMPTS {
        if let Some(slot) = memories.take(image) {
            return Ok(slot);
        }
        if !reclaim::is_busy() || Instant::now() >= store.data().deadline {
            break;
        }
        store.data().host.scheduler.sleep(RECLAIM_WAIT).await;
    }
    Err(NoSlot)
}

/// Grows a guest's memory by the pages that it would request later, within its limits.
async fn grow(store: &mut Store<GuestState>, memory: Memory, pages: u32) -> wasmtime::Result<()> {
    let held = memory.size(&*store);
    let most = store.data().function.memory_limit_bytes() as u64 / WASM_PAGE_BYTES;
    let most = memory.ty(&*store).maximum().map_or(most, |maximum| maximum.min(most));
    let pages = u64::from(pages).min(most.saturating_sub(held));
    if pages > 0 {
        memory.grow_async(store, pages).await?;
    }
    Ok(())
}

/// The state of a store in which nothing runs. wasmtime needs one to list the linker's functions.
pub(crate) fn idle_state() -> GuestState {
    let (Ok(namespace), Ok(name)) = (Namespace::new("none"), FunctionName::new("none")) else {
        unreachable!("both names are valid")
    };
    let function = FunctionVersion::new(namespace, name, WasmHash::from_bytes([0; 32]));
    let host = Host::without_services(Arc::new(ThreadScheduler));
    GuestState::new(Arc::new(function), Invocation::default(), Arc::new(host))
}
