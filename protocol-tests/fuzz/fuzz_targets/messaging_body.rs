//! Bodies and queries of the messaging API. Run: `protocol-tests/fuzz/run 60 messaging_body`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| switchboard::fuzzing::messaging_body(input));
