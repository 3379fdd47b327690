//! Compiles wasm to native code on its own threads, so that serving threads never wait for it.

use crate::artifact::{ArtifactStore, Stored};
use crate::engine::Engine;
use crate::function::WasmHash;
use crate::module::LoadedModule;
use crate::pages;
use crate::validate::ModuleError;
use std::io;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

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
}

/// Compiles modules and stores their artifacts. Clones share the threads.
#[derive(Clone)]
pub struct Compiler {
    engine: Engine,
    artifacts: Arc<ArtifactStore>,
    threads: Arc<rayon::ThreadPool>,
}

impl Compiler {
    /// Creates a compiler with `threads` threads of lower priority.
    ///
    /// # Errors
    /// When the threads cannot be started.
    pub fn new(engine: Engine, artifacts: ArtifactStore, threads: NonZeroUsize) -> io::Result<Self> {
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
        Ok(Self { engine, artifacts: Arc::new(artifacts), threads: Arc::new(threads) })
    }

    /// The engine for which it compiles.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Runs [`Engine::validate`] at the compiler's priority. Blocks.
    ///
    /// # Errors
    /// As [`Engine::validate`].
    pub fn validate(&self, wasm: &[u8], memory_limit_mb: u32) -> Result<(), ModuleError> {
        self.threads.install(|| self.engine.validate(wasm, memory_limit_mb))
    }

    /// Compiles `wasm`, measures which initial memory suits it, and stores the artifact. Blocks, for seconds when the module is
    /// large.
    ///
    /// # Errors
    /// [`CompileError`] when the module cannot be compiled, or the artifact cannot be stored.
    pub fn compile(&self, wasm: &[u8]) -> Result<LoadedModule, CompileError> {
        let mut code = self.code(wasm)?;
        let mut module = self.load_from_memory(&code)?;
        let mut extra_pages = self.threads.install(|| self.engine.choose_extra_pages(&mut module));
        drop(module);
        // Growing the memory costs two system calls at each start. A module that declares a larger memory saves them.
        if let Some(larger) = pages::with_larger_memory(wasm, extra_pages) {
            code = self.code(&larger)?;
            extra_pages = 0;
        }
        let hash = WasmHash::of(wasm);
        self.artifacts.put(&self.engine, &hash, &code, extra_pages).map_err(CompileError::Store)?;
        match self.artifacts.load(&self.engine, &hash).map_err(CompileError::Store)? {
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
        Ok(self.load_from_memory(&self.code(wasm)?)?)
    }

    fn load_from_memory(&self, code: &[u8]) -> Result<LoadedModule, ModuleError> {
        // SAFETY: this engine has just compiled it.
        unsafe { ArtifactStore::load_from_memory(&self.engine, code) }
    }

    fn code(&self, wasm: &[u8]) -> Result<Vec<u8>, ModuleError> {
        let compiled = catch_unwind(AssertUnwindSafe(|| {
            self.threads.install(|| self.engine.0.wasmtime.precompile_module(wasm))
        }));
        if let Some(cache) = &self.engine.0.code_cache {
            cache.flush();
        }
        match compiled {
            Ok(code) => code.map_err(ModuleError::Compile),
            // The panic left no state behind: the compilation's data are dropped, and the module is refused.
            Err(_) => Err(ModuleError::CodeGeneratorPanicked),
        }
    }

    /// Loads the artifact of a module. Returns `None` when there is none, or when it is damaged, forged or of another node. Such
    /// a file is removed; [`Self::compile`] writes a new one.
    ///
    /// # Errors
    /// When the file can be neither read nor removed. The kind is `OutOfMemory` when the system gives the process no further
    /// file, mapping or memory; then nothing is removed.
    pub fn load(&self, hash: &WasmHash) -> io::Result<Option<LoadedModule>> {
        Ok(match self.artifacts.load(&self.engine, hash)? {
            Stored::Module(module) => Some(*module),
            Stored::Nothing | Stored::Refused(_) => None,
        })
    }

    /// Removes the artifact of a module that no function uses any more.
    ///
    /// # Errors
    /// When the file exists but cannot be removed.
    pub fn forget(&self, hash: &WasmHash) -> io::Result<()> {
        self.artifacts.remove(&self.engine, hash)
    }
}
