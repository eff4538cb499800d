//! Patterns of origins. Run: `protocol-tests/fuzz/run 60 origins`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| switchboard::fuzzing::origins(input));
