//! Answers of the carrier, and the dates in them. Run: `protocol-tests/fuzz/run 60 telnyx_answer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| switchboard::fuzzing::telnyx_answer(input));
