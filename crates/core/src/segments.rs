//! What becomes of data and element segments: an image that is mapped, a table that is filled when it is used, or
//! code that copies them one by one when an instance starts.
//!
//! Rules:
//! * Whether there is code is decided as the engine decides it (wasmtime 48: `try_static_init` and
//!   `try_func_table_init` in `wasmtime-environ`'s `module_environ.rs`), or more strictly, never less.
//! * One segment in the way decides for others: of data for all active ones, of elements for those after it.
//! * The code is one function, and what compiling it takes grows faster than what it copies.

use wasmparser::{
    ConstExpr, Data, DataKind, Element, ElementItems, ElementKind, MemoryType, Operator, RefType, TableType,
};

use crate::bounds::{Count, IMAGE_BYTES};
use crate::cost;
use crate::figures::Figures;

pub(crate) const PAGE_BYTES: u64 = 64 << 10;

/// The element segments that were met.
#[derive(Default)]
pub(crate) struct Elements {
    copied: u64,
    becomes_code: bool,
}

impl Elements {
    /// Adds a segment, and returns how many elements it has.
    pub(crate) fn add(
        &mut self,
        element: Element<'_>,
        tables: &[TableType],
        figures: &mut Figures,
    ) -> wasmparser::Result<u64> {
        let (count, is_of_functions) = match element.items {
            ElementItems::Functions(items) => (items.count(), true),
            ElementItems::Expressions(_, items) => {
                let room = Count::CopiedElements.bound().most.saturating_sub(self.copied);
                for item in items.clone().into_iter().take(room as usize) {
                    constant(&item?, figures)?;
                }
                (items.count(), false)
            }
        };
        let count = u64::from(count);
        let is_copied = match element.kind {
            ElementKind::Active { table_index, offset_expr } => {
                constant(&offset_expr, figures)?;
                let table = tables.get(table_index.unwrap_or(0) as usize);
                self.becomes_code |= !is_of_functions || !is_filled_when_used(table, &offset_expr, count);
                self.becomes_code
            }
            ElementKind::Passive => true,
            // Nothing copies them; expressions count all the same, as each is looked at.
            ElementKind::Declared => !is_of_functions,
        };
        self.copied += count * u64::from(is_copied);
        Ok(count)
    }

    /// Holds them to their bound, and returns what compiling the code takes, in nanoseconds.
    pub(crate) fn finish(&self, figures: &mut Figures) -> u64 {
        figures.add(Count::CopiedElements, self.copied);
        cost::of_copied_elements(self.copied)
    }
}

/// Whether a segment of functions lies in its table, wherever the module is instantiated.
fn is_filled_when_used(table: Option<&TableType>, offset: &ConstExpr<'_>, count: u64) -> bool {
    let (Some(table), Some(start)) = (table, lone_constant(offset)) else { return false };
    table.element_type == RefType::FUNCREF && start + count <= table.initial
}

/// The active data segments that were met.
pub(crate) struct ActiveData {
    count: u64,
    becomes_code: bool,
    first: u64,
    end: u64,
}

impl ActiveData {
    pub(crate) fn new() -> Self {
        Self { count: 0, becomes_code: false, first: u64::MAX, end: 0 }
    }

    pub(crate) fn add(
        &mut self,
        data: &Data<'_>,
        memories: &[MemoryType],
        figures: &mut Figures,
    ) -> wasmparser::Result<()> {
        let DataKind::Active { memory_index, offset_expr } = &data.kind else { return Ok(()) };
        constant(offset_expr, figures)?;
        self.count += 1;
        let memory = memories.get(*memory_index as usize).map_or(0, |memory| memory.initial.saturating_mul(PAGE_BYTES));
        let bytes = data.data.len() as u64;
        match lone_constant(offset_expr) {
            Some(start) if start + bytes <= memory && bytes == 0 => {}
            Some(start) if start + bytes <= memory => {
                self.first = self.first.min(start);
                self.end = self.end.max(start + bytes);
            }
            _ => self.becomes_code = true,
        }
        Ok(())
    }

    /// Holds them to their bounds, and returns what compiling the code takes, in nanoseconds.
    pub(crate) fn finish(&self, figures: &mut Figures) -> u64 {
        let is_spread = self.end.saturating_sub(self.first) >= IMAGE_BYTES;
        if self.becomes_code {
            figures.add(Count::CopiedData, self.count);
        } else if is_spread {
            figures.add(Count::SpreadData, self.count);
        } else {
            return 0;
        }
        cost::of_copied_data(self.count)
    }
}

/// The number that an offset is, where it is a single constant.
fn lone_constant(expression: &ConstExpr<'_>) -> Option<u64> {
    let mut operators = expression.get_operators_reader().into_iter();
    match (operators.next(), operators.next(), operators.next()) {
        (Some(Ok(Operator::I32Const { value })), Some(Ok(Operator::End)), None) => Some(value.cast_unsigned().into()),
        _ => None,
    }
}

/// Bounds a constant expression; no more operators are counted than are needed to break the bound.
pub(crate) fn constant(expression: &ConstExpr<'_>, figures: &mut Figures) -> wasmparser::Result<()> {
    let mut operators = 0;
    for operator in expression.get_operators_reader().into_iter().take(Count::ConstantOperators.most() + 1) {
        operators += u64::from(!matches!(operator?, Operator::End));
    }
    figures.add(Count::ConstantOperators, operators);
    Ok(())
}
