//! What can go wrong with what the host is asked for.

use std::fmt;

use crate::abi::{answer, buffer};
use crate::imports;

/// What the host had to say against a call, or why what it gave doesn't fit a type.
///
/// It reads as what was asked, the code, and the host's reason: `GET https://api.example.com/x: denied: not granted`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    what: String,
    code: Code,
    reason: String,
}

/// Which kind of error it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Code {
    /// The target lies outside of what the operator granted.
    Denied,
    /// The call is malformed, or the service can't make sense of it.
    BadRequest,
    /// There is no such function. A key that isn't there is no error: see [`kv::get`](crate::kv::get).
    NotFound,
    /// The application's service failed or was late.
    BackendFailed,
    /// A part of the request or the reply is larger than the operator's cap.
    TooLarge,
    /// It goes against what is stored there.
    Conflict,
    /// A number that this version doesn't know.
    Unknown(i32),
    /// The reply doesn't read as it should: a function's result, a row or a body that doesn't fit the type of yours.
    BadReply,
    /// The context or the settings don't fit the type of yours, or a value of yours can't be written as JSON.
    WrongType,
}

impl Code {
    pub(crate) fn of(answer: i32) -> Self {
        match answer {
            answer::DENIED => Self::Denied,
            answer::BAD_REQUEST => Self::BadRequest,
            answer::NOT_FOUND => Self::NotFound,
            answer::BACKEND_FAILED => Self::BackendFailed,
            answer::TOO_LARGE => Self::TooLarge,
            answer::CONFLICT => Self::Conflict,
            other => Self::Unknown(other),
        }
    }

    /// Returns its name: `denied`, `bad_request` …; `unknown` where the host's number is.
    pub fn name(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::BadRequest => "bad_request",
            Self::NotFound => "not_found",
            Self::BackendFailed => "backend_failed",
            Self::TooLarge => "too_large",
            Self::Conflict => "conflict",
            Self::Unknown(_) => "unknown",
            Self::BadReply => "bad_reply",
            Self::WrongType => "wrong_type",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(number) => write!(formatter, "code {number}"),
            known => formatter.write_str(known.name()),
        }
    }
}

impl Error {
    pub(crate) fn new(what: String, code: Code, reason: String) -> Self {
        Self { what, code, reason }
    }

    /// Returns which kind of error it is.
    pub fn code(&self) -> Code {
        self.code
    }

    /// Returns what the host, or the decoder, had to say: one sentence, or nothing.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.what, self.code)?;
        if self.reason.is_empty() { Ok(()) } else { write!(formatter, ": {}", self.reason) }
    }
}

impl std::error::Error for Error {}

/// Lets `?` work in functions whose error is a text.
impl From<Error> for String {
    fn from(error: Error) -> Self {
        error.to_string()
    }
}

/// Returns what was asked, as errors say it: `query SELECT …`. A long target is cut.
pub(crate) fn asked(call: &str, target: &str) -> String {
    const LONGEST: usize = 200;
    if target.len() <= LONGEST {
        return format!("{call} {target}");
    }
    let end = (0..=LONGEST).rfind(|&end| target.is_char_boundary(end)).unwrap_or(0);
    format!("{call} {}…", &target[..end])
}

/// Makes an answer below zero the error that it stands for; `what` says what was asked.
pub(crate) fn answered(answer: i32, what: impl FnOnce() -> String) -> Result<(), Error> {
    if answer >= 0 { Ok(()) } else { Err(refused(answer, what())) }
}

#[cold]
fn refused(answer: i32, what: String) -> Error {
    #[derive(serde::Deserialize, Default)]
    struct Head {
        reason: String,
    }
    let head: Head = serde_json::from_slice(&imports::read(buffer::REPLY_HEAD)).unwrap_or_default();
    Error { what, code: Code::of(answer), reason: head.reason }
}

#[cfg(test)]
mod tests {
    use super::{Code, Error, asked};

    #[test]
    fn an_error_reads_as_what_was_asked_the_code_and_the_reason() {
        let told = |code, reason: &str| Error::new(asked("KV get", "k"), code, reason.to_owned()).to_string();
        assert_eq!(told(Code::Denied, "not granted"), "KV get k: denied: not granted");
        assert_eq!(told(Code::TooLarge, ""), "KV get k: too_large");
        assert_eq!(told(Code::Unknown(-17), ""), "KV get k: code -17");
    }

    #[test]
    fn a_long_target_is_cut_between_characters() {
        assert_eq!(asked("exec", "DELETE FROM notes"), "exec DELETE FROM notes");
        assert_eq!(asked("exec", &"ü".repeat(100)), format!("exec {}", "ü".repeat(100)));
        assert_eq!(asked("exec", &format!("x{}", "ü".repeat(100))), format!("exec x{}…", "ü".repeat(99)));
    }
}
