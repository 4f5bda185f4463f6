//! The conformance guest in Rust: it does what `guest/conformance/README.md` says, by the SDK's public surface.

mod hex;
mod step;

use fuseboard_guest::{Value, action, filter, json, log};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Run {
    steps: Vec<Value>,
}

#[filter]
fn run(run: Run) -> Result<Value, String> {
    let results = run.steps.into_iter().map(step::result).collect::<Result<Vec<_>, _>>()?;
    Ok(json!({"results": results}))
}

#[derive(Deserialize, Serialize)]
struct Record {
    title: String,
    tags: Vec<String>,
    votes: i64,
    ratio: f64,
    #[serde(deserialize_with = "Option::deserialize")] // null is fine, no key isn't
    author: Option<Author>,
}

#[derive(Deserialize, Serialize)]
struct Author {
    name: String,
}

#[filter]
fn typed(mut record: Record) -> Result<Record, &'static str> {
    record.votes = record.votes.checked_add(1).ok_or("votes: there is no larger number")?;
    record.title.make_ascii_uppercase();
    Ok(record)
}

#[filter]
fn echo(value: Value) -> Value {
    value
}

#[filter(bytes)]
fn echo_bytes(value: Vec<u8>) -> Vec<u8> {
    value
}

#[filter(bytes)]
fn empty(_: Vec<u8>) -> Vec<u8> {
    Vec::new()
}

#[filter]
fn keep() -> Option<Value> {
    None
}

#[filter]
fn failing(value: String) -> Result<String, String> {
    Err(format!("it can't be done: {value}"))
}

#[derive(Deserialize)]
struct Note {
    text: String,
}

#[action]
fn note(note: Note) {
    log::info!("{}", note.text);
}
