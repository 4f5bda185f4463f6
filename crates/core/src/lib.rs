//! Runs WebAssembly guests behind a memory, a fuel and a clock limit, and knows nothing else.
//!
//! The types, in the order in which one invocation meets them:
//!
//! | type | is |
//! |---|---|
//! | [`Engine`] | the compiler and the pool of memories, tables and stacks |
//! | [`Module`] | a guest that was scanned, compiled, audited and linked; shared by its invocations |
//! | [`Entry`] | one export of a module with the limits, caps and settings that its invocations share |
//! | [`Execution`] | the guest computation of one invocation, with an instance of its own |
//! | [`Turn`] | the right to move an execution on; there is one at a time |
//! | [`Step`] | what moving on gave: completed, suspended at a host call, running, trapped |
//!
//! Rules:
//! * Nothing of a guest runs before memory, fuel and clock are watched, start functions included.
//! * Fuel is the clock: every [`limits::PULSE_FUEL`] the guest gives a pulse, at which deadline and
//!   interrupt are looked at. Imports look and pulse by themselves.
//! * The host never calls back into a running guest. A host call parks the guest until it is answered.
//! * Forks wait for guests at work, and executions stay in the process in which they began ([`fork`]).
//! * Each cause has a type; nothing is inferred from a message or from what is left of a meter.

mod abi;
mod artifact;
mod bounds;
mod content;
mod cost;
mod demangle;
mod engine;
mod exchange;
mod execution;
mod figures;
pub mod fork;
mod guest;
mod import;
mod kind;
pub mod limits;
mod memory;
mod module;
mod report;
mod scan;
mod segments;
mod shape;
mod snapshot;
mod snapshot_image;
mod snapshot_plan;
mod snapshot_rewrite;
mod snapshot_run;
mod surroundings;
mod text;
mod trap;
mod wasi;
mod wasi_calls;
mod wasi_poll;

pub use abi::{HOST_CALLS, IMPORT_MODULE, IMPORTS};
pub use artifact::{ArtifactError, compile, fingerprint};
pub use bounds::{BOUNDS, Bound};
pub use engine::{Engine, EngineConfig, EngineError, Target};
pub use exchange::{Answer, HostCall, LogLine};
pub use execution::{Entry, Execution, Input, MoveError, Step, StepKind, Turn, Usage};
pub use kind::FileKind;
pub use module::{Module, ModuleError};
pub use report::{Exported, Figure, Function, Imported, Report, Section, inspect};
pub use scan::scan;
pub use snapshot::{Budget, CHEAP_FUEL, REFUSALS, Refusal, Snapshot, Taken, snapshot};
pub use surroundings::{FIRST_READING, Surroundings, System};
pub use text::is_printable;
pub use trap::{Cause, Frame, Trap};
pub use wasi::{CLOCK_TICK, WASI_MODULE, wasi_functions};
pub use wasi_poll::SLEEP;
