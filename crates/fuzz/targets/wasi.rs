//! libFuzzer's way into the target of WASI.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuseboard_fuzz::preview1::target(bytes));
