//! Telnyx: requests, answers, webhooks and their signatures.

mod answer;
mod client;
mod fields;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod lenient;
mod look_up;
mod request;
mod rich;
mod signature;
mod webhook;
mod webhook_url;

pub use client::{Call, CallFailed, SetUpError, Telnyx};
pub use look_up::LookUp;
pub use request::{OutgoingGroupMessage, OutgoingMessage, group_request_body, request_body};
pub use signature::{BadPublicKey, SignatureError, Verifier};
pub use webhook::{
    Autoresponse, CarrierEvent, CarrierMessage, Direction, EventType, Media, Recipient, UnreadableEvent,
};
pub use webhook_url::{token_of, webhook_url};
