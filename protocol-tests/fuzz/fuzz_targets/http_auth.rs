//! Queries and signatures of the HTTP API. Run: `cargo fuzz run --fuzz-dir protocol-tests/fuzz http_auth`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| switchboard::protocol::fuzzing::http_auth(text));
