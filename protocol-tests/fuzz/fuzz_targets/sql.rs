//! The operator's SQL. Run: `protocol-tests/fuzz/run 60 sql`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| switchboard::fuzzing::sql(input));
