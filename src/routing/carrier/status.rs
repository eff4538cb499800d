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

/// Reads Telnyx' `to[].status` of an outbound message.
/// Source: <https://developers.telnyx.com/docs/messaging/messages/receiving-webhooks>
pub fn message_status(carrier_status: &str) -> MappedStatus {
    use MessageStatus::*;
    let (status, unconfirmed, is_final) = match carrier_status {
        "scheduled" => (Scheduled, false, false),
        "queued" | "sending" => (Sending, false, false),
        "sent" => (Sent, false, false),
        "delivered" => (Delivered, false, true),
        "delivery_unconfirmed" => (Sent, true, true),
        "sending_failed" | "delivery_failed" | "expired" | "failed" => (Failed, false, true),
        "cancelled" => (Cancelled, false, true),
        "read" => (Read, false, true),
        other => (Unknown(other.to_owned()), false, false),
    };
    MappedStatus { status, unconfirmed, is_final }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_has_its_meaning() {
        let cases = [
            ("scheduled", "scheduled", false, false),
            ("queued", "sending", false, false),
            ("sending", "sending", false, false),
            ("sent", "sent", false, false),
            ("delivered", "delivered", false, true),
            ("delivery_unconfirmed", "sent", true, true),
            ("sending_failed", "failed", false, true),
            ("delivery_failed", "failed", false, true),
            ("expired", "failed", false, true),
            ("failed", "failed", false, true),
            ("cancelled", "cancelled", false, true),
            ("read", "read", false, true),
        ];
        for (carrier, ours, unconfirmed, is_final) in cases {
            let mapped = message_status(carrier);
            assert_eq!(
                (mapped.status.as_str(), mapped.unconfirmed, mapped.is_final),
                (ours, unconfirmed, is_final)
            );
            assert!(!matches!(mapped.status, MessageStatus::Unknown(_)), "{carrier}");
        }
    }

    #[test]
    fn an_unknown_word_is_kept() {
        for word in ["gw_timeout", "dlr_timeout", "webhook_delivered", "DELIVERED", ""] {
            let mapped = message_status(word);
            assert_eq!(mapped.status, MessageStatus::Unknown(word.to_owned()));
            assert!(!mapped.is_final);
        }
    }
}
