//! Whole connections: what clients may be sent, given what they and a backend sent. Run: `protocol-tests/fuzz/run 60 connection`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| switchboard::fuzzing::connection(input));
