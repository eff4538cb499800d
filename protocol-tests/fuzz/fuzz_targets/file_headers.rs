//! `Range`, `Content-Type` and names of files. Run: `protocol-tests/fuzz/run 60 file_headers`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| switchboard::fuzzing::file_headers(input));
