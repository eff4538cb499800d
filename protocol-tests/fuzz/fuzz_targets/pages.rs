//! Cursors and searches. Run: `protocol-tests/fuzz/run 60 pages`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| switchboard::fuzzing::pages(input));
