//! Text frames from clients. Run: `cargo fuzz run --fuzz-dir protocol-tests/fuzz client_message`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| switchboard::protocol::fuzzing::client_message(text));
