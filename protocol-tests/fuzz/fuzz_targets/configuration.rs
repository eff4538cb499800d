//! Configuration files and variables. Run: `protocol-tests/fuzz/run 60 configuration`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| switchboard::fuzzing::configuration(input));
