//! What the look at a module saw, as plain data: for people and tools that judge a file before it is loaded.

use wasmparser::{ExternalKind, TypeRef};

use crate::content::{Content, Total};
use crate::demangle::demangled;
use crate::figures::Found;
use crate::kind::FileKind;
use crate::scan::Scan;
use crate::snapshot_plan::Plan;
use crate::text::{NAME_BYTES, printable};

/// More fields of who made it than these are not shown: real modules have some five.
const MOST_TOOLS: usize = 100;

/// What a file is and has, as far as it could be read. All names are capped and printable.
#[derive(Clone, Debug)]
pub struct Report {
    /// What the file is, by its first bytes. Where it is no module, only the problem is told beside it.
    pub kind: FileKind,
    /// Why the file can't be loaded, as sentences; those that only compiling shows aren't here.
    pub problems: Vec<String>,
    /// Every bound with the largest count that was found.
    pub figures: Vec<Figure>,
    /// The parts of the file, in its order.
    pub sections: Vec<Section>,
    /// What it imports.
    pub imports: Vec<Imported>,
    /// What it exports.
    pub exports: Vec<Exported>,
    /// The sizes of its memories in pages, imported ones first: initial, and the most, where that is said.
    pub memories: Vec<(u64, Option<u64>)>,
    /// The sizes of its tables in elements, likewise.
    pub tables: Vec<(u64, Option<u64>)>,
    /// How many globals it has, imported ones too.
    pub globals: u64,
    /// Its own functions; of too many, the first.
    pub functions: Vec<Function>,
    /// How many functions of its own it has, and the bytes in all of them.
    pub code: (u64, u64),
    /// How many data segments it has, and the bytes in all of them.
    pub data: (u64, u64),
    /// How many element segments it has, and the elements in all of them.
    pub elements: (u64, u64),
    /// The function that runs first in every instance.
    pub start: Option<u32>,
    /// Whether it is initialised before its first hook is called: by a start function, or by `_initialize`.
    pub initialises: bool,
    /// Why that has to happen in every instance, as far as it can be seen, or `None`.
    pub snapshot_refusal: Option<String>,
    /// The tools that made it, as it says itself.
    pub tools: Vec<String>,
}

/// A count beside its bound.
#[derive(Clone, Debug)]
pub struct Figure {
    /// What is counted.
    pub name: &'static str,
    /// The most that is allowed.
    pub most: u64,
    /// The largest count that was found.
    pub found: u64,
    /// The function that it was found in, where it is a function's count.
    pub function: Option<u32>,
}

/// A part of the file.
#[derive(Clone, Debug)]
pub struct Section {
    /// What it holds.
    pub kind: &'static str,
    /// A custom section's name.
    pub name: Option<String>,
    /// Where its content begins in the file.
    pub offset: u64,
    /// The bytes of its content.
    pub bytes: u64,
}

/// Something imported.
#[derive(Clone, Debug)]
pub struct Imported {
    /// Where from.
    pub module: String,
    /// Its name there.
    pub name: String,
    /// What it is: function, table, memory, global or tag.
    pub kind: &'static str,
    /// Its type in words.
    pub ty: String,
}

/// Something exported.
#[derive(Clone, Debug)]
pub struct Exported {
    /// Its name.
    pub name: String,
    /// What it is: function, table, memory, global or tag.
    pub kind: &'static str,
    /// Its type in words; `unknown` where there is no such thing.
    pub ty: String,
}

/// A function with a body.
#[derive(Clone, Debug)]
pub struct Function {
    /// Its number, after those of the imported ones.
    pub index: u32,
    /// The name section's name for it, else an export's, as its author wrote it.
    pub name: Option<String>,
    /// The bytes of its body.
    pub bytes: u64,
}

/// Returns what there is to say of a file without compiling it, whatever its bytes are.
/// Takes about as long as the scan before a load, which it shares its walk with.
pub fn inspect(wasm: &[u8], memory_ceiling_bytes: usize) -> Report {
    let kind = FileKind::of(wasm);
    let not_a_module = kind.problem();
    let scan = Scan::of(if not_a_module.is_some() { &[] } else { wasm }, memory_ceiling_bytes);
    let problems = not_a_module.map_or_else(|| scan.problems(), |problem| vec![problem.to_owned()]);
    let content = &scan.content;
    // A walk of its own, so only where the bounds hold.
    let plan = if problems.is_empty() { Plan::of(wasm, None).ok() } else { None };
    let pair = |total: Total| (total.count, total.content);
    Report {
        kind,
        problems,
        figures: scan.figures.all().map(figure).collect(),
        sections: sections(content),
        imports: imports(content),
        exports: exports(content),
        memories: content.memories.iter().map(|ty| (ty.initial, ty.maximum)).collect(),
        tables: content.tables.iter().map(|ty| (ty.initial, ty.maximum)).collect(),
        globals: content.global_count,
        functions: functions(content),
        code: pair(content.code),
        data: pair(content.data),
        elements: pair(content.elements),
        start: content.start,
        initialises: plan.as_ref().is_some_and(Plan::initialises),
        snapshot_refusal: plan.and_then(|plan| plan.refusal).map(|refusal| refusal.to_string()),
        tools: content.tools().take(MOST_TOOLS).map(|tool| shown(&tool)).collect(),
    }
}

fn shown(name: &str) -> String {
    printable(name.as_bytes(), NAME_BYTES)
}

fn figure((name, most, found): (&'static str, u64, Found)) -> Figure {
    Figure { name, most, found: found.count, function: found.function }
}

fn sections(content: &Content<'_>) -> Vec<Section> {
    let section = |part: &crate::content::Part<'_>| Section {
        kind: part.kind,
        name: part.name.map(shown),
        offset: part.range.start as u64,
        bytes: part.range.len() as u64,
    };
    content.parts.iter().map(section).collect()
}

fn imports(content: &Content<'_>) -> Vec<Imported> {
    let imported = |import: &wasmparser::Import<'_>| Imported {
        module: shown(import.module),
        name: shown(import.name),
        kind: type_kind(import.ty),
        ty: content.type_text(import.ty),
    };
    content.imports.iter().map(imported).collect()
}

fn exports(content: &Content<'_>) -> Vec<Exported> {
    let exported = |export: &wasmparser::Export<'_>| Exported {
        name: shown(export.name),
        kind: kind_name(export.kind),
        ty: content.exported(export).map_or_else(|| "unknown".to_owned(), |ty| content.type_text(ty)),
    };
    content.exports.iter().map(exported).collect()
}

fn functions(content: &Content<'_>) -> Vec<Function> {
    let names = content.function_names();
    let numbered = (content.imported_functions..).zip(&content.bodies);
    let function = |(index, bytes): (u32, &u64)| Function {
        index,
        name: names.get(index as usize).copied().flatten().map(|name| shown(&demangled(name))),
        bytes: *bytes,
    };
    numbered.map(function).collect()
}

fn type_kind(ty: TypeRef) -> &'static str {
    match ty {
        TypeRef::Func(_) | TypeRef::FuncExact(_) => "function",
        TypeRef::Table(_) => "table",
        TypeRef::Memory(_) => "memory",
        TypeRef::Global(_) => "global",
        TypeRef::Tag(_) => "tag",
    }
}

fn kind_name(kind: ExternalKind) -> &'static str {
    match kind {
        ExternalKind::Func | ExternalKind::FuncExact => "function",
        ExternalKind::Table => "table",
        ExternalKind::Memory => "memory",
        ExternalKind::Global => "global",
        ExternalKind::Tag => "tag",
    }
}
