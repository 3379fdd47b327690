//! Recognises programs of the standard Go compiler, so that their start can be kept; see `snapshot`.
//!
//! Go keeps its whole call stack in linear memory, and `_start` ends in a loop that resumes the current goroutine. So a run that
//! a trap ended within an import goes on in another instance with the same memory and globals, when that loop is called. The
//! loop and the globals are exported for this purpose.

use super::Exported;
use std::collections::HashSet;
use wasm_encoder::{ConstExpr, Encode, ExportKind, ExportSection, GlobalSection, GlobalType, Instruction};
use wasmparser::{
    BinaryReaderError, ExternalKind, FunctionBody, KnownCustom, Name, Operator, Parser, Payload, TypeRef,
    ValType,
};

/// The name under which the function is exported with which an instance goes on: the loop here.
pub(crate) const RESUME: &str = "orama:resume";
/// The names of the exported globals begin so; their index follows.
pub(crate) const GLOBAL: &str = "orama:global:";
/// A global that is not 0 once the program has asked Go's runtime for random numbers of its own.
pub(crate) const RANDOM: &str = "orama:random";

/// Stack pointer, context, goroutine, four results, and whether to pause: the globals of Go's code generator since 1.11.
const GLOBALS: [ValType; 8] = [
    ValType::I32,
    ValType::I64,
    ValType::I64,
    ValType::I64,
    ValType::I64,
    ValType::I64,
    ValType::I64,
    ValType::I32,
];

/// Sources of random numbers in Go's runtime. Its packages `math/rand`, `math/rand/v2` and `hash/maphash` draw from them.
const RANDOM_SOURCES: [&str; 5] =
    ["runtime.rand", "runtime.rand32", "runtime.fastrand", "runtime.fastrand64", "runtime.fastrandu"];

/// Packages that hand random numbers on to a program, by the beginnings of their functions' names.
const RANDOM_PACKAGES: [&str; 3] = ["math_rand", "hash_maphash", "os.nextRandom"];

/// Functions that work on maps.
const MAP_FUNCTIONS: [&str; 2] = ["runtime.map", "internal_runtime_maps."];

/// Packages whose draws only seed hash tables or the scheduler.
const RUNTIME_PACKAGES: [&str; 3] = ["runtime.", "internal_", "unique."];

/// What makes a module one of Go.
pub(super) struct Shape {
    /// The index of the loop that resumes goroutines.
    resume: u32,
    /// The number of imported functions.
    imported: u32,
    /// Sources of random numbers.
    sources: Vec<u32>,
    /// Functions of the runtime's own packages.
    of_runtime: HashSet<u32>,
    /// Functions of [`RANDOM_PACKAGES`].
    of_random: HashSet<u32>,
    /// [`MAP_FUNCTIONS`]
    of_maps: HashSet<u32>,
}

/// Collects what the shape is recognised by, in the order of a module's sections.
#[derive(Default)]
struct Search {
    /// For each type, whether it takes and returns nothing.
    types: Vec<bool>,
    /// The type of each function.
    functions: Vec<u32>,
    imported: u32,
    globals: Vec<ValType>,
    start: Option<u32>,
    exports_memory: bool,
    resume: Option<u32>,
    sources: Vec<u32>,
    of_runtime: HashSet<u32>,
    of_random: HashSet<u32>,
    of_maps: HashSet<u32>,
    /// Something was met that no program of Go has.
    is_other: bool,
}

impl Shape {
    /// The shape of a module; `None` for a module that the standard Go compiler did not make, or that has lost the names of its
    /// functions.
    pub(super) fn of(wasm: &[u8]) -> Result<Option<Self>, BinaryReaderError> {
        let mut search = Search::default();
        let mut bodies = 0;
        for payload in Parser::new(0).parse_all(wasm) {
            match payload? {
                Payload::CodeSectionEntry(body) => {
                    if search.start == Some(search.imported + bodies) {
                        search.resume = last_call(&body)?;
                    }
                    bodies += 1;
                }
                payload => search.see(payload)?,
            }
            if search.is_other {
                return Ok(None);
            }
        }
        Ok(search.found())
    }

    /// What the module exports besides, and the global that notes draws.
    pub(super) fn exported(&self) -> Exported {
        let mut globals = GlobalSection::new();
        let random = GlobalType { val_type: wasm_encoder::ValType::I32, mutable: true, shared: false };
        globals.global(random, &ConstExpr::i32_const(0));
        let mut exports = ExportSection::new();
        exports.export(RESUME, ExportKind::Func, self.resume);
        for index in 0..GLOBALS.len() as u32 {
            exports.export(&format!("{GLOBAL}{index}"), ExportKind::Global, index);
        }
        exports.export(RANDOM, ExportKind::Global, GLOBALS.len() as u32);
        Exported { globals, exports }
    }

    /// Where a function asks for random numbers that it does not only seed a map with: the offsets of the calls, in order. Of all
    /// bodies, `index` is its place.
    pub(super) fn draws(
        &self,
        wasm: &[u8],
        index: usize,
        body: &FunctionBody<'_>,
    ) -> Result<Vec<usize>, BinaryReaderError> {
        let function = self.imported + index as u32;
        let bytes = &wasm[body.range()];
        // Most functions contain no such call, not even by chance.
        let may_call = |source: &u32| {
            let mut call = Vec::new();
            Instruction::Call(*source).encode(&mut call);
            bytes.windows(call.len()).any(|window| window == call)
        };
        if self.of_runtime.contains(&function) || !self.sources.iter().any(may_call) {
            return Ok(Vec::new());
        }
        let operators =
            body.get_operators_reader()?.into_iter_with_offsets().collect::<Result<Vec<_>, _>>()?;
        let calls = |functions: &dyn Fn(&u32) -> bool, operator: &Operator<'_>| matches!(operator, Operator::Call { function_index } if functions(function_index));
        let is_random = self.of_random.contains(&function);
        // A map that stays on the stack is seeded by the function that uses it.
        let has_map = operators.iter().any(|(operator, _)| calls(&|f| self.of_maps.contains(f), operator));
        let draws = operators.iter().enumerate().filter(|(at, (operator, _))| {
            calls(&|f| self.sources.contains(f), operator)
                && (is_random || !has_map || !is_kept_at_once(operators.get(at + 1..).unwrap_or_default()))
        });
        Ok(draws.map(|(_, (_, offset))| *offset).collect())
    }

