//! Gives a text back in capitals, by Fuseboard's library for Rust.

use fuseboard_guest::filter;

#[filter]
fn run(text: String) -> String {
    text.to_ascii_uppercase()
}
