//! The look at a module before anything compiles it: what it is, what it imports and exports, and whether
//! compiling it is cheap.
//!
//! Rules:
//! * Compile time can grow with the square of a function's size: 30 KB of nested loops over many locals took a
//!   compiler 27 s (measured). [`crate::BOUNDS`] keeps each factor, the products that matter, and their sum small.
//! * One walk serves [`scan`] and [`crate::inspect`]: what can be read is read, whatever is wrong before it.
//! * Time and memory are bounded by the file's bytes: no more of anything is looked at than its bound allows.

use wasmparser::{
    CompositeInnerType, ExternalKind, FromReader, FunctionBody, Parser, Payload, SectionLimited, TypeRef,
};

use crate::abi::{IMPORT_MODULE, IMPORTS};
use crate::bounds::Count;
use crate::content::{Content, Part, Total, section_kind};
use crate::cost;
use crate::figures::Figures;
use crate::kind::FileKind;
use crate::module::{ModuleError, refuse};
use crate::segments::{ActiveData, Elements, PAGE_BYTES, constant};
use crate::shape::{Shape, Signatures};
use crate::text::quoted;
use crate::wasi::{WASI_MODULE, wasi_functions};

const MIB: u64 = 1 << 20;

/// Looks through a module before anything compiles it. Takes some 10 ms a MB of ordinary code, 30 of the densest.
///
/// # Errors
/// The bytes are no core module, break a bound, import what the ABI doesn't have, or lack the `memory` export.
/// All problems are named, in the module's order, up to a number that nobody reads.
pub fn scan(wasm: &[u8], memory_ceiling_bytes: usize) -> Result<(), ModuleError> {
    if let Some(what) = FileKind::of(wasm).problem() {
        return Err(what.to_owned().into());
    }
    refuse(Scan::of(wasm, memory_ceiling_bytes).problems())
}

/// A module, looked through.
pub(crate) struct Scan<'a> {
    pub(crate) content: Content<'a>,
    pub(crate) figures: Figures,
    custom_sections: u64,
    code_bytes: u64,
    work_ns: u64,
}

impl<'a> Scan<'a> {
    pub(crate) fn of(wasm: &'a [u8], memory_ceiling_bytes: usize) -> Self {
        let mut scan = Self {
            content: Content::default(),
            figures: Figures::under(memory_ceiling_bytes as u64),
            custom_sections: 0,
            code_bytes: 0,
            work_ns: 0,
        };
        for payload in Parser::new(0).parse_all(wasm) {
            if let Err(error) = payload.and_then(|payload| scan.section(payload)) {
                scan.figures.cannot_read(&error);
            }
        }
        scan.finish();
        scan
    }

    pub(crate) fn problems(&self) -> Vec<String> {
        self.figures.problems(|| self.content.function_names())
    }

    fn section(&mut self, payload: Payload<'a>) -> wasmparser::Result<()> {
        self.part(&payload);
        match payload {
            Payload::TypeSection(section) => self.types(section)?,
            Payload::ImportSection(section) => self.imports(section)?,
            Payload::FunctionSection(section) => {
                for ty in self.bounded(Count::Functions, section) {
                    self.content.functions.push(ty?);
                }
            }
            Payload::TableSection(section) => self.tables(section)?,
            Payload::MemorySection(section) => self.memories(section)?,
            Payload::GlobalSection(section) => self.globals(section)?,
            Payload::ExportSection(section) => self.exports(section)?,
            Payload::StartSection { func, .. } => self.content.start = Some(func),
            Payload::ElementSection(section) => self.elements(section)?,
            Payload::DataSection(section) => self.data(section)?,
            Payload::CodeSectionStart { size, .. } => self.code_bytes = size.into(),
            Payload::CodeSectionEntry(body) => self.function(&body)?,
            Payload::CustomSection(section) => self.custom(&section),
            _ => {}
        }
        Ok(())
    }

    fn part(&mut self, payload: &Payload<'a>) {
        let Some((id, range)) = payload.as_section() else { return };
        let name = if let Payload::CustomSection(section) = payload { Some(section.name()) } else { None };
        let can_be_many = matches!(payload, Payload::CustomSection(_) | Payload::UnknownSection { .. });
        if !can_be_many || self.content.parts.len() < Count::CustomSections.most() {
            self.content.parts.push(Part { kind: section_kind(id), name, range });
        }
    }

