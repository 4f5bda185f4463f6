//! A guest that was scanned, compiled, audited and linked.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use wasmtime as wt;

use crate::abi::{IMPORT_MODULE, IMPORTS};
use crate::engine::Engine;
use crate::guest::Guest;
use crate::limits::SLOW_FIRST_SLICE;
use crate::scan;
use crate::text::printable;

const NAME_BYTES: usize = 128;

/// Why a file can't be a plugin: every problem that was found, in plain words.
#[derive(Debug)]
pub struct ModuleError {
    /// At least one sentence.
    pub problems: Vec<String>,
}

impl std::fmt::Display for ModuleError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.problems.join("; "))
    }
}

impl std::error::Error for ModuleError {}

impl From<String> for ModuleError {
    fn from(problem: String) -> Self {
        Self { problems: vec![problem] }
    }
}

/// A compiled guest, shared by all of its invocations.
pub struct Module {
    pub(crate) pre: wt::InstancePre<Guest>,
    pub(crate) memory: wt::ModuleExport,
    pub(crate) initialize: Option<wt::ModuleExport>,
    starts_detached: AtomicBool,
}

impl Module {
    /// Scans, compiles, audits and links a module. Takes a millisecond and more: compiling is work.
    ///
    /// # Errors
    /// The bytes are no core module, break a bound of the scan, don't compile, import what the ABI
    /// doesn't have, or lack the `memory` export. All problems of a stage are named at once.
    pub fn new(engine: &Engine, wasm: &[u8]) -> Result<Self, ModuleError> {
        if let Some(what) = scan::not_a_module(wasm) {
            return Err(what.to_owned().into());
        }
        refuse(scan::scan(wasm, engine.config().memory_ceiling_bytes))?;
        let compiled = wt::Module::from_binary(&engine.inner, wasm).map_err(|error| described(&error))?;
        refuse(audit(&compiled))?;
        let pre = engine.linker.instantiate_pre(&compiled).map_err(|error| described(&error))?;
        let Some(memory) = compiled.get_export_index("memory") else {
            return Err("exports no memory".to_owned().into());
        };
        let initialize = compiled.get_export_index("_initialize");
        Ok(Self { pre, memory, initialize, starts_detached: AtomicBool::new(true) })
    }

    /// The names of the ABI's imports that the module uses.
    pub fn imports(&self) -> Vec<&str> {
        self.pre.module().imports().map(|import| import.name()).collect()
    }

    /// Returns what is wrong with an export as a hook's, or `None`.
    pub fn export_problem(&self, name: &str) -> Option<String> {
        let Some(found) = self.pre.module().get_export(name) else {
            return Some(format!("exports no {}", quoted(name)));
        };
        match found.func() {
            Some(ty) if ty.params().len() + ty.results().len() == 0 => None,
            _ => Some(format!("export {} must be a function without parameters and results", quoted(name))),
        }
    }

    /// The names of all exported functions without parameters and results, made printable.
    pub fn hook_exports(&self) -> Vec<String> {
        let module = self.pre.module();
        module
            .exports()
            .map(|export| export.name())
            .filter(|name| *name != "_initialize" && self.export_problem(name).is_none())
            .map(|name| printable(name.as_bytes(), NAME_BYTES))
            .collect()
    }

    /// Whether a driver that holds a lock (Python's GIL) should give it up before the first slice: the
    /// last first slice of this module took long, or there was none yet.
    pub fn starts_detached(&self) -> bool {
        self.starts_detached.load(Ordering::Relaxed)
    }

    pub(crate) fn first_slice_took(&self, time: Duration) {
        self.starts_detached.store(time > SLOW_FIRST_SLICE, Ordering::Relaxed);
    }
}

fn refuse(problems: Vec<String>) -> Result<(), ModuleError> {
    if problems.is_empty() { Ok(()) } else { Err(ModuleError { problems }) }
}

fn described(error: &wt::Error) -> ModuleError {
    printable(format!("does not compile: {error:#}").as_bytes(), 1024).into()
}

fn quoted(name: &str) -> String {
    format!("{:?}", printable(name.as_bytes(), NAME_BYTES))
}

fn audit(module: &wt::Module) -> Vec<String> {
    let mut problems: Vec<String> = module.imports().filter_map(|import| import_problem(&import)).collect();
    match module.get_export("memory") {
        None => problems.push(r#"exports no memory named "memory""#.into()),
        Some(wt::ExternType::Memory(_)) => {}
        Some(_) => problems.push(r#"export "memory" must be a memory"#.into()),
    }
    if module.get_export("_start").is_some() {
        problems.push(r#"is a program (it exports "_start"); build a reactor, e.g. with -mexec-model=reactor"#.into());
    }
    if let Some(initialize) = module.get_export("_initialize") {
        let is_plain = initialize.func().is_some_and(|ty| ty.params().len() + ty.results().len() == 0);
        if !is_plain {
            problems.push(r#"export "_initialize" must be a function without parameters and results"#.into());
        }
    }
    problems
}

fn import_problem(import: &wt::ImportType<'_>) -> Option<String> {
    let (from, name) = (import.module(), import.name());
    if from != IMPORT_MODULE {
        return Some(format!(
            "imports {} from {}; plugins import from {IMPORT_MODULE:?} only",
            quoted(name),
            quoted(from)
        ));
    }
    if !IMPORTS.contains(&name) {
        return Some(format!("imports {}, which ABI 1 does not have", quoted(name)));
    }
    if import.ty().func().is_none() {
        return Some(format!("imports {} as something else than a function", quoted(name)));
    }
    None
}
