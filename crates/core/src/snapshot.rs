//! Initialises a module once, when it is loaded, and writes what that leaves behind into the module.
//!
//! Constructors, `_initialize`, a start function or an export of the author's choice run in every instance otherwise:
//! from some µs for C to 16 ms for a large Go program, each time the same.
//!
//! Rules:
//! * What can't be frozen is left as it was, with the reason: it is never wrong, only slow.
//! * A module that was rewritten is a stranger's again: it is scanned as if it had been sent, and validated: a function can
//!   be referred to only because it was exported.

use std::time::Duration;

use wasm_encoder as we;
use wasmtime as wt;

use crate::exchange::LogLine;
use crate::guest::Guest;
use crate::scan::scan;
use crate::snapshot_image::Image;
use crate::snapshot_plan::Plan;
use crate::snapshot_rewrite::{State, WriteError, shown_global, with_globals_shown, with_state};
use crate::snapshot_run::{Initialised, initialised};

/// A [`Budget::cheap_fuel`] at which a snapshot begins to pay: so much runs in some 20 µs.
pub const CHEAP_FUEL: u64 = 50_000;

/// What initialising a module for its snapshot may take.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Fuel.
    pub fuel: u64,
    /// Wall clock, without what compiling takes.
    pub time: Duration,
    /// Linear memory and tables, in bytes; also what the rewritten module is held to.
    pub memory_bytes: usize,
    /// What isn't zero in the memory that is written down, in bytes.
    pub snapshot_bytes: u64,
    /// Initialisation that takes less fuel than this runs in every instance.
    pub cheap_fuel: u64,
}

/// What became of a module's initialisation.
#[derive(Debug)]
pub enum Snapshot {
    /// The module has none.
    Nothing,
    /// It is cheap, and runs in every instance.
    Cheap {
        /// The fuel that it takes.
        fuel: u64,
    },
    /// It ran for all instances.
    Taken(Taken),
    /// It has to run in every instance.
    Refused(Refusal),
}

/// A module that begins where another's initialisation ended.
#[derive(Debug)]
pub struct Taken {
    /// The module, without a start function and the exports that initialised it.
    pub wasm: Vec<u8>,
    /// The fuel that initialising it took.
    pub fuel: u64,
    /// The bytes of memory that were written down.
    pub bytes: u64,
    /// What was logged and printed meanwhile.
    pub logs: Vec<LogLine>,
    /// How many bytes further from the file's beginning the code stands than it did.
    pub code_shift: i64,
}

/// Why a module can't be frozen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// An instruction changes what can't be read from outside: a table, or which segments there are.
    Instruction {
        /// Its name.
        instruction: &'static str,
        /// The function that it stands in.
        function: u32,
    },
    /// A global that can change holds a reference.
    ReferenceGlobal {
        /// The global's number.
        index: u32,
    },
    /// It calls an import that looks at the invocation, asks the host, or sleeps.
    Asks(String),
    /// It ends abnormally.
    Ended(String),
    /// It takes more fuel than the budget has.
    Fuel {
        /// The most that there is.
        most: u64,
    },
    /// It takes more time.
    Time {
        /// The most that there is.
        most: Duration,
    },
    /// It takes more memory.
    Memory {
        /// The most that there is, in bytes.
        most: usize,
    },
    /// It leaves too much behind.
    TooLarge {
        /// The bytes of memory that aren't zero.
        bytes: u64,
        /// The most that may be.
        most: u64,
    },
    /// It leaves memory behind so far apart that code would copy it into every instance, for as much fuel.
    Spread {
        /// The bytes of memory that aren't zero.
        bytes: u64,
    },
    /// The module isn't accepted, before or after it was rewritten.
    NotAccepted(String),
}

/// The names of all kinds of refusal.
pub const REFUSALS: [&str; 10] = [
    "instruction",
    "reference_global",
    "asks",
    "ended",
    "fuel",
    "time",
    "memory",
    "too_large",
    "spread",
    "not_accepted",
];

