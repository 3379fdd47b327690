//! What the runtime's tests share: an engine, a compiler, and ways to run guests.

// Each test binary uses a part of it, and says by panicking what went wrong.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use orama_runtime::function::{FunctionVersion, StartMode, WasmHash};
use orama_runtime::invocation::{Caller, Invocation, Level, Outcome};
use orama_runtime::names::{FunctionName, Namespace};
use orama_runtime::services::{Host, Scheduler, ThreadScheduler};
use orama_runtime::{
    ArtifactKey, ArtifactStore, Compiler, Engine, EngineConfig, LoadedModule, NotParked, Parked,
};
use orama_test_support::guests;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::task::Poll;

/// An engine with a compiler.
pub struct Node {
    pub engine: Engine,
    pub compiler: Compiler,
}

impl Node {
    pub fn new(instance_slots: u32) -> Self {
        let engine = Engine::new(&EngineConfig { instance_slots, ..EngineConfig::default() }).unwrap();
        // One folder for all test processes: that they share it is a test in itself, and it does not pile up.
        let compiler = compiler(&engine, &Path::new(env!("CARGO_TARGET_TMPDIR")).join("artifacts"));
        Self { engine, compiler }
    }

    /// The module if it is a function, else what is said against it.
    pub fn load(&self, wasm: &[u8], memory_limit_mb: u32) -> Result<Arc<LoadedModule>, String> {
        self.engine.validate(wasm, memory_limit_mb).map_err(|error| error.to_string())?;
        // What a test says of a guest's memory is what the guest declares.
        self.compiler.compile_as_declared(wasm).map(Arc::new).map_err(|error| error.to_string())
    }

    pub fn wat(&self, text: &str) -> Arc<LoadedModule> {
        self.load(&wat::parse_str(text).unwrap(), 64).unwrap()
    }

    pub fn guest(&self, name: &str) -> Arc<LoadedModule> {
        self.load(&guests::wat(name), 256).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Runs on this thread until the guest ends.
    pub fn run(&self, module: &Arc<LoadedModule>, function: FunctionVersion, input: &[u8]) -> Outcome {
        let invocation = invocation("request-1", input);
        block_on(self.engine.run(module, &Arc::new(function), invocation, &host(ThreadScheduler))).outcome
    }

    /// A guest that waits for its invocation.
    pub fn park(&self, module: &Arc<LoadedModule>, function: FunctionVersion) -> Result<Parked, NotParked> {
        block_on(self.engine.park(module, &Arc::new(function), &host(ThreadScheduler)))
    }

    /// Runs on demand, and again in a guest that was parked before: nothing may be told apart.
    pub fn run_both(&self, module: &Arc<LoadedModule>, function: FunctionVersion, input: &[u8]) -> Outcome {
        let on_demand = self.run(module, function.clone(), input);
        match self.park(module, function) {
            Ok(parked) => {
                let parked = block_on(parked.run(invocation("request-1", input))).outcome;
                assert_eq!(parked.result, on_demand.result);
                assert_eq!(parked.output, on_demand.output);
                assert_eq!(log(&parked), log(&on_demand));
            }
            Err(NotParked::Ended) => assert_eq!(on_demand.result, Ok(())),
            Err(NotParked::Failed(failure)) => assert_eq!(on_demand.result, Err(failure)),
        }
        on_demand
    }
}

pub fn compiler(engine: &Engine, dir: &Path) -> Compiler {
    std::fs::create_dir_all(dir).unwrap();
    let key = ArtifactKey::open(&dir.join("key")).unwrap();
    let store = ArtifactStore::open(&dir.join("store"), key).unwrap();
    Compiler::new(engine.clone(), store, NonZeroUsize::MIN).unwrap()
}

/// The node of all tests in one binary that need no engine of their own.
pub fn node() -> &'static Node {
    static NODE: LazyLock<Node> = LazyLock::new(|| Node::new(128));
    &NODE
}

pub fn function(memory_limit_mb: u32, timeout_seconds: u32) -> FunctionVersion {
    FunctionVersion {
        id: "version-id".to_owned(),
        namespace: Namespace::new("tests").unwrap(),
        name: FunctionName::new("the-function").unwrap(),
        version: 1,
        wasm_hash: WasmHash::from_bytes([0; 32]),
        wasm_cid: String::new(),
        memory_limit_mb,
        timeout_seconds,
        is_public: false,
        retry_count: 0,
        retry_delay_seconds: 0,
        env: BTreeMap::from([("MY_VAR".to_owned(), "my value".to_owned())]),
        created_at_ms: 0,
        updated_at_ms: 0,
        start: StartMode::default(),
        concurrency: 0,
        keep_versions: 0,
        is_enabled: true,
        web: Default::default(),
    }
}

pub fn invocation(request_id: &str, input: &[u8]) -> Invocation {
    Invocation {
        request_id: request_id.to_owned(),
        input: bytes::Bytes::copy_from_slice(input),
        caller: Some(Arc::new(Caller {
            wallet: "0xwallet".to_owned(),
            subject: "subject-1".to_owned(),
            claims: BTreeMap::from([
                ("MY_VAR".to_owned(), "a claim".to_owned()),
                ("scopes".to_owned(), "[\"a\",\"b\"]".to_owned()),
            ]),
        })),
        trigger_depth: 0,
        call_depth: 0,
        deadline: None,
        exchange: None,
        trace: None,
        is_traced: false,
    }
}

/// A host without services.
pub fn host(scheduler: impl Scheduler) -> Arc<Host> {
    Arc::new(Host::without_services(Arc::new(scheduler)))
}

pub fn block_on<F: Future>(future: F) -> F::Output {
    ThreadScheduler::block_on(future)
}

pub fn text(outcome: &Outcome) -> &str {
    std::str::from_utf8(&outcome.output).unwrap()
}

/// `level: message` of each message.
pub fn log(outcome: &Outcome) -> Vec<String> {
    let word = |level| if level == Level::Info { "info" } else { "error" };
    outcome.messages.iter().map(|m| format!("{}: {}", word(m.level), m.message)).collect()
}

/// A scheduler for many guests on one thread: whoever waits is asked again after all others had their turn.
#[derive(Clone, Copy)]
pub struct Turns;

impl Scheduler for Turns {
    fn yield_now(&self, namespace: &Namespace) -> orama_runtime::services::Wait {
        ThreadScheduler.yield_now(namespace)
    }

    fn sleep(&self, duration: std::time::Duration) -> orama_runtime::services::Wait {
        let until = std::time::Instant::now() + duration;
        Box::pin(std::future::poll_fn(move |context| {
            if std::time::Instant::now() >= until {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        }))
    }
}

/// Nanoseconds that this thread was on a processor: unlike time on the clock, not disturbed by other programs. The
/// kernel may count in ticks of 4 ms.
pub fn thread_cpu_ns() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split(' ').next().unwrap().parse().unwrap()
}

/// Resident memory of this process in bytes.
pub fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}
