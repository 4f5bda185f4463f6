//! JSON in both directions, with errors that name the key.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Error;

/// Decodes; `what` is the JSON's name in an error.
pub(crate) fn decode<T: DeserializeOwned>(json: &[u8], what: impl FnOnce() -> String) -> Result<T, Error> {
    serde_json::from_slice(json).map_err(|error| Error::wrong_type(what(), misfit(json, &error)))
}

/// Encodes; `what` is the value's name in an error.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T, what: impl FnOnce() -> String) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|error| Error::wrong_type(what(), error))
}

/// Returns the sentence of a decoding error, after the path of the value that it is about.
#[cold]
fn misfit(json: &[u8], error: &serde_json::Error) -> String {
    let sentence = error.to_string();
    let sentence = sentence.rsplit_once(" at line ").map_or(sentence.as_str(), |(sentence, _)| sentence);
    match path(&json[..offset(json, error).min(json.len())]) {
        path if path.is_empty() => sentence.to_owned(),
        path => format!("{path}: {sentence}"),
    }
}

/// Returns how many bytes were read when the error was found.
fn offset(json: &[u8], error: &serde_json::Error) -> usize {
    let lines = json.split_inclusive(|&byte| byte == b'\n').take(error.line().saturating_sub(1));
    lines.map(<[u8]>::len).sum::<usize>() + error.column()
}

/// Returns the path of the value that a beginning of JSON ends in or behind: `author.name`, `tags[2]`.
fn path(beginning: &[u8]) -> String {
    let mut steps: Vec<Step> = Vec::new();
    let mut at = 0;
    while let Some(&byte) = beginning.get(at) {
        at += 1;
        match (byte, steps.last_mut()) {
            (b'{', _) => steps.push(Step::Key(&[])),
            (b'[', _) => steps.push(Step::Index(0)),
            (b'}' | b']', _) => drop(steps.pop()),
            (b',', Some(Step::Index(index))) => *index += 1,
            (b'"', last) => {
                let text = &beginning[at..];
                let length = string_length(text);
                at = (at + length + 1).min(beginning.len());
                if let (Some(Step::Key(key)), Some(b':')) = (last, beginning[at..].iter().find(|byte| **byte != b' ')) {
                    *key = &text[..length];
                }
            }
            _ => {}
        }
    }
    steps.iter().map(Step::to_string).collect::<String>().trim_start_matches('.').to_owned()
}

/// Returns how long a string is whose opening quote was read.
fn string_length(text: &[u8]) -> usize {
    let mut is_escaped = false;
    text.iter()
        .position(|&byte| {
            let is_end = byte == b'"' && !is_escaped;
            is_escaped = byte == b'\\' && !is_escaped;
            is_end
        })
        .unwrap_or(text.len())
}

/// One step into JSON.
enum Step<'json> {
    Key(&'json [u8]),
    Index(usize),
}

impl std::fmt::Display for Step<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Key([]) => Ok(()),
            Self::Key(key) => write!(formatter, ".{}", String::from_utf8_lossy(key)),
            Self::Index(index) => write!(formatter, "[{index}]"),
        }
    }
}
