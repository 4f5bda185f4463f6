//! What moving an execution on gives: one frozen class a kind.

use fuseboard_core as core;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple};

type Frame = (Option<String>, u32, Option<usize>);

/// The guest returned.
#[pyclass(frozen, get_all, module = "fuseboard._core")]
pub struct Completed {
    output: Option<Py<PyBytes>>,
    fuel: u64,
    memory_bytes: usize,
    logs: Py<PyTuple>,
}

/// The guest waits for an answer.
#[pyclass(frozen, get_all, module = "fuseboard._core")]
pub struct Suspended {
    call: Py<PyString>,
    parts: Py<PyTuple>,
    number: i64,
    logs: Py<PyTuple>,
}

/// The slice is over.
#[pyclass(frozen, get_all, module = "fuseboard._core")]
pub struct Running {
    logs: Py<PyTuple>,
}

/// The guest was ended.
#[pyclass(frozen, get_all, module = "fuseboard._core")]
pub struct Trapped {
    cause: &'static str,
    limit: Option<String>,
    detail: String,
    backtrace: Vec<Frame>,
    fuel: u64,
    fuel_exact: bool,
    memory_bytes: usize,
    logs: Py<PyTuple>,
}

pub(crate) fn to_python(py: Python<'_>, step: core::Step) -> PyResult<Py<PyAny>> {
    let logs = logs(py, step.logs)?;
    match step.kind {
        core::StepKind::Completed(output, usage) => {
            let output = output.map(|bytes| PyBytes::new(py, &bytes).unbind());
            let step = Completed { output, fuel: usage.fuel, memory_bytes: usage.memory_bytes, logs };
            Ok(Py::new(py, step)?.into_any())
        }
        core::StepKind::Suspended(call) => {
            let parts = PyTuple::new(py, call.parts.iter().map(|part| PyBytes::new(py, part)))?.unbind();
            let name = PyString::intern(py, call.import).unbind();
            Ok(Py::new(py, Suspended { call: name, parts, number: call.number, logs })?.into_any())
        }
        core::StepKind::Running => Ok(Py::new(py, Running { logs })?.into_any()),
        core::StepKind::Trapped(trap, usage) => Ok(Py::new(py, trapped(trap, usage, logs))?.into_any()),
    }
}

fn logs(py: Python<'_>, lines: Vec<core::LogLine>) -> PyResult<Py<PyTuple>> {
    if lines.is_empty() {
        return Ok(PyTuple::empty(py).unbind());
    }
    Ok(PyTuple::new(py, lines.into_iter().map(|line| (line.level, line.text)))?.unbind())
}

fn trapped(trap: core::Trap, usage: core::Usage, logs: Py<PyTuple>) -> Trapped {
    Trapped {
        cause: cause_name(trap.cause),
        limit: trap.limit.map(Into::into),
        detail: trap.detail,
        backtrace: trap.backtrace.into_iter().map(|frame| (frame.function, frame.index, frame.offset)).collect(),
        fuel: usage.fuel,
        fuel_exact: usage.fuel_is_exact,
        memory_bytes: usage.memory_bytes,
        logs,
    }
}

fn cause_name(cause: core::Cause) -> &'static str {
    match cause {
        core::Cause::Limit => "limit",
        core::Cause::Crash => "crash",
        core::Cause::Failed => "failed",
        core::Cause::BadOutput => "bad_output",
        core::Cause::BadPointer => "bad_pointer",
        core::Cause::Interrupted => "interrupted",
        core::Cause::Saturated => "saturated",
    }
}
