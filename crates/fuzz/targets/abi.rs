//! libFuzzer's way into the target of the ABI.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuseboard_fuzz::calling::target(bytes));
