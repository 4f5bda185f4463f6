//! What goes with the value: context, settings, and what the call is about.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::abi::buffer;
use crate::{Code, Error, imports, json};

/// Returns what the application said beside the value, as a type of yours or as [`Value`](crate::Value).
///
/// An object, `{}` where nothing was said.
///
/// # Errors
/// [`Code::WrongType`] where it doesn't fit; the reason names the key.
pub fn context<T: DeserializeOwned>() -> Result<T, Error> {
    named("context", json::decode(&imports::read(buffer::CONTEXT)))
}

/// Returns the settings of the manifest, with the operator's over them, as a type of yours or as [`Value`](crate::Value).
///
/// # Errors
/// [`Code::WrongType`] where they don't fit; the reason names the key.
pub fn settings<T: DeserializeOwned>() -> Result<T, Error> {
    named("settings", json::decode(&imports::read(buffer::SETTINGS)))
}

fn named<T>(what: &str, decoded: Result<T, String>) -> Result<T, Error> {
    decoded.map_err(|reason| Error::new(what.to_owned(), Code::WrongType, reason))
}

/// What an invocation is about.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct CallInfo {
    /// The hook's name.
    pub hook: String,
    /// The request that it belongs to; it stands in the log and in outgoing HTTP requests too.
    pub request_id: String,
    /// Whose data it works on, where the application has scopes.
    pub scope: Option<String>,
    /// The plugin's own slug.
    pub plugin: String,
}

/// Returns hook, request, scope and plugin.
pub fn call_info() -> CallInfo {
    json::decode(&imports::read(buffer::CALL_INFO))
        .unwrap_or_else(|reason| imports::fail(&format!("call info: {reason}")))
}
