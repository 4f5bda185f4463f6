//! Compiled modules outside of the process that compiled them.
//!
//! Rule: whoever loads an artifact answers for where it comes from. Its code runs in this process as it is: neither
//! the fuses nor the sandbox are around it, they are in it.

use std::fs::File;
use std::hash::{Hash, Hasher};

use wasmtime as wt;

use crate::engine::{Engine, EngineError, Target};
use crate::module::{Module, ModuleError, compiled};

/// Why an artifact wasn't made, or can't be used.
#[derive(Debug)]
pub enum ArtifactError {
    /// The module can't be a plugin.
    Module(ModuleError),
    /// The platform has no compiler.
    Engine(EngineError),
    /// The file isn't an artifact for this engine: it was cut, or made for another one.
    Unfit(String),
}

impl From<ModuleError> for ArtifactError {
    fn from(error: ModuleError) -> Self {
        Self::Module(error)
    }
}

impl std::fmt::Display for ArtifactError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Module(error) => error.fmt(formatter),
            Self::Engine(error) => error.fmt(formatter),
            Self::Unfit(problem) => formatter.write_str(problem),
        }
    }
}

impl std::error::Error for ArtifactError {}

/// Compiles a module that was scanned for a target, and returns the artifact.
///
/// # Errors
/// The module is refused by the compiler, or there is none.
pub fn compile(target: Target, wasm: &[u8]) -> Result<Vec<u8>, ArtifactError> {
    let compiler = target.compiler().map_err(ArtifactError::Engine)?;
    Ok(compiled(|| compiler.precompile_module(wasm))?)
}

/// What an engine's artifacts depend on beside the module: the compiler, its version and settings, the
/// processor's features. Where two fingerprints are equal, one's artifacts fit the other.
pub fn fingerprint(engine: &Engine) -> Vec<u8> {
    let mut written = Written(Vec::new());
    engine.inner.precompile_compatibility_hash().hash(&mut written);
    written.0
}

impl Module {
    /// Maps an artifact that [`compile`] made, audits and links it. The file must not change while the module lives.
    ///
    /// # Errors
    /// The artifact doesn't fit the engine, its file may not be run, or the module can't be a plugin.
    pub fn from_file(engine: &Engine, artifact: File) -> Result<Self, ArtifactError> {
        #[expect(unsafe_code, reason = "code from outside can't be checked, only be trusted")]
        // Safety: the caller answers for the file: that `compile` made it, and that nobody writes to it.
        let mapped = unsafe { wt::Module::deserialize_open_file(&engine.inner, artifact) };
        Self::from_loaded(engine, mapped)
    }

    /// Copies an artifact that [`compile`] made, audits and links it.
    ///
    /// # Errors
    /// The artifact doesn't fit the engine, or the module can't be a plugin.
    pub fn from_artifact(engine: &Engine, artifact: &[u8]) -> Result<Self, ArtifactError> {
        #[expect(unsafe_code, reason = "code from outside can't be checked, only be trusted")]
        // Safety: the caller answers for the bytes: that `compile` made them.
        let copied = unsafe { wt::Module::deserialize(&engine.inner, artifact) };
        Self::from_loaded(engine, copied)
    }

    fn from_loaded(engine: &Engine, loaded: wt::Result<wt::Module>) -> Result<Self, ArtifactError> {
        let module = loaded.map_err(|error| ArtifactError::Unfit(format!("{error:#}")))?;
        Ok(Self::linked(engine, &module)?)
    }
}

/// Keeps all that is hashed, for a hash of the caller's choice.
struct Written(Vec<u8>);

impl Hasher for Written {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that can't be set up has failed")]
mod tests {
    use std::io::{Seek, Write};

    use super::*;
    use crate::engine::EngineConfig;

    const MIB: usize = 1 << 20;

    fn engine(memory_ceiling_bytes: usize) -> Engine {
        Engine::new(EngineConfig { memory_ceiling_bytes, slots: 1 }).unwrap()
    }

    fn artifact(engine: &Engine) -> Vec<u8> {
        let wasm = wat::parse_str(r#"(module (memory (export "memory") 1) (func (export "run")))"#).unwrap();
        compile(engine.target(), &wasm).unwrap()
    }

    fn loaded(engine: &Engine, bytes: &[u8]) -> Result<Module, ArtifactError> {
        let path = std::env::temp_dir().join(format!("fuseboard-{}-{:p}", std::process::id(), bytes));
        let mut file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        let copied = Module::from_artifact(engine, bytes);
        let mapped = Module::from_file(engine, file);
        assert_eq!(copied.is_ok(), mapped.is_ok());
        mapped
    }

    /// What the compiler without a pool makes fits the engine with one, and bytes behind it don't matter.
    #[test]
    fn artifacts_fit_engines_of_their_target() {
        let engine = engine(4 * MIB);
        let mut bytes = artifact(&engine);
        assert!(loaded(&engine, &bytes).is_ok());
        bytes.extend_from_slice(&[0xff; 100]);
        let module = loaded(&engine, &bytes).unwrap();
        assert_eq!(module.hook_exports(), ["run"]);
    }

    /// An artifact for another ceiling has another fingerprint, and is refused; so is one that was cut.
    #[test]
    fn others_are_unfit() {
        let (small, large) = (engine(4 * MIB), engine(8 * MIB));
        assert_ne!(fingerprint(&small), fingerprint(&large));
        assert_eq!(fingerprint(&small), fingerprint(&engine(4 * MIB)));
        let bytes = artifact(&small);
        assert!(matches!(loaded(&large, &bytes), Err(ArtifactError::Unfit(_))));
        for length in [0, 1, 64, bytes.len() / 2] {
            assert!(matches!(loaded(&small, &bytes[..length]), Err(ArtifactError::Unfit(_))), "{length}");
        }
    }
}
