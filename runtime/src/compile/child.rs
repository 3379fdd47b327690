//! Compiles a module in a child process: both ends of it.
//!
//! The parent sends an [`Order`] and the module; the child answers with a [`Report`] and the code. Or the parent sends the code
//! of a module, and the child answers with a snapshot of its start. The child is new for each order, so that nothing of one
//! tenant's module is there when the next one's is compiled.

use super::{CompileError, Generator};
use crate::artifact::{ArtifactStore, Code};
use crate::child::{self, Kind, Limits, Process, Program, frame};
use crate::code_cache::CodeCache;
use crate::engine::{Effort, Engine, EngineConfig};
use crate::function::{FunctionVersion, WasmHash};
use crate::instance::idle_state;
use crate::limits::{
    COMPILE_CODE_PER_WASM, COMPILE_CODE_SMALLEST_BYTES, COMPILE_DESCRIPTORS, IMAGE_PER_DATA,
    IMAGE_SMALLEST_BYTES, SNAPSHOT_IMAGE_MAX_BYTES, WASM_MAX_BYTES,
};
use crate::memory::ImageBytes;
use crate::names::FunctionName;
use crate::snapshot::Facts;
use crate::snapshot::make::{Made, NoSnapshot, make};
use crate::validate::ModuleError;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroUsize;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// The work of a compiling child, for [`child::dispatch`].
pub const COMPILE_CHILD: Kind = Kind { name: "compile", run: serve };

/// Instances of a child: trial runs start one at a time.
const SLOTS: u32 = 2;
/// Longest order and longest report.
const MESSAGE_MAX_BYTES: usize = 64 << 10;
/// Longest part of a compiled module: the largest module's code.
const CODE_MAX_BYTES: usize = WASM_MAX_BYTES * COMPILE_CODE_PER_WASM;
/// Added to the nice value of a child.
const NICENESS: i32 = 10;

/// What a compiling process may take.
#[derive(Debug, Clone)]
pub struct Confinement {
    /// The program that the child is made from.
    pub program: Program,
    /// Memory of the child, in MB.
    pub memory_mb: u32,
    /// Wall time of one compilation, and the processor time of each of its threads.
    pub time: Duration,
    /// The name of the engine's [`CpuLevel`](crate::CpuLevel).
    pub cpu: String,
    /// Threads that compile.
    pub threads: NonZeroUsize,
}

/// What the parent asks for.
#[derive(Serialize, Deserialize)]
struct Order {
    memory_mb: u32,
    cpu_seconds: u64,
    cpu: String,
    threads: NonZeroUsize,
    code_cache: Option<CodeCacheOrder>,
    effort: Effort,
    work: Work,
}

/// What follows the order.
#[derive(Serialize, Deserialize)]
enum Work {
    /// The module.
    Compile,
    /// A [`Subject`], the code, and the image of its memory, of which these are facts.
    Snapshot { extra_pages: u32, image_start: u64 },
}

/// The function whose start is kept.
#[derive(Serialize, Deserialize)]
struct Subject<'a> {
    name: Cow<'a, str>,
    memory_limit_mb: u32,
    env: Cow<'a, BTreeMap<String, String>>,
}

#[derive(Serialize, Deserialize)]
struct CodeCacheOrder {
    dir: PathBuf,
    max_bytes: u64,
    /// The key of the cache's tags.
    key: [u8; blake3::KEY_LEN],
}

/// What the child says before it sends the code.
#[derive(Serialize, Deserialize)]
enum Report {
    Compiled {
        compatibility: [u8; 32],
        extra_pages: u32,
        /// Where the image of the memory begins; its bytes follow the code.
        image_start: u64,
    },
    /// The image of the memory follows.
    Snapshot { facts: Facts, image_start: u64 },
    /// There is no snapshot.
    NoSnapshot {
        why: String,
        /// Whether another attempt may succeed.
        may_pass: bool,
    },
    /// The module is at fault.
    Module(String),
    /// The child is.
    Failed(String),
}

