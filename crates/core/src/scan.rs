//! The look at a module before anything compiles it: what it is, and whether compiling it is cheap.
//!
//! Compile time can grow with the square of a function's size: 30 KB of nested loops over many locals
//! took a compiler 27 s (measured). [`BOUNDS`] keeps each factor, and the products that matter, small.

use wasmparser::{FunctionBody, KnownCustom, Operator, Parser, Payload};

use crate::limits::{TABLE_ELEMENTS, TABLES};

const PAGE_BYTES: u64 = 64 << 10;

/// A bound of the pre-scan.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// What is counted.
    pub name: &'static str,
    /// The most that is allowed.
    pub most: u64,
}

const FUNCTIONS: Bound = Bound { name: "functions", most: 50_000 };
const TYPES: Bound = Bound { name: "types", most: 10_000 };
const IMPORTS: Bound = Bound { name: "imports", most: 1_000 };
const EXPORTS: Bound = Bound { name: "exports", most: 10_000 };
const GLOBALS: Bound = Bound { name: "globals", most: 10_000 };
const SEGMENTS: Bound = Bound { name: "data and element segments", most: 50_000 };
const BODY_BYTES: Bound = Bound { name: "bytes in a function", most: 1 << 20 };
const LOCALS: Bound = Bound { name: "parameters and locals of a function", most: 10_000 };
const NESTING: Bound = Bound { name: "nested blocks in a function", most: 5_000 };
const BRANCH_TARGETS: Bound = Bound { name: "branch table targets of a function", most: 100_000 };
const LOOPS_BY_LOCALS: Bound = Bound { name: "loops times locals of a function", most: 100_000 };
const BLOCKS_BY_LOCALS: Bound = Bound { name: "blocks times locals of a function", most: 5_000_000 };

/// Every bound, for the documentation.
pub const BOUNDS: [Bound; 12] = [
    FUNCTIONS,
    TYPES,
    IMPORTS,
    EXPORTS,
    GLOBALS,
    SEGMENTS,
    BODY_BYTES,
    LOCALS,
    NESTING,
    BRANCH_TARGETS,
    LOOPS_BY_LOCALS,
    BLOCKS_BY_LOCALS,
];

/// Says what a file that is no core WebAssembly module is, or `None` for one that begins like one.
pub(crate) fn not_a_module(bytes: &[u8]) -> Option<&'static str> {
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

/// Looks through a module and returns every problem, in the module's order.
pub(crate) fn scan(bytes: &[u8], memory_ceiling: usize) -> Vec<String> {
    let mut scan = Scan { memory_ceiling: memory_ceiling as u64, ..Scan::default() };
    for payload in Parser::new(0).parse_all(bytes) {
        if let Err(error) = payload.and_then(|payload| scan.section(payload)) {
            scan.problems.push(format!("cannot be read: {error}"));
            break;
        }
    }
    scan.problems
}

#[derive(Default)]
struct Scan {
    memory_ceiling: u64,
    problems: Vec<String>,
    parameters_of_type: Vec<usize>,
    type_of_function: Vec<u32>,
    imported_functions: u32,
    bodies: u32,
}

impl Scan {
    fn section(&mut self, payload: Payload<'_>) -> wasmparser::Result<()> {
        match payload {
            Payload::TypeSection(section) => {
                self.bound(TYPES, section.count().into(), "");
                for group in section.into_iter() {
                    let counts = group?.into_types().map(|ty| match ty.composite_type.inner {
                        wasmparser::CompositeInnerType::Func(function) => function.params().len(),
                        _ => 0,
                    });
                    self.parameters_of_type.extend(counts);
                }
            }
            Payload::ImportSection(section) => {
                self.bound(IMPORTS, section.count().into(), "");
                for import in section.into_imports() {
                    let is_function = matches!(import?.ty, wasmparser::TypeRef::Func(_));
                    self.imported_functions += u32::from(is_function);
                }
            }
            Payload::FunctionSection(section) => {
                self.bound(FUNCTIONS, section.count().into(), "");
                self.type_of_function = section.into_iter().collect::<Result<_, _>>()?;
            }
            Payload::TableSection(section) => self.tables(section)?,
            Payload::MemorySection(section) => self.memories(section)?,
            Payload::GlobalSection(section) => self.bound(GLOBALS, section.count().into(), ""),
            Payload::ExportSection(section) => self.bound(EXPORTS, section.count().into(), ""),
            Payload::ElementSection(section) => self.bound(SEGMENTS, section.count().into(), ""),
            Payload::DataSection(section) => self.bound(SEGMENTS, section.count().into(), ""),
            Payload::CodeSectionEntry(body) => self.function(&body)?,
            Payload::CustomSection(section) => {
                // Names are only read when a guest traps; a broken section must not wait until then.
                if let KnownCustom::Name(names) = section.as_known() {
                    names.into_iter().try_for_each(|name| name.map(drop))?;
                }
            }
            _ => {}
        }
        Ok(())
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
        let ty = self.type_of_function.get(self.bodies as usize);
        let parameters = ty.and_then(|ty| self.parameters_of_type.get(*ty as usize)).copied().unwrap_or(0);
        self.bodies += 1;
        self.bound(BODY_BYTES, body.as_bytes().len() as u64, &place);
        let mut locals = parameters as u64;
        for local in body.get_locals_reader()? {
            locals += u64::from(local?.0);
        }
        let shape = Shape::of(body)?;
        self.bound(LOCALS, locals, &place);
        self.bound(NESTING, shape.deepest, &place);
        self.bound(BRANCH_TARGETS, shape.branch_targets, &place);
        self.bound(LOOPS_BY_LOCALS, shape.loops.saturating_mul(locals), &place);
        self.bound(BLOCKS_BY_LOCALS, shape.blocks.saturating_mul(locals), &place);
        Ok(())
    }

    fn bound(&mut self, bound: Bound, found: u64, place: &str) {
        if found > bound.most {
            self.problems.push(format!("{place}{found} {}; the most is {}", bound.name, bound.most));
        }
    }
}

/// What of a function's code drives the compiler's time.
#[derive(Default)]
struct Shape {
    blocks: u64,
    loops: u64,
    deepest: u64,
    branch_targets: u64,
}

impl Shape {
    fn of(body: &FunctionBody<'_>) -> wasmparser::Result<Self> {
        let mut shape = Self::default();
        let mut depth = 0_u64;
        for operator in body.get_operators_reader()? {
            match operator? {
                Operator::Loop { .. } => {
                    shape.loops += 1;
                    shape.blocks += 1;
                    depth += 1;
                }
                Operator::Block { .. } | Operator::If { .. } => {
                    shape.blocks += 1;
                    depth += 1;
                }
                Operator::End => depth = depth.saturating_sub(1),
                Operator::BrTable { targets } => shape.branch_targets += u64::from(targets.len()),
                _ => {}
            }
            shape.deepest = shape.deepest.max(depth);
        }
        Ok(shape)
    }
}
