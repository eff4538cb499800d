//! The Pusher Channels protocol, version 7, as pure values: names, signatures, frames, texts.
//!
//! Nothing here knows a clock, a socket or a runtime, so every rule is tested by table or property.
//! Source of the rules: Pusher's public documentation ("WebSocket protocol", "HTTP API reference",
//! "auth signatures") and what its client libraries do.
//!
//! May import nothing of ours.

pub mod auth;
pub mod channel;
pub mod client_event;
pub mod error_code;
pub mod frame;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub mod http_auth;
pub mod id;
pub mod json;
pub mod presence;
pub mod server_event;
