//! `Engine` and `Module`.

use std::sync::Arc;

use fuseboard_core as core;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

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

pub(crate) fn refused(error: core::ModuleError) -> PyErr {
    ModuleRefused::new_err(error.problems)
}
