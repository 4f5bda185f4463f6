//! The look at a module before anything compiles it: what it is, what it imports and exports, and whether
//! compiling it is cheap.
//!
//! Compile time can grow with the square of a function's size: 30 KB of nested loops over many locals
//! took a compiler 27 s (measured). [`BOUNDS`] keeps each factor, and the products that matter, small.

use wasmparser::{
    BlockType, CompositeInnerType, ConstExpr, DataKind, ElementItems, ElementKind, FunctionBody, Operator, Parser,
    Payload,
};

use crate::abi::{IMPORT_MODULE, IMPORTS};
use crate::limits::{TABLE_ELEMENTS, TABLES};
use crate::module::{ModuleError, refuse};
use crate::text::quoted;

const PAGE_BYTES: u64 = 64 << 10;
/// Wasmtime makes an image of data up to this size, however sparse it is.
const IMAGE_BYTES: u32 = 16 << 20;

/// A bound of the pre-scan.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// What is counted.
    pub name: &'static str,
    /// The most that is allowed.
    pub most: u64,
}

const FUNCTIONS: Bound = Bound { name: "functions", most: 20_000 };
const TYPES: Bound = Bound { name: "types", most: 10_000 };
const TYPE_WIDTH: Bound = Bound { name: "parameters and results of a type", most: 200 };
const IMPORT_COUNT: Bound = Bound { name: "imports", most: 1_000 };
const EXPORTS: Bound = Bound { name: "exports", most: 10_000 };
const GLOBALS: Bound = Bound { name: "globals", most: 10_000 };
const DATA_SEGMENTS: Bound = Bound { name: "data segments", most: 100_000 };
const COMPUTED_OFFSETS: Bound = Bound { name: "data segments at a computed offset", most: 1_000 };
const SPREAD_SEGMENTS: Bound = Bound { name: "data segments spread over more than 16 MiB", most: 2_000 };
const ELEMENT_SEGMENTS: Bound = Bound { name: "element segments", most: 1_000 };
const COPIED_ELEMENTS: Bound = Bound { name: "elements that every instance copies", most: 10_000 };
const CONSTANT_OPERATORS: Bound = Bound { name: "operators in a constant expression", most: 100 };
const BODY_BYTES: Bound = Bound { name: "bytes in a function", most: 1 << 20 };
const LOCALS: Bound = Bound { name: "parameters and locals of a function", most: 10_000 };
const NESTING: Bound = Bound { name: "nested blocks in a function", most: 5_000 };
const LOOP_NESTING: Bound = Bound { name: "nested loops in a function", most: 100 };
const BRANCHES: Bound = Bound { name: "conditional branches in a function", most: 10_000 };
const BRANCH_TARGETS: Bound = Bound { name: "branch table targets of a function", most: 100_000 };
const PASSED_VALUES: Bound = Bound { name: "values passed by blocks, branches and calls of a function", most: 100_000 };
const LOOPS_BY_LOCALS: Bound = Bound { name: "loops times locals of a function", most: 100_000 };
const BLOCKS_BY_LOCALS: Bound = Bound { name: "blocks times locals of a function", most: 5_000_000 };

/// Every bound, for the documentation.
pub const BOUNDS: [Bound; 21] = [
    FUNCTIONS,
    TYPES,
    TYPE_WIDTH,
    IMPORT_COUNT,
    EXPORTS,
    GLOBALS,
    DATA_SEGMENTS,
    COMPUTED_OFFSETS,
    SPREAD_SEGMENTS,
    ELEMENT_SEGMENTS,
    COPIED_ELEMENTS,
    CONSTANT_OPERATORS,
    BODY_BYTES,
    LOCALS,
    NESTING,
    LOOP_NESTING,
    BRANCHES,
    BRANCH_TARGETS,
    PASSED_VALUES,
    LOOPS_BY_LOCALS,
    BLOCKS_BY_LOCALS,
];

/// More problems than these are not looked for: nobody reads them.
const MOST_PROBLEMS: usize = 20;

