//! libFuzzer's way into the target of the pre-scan.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuseboard_fuzz::scanning::target(bytes));
