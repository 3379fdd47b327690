//! The functions that are added to a module: each does what a bulk operation does, in chunks.

use crate::limits::BULK_CHUNK_BYTES;
use wasm_encoder::{BlockType, Function, InstructionSink, RefType, ValType};
use wasmparser::Operator;

/// The parameters of the functions that work on memory.
const TO: u32 = 0;
/// See [`TO`]. `memory.fill` has its value here.
const FROM: u32 = 1;
/// See [`TO`].
const LENGTH: u32 = 2;

/// A function that is added to a module.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Helper {
    /// Does nothing: its entry is the checkpoint.
    Checkpoint,
    MemoryFill,
    MemoryCopy,
    MemoryInit {
        segment: u32,
    },
    TableFill {
        table: u32,
        element: wasmparser::RefType,
    },
    TableCopy {
        to: u32,
        from: u32,
    },
    TableInit {
        table: u32,
        segment: u32,
    },
}

impl Helper {
    /// The function that does what an operator does. `tables` has the type of each table's elements.
    pub(super) fn of(operator: &Operator<'_>, tables: &[wasmparser::RefType]) -> Option<Self> {
        Some(match *operator {
            Operator::MemoryFill { mem: 0 } => Self::MemoryFill,
            Operator::MemoryCopy { dst_mem: 0, src_mem: 0 } => Self::MemoryCopy,
            Operator::MemoryInit { data_index, mem: 0 } => Self::MemoryInit { segment: data_index },
            Operator::TableFill { table } => Self::TableFill { table, element: *tables.get(table as usize)? },
            Operator::TableCopy { dst_table, src_table } => {
                Self::TableCopy { to: dst_table, from: src_table }
            }
            Operator::TableInit { elem_index, table } => Self::TableInit { table, segment: elem_index },
            _ => return None,
        })
    }

    pub(super) fn parameters(self) -> Vec<ValType> {
        match self {
            Self::Checkpoint => Vec::new(),
            Self::TableFill { element, .. } => {
                let is_extern = element == wasmparser::RefType::EXTERNREF;
                let element = if is_extern { RefType::EXTERNREF } else { RefType::FUNCREF };
                vec![ValType::I32, ValType::Ref(element), ValType::I32]
            }
            _ => vec![ValType::I32; 3],
        }
    }

    /// The function's code. `segments` has the length of each data segment, in bytes.
    pub(super) fn function(self, segments: &[u64]) -> Function {
        let mut function = Function::new([]);
        let mut code = function.instructions();
        match self {
            Self::Checkpoint => {}
            Self::MemoryFill | Self::MemoryCopy | Self::MemoryInit { .. } => {
                self.leave_one_chunk(&mut code, segments);
                self.operation(code.local_get(TO).local_get(FROM).local_get(LENGTH));
            }
            // A table has 2 MB at most, and is not worth a loop.
            Self::TableFill { .. } | Self::TableCopy { .. } | Self::TableInit { .. } => {
                self.operation(code.local_get(TO).local_get(FROM).local_get(LENGTH));
            }
        }
        code.end();
        function
    }

    /// The operation itself, on the three values on the stack.
    fn operation(self, code: &mut InstructionSink<'_>) {
        match self {
            Self::Checkpoint => code,
            Self::MemoryFill => code.memory_fill(0),
            Self::MemoryCopy => code.memory_copy(0, 0),
            Self::MemoryInit { segment } => code.memory_init(0, segment),
            Self::TableFill { table, .. } => code.table_fill(table),
            Self::TableCopy { to, from } => code.table_copy(to, from),
            Self::TableInit { table, segment } => code.table_init(table, segment),
        };
    }

    /// Does the work down to one chunk, from the side that is safe where the areas overlap.
    fn leave_one_chunk(self, code: &mut InstructionSink<'_>, segments: &[u64]) {
        exceeds_a_chunk(code);
        code.if_(BlockType::Empty);
        // An operation out of bounds writes nothing and traps.
        self.trap_out_of_bounds(code, TO, None);
        match self {
            Self::MemoryInit { segment } => {
                let length = segments.get(segment as usize).copied().unwrap_or(0);
                self.trap_out_of_bounds(code, FROM, Some(length));
                self.forwards(code, &[TO, FROM]);
            }
            Self::MemoryCopy => {
                self.trap_out_of_bounds(code, FROM, None);
                code.local_get(TO).local_get(FROM).i32_le_u().if_(BlockType::Empty);
                self.forwards(code, &[TO, FROM]);
                code.else_();
                self.backwards(code);
                code.end();
            }
            _ => self.forwards(code, &[TO]),
        }
        code.end();
    }

    /// Tries the whole operation, which traps, unless the area at `begin` ends within `bytes`, or within the memory.
    fn trap_out_of_bounds(self, code: &mut InstructionSink<'_>, begin: u32, bytes: Option<u64>) {
        const PAGE_BITS: i64 = 16;
        code.local_get(begin).i64_extend_i32_u().local_get(LENGTH).i64_extend_i32_u().i64_add();
        match bytes {
            Some(bytes) => code.i64_const(bytes.cast_signed()),
            None => code.memory_size(0).i64_extend_i32_u().i64_const(PAGE_BITS).i64_shl(),
        };
        code.i64_gt_u().if_(BlockType::Empty);
        self.operation(code.local_get(TO).local_get(FROM).local_get(LENGTH));
        code.unreachable().end();
    }

    /// Does a chunk from the beginning again and again. The `moving` parameters go along.
    fn forwards(self, code: &mut InstructionSink<'_>, moving: &[u32]) {
        code.loop_(BlockType::Empty);
        self.operation(code.local_get(TO).local_get(FROM).i32_const(BULK_CHUNK_BYTES));
        for parameter in moving {
            code.local_get(*parameter).i32_const(BULK_CHUNK_BYTES).i32_add().local_set(*parameter);
        }
        code.local_get(LENGTH).i32_const(BULK_CHUNK_BYTES).i32_sub().local_set(LENGTH);
        exceeds_a_chunk(code);
        code.br_if(0).end();
    }

    /// Does a chunk from the end again and again.
    fn backwards(self, code: &mut InstructionSink<'_>) {
        code.loop_(BlockType::Empty);
        code.local_get(LENGTH).i32_const(BULK_CHUNK_BYTES).i32_sub().local_set(LENGTH);
        for area in [TO, FROM] {
            code.local_get(area).local_get(LENGTH).i32_add();
        }
        self.operation(code.i32_const(BULK_CHUNK_BYTES));
        exceeds_a_chunk(code);
        code.br_if(0).end();
    }
}

fn exceeds_a_chunk(code: &mut InstructionSink<'_>) {
    code.local_get(LENGTH).i32_const(BULK_CHUNK_BYTES).i32_gt_u();
}
