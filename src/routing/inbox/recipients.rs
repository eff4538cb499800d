//! What a report says of one message, where it names several recipients.
//!
//! A message here has one state. A report may name recipients beside the message's own (copies, those of a group):
//! only the message's own count, or all if it names none of these. A message to several is as far as the one of them
//! that is least far. Those that it can't reach count when it reaches nobody; when it reaches others, the end is
//! `sent` with `delivery_unconfirmed`.

use super::report::{Kind, Report};
use crate::routing::carrier::{MappedStatus, MessageStatus, Recipient, final_status, message_status};
use crate::routing::phone_number::contact_identity;
use crate::routing::records::Message;

/// Longest word of the carrier that is kept, in characters.
const MAX_WORD: usize = 64;

/// What a report says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The carrier's word; empty if it has none.
    pub word: String,
    /// What it means.
    pub status: MappedStatus,
}

/// What a report says of this message.
pub fn of_message(message: &Message, report: Report<'_>) -> Said {
    let recipients = report.message.map_or(&[][..], |shown| &shown.to);
    let mut own: Vec<String> = vec![contact_identity(&message.to_number)];
    own.extend(message.cc.iter().map(|number| contact_identity(number)));
    let is_own = |recipient: &&Recipient| own.contains(&contact_identity(&recipient.number));
    let mut counted: Vec<&Recipient> = recipients.iter().filter(is_own).collect();
    // What has no status says nothing, unless none has.
    if counted.iter().all(|recipient| recipient.status.is_none()) {
        counted = recipients.iter().collect();
    }
    let has_error = report.message.is_some_and(|shown| !shown.errors.is_empty());
    let read = |recipient: &&Recipient| Some(read(recipient.status.as_deref()?, report.kind, has_error));
    let all: Vec<Said> = counted.iter().filter_map(read).collect();
    together(&all).unwrap_or_else(|| self::read("", report.kind, has_error))
}

fn read(word: &str, kind: Kind, has_error: bool) -> Said {
    // A database takes no control characters.
    let word: String = word.trim().chars().filter(|c| !c.is_control()).take(MAX_WORD).collect();
    let mapped = message_status(&word);
    let status = match kind {
        // Whatever the word beside it says.
        Kind::Read => message_status("read"),
        Kind::Finalized => final_status(&word, has_error),
        Kind::Sent if !mapped.is_final => message_status("sent"),
        Kind::Sent | Kind::Asked => mapped,
    };
    let word = if kind == Kind::Read { "read".to_owned() } else { word };
    Said { word, status }
}

/// What several recipients make of one message.
fn together(all: &[Said]) -> Option<Said> {
    let is_lost =
        |said: &&Said| matches!(said.status.status, MessageStatus::Failed | MessageStatus::Cancelled);
    let reached = || all.iter().filter(|said| !is_lost(said));
    let Some(least) = reached().min_by_key(|said| rank(&said.status)) else {
        return all.first().cloned();
    };
    let mut least = least.clone();
    if let Some(lost) = all.iter().find(is_lost)
        && least.status.is_final
    {
        let status = MessageStatus::Sent;
        least = Said {
            word: lost.word.clone(),
            status: MappedStatus { status, unconfirmed: true, is_final: true },
        };
    }
    Some(least)
}

fn rank(status: &MappedStatus) -> u8 {
    match (&status.status, status.unconfirmed) {
        (MessageStatus::Unknown(_), _) => 0,
        (MessageStatus::Scheduled, _) => 1,
        (MessageStatus::Sending, _) => 2,
        (MessageStatus::Sent, false) => 3,
        (MessageStatus::Sent, true) => 4,
        (MessageStatus::Delivered, _) => 5,
        (MessageStatus::Read, _) => 6,
        (MessageStatus::Failed | MessageStatus::Cancelled, _) => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &[&str], kind: Kind) -> (String, bool, bool) {
        let all: Vec<Said> = words.iter().map(|word| read(word, kind, false)).collect();
        let said = together(&all).expect("some");
        (said.status.status.as_str().to_owned(), said.status.unconfirmed, said.status.is_final)
    }

    #[test]
    fn a_message_to_several_is_as_far_as_the_least_far() {
        for (words, ours, unconfirmed) in [
            (&["delivered"][..], "delivered", false),
            (&["delivered", "delivered"], "delivered", false),
            (&["delivered", "read"], "delivered", false),
            (&["read", "read"], "read", false),
            (&["delivered", "delivery_unconfirmed"], "sent", true),
            (&["delivered", "gw_timeout", "teleported"], "sent", true),
            (&["delivered", "sent"], "sent", true),
            (&["delivered", "delivery_failed"], "sent", true),
            (&["sending_failed", "undelivered"], "failed", false),
        ] {
            for words in [words.to_vec(), words.iter().rev().copied().collect()] {
                let expected = (ours.to_owned(), unconfirmed, true);
                assert_eq!(of(&words, Kind::Finalized), expected, "{words:?}");
            }
        }
        for (words, ours, is_final) in [
            (&["queued", "sent"][..], "sending", false),
            (&["queued", "delivery_failed"], "sending", false),
            (&["sent", "delivered"], "sent", false),
            (&["delivered", "delivered"], "delivered", true),
        ] {
            assert_eq!(of(words, Kind::Asked), (ours.to_owned(), false, is_final), "{words:?}");
        }
    }

    #[test]
    fn an_event_says_more_than_a_word_that_is_not_known() {
        assert_eq!(of(&["queued"], Kind::Sent), ("sent".to_owned(), false, false));
        assert_eq!(of(&["teleported"], Kind::Sent), ("sent".to_owned(), false, false));
        assert_eq!(of(&["delivered"], Kind::Sent), ("delivered".to_owned(), false, true));
        assert_eq!(of(&["sent"], Kind::Read), ("read".to_owned(), false, true));
        assert_eq!(of(&["teleported"], Kind::Asked), ("teleported".to_owned(), false, false));
        assert_eq!(read("  \u{0}De\nlivered ", Kind::Finalized, false).word, "Delivered");
    }
}
