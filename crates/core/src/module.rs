//! A guest that was scanned, compiled, audited and linked.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use wasmtime as wt;

use crate::engine::Engine;
use crate::guest::Guest;
use crate::limits::{PROBATION, SLOW_FIRST_SLICE};
use crate::scan;
use crate::text::{NAME_BYTES, printable, quoted};

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
    /// First slices that are still to run detached.
    detached: AtomicU32,
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
        let compiled =
            wt::Module::from_binary(&engine.inner, wasm).map_err(|error| described("does not compile", &error))?;
        refuse(audit(&compiled))?;
        let pre = engine.linker.instantiate_pre(&compiled).map_err(|error| described("does not fit ABI 1", &error))?;
        let Some(memory) = compiled.get_export_index("memory") else {
            return Err("exports no memory".to_owned().into());
        };
        let initialize = compiled.get_export_index("_initialize");
        Ok(Self { pre, memory, initialize, detached: AtomicU32::new(1) })
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
            _ => Some(format!(
                "exports {} as something else than a function without parameters and results",
                quoted(name)
            )),
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

    /// Whether a driver that holds a lock (Python's GIL) should give it up before the first slice: a first
    /// slice of this module took long, and not enough others have been quick since; or there was none yet.
    pub fn starts_detached(&self) -> bool {
        self.detached.load(Ordering::Relaxed) > 0
    }

    /// Takes note of a first slice. A race between two threads costs one count.
    pub(crate) fn first_slice_took(&self, time: Duration) {
        let left = match self.detached.load(Ordering::Relaxed) {
            _ if time > SLOW_FIRST_SLICE => PROBATION,
            left => left.saturating_sub(1),
        };
        self.detached.store(left, Ordering::Relaxed);
    }
}

fn refuse(problems: Vec<String>) -> Result<(), ModuleError> {
    if problems.is_empty() { Ok(()) } else { Err(ModuleError { problems }) }
}

fn described(what: &str, error: &wt::Error) -> ModuleError {
    printable(format!("{what}: {error:#}").as_bytes(), 1024).into()
}

/// What the scan can't see, as it needs types.
fn audit(module: &wt::Module) -> Vec<String> {
    let initialize = module.get_export("_initialize");
    let is_plain =
        initialize.is_none_or(|export| export.func().is_some_and(|ty| ty.params().len() + ty.results().len() == 0));
    let problem = r#"exports "_initialize" as something else than a function without parameters and results"#;
    if is_plain { Vec::new() } else { vec![problem.into()] }
}
