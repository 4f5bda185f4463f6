//! JSON in both directions, with errors that name the key.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Code, Error};

/// Decodes; the error is a sentence that names the key.
pub(crate) fn decode<'json, T: Deserialize<'json>>(json: &'json [u8]) -> Result<T, String> {
    serde_json::from_slice(json).map_err(|error| misfit(json, &error))
}

/// Decodes a part of a host call's reply; `what` says what was asked.
pub(crate) fn decode_reply<T: DeserializeOwned>(reply: &[u8], what: impl FnOnce() -> String) -> Result<T, Error> {
    decode(reply).map_err(|reason| Error::new(what(), Code::BadReply, reason))
}

/// Encodes; `what` is the value's name in an error.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T, what: impl FnOnce() -> String) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|error| Error::new(what(), Code::WrongType, error.to_string()))
}

/// Returns the sentence of a decoding error, after the path of the value that it is about.
#[cold]
fn misfit(json: &[u8], error: &serde_json::Error) -> String {
    let sentence = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let sentence = sentence.strip_suffix(&place).unwrap_or(&sentence);
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
                if let (Some(Step::Key(key)), Some(b':')) = (last, beginning[at..].trim_ascii_start().first()) {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::{decode, path};

    #[derive(Debug, Deserialize)]
    #[allow(dead_code)]
    struct Post {
        title: String,
        tags: Vec<String>,
        votes: i8,
        author: Option<Author>,
        #[serde(default)]
        by_day: BTreeMap<String, u8>,
    }

    #[derive(Debug, Deserialize)]
    #[allow(dead_code)]
    struct Author {
        name: String,
    }

    fn reason(json: &str) -> String {
        match decode::<Post>(json.as_bytes()) {
            Ok(post) => panic!("decoded: {post:?}"),
            Err(reason) => reason,
        }
    }

    #[test]
    fn a_value_of_another_type_is_named_by_its_path() {
        assert_eq!(reason(r#"{"title":5}"#), "title: invalid type: integer `5`, expected a string");
        assert_eq!(reason(r#"{"title":"a","tags":["x",null]}"#), "tags[1]: invalid type: null, expected a string");
        assert_eq!(
            reason(r#"{"title":"a","tags":[],"votes":300}"#),
            "votes: invalid value: integer `300`, expected i8"
        );
        assert_eq!(reason(r#"{"title":"a","votes":1e400}"#), "votes: number out of range");
        assert_eq!(reason(r#"{"by_day":{"mon":1,"tue":-1}}"#), "by_day.tue: invalid value: integer `-1`, expected u8");
        assert_eq!(reason(r#"{"author":{"name":{"first":1}}}"#), "author.name: invalid type: map, expected a string");
        assert_eq!(reason(r#"[]"#), "invalid length 0, expected struct Post with 5 elements");
    }

    #[test]
    fn a_missing_key_is_named_behind_its_objects_path() {
        assert_eq!(reason(r#"{"title":"a","tags":[]}"#), "missing field `votes`");
        assert_eq!(reason(r#"{"title":"a","author":{"nme":1},"tags":[]}"#), "author: missing field `name`");
    }

    #[test]
    fn texts_with_marks_of_json_in_them_lead_nobody_astray() {
        let json = r#"{"title":"a \"{[,:\\","author":{"other":"}]","name":1}}"#;
        assert_eq!(reason(json), "author.name: invalid type: integer `1`, expected a string");
        assert_eq!(
            reason("{\n  \"title\" : \"ü\",\n  \"votes\"\n: \"x\"\n}"),
            "votes: invalid type: string \"x\", expected i8"
        );
    }

    #[test]
    fn any_beginning_has_a_path() {
        let json = r#"{"a":[1,{"b\\":"c\""},[]],"d":null}"#;
        for end in 0..=json.len() {
            path(&json.as_bytes()[..end]);
        }
        assert_eq!(path(br#"{"a":[1,{"b":2"#), "a[1].b");
        assert_eq!(path(br#"[{"a":[]},[0,1"#), "[1][1]");
    }
}
