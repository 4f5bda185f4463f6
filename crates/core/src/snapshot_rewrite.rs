//! Writes a module anew: with its state shown, or with another state to begin with.
//!
//! Rules:
//! * All that isn't named here is copied byte by byte: functions keep their numbers, names and places within the code.
//! * Active data is gone when an instance has started. Where instructions name segments by number, an empty one that is
//!   passive stands in its place, which behaves the same.

use std::ops::Range;

use wasm_encoder as we;
use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasmparser::{BinaryReader, DataKind, Parser, Payload};

use crate::snapshot_image::Image;
use crate::snapshot_plan::Plan;

const NAME_SECTION: &str = "name";
const NAMES_OF_DATA: u8 = 9;

/// Why a module can't be written: it can't be read, or has what the encoder doesn't know.
pub(crate) struct WriteError(pub(crate) String);

impl<E: std::error::Error> From<E> for WriteError {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

type Written<T = ()> = Result<T, WriteError>;

/// The name under which a global is shown.
pub(crate) fn shown_global(plan: &Plan, index: u32) -> String {
    format!("{}{index}", plan.prefix)
}

/// Returns the module with exports of all globals that can change.
pub(crate) fn with_globals_shown(wasm: &[u8], plan: &Plan) -> Written<Vec<u8>> {
    let mut module = we::Module::new();
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload?;
        if let Payload::ExportSection(section) = payload {
            let mut exports = we::ExportSection::new();
            RoundtripReencoder.parse_export_section(&mut exports, section)?;
            for index in &plan.globals {
                exports.export(&shown_global(plan, *index), we::ExportKind::Global, *index);
            }
            module.section(&exports);
        } else {
            copy(&mut module, wasm, &payload);
        }
    }
    Ok(module.finish())
}

/// What a module is to begin with.
pub(crate) struct State<'a> {
    /// The values of the plan's globals.
    pub(crate) globals: Vec<we::ConstExpr>,
    pub(crate) pages: u64,
    pub(crate) memory: &'a [u8],
    pub(crate) image: Image,
}

/// A module that begins with a state.
pub(crate) struct Rewritten {
    pub(crate) wasm: Vec<u8>,
    /// How many bytes further from the file's beginning the code stands than it did.
    pub(crate) code_shift: i64,
}

/// Returns the module without its start function and the plan's exports, and with the state that they leave behind.
pub(crate) fn with_state(wasm: &[u8], plan: &Plan, state: &State<'_>) -> Written<Rewritten> {
    let mut rewriter = Rewriter { wasm, plan, state, module: we::Module::new(), code_shift: 0 };
    for payload in Parser::new(0).parse_all(wasm) {
        rewriter.section(&payload?)?;
    }
    Ok(Rewritten { code_shift: rewriter.code_shift, wasm: rewriter.module.finish() })
}

struct Rewriter<'a> {
    wasm: &'a [u8],
    plan: &'a Plan,
    state: &'a State<'a>,
    module: we::Module,
    code_shift: i64,
}

impl Rewriter<'_> {
    fn section(&mut self, payload: &Payload<'_>) -> Written {
        match payload {
            Payload::MemorySection(section) => self.memories(section.clone())?,
            Payload::GlobalSection(section) => self.globals(section.clone())?,
            Payload::ExportSection(section) => self.exports(section.clone())?,
            Payload::StartSection { .. } => {}
            Payload::DataCountSection { count, .. } => {
                let count = if self.plan.names_data { *count } else { 0 } + self.state.image.runs.len() as u32;
                self.module.section(&we::DataCountSection { count });
            }
            Payload::CodeSectionStart { range, .. } => self.code(range),
            Payload::DataSection(section) => self.data(Some(section.clone()))?,
            Payload::CustomSection(section) if section.name() == NAME_SECTION && !self.plan.names_data => {
                let data = without_names_of_data(section.data()).unwrap_or_else(|_| section.data().to_vec());
                self.module.section(&we::CustomSection { name: NAME_SECTION.into(), data: data.into() });
            }
            _ => copy(&mut self.module, self.wasm, payload),
        }
        Ok(())
    }

    fn memories(&mut self, section: wasmparser::MemorySectionReader<'_>) -> Written {
        let mut memories = we::MemorySection::new();
        for memory in section {
            let memory = RoundtripReencoder.memory_type(memory?)?;
            memories.memory(we::MemoryType { minimum: self.state.pages, ..memory });
        }
        self.module.section(&memories);
        Ok(())
    }

    fn globals(&mut self, section: wasmparser::GlobalSectionReader<'_>) -> Written {
        let mut globals = we::GlobalSection::new();
        let mut values = self.state.globals.iter();
        for global in section {
            let global = global?;
            match values.as_slice().first() {
                Some(value) if global.ty.mutable => {
                    globals.global(RoundtripReencoder.global_type(global.ty)?, value);
                    values.next();
                }
                _ => RoundtripReencoder.parse_global(&mut globals, global)?,
            }
        }
        self.module.section(&globals);
        Ok(())
    }

    fn exports(&mut self, section: wasmparser::ExportSectionReader<'_>) -> Written {
        let mut exports = we::ExportSection::new();
        for export in section {
            let export = export?;
            if !self.plan.exports.iter().any(|done| done == export.name) {
                RoundtripReencoder.parse_export(&mut exports, export)?;
            }
        }
        self.module.section(&exports);
        Ok(())
    }

    fn code(&mut self, range: &Range<usize>) {
        let data = self.wasm.get(range.clone()).unwrap_or_default();
        self.module.section(&we::RawSection { id: we::SectionId::Code.into(), data });
        self.code_shift = (self.module.len() - data.len()) as i64 - range.start as i64;
        if !self.plan.has_data {
            self.fresh_data(we::DataSection::new());
        }
    }

    fn data(&mut self, section: Option<wasmparser::DataSectionReader<'_>>) -> Written {
        let mut segments = we::DataSection::new();
        if self.plan.names_data {
            for segment in section.into_iter().flatten() {
                let segment = segment?;
                let is_kept = matches!(segment.kind, DataKind::Passive);
                segments.passive(if is_kept { segment.data } else { &[] }.iter().copied());
            }
        }
        self.fresh_data(segments);
        Ok(())
    }

    /// Adds the state's memory to what is left of the module's own segments.
    fn fresh_data(&mut self, mut segments: we::DataSection) {
        for run in &self.state.image.runs {
            let start = we::ConstExpr::i32_const((run.start as u32).cast_signed());
            let bytes = self.state.memory.get(run.clone()).unwrap_or_default();
            segments.active(0, &start, bytes.iter().copied());
        }
        self.module.section(&segments);
    }
}

fn copy(module: &mut we::Module, wasm: &[u8], payload: &Payload<'_>) {
    if let Some((id, range)) = payload.as_section()
        && let Some(data) = wasm.get(range)
    {
        module.section(&we::RawSection { id, data });
    }
}

/// Returns a name section's content without the names of data segments, which are others now.
fn without_names_of_data(content: &[u8]) -> wasmparser::Result<Vec<u8>> {
    let mut names = we::NameSection::new();
    let mut reader = BinaryReader::new(content, 0);
    while !reader.eof() {
        let id = reader.read_u8()?;
        let length = reader.read_var_u32()? as usize;
        let part = reader.read_bytes(length)?;
        if id != NAMES_OF_DATA {
            names.raw(id, part);
        }
    }
    Ok(names.as_custom().data.into_owned())
}
