//! The log lines of calls to the carrier. They name app, user and message; numbers are masked, and of
//! what the carrier says only its code is written: its words may repeat the number or the text.

use crate::routing::carrier::{Call, Outcome};
use crate::routing::json::Id;
use crate::routing::phone_number::mask;
use crate::storage::{StorageError, Transaction};

/// What a call is about, as logs may name it.
#[derive(Clone, Debug)]
pub struct Subject {
    app: String,
    user: String,
    message_id: Id,
    from: String,
    to: String,
    is_to_group: bool,
}

/// A line with the fields of a [`Subject`] first.
macro_rules! line {
    ($level:ident, $subject:expr, $($rest:tt)+) => {
        tracing::$level!(
            app = $subject.app,
            user = $subject.user,
            message_id = %$subject.message_id,
            from = $subject.from,
            to = $subject.to,
            $($rest)+
        )
    };
}

impl Subject {
    /// That of a message's row. One whose row somebody deleted goes on without a name: no line of the log is
    /// worth a lane that stands still.
    ///
    /// # Errors
    /// Of the store.
    pub fn read(tx: &mut Transaction<'_>, message: i64) -> Result<Self, StorageError> {
        let row = tx.query_one(
            "SELECT app_id, user_id, public_id, from_number, to_number, cc FROM messages WHERE id = ?1",
            &[message.into()],
        )?;
        let Some(row) = row else {
            let [app, user, from, to] = [const { String::new() }; 4];
            let message_id = Id::new(message, None);
            return Ok(Self { app, user, message_id, from, to, is_to_group: false });
        };
        Ok(Self {
            app: row.text(0)?,
            user: row.text(1)?,
            message_id: Id::new(message, row.optional_text(2)?.as_deref()),
            from: mask(&row.text(3)?),
            to: mask(&row.text(4)?),
            is_to_group: row.text(5)? != "[]",
        })
    }

    /// Which of the carrier's calls it takes.
    pub fn call(&self) -> Call {
        if self.is_to_group { Call::Group } else { Call::Message }
    }

    /// A call begins.
    pub fn sending(&self) {
        line!(debug, self, "Sending message via Telnyx API");
    }

    /// What came of the call.
    pub fn report(&self, outcome: &Outcome) {
        match outcome {
            Outcome::Accepted(accepted) => {
                line!(debug, self, telnyx_message_id = accepted.carrier_id, "Telnyx accepted message");
            }
            Outcome::Refused(error) => line!(info, self, code = error.code, "Telnyx refused message"),
            Outcome::Config { error, .. } => line!(
                error,
                self,
                code = error.code,
                "the carrier refuses messages until its account or settings change"
            ),
            Outcome::Unclear { reason, alert: true, .. } => {
                line!(error, self, reason, "Carrier outcome unclear");
            }
            Outcome::Unclear { reason, .. } => line!(info, self, reason, "Carrier outcome unclear"),
            Outcome::NotSent { reason } => line!(warn, self, reason, "the carrier can't be reached"),
            Outcome::Throttled { wait, error, .. } => {
                line!(warn, self, ?wait, code = error.code, "the carrier asks for a pause");
            }
            Outcome::InProgress { .. } => line!(debug, self, "the carrier still works on this message"),
        }
    }
}
