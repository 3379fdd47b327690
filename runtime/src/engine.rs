//! The wasmtime engine of a node: its compiler settings and its pool of instances.

use crate::code_cache::CodeCache;
use crate::cpu::CpuLevel;
use crate::guest::GuestState;
use crate::limits::{EPOCH_TICK, INSTANCE_SLOTS};
use crate::memory::{self, Memories};
use crate::stacks::Stacks;
use crate::{host, reclaim, wasi};
use cranelift_codegen::isa::LookupError;
use serde::{Deserialize, Serialize};
use std::num::NonZeroUsize;
use std::sync::{Arc, Weak};
use wasmtime::{
    CacheStore, Config, Linker, MemoryCreator, OptLevel, RegallocAlgorithm, WasmBacktraceDetails,
};

/// A guest's stack. A recursive Go function reaches a depth of some 20,000 calls.
pub(crate) const WASM_STACK_BYTES: usize = 1 << 20;
/// The fiber of a guest: its stack and 256 KiB for a host call at the deepest frame.
const FIBER_STACK_BYTES: usize = WASM_STACK_BYTES + (256 << 10);
/// A node needs address space for at least this many instances: 64 GiB.
const SLOTS_MIN: u32 = 16;
/// Frames kept of a trap's backtrace. Deeper ones do not help the function's author.
const BACKTRACE_FRAMES: usize = 16;

/// The settings of an engine.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Instances that can be alive at once. The engine takes fewer when the process lacks address space for them.
    pub instance_slots: u32,
    /// The processor features that compiled code may use.
    pub cpu: CpuLevel,
    /// Caches the code of single functions across compilations.
    pub code_cache: Option<Arc<CodeCache>>,
    /// What is done for fast code.
    pub effort: Effort,
}

/// What a compilation does for fast code.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effort {
    /// Everything: optimisations, and measuring which initial memory makes a module start fastest.
    #[default]
    Full,
    /// Nothing, so that the code is there soon. For development.
    Quick,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self { instance_slots: INSTANCE_SLOTS, cpu: CpuLevel::Native, code_cache: None, effort: Effort::Full }
    }
}

