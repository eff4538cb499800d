//! URLs of databases and receivers. Run: `protocol-tests/fuzz/run 60 urls`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| switchboard::fuzzing::urls(input));
