//! Working without the GIL, while forks wait.

use fuseboard_core as core;
use pyo3::prelude::*;

pub(crate) fn detached<T: Send>(py: Python<'_>, work: impl FnOnce() -> T + Send) -> T {
    py.detach(|| {
        let _working = core::fork::working();
        work()
    })
}
