//! `.env` files. Run: `protocol-tests/fuzz/run 60 dotenv`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| switchboard::fuzzing::dotenv(input));
