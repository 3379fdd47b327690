//! The node: HTTP on every core, a control plane beside it, and the stores behind both.
//!
//! [`config::Config::load`] decides, [`Node::start`] serves. A request's way through the modules:
//! `worker` (a core's event loop) -> `http` (connections and bodies) -> `worker::invoke` (the hot path) -> the runtime;
//! everything that is no invocation goes over `worker::control` to `routes`, on threads of their own.

mod access_log;
mod bearer;
pub mod config;
mod credentials;
pub mod error;
mod http;
mod json;
pub mod limits;
pub mod log;
pub mod metrics;
mod node;
mod process;
pub mod routes;
mod services;
pub mod shares;
mod since;
pub mod telemetry;
mod worker;

pub use orama_platform as platform;
pub use orama_store as store;

use orama_runtime::child::Kind;

/// What a node runs in child processes made from its own program: `main` gives it to
/// [`dispatch`](orama_runtime::child::dispatch) before anything else.
pub const CHILDREN: &[Kind] = &[orama_runtime::COMPILE_CHILD, orama_store::database::sqlite::PROCESS];

pub use config::{Config, Overrides};
#[doc(hidden)]
pub use json::is_one_json_value;
#[doc(hidden)]
pub use worker::fuzzing;

pub use node::{Node, StartError, StopSignals};
pub use since::since;
