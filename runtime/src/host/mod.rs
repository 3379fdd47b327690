//! The host functions of the product, the same under each of the module names that guests import from.

mod context;
mod log;
mod unavailable;

use crate::guest::GuestState;
use wasmtime::{Linker, Result};

/// The module names under which every host function is found.
pub(crate) const MODULES: [&str; 3] = ["env", "host", "orama"];

/// Links every host function under each module name.
pub(crate) fn link(linker: &mut Linker<GuestState>) -> Result<()> {
    for module in MODULES {
        context::link(linker, module)?;
        log::link(linker, module)?;
        unavailable::link(linker, module)?;
    }
    Ok(())
}