impl Confinement {
    /// Compiles a module that was validated. Blocks, for [`Self::time`] at most.
    pub(super) fn compile(&self, engine: &Engine, wasm: &[u8]) -> Result<Code, CompileError> {
        self.with_child(|socket| self.order_code(socket, engine, wasm))
    }

    /// Makes the snapshot of a function's start. Blocks, for [`Self::time`] at most.
    pub(super) fn make_snapshot(
        &self,
        engine: &Engine,
        code: &Code,
        function: &FunctionVersion,
    ) -> Result<Result<Made, NoSnapshot>, CompileError> {
        self.with_child(|socket| self.order_snapshot(socket, engine, code, function))
    }

    /// Starts a child, talks to it, and ends it. The outer error of `talk` is one of the socket.
    fn with_child<T>(
        &self,
        talk: impl FnOnce(UnixStream) -> io::Result<Result<T, CompileError>>,
    ) -> Result<T, CompileError> {
        let (socket, theirs) = UnixStream::pair().map_err(CompileError::ChildFailed)?;
        let process = Process::spawn(&self.program, COMPILE_CHILD, "module", theirs)?;
        let (done, is_done) = mpsc::channel::<()>();
        let (talked, is_late) = std::thread::scope(|scope| {
            let child = &process;
            let watch = scope.spawn(move || {
                let late = matches!(is_done.recv_timeout(self.time), Err(RecvTimeoutError::Timeout));
                if late {
                    child.kill();
                }
                late
            });
            let talked = talk(socket);
            drop(done);
            (talked, watch.join().unwrap_or(false))
        });
        match talked {
            Ok(done) => done,
            Err(error) => {
                process.kill();
                Err(self.failure(process.wait(), is_late, error))
            }
        }
    }

    fn order(&self, engine: &Engine, work: Work) -> Order {
        // Who runs a program of a tenant and compiles nothing gets no folder.
        let code_cache = engine.0.code_cache.as_ref().filter(|_| matches!(work, Work::Compile));
        let code_cache = code_cache.map(|cache| {
            let (dir, key, max_bytes) = cache.settings();
            // The child may make files in the folder, and not the folder. Without it, it compiles without the cache.
            let _ = std::fs::create_dir_all(dir);
            CodeCacheOrder { dir: dir.to_owned(), max_bytes, key: *key }
        });
        Order {
            memory_mb: self.memory_mb,
            cpu_seconds: self.time.as_secs() * self.threads.get() as u64,
            cpu: self.cpu.clone(),
            threads: self.threads,
            code_cache,
            effort: engine.0.effort,
            work,
        }
    }

    fn order_code(
        &self,
        mut socket: UnixStream,
        engine: &Engine,
        wasm: &[u8],
    ) -> io::Result<Result<Code, CompileError>> {
        frame::write(&mut socket, &serde_json::to_vec(&self.order(engine, Work::Compile))?)?;
        frame::write(&mut socket, wasm)?;
        let report = frame::read(&mut socket, MESSAGE_MAX_BYTES)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let (extra_pages, image_start) = match serde_json::from_slice(&report)? {
            Report::Compiled { compatibility, extra_pages, image_start }
                if compatibility == *engine.compatibility() =>
            {
                (extra_pages, image_start)
            }
            Report::Compiled { .. } => {
                let other = io::Error::other("it compiled for another engine");
                return Ok(Err(CompileError::ChildFailed(other)));
            }
            Report::Module(why) => {
                return Ok(Err(ModuleError::Compile(wasmtime::Error::msg(why)).into()));
            }
            Report::Failed(why) => return Ok(Err(CompileError::ChildFailed(io::Error::other(why)))),
            Report::Snapshot { .. } | Report::NoSnapshot { .. } => {
                return Err(io::ErrorKind::InvalidData.into());
            }
        };
        let max = wasm.len().saturating_mul(COMPILE_CODE_PER_WASM).max(COMPILE_CODE_SMALLEST_BYTES);
        let bytes = frame::read(&mut socket, max)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let image_max = wasm.len().saturating_mul(IMAGE_PER_DATA as usize).max(IMAGE_SMALLEST_BYTES as usize);
        let image = frame::read(&mut socket, image_max)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(Ok(Code { bytes, image: ImageBytes { start: image_start, bytes: image }, extra_pages }))
    }

