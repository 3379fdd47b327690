//! Compiles wasm to native code: in a child process of its own for each module, or in this process for modules that are trusted.
//!
//! The work that a module costs the code generator is not bounded by the module's size, and the code generator can neither be
//! interrupted nor kept from allocating. A process can.

use crate::artifact::{ArtifactStore, Code, Stored};
use crate::child::ChildError;
use crate::engine::{Effort, Engine};
use crate::function::{FunctionVersion, WasmHash};
use crate::module::LoadedModule;
use crate::pages;
use crate::rewrite::{Rewritten, rewrite};
use crate::snapshot::make::NoSnapshot;
use crate::snapshot::{self, SnapshotKey, Start};
use crate::validate::ModuleError;
use std::io;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

mod child;

pub use child::{COMPILE_CHILD, Confinement};

/// Niceness of compiling threads. Serving threads have priority when both want a core.
const COMPILE_NICENESS: i32 = 10;

/// Why a module could not be compiled and stored.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The module is at fault.
    #[error(transparent)]
    Module(#[from] ModuleError),
    /// The disk is at fault.
    #[error("the compiled code could not be stored: {0}")]
    Store(#[source] io::Error),
    /// The system gave no process to compile in.
    #[error("the module could not be compiled: {0}")]
    Child(#[from] ChildError),
    /// The process that compiled ended, or said what no such process says.
    #[error("the module could not be compiled: the compiling process failed: {0}")]
    ChildFailed(#[source] io::Error),
}

/// Compiles modules and stores their artifacts. Clones share the threads.
#[derive(Clone)]
pub struct Compiler {
    generator: Generator,
    artifacts: Arc<ArtifactStore>,
    /// `None` compiles in this process.
    confinement: Option<Arc<Confinement>>,
}

/// Generates code in this process.
#[derive(Clone)]
struct Generator {
    engine: Engine,
    threads: Arc<rayon::ThreadPool>,
}

impl Compiler {
    /// Creates a compiler with `threads` threads of lower priority. It compiles in this process, so its modules must be
    /// trusted not to take all memory and time; see [`Self::confined`].
    ///
    /// # Errors
    /// When the threads cannot be started.
    pub fn new(engine: Engine, artifacts: ArtifactStore, threads: NonZeroUsize) -> io::Result<Self> {
        let generator = Generator::new(engine, threads)?;
        Ok(Self { generator, artifacts: Arc::new(artifacts), confinement: None })
    }

    /// The same compiler, which compiles each module in a child process.
    #[must_use]
    pub fn confined(self, confinement: Confinement) -> Self {
        Self { confinement: Some(Arc::new(confinement)), ..self }
    }

    /// The engine for which it compiles.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.generator.engine
    }

    /// Runs [`Engine::validate`] at the compiler's priority. Blocks.
    ///
    /// # Errors
    /// As [`Engine::validate`].
    pub fn validate(&self, wasm: &[u8], memory_limit_mb: u32) -> Result<(), ModuleError> {
        self.generator.threads.install(|| self.engine().validate(wasm, memory_limit_mb))
    }

    /// Compiles `wasm`, measures which initial memory suits it, and stores the artifact. Blocks, for seconds when the module is
    /// large.
    ///
    /// # Errors
    /// [`CompileError`] when the module cannot be compiled, or the artifact cannot be stored.
    pub fn compile(&self, wasm: &[u8]) -> Result<LoadedModule, CompileError> {
        let code = match &self.confinement {
            Some(confinement) => confinement.compile(self.engine(), wasm)?,
            None => self.generator.generate(wasm)?,
        };
        let hash = WasmHash::of(wasm);
        self.artifacts.put(self.engine(), &hash, &code).map_err(CompileError::Store)?;
        match self.artifacts.load(self.engine(), &hash).map_err(CompileError::Store)? {
            Stored::Module(module) => Ok(*module),
            // The same code was linked from memory a moment ago, so it is the file that cannot be mapped.
            Stored::Refused(why) => Err(CompileError::Store(io::Error::other(why))),
            Stored::Nothing => {
                Err(CompileError::Store(io::Error::other("the artifact just written does not verify")))
            }
        }
    }

    /// Compiles `wasm` with the memory that it declares and stores no artifact, for measurements.
    ///
    /// # Errors
    /// As [`Self::compile`].
    pub fn compile_as_declared(&self, wasm: &[u8]) -> Result<LoadedModule, CompileError> {
        Ok(self.generator.code(wasm).and_then(|code| self.generator.load_from_memory(&code))?)
    }

    /// Loads the artifact of a module. Returns `None` when there is none, or when it is damaged, forged or of another node. Such
    /// a file is removed; [`Self::compile`] writes a new one.
    ///
    /// # Errors
    /// When the file can be neither read nor removed. The kind is `OutOfMemory` when the system gives the process no further
    /// file, mapping or memory; then nothing is removed.
    pub fn load(&self, hash: &WasmHash) -> io::Result<Option<LoadedModule>> {
        Ok(match self.artifacts.load(self.engine(), hash)? {
            Stored::Module(module) => Some(*module),
            Stored::Nothing | Stored::Refused(_) => None,
        })
    }

    /// What is known of a function's start: from memory, else from the disk. `None` where it was not tried yet. Blocks for
    /// milliseconds.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn find_start(&self, module: &LoadedModule, function: &FunctionVersion) -> io::Result<Option<Start>> {
        let key = SnapshotKey::of(function);
        if let Some(known) = module.starts().get(&key) {
            return Ok(Some(known));
        }
        let limit_bytes = function.memory_limit_bytes() as u64;
        let hash = &function.wasm_hash;
        let found = self.artifacts.load_snapshot(self.engine(), hash, &key, module, limit_bytes)?;
        if let Some(start) = &found {
            module.starts().put(key, start.clone());
        }
        Ok(found)
    }

    /// Makes the snapshot of a function's start and stores it. Runs the program where modules are compiled, and blocks for as
    /// long as a compilation may take.
    ///
    /// # Errors
    /// [`CompileError`] when a process or the disk failed. Then the start counts as one that cannot be kept, until the module is
    /// loaded again.
    pub fn make_start(
        &self,
        module: &LoadedModule,
        function: &FunctionVersion,
    ) -> Result<Start, CompileError> {
        self.try_make_start(module, function).inspect_err(|error| {
            module.starts().put(SnapshotKey::of(function), Start::Whole(error.to_string().into()));
        })
    }

    fn try_make_start(
        &self,
        module: &LoadedModule,
        function: &FunctionVersion,
    ) -> Result<Start, CompileError> {
        let (key, hash) = (SnapshotKey::of(function), &function.wasm_hash);
        let made = match &self.confinement {
            _ if !module.can_resume() => Err(NoSnapshot::NoShape),
            Some(confinement) => {
                let code = self.artifacts.read(self.engine(), hash).map_err(CompileError::Store)?;
                let gone = || CompileError::Store(io::ErrorKind::NotFound.into());
                confinement.make_snapshot(self.engine(), &code.ok_or_else(gone)?, function)?
            }
            None => snapshot::make::make(self.engine(), module, &Arc::new(function.clone())),
        };
        if let Err(why) = &made
            && why.may_pass()
        {
            let start = Start::Whole(why.to_string().into());
            module.starts().put(key, start.clone());
            return Ok(start);
        }
        self.artifacts.put_snapshot(self.engine(), hash, &key, &made).map_err(CompileError::Store)?;
        let unfit = || CompileError::Store(io::Error::other("the snapshot just written does not verify"));
        self.find_start(module, function).map_err(CompileError::Store)?.ok_or_else(unfit)
    }

    /// Removes the stored snapshots of a module.
    ///
    /// # Errors
    /// When a file exists but cannot be removed.
    pub fn forget_starts(&self, hash: &WasmHash) -> io::Result<()> {
        self.artifacts.remove_snapshots(self.engine(), hash)
    }

    /// Removes the artifact and the snapshots of a module that no function uses any more.
    ///
    /// # Errors
    /// When the file exists but cannot be removed.
    pub fn forget(&self, hash: &WasmHash) -> io::Result<()> {
        self.artifacts.remove(self.engine(), hash)
    }
}

impl Generator {
    fn new(engine: Engine, threads: NonZeroUsize) -> io::Result<Self> {
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(threads.get())
            .thread_name(|index| format!("compile-{index}"))
            .start_handler(|_| {
                // Only a sandbox refuses this. Compilation then runs at normal priority.
                let _ =
                    rustix::process::setpriority_process(Some(rustix::thread::gettid()), COMPILE_NICENESS);
            })
            .build()
            .map_err(io::Error::other)?;
        Ok(Self { engine, threads: Arc::new(threads) })
    }

    /// Generates the code of `wasm` in this process.
    fn generate(&self, wasm: &[u8]) -> Result<Code, ModuleError> {
        let mut code = self.code(wasm)?;
        if self.engine.0.effort == Effort::Quick {
            return Ok(code);
        }
        let mut module = self.load_from_memory(&code)?;
        let extra_pages = self.threads.install(|| self.engine.choose_extra_pages(&mut module));
        drop(module);
        // Growing the memory costs two system calls at each start. A module that declares a larger memory saves them.
        match pages::with_larger_memory(wasm, extra_pages) {
            Some(larger) => code = self.code(&larger)?,
            None => code.extra_pages = extra_pages,
        }
        Ok(code)
    }

    fn load_from_memory(&self, code: &Code) -> Result<LoadedModule, ModuleError> {
        // SAFETY: this engine has just compiled it.
        unsafe { ArtifactStore::load_from_memory(&self.engine, code) }
    }

    fn code(&self, wasm: &[u8]) -> Result<Code, ModuleError> {
        let Rewritten { wasm, image } = rewrite(wasm).map_err(|error| ModuleError::Invalid(error.into()))?;
        let compiled = catch_unwind(AssertUnwindSafe(|| {
            self.threads.install(|| self.engine.0.wasmtime.precompile_module(&wasm))
        }));
        if let Some(cache) = &self.engine.0.code_cache {
            cache.flush();
        }
        match compiled {
            Ok(Ok(bytes)) => Ok(Code { bytes, image, extra_pages: 0 }),
            Ok(Err(why)) => Err(ModuleError::Compile(why)),
            // The panic left no state behind: the compilation's data are dropped, and the module is refused.
            Err(_) => Err(ModuleError::CodeGeneratorPanicked),
        }
    }
}
