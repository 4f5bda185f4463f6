//! `smith --seed N --count M --out DIR` writes random modules: `DIR/smith-00001.wasm` and so on. The same seed gives
//! the same bytes on every machine. Every other module can load, see [`fuseboard_fuzz::smith`].

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use fuseboard_fuzz::smith;

const USAGE: &str = "usage: smith --seed N --count M --out DIR";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match write(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("smith: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn write(arguments: &[String]) -> Result<(), String> {
    let (pairs, rest) = arguments.as_chunks::<2>();
    let options: HashMap<&str, &str> = pairs.iter().map(|[name, value]| (name.as_str(), value.as_str())).collect();
    let option = |name: &str| options.get(name).copied().ok_or_else(|| USAGE.to_owned());
    let (seed, count, folder) = (number(option("--seed")?)?, number(option("--count")?)?, Path::new(option("--out")?));
    if options.len() != 3 || !rest.is_empty() {
        return Err(USAGE.into());
    }
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for place in 1..=count {
        let path = folder.join(format!("smith-{place:05}.wasm"));
        fs::write(&path, smith::module(seed, place - 1)?).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text:?} is no number; {USAGE}"))
}
