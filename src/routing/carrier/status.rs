//! The carrier's words for a message's state, in ours.

/// Our state of an outbound message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageStatus {
    /// To be sent later.
    Scheduled,
    /// With the carrier.
    Sending,
    /// Handed to the recipient's carrier.
    Sent,
    /// Received by the handset.
    Delivered,
    /// Will not arrive.
    Failed,
    /// Taken back before it was sent.
    Cancelled,
    /// Read by the recipient (RCS, WhatsApp).
    Read,
    /// A word we don't know: kept and logged, changes nothing.
    Unknown(String),
}

impl MessageStatus {
    /// The word for it in JSON; for an unknown one the carrier's own.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Sending => "sending",
            Self::Sent => "sent",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Read => "read",
            Self::Unknown(word) => word,
        }
    }
}

/// What a carrier's status says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappedStatus {
    /// Ours.
    pub status: MessageStatus,
    /// No receipt came in time (`delivery_unconfirmed`): often delivered all the same.
    pub unconfirmed: bool,
    /// Whether the carrier expects to report nothing more.
    pub is_final: bool,
}

/// Reads Telnyx' `to[].status` of an outbound message, in whatever letter case and with whatever blanks it is
/// written.
/// Source: <https://developers.telnyx.com/docs/messaging/messages/receiving-webhooks>
pub fn message_status(carrier_status: &str) -> MappedStatus {
    use MessageStatus::*;
    let word = plain(carrier_status);
    let (status, unconfirmed, is_final) = match word.as_str() {
        "scheduled" => (Scheduled, false, false),
        "queued" | "sending" => (Sending, false, false),
        "sent" => (Sent, false, false),
        "delivered" => (Delivered, false, true),
        // No receipt of the other carrier came, or none that says anything.
        "delivery_unconfirmed" | "gw_timeout" | "dlr_timeout" | "unknown" => (Sent, true, true),
        "expired" => (Failed, false, true),
        "cancelled" | "canceled" => (Cancelled, false, true),
        "read" => (Read, false, true),
        word if is_failure(word) => (Failed, false, true),
        _ => (Unknown(carrier_status.to_owned()), false, false),
    };
    MappedStatus { status, unconfirmed, is_final }
}

/// Reads the status that the carrier's last report has: nothing follows on it, whatever the word. One that names
/// no end (`sent`, a word that is not known, none at all) leaves the delivery open, unless an error beside it says that
/// it failed.
pub fn final_status(carrier_status: &str, has_error: bool) -> MappedStatus {
    let mapped = message_status(carrier_status);
    if mapped.is_final {
        return mapped;
    }
    let (status, unconfirmed) = match mapped.status {
        MessageStatus::Sent => (MessageStatus::Sent, true),
        _ if has_error => (MessageStatus::Failed, false),
        _ => (MessageStatus::Sent, true),
    };
    MappedStatus { status, unconfirmed, is_final: true }
}

/// Whether the table of words has this one.
pub fn is_known(carrier_status: &str) -> bool {
    !matches!(message_status(carrier_status).status, MessageStatus::Unknown(_))
}

/// `sending_failed`, `delivery_failed`, `failed`, `undelivered`, `undeliverable`, `rejected`, …
fn is_failure(word: &str) -> bool {
    ["fail", "undeliver", "reject"].iter().any(|part| word.contains(part))
}

/// Lower case, with `_` where blanks or hyphens are.
fn plain(word: &str) -> String {
    let words =
        word.split(|c: char| c.is_whitespace() || c == '-' || c == '_').filter(|part| !part.is_empty());
    words.map(str::to_lowercase).collect::<Vec<_>>().join("_")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words, ours, whether unconfirmed, whether final.
    const TABLE: &[(&str, &str, bool, bool)] = &[
        ("scheduled", "scheduled", false, false),
        ("queued", "sending", false, false),
        ("sending", "sending", false, false),
        ("sent", "sent", false, false),
        ("delivered", "delivered", false, true),
        ("delivery_unconfirmed", "sent", true, true),
        ("gw_timeout", "sent", true, true),
        ("dlr_timeout", "sent", true, true),
        ("unknown", "sent", true, true),
        ("sending_failed", "failed", false, true),
        ("delivery_failed", "failed", false, true),
        ("expired", "failed", false, true),
        ("failed", "failed", false, true),
        ("undelivered", "failed", false, true),
        ("undeliverable", "failed", false, true),
        ("rejected", "failed", false, true),
        ("cancelled", "cancelled", false, true),
        ("canceled", "cancelled", false, true),
        ("read", "read", false, true),
    ];

    #[test]
    fn every_word_has_its_meaning_however_it_is_written() {
        for (carrier, ours, unconfirmed, is_final) in TABLE {
            let spellings = [
                (*carrier).to_owned(),
                carrier.to_uppercase(),
                format!(" \t{carrier}\n"),
                carrier.replace('_', " "),
                carrier.replace('_', "-"),
                format!("{}{}", carrier[..1].to_uppercase(), &carrier[1..]),
            ];
            for spelling in spellings {
                let mapped = message_status(&spelling);
                assert_eq!(
                    (mapped.status.as_str(), mapped.unconfirmed, mapped.is_final),
                    (*ours, *unconfirmed, *is_final),
                    "{spelling:?}"
                );
                assert!(is_known(&spelling));
            }
        }
    }

    #[test]
    fn an_unknown_word_is_kept() {
        for word in ["webhook_delivered", "teleported", ""] {
            let mapped = message_status(word);
            assert_eq!(mapped.status, MessageStatus::Unknown(word.to_owned()));
            assert!(!mapped.is_final && !is_known(word));
        }
    }

    #[test]
    fn the_last_report_is_the_last_whatever_its_word() {
        for (word, _, _, is_final) in TABLE {
            for has_error in [true, false] {
                let last = final_status(word, has_error);
                assert!(last.is_final, "{word}");
                if *is_final {
                    assert_eq!(last, message_status(word));
                }
            }
        }
        for (word, has_error, ours, unconfirmed) in [
            ("sent", false, "sent", true),
            ("sent", true, "sent", true),
            ("queued", false, "sent", true),
            ("sending", true, "failed", false),
            ("teleported", false, "sent", true),
            ("teleported", true, "failed", false),
            ("", false, "sent", true),
            ("", true, "failed", false),
        ] {
            let last = final_status(word, has_error);
            assert_eq!((last.status.as_str(), last.unconfirmed), (ours, unconfirmed), "{word:?} {has_error}");
        }
    }
}
