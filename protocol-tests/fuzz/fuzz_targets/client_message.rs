//! Text frames from clients. Run: `protocol-tests/fuzz/run 60 client_message`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| switchboard::fuzzing::client_message(input));