    /// Appends the code that notes a draw. It stands in front of the call and leaves the stack as it is.
    pub(super) fn note_draw(code: &mut Vec<u8>) {
        Instruction::I32Const(1).encode(code);
        Instruction::GlobalSet(GLOBALS.len() as u32).encode(code);
    }
}

impl Search {
    fn see(&mut self, payload: Payload<'_>) -> Result<(), BinaryReaderError> {
        match payload {
            Payload::TypeSection(section) => {
                for group in section {
                    self.types.extend(group?.types().map(|ty| match &ty.composite_type.inner {
                        wasmparser::CompositeInnerType::Func(ty) => {
                            ty.params().is_empty() && ty.results().is_empty()
                        }
                        _ => false,
                    }));
                }
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    match import?.ty {
                        TypeRef::Func(ty) => self.functions.push(ty),
                        _ => self.is_other = true,
                    }
                }
                self.imported = self.functions.len() as u32;
            }
            Payload::FunctionSection(section) => {
                for ty in section {
                    self.functions.push(ty?);
                }
            }
            Payload::GlobalSection(section) => {
                for global in section {
                    let ty = global?.ty;
                    self.globals.push(ty.content_type);
                    self.is_other |= !ty.mutable;
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export?;
                    match (export.name, export.kind) {
                        ("_start", ExternalKind::Func) => self.start = Some(export.index),
                        ("memory", ExternalKind::Memory) => self.exports_memory = true,
                        // Ours.
                        (name, _) => self.is_other |= name.starts_with("orama:"),
                    }
                }
            }
            Payload::StartSection { .. } => self.is_other = true,
            Payload::CustomSection(section) => {
                if let KnownCustom::Name(names) = section.as_known() {
                    // Damaged names are no names.
                    names.into_iter().flatten().for_each(|name| self.see_names(name));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn see_names(&mut self, names: Name<'_>) {
        let Name::Function(names) = names else { return };
        for naming in names.into_iter().flatten() {
            if RANDOM_SOURCES.contains(&naming.name) {
                self.sources.push(naming.index);
            }
            let is_in = |packages: &[&str]| packages.iter().any(|package| naming.name.starts_with(package));
            if is_in(&RUNTIME_PACKAGES) {
                self.of_runtime.insert(naming.index);
            }
            if is_in(&RANDOM_PACKAGES) {
                self.of_random.insert(naming.index);
            }
            if is_in(&MAP_FUNCTIONS) {
                self.of_maps.insert(naming.index);
            }
        }
    }

    fn found(self) -> Option<Shape> {
        let resume = self.resume?;
        let ty = *self.functions.get(resume as usize)?;
        let is_go = self.exports_memory
            && self.globals == GLOBALS
            && self.types.get(ty as usize) == Some(&true)
            && !self.sources.is_empty();
        is_go.then_some(Shape {
            resume,
            imported: self.imported,
            sources: self.sources,
            of_runtime: self.of_runtime,
            of_random: self.of_random,
            of_maps: self.of_maps,
        })
    }
}

/// Whether the result of a call is only stored in memory, as the seed of a map is.
fn is_kept_at_once(after: &[(Operator<'_>, usize)]) -> bool {
    let is_address = |operator: &Operator<'_>| {
        matches!(
            operator,
            Operator::GlobalGet { .. }
                | Operator::LocalGet { .. }
                | Operator::LocalSet { .. }
                | Operator::LocalTee { .. }
                // Where the call was interrupted.
                | Operator::BrIf { .. }
                | Operator::End
                | Operator::I64Const { .. }
                | Operator::I64Add
                | Operator::I64ExtendI32U
                | Operator::I32WrapI64
        )
    };
    let mut operators =
        after.iter().map(|(operator, _)| operator).skip_while(|operator| is_address(operator));
    matches!(operators.next(), Some(Operator::I64Load { .. }))
        && matches!(operators.next(), Some(Operator::I64Store { .. } | Operator::I64Store32 { .. }))
}

/// The function that a short body without branches calls last.
fn last_call(body: &FunctionBody<'_>) -> Result<Option<u32>, BinaryReaderError> {
    let mut last = None;
    let mut operators = body.get_operators_reader()?;
    while !operators.eof() {
        match operators.read()? {
            Operator::Call { function_index } => last = Some(function_index),
            Operator::I32Const { .. }
            | Operator::I64Const { .. }
            | Operator::LocalGet { .. }
            | Operator::LocalSet { .. }
            | Operator::LocalTee { .. }
            | Operator::GlobalGet { .. }
            | Operator::GlobalSet { .. }
            | Operator::I32WrapI64
            | Operator::I64ExtendI32U
            | Operator::Drop
            | Operator::Return
            | Operator::Unreachable
            | Operator::End => {}
            _ => return Ok(None),
        }
    }
    Ok(last)
}
