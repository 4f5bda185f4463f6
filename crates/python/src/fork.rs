//! Working without the GIL, and what forks mean for it.

use fuseboard_core as core;
use pyo3::prelude::*;

/// Works without the GIL, while forks wait.
pub(crate) fn detached<T: Send>(py: Python<'_>, work: impl FnOnce() -> T + Send) -> T {
    py.detach(|| {
        let _working = core::fork::working();
        work()
    })
}

/// Waits for all that works without the GIL. The GIL is kept: who has done its work needs it only afterwards.
#[pyfunction]
pub fn before_fork() {
    core::fork::before();
}

/// Lets work go on in the parent.
#[pyfunction]
pub fn after_fork_in_parent() {
    core::fork::after_in_parent();
}

/// Lets work go on in the child, where every execution there is has become the parent's.
#[pyfunction]
pub fn after_fork_in_child() {
    core::fork::after_in_child();
}
