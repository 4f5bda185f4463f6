//! The inputs that fuzzing starts from: small modules, and inputs that were findings once.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{calling, loading, preview1, scanning, smith};

/// Random modules that loading starts from, beside the written ones. They are too long for the pre-scan, of which short
/// inputs find more in the same time.
const RANDOM_MODULES: u64 = 40;

/// A target, by the name that commands and folders give it.
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// The folder of its kept inputs.
    folder: &'static str,
    /// Runs it on an input's bytes.
    pub run: fn(&[u8]),
    /// Says what an input means.
    pub explain: fn(&[u8]) -> String,
}

/// All targets.
pub const TARGETS: [Target; 4] = [
    Target { name: "scan", folder: "modules", run: scanning::target, explain: scanning::explained },
    Target { name: "load", folder: "modules", run: loading::target, explain: loading::explained },
    Target { name: "abi", folder: "sessions", run: calling::target, explain: calling::explained },
    Target { name: "wasi", folder: "wasi", run: preview1::target, explain: preview1::explained },
];

impl Target {
    /// Finds a target.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn named(name: &str) -> Result<&'static Self, String> {
        let found = TARGETS.iter().find(|target| target.name == name);
        found.ok_or_else(|| format!("there is no target {name:?}; there are scan, load, abi and wasi"))
    }

    /// Reads the inputs that are kept as text in this crate: modules as WAT, other bytes as hexadecimal digits.
    ///
    /// # Errors
    /// A file can't be read, or is not what its name says.
    pub fn kept(&self) -> Result<Vec<(PathBuf, Vec<u8>)>, String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("inputs").join(self.folder);
        let files = fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let mut paths: Vec<_> = files.flatten().map(|file| file.path()).collect();
        paths.sort();
        paths.into_iter().map(|path| read(&path).map(|bytes| (path, bytes))).collect()
    }

    /// Gives the inputs that fuzzing starts from, each with a name for its file.
    ///
    /// # Errors
    /// As of [`Self::kept`].
    pub fn seeds(&self) -> Result<Vec<(String, Vec<u8>)>, String> {
        let kept = self.kept()?.into_iter();
        let mut seeds: Vec<_> = kept.map(|(path, bytes)| (stem(&path), bytes)).collect();
        if self.name == "load" {
            for number in 0..RANDOM_MODULES {
                seeds.push((format!("smith-{number}"), smith::module(0, number)?));
            }
        }
        Ok(seeds)
    }
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let wrong = |problem: String| format!("{}: {problem}", path.display());
    let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("wat") => wat::parse_str(&text).map_err(|error| wrong(error.to_string())),
        Some("hex") => from_hex(&text).ok_or_else(|| wrong("is not pairs of hexadecimal digits".into())),
        _ => Err(wrong("is neither .wat nor .hex".into())),
    }
}

/// Reads hexadecimal digits; lines that begin with `#` say why the input is kept.
fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: String = text.lines().filter(|line| !line.starts_with('#')).flat_map(str::split_whitespace).collect();
    let digits: Option<Vec<u8>> = digits.chars().map(|digit| Some(digit.to_digit(16)? as u8)).collect();
    let (pairs, rest) = digits.as_ref()?.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

/// Writes bytes as hexadecimal digits, 32 bytes a line.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    let line = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n";
    bytes.chunks(32).map(line).collect()
}
