//! Write plugins for Fuseboard in Rust.
//!
//! A plugin is a `cdylib` whose hooks are functions with an attribute. Which hook a function serves stands in `plugin.toml`:
//! its export is the function's name.
//!
//! ```
//! use fuseboard_guest::filter;
//!
//! #[filter]
//! fn post_title(title: String) -> String {
//!     title.trim().to_uppercase()
//! }
//! # assert_eq!(post_title(" a title ".to_owned()), "A TITLE");
//! ```
//!
//! The function stays what it is, and `cargo test` can call it. Built natively there is no host: what asks one panics, and
//! the log goes to standard error.

mod abi;
mod call;
pub mod db;
mod error;
#[doc(hidden)]
pub mod hook;
pub mod http;
#[cfg(target_family = "wasm")]
mod imports;
#[cfg(not(target_family = "wasm"))]
#[path = "no_host.rs"]
mod imports;
mod invocation;
mod json;
pub mod kv;
mod limit;
pub mod log;
mod row;

pub use call::call;
pub use error::{Code, Error};
pub use fuseboard_guest_macros::{action, filter};
pub use invocation::{CallInfo, call_info, context, settings};
pub use limit::Limit;
pub use serde_json::{Value, json};