    fn order_snapshot(
        &self,
        mut socket: UnixStream,
        engine: &Engine,
        code: &Code,
        function: &FunctionVersion,
    ) -> io::Result<Result<Result<Made, NoSnapshot>, CompileError>> {
        let work = Work::Snapshot { extra_pages: code.extra_pages, image_start: code.image.start };
        frame::write(&mut socket, &serde_json::to_vec(&self.order(engine, work))?)?;
        let subject = Subject {
            name: Cow::Borrowed(function.name.as_str()),
            memory_limit_mb: function.memory_limit_mb,
            env: Cow::Borrowed(&function.env),
        };
        frame::write(&mut socket, &serde_json::to_vec(&subject)?)?;
        frame::write(&mut socket, &code.bytes)?;
        frame::write(&mut socket, &code.image.bytes)?;
        let report = frame::read(&mut socket, MESSAGE_MAX_BYTES)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(Ok(match serde_json::from_slice(&report)? {
            Report::Snapshot { facts, image_start } => {
                let image = frame::read(&mut socket, SNAPSHOT_IMAGE_MAX_BYTES)?;
                let bytes = image.ok_or(io::ErrorKind::UnexpectedEof)?;
                Ok(Made { facts, image: ImageBytes { start: image_start, bytes } })
            }
            Report::NoSnapshot { why, may_pass: false } => Err(NoSnapshot::Told(why)),
            Report::NoSnapshot { why, may_pass: true } => Err(NoSnapshot::Lost(why)),
            Report::Failed(why) => return Ok(Err(CompileError::ChildFailed(io::Error::other(why)))),
            Report::Compiled { .. } | Report::Module(_) => return Err(io::ErrorKind::InvalidData.into()),
        }))
    }

    /// Why a child ended before it had sent the code.
    fn failure(&self, status: Option<ExitStatus>, is_late: bool, error: io::Error) -> CompileError {
        const OUT_OF_MEMORY: i32 = libc::SIGABRT;
        let seconds = self.time.as_secs();
        let signal = status.and_then(|status| status.signal());
        match signal {
            _ if is_late => {
                ModuleError::TooComplex(format!("compiling takes more than {seconds} seconds")).into()
            }
            Some(libc::SIGXCPU) => {
                ModuleError::TooComplex(format!("compiling takes more than {seconds} seconds of a processor"))
                    .into()
            }
            // The allocator was refused memory, or the kernel took it back.
            Some(OUT_OF_MEMORY | libc::SIGSEGV | libc::SIGBUS) => {
                ModuleError::TooComplex(format!("compiling needs more than {} MB of memory", self.memory_mb))
                    .into()
            }
            _ => CompileError::ChildFailed(error),
        }
    }
}

/// The child's main function.
fn serve(mut socket: UnixStream, _label: &str) -> ExitCode {
    match answer(&mut socket) {
        Ok(()) => ExitCode::SUCCESS,
        // The parent sees the socket's end.
        Err(_) => ExitCode::FAILURE,
    }
}

fn answer(socket: &mut UnixStream) -> io::Result<()> {
    let order = frame::read(socket, MESSAGE_MAX_BYTES)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let order: Order = serde_json::from_slice(&order)?;
    let limits = Limits {
        memory_bytes: u64::from(order.memory_mb) << 20,
        cpu_seconds: Some(order.cpu_seconds),
        descriptors: COMPILE_DESCRIPTORS,
        file_bytes: order.code_cache.as_ref().map_or(0, |cache| cache.max_bytes),
        nice: NICENESS,
    };
    limits.apply()?;
    // Before there is another thread, and before the module is read.
    let folder = order.code_cache.as_ref().map(|cache| cache.dir.as_path());
    let _held = child::restrict(folder.as_slice());
    match order.work {
        Work::Compile => compile(socket, order),
        Work::Snapshot { extra_pages, image_start } => snapshot(socket, order, extra_pages, image_start),
    }
}

