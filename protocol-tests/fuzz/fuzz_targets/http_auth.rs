//! Queries and signatures of the HTTP API. Run: `protocol-tests/fuzz/run 60 http_auth`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| switchboard::fuzzing::http_auth(input));
