//! Files of numbers. Run: `protocol-tests/fuzz/run 60 numbers_csv`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| switchboard::fuzzing::numbers_csv(input));
