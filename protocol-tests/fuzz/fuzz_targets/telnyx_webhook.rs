//! Webhooks of the carrier and their signatures. Run: `protocol-tests/fuzz/run 60 telnyx_webhook`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| switchboard::fuzzing::telnyx_webhook(input));