    /// Holds a section's count to its bound, and returns as many of its items as the bound allows.
    fn bounded<T: FromReader<'a>>(
        &mut self,
        count: Count,
        section: SectionLimited<'a, T>,
    ) -> impl Iterator<Item = wasmparser::Result<T>> + use<'a, T> {
        self.figures.add(count, section.count().into());
        section.into_iter().take(count.most())
    }

    fn types(&mut self, section: wasmparser::TypeSectionReader<'a>) -> wasmparser::Result<()> {
        for group in self.bounded(Count::Types, section) {
            let types = group?.into_types();
            let count = self.content.types.len() + types.len();
            if count > Count::Types.most() {
                self.figures.add(Count::Types, count as u64);
                return Ok(());
            }
            for ty in types {
                let function = match ty.composite_type.inner {
                    CompositeInnerType::Func(function) => Some(function),
                    _ => None,
                };
                let width = function.as_ref().map_or(0, |ty| (ty.params().len() + ty.results().len()) as u64);
                self.figures.add(Count::TypeWidth, width);
                self.work_ns += cost::of_type(width);
                self.content.types.push(function);
            }
        }
        Ok(())
    }

    fn imports(&mut self, section: wasmparser::ImportSectionReader<'a>) -> wasmparser::Result<()> {
        self.figures.add(Count::Imports, section.count().into());
        for import in section.into_imports().take(Count::Imports.most()) {
            self.import(import?);
        }
        Ok(())
    }

    fn import(&mut self, import: wasmparser::Import<'a>) {
        self.name(import.module.len().max(import.name.len()), None);
        let (from, name) = (import.module, quoted(import.name));
        if from != IMPORT_MODULE && from != WASI_MODULE {
            let from = quoted(from);
            let both = format!("{IMPORT_MODULE:?} and {WASI_MODULE:?}");
            self.figures.say(format!("imports {name} from {from}; plugins import from {both} only"));
        } else if from == IMPORT_MODULE && !IMPORTS.contains(&import.name) {
            self.figures.say(format!("imports {name}, which ABI 1 does not have"));
        } else if from == WASI_MODULE && !wasi_functions().any(|(name, _)| name == import.name) {
            self.figures.say(format!("imports {name} from {from:?}, which has no such function"));
        } else if !matches!(import.ty, TypeRef::Func(_)) {
            self.figures.say(format!("imports {name} as something else than a function"));
        }
        self.content.import(import);
    }

    fn tables(&mut self, section: wasmparser::TableSectionReader<'a>) -> wasmparser::Result<()> {
        for table in self.bounded(Count::Tables, section) {
            let ty = table?.ty;
            self.figures.add(Count::TableElements, ty.initial);
            self.content.tables.push(ty);
        }
        Ok(())
    }

    fn memories(&mut self, section: wasmparser::MemorySectionReader<'a>) -> wasmparser::Result<()> {
        for memory in self.bounded(Count::Memories, section) {
            let ty = memory?;
            self.figures.add_memory(ty.initial.saturating_mul(PAGE_BYTES));
            self.content.memories.push(ty);
        }
        Ok(())
    }

    fn globals(&mut self, section: wasmparser::GlobalSectionReader<'a>) -> wasmparser::Result<()> {
        self.content.global_count += u64::from(section.count());
        for global in self.bounded(Count::Globals, section) {
            let global = global?;
            constant(&global.init_expr, &mut self.figures)?;
            self.content.globals.push(global.ty);
        }
        Ok(())
    }

    fn exports(&mut self, section: wasmparser::ExportSectionReader<'a>) -> wasmparser::Result<()> {
        for export in self.bounded(Count::Exports, section) {
            let export = export?;
            self.name(export.name.len(), None);
            match (export.name, export.kind) {
                ("memory", kind) if kind != ExternalKind::Memory => {
                    self.figures.say(r#"exports "memory" as something else than a memory"#);
                }
                ("_start", _) => self
                    .figures
                    .say(r#"is a program (it exports "_start"); build a reactor, e.g. with -mexec-model=reactor"#),
                _ => {}
            }
            self.content.exports.push(export);
        }
        Ok(())
    }

    fn elements(&mut self, section: wasmparser::ElementSectionReader<'a>) -> wasmparser::Result<()> {
        self.content.elements.count = section.count().into();
        let mut elements = Elements::default();
        for element in self.bounded(Count::ElementSegments, section) {
            self.content.elements.content += elements.add(element?, &self.content.tables, &mut self.figures)?;
        }
        self.work_ns = self.work_ns.saturating_add(elements.finish(&mut self.figures));
        Ok(())
    }

    fn data(&mut self, section: wasmparser::DataSectionReader<'a>) -> wasmparser::Result<()> {
        self.content.data = Total { count: section.count().into(), content: 0 };
        let mut active = ActiveData::new();
        for data in self.bounded(Count::DataSegments, section) {
            let data = data?;
            self.content.data.content += data.data.len() as u64;
            active.add(&data, &self.content.memories, &mut self.figures)?;
        }
        self.figures.add(Count::DataBytes, self.content.data.content);
        self.work_ns = self.work_ns.saturating_add(active.finish(&mut self.figures));
        Ok(())
    }

    fn custom(&mut self, section: &wasmparser::CustomSectionReader<'a>) {
        self.custom_sections += 1;
        if self.custom_sections > Count::CustomSections.bound().most {
            return;
        }
        self.content.custom(section);
        if section.name() == "name" {
            for (function, name) in self.content.named_functions() {
                self.name(name.len(), Some(function));
            }
        }
    }

    fn name(&mut self, bytes: usize, function: Option<u32>) {
        self.figures.add_in(Count::NameBytes, bytes as u64, function);
    }

    fn function(&mut self, body: &FunctionBody<'_>) -> wasmparser::Result<()> {
        let bytes = body.as_bytes().len() as u64;
        self.content.code.count += 1;
        self.content.code.content += bytes;
        if self.content.bodies.len() >= Count::Functions.most() {
            return Ok(());
        }
        let index = self.content.imported_functions + self.content.bodies.len() as u32;
        self.content.bodies.push(bytes);
        self.figures.add_in(Count::BodyBytes, bytes, Some(index));
        if bytes > Count::BodyBytes.bound().most {
            return Ok(());
        }
        let arity = self.content.of_function(index);
        let mut locals = arity.parameters;
        for local in body.get_locals_reader()? {
            locals += u64::from(local?.0);
        }
        let shape = Shape::of(body, &self.content, arity)?;
        for (count, found) in counts(&shape, locals) {
            self.figures.add_in(count, found, Some(index));
        }
        let work_ns = cost::of_function(bytes, arity.width(), locals, &shape);
        self.work_ns = self.work_ns.saturating_add(work_ns);
        Ok(())
    }

    /// What can only be said at the end.
    fn finish(&mut self) {
        self.figures.add(Count::CustomSections, self.custom_sections);
        let work_ms = self.work_ns / 1_000_000;
        let ms_per_mib = u128::from(work_ms) * u128::from(MIB) / u128::from(self.code_bytes.max(MIB));
        self.figures.add(Count::Work, u64::try_from(ms_per_mib).unwrap_or(u64::MAX));
        if self.figures.is_all_read() && !self.content.exports.iter().any(|export| export.name == "memory") {
            self.figures.say(r#"exports no memory named "memory""#);
        }
    }
}

fn counts(shape: &Shape, locals: u64) -> [(Count, u64); 9] {
    [
        (Count::Locals, locals),
        (Count::Nesting, shape.deepest),
        (Count::LoopNesting, shape.deepest_loop),
        (Count::Branches, shape.branches),
        (Count::BranchTargets, shape.branch_targets),
        (Count::IndirectCalls, shape.indirect),
        (Count::PassedValues, shape.passed),
        (Count::LoopsByLocals, shape.loops.saturating_mul(locals)),
        (Count::BlocksByLocals, shape.blocks.saturating_mul(locals)),
    ]
}
