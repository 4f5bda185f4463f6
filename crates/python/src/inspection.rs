//! `inspect` and what it returns.

use fuseboard_core as core;
use pyo3::prelude::*;

use crate::fork::detached;

type Sizes = (u64, Option<u64>);

/// What a file is and has.
#[pyclass(frozen, get_all, module = "fuseboard._core")]
pub struct Inspection {
    kind: &'static str,
    is_module: bool,
    problems: Vec<String>,
    figures: Vec<(&'static str, u64, u64, Option<u32>)>,
    sections: Vec<(&'static str, Option<String>, u64, u64)>,
    imports: Vec<(String, String, &'static str, String)>,
    exports: Vec<(String, &'static str, String)>,
    memories: Vec<Sizes>,
    tables: Vec<Sizes>,
    globals: u64,
    functions: Vec<(u32, Option<String>, u64)>,
    code: (u64, u64),
    data: (u64, u64),
    elements: (u64, u64),
    start: Option<u32>,
    initialises: bool,
    snapshot_refusal: Option<String>,
    tools: Vec<String>,
}

/// Says what a file is and has, without compiling it.
#[pyfunction]
pub fn inspect(py: Python<'_>, wasm: &[u8], memory_ceiling_bytes: usize) -> Inspection {
    let report = detached(py, || core::inspect(wasm, memory_ceiling_bytes));
    let figures = report.figures.into_iter();
    let sections = report.sections.into_iter();
    let imports = report.imports.into_iter();
    Inspection {
        kind: report.kind.name(),
        is_module: report.kind == core::FileKind::Module,
        problems: report.problems,
        figures: figures.map(|each| (each.name, each.most, each.found, each.function)).collect(),
        sections: sections.map(|each| (each.kind, each.name, each.offset, each.bytes)).collect(),
        imports: imports.map(|each| (each.module, each.name, each.kind, each.ty)).collect(),
        exports: report.exports.into_iter().map(|each| (each.name, each.kind, each.ty)).collect(),
        memories: report.memories,
        tables: report.tables,
        globals: report.globals,
        functions: report.functions.into_iter().map(|each| (each.index, each.name, each.bytes)).collect(),
        code: report.code,
        data: report.data,
        elements: report.elements,
        start: report.start,
        initialises: report.initialises,
        snapshot_refusal: report.snapshot_refusal,
        tools: report.tools,
    }
}
