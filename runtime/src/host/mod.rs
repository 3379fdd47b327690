//! The product's host functions, the same under each module name that guests import from.
//!
//! A failed call returns its documented failure value. Where that value cannot say what was wrong, the invocation's log
//! says it in a line of level `error`.

mod absent;
mod cache;
pub(crate) mod calls;
mod context;
mod database;
mod headers;
mod http;
mod json;
mod log;
mod pubsub;
mod secret;
mod storage;
mod web;

pub use database::batches;

use crate::call::{BadPointer, Functions};
use crate::guest::GuestState;
use wasmtime::{Linker, Result};

/// The module names under which guests find every host function.
pub(crate) const MODULES: [&str; 3] = ["env", "host", "orama"];

/// Links every host function under each module name.
pub(crate) fn link(linker: &mut Linker<GuestState>) -> Result<()> {
    for module in MODULES {
        let functions = &mut Functions::new(linker, module, BadPointer::Traps);
        context::link(functions)?;
        secret::link(functions)?;
        database::link(functions)?;
        cache::link(functions)?;
        http::link(functions)?;
        web::link(functions)?;
        storage::link(functions)?;
        pubsub::link(functions)?;
        calls::link(functions)?;
        log::link(functions)?;
        absent::link(functions)?;
    }
    Ok(())
}
