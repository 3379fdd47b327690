//! Runs functions: WASI preview1 commands, compiled ahead of time, each invocation in fresh memory.
//!
//! Whatever a guest does, only its own invocation fails. [`Engine::validate`] checks a module before it is accepted. A
//! [`Compiler`] compiles it once and stores the artifact. [`Engine::run`] runs an invocation on the thread that polls the future,
//! and the guest yields to others each millisecond.
//!
//! The runtime knows no socket, no HTTP server and no database. What a guest reaches beyond its own memory, the embedding program
//! provides by implementing the traits in [`services`].
//!
//! # Run a function
//!
//! ```
//! use orama_runtime::function::{FunctionVersion, WasmHash};
//! use orama_runtime::invocation::Invocation;
//! use orama_runtime::names::{FunctionName, Namespace};
//! use orama_runtime::services::{Host, ThreadScheduler};
//! use orama_runtime::{ArtifactKey, ArtifactStore, Compiler, Engine, EngineConfig};
//! use std::num::NonZeroUsize;
//! use std::sync::Arc;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Copies standard input to standard output.
//! let wasm = wat::parse_str(
//!     r#"(module
//!         (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
//!         (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
//!         (memory (export "memory") 1)
//!         (data (i32.const 0) "\40\00\00\00\00\10\00\00") ;; one buffer: 4096 bytes at 64
//!         (func (export "_start")
//!             (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 4)))
//!             (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#,
//! )?;
//!
//! let engine = Engine::new(&EngineConfig { instance_slots: 16, ..EngineConfig::default() })?;
//! engine.validate(&wasm, 64)?;
//!
//! let dir = tempfile::tempdir()?;
//! let key = ArtifactKey::open(&dir.path().join("artifact.key"))?;
//! let artifacts = ArtifactStore::open(&dir.path().join("artifacts"), key)?;
//! let compiler = Compiler::new(engine.clone(), artifacts, NonZeroUsize::MIN)?;
//! let module = compiler.compile(&wasm)?;
//!
//! let function = Arc::new(FunctionVersion::new(
//!     Namespace::new("default")?,
//!     FunctionName::new("echo")?,
//!     WasmHash::of(&wasm),
//! ));
//! let host = Arc::new(Host::without_services(Arc::new(ThreadScheduler)));
//! let invocation = Invocation { input: "hello".into(), ..Invocation::default() };
//!
//! let ended = ThreadScheduler::block_on(engine.run(&module, &function, invocation, &host));
//! assert_eq!(ended.outcome.result, Ok(()));
//! assert_eq!(ended.outcome.output, b"hello");
//! # Ok(())
//! # }
//! ```
//!
//! # Provide a service
//!
//! A service is an implementation of its trait. The other services of this host answer that they are unavailable.
//!
//! ```
//! use orama_runtime::names::Namespace;
//! use orama_runtime::services::{Answer, Host, SecretValue, Secrets, ServiceError, ThreadScheduler};
//! use std::sync::Arc;
//! # use orama_runtime::function::{FunctionVersion, WasmHash};
//! # use orama_runtime::invocation::Invocation;
//! # use orama_runtime::names::FunctionName;
//! # use orama_runtime::{ArtifactKey, ArtifactStore, Compiler, Engine, EngineConfig};
//!
//! /// Knows one secret of each namespace.
//! struct OneSecret;
//!
//! impl Secrets for OneSecret {
//!     fn get(
//!         &self,
//!         namespace: &Namespace,
//!         name: &str,
//!     ) -> Answer<Result<Option<Arc<SecretValue>>, ServiceError>> {
//!         let value = || Arc::new(SecretValue::new(format!("the key of {namespace}")));
//!         let found = (name == "API_KEY").then(value);
//!         Box::pin(std::future::ready(Ok(found)))
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Writes the secret API_KEY to standard output.
//! let wasm = wat::parse_str(
//!     r#"(module
//!         (import "orama" "get_secret" (func $get_secret (param i32 i32) (result i64)))
//!         (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
//!         (memory (export "memory") 1)
//!         (data (i32.const 0) "API_KEY")
//!         (func (export "orama_alloc") (param i32) (result i32) (i32.const 1024))
//!         (func (export "_start")
//!             ;; The result is (pointer << 32) | length; an iovec has the pointer first.
//!             (i64.store (i32.const 16) (i64.rotl (call $get_secret (i32.const 0) (i32.const 7)) (i64.const 32)))
//!             (drop (call $write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 24)))))"#,
//! )?;
//! # let engine = Engine::new(&EngineConfig { instance_slots: 16, ..EngineConfig::default() })?;
//! # let dir = tempfile::tempdir()?;
//! # let key = ArtifactKey::open(&dir.path().join("artifact.key"))?;
//! # let artifacts = ArtifactStore::open(&dir.path().join("artifacts"), key)?;
//! # let module = Compiler::new(engine.clone(), artifacts, std::num::NonZeroUsize::MIN)?.compile(&wasm)?;
//! # let (namespace, name) = (Namespace::new("default")?, FunctionName::new("show-key")?);
//! # let function = Arc::new(FunctionVersion::new(namespace, name, WasmHash::of(&wasm)));
//! # let invocation = Invocation::default();
//!
//! let host = Arc::new(Host {
//!     secrets: Arc::new(OneSecret),
//!     ..Host::without_services(Arc::new(ThreadScheduler))
//! });
//! let ended = ThreadScheduler::block_on(engine.run(&module, &function, invocation, &host));
//! assert_eq!(ended.outcome.output, b"the key of default");
//! # Ok(())
//! # }
//! ```
//!
//! # Modules
//!
//! - [`limits`], [`names`], [`function`], [`invocation`]: the vocabulary that all modules share
//! - `engine`, `cpu`, `validate`, `compile`, `code_cache`, `pages`, `artifact`, `module`: from wasm to loaded code
//! - [`child`]: this program as a confined process, for work that a thread cannot bound
//! - `parking`, [`pool`]: guests that start before their request, and how many of them to hold
//! - `instance`, `guest`, `log`, `trap`: one run of one guest
//! - `call`, `abi`, `host`, `wasi`: the functions that a guest calls
//! - [`phases`], [`trace`]: where the time of a run went, and which trace it belongs to

mod abi;
mod artifact;
mod call;
pub mod child;
mod code_cache;
mod compile;
mod cpu;
mod engine;
pub mod function;
mod guest;
mod host;
mod instance;
pub mod invocation;
pub mod limits;
mod log;
mod mapping;
mod memory;
mod module;
pub mod names;
mod pages;
mod parking;
pub mod phases;
pub mod pool;
mod reclaim;
mod rewrite;
pub mod services;
mod shards;
mod snapshot;
mod stacks;
pub mod trace;
mod trap;
mod validate;
mod wasi;
pub mod web;

pub use artifact::{ArtifactKey, ArtifactStore};
pub use code_cache::CodeCache;
pub use compile::{COMPILE_CHILD, CompileError, Compiler, Confinement};
pub use cpu::CpuLevel;
pub use engine::{Effort, Engine, EngineConfig, EngineError};
pub use host::batches;
pub use instance::{Ended, SpentInstance};
pub use module::LoadedModule;
pub use parking::{NotParked, Parked};
pub use snapshot::{Snapshot, SnapshotKey, Start, Starts};
pub use validate::ModuleError;
