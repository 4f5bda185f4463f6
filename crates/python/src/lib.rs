//! `fuseboard._core`: the Python skin of `fuseboard-core`. Conversion and the GIL, no decisions.
//!
//! `python/fuseboard/_core.pyi` documents every name; a test holds the two together.

mod execution;
mod fork;
mod inspection;
mod module;
mod snapshot;
mod step;

use pyo3::import_exception;
use pyo3::prelude::*;

import_exception!(fuseboard._errors, InstanceBusy);
import_exception!(fuseboard._errors, ModuleRefused);
import_exception!(fuseboard._errors, UsageError);

/// The Rust core.
#[pymodule]
mod _core {
    #[pymodule_export]
    use super::execution::{Entry, Execution};
    #[pymodule_export]
    use super::inspection::{Inspection, inspect};
    #[pymodule_export]
    use super::module::{Engine, Module, compile, end_with_parent, scan};
    #[pymodule_export]
    use super::snapshot::{Snapshot, snapshot};
    #[pymodule_export]
    use super::step::{Completed, Running, Suspended, Trapped};

    use fuseboard_core as core;
    use pyo3::prelude::*;

    /// Adds the tables that Python is held to.
    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("VERSION", env!("CARGO_PKG_VERSION"))?;
        module.add("LIMIT_NAMES", core::limits::LIMIT_NAMES)?;
        module.add("IMPORT_MODULE", core::IMPORT_MODULE)?;
        module.add("IMPORTS", core::IMPORTS)?;
        module.add("SLEEP", core::SLEEP)?;
        module.add("WASI_MODULE", core::WASI_MODULE)?;
        module.add("WASI_FUNCTIONS", core::wasi_functions().map(|(name, _)| name).collect::<Vec<_>>())?;
        module.add("HOST_CALLS", core::HOST_CALLS.map(|(name, _)| name))?;
        module.add(
            "BOUNDS",
            core::BOUNDS.iter().map(|bound| (bound.name, bound.most, bound.reason)).collect::<Vec<_>>(),
        )?;
        module.add("SNAPSHOT_REFUSALS", core::REFUSALS)?;
        module.add("CHEAP_FUEL", core::CHEAP_FUEL)?;
        module.add("IMPORT_FUEL", core::limits::IMPORT_FUEL)?;
        module.add("HOST_CALL_FUEL", core::limits::HOST_CALL_FUEL)?;
        module.add("BYTE_FUEL", core::limits::BYTE_FUEL)?;
        module.add("GROW_PAGE_FUEL", core::limits::GROW_PAGE_FUEL)
    }
}
