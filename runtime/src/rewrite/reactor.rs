//! Recognises reactors, so that what their `_initialize` has done can be kept; see `snapshot`.
//!
//! A reactor is not suspended when its state is kept, so that is all in its memory and its globals, unless its code changes
//! tables or drops segments.

use super::Exported;
use super::go::{GLOBAL, RESUME};
use std::collections::HashSet;
use wasm_encoder::{ExportKind, ExportSection, GlobalSection};
use wasmparser::{BinaryReaderError, ExternalKind, Operator, Parser, Payload, ValType};

/// What a reactor exports instead of `_start`: the function that prepares it, and the one that serves an invocation. Neither
/// takes or returns anything.
pub(crate) const INITIALIZE: &str = "_initialize";
pub(crate) const HANDLER: &str = "orama_handle";

/// Mutable globals that are kept. Compilers make a handful.
const GLOBALS_MAX: usize = 64;

/// What a reactor has to export besides; `None` for a module that is none, or whose state cannot be kept.
pub(super) fn exported(wasm: &[u8]) -> Result<Option<Exported>, BinaryReaderError> {
    let (mut names, mut handler, mut has_memory) = (HashSet::new(), None, false);
    let mut mutable = Vec::new();
    for payload in Parser::new(0).parse_all(wasm) {
        match payload? {
            Payload::GlobalSection(section) => {
                for (index, global) in section.into_iter().enumerate() {
                    let ty = global?.ty;
                    if ty.mutable && !matches!(ty.content_type, ValType::I32 | ValType::I64) {
                        return Ok(None);
                    }
                    mutable.extend(ty.mutable.then_some(index as u32));
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export?;
                    match (export.name, export.kind) {
                        (HANDLER, ExternalKind::Func) => handler = Some(export.index),
                        ("memory", ExternalKind::Memory) => has_memory = true,
                        _ => {}
                    }
                    names.insert(export.name);
                }
                let is_reactor = handler.is_some() && names.contains(INITIALIZE) && !names.contains("_start");
                let is_ours = names.iter().any(|name| name.starts_with("orama:"));
                if !is_reactor || !has_memory || is_ours {
                    return Ok(None);
                }
            }
            // It would run once more in each instance.
            Payload::StartSection { .. } => return Ok(None),
            Payload::CodeSectionEntry(body) => {
                let mut operators = body.get_operators_reader()?;
                while !operators.eof() {
                    if changes_more(&operators.read()?) {
                        return Ok(None);
                    }
                }
            }
            _ => {}
        }
    }
    let Some(handler) = handler.filter(|_| mutable.len() <= GLOBALS_MAX) else { return Ok(None) };
    let mut exports = ExportSection::new();
    exports.export(RESUME, ExportKind::Func, handler);
    for (place, index) in mutable.into_iter().enumerate() {
        exports.export(&format!("{GLOBAL}{place}"), ExportKind::Global, index);
    }
    Ok(Some(Exported { globals: GlobalSection::new(), exports }))
}

/// Whether an instruction changes something of an instance that is neither memory nor a global.
fn changes_more(operator: &Operator<'_>) -> bool {
    matches!(
        operator,
        Operator::TableSet { .. }
            | Operator::TableGrow { .. }
            | Operator::TableFill { .. }
            | Operator::TableCopy { .. }
            | Operator::TableInit { .. }
            | Operator::ElemDrop { .. }
            | Operator::DataDrop { .. }
    )
}
