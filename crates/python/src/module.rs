//! `Engine` and `Module`, and what makes modules.

use std::fs::File;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use fuseboard_core as core;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::ModuleRefused;
use crate::fork::detached;

/// Compiles modules and lends them memory.
#[pyclass(frozen, module = "fuseboard._core")]
pub struct Engine {
    inner: core::Engine,
}

#[pymethods]
impl Engine {
    #[new]
    fn new(py: Python<'_>, memory_ceiling_bytes: usize, slots: u32) -> PyResult<Self> {
        let config = core::EngineConfig { memory_ceiling_bytes, slots };
        let inner = detached(py, || core::Engine::new(config));
        inner.map(|inner| Self { inner }).map_err(|error| PyRuntimeError::new_err(error.to_string()))
    }

    #[getter]
    fn pool_problem(&self) -> Option<&str> {
        self.inner.pool_problem()
    }

    #[getter]
    fn memory_ceiling_bytes(&self) -> usize {
        self.inner.target().memory_ceiling_bytes
    }

    #[getter]
    fn fingerprint<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &core::fingerprint(&self.inner))
    }
}

/// A guest that was scanned, compiled, audited and linked.
#[pyclass(frozen, module = "fuseboard._core")]
pub struct Module {
    pub(crate) inner: Arc<core::Module>,
}

#[pymethods]
impl Module {
    #[new]
    fn new(py: Python<'_>, engine: &Engine, wasm: &[u8]) -> PyResult<Self> {
        let compiled = detached(py, || core::Module::new(&engine.inner, wasm));
        compiled.map(|module| Self { inner: Arc::new(module) }).map_err(refused)
    }

    #[staticmethod]
    fn from_file(py: Python<'_>, engine: &Engine, descriptor: i32) -> PyResult<Self> {
        let file = copied(descriptor)?;
        let mapped = detached(py, || core::Module::from_file(&engine.inner, file));
        mapped.map(|module| Self { inner: Arc::new(module) }).map_err(not_made)
    }

    #[staticmethod]
    fn from_artifact(py: Python<'_>, engine: &Engine, artifact: &[u8]) -> PyResult<Self> {
        let loaded = detached(py, || core::Module::from_artifact(&engine.inner, artifact));
        loaded.map(|module| Self { inner: Arc::new(module) }).map_err(not_made)
    }

    #[getter]
    fn imports(&self) -> Vec<&str> {
        self.inner.imports()
    }

    #[getter]
    fn hook_exports(&self) -> Vec<String> {
        self.inner.hook_exports()
    }

    fn export_problem(&self, name: &str) -> Option<String> {
        self.inner.export_problem(name)
    }
}

/// Compiles a module that was scanned, for engines of a kind.
#[pyfunction]
pub fn compile<'py>(
    py: Python<'py>,
    wasm: &[u8],
    memory_ceiling_bytes: usize,
    is_pooled: bool,
) -> PyResult<Bound<'py, PyBytes>> {
    let target = core::Target { memory_ceiling_bytes, is_pooled };
    let artifact = detached(py, || core::compile(target, wasm)).map_err(not_made)?;
    Ok(PyBytes::new(py, &artifact))
}

/// Has this process end with the thread that began it.
#[pyfunction]
pub fn end_with_parent() {
    core::fork::end_with_parent();
}

/// Looks at a module without compiling it.
#[pyfunction]
pub fn scan(py: Python<'_>, wasm: &[u8], memory_ceiling_bytes: usize) -> PyResult<()> {
    detached(py, || core::scan(wasm, memory_ceiling_bytes)).map_err(refused)
}

/// Returns a file of its own for what a descriptor stands for.
fn copied(descriptor: i32) -> PyResult<File> {
    if descriptor < 0 {
        return Err(PyValueError::new_err("a file descriptor is not negative"));
    }
    #[expect(unsafe_code, reason = "Python names files by number")]
    // Safety: the number isn't -1, and a closed one is only an error of `dup`.
    let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
    Ok(File::from(borrowed.try_clone_to_owned()?))
}

fn not_made(error: core::ArtifactError) -> PyErr {
    match error {
        core::ArtifactError::Module(error) => refused(error),
        core::ArtifactError::Engine(error) => PyRuntimeError::new_err(error.to_string()),
        core::ArtifactError::Unfit(problem) => PyValueError::new_err(problem),
    }
}

pub(crate) fn refused(error: core::ModuleError) -> PyErr {
    ModuleRefused::new_err(error.problems)
}
