//! libFuzzer's way into the target of loading.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuseboard_fuzz::loading::target(bytes));
