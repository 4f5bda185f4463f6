//! How an execution ends abnormally: one type a cause.

use std::borrow::Cow;

use wasmtime as wt;

use crate::demangle::demangled;
use crate::limits;
use crate::text::{NAME_BYTES, printable};

/// Why an execution was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A limit was reached; [`Trap::limit`] names it.
    Limit,
    /// The guest trapped, or the engine gave it up.
    Crash,
    /// The guest called `fail`, or exited with a code of failure or before its hook was called.
    Failed,
    /// The guest wrote more output than the cap allows.
    BadOutput,
    /// The guest passed an import something that the ABI doesn't know: a pointer outside its memory,
    /// an unknown buffer or log level.
    BadPointer,
    /// [`crate::Execution::interrupt`] was called.
    Interrupted,
    /// The pool, or the operating system, had no room for the instance; nothing of the guest ran.
    Saturated,
}

/// One line of a guest's backtrace, innermost first.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The function's name from the module's name section, made printable.
    pub function: Option<String>,
    /// The function's index in the module.
    pub index: u32,
    /// Where in the module's file it was, in bytes.
    pub offset: Option<usize>,
}

/// What ended an execution.
#[derive(Clone, Debug)]
pub struct Trap {
    /// The cause.
    pub cause: Cause,
    /// Which limit, where the cause is one.
    pub limit: Option<Cow<'static, str>>,
    /// One sentence; guest text in it is capped and printable.
    pub detail: String,
    /// Where the guest was. Empty where the clock or an interrupt stopped it between two calls.
    pub backtrace: Vec<Frame>,
}

/// The error that a guest ends itself with, and its exit code.
#[derive(Debug)]
pub(crate) struct Exited(pub(crate) u32);

impl std::fmt::Display for Exited {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "the guest exited with code {}", self.0.cast_signed())
    }
}

impl std::error::Error for Exited {}

/// The error that imports and the memory meter end a guest with.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) cause: Cause,
    pub(crate) limit: Option<Cow<'static, str>>,
    pub(crate) detail: String,
}

impl Ended {
    pub(crate) fn because(cause: Cause, detail: impl Into<String>) -> wt::Error {
        wt::Error::new(Self { cause, limit: None, detail: detail.into() })
    }

    pub(crate) fn tripped(limit: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> wt::Error {
        wt::Error::new(Self { cause: Cause::Limit, limit: Some(limit.into()), detail: detail.into() })
    }

    pub(crate) fn out_of_fuel() -> wt::Error {
        Self::tripped(limits::FUEL, "")
    }

    pub(crate) fn out_of_time() -> wt::Error {
        Self::tripped(limits::TIMEOUT, "")
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.detail)
    }
}

impl std::error::Error for Ended {}

impl Trap {
    pub(crate) fn from_error(error: &wt::Error) -> Self {
        let (cause, limit, detail) = cause_of(error);
        Self { cause, limit, detail, backtrace: backtrace_of(error) }
    }

    /// Returns the trap with the places of a file in which the code stands so many bytes less far.
    pub(crate) fn shifted_by(mut self, code_shift: i64) -> Self {
        for frame in &mut self.backtrace {
            let offset = frame.offset.and_then(|offset| offset.checked_sub_signed(code_shift as isize));
            frame.offset = offset;
        }
        self
    }

    pub(crate) fn from_panic(payload: &(dyn std::any::Any + Send)) -> Self {
        let text = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        Self {
            cause: Cause::Crash,
            limit: None,
            detail: format!("the engine gave up: {}", printable(text.as_bytes(), 512)),
            backtrace: Vec::new(),
        }
    }

    /// Whether the fuel spent is known exactly: a guest that crashes, or asks for memory that it
    /// doesn't get, takes what it spent since the last call, loop or pulse along.
    pub(crate) fn fuel_is_exact(&self) -> bool {
        self.cause != Cause::Crash && self.limit.as_deref() != Some(limits::MEMORY)
    }
}

fn cause_of(error: &wt::Error) -> (Cause, Option<Cow<'static, str>>, String) {
    if let Some(ended) = error.downcast_ref::<Ended>() {
        return (ended.cause, ended.limit.clone(), ended.detail.clone());
    }
    if let Some(exited) = error.downcast_ref::<Exited>() {
        return (Cause::Failed, None, exited.to_string());
    }
    if let Some(wt::Trap::OutOfFuel) = error.downcast_ref::<wt::Trap>() {
        return (Cause::Limit, Some(limits::FUEL.into()), String::new());
    }
    let cause = if is_lack_of_room(error) { Cause::Saturated } else { Cause::Crash };
    (cause, None, printable(error.root_cause().to_string().as_bytes(), 512))
}

fn is_lack_of_room(error: &wt::Error) -> bool {
    let out_of_memory = |error: &(dyn std::error::Error + 'static)| {
        error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::OutOfMemory)
    };
    error.is::<wt::PoolConcurrencyLimitError>() || error.chain().any(out_of_memory)
}

fn backtrace_of(error: &wt::Error) -> Vec<Frame> {
    let Some(backtrace) = error.downcast_ref::<wt::WasmBacktrace>() else {
        return Vec::new();
    };
    backtrace
        .frames()
        .iter()
        .map(|frame| Frame {
            function: frame.func_name().map(|name| printable(demangled(name).as_bytes(), NAME_BYTES)),
            index: frame.func_index(),
            offset: frame.module_offset(),
        })
        .collect()
}
