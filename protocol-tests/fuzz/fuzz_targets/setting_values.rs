//! Durations, sizes, addresses and networks of the configuration. Run: `protocol-tests/fuzz/run 60 setting_values`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| switchboard::fuzzing::setting_values(input));