/// Why an engine could not be created.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No CPU level has this name on this architecture.
    #[error("unknown CPU level {0:?}: use native, baseline or a processor level such as x86-64-v3")]
    UnknownCpuLevel(String),
    /// Cranelift does not support this machine's architecture.
    #[error("there is no code generator for this machine: {0}")]
    NoCodeGenerator(#[source] LookupError),
    /// The code generator does not accept the features of the CPU level.
    #[error("the code generator does not accept CPU level {level:?}: {cause:#}")]
    CpuFeatures {
        /// The name of the level.
        level: String,
        /// What the code generator reported.
        #[source]
        cause: wasmtime::Error,
    },
    /// This machine lacks features of the CPU level.
    #[error("this machine cannot run code for CPU level {level}: {cause:#}")]
    CpuUnsupported {
        /// The level.
        level: CpuLevel,
        /// The features that are missing.
        #[source]
        cause: wasmtime::Error,
    },
    /// The machine has no room even for the smallest pool of instances.
    #[error("the engine could not be created with {slots} instance slots: {cause}")]
    InstanceSlots {
        /// The size of that pool.
        slots: u32,
        /// What the system refused.
        #[source]
        cause: std::io::Error,
    },
    /// wasmtime refused the engine's configuration or its host functions.
    #[error("the engine could not be created: {0:#}")]
    Configuration(#[source] wasmtime::Error),
    /// The system gave no thread.
    #[error("a thread of the engine could not be started: {0}")]
    Thread(#[source] std::io::Error),
}

/// Compiles and runs modules. A node has one; clones share it.
#[derive(Clone)]
pub struct Engine(pub(crate) Arc<EngineInner>);

pub(crate) struct EngineInner {
    pub(crate) wasmtime: wasmtime::Engine,
    pub(crate) linker: Linker<GuestState>,
    pub(crate) imports: crate::validate::Imports,
    pub(crate) code_cache: Option<Arc<CodeCache>>,
    pub(crate) effort: Effort,
    compatibility: [u8; 32],
    pub(crate) memories: Arc<Memories>,
}

impl Engine {
    /// Creates an engine and a thread that ticks its epochs for as long as the engine lives.
    ///
    /// # Errors
    /// [`EngineError`] when the machine lacks the CPU level, or lacks the address space for even 16 instances.
    pub fn new(config: &EngineConfig) -> Result<Self, EngineError> {
        let (wasmtime, memories) = create_wasmtime(config)?;
        let mut linker = Linker::new(&wasmtime);
        wasi::link(&mut linker).map_err(EngineError::Configuration)?;
        host::link(&mut linker).map_err(EngineError::Configuration)?;
        let imports = crate::validate::Imports::of(&wasmtime, &linker);
        let mut hasher = Blake3Hasher(blake3::Hasher::new());
        std::hash::Hash::hash(&wasmtime.precompile_compatibility_hash(), &mut hasher);
        let compatibility = *hasher.0.finalize().as_bytes();
        let code_cache = config.code_cache.clone();
        reclaim::start().map_err(EngineError::Thread)?;
        let effort = config.effort;
        let inner =
            Arc::new(EngineInner { wasmtime, linker, imports, code_cache, effort, compatibility, memories });
        tick_epochs(Arc::downgrade(&inner)).map_err(EngineError::Thread)?;
        Ok(Self(inner))
    }

    /// Identifies what compiled code depends on: wasmtime's version, its settings and the CPU level. An engine can load the code
    /// of every engine with the same value.
    #[must_use]
    pub fn compatibility(&self) -> &[u8; 32] {
        &self.0.compatibility
    }

    /// The number of instances that are alive.
    #[must_use]
    pub fn instances_alive(&self) -> u64 {
        self.0.memories.in_use().into()
    }

    /// The number of instances that can be alive at once.
    #[must_use]
    pub fn instance_slots(&self) -> u32 {
        self.0.memories.slots()
    }
}

fn create_wasmtime(config: &EngineConfig) -> Result<(wasmtime::Engine, Arc<Memories>), EngineError> {
    let memories = reserve(config.instance_slots.max(1))?;
    let engine =
        wasmtime::Engine::new(&wasmtime_config(config, &memories)?).map_err(EngineError::Configuration)?;
    config.cpu.check_host(&engine)?;
    Ok((engine, memories))
}

/// Tries the configured number of slots, then fewer, so that a container's address-space limit does not stop a node.
fn reserve(mut slots: u32) -> Result<Arc<Memories>, EngineError> {
    loop {
        match Memories::reserve(slots) {
            Ok(memories) => return Ok(memories),
            Err(_) if slots > SLOTS_MIN => slots = (slots / 4).max(SLOTS_MIN),
            Err(cause) => return Err(EngineError::InstanceSlots { slots, cause }),
        }
    }
}

fn wasmtime_config(config: &EngineConfig, memories: &Arc<Memories>) -> Result<Config, EngineError> {
    let mut wasmtime = Config::new();
    let (optimisations, registers) = match config.effort {
        Effort::Full => (OptLevel::Speed, RegallocAlgorithm::Backtracking),
        Effort::Quick => (OptLevel::None, RegallocAlgorithm::SinglePass),
    };
    wasmtime
        .cranelift_opt_level(optimisations)
        .cranelift_regalloc_algorithm(registers)
        .epoch_interruption(true)
        // The node has images of its own; see `memory`.
        .memory_init_cow(false)
        .memory_reservation(memory::RESERVATION_BYTES)
        .memory_guard_size(memory::GUARD_BYTES)
        .memory_reservation_for_growth(0)
        .memory_may_move(false)
        .async_stack_size(FIBER_STACK_BYTES)
        .max_wasm_stack(WASM_STACK_BYTES)
        .native_unwind_info(false)
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .wasm_backtrace_max_frames(NonZeroUsize::new(BACKTRACE_FRAMES))
        .wasm_relaxed_simd(false)
        .wasm_multi_memory(false)
        .wasm_memory64(false);
    config.cpu.apply(&mut wasmtime)?;
    if let Some(cache) = &config.code_cache {
        wasmtime
            .enable_incremental_compilation(Arc::clone(cache) as Arc<dyn CacheStore>)
            .map_err(EngineError::Configuration)?;
    }
    wasmtime.with_host_memory(Arc::clone(memories) as Arc<dyn MemoryCreator>);
    wasmtime.with_host_stack(Arc::new(Stacks::default()));
    Ok(wasmtime)
}

fn tick_epochs(engine: Weak<EngineInner>) -> std::io::Result<()> {
    std::thread::Builder::new().name("epoch".to_owned()).spawn(move || {
        while let Some(engine) = engine.upgrade() {
            engine.wasmtime.increment_epoch();
            drop(engine);
            std::thread::sleep(EPOCH_TICK);
        }
    })?;
    Ok(())
}

/// Feeds the output of `Hash` into BLAKE3. The standard hashers are neither stable nor long enough for a file's name.
struct Blake3Hasher(blake3::Hasher);

impl std::hash::Hasher for Blake3Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let mut first = [0; 8];
        self.0.finalize_xof().fill(&mut first);
        u64::from_le_bytes(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compatibility_is_the_same_for_the_same_engine_and_differs_by_cpu_level() {
        let config = |cpu| EngineConfig { instance_slots: 16, cpu, ..EngineConfig::default() };
        let native = Engine::new(&config(CpuLevel::Native)).unwrap();
        let again = Engine::new(&config(CpuLevel::Native)).unwrap();
        assert_eq!(native.compatibility(), again.compatibility());
        let baseline = Engine::new(&config("baseline".parse().unwrap())).unwrap();
        assert_ne!(native.compatibility(), baseline.compatibility());
    }

    #[test]
    fn quick_code_is_not_loaded_where_the_best_is_wanted() {
        let config = |effort| EngineConfig { instance_slots: 16, effort, ..EngineConfig::default() };
        let best = Engine::new(&config(Effort::Full)).unwrap();
        let quick = Engine::new(&config(Effort::Quick)).unwrap();
        assert_ne!(best.compatibility(), quick.compatibility());
    }
}
