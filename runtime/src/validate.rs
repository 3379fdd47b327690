//! Checks, before compilation, whether a module can run as a function. Reports everything that is wrong with it.

use crate::engine::Engine;
use crate::guest::GuestState;
use crate::limits::{
    BLOCK_DEPTH_MAX, FUNCTION_COMPLEXITY_MAX, INSTANCE_ENTRIES_MAX, MODULE_PROBLEMS_SHOWN,
    TABLE_MAX_ELEMENTS, TYPE_VALUES_MAX,
};
use crate::memory::WASM_PAGE_BYTES;
use crate::rewrite::reactor::{HANDLER, INITIALIZE};
use crate::trap::printable;
use std::collections::HashMap;
use std::fmt;
use wasmparser::{
    CompositeInnerType, ElementItems, Encoding, Export, ExternalKind, FunctionBody, Import, Parser, Payload,
    SubType, TypeRef, ValType,
};
use wasmtime::{Extern, Linker, Store};

/// Why a module cannot run as a function.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// The bytes do not begin with a module's header.
    #[error("not a WebAssembly module: it must begin with the bytes 00 61 73 6d 01 00 00 00, got {0}")]
    NotAModule(String),
    /// A component of the component model.
    #[error(
        "this is a WebAssembly component; a function must be a core module (build a WASI preview1 command: target wasip1 or wasi)"
    )]
    Component,
    /// The module violates the format; the message has the byte offset.
    #[error("not a valid WebAssembly module: {0:#}")]
    Invalid(#[source] wasmtime::Error),
    /// The module is valid, but cannot be a function. Each text names one problem.
    #[error("the module cannot run as a function: {}", .0.join("; "))]
    Unfit(Vec<String>),
    /// The compiler, the pool of instances or the linker refused it.
    #[error("the module cannot be compiled: {0:#}")]
    Compile(#[source] wasmtime::Error),
    /// Compiling takes more than a module may cost; the text says of what.
    #[error("the module is too complex to compile: {0}")]
    TooComplex(String),
    /// The code generator panicked.
    #[error("the module cannot be compiled: the code generator failed")]
    CodeGeneratorPanicked,
}

/// Parameters and results of a function.
#[derive(Clone, PartialEq, Eq)]
struct Signature {
    parameters: Vec<ValType>,
    results: Vec<ValType>,
}

impl Signature {
    /// The signature of a function type; `None` for any other type.
    fn of(ty: &SubType) -> Option<Self> {
        let CompositeInnerType::Func(function) = &ty.composite_type.inner else { return None };
        Some(Self { parameters: function.params().to_vec(), results: function.results().to_vec() })
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |types: &[ValType]| types.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        // A function may have a thousand parameters; the message is cut.
        f.write_str(&printable(&format!("({}) -> ({})", list(&self.parameters), list(&self.results))))
    }
}

/// What a module may import: every host function with its signature.
pub(crate) struct Imports(HashMap<(String, String), Signature>);

impl Imports {
    pub(crate) fn of(engine: &wasmtime::Engine, linker: &Linker<GuestState>) -> Self {
        let mut store = Store::new(engine, crate::instance::idle_state());
        let found: Vec<_> = linker
            .iter(&mut store)
            .filter_map(|(module, name, item)| match item {
                Extern::Func(function) => Some((module.to_owned(), name.to_owned(), function)),
                _ => None,
            })
            .collect();
        let known = found.into_iter().map(|(module, name, function)| {
            let ty = function.ty(&store);
            let signature = Signature {
                parameters: ty.params().map(|t| val_type(&t)).collect(),
                results: ty.results().map(|t| val_type(&t)).collect(),
            };
            ((module, name), signature)
        });
        Self(known.collect())
    }

    /// Module, name, parameters and results of each import.
    #[cfg(test)]
    pub(crate) fn all(&self) -> Vec<[String; 4]> {
        let words = |types: &[ValType]| types.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let signatures = self.0.iter();
        let all = signatures.map(|((module, name), signature)| {
            let Signature { parameters, results } = signature;
            [module.clone(), name.clone(), words(parameters), words(results)]
        });
        all.collect()
    }
}

fn val_type(ty: &wasmtime::ValType) -> ValType {
    match ty {
        wasmtime::ValType::I32 => ValType::I32,
        wasmtime::ValType::I64 => ValType::I64,
        wasmtime::ValType::F32 => ValType::F32,
        wasmtime::ValType::F64 => ValType::F64,
        wasmtime::ValType::V128 => ValType::V128,
        wasmtime::ValType::Ref(_) => ValType::FUNCREF,
    }
}

/// The parts of a module that the checks need.
#[derive(Default)]
struct Outline<'a> {
    types: Vec<Option<Signature>>,
    functions: Vec<u32>,
    imports: Vec<Import<'a>>,
    exports: Vec<Export<'a>>,
    /// Initial size of the memory that it defines, in pages.
    memory_pages: Option<u64>,
    /// Initial sizes of the tables that it defines, in elements.
    tables: Vec<u64>,
    /// Globals and functions in element segments, which each instance has an entry for.
    entries: u64,
}

