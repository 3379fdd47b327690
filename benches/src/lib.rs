//! What the benchmarks share: nodes without a network, guests to run on them, and words for what a line means.

// A benchmark says by panicking that it could not be set up.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod client;
pub mod host_calls;
pub mod process;

use criterion::{BenchmarkGroup, Criterion, measurement::WallTime};
use orama_runtime::function::{FunctionVersion, StartMode, WasmHash};
use orama_runtime::invocation::{Invocation, Outcome};
use orama_runtime::names::{FunctionName, Namespace};
use orama_runtime::services::{Host, ThreadScheduler};
use orama_runtime::{ArtifactKey, ArtifactStore, Compiler, Engine, EngineConfig, LoadedModule};
use orama_test_support::tools::Missing;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Allocates as the product's binary does.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An engine with the product's settings, and a compiler that uses every core.
pub struct Node {
    /// The engine.
    pub engine: Engine,
    /// Keeps its artifacts in the folder it was made with.
    pub compiler: Compiler,
    /// What guests reach.
    pub host: Arc<Host>,
}

impl Node {
    /// Starts on a folder that may have artifacts.
    ///
    /// # Panics
    /// When the engine or the folder cannot be used.
    #[must_use]
    pub fn start(dir: &Path) -> Self {
        Self::start_with(dir, &EngineConfig::default())
    }

    /// [`Self::start`] with other settings of the engine.
    ///
    /// # Panics
    /// When the engine or the folder cannot be used.
    #[must_use]
    pub fn start_with(dir: &Path, config: &EngineConfig) -> Self {
        let engine = Engine::new(config).expect("an engine");
        let key = ArtifactKey::open(&dir.join("key")).expect("a key");
        let store = ArtifactStore::open(&dir.join("artifacts"), key).expect("a store");
        let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let compiler = Compiler::new(engine.clone(), store, threads).expect("threads to compile on");
        let host = Arc::new(Host::without_services(Arc::new(ThreadScheduler)));
        Self { engine, compiler, host }
    }

    /// Runs a guest to its end.
    #[must_use]
    pub fn run(
        &self,
        module: &LoadedModule,
        function: &Arc<FunctionVersion>,
        input: &bytes::Bytes,
    ) -> Outcome {
        let invocation =
            Invocation { request_id: String::new(), input: input.clone(), caller: None, trigger_depth: 0 };
        block_on(self.engine.run(module, function, invocation, &self.host)).outcome
    }
}

/// A function with the default limits.
///
/// # Panics
/// Never: the names are valid.
#[must_use]
pub fn function() -> Arc<FunctionVersion> {
    Arc::new(FunctionVersion {
        id: String::new(),
        namespace: Namespace::new("benches").expect("a valid name"),
        name: FunctionName::new("function").expect("a valid name"),
        version: 1,
        wasm_hash: WasmHash::from_bytes([0; 32]),
        wasm_cid: String::new(),
        memory_limit_mb: 64,
        timeout_seconds: 30,
        is_public: false,
        retry_count: 0,
        retry_delay_seconds: 0,
        env: BTreeMap::new(),
        created_at_ms: 0,
        updated_at_ms: 0,
        start: StartMode::default(),
    })
}

fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
}

/// Begins a group and says in one line what its figures mean to a user.
pub fn group<'a>(criterion: &'a mut Criterion, name: &str, meaning: &str) -> BenchmarkGroup<'a, WallTime> {
    println!("\n{name}: {meaning}");
    criterion.benchmark_group(name)
}

/// The guests that real toolchains built. One whose toolchain is missing is left out, as a line on standard error says.
#[must_use]
pub fn built(guests: Vec<(&'static str, Result<PathBuf, Missing>)>) -> Vec<(&'static str, Vec<u8>)> {
    let read = |path: PathBuf| std::fs::read(path).expect("a guest that was just built");
    guests.into_iter().filter_map(|(name, guest)| Some((name, read(guest.ok()?)))).collect()
}
