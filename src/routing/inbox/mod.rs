//! Webhooks of the carrier.
//!
//! A webhook is verified over its bytes, read leniently, stored under its event's id, and answered (`intake`).
//! Most are processed in the transaction that stores them; what has to wait is processed from the table
//! (`worker`). The carrier gives two seconds, repeats what it got no 2xx for, and keeps no order.
//!
//! Guaranteed: what was answered with 200 is stored with its bytes, whatever it says; one event, and one message for
//! each number, has one effect; the messages of a thread become messages in the order in which they were stored
//! (`threads`), on all nodes of a store. Delivery reports and other threads wait for none of them. An entry that
//! can't be processed is set aside after a bounded time, and listed (`kept`).

mod adopt;
mod entry;
mod inbound;
mod intake;
mod kept;
mod recipients;
mod report;
mod threads;
mod worker;

use std::sync::Arc;

use dashmap::DashMap;
use tokio::sync::Notify;

use super::carrier::{SignatureError, Verifier};
use super::error::RoutingError;
use crate::apps::App;

pub use adopt::adopt;
pub use inbound::{Inbound, Receiver, Thread, receive};
pub use kept::{CarrierEventJson, CarrierEventQuery, KeptState};
pub(super) use report::{Report, take as take_report};
pub use threads::hold as hold_threads;
pub use worker::run;

/// Pause before an event about an unknown message is tried again, in microseconds.
const RETRY: i64 = 1_000_000;

/// What wakes the worker, and what webhooks are verified with.
#[derive(Default)]
pub struct Inbox {
    wake: Notify,
    /// By app, with the keys that each was made of.
    verifiers: DashMap<String, (Vec<String>, Arc<Verifier>)>,
}

impl Inbox {
    /// Verifies an app's webhooks; made anew when its keys change, as reading a key takes a good part of a
    /// verification. `None`: it has no keys.
    fn verifier(&self, app: &App) -> Option<Arc<Verifier>> {
        let (id, keys) = (&app.settings.id, &app.settings.routing.telnyx.public_key);
        if let Some(known) = self.verifiers.get(id).filter(|known| known.0 == *keys) {
            return Some(Arc::clone(&known.1));
        }
        let verifier = Arc::new(Verifier::new(keys).ok().filter(Verifier::has_keys)?);
        self.verifiers.insert(id.clone(), (keys.clone(), Arc::clone(&verifier)));
        Some(verifier)
    }
}

/// Why a webhook was not taken.
#[derive(Debug, thiserror::Error)]
pub enum WebhookRefusal {
    /// 503: there is no key to verify it with.
    #[error("no public key is configured for the carrier's webhooks: set routing.carrier.telnyx.public_key")]
    NoKey,
    /// 403: it is not the carrier's.
    #[error("the webhook's signature is not valid: {0}")]
    Signature(#[from] SignatureError),
    /// 503: it could not be stored; the carrier tries again.
    #[error("the webhook could not be stored")]
    Store,
}

impl WebhookRefusal {
    /// The answer's HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Self::NoKey | Self::Store => 503,
            Self::Signature(_) => 403,
        }
    }
}

/// What became of an event.
enum Verdict {
    /// Nothing more to do.
    Done,
    /// It is about a message that is not known (yet).
    Unknown,
}

/// A failure of the directory, which is asked before the transaction.
type Refused = RoutingError;

#[cfg(test)]
mod tests;
