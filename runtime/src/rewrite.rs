//! Rewrites a module before it is compiled.
//!
//! - **Checkpoints.** The code generator checks the epoch at the entry of each function and at the head of each loop. Two kinds
//!   of code run long without either. A bulk operation may take the whole memory: 64 MB take 44 ms. A function may have
//!   megabytes of straight code, in which each instruction is a bulk operation. So each bulk operation becomes a call of a
//!   function that works in chunks, and long straight code calls an empty function now and then.
//! - **Image.** The node itself keeps what the memory begins with (see `memory`), so the data segments that make it go.
//! - **Snapshots.** A program of Go, or a reactor, exports what it takes to go on from a snapshot of its start (see `go` and
//!   `reactor`).

use crate::limits::STRAIGHT_CODE_MAX_BYTES;
use crate::memory::{ImageBytes, WASM_PAGE_BYTES};
use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use wasm_encoder::{
    CodeSection, DataSection, Encode, ExportSection, FunctionSection, GlobalSection, Instruction, Module,
    RawSection, TypeSection, ValType,
};
use wasmparser::{BinaryReaderError, Data, DataKind, FunctionBody, Operator, Parser, Payload, TypeRef};

pub(crate) mod go;
mod helper;
mod image;
pub(crate) mod reactor;
#[cfg(test)]
mod tests;

use helper::Helper;

const TYPE_SECTION: u8 = 1;
const FUNCTION_SECTION: u8 = 3;
const GLOBAL_SECTION: u8 = 6;
const EXPORT_SECTION: u8 = 7;
const CODE_SECTION: u8 = 10;
const DATA_SECTION: u8 = 11;
const DATA_COUNT_SECTION: u8 = 12;
/// The first byte of bulk operations, and of a few others.
const BULK_PREFIX: u8 = 0xFC;

/// A module as it is compiled.
pub(crate) struct Rewritten<'a> {
    /// The module itself where it needs no change. Function indices stay the same.
    pub(crate) wasm: Cow<'a, [u8]>,
    pub(crate) image: ImageBytes,
}

/// Rewrites a module.
///
/// # Errors
/// When the module is not well-formed.
pub(crate) fn rewrite(wasm: &[u8]) -> Result<Rewritten<'_>, BinaryReaderError> {
    let outline = Outline::read(wasm)?;
    let go = go::Shape::of(wasm)?;
    let mut helpers = Helpers::after(outline.functions);
    let mut bodies = Vec::with_capacity(outline.bodies.len());
    for (index, body) in outline.bodies.iter().enumerate() {
        let draws = go.as_ref().map_or(Ok(Vec::new()), |go| go.draws(wasm, index, body))?;
        bodies.push(rewrite_body(wasm, body, &outline.tables, &draws, &mut helpers)?);
    }
    let (baked, image) = image::bake(&outline.segments, outline.memory_bytes)?;
    let exported = match go {
        // The others would be copied over a snapshot.
        _ if baked < outline.segments.len() => None,
        Some(go) => Some(go.exported()),
        None => reactor::exported(wasm)?,
    };
    if helpers.list.is_empty() && baked == 0 && exported.is_none() {
        return Ok(Rewritten { wasm: Cow::Borrowed(wasm), image });
    }
    let mut code = CodeSection::new();
    for (body, rewritten) in outline.bodies.iter().zip(&bodies) {
        code.raw(rewritten.as_deref().unwrap_or(&wasm[body.range()]));
    }
    let lengths: Vec<u64> = outline.segments.iter().map(|segment| segment.data.len() as u64).collect();
    for helper in &helpers.list {
        code.function(&helper.function(&lengths));
    }
    Ok(Rewritten {
        wasm: Cow::Owned(outline.assemble(wasm, &helpers, exported.as_ref(), &code, baked)),
        image,
    })
}

/// What a module exports besides its own, with the globals that it gets for that.
struct Exported {
    globals: GlobalSection,
    exports: ExportSection,
}

/// Where a module's parts are.
#[derive(Default)]
struct Outline<'a> {
    sections: Vec<(u8, Range<usize>)>,
    types: u32,
    /// Imported and defined ones.
    functions: u32,
    bodies: Vec<FunctionBody<'a>>,
    /// The type of each table's elements.
    tables: Vec<wasmparser::RefType>,
    segments: Vec<Data<'a>>,
    /// The initial size of its memory.
    memory_bytes: u64,
}

