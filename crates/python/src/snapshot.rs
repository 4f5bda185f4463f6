//! `snapshot` and what it returns.

use std::time::Duration;

use fuseboard_core as core;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::fork::detached;

/// What became of a module's initialisation.
#[pyclass(frozen, get_all, module = "fuseboard._core")]
#[derive(Default)]
pub struct Snapshot {
    state: &'static str,
    wasm: Option<Py<PyBytes>>,
    fuel: u64,
    frozen_bytes: u64,
    code_shift: i64,
    refusal: Option<&'static str>,
    reason: String,
    logs: Vec<(u8, String)>,
}

/// Initialises a module that was scanned, and writes what that leaves behind into it, where it can.
#[pyfunction]
#[pyo3(signature = (wasm, initialize, *, fuel, seconds, memory_bytes, snapshot_bytes))]
pub fn snapshot(
    py: Python<'_>,
    wasm: &[u8],
    initialize: Option<&str>,
    fuel: u64,
    seconds: u64,
    memory_bytes: usize,
    snapshot_bytes: u64,
) -> Snapshot {
    let time = Duration::from_secs(seconds);
    let budget = core::Budget { fuel, time, memory_bytes, snapshot_bytes, cheap_fuel: core::CHEAP_FUEL };
    match detached(py, || core::snapshot(wasm, initialize, &budget)) {
        core::Snapshot::Nothing => Snapshot { state: "nothing", ..Snapshot::default() },
        core::Snapshot::Cheap { fuel } => Snapshot { state: "cheap", fuel, ..Snapshot::default() },
        core::Snapshot::Refused(refusal) => Snapshot {
            state: "refused",
            refusal: Some(refusal.name()),
            reason: refusal.to_string(),
            ..Snapshot::default()
        },
        core::Snapshot::Taken(taken) => Snapshot {
            state: "taken",
            wasm: Some(PyBytes::new(py, &taken.wasm).unbind()),
            fuel: taken.fuel,
            frozen_bytes: taken.bytes,
            code_shift: taken.code_shift,
            logs: taken.logs.into_iter().map(|line| (line.level, line.text)).collect(),
            ..Snapshot::default()
        },
    }
}
