//! `Entry` and `Execution`: where the GIL is kept for the first slice and given up for the others.

use std::time::{Duration, Instant};

use fuseboard_core as core;
use pyo3::prelude::*;

use crate::fork::detached;
use crate::module::{Module, refused};
use crate::step::to_python;
use crate::{InstanceBusy, UsageError};

/// A day, in seconds: longer than any timeout, short enough to be added to any instant.
const LONGEST_SECONDS: f64 = 86_400.0;
/// What a driver that has nobody else to serve asks for: the first slice, and a later one.
const SLICES: u32 = 2;

/// An export with everything that its invocations share.
#[pyclass(frozen, module = "fuseboard._core")]
pub struct Entry {
    inner: core::Entry,
}

#[pymethods]
impl Entry {
    #[new]
    #[pyo3(signature = (module, export, *, settings, memory_bytes, fuel, output_bytes, request_bytes, log_bytes,
                        initialize = None, code_shift = 0))]
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
        initialize: Option<&str>,
        code_shift: i64,
    ) -> PyResult<Self> {
        let limits = core::limits::Limits { memory_bytes, fuel };
        let caps = core::limits::Caps { output_bytes, request_bytes, log_bytes };
        let entry = core::Entry::new(module.inner.clone(), export, settings, limits, caps).map_err(refused)?;
        let entry = entry.shifted_by(code_shift);
        let entry = match initialize {
            Some(name) => entry.initialised_by(name).map_err(refused)?,
            None => entry,
        };
        Ok(Self { inner: entry })
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
    #[pyo3(signature = (*, slices = SLICES))]
    fn resume(&self, py: Python<'_>, slices: u32) -> PyResult<Py<PyAny>> {
        self.move_on(py, slices, |turn| turn.go_on())
    }

    #[pyo3(signature = (code, head, body, *, slices = SLICES))]
    fn answer(&self, py: Python<'_>, code: i64, head: &[u8], body: &[u8], slices: u32) -> PyResult<Py<PyAny>> {
        let answer = core::Answer { code, head: head.to_vec(), body: body.to_vec() };
        self.move_on(py, slices, |turn| turn.answer(answer))
    }

    #[pyo3(signature = (limit, *, slices = SLICES))]
    fn trip(&self, py: Python<'_>, limit: String, slices: u32) -> PyResult<Py<PyAny>> {
        self.move_on(py, slices, |turn| turn.trip(limit))
    }

    fn interrupt(&self) {
        self.inner.interrupt();
    }

    fn close(&self, py: Python<'_>) {
        close(py, &self.inner);
    }
}

impl Drop for Execution {
    /// Gives the guest's memory back without the GIL: it can take milliseconds.
    fn drop(&mut self) {
        if !self.inner.has_ended() {
            Python::try_attach(|py| close(py, &self.inner));
        }
    }
}

impl Execution {
    fn move_on(
        &self,
        py: Python<'_>,
        slices: u32,
        prepare: impl FnOnce(&core::Turn<'_>) -> Result<(), core::MoveError>,
    ) -> PyResult<Py<PyAny>> {
        let turn = self.inner.turn().map_err(misused)?;
        prepare(&turn).map_err(misused)?;
        let starts_detached = !turn.is_fresh() || self.inner.starts_detached();
        if slices == 0 && starts_detached {
            return to_python(py, core::Step::nothing());
        }
        let step = run(py, &turn, slices, starts_detached);
        if self.inner.is_closed() {
            detached(py, || drop(turn));
        }
        to_python(py, step)
    }
}

/// Runs the first slice, with the GIL held unless `starts_detached`, and later ones without it: as many slices
/// as are asked for, but at least one.
fn run(py: Python<'_>, turn: &core::Turn<'_>, slices: u32, starts_detached: bool) -> core::Step {
    let first = if starts_detached { detached(py, || turn.slice()) } else { turn.slice() };
    if slices <= 1 || !matches!(first.kind, core::StepKind::Running) {
        return first;
    }
    py.detach(|| {
        let mut step = first;
        for _ in 1..slices {
            if !matches!(step.kind, core::StepKind::Running) {
                break;
            }
            let _working = core::fork::working();
            step = turn.slice().after(step.logs);
        }
        step
    })
}

fn close(py: Python<'_>, execution: &core::Execution) {
    detached(py, || execution.close());
}

fn misused(error: core::MoveError) -> PyErr {
    match error {
        core::MoveError::Busy => InstanceBusy::new_err(()),
        core::MoveError::Ended => UsageError::new_err("this execution has ended"),
        core::MoveError::NeedsAnswer => UsageError::new_err("this execution waits for an answer to its host call"),
        core::MoveError::Inherited => {
            UsageError::new_err("this execution began before the process was forked; it goes on in the parent only")
        }
        core::MoveError::NeedsNoAnswer => UsageError::new_err("this execution waits for no answer"),
    }
}
