//! `inputs seed TARGET DIR` writes what fuzzing starts from; `inputs run TARGET FILE` runs a target on one input,
//! `explain` says what it means, and `hex` writes it as text to be kept.
#![allow(clippy::print_stdout, reason = "a command")]

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use fuseboard_fuzz::inputs::{Target, to_hex};

const USAGE: &str = "usage: inputs seed|run|explain|hex scan|load|abi|wasi PATH";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match act(&arguments) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("inputs: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn act(arguments: &[String]) -> Result<String, String> {
    let [verb, target, path] = arguments else { return Err(USAGE.into()) };
    let (target, path) = (Target::named(target)?, Path::new(path));
    match verb.as_str() {
        "seed" => seed(target, path).map(|()| String::new()),
        "run" => read(path).map(|bytes| {
            (target.run)(&bytes);
            "✓ nothing was found\n".into()
        }),
        "explain" => read(path).map(|bytes| (target.explain)(&bytes) + "\n"),
        "hex" => read(path).map(|bytes| to_hex(&bytes)),
        _ => Err(USAGE.into()),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn seed(target: &Target, folder: &Path) -> Result<(), String> {
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for (name, bytes) in target.seeds()? {
        fs::write(folder.join(&name), bytes).map_err(|error| format!("{name}: {error}"))?;
    }
    Ok(())
}
