//! Gives a text back in capitals, by Extism's library for Rust.

use extism_pdk::{FnResult, Json, plugin_fn};

#[plugin_fn]
pub fn run(Json(text): Json<String>) -> FnResult<Json<String>> {
    Ok(Json(text.to_ascii_uppercase()))
}
