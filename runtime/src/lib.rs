//! Runs functions: WASI preview1 commands, compiled ahead of time, each invocation in fresh memory of its own.
//!
//! The promise: whatever a guest does, only its own invocation fails. What a module may be is checked before it is
//! accepted ([`Engine::validate`]), compiled once ([`Compiler`]), and run ([`Engine::run`]) on the thread that polls it,
//! giving way to others each millisecond.
//!
//! What it is not: it knows no socket, no HTTP, no database. What a guest reaches beyond itself is asked of the
//! embedding program through [`services`].
//!
//! - [`limits`], [`names`], [`function`], [`invocation`]: the words shared by all
//! - `engine`, `cpu`, `validate`, `compile`, `code_cache`, `pages`, `artifact`, `module`: from wasm to loaded code
//! - `parking`, [`pool`]: guests that were started before their request, and how many are worth having
//! - `instance`, `guest`, `wasi`, `abi`, `host`, `log`, `trap`: one guest, one run

mod abi;
mod artifact;
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
mod module;
pub mod names;
mod pages;
mod parking;
pub mod pool;
pub mod services;
mod trap;
mod validate;
mod wasi;

pub use artifact::{ArtifactKey, ArtifactStore};
pub use code_cache::CodeCache;
pub use compile::{CompileError, Compiler};
pub use cpu::CpuLevel;
pub use engine::{Engine, EngineConfig, EngineError};
pub use instance::{Ended, Spent};
pub use module::LoadedModule;
pub use parking::{NotParked, Parked};
pub use validate::ModuleError;