impl<'a> Outline<'a> {
    fn read(wasm: &'a [u8]) -> Result<Self, BinaryReaderError> {
        let mut outline = Self::default();
        for payload in Parser::new(0).parse_all(wasm) {
            let payload = payload?;
            outline.sections.extend(payload.as_section());
            match payload {
                Payload::TypeSection(section) => {
                    for group in section {
                        outline.types += group?.types().len() as u32;
                    }
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        outline.functions += u32::from(matches!(import?.ty, TypeRef::Func(_)));
                    }
                }
                Payload::FunctionSection(section) => outline.functions += section.count(),
                Payload::TableSection(section) => {
                    for table in section {
                        outline.tables.push(table?.ty.element_type);
                    }
                }
                Payload::MemorySection(section) => {
                    for memory in section {
                        outline.memory_bytes = memory?.initial.saturating_mul(WASM_PAGE_BYTES);
                    }
                }
                Payload::CodeSectionEntry(body) => outline.bodies.push(body),
                Payload::DataSection(section) => {
                    for segment in section {
                        outline.segments.push(segment?);
                    }
                }
                _ => {}
            }
        }
        Ok(outline)
    }

    /// The module with the helpers' types and functions, with what it exports besides, with the code in place of its own, and
    /// without the first `baked` data segments.
    fn assemble(
        &self,
        wasm: &[u8],
        helpers: &Helpers,
        exported: Option<&Exported>,
        code: &CodeSection,
        baked: usize,
    ) -> Vec<u8> {
        let mut types = TypeSection::new();
        let mut functions = FunctionSection::new();
        let mut known: Vec<Vec<ValType>> = Vec::new();
        for helper in &helpers.list {
            let parameters = helper.parameters();
            let at = known.iter().position(|other| *other == parameters).unwrap_or_else(|| {
                types.ty().function(parameters.iter().copied(), []);
                known.push(parameters);
                known.len() - 1
            });
            functions.function(self.types + at as u32);
        }
        let mut module = Module::new();
        for (id, range) in &self.sections {
            let own = &wasm[range.clone()];
            let mut join = |data: Vec<u8>| {
                module.section(&RawSection { id: *id, data: &data });
            };
            match (*id, exported) {
                (TYPE_SECTION, _) => join(joined(own, &types)),
                (FUNCTION_SECTION, _) => join(joined(own, &functions)),
                (GLOBAL_SECTION, Some(exported)) => join(joined(own, &exported.globals)),
                (EXPORT_SECTION, Some(exported)) => join(joined(own, &exported.exports)),
                (CODE_SECTION, _) => {
                    module.section(code);
                }
                (DATA_SECTION, _) => {
                    module.section(&self.data_section(wasm, baked, helpers.name_segments));
                }
                // It counts the data segments.
                (DATA_COUNT_SECTION, _) if !helpers.name_segments => {}
                (id, _) => {
                    module.section(&RawSection { id, data: own });
                }
            }
        }
        module.finish()
    }

    /// The data segments without the first `baked` active ones. Where code names segments by their index, those are as it finds
    /// them after the start: empty.
    fn data_section(&self, wasm: &[u8], baked: usize, are_named: bool) -> DataSection {
        let mut section = DataSection::new();
        for (index, segment) in self.segments.iter().enumerate() {
            if index < baked && matches!(segment.kind, DataKind::Active { .. }) {
                if are_named {
                    section.passive([]);
                }
            } else if are_named || matches!(segment.kind, DataKind::Active { .. }) {
                section.raw(&wasm[segment.range.clone()]);
            }
        }
        section
    }
}

/// A section's content with the entries of another section appended.
fn joined(own: &[u8], added: &impl Encode) -> Vec<u8> {
    let mut encoded = Vec::new();
    added.encode(&mut encoded);
    // The section's length precedes its content.
    let (_, added) = split_number(&encoded);
    let ((count, own), (more, added)) = (split_number(own), split_number(added));
    let mut data = Vec::with_capacity(own.len() + added.len() + 5);
    (count + more).encode(&mut data);
    data.extend_from_slice(own);
    data.extend_from_slice(added);
    data
}

/// The LEB128 number with which a section begins, and the rest. The parser has read it before.
fn split_number(bytes: &[u8]) -> (u32, &[u8]) {
    let mut reader = wasmparser::BinaryReader::new(bytes, 0);
    let number = reader.read_var_u32().unwrap_or(0);
    (number, &bytes[reader.current_position()..])
}

/// The functions that are added to a module, each once.
struct Helpers {
    first: u32,
    list: Vec<Helper>,
    indices: HashMap<Helper, u32>,
    /// Whether the module's code names data segments.
    name_segments: bool,
}

impl Helpers {
    fn after(functions: u32) -> Self {
        Self { first: functions, list: Vec::new(), indices: HashMap::new(), name_segments: false }
    }

    fn index(&mut self, helper: Helper) -> u32 {
        *self.indices.entry(helper).or_insert_with(|| {
            self.list.push(helper);
            self.first + self.list.len() as u32 - 1
        })
    }

    fn call(&mut self, helper: Helper, code: &mut Vec<u8>) {
        Instruction::Call(self.index(helper)).encode(code);
    }
}

/// A function's body with checkpoints, and with a note in front of each of its `draws`; `None` where it needs neither.
fn rewrite_body(
    wasm: &[u8],
    body: &FunctionBody<'_>,
    tables: &[wasmparser::RefType],
    draws: &[usize],
    helpers: &mut Helpers,
) -> Result<Option<Vec<u8>>, BinaryReaderError> {
    let range = body.range();
    let is_short = range.len() <= STRAIGHT_CODE_MAX_BYTES && !wasm[range.clone()].contains(&BULK_PREFIX);
    if is_short && draws.is_empty() {
        return Ok(None);
    }
    let mut changed = Vec::new();
    // The end of what is copied, and the place of the last checkpoint.
    let (mut copied, mut checked) = (range.start, range.start);
    let mut operators = body.get_operators_reader()?;
    while !operators.eof() {
        let (operator, at) = operators.read_with_offset()?;
        if at - checked > STRAIGHT_CODE_MAX_BYTES {
            changed.extend_from_slice(&wasm[copied..at]);
            helpers.call(Helper::Checkpoint, &mut changed);
            (copied, checked) = (at, at);
        }
        if draws.contains(&at) {
            changed.extend_from_slice(&wasm[copied..at]);
            go::Shape::note_draw(&mut changed);
            copied = at;
        }
        let names_segment = matches!(operator, Operator::MemoryInit { .. } | Operator::DataDrop { .. });
        helpers.name_segments |= names_segment;
        if let Some(helper) = Helper::of(&operator, tables) {
            changed.extend_from_slice(&wasm[copied..at]);
            helpers.call(helper, &mut changed);
            copied = operators.original_position();
        }
    }
    if copied == range.start {
        return Ok(None);
    }
    changed.extend_from_slice(&wasm[copied..range.end]);
    Ok(Some(changed))
}
