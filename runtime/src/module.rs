//! A module that is compiled, loaded and linked. Instances are created from it.

use crate::engine::Engine;
use crate::guest::GuestState;
use crate::host::calls;
use crate::limits::{MEMORY_MB, TABLE_MAX_ELEMENTS};
use crate::memory::{MemoryImage, WASM_PAGE_BYTES};
use crate::rewrite::{go, reactor};
use crate::snapshot::{Resume, Starts};
use crate::validate::ModuleError;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use wasmtime::{InstancePre, Module, ModuleExport};

/// The functions that a run calls.
pub(crate) struct Entry {
    pub(crate) first: ModuleExport,
    /// Of a reactor, once it is initialized.
    pub(crate) then: Option<ModuleExport>,
}

/// Compiled code in memory, shared by every core and every function that runs the same wasm.
pub struct LoadedModule {
    pub(crate) pre: InstancePre<GuestState>,
    pub(crate) entry: Entry,
    /// `None` when the module exports no memory. Such a module can call no host function that takes a pointer.
    pub(crate) memory: Option<ModuleExport>,
    /// Pages by which an instance's memory grows before `_start`; see `pages`.
    pub(crate) extra_pages: u32,
    pub(crate) image: Arc<MemoryImage>,
    /// How an instance goes on from a snapshot of the program's start; `None` where there can be none.
    pub(crate) resume: Option<Resume>,
    starts: Starts,
    pub(crate) has_memory: bool,
    may_call: bool,
    image_bytes: usize,
    evicted: AtomicBool,
}

impl LoadedModule {
    /// Links a module to the host functions.
    ///
    /// # Errors
    /// [`ModuleError::Compile`] when [`Engine::validate`] would refuse the module.
    pub(crate) fn link(engine: &Engine, module: &Module, image: MemoryImage) -> Result<Self, ModuleError> {
        let missing =
            |name: &str| ModuleError::Compile(wasmtime::Error::msg(format!("{name} is not exported")));
        let needs = module.resources_required();
        if needs.max_initial_memory_size.unwrap_or(0) > (u64::from(MEMORY_MB.max) << 20) / WASM_PAGE_BYTES
            || needs.max_initial_table_size.unwrap_or(0) > TABLE_MAX_ELEMENTS as u64
        {
            return Err(ModuleError::Compile(wasmtime::Error::msg("its memory or its table is too large")));
        }
        let pre = engine.0.linker.instantiate_pre(module).map_err(ModuleError::Compile)?;
        let code = module.image_range();
        Ok(Self {
            pre,
            entry: entry(module).ok_or_else(|| missing("_start"))?,
            memory: module.get_export_index("memory"),
            extra_pages: 0,
            image: Arc::new(image),
            resume: resume(module),
            starts: Starts::default(),
            has_memory: needs.num_memories > 0,
            may_call: module.imports().any(|import| calls::WAITING.contains(&import.name())),
            image_bytes: code.end as usize - code.start as usize,
            evicted: AtomicBool::new(false),
        })
    }

    /// Pages of 64 KiB by which an instance's memory grows before `_start`, within the limits of function and module.
    #[must_use]
    pub fn extra_pages(&self) -> u32 {
        self.extra_pages
    }

    /// Overrides [`Self::extra_pages`], for measurements.
    pub fn set_extra_pages(&mut self, pages: u32) {
        self.extra_pages = pages;
    }

    /// Whether the start of the program can be kept.
    #[must_use]
    pub fn can_resume(&self) -> bool {
        self.resume.is_some()
    }

    /// Whether its functions may wait for functions that they call.
    #[must_use]
    pub fn may_call(&self) -> bool {
        self.may_call
    }

    /// What is known of its functions' starts.
    #[must_use]
    pub fn starts(&self) -> &Starts {
        &self.starts
    }

    /// Marks the code as evicted. Whoever holds it drops it as soon as none of it runs.
    pub fn evict(&self) {
        self.evicted.store(true, Ordering::Release);
    }

    /// Whether [`Self::evict`] was called.
    #[must_use]
    pub fn is_evicted(&self) -> bool {
        self.evicted.load(Ordering::Acquire)
    }

    /// Size of the mapped code and data, in bytes.
    #[must_use]
    pub fn image_bytes(&self) -> usize {
        self.image_bytes
    }
}

fn entry(module: &Module) -> Option<Entry> {
    if let Some(first) = module.get_export_index("_start") {
        return Some(Entry { first, then: None });
    }
    let first = module.get_export_index(reactor::INITIALIZE)?;
    Some(Entry { first, then: Some(module.get_export_index(reactor::HANDLER)?) })
}

/// The exports that `rewrite` gave a program of Go, or a reactor.
fn resume(module: &Module) -> Option<Resume> {
    let global = |index: u32| module.get_export_index(&format!("{}{index}", go::GLOBAL));
    Some(Resume {
        entry: Entry { first: module.get_export_index(go::RESUME)?, then: None },
        globals: (0..).map_while(global).collect(),
        random: module.get_export_index(go::RANDOM),
        imported: module.imports().filter(|import| import.ty().func().is_some()).count() as u32,
    })
}