/// Says what a file that is no core WebAssembly module is, or `None` for one that begins like one.
fn not_a_module(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => None,
        [0, b'a', b's', b'm', _, _, 1, 0, ..] => Some("is a WebAssembly component; build a core module instead"),
        [0, b'a', b's', b'm', ..] => Some("is of a WebAssembly version that Fuseboard does not know"),
        [0x7f, b'E', b'L', b'F', ..] => {
            Some("is native code (ELF), perhaps precompiled; only WebAssembly modules are loaded")
        }
        [] => Some("is empty"),
        _ if bytes.trim_ascii_start().starts_with(b"(") => {
            Some("is WebAssembly text; translate it first, e.g. with wat2wasm")
        }
        _ => Some(r"is not a WebAssembly module: it does not begin with \0asm"),
    }
}

/// Looks through a module before anything compiles it. Takes some 10 ms a MB.
///
/// # Errors
/// The bytes are no core module, break a bound, import what the ABI doesn't have, or lack the `memory` export.
/// All problems are named, in the module's order, up to a number that nobody reads.
pub fn scan(wasm: &[u8], memory_ceiling_bytes: usize) -> Result<(), ModuleError> {
    if let Some(what) = not_a_module(wasm) {
        return Err(what.to_owned().into());
    }
    let mut scan = Scan { memory_ceiling: memory_ceiling_bytes as u64, ..Scan::default() };
    for payload in Parser::new(0).parse_all(wasm) {
        if let Err(error) = payload.and_then(|payload| scan.section(payload)) {
            scan.problems.push(format!("cannot be read: {error}"));
            break;
        }
        if scan.problems.len() >= MOST_PROBLEMS {
            break;
        }
    }
    refuse(scan.problems)
}

#[derive(Default)]
struct Scan {
    memory_ceiling: u64,
    problems: Vec<String>,
    types: Vec<Arity>,
    functions: Vec<u32>,
    imported_functions: u32,
    bodies: u32,
    copied_elements: u64,
    exports_memory: bool,
}

/// How many values a function type takes and gives.
#[derive(Clone, Copy, Default)]
struct Arity {
    parameters: u64,
    results: u64,
}

impl Arity {
    fn width(self) -> u64 {
        self.parameters + self.results
    }
}

