//! What the attributes make of a function: read the value, call it, write what it gives.

use std::any::Any;
use std::fmt::Display;
use std::panic;

use serde::{Deserialize, Serialize};

use crate::abi::buffer;
use crate::{imports, json};

/// Has a panic end the invocation with its message and place.
pub fn begin() {
    panic::set_hook(Box::new(|panic| {
        let message = message(panic.payload());
        let message = match panic.location() {
            Some(place) => format!("panic: {message} at {place}"),
            None => format!("panic: {message}"),
        };
        imports::fail(&message);
    }));
}

fn message(payload: &dyn Any) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// Reads the hook's value as JSON.
pub fn value<T: for<'de> Deserialize<'de>>() -> T {
    json::decode(&bytes()).unwrap_or_else(|reason| imports::fail(&format!("the value doesn't fit: {reason}")))
}

/// Reads the hook's value as it is.
pub fn bytes() -> Vec<u8> {
    imports::read(buffer::VALUE)
}

/// Writes the new value as JSON.
pub fn write<T: Serialize>(value: &T) {
    match json::encode(value, || "new value".to_owned()) {
        Ok(bytes) => imports::write_output(&bytes),
        Err(error) => imports::fail(&format!("the new value can't be written as JSON: {}", error.reason())),
    }
}

/// Writes the new value as it is.
pub fn write_bytes<T: AsRef<[u8]>>(value: &T) {
    imports::write_output(value.as_ref());
}

/// Takes what an action returned.
pub fn done(_: impl Nothing) {}

/// Nothing, which is what an action returns.
#[diagnostic::on_unimplemented(
    message = "an `#[action]` returns nothing, or a `Result<(), …>`",
    label = "`{Self}` would be ignored"
)]
pub trait Nothing {}

impl Nothing for () {}

/// What a function returned.
///
/// Which `or_fail` and `or_unchanged` it has depends on its type: a method of the type itself goes before one of a trait,
/// so a `Result` and an `Option` are taken apart and everything else is a value.
pub struct Returned<T>(pub T);

impl<T, E> Returned<Result<T, E>> {
    /// Returns what went well; fails with the error's text.
    pub fn or_fail(self) -> T
    where
        E: Display, // here, not above: without it there must be an error, not another method
    {
        self.0.unwrap_or_else(|error| imports::fail(&error.to_string()))
    }
}

impl<T> Returned<Option<T>> {
    /// Returns the new value, if there is one.
    pub fn or_unchanged(self) -> Option<T> {
        self.0
    }
}

/// What can't fail.
pub trait NeverFails<T> {
    /// Returns it.
    fn or_fail(self) -> T;
}

impl<T> NeverFails<T> for Returned<T> {
    fn or_fail(self) -> T {
        self.0
    }
}

/// What always is a new value.
pub trait AlwaysChanges<T> {
    /// Returns it.
    fn or_unchanged(self) -> Option<T>;
}

impl<T> AlwaysChanges<T> for Returned<T> {
    fn or_unchanged(self) -> Option<T> {
        Some(self.0)
    }
}
