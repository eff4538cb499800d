//! The log line of a message that was routed: one at `info` for each, written when the message is stored.
//!
//! It names the steps in the words of the documentation that portals are built from, which tells its readers to
//! look for them in the log: "Checking if recipient is internal user", "Internal message detected - skipping Telnyx
//! API", "Reciprocal conversation created for internal message". Each step also has a line of its own, with exactly
//! that text, at `debug`.

use tracing::Level;

use super::decision::Explanation;
use super::phone_number::mask;
use super::records::Message;
use crate::storage::Transaction;

/// What was done with a message, step by step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Steps {
    /// It reached a user of the portal; `created`: in a conversation that is new for that user.
    Internal { created: bool },
    /// It goes to the carrier.
    External,
    /// It goes to the carrier, for all members of a group.
    Group,
    /// It was accepted for later.
    Scheduled,
    /// It was accepted earlier and goes now: to a user of the portal, whose conversation is new or not, or to the
    /// carrier.
    Later { occasion: Occasion, created: Option<bool> },
}

/// What has a message go that was accepted earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occasion {
    /// Its time came.
    Due,
    /// A person wants it sent again.
    Retried,
    /// It waited for the carrier.
    Waited,
}

impl Steps {
    fn text(self) -> &'static str {
        match self {
            Self::Internal { .. } => {
                "Checking if recipient is internal user; Internal message detected - skipping Telnyx API; \
                 Reciprocal conversation created for internal message"
            }
            Self::External => "Checking if recipient is internal user; Sending message via Telnyx API",
            Self::Group => "Message to a group; Sending message via Telnyx API",
            Self::Scheduled => "Checking if recipient is internal user; Message scheduled",
            Self::Later { occasion, created } => occasion.text(created.is_some()),
        }
    }

    /// Whether the recipient's conversation is new.
    fn created(self) -> Option<bool> {
        match self {
            Self::Internal { created } => Some(created),
            Self::Later { created, .. } => created,
            _ => None,
        }
    }
}

impl Occasion {
    fn text(self, is_internal: bool) -> &'static str {
        macro_rules! inside {
            ($occasion:literal) => {
                concat!(
                    $occasion,
                    "; Internal message detected - skipping Telnyx API; \
                     Reciprocal conversation created for internal message"
                )
            };
        }
        match (self, is_internal) {
            (Self::Due, true) => inside!("Scheduled message is due"),
            (Self::Due, false) => "Scheduled message is due; Sending message via Telnyx API",
            (Self::Retried, true) => inside!("Message is sent again"),
            (Self::Retried, false) => "Message is sent again; Sending message via Telnyx API",
            (Self::Waited, true) => inside!("Recipient became an internal user"),
            (Self::Waited, false) => "Message waited; Sending message via Telnyx API",
        }
    }
}

/// Writes the line after the commit. `lane` orders it among what else follows commits.
pub(super) fn log(
    tx: &mut Transaction<'_>,
    lane: &str,
    app_id: &str,
    message: &Message,
    steps: Steps,
    explanation: Option<&Explanation>,
) {
    if !tracing::enabled!(Level::INFO) {
        return;
    }
    let (app, user, message_id) = (app_id.to_owned(), message.user_id.clone(), message.public_id());
    let (from, to) = (mask(&message.from_number), mask(&message.to_number));
    let why = explanation.cloned();
    tx.on_commit(lane, move || {
        let why = why.as_ref();
        tracing::info!(
            app,
            user,
            message_id = %message_id,
            from,
            to,
            route = why.map(|why| why.route.as_str()),
            reason = why.map(|why| why.reason.as_str()),
            number_status = why.and_then(|why| why.number_status.as_deref()),
            directory = why.map(|why| why.directory.as_str()),
            sender = why.map(|why| why.from.as_str()),
            created = steps.created(),
            "{}",
            steps.text()
        );
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_an_internal_message_holds_the_three_texts_that_portals_look_for() {
        for text in [
            "Checking if recipient is internal user",
            "Internal message detected - skipping Telnyx API",
            "Reciprocal conversation created for internal message",
        ] {
            assert!(Steps::Internal { created: true }.text().contains(text), "{text}");
        }
        assert!(Steps::External.text().contains("Checking if recipient is internal user"));
    }
}
