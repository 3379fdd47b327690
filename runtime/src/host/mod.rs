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
use crate::phases::Kind;
use wasmtime::{Linker, Result};

/// The module names under which guests find every host function.
pub(crate) const MODULES: [&str; 3] = ["env", "host", "orama"];

/// Links every host function under each module name.
pub(crate) fn link(linker: &mut Linker<GuestState>) -> Result<()> {
    for module in MODULES {
        let functions = &mut Functions::new(linker, module, BadPointer::Traps);
        context::link(functions)?;
        log::link(functions)?;
        absent::link(functions)?;
        web::link(functions)?;
        secret::link(functions.of_kind(Kind::Secrets))?;
        database::link(functions.of_kind(Kind::Database))?;
        cache::link(functions.of_kind(Kind::Cache))?;
        http::link(functions.of_kind(Kind::Fetch))?;
        storage::link(functions.of_kind(Kind::Storage))?;
        pubsub::link(functions.of_kind(Kind::Events))?;
        calls::link(functions)?;
    }
    Ok(())
}
