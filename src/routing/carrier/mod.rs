//! The carrier: the one narrow way out to the telephone network (Telnyx Messaging API v2).
//!
//! [`Telnyx::send`] makes exactly one request and tells what became of it as an [`Outcome`]; it never tries
//! again. Who schedules the jobs stores an attempt before each call and decides by the outcome: [`backoff`]
//! says when to come back, a [`Breaker`] whether the app may call at all. What the carrier reports later
//! comes in as webhooks: [`Verifier`] says whether they are genuine, [`CarrierEvent`] what they say, and
//! [`message_status`] what a status means here.
//!
//! Everything but [`Telnyx`] is pure: values in, values out, the time as a parameter.
//!
//! May import `config` and `http_client`.

pub mod backoff;
mod breaker;
mod codes;
mod outcome;
mod status;
mod telnyx;

#[cfg(any(test, fuzzing))]
pub(crate) use telnyx::fuzzing;

pub use breaker::{Breaker, BreakerState, Permit};
pub use outcome::{
    Accepted, Cancellation, CarrierError, ConfigScope, ConfigUntil, Cost, Health, OptOut, Outcome,
};
pub use status::{MappedStatus, MessageStatus, final_status, is_known, message_status};
pub use telnyx::{
    Autoresponse, BadPublicKey, Call, CallFailed, CarrierEvent, CarrierMessage, Direction, EventType, LookUp,
    Media, OutgoingGroupMessage, OutgoingMessage, Recipient, SetUpError, SignatureError, Telnyx,
    UnreadableEvent, Verifier, group_request_body, request_body, token_of, webhook_url,
};
