//! The states of a message and the steps between them.

/// Where a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// To be sent later.
    Scheduled,
    /// On its way to the carrier, or queued there.
    Sending,
    /// The carrier handed it over.
    Sent,
    /// It arrived.
    Delivered,
    /// It was read: an internal message, or one of which the carrier knows (RCS, WhatsApp).
    Read,
    /// It did not arrive.
    Failed,
    /// It was taken back before it was sent.
    Cancelled,
    /// The carrier may or may not have it.
    Unconfirmed,
    /// An INBOUND message.
    Received,
}

/// Which way a message goes, seen from its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Sent by the owner.
    Outbound,
    /// Received by the owner.
    Inbound,
}

/// What causes a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The carrier, the clock, or the recipient.
    Event,
    /// A person who asked for another attempt.
    Retry,
}

impl Status {
    /// As it is stored and told.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Sending => "sending",
            Self::Sent => "sent",
            Self::Delivered => "delivered",
            Self::Read => "read",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Unconfirmed => "unconfirmed",
            Self::Received => "received",
        }
    }

    /// The status of this name.
    pub fn parse(text: &str) -> Option<Self> {
        const ALL: [Status; 9] = [
            Status::Scheduled,
            Status::Sending,
            Status::Sent,
            Status::Delivered,
            Status::Read,
            Status::Failed,
            Status::Cancelled,
            Status::Unconfirmed,
            Status::Received,
        ];
        ALL.into_iter().find(|status| status.as_str() == text)
    }

    /// Whether a message may go from here to `next`. A carrier's events come late and out of order: what
    /// leads back is no step.
    pub fn may_become(self, next: Self, cause: Cause) -> bool {
        use Status::{Cancelled, Delivered, Failed, Read, Received, Scheduled, Sending, Sent, Unconfirmed};
        match (self, next) {
            (Scheduled, Sending | Sent | Delivered | Read | Failed | Cancelled)
            | (Sending, Sent | Delivered | Read | Failed | Unconfirmed | Cancelled)
            | (Unconfirmed, Sent | Delivered | Read | Failed)
            | (Sent, Delivered | Read | Failed)
            | (Delivered | Received, Read)
            | (Failed, Sent | Delivered | Read) => true,
            (Unconfirmed | Failed, Sending) => cause == Cause::Retry,
            _ => false,
        }
    }
}

impl Direction {
    /// As it is stored and told.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Outbound => "OUTBOUND",
            Self::Inbound => "INBOUND",
        }
    }

    /// The direction of this name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Outbound, Self::Inbound].into_iter().find(|direction| direction.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_lead_forward_only() {
        use Status::*;
        let all = [Scheduled, Sending, Sent, Delivered, Read, Failed, Cancelled, Unconfirmed, Received];
        let steps: &[(Status, &[Status])] = &[
            (Scheduled, &[Sending, Sent, Delivered, Read, Failed, Cancelled]),
            (Sending, &[Sent, Delivered, Read, Failed, Cancelled, Unconfirmed]),
            (Unconfirmed, &[Sent, Delivered, Read, Failed]),
            (Sent, &[Delivered, Read, Failed]),
            (Delivered, &[Read]),
            (Failed, &[Sent, Delivered, Read]),
            (Read, &[]),
            (Cancelled, &[]),
            (Received, &[Read]),
        ];
        for (from, allowed) in steps {
            for next in all {
                assert_eq!(
                    from.may_become(next, Cause::Event),
                    allowed.contains(&next),
                    "{from:?} → {next:?}"
                );
            }
        }
        assert!(Failed.may_become(Sending, Cause::Retry) && Unconfirmed.may_become(Sending, Cause::Retry));
        assert!(!Delivered.may_become(Sending, Cause::Retry));
        assert!(all.iter().all(|status| Status::parse(status.as_str()) == Some(*status)));
    }
}