fn compile(socket: &mut UnixStream, order: Order) -> io::Result<()> {
    let wasm = frame::read(socket, WASM_MAX_BYTES)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let (report, code) = match generator(order) {
        Ok(generator) => match generator.generate(&wasm) {
            Ok(code) => {
                let compatibility = *generator.engine.compatibility();
                let (extra_pages, image_start) = (code.extra_pages, code.image.start);
                (Report::Compiled { compatibility, extra_pages, image_start }, Some(code))
            }
            Err(ModuleError::Compile(why)) => (Report::Module(cut(format!("{why:#}"))), None),
            Err(why) => (Report::Module(cut(why.to_string())), None),
        },
        Err(why) => (Report::Failed(cut(why.to_string())), None),
    };
    frame::write(socket, &serde_json::to_vec(&report)?)?;
    if let Some(code) = code {
        frame::write(socket, &code.bytes)?;
        frame::write(socket, &code.image.bytes)?;
    }
    Ok(())
}

fn snapshot(socket: &mut UnixStream, order: Order, extra_pages: u32, image_start: u64) -> io::Result<()> {
    let mut next =
        || frame::read(socket, CODE_MAX_BYTES)?.ok_or(io::Error::from(io::ErrorKind::UnexpectedEof));
    let (subject, bytes, image) = (next()?, next()?, next()?);
    let subject: Subject<'_> = serde_json::from_slice(&subject)?;
    let code = Code { bytes, image: ImageBytes { start: image_start, bytes: image }, extra_pages };
    let (report, image) = match snapshot_of(order, &subject, &code) {
        Ok(Ok(made)) => {
            (Report::Snapshot { facts: made.facts, image_start: made.image.start }, Some(made.image))
        }
        Ok(Err(why)) => (Report::NoSnapshot { why: cut(why.to_string()), may_pass: why.may_pass() }, None),
        Err(why) => (Report::Failed(cut(why.to_string())), None),
    };
    frame::write(socket, &serde_json::to_vec(&report)?)?;
    image.map_or(Ok(()), |image| frame::write(socket, &image.bytes))
}

fn snapshot_of(
    order: Order,
    subject: &Subject<'_>,
    code: &Code,
) -> Result<Result<Made, NoSnapshot>, Box<dyn std::error::Error>> {
    let engine = engine(order)?;
    // SAFETY: the parent's engine has compiled it, and this one has the same settings; wasmtime compares them.
    let module = unsafe { ArtifactStore::load_from_memory(&engine, code) }?;
    let namespace = idle_state().function.namespace.clone();
    let mut function =
        FunctionVersion::new(namespace, FunctionName::new(&subject.name)?, WasmHash::from_bytes([0; 32]));
    function.memory_limit_mb = subject.memory_limit_mb;
    function.env.clone_from(&subject.env);
    Ok(make(&engine, &module, &Arc::new(function)))
}

/// A generator of the same code as the parent's would be.
fn generator(order: Order) -> Result<Generator, Box<dyn std::error::Error>> {
    let threads = order.threads;
    Ok(Generator::new(engine(order)?, threads)?)
}

fn engine(order: Order) -> Result<Engine, Box<dyn std::error::Error>> {
    let code_cache =
        order.code_cache.map(|cache| Arc::new(CodeCache::with_key(cache.dir, cache.key, cache.max_bytes)));
    let (cpu, effort) = (order.cpu.parse()?, order.effort);
    Ok(Engine::new(&EngineConfig { instance_slots: SLOTS, cpu, code_cache, effort })?)
}

/// Keeps a text within a message.
fn cut(mut text: String) -> String {
    const MAX_BYTES: usize = MESSAGE_MAX_BYTES / 8;
    if text.len() > MAX_BYTES {
        text.truncate((0..=MAX_BYTES).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0));
        text.push_str(" ...");
    }
    text
}
