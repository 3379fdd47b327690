//! Shared by the benchmarks: nodes without a network, guests to run on them, and groups of criterion.

// A benchmark that cannot be set up panics.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod client;
pub mod host_calls;
pub mod process;

use criterion::{BenchmarkGroup, Criterion, measurement::WallTime};
use orama_runtime::function::{FunctionVersion, StartMode, WasmHash};
use orama_runtime::invocation::{Invocation, Outcome};
use orama_runtime::names::{FunctionName, Namespace};
use orama_runtime::services::{Host, ThreadScheduler};
use orama_runtime::{
    ArtifactKey, ArtifactStore, Compiler, Engine, EngineConfig, LoadedModule, Snapshot, Start,
};
use orama_test_support::tools::Missing;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// The allocator of the product's binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An engine with the product's settings, and a compiler that uses every core.
pub struct Node {
    /// The engine.
    pub engine: Engine,
    /// The compiler, which keeps its artifacts in the folder that the node was started on.
    pub compiler: Compiler,
    /// The host services of guests: none.
    pub host: Arc<Host>,
}

impl Node {
    /// Starts a node on a folder, which may have artifacts of an earlier one.
    ///
    /// # Panics
    /// When the engine or the folder cannot be used.
    #[must_use]
    pub fn start(dir: &Path) -> Self {
        Self::start_with(dir, &EngineConfig::default())
    }

    /// Starts a node as [`Self::start`] does, with other settings of the engine.
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
        self.run_from(module, None, function, input)
    }

    /// Runs a guest to its end, from a snapshot if there is one.
    #[must_use]
    pub fn run_from(
        &self,
        module: &LoadedModule,
        snapshot: Option<&Snapshot>,
        function: &Arc<FunctionVersion>,
        input: &bytes::Bytes,
    ) -> Outcome {
        let invocation = Invocation { input: input.clone(), ..Invocation::default() };
        block_on(self.engine.run_from(module, snapshot, function, invocation, &self.host)).outcome
    }

    /// Makes the snapshot of a program's start.
    ///
    /// # Panics
    /// When there can be none.
    #[must_use]
    pub fn snapshot(&self, module: &LoadedModule, function: &FunctionVersion) -> Arc<Snapshot> {
        match self.compiler.make_start(module, function).expect("a disk that works") {
            Start::Snapshot(snapshot) => snapshot,
            Start::Whole(why) => panic!("no snapshot: {why}"),
        }
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
        concurrency: 0,
        keep_versions: 0,
        is_enabled: true,
        web: Default::default(),
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

/// Begins a group and prints in one line what its figures mean to a user.
pub fn group<'a>(criterion: &'a mut Criterion, name: &str, meaning: &str) -> BenchmarkGroup<'a, WallTime> {
    println!("\n{name}: {meaning}");
    criterion.benchmark_group(name)
}

/// Reads guests that TinyGo or Go built. A guest whose compiler is missing is left out; a line on standard error says so.
///
/// # Panics
/// When a built guest cannot be read.
#[must_use]
pub fn built(guests: Vec<(&'static str, Result<PathBuf, Missing>)>) -> Vec<(&'static str, Vec<u8>)> {
    let read = |path: PathBuf| std::fs::read(path).expect("a guest that was just built");
    guests.into_iter().filter_map(|(name, guest)| Some((name, read(guest.ok()?)))).collect()
}

/// Makes a different module with the same functions: the same bytes and a custom section that holds a number.
#[must_use]
pub fn with_note(wasm: &[u8], number: u32) -> Vec<u8> {
    let mut noted = wasm.to_vec();
    // Section 0, 9 bytes: a name of 4 bytes with its length, and the number.
    noted.extend_from_slice(&[0, 9, 4, b'n', b'o', b't', b'e']);
    noted.extend_from_slice(&number.to_le_bytes());
    noted
}

/// Whether `cargo test` or `--list` started the benchmark, which then measures nothing.
#[must_use]
pub fn is_dry_run() -> bool {
    std::env::args().any(|argument| argument == "--test" || argument == "--list")
}
