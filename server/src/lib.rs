//! The node: HTTP on every core, a control plane beside it, and the stores behind both.
//!
//! [`config::Config::load`] decides, [`Node::start`] serves. A request's way through the modules:
//! `worker` (a core's event loop) -> `http` (connections and bodies) -> `worker::invoke` (the hot path) -> the runtime;
//! everything that is no invocation goes over `worker::control` to `routes`, on threads of their own.

pub mod auth;
pub mod backend;
pub mod config;
mod egress;
pub mod error;
pub mod events;
mod follower;
mod http;
pub mod metrics;
pub mod modules;
pub mod neighbours;
mod node;
mod process;
pub mod records;
pub mod registry;
pub mod routes;
pub mod secrets;
mod services;
mod starts;
mod storage;
pub mod transfer;
mod worker;

pub use config::{Config, Overrides};
pub use node::{Node, StartError, StopSignals};