impl Engine {
    /// Checks a module against the WebAssembly format, the guest contract and a memory limit.
    ///
    /// # Errors
    /// [`ModuleError`]. For a module that cannot be a function it lists every problem.
    pub fn validate(&self, wasm: &[u8], memory_limit_mb: u32) -> Result<(), ModuleError> {
        check_header(wasm)?;
        // What cannot be read is left to the validation, which says where it is wrong.
        if let Ok(Some(why)) = complexity(wasm) {
            return Err(ModuleError::TooComplex(why));
        }
        wasmtime::Module::validate(&self.0.wasmtime, wasm).map_err(ModuleError::Invalid)?;
        self.validate_contract(wasm, memory_limit_mb)
    }

    /// The part of [`Self::validate`] that checks the guest contract and the memory limit. It suits a module that was compiled
    /// before, because that module was valid then.
    ///
    /// # Errors
    /// As [`Self::validate`].
    pub fn validate_contract(&self, wasm: &[u8], memory_limit_mb: u32) -> Result<(), ModuleError> {
        let outline = outline(wasm).map_err(|error| ModuleError::Invalid(error.into()))?;
        let found = outline.advice().into_iter();
        let mut found = found
            .chain(outline.start_problem())
            .chain(outline.memory_problem(memory_limit_mb))
            .chain(outline.table_problem())
            .chain(outline.entries_problem())
            .chain(outline.import_problems(&self.0.imports));
        let mut problems: Vec<String> = found.by_ref().take(MODULE_PROBLEMS_SHOWN).collect();
        match found.count() {
            0 if problems.is_empty() => return Ok(()),
            0 => {}
            more => problems.push(format!("and {more} more problems")),
        }
        Err(ModuleError::Unfit(problems))
    }
}

/// What of a module is known to take far more memory than its size tells, in words; `None` if nothing is. Comes before all other
/// checks, and keeps nothing of the module itself.
fn complexity(wasm: &[u8]) -> wasmparser::Result<Option<String>> {
    let (mut index, mut values) = (0_u32, 0_usize);
    for payload in Parser::new(0).parse_all(wasm) {
        match payload? {
            Payload::TypeSection(section) => {
                for group in section {
                    values += group?.types().map(type_values).sum::<usize>();
                    if values > TYPE_VALUES_MAX {
                        let why = format!(
                            "its types have more than {TYPE_VALUES_MAX} parameters and results together"
                        );
                        return Ok(Some(why));
                    }
                }
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    index += u32::from(matches!(import?.ty, TypeRef::Func(_)));
                }
            }
            Payload::CodeSectionEntry(body) => {
                if let Some(why) = body_complexity(&body)? {
                    return Ok(Some(format!("function {index} has {why}")));
                }
                index += 1;
            }
            _ => {}
        }
    }
    Ok(None)
}

/// The type itself counts as one.
fn type_values(ty: &SubType) -> usize {
    match &ty.composite_type.inner {
        CompositeInnerType::Func(function) => 1 + function.params().len() + function.results().len(),
        _ => 1,
    }
}

