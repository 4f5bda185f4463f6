//! The plugin's keys and values. Writes last when the invocation completes.
//!
//! Keys and values are bytes; anything that is a byte string or a text does. Every function gives
//! [`Code::BackendFailed`] where the application's store failed, and
//! [`Code::TooLarge`] for a key or value over the operator's cap.

use std::time::Duration;

use crate::abi::buffer;
use crate::error::{answered, asked};
use crate::{Code, Error, imports, json};

/// Returns the value of a key, `None` where there is none.
///
/// # Errors
/// What the host answered.
pub fn get(key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>, Error> {
    let key = key.as_ref();
    match answered(imports::kv_get(key), || named("KV get", key)) {
        Ok(()) => Ok(Some(imports::read(buffer::REPLY_BODY))),
        Err(error) if error.code() == Code::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes a key.
///
/// # Errors
/// What the host answered.
pub fn set(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<(), Error> {
    let key = key.as_ref();
    answered(imports::kv_set(key, value.as_ref()), || named("KV set", key))
}

/// Writes a key that is gone after a time: whole seconds, a part of one counts as one, at most ten years.
///
/// # Errors
/// What the host answered; [`Code::BadRequest`] for no time, and for more than ten years.
pub fn set_for(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>, time: Duration) -> Result<(), Error> {
    let key = key.as_ref();
    let seconds = time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0));
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    answered(imports::kv_set_for(key, value.as_ref(), seconds), || named("KV set", key))
}

/// Removes a key; one that isn't there is no error.
///
/// # Errors
/// What the host answered.
pub fn delete(key: impl AsRef<[u8]>) -> Result<(), Error> {
    let key = key.as_ref();
    answered(imports::kv_delete(key), || named("KV delete", key))
}

/// Adds to the number under a key as one step, and returns the new number. A key that isn't there counts from 0.
///
/// # Errors
/// What the host answered; [`Code::Conflict`] where the value isn't a number.
pub fn increment(key: impl AsRef<[u8]>, by: i64) -> Result<i64, Error> {
    let key = key.as_ref();
    let what = || named("KV increment", key);
    answered(imports::kv_increment(key, by), what)?;
    json::decode_reply(&imports::read(buffer::REPLY_BODY), what)
}

fn named(call: &str, key: &[u8]) -> String {
    asked(call, &String::from_utf8_lossy(key))
}
