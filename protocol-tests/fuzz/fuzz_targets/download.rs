//! Answers of servers of files: parts and redirects. Run: `protocol-tests/fuzz/run 60 download`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| switchboard::fuzzing::download(input));
