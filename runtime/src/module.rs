//! A module that is compiled, loaded and linked: what instances are made from.

use crate::engine::Engine;
use crate::guest::GuestState;
use crate::validate::ModuleError;
use std::sync::atomic::{AtomicBool, Ordering};
use wasmtime::{InstancePre, Module, ModuleExport};

/// Compiled code in memory, shared by every core and every function that runs the same wasm.
pub struct LoadedModule {
    pub(crate) pre: InstancePre<GuestState>,
    pub(crate) start: ModuleExport,
    /// A module without one can call no host function that takes a pointer.
    pub(crate) memory: Option<ModuleExport>,
    /// Pages that its memory is grown by before it starts; see `pages`.
    pub(crate) extra_pages: u32,
    image_bytes: usize,
    thrown_out: AtomicBool,
}

impl LoadedModule {
    /// Links a module to the host functions.
    ///
    /// # Errors
    /// [`ModuleError::Compile`] when it does not fit what [`Engine::validate`] checks.
    pub(crate) fn link(engine: &Engine, module: &Module) -> Result<Self, ModuleError> {
        let missing = |name: &str| ModuleError::Compile(format!("{name} is not exported"));
        let pre = engine
            .0
            .linker
            .instantiate_pre(module)
            .map_err(|error| ModuleError::Compile(format!("{error:#}")))?;
        let image = module.image_range();
        Ok(Self {
            pre,
            start: module.get_export_index("_start").ok_or_else(|| missing("_start"))?,
            memory: module.get_export_index("memory"),
            extra_pages: 0,
            image_bytes: image.end as usize - image.start as usize,
            thrown_out: AtomicBool::new(false),
        })
    }

    /// Pages of 64 KiB by which its memory is grown before it starts, as far as the function and the module allow it.
    #[must_use]
    pub fn extra_pages(&self) -> u32 {
        self.extra_pages
    }

    /// Overrides the choice, for measurements.
    pub fn set_extra_pages(&mut self, pages: u32) {
        self.extra_pages = pages;
    }

    /// Says that this code is not kept any more: who holds it lets go of it as soon as nothing of it runs.
    pub fn throw_out(&self) {
        self.thrown_out.store(true, Ordering::Release);
    }

    /// Whether [`Self::throw_out`] was called.
    #[must_use]
    pub fn is_thrown_out(&self) -> bool {
        self.thrown_out.load(Ordering::Acquire)
    }

    /// Size of the mapped code and data, in bytes.
    #[must_use]
    pub fn image_bytes(&self) -> usize {
        self.image_bytes
    }
}
