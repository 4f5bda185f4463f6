//! What initialises a module, and whether what that leaves behind can be written down.
//!
//! Rules:
//! * Memory and numbers can be read from outside. Tables, references and which segments were dropped can't, so a
//!   module with an instruction that changes one of them isn't frozen, whether that instruction is met or not.
//! * A segment that is active is dropped when an instance has started: dropping it again changes nothing, and dropping
//!   an empty one neither.

use std::collections::BTreeSet;

use wasmparser::{DataKind, ElementKind, ExternalKind, FunctionBody, Operator, Parser, Payload, ValType};

use crate::module::INITIALIZE;
use crate::snapshot::Refusal;

const SHOWN: &str = "snapshot";

/// How a module is to be frozen.
#[derive(Default)]
pub(crate) struct Plan {
    /// Whether a start function runs while an instance is made.
    pub(crate) has_start: bool,
    /// The exports that run after that, in order.
    pub(crate) exports: Vec<String>,
    /// The numbers of the globals that can change.
    pub(crate) globals: Vec<u32>,
    /// What begins no export's name.
    pub(crate) prefix: String,
    /// Whether an instruction names a data segment by its number.
    pub(crate) names_data: bool,
    pub(crate) has_data: bool,
    /// Why the module can't be frozen.
    pub(crate) refusal: Option<Refusal>,
}

/// What only the whole module tells.
#[derive(Default)]
struct Found {
    functions: u32,
    element_is_passive: Vec<bool>,
    /// The data segments that an instruction drops, with the function that it stands in.
    dropped: Vec<(u32, u32)>,
}

impl Plan {
    /// Reads a module that was scanned. `named` is an export that initialises it beside [`INITIALIZE`].
    pub(crate) fn of(wasm: &[u8], named: Option<&str>) -> wasmparser::Result<Self> {
        let (mut plan, mut found) = (Self::default(), Found::default());
        for payload in Parser::new(0).parse_all(wasm) {
            plan.section(payload?, named, &mut found)?;
        }
        Ok(plan)
    }

    /// Whether anything runs before the first hook does.
    pub(crate) fn initialises(&self) -> bool {
        self.has_start || !self.exports.is_empty()
    }

    fn section(&mut self, payload: Payload<'_>, named: Option<&str>, found: &mut Found) -> wasmparser::Result<()> {
        match payload {
            Payload::ImportSection(section) => found.functions = section.into_imports().count() as u32,
            Payload::GlobalSection(section) => self.globals(section)?,
            Payload::ExportSection(section) => self.exports(section, named)?,
            Payload::StartSection { .. } => self.has_start = true,
            Payload::ElementSection(section) => {
                for element in section {
                    found.element_is_passive.push(matches!(element?.kind, ElementKind::Passive));
                }
            }
            Payload::CodeSectionEntry(body) => {
                self.function(&body, found)?;
                found.functions += 1;
            }
            Payload::DataSection(section) => self.data(section, found)?,
            _ => {}
        }
        Ok(())
    }

    fn globals(&mut self, section: wasmparser::GlobalSectionReader<'_>) -> wasmparser::Result<()> {
        for (index, global) in (0..).zip(section) {
            let ty = global?.ty;
            match ty.content_type {
                _ if !ty.mutable => {}
                ValType::Ref(_) => self.refuse(Refusal::ReferenceGlobal { index }),
                _ => self.globals.push(index),
            }
        }
        Ok(())
    }

    fn exports(&mut self, section: wasmparser::ExportSectionReader<'_>, named: Option<&str>) -> wasmparser::Result<()> {
        let (mut initialize, mut taken) = (None, BTreeSet::new());
        for export in section {
            let export = export?;
            taken.extend(prefix_number(export.name));
            if export.name == INITIALIZE && export.kind == ExternalKind::Func {
                initialize = Some(INITIALIZE);
            }
        }
        let named = named.filter(|name| *name != INITIALIZE);
        let free = (0..).find(|number| !taken.contains(number)).unwrap_or_default();
        self.prefix = format!("{SHOWN}{free}-");
        self.exports = initialize.into_iter().chain(named).map(str::to_owned).collect();
        Ok(())
    }

    fn function(&mut self, body: &FunctionBody<'_>, found: &mut Found) -> wasmparser::Result<()> {
        let function = found.functions;
        for operator in body.get_operators_reader()? {
            let change = match operator? {
                Operator::TableSet { .. } => Some("table.set"),
                Operator::TableGrow { .. } => Some("table.grow"),
                Operator::TableFill { .. } => Some("table.fill"),
                Operator::TableCopy { .. } => Some("table.copy"),
                Operator::TableInit { .. } => Some("table.init"),
                Operator::ElemDrop { elem_index } => {
                    let is_passive = found.element_is_passive.get(elem_index as usize) == Some(&true);
                    is_passive.then_some("elem.drop")
                }
                Operator::DataDrop { data_index } => {
                    self.names_data = true;
                    found.dropped.push((data_index, function));
                    None
                }
                Operator::MemoryInit { .. } => {
                    self.names_data = true;
                    None
                }
                _ => None,
            };
            if let Some(instruction) = change {
                self.refuse(Refusal::Instruction { instruction, function });
            }
        }
        Ok(())
    }

    fn data(&mut self, section: wasmparser::DataSectionReader<'_>, found: &mut Found) -> wasmparser::Result<()> {
        self.has_data = true;
        let mut can_be_lost = Vec::new();
        for data in section {
            let data = data?;
            can_be_lost.push(matches!(data.kind, DataKind::Passive) && !data.data.is_empty());
        }
        let lost = found.dropped.iter().find(|(index, _)| can_be_lost.get(*index as usize) == Some(&true));
        if let Some((_, function)) = lost {
            self.refuse(Refusal::Instruction { instruction: "data.drop", function: *function });
        }
        Ok(())
    }

    /// Takes note of the first reason.
    fn refuse(&mut self, refusal: Refusal) {
        self.refusal.get_or_insert(refusal);
    }
}

/// Returns the number of the prefix that a name begins with, if it does with one.
fn prefix_number(name: &str) -> Option<u32> {
    name.strip_prefix(SHOWN)?.split_once('-')?.0.parse().ok()
}