/// The same for one function. The code generator keeps something for each local variable in each block, and the validation for
/// each block around an instruction.
fn body_complexity(body: &FunctionBody<'_>) -> wasmparser::Result<Option<String>> {
    let mut locals = 0_u64;
    for group in body.get_locals_reader()? {
        locals = locals.saturating_add(u64::from(group?.0));
    }
    let range = body.range();
    // Each block takes two bytes at least, so the size alone tells it of most functions.
    let most = (range.end - range.start) as u64 / 2;
    if locals.saturating_mul(most) <= FUNCTION_COMPLEXITY_MAX && most <= BLOCK_DEPTH_MAX {
        return Ok(None);
    }
    let (mut blocks, mut depth, mut deepest) = (0_u64, 0_u64, 0_u64);
    for operator in body.get_operators_reader()? {
        use wasmparser::Operator::{Block, BrIf, Else, End, If, Loop};
        match operator? {
            Block { .. } | Loop { .. } | If { .. } => {
                blocks += 1;
                depth += 1;
                deepest = deepest.max(depth);
            }
            Else | BrIf { .. } => blocks += 1,
            End => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    let work = locals.saturating_mul(blocks);
    Ok(if work > FUNCTION_COMPLEXITY_MAX {
        let limit = FUNCTION_COMPLEXITY_MAX;
        Some(format!("local variables times blocks {work}, more than the limit of {limit}"))
    } else if deepest > BLOCK_DEPTH_MAX {
        Some(format!("{deepest} blocks within one another, more than the limit of {BLOCK_DEPTH_MAX}"))
    } else {
        None
    })
}

fn check_header(wasm: &[u8]) -> Result<(), ModuleError> {
    const MODULE: &[u8] = b"\0asm\x01\0\0\0";
    if wasm.starts_with(MODULE) {
        return Ok(());
    }
    if wasm.starts_with(b"\0asm") && wasm.get(6) == Some(&1) {
        return Err(ModuleError::Component);
    }
    let begin: Vec<String> = wasm.iter().take(MODULE.len()).map(|byte| format!("{byte:02x}")).collect();
    Err(ModuleError::NotAModule(if begin.is_empty() { "nothing".to_owned() } else { begin.join(" ") }))
}

fn outline(wasm: &[u8]) -> wasmparser::Result<Outline<'_>> {
    let mut outline = Outline::default();
    for payload in Parser::new(0).parse_all(wasm) {
        match payload? {
            Payload::Version { encoding: Encoding::Component, .. } => break,
            Payload::TypeSection(section) => {
                for group in section {
                    outline.types.extend(group?.into_types().map(|ty| Signature::of(&ty)));
                }
            }
            Payload::ImportSection(section) => {
                outline.imports = section.into_imports().collect::<wasmparser::Result<_>>()?;
            }
            Payload::FunctionSection(section) => {
                outline.functions = section.into_iter().collect::<wasmparser::Result<_>>()?;
            }
            Payload::MemorySection(section) => {
                for memory in section {
                    outline.memory_pages = Some(memory?.initial);
                }
            }
            Payload::TableSection(section) => {
                for table in section {
                    outline.tables.push(table?.ty.initial);
                }
            }
            Payload::ExportSection(section) => {
                outline.exports = section.into_iter().collect::<wasmparser::Result<_>>()?;
            }
            Payload::GlobalSection(section) => outline.entries += u64::from(section.count()),
            Payload::ElementSection(section) => {
                for segment in section {
                    outline.entries += u64::from(match segment?.items {
                        ElementItems::Functions(functions) => functions.count(),
                        ElementItems::Expressions(_, expressions) => expressions.count(),
                    });
                }
            }
            // The checks need no section after the elements.
            Payload::CodeSectionStart { .. } => break,
            _ => {}
        }
    }
    Ok(outline)
}

impl Outline<'_> {
    fn signature(&self, type_index: u32) -> Option<&Signature> {
        self.types.get(type_index as usize)?.as_ref()
    }

    /// What to do about a module that was made for another place than a function's, as its imports tell.
    fn advice(&self) -> Option<String> {
        let text = self.imports.iter().find_map(|import| match import.module {
            "gojs" => Some("it was built for browsers; build it for WASI: GOOS=wasip1, or TinyGo's -target wasi"),
            module if module == "wbg" || module.starts_with("__wbindgen") => {
                Some("wasm-bindgen made it for browsers; build a program for the target wasm32-wasip1 without wasm-bindgen")
            }
            "env" if import.name.starts_with("emscripten_") => Some(
                "Emscripten made it for browsers; build it for WASI preview1, for example with wasi-sdk or `zig cc -target wasm32-wasi`",
            ),
            module if module.starts_with("wasi:") => {
                Some("it is the inside of a component (WASI preview2); build it for WASI preview1: target wasip1 or wasi")
            }
            _ => None,
        });
        text.map(str::to_owned)
    }

    fn import_problems<'a>(&'a self, known: &'a Imports) -> impl Iterator<Item = String> + 'a {
        self.imports.iter().filter_map(|import| {
            let it = format!("{}.{}", printable(import.module), printable(import.name));
            let TypeRef::Func(type_index) = import.ty else {
                return Some(format!(
                    "it imports {it}, which is not a function; only host functions can be imported"
                ));
            };
            let Some(provided) = known.0.get(&(import.module.to_owned(), import.name.to_owned())) else {
                return Some(format!("the import {it} is unknown"));
            };
            match self.signature(type_index) {
                Some(wanted) if wanted == provided => None,
                Some(wanted) => Some(format!("the import {it} has the signature {provided}, not {wanted}")),
                None => Some(format!("the import {it} has no function type")),
            }
        })
    }

    fn export(&self, name: &str, kind: ExternalKind) -> Option<u32> {
        self.exports
            .iter()
            .find(|export| export.name == name && export.kind == kind)
            .map(|export| export.index)
    }

    fn start_problem(&self) -> Option<String> {
        let function = |name: &str| self.export(name, ExternalKind::Func);
        if let Some(index) = function("_start") {
            return self.entry_problem("_start", index);
        }
        if let (Some(initialize), Some(handler)) = (function(INITIALIZE), function(HANDLER)) {
            return self
                .entry_problem(INITIALIZE, initialize)
                .or_else(|| self.entry_problem(HANDLER, handler));
        }
        let hint = if function(INITIALIZE).is_some() || function(HANDLER).is_some() {
            " (a reactor exports both _initialize and orama_handle, with the same signature)"
        } else if self.exports.iter().any(|export| export.name == "_start") {
            " (its export _start is not a function)"
        } else {
            ""
        };
        Some(format!("it does not export the function _start, with the signature () -> (){hint}"))
    }

    fn entry_problem(&self, name: &str, index: u32) -> Option<String> {
        let imported = self
            .imports
            .iter()
            .filter_map(|import| if let TypeRef::Func(ty) = import.ty { Some(ty) } else { None });
        let type_index = imported.chain(self.functions.iter().copied()).nth(index as usize);
        let signature = type_index.and_then(|ty| self.signature(ty))?;
        let fits = signature.parameters.is_empty() && signature.results.is_empty();
        (!fits).then(|| format!("{name} must have the signature () -> (), not {signature}"))
    }

    fn memory_problem(&self, limit_mb: u32) -> Option<String> {
        // Without imports no host function can access the memory.
        if !self.imports.is_empty() && self.export("memory", ExternalKind::Memory).is_none() {
            return Some("it imports host functions but does not export its memory as \"memory\"".to_owned());
        }
        let initial_bytes = self.memory_pages.unwrap_or(0).saturating_mul(WASM_PAGE_BYTES);
        (initial_bytes > u64::from(limit_mb) << 20).then(|| {
            format!("it starts with {initial_bytes} bytes of memory, more than its limit of {limit_mb} MB")
        })
    }

    fn entries_problem(&self) -> Option<String> {
        let entries = self.entries + self.imports.len() as u64 + self.exports.len() as u64;
        (entries > INSTANCE_ENTRIES_MAX).then(|| {
            format!(
                "it has {entries} imports, exports, globals and elements of tables, more than the limit of {INSTANCE_ENTRIES_MAX}"
            )
        })
    }

    fn table_problem(&self) -> Option<String> {
        if self.tables.len() > 1 {
            return Some(format!("it has {} tables; a function may have one", self.tables.len()));
        }
        let initial = self.tables.first().copied().unwrap_or_default();
        (initial > TABLE_MAX_ELEMENTS as u64).then(|| {
            format!("its table starts with {initial} elements; a function may have {TABLE_MAX_ELEMENTS}")
        })
    }
}
