//! A guest that was scanned, compiled, audited and linked.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use wasmtime as wt;

use crate::engine::Engine;
use crate::guest::Guest;
use crate::limits::{LONGEST_PROBATION, PROBATION, SLOW_FIRST_SLICE};
use crate::scan::scan;
use crate::text::{NAME_BYTES, printable, quoted};

/// The export that initialises a reactor.
pub(crate) const INITIALIZE: &str = "_initialize";

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
    behaviour: Behaviour,
}

/// How quick a module's first slices were. A race between two threads can cost a count, and no slow slice.
struct Behaviour {
    /// Quick first slices in a row.
    quick: AtomicU32,
    /// How many it takes until a driver can keep its lock in the next.
    needed: AtomicU32,
}

impl Behaviour {
    fn unknown() -> Self {
        Self { quick: AtomicU32::new(0), needed: AtomicU32::new(1) }
    }

    fn is_quick(&self) -> bool {
        self.quick.load(Ordering::Relaxed) >= self.needed.load(Ordering::Relaxed)
    }

    fn took(&self, time: Duration) {
        if time > SLOW_FIRST_SLICE {
            let needed = self.needed.load(Ordering::Relaxed);
            self.needed.store((needed * 2).clamp(PROBATION, LONGEST_PROBATION), Ordering::Relaxed);
            self.quick.store(0, Ordering::Relaxed);
            return;
        }
        // Not a store, which could undo another thread's 0. After 4 billion it begins anew, as after a first slice.
        if self.quick.fetch_add(1, Ordering::Relaxed).wrapping_add(1) >= LONGEST_PROBATION {
            self.needed.store(1, Ordering::Relaxed);
        }
    }
}

impl Module {
    /// Scans, compiles, audits and links a module. Takes a millisecond and more: compiling is work.
    ///
    /// # Errors
    /// The bytes are no core module, break a bound of the scan, don't compile, import what the ABI
    /// doesn't have, or lack the `memory` export. All problems of a stage are named at once.
    pub fn new(engine: &Engine, wasm: &[u8]) -> Result<Self, ModuleError> {
        scan(wasm, engine.config().memory_ceiling_bytes)?;
        Self::linked(engine, &compiled(|| wt::Module::from_binary(&engine.inner, wasm))?)
    }

    /// Audits and links compiled code.
    pub(crate) fn linked(engine: &Engine, compiled: &wt::Module) -> Result<Self, ModuleError> {
        refuse(audit(compiled))?;
        let pre = engine.linker.instantiate_pre(compiled).map_err(|error| described("does not fit ABI 1", &error))?;
        let Some(memory) = compiled.get_export_index("memory") else {
            return Err("exports no memory".to_owned().into());
        };
        let initialize = compiled.get_export_index(INITIALIZE);
        Ok(Self { pre, memory, initialize, behaviour: Behaviour::unknown() })
    }

    /// The names of the ABI's imports that the module uses.
    pub fn imports(&self) -> Vec<&str> {
        self.pre.module().imports().map(|import| import.name()).collect()
    }

    /// Returns what is wrong with an export as a hook's, or `None`.
    pub fn export_problem(&self, name: &str) -> Option<String> {
        self.plain_export(name).err().map(|error| error.to_string())
    }

    pub(crate) fn plain_export(&self, name: &str) -> Result<wt::ModuleExport, ModuleError> {
        plain_export(self.pre.module(), name)
    }

    /// The names of all exported functions without parameters and results, made printable.
    pub fn hook_exports(&self) -> Vec<String> {
        let module = self.pre.module();
        module
            .exports()
            .map(|export| export.name())
            .filter(|name| *name != INITIALIZE && self.export_problem(name).is_none())
            .map(|name| printable(name.as_bytes(), NAME_BYTES))
            .collect()
    }

    /// Whether a driver that holds a lock (Python's GIL) should give it up before the first slice: a first
    /// slice of this module took long, and not enough others have been quick since; or there was none yet.
    pub fn starts_detached(&self) -> bool {
        !self.behaviour.is_quick()
    }

    /// Takes note of a first slice.
    pub(crate) fn first_slice_took(&self, time: Duration) {
        self.behaviour.took(time);
    }
}

pub(crate) fn refuse(problems: Vec<String>) -> Result<(), ModuleError> {
    if problems.is_empty() { Ok(()) } else { Err(ModuleError { problems }) }
}

/// Compiles: an error of the compiler, or its panic, is the module's.
pub(crate) fn compiled<T>(compile: impl FnOnce() -> wt::Result<T>) -> Result<T, ModuleError> {
    match std::panic::catch_unwind(AssertUnwindSafe(compile)) {
        Ok(result) => result.map_err(|error| described("does not compile", &error)),
        Err(_) => Err("makes the compiler panic".to_owned().into()),
    }
}

fn described(what: &str, error: &wt::Error) -> ModuleError {
    printable(format!("{what}: {error:#}").as_bytes(), 1024).into()
}

/// What the scan can't see, as it needs types.
fn audit(module: &wt::Module) -> Vec<String> {
    let has_initialize = module.get_export(INITIALIZE).is_some();
    let problem = has_initialize.then(|| plain_export(module, INITIALIZE).err()).flatten();
    problem.map_or_else(Vec::new, |error| error.problems)
}

/// Resolves an export that is a function without parameters and results.
pub(crate) fn plain_export(module: &wt::Module, name: &str) -> Result<wt::ModuleExport, ModuleError> {
    let (Some(found), Some(index)) = (module.get_export(name), module.get_export_index(name)) else {
        return Err(format!("exports no {}", quoted(name)).into());
    };
    match found.func() {
        Some(ty) if ty.params().len() + ty.results().len() == 0 => Ok(index),
        _ => {
            let what = "as something else than a function without parameters and results";
            Err(format!("exports {} {what}", quoted(name)).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(behaviour: &Behaviour, quick: u32) -> bool {
        (0..quick).for_each(|_| behaviour.took(Duration::ZERO));
        behaviour.is_quick()
    }

    /// A module isn't known to be quick before its first slice; a slow one takes 8 quick ones, recurring ones more.
    #[test]
    fn slow_slices_that_recur_take_longer_to_forget() {
        let behaviour = Behaviour::unknown();
        assert!(!behaviour.is_quick());
        assert!(after(&behaviour, 1));
        for needed in [8, 16, 32, 64, 128, 256, 512, 1_000, 1_000] {
            behaviour.took(SLOW_FIRST_SLICE * 2);
            assert!(!after(&behaviour, needed - 1), "{needed}");
            if needed < LONGEST_PROBATION {
                assert!(after(&behaviour, 1), "{needed}");
            }
        }
    }

    /// 1,000 quick slices in a row make up for all that was before.
    #[test]
    fn behaving_for_long_is_rewarded() {
        let behaviour = Behaviour::unknown();
        (0..20).for_each(|_| behaviour.took(SLOW_FIRST_SLICE * 2));
        assert!(!after(&behaviour, LONGEST_PROBATION - 1));
        assert!(after(&behaviour, 1));
        behaviour.took(SLOW_FIRST_SLICE * 2);
        assert!(after(&behaviour, PROBATION));
    }
}
