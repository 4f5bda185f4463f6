//! `Entry` and `Execution`: where the GIL is kept for the first slice and given up for the others.

use std::time::{Duration, Instant};

use fuseboard_core as core;
use pyo3::prelude::*;

use crate::module::{Module, refused};
use crate::step::to_python;
use crate::{InstanceBusy, UsageError};

/// A day, in seconds: longer than any timeout, short enough to be added to any instant.
const LONGEST_SECONDS: f64 = 86_400.0;

/// An export with everything that its invocations share.
#[pyclass(frozen, module = "fuseboard._core")]
pub struct Entry {
    inner: core::Entry,
}

#[pymethods]
impl Entry {
    #[new]
    #[pyo3(signature = (module, export, *, settings, memory_bytes, fuel, output_bytes, request_bytes, log_bytes))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments on the Python side")]
    fn new(
        module: &Module,
        export: &str,
        settings: &[u8],
        memory_bytes: usize,
        fuel: u64,
        output_bytes: usize,
        request_bytes: usize,
        log_bytes: usize,
    ) -> PyResult<Self> {
        let limits = core::limits::Limits { memory_bytes, fuel };
        let caps = core::limits::Caps { output_bytes, request_bytes, log_bytes };
        let entry = core::Entry::new(module.inner.clone(), export, settings, limits, caps);
        entry.map(|inner| Self { inner }).map_err(refused)
    }

    fn begin(&self, value: &[u8], context: &[u8], call_info: &[u8], seconds: f64) -> Execution {
        let input = core::Input { value: value.to_vec(), context: context.to_vec(), call_info: call_info.to_vec() };
        let seconds = if seconds.is_nan() { 0.0 } else { seconds.clamp(0.0, LONGEST_SECONDS) };
        Execution { inner: self.inner.begin(input, Instant::now() + Duration::from_secs_f64(seconds)) }
    }
}

/// One instance at work.
#[pyclass(frozen, module = "fuseboard._core")]
pub struct Execution {
    inner: core::Execution,
}

#[pymethods]
impl Execution {
    fn resume(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.move_on(py, |turn| turn.go_on())
    }

    fn answer(&self, py: Python<'_>, code: i64, head: &[u8], body: &[u8]) -> PyResult<Py<PyAny>> {
        let answer = core::Answer { code, head: head.to_vec(), body: body.to_vec() };
        self.move_on(py, |turn| turn.answer(answer))
    }

    fn trip(&self, py: Python<'_>, limit: String) -> PyResult<Py<PyAny>> {
        self.move_on(py, |turn| turn.trip(limit))
    }

    fn interrupt(&self) {
        self.inner.interrupt();
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.inner.close());
    }
}

impl Drop for Execution {
    /// Gives the guest's memory back without the GIL: it can take milliseconds.
    fn drop(&mut self) {
        if !self.inner.has_ended() {
            Python::try_attach(|py| py.detach(|| self.inner.close()));
        }
    }
}

impl Execution {
    fn move_on(
        &self,
        py: Python<'_>,
        prepare: impl FnOnce(&core::Turn<'_>) -> Result<(), core::MoveError>,
    ) -> PyResult<Py<PyAny>> {
        let turn = self.inner.turn().map_err(misused)?;
        prepare(&turn).map_err(misused)?;
        let step = slices(py, &turn);
        if self.inner.is_closed() {
            py.detach(|| drop(turn));
        }
        to_python(py, step)
    }
}

/// Runs the first slice, with the GIL held where the module is known to behave, and one later slice
/// without it where the guest isn't through by then.
fn slices(py: Python<'_>, turn: &core::Turn<'_>) -> core::Step {
    if !turn.is_fresh() {
        return py.detach(|| turn.later_slice());
    }
    let first = if turn.starts_detached() { py.detach(|| turn.first_slice()) } else { turn.first_slice() };
    match first.kind {
        core::StepKind::Running => py.detach(|| turn.later_slice()).after(first.logs),
        _ => first,
    }
}

fn misused(error: core::MoveError) -> PyErr {
    match error {
        core::MoveError::Busy => InstanceBusy::new_err(()),
        core::MoveError::Ended => UsageError::new_err("this execution has ended"),
        core::MoveError::NeedsAnswer => UsageError::new_err("this execution waits for an answer to its host call"),
        core::MoveError::NeedsNoAnswer => UsageError::new_err("this execution waits for no answer"),
    }
}
