//! Turns wasm into native code on threads of its own, so that serving threads never wait for it.

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

/// Niceness of compiling threads: serving comes first when both want a core.
const COMPILE_NICENESS: i32 = 10;

/// Why a module could not be made ready.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The module's fault.
    #[error(transparent)]
    Module(#[from] ModuleError),
    /// The disk's fault.
    #[error("the compiled code could not be stored: {0}")]
    Store(#[source] io::Error),
}

/// Compiles modules and keeps their artifacts. Clones share the threads.
#[derive(Clone)]
pub struct Compiler {
    engine: Engine,
    artifacts: Arc<ArtifactStore>,
    threads: Arc<rayon::ThreadPool>,
}

impl Compiler {
    /// Makes a compiler with `threads` threads of lower priority.
    ///
    /// # Errors
    /// When the threads cannot be made.
    pub fn new(engine: Engine, artifacts: ArtifactStore, threads: NonZeroUsize) -> io::Result<Self> {
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(threads.get())
            .thread_name(|index| format!("compile-{index}"))
            .start_handler(|_| {
                // Refused only where a sandbox forbids it; compiling at normal priority is then the best there is.
                let _ =
                    rustix::process::setpriority_process(Some(rustix::thread::gettid()), COMPILE_NICENESS);
            })
            .build()
            .map_err(io::Error::other)?;
        Ok(Self { engine, artifacts: Arc::new(artifacts), threads: Arc::new(threads) })
    }

    /// The engine that the code is for.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// [`Engine::validate`] at the compiler's priority. Blocks.
    ///
    /// # Errors
    /// As there.
    pub fn validate(&self, wasm: &[u8], memory_limit_mb: u32) -> Result<(), ModuleError> {
        self.threads.install(|| self.engine.validate(wasm, memory_limit_mb))
    }

    /// Compiles `wasm`, tries how much memory suits it, and stores the artifact. Blocks; takes seconds for a large module.
    ///
    /// # Errors
    /// [`CompileError`].
    pub fn compile(&self, wasm: &[u8]) -> Result<LoadedModule, CompileError> {
        let mut code = self.code(wasm)?;
        let mut made = self.made(&code)?;
        let mut extra_pages = self.threads.install(|| self.engine.choose_extra_pages(&mut made));
        drop(made);
        // Growing a memory costs two system calls at each start, which code for a larger one does not need.
        if let Some(larger) = pages::declared_larger(wasm, extra_pages) {
            code = self.code(&larger)?;
            extra_pages = 0;
        }
        let hash = WasmHash::of(wasm);
        self.artifacts.put(&self.engine, &hash, &code, extra_pages).map_err(CompileError::Store)?;
        match self.artifacts.load(&self.engine, &hash).map_err(CompileError::Store)? {
            Stored::Module(module) => Ok(*module),
            Stored::Refused(why) => Err(CompileError::Module(why)),
            Stored::Nothing => {
                Err(CompileError::Store(io::Error::other("what was just written does not verify")))
            }
        }
    }

    /// Compiles `wasm` with the memory that it declares and stores nothing, for measurements.
    ///
    /// # Errors
    /// As [`Self::compile`].
    pub fn compile_as_declared(&self, wasm: &[u8]) -> Result<LoadedModule, CompileError> {
        Ok(self.made(&self.code(wasm)?)?)
    }

    fn made(&self, code: &[u8]) -> Result<LoadedModule, ModuleError> {
        // SAFETY: this engine has just made it.
        unsafe { ArtifactStore::load_made(&self.engine, code) }
    }

    fn code(&self, wasm: &[u8]) -> Result<Vec<u8>, ModuleError> {
        let compiled = catch_unwind(AssertUnwindSafe(|| {
            self.threads.install(|| self.engine.0.wasmtime.precompile_module(wasm))
        }));
        if let Some(cache) = &self.engine.0.code_cache {
            cache.flush();
        }
        match compiled {
            Ok(code) => code.map_err(|error| ModuleError::Compile(format!("{error:#}"))),
            // A module at which the code generator panics is refused; nothing of it is kept that could be broken.
            Err(_) => Err(ModuleError::Compile("the code generator failed".to_owned())),
        }
    }

    /// Loads the artifact of a module: `None` when there is none, or when it is damaged, forged or foreign; such a file
    /// is removed and [`Self::compile`] makes a new one.
    ///
    /// # Errors
    /// When the file can neither be read nor removed. Of the kind `OutOfMemory` when the system gives the process no
    /// further file, mapping or memory; then nothing is removed.
    pub fn load(&self, hash: &WasmHash) -> io::Result<Option<LoadedModule>> {
        Ok(match self.artifacts.load(&self.engine, hash)? {
            Stored::Module(module) => Some(*module),
            Stored::Nothing | Stored::Refused(_) => None,
        })
    }

    /// Removes the artifact of a module that no function uses any more.
    ///
    /// # Errors
    /// When the file is there but cannot be removed.
    pub fn forget(&self, hash: &WasmHash) -> io::Result<()> {
        self.artifacts.remove(&self.engine, hash)
    }
}
