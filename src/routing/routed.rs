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
    /// It was accepted for later.
    Scheduled,
    /// Its time came, and it reached a user of the portal.
    DueInternal { created: bool },
    /// Its time came, and it goes to the carrier.
    DueExternal,
}

impl Steps {
    fn text(self) -> &'static str {
        match self {
            Self::Internal { .. } => {
                "Checking if recipient is internal user; Internal message detected - skipping Telnyx API; \
                 Reciprocal conversation created for internal message"
            }
            Self::External => "Checking if recipient is internal user; Sending message via Telnyx API",
            Self::Scheduled => "Checking if recipient is internal user; Message scheduled",
            Self::DueInternal { .. } => {
                "Scheduled message is due; Internal message detected - skipping Telnyx API; \
                 Reciprocal conversation created for internal message"
            }
            Self::DueExternal => "Scheduled message is due; Sending message via Telnyx API",
        }
    }

    /// Whether the recipient's conversation is new.
    fn created(self) -> Option<bool> {
        match self {
            Self::Internal { created } | Self::DueInternal { created } => Some(created),
            _ => None,
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