impl Scan {
    fn section(&mut self, payload: Payload<'_>) -> wasmparser::Result<()> {
        match payload {
            Payload::TypeSection(section) => self.types(section)?,
            Payload::ImportSection(section) => {
                self.bound(IMPORT_COUNT, section.count().into(), "");
                for import in section.into_imports() {
                    self.import(&import?);
                }
            }
            Payload::FunctionSection(section) => {
                self.bound(FUNCTIONS, section.count().into(), "");
                for ty in section {
                    self.functions.push(ty?);
                }
            }
            Payload::TableSection(section) => self.tables(section)?,
            Payload::MemorySection(section) => self.memories(section)?,
            Payload::GlobalSection(section) => {
                self.bound(GLOBALS, section.count().into(), "");
                for global in section {
                    self.constant(&global?.init_expr)?;
                }
            }
            Payload::ExportSection(section) => {
                self.bound(EXPORTS, section.count().into(), "");
                for export in section {
                    self.export(&export?);
                }
            }
            Payload::ElementSection(section) => self.elements(section)?,
            Payload::DataSection(section) => self.data(section)?,
            Payload::CodeSectionEntry(body) => self.function(&body)?,
            Payload::End(_) if !self.exports_memory => {
                self.problems.push(r#"exports no memory named "memory""#.into());
            }
            _ => {}
        }
        Ok(())
    }

    fn types(&mut self, section: wasmparser::TypeSectionReader<'_>) -> wasmparser::Result<()> {
        self.bound(TYPES, section.count().into(), "");
        for group in section {
            for ty in group?.into_types() {
                let arity = match ty.composite_type.inner {
                    CompositeInnerType::Func(function) => {
                        Arity { parameters: function.params().len() as u64, results: function.results().len() as u64 }
                    }
                    _ => Arity::default(),
                };
                self.bound(TYPE_WIDTH, arity.width(), "");
                self.types.push(arity);
            }
        }
        Ok(())
    }

    /// Most element segments are copied to their table when a function is first called through it; some
    /// are made anew for every instance, before any fuel is counted.
    fn elements(&mut self, section: wasmparser::ElementSectionReader<'_>) -> wasmparser::Result<()> {
        self.bound(ELEMENT_SEGMENTS, section.count().into(), "");
        for element in section {
            let element = element?;
            let at_constant = match &element.kind {
                ElementKind::Active { offset_expr, .. } => self.constant(offset_expr)? <= 1,
                ElementKind::Passive | ElementKind::Declared => false,
            };
            let items = match &element.items {
                ElementItems::Functions(items) => u64::from(items.count()) * u64::from(!at_constant),
                ElementItems::Expressions(_, items) => {
                    for item in items.clone() {
                        self.constant(&item?)?;
                    }
                    items.count().into()
                }
            };
            self.copied_elements = self.copied_elements.saturating_add(items);
        }
        self.bound(COPIED_ELEMENTS, self.copied_elements, "");
        Ok(())
    }

    /// Data becomes one image that is mapped, where it lies within [`IMAGE_BYTES`] at constant offsets;
    /// else code that copies segment by segment, which takes the compiler some 0.8 ms a segment.
    fn data(&mut self, section: wasmparser::DataSectionReader<'_>) -> wasmparser::Result<()> {
        self.bound(DATA_SEGMENTS, section.count().into(), "");
        let (mut computed, mut first, mut last) = (0, u32::MAX, 0);
        for data in section.clone() {
            if let DataKind::Active { offset_expr, .. } = data?.kind {
                computed += u64::from(self.constant(&offset_expr)? > 1);
                if let Some(Ok(Operator::I32Const { value })) = offset_expr.get_operators_reader().into_iter().next() {
                    first = first.min(value.cast_unsigned());
                    last = last.max(value.cast_unsigned());
                }
            }
        }
        self.bound(COMPUTED_OFFSETS, computed, "");
        if last.saturating_sub(first) > IMAGE_BYTES {
            self.bound(SPREAD_SEGMENTS, section.count().into(), "");
        }
        Ok(())
    }

    /// Bounds a constant expression and returns how many operators it has before its end.
    fn constant(&mut self, expression: &ConstExpr<'_>) -> wasmparser::Result<u64> {
        let mut operators = 0;
        for operator in expression.get_operators_reader() {
            operators += u64::from(!matches!(operator?, Operator::End));
        }
        self.bound(CONSTANT_OPERATORS, operators, "");
        Ok(operators)
    }

    fn import(&mut self, import: &wasmparser::Import<'_>) {
        let (from, name) = (import.module, quoted(import.name));
        let is_function = if let wasmparser::TypeRef::Func(ty) = import.ty {
            self.functions.push(ty);
            self.imported_functions += 1;
            true
        } else {
            false
        };
        if from != IMPORT_MODULE {
            let from = quoted(from);
            self.problems.push(format!("imports {name} from {from}; plugins import from {IMPORT_MODULE:?} only"));
        } else if !IMPORTS.contains(&import.name) {
            self.problems.push(format!("imports {name}, which ABI 1 does not have"));
        } else if !is_function {
            self.problems.push(format!("imports {name} as something else than a function"));
        }
    }

    fn export(&mut self, export: &wasmparser::Export<'_>) {
        match export.name {
            "memory" if export.kind == wasmparser::ExternalKind::Memory => self.exports_memory = true,
            "memory" => {
                self.exports_memory = true;
                self.problems.push(r#"exports "memory" as something else than a memory"#.into());
            }
            "_start" => self
                .problems
                .push(r#"is a program (it exports "_start"); build a reactor, e.g. with -mexec-model=reactor"#.into()),
            _ => {}
        }
    }

    fn tables(&mut self, section: wasmparser::TableSectionReader<'_>) -> wasmparser::Result<()> {
        self.bound(Bound { name: "tables", most: TABLES.into() }, section.count().into(), "");
        for table in section {
            let most = Bound { name: "initial elements of a table", most: TABLE_ELEMENTS as u64 };
            self.bound(most, table?.ty.initial, "");
        }
        Ok(())
    }

    fn memories(&mut self, section: wasmparser::MemorySectionReader<'_>) -> wasmparser::Result<()> {
        for memory in section {
            let bytes = memory?.initial.saturating_mul(PAGE_BYTES);
            let most =
                Bound { name: "bytes of initial memory under the operator's ceiling", most: self.memory_ceiling };
            self.bound(most, bytes, "");
        }
        Ok(())
    }

    fn function(&mut self, body: &FunctionBody<'_>) -> wasmparser::Result<()> {
        let place = format!("function {}: ", self.imported_functions + self.bodies);
        let arity = self.arity_of_function(self.imported_functions + self.bodies);
        self.bodies += 1;
        self.bound(BODY_BYTES, body.as_bytes().len() as u64, &place);
        let mut locals = arity.parameters;
        for local in body.get_locals_reader()? {
            locals += u64::from(local?.0);
        }
        let shape = Shape::of(body, self, arity)?;
        self.bound(LOCALS, locals, &place);
        self.bound(NESTING, shape.deepest, &place);
        self.bound(LOOP_NESTING, shape.deepest_loop, &place);
        self.bound(BRANCHES, shape.branches, &place);
        self.bound(BRANCH_TARGETS, shape.branch_targets, &place);
        self.bound(PASSED_VALUES, shape.passed, &place);
        self.bound(LOOPS_BY_LOCALS, shape.loops.saturating_mul(locals), &place);
        self.bound(BLOCKS_BY_LOCALS, shape.blocks.saturating_mul(locals), &place);
        Ok(())
    }

    fn arity(&self, ty: u32) -> Arity {
        self.types.get(ty as usize).copied().unwrap_or_default()
    }

    fn block(&self, ty: BlockType) -> Arity {
        match ty {
            BlockType::Empty => Arity::default(),
            BlockType::Type(_) => Arity { parameters: 0, results: 1 },
            BlockType::FuncType(ty) => self.arity(ty),
        }
    }

    fn arity_of_function(&self, function: u32) -> Arity {
        self.functions.get(function as usize).map(|ty| self.arity(*ty)).unwrap_or_default()
    }

    fn bound(&mut self, bound: Bound, found: u64, place: &str) {
        if found > bound.most {
            self.problems.push(format!("{place}{found} {}; the most is {}", bound.name, bound.most));
        }
    }
}

/// What of a function's code drives the compiler's time and memory.
#[derive(Default)]
struct Shape {
    blocks: u64,
    loops: u64,
    branches: u64,
    branch_targets: u64,
    passed: u64,
    open_loops: u64,
    deepest: u64,
    deepest_loop: u64,
}

/// A block that is open, and how many values a branch to it passes.
#[derive(Clone, Copy)]
struct Label {
    is_loop: bool,
    values: u64,
}

impl Shape {
    fn of(body: &FunctionBody<'_>, scan: &Scan, arity: Arity) -> wasmparser::Result<Self> {
        let mut shape = Self::default();
        let mut open = vec![Label { is_loop: false, values: arity.results }];
        for operator in body.get_operators_reader()? {
            shape.add(&operator?, scan, &mut open)?;
        }
        Ok(shape)
    }

    fn add(&mut self, operator: &Operator<'_>, scan: &Scan, open: &mut Vec<Label>) -> wasmparser::Result<()> {
        match operator {
            Operator::Block { blockty } | Operator::If { blockty } => {
                self.branches += u64::from(matches!(operator, Operator::If { .. }));
                self.open(scan.block(*blockty), false, open);
            }
            Operator::Loop { blockty } => self.open(scan.block(*blockty), true, open),
            Operator::End => {
                let is_loop = open.pop().is_some_and(|label| label.is_loop);
                self.open_loops -= u64::from(is_loop);
            }
            Operator::Br { relative_depth } => self.passed += values(open, *relative_depth),
            Operator::BrIf { relative_depth } => {
                self.branches += 1;
                self.passed += values(open, *relative_depth);
            }
            Operator::BrTable { targets } => {
                self.branch_targets += u64::from(targets.len());
                for target in targets.targets() {
                    self.passed += values(open, target?);
                }
            }
            Operator::Call { function_index } | Operator::ReturnCall { function_index } => {
                self.passed += scan.arity_of_function(*function_index).width();
            }
            Operator::CallIndirect { type_index, .. } | Operator::ReturnCallIndirect { type_index, .. } => {
                self.passed += scan.arity(*type_index).width();
            }
            _ => {}
        }
        Ok(())
    }

    fn open(&mut self, arity: Arity, is_loop: bool, open: &mut Vec<Label>) {
        self.blocks += 1;
        self.loops += u64::from(is_loop);
        self.passed += arity.width();
        open.push(Label { is_loop, values: if is_loop { arity.parameters } else { arity.results } });
        self.deepest = self.deepest.max(open.len() as u64 - 1);
        self.open_loops += u64::from(is_loop);
        self.deepest_loop = self.deepest_loop.max(self.open_loops);
    }
}

fn values(open: &[Label], depth: u32) -> u64 {
    let place = open.len().checked_sub(1 + depth as usize);
    place.and_then(|place| open.get(place)).map_or(0, |label| label.values)
}