impl Refusal {
    /// Its kind's name, one of [`REFUSALS`].
    pub fn name(&self) -> &'static str {
        let place = match self {
            Self::Instruction { .. } => 0,
            Self::ReferenceGlobal { .. } => 1,
            Self::Asks(_) => 2,
            Self::Ended(_) => 3,
            Self::Fuel { .. } => 4,
            Self::Time { .. } => 5,
            Self::Memory { .. } => 6,
            Self::TooLarge { .. } => 7,
            Self::Spread { .. } => 8,
            Self::NotAccepted(_) => 9,
        };
        REFUSALS[place]
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Instruction { instruction, function } => {
                write!(formatter, "function {function} has {instruction}, whose effects can't be written down")
            }
            Self::ReferenceGlobal { index } => {
                write!(formatter, "global {index} can change and holds a reference, which can't be written down")
            }
            Self::Asks(import) => {
                write!(formatter, "its initialisation calls {import}, which it can do in an invocation only")
            }
            Self::Ended(detail) => write!(formatter, "its initialisation ends: {detail}"),
            Self::Fuel { most } => write!(formatter, "its initialisation takes more than {most} fuel"),
            Self::Time { most } => write!(formatter, "its initialisation takes more than {} s", most.as_secs_f64()),
            Self::Memory { most } => write!(formatter, "its initialisation takes more than {most} bytes of memory"),
            Self::TooLarge { bytes, most } => {
                write!(formatter, "its initialisation leaves {bytes} bytes in memory; the most is {most}")
            }
            Self::Spread { bytes } => {
                write!(formatter, "its initialisation leaves {bytes} bytes in memory too far apart to be mapped")
            }
            Self::NotAccepted(problem) => write!(formatter, "a snapshot of it can't be a plugin: {problem}"),
        }
    }
}

impl From<WriteError> for Refusal {
    fn from(error: WriteError) -> Self {
        Self::NotAccepted(error.0)
    }
}

/// Initialises a module that was scanned, and writes what that leaves behind into the module, where that can be and
/// is worth it. `named` is the export that its manifest names; it runs after `_initialize`.
///
/// Compiles the module: that is bounded by the scan's bounds only. Beside the instance's memory it takes a few times
/// what the module and its snapshot have.
pub fn snapshot(wasm: &[u8], named: Option<&str>, budget: &Budget) -> Snapshot {
    let plan = match Plan::of(wasm, named) {
        Ok(plan) => plan,
        Err(error) => return Snapshot::Refused(Refusal::NotAccepted(error.to_string())),
    };
    if !plan.initialises() {
        return Snapshot::Nothing;
    }
    taken(wasm, plan, budget).unwrap_or_else(Snapshot::Refused)
}

fn taken(wasm: &[u8], plan: Plan, budget: &Budget) -> Result<Snapshot, Refusal> {
    let Initialised { mut store, instance, fuel, logs } =
        initialised(&with_globals_shown(wasm, &plan)?, &plan, budget)?;
    if fuel < budget.cheap_fuel {
        return Ok(Snapshot::Cheap { fuel });
    }
    if let Some(refusal) = plan.refusal {
        return Err(refusal);
    }
    let globals = plan.globals.iter().map(|index| value(&mut store, &instance, &shown_global(&plan, *index)));
    let globals = globals.collect::<Option<Vec<_>>>().ok_or_else(|| gone("a global"))?;
    let memory = instance.get_memory(&mut store, "memory").ok_or_else(|| gone("the memory"))?;
    let image = Image::of(memory.data(&store));
    let (bytes, most) = (image.bytes, budget.snapshot_bytes);
    if bytes > most {
        return Err(Refusal::TooLarge { bytes, most });
    }
    // What code would copy into every instance costs fuel there, a unit a byte.
    if image.is_copied() && bytes.saturating_add(budget.cheap_fuel) > fuel {
        return Err(Refusal::Spread { bytes });
    }
    let state = State { globals, pages: memory.size(&store), memory: memory.data(&store), image };
    let rewritten = with_state(wasm, &plan, &state)?;
    scan(&rewritten.wasm, budget.memory_bytes).map_err(|error| Refusal::NotAccepted(error.to_string()))?;
    wasmparser::validate(&rewritten.wasm).map_err(|error| Refusal::NotAccepted(error.message().to_owned()))?;
    Ok(Snapshot::Taken(Taken { wasm: rewritten.wasm, fuel, bytes, logs, code_shift: rewritten.code_shift }))
}

fn gone(what: &str) -> Refusal {
    Refusal::NotAccepted(format!("{what} is gone"))
}

fn value(store: &mut wt::Store<Guest>, instance: &wt::Instance, name: &str) -> Option<we::ConstExpr> {
    let value = instance.get_global(&mut *store, name)?.get(&mut *store);
    Some(match value {
        wt::Val::I32(number) => we::ConstExpr::i32_const(number),
        wt::Val::I64(number) => we::ConstExpr::i64_const(number),
        wt::Val::F32(bits) => we::ConstExpr::f32_const(we::Ieee32::new(bits)),
        wt::Val::F64(bits) => we::ConstExpr::f64_const(we::Ieee64::new(bits)),
        wt::Val::V128(bits) => we::ConstExpr::v128_const(bits.as_u128().cast_signed()),
        _ => return None,
    })
}
