//! What is awaited of the carrier about a message: its last word.

use std::time::Duration;

use super::Message;
use crate::routing::events::micros;
use crate::storage::{Row, StorageError, Transaction};

/// Pauses between questions grow up to this.
const LONGEST: Duration = Duration::from_hours(24);

/// What the carrier reported of a message so far, and what is still to come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Awaited {
    /// When the last thing that it reported happened. By its own clock, which is never held against ours.
    pub reported_at: Option<i64>,
    /// Whether it said its last word.
    pub is_settled: bool,
    /// When it is asked next; `None`: never.
    pub ask_at: Option<i64>,
    /// How often it was asked.
    pub asks: i64,
}

/// A message about which the carrier is to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// Its row.
    pub message: i64,
    /// What the carrier knows it by.
    pub carrier_id: Option<String>,
    /// How often it was asked.
    pub asks: i64,
    ask_at: i64,
}

impl Awaited {
    /// The carrier has the message: its last word is awaited, and asked for after this time.
    pub fn await_report(&mut self, now: i64, ask_after: Duration) {
        if !self.is_settled && self.ask_at.is_none() {
            self.ask_at = Some(now.saturating_add(micros(ask_after)));
        }
    }

    /// Nothing more is awaited.
    pub fn settle(&mut self) {
        self.is_settled = true;
        self.ask_at = None;
    }

    pub(super) fn from_row(row: &Row, first: usize) -> Result<Self, StorageError> {
        Ok(Self {
            reported_at: row.optional_int(first)?,
            is_settled: row.flag(first + 1)?,
            ask_at: row.optional_int(first + 2)?,
            asks: row.int(first + 3)?,
        })
    }
}

impl Due {
    /// Messages of an app whose time has come, those that have waited longest first. `is_over` chooses between those
    /// about which nothing more is asked and the others: asked `asks` times, due since before `forgotten`, or not known
    /// by any id.
    ///
    /// # Errors
    /// Of the store.
    pub fn of_app(
        tx: &mut Transaction<'_>,
        app_id: &str,
        now: i64,
        (is_over, asks, forgotten): (bool, i64, i64),
        limit: i64,
    ) -> Result<Vec<Self>, StorageError> {
        let sql = if is_over {
            "SELECT id, telnyx_message_id, asks, ask_at FROM messages WHERE app_id = ?1 AND ask_at <= ?2 \
             AND (asks >= ?3 OR ask_at < ?4 OR telnyx_message_id IS NULL) ORDER BY ask_at, id LIMIT ?5"
        } else {
            "SELECT id, telnyx_message_id, asks, ask_at FROM messages WHERE app_id = ?1 AND ask_at <= ?2 \
             AND asks < ?3 AND ask_at >= ?4 AND telnyx_message_id IS NOT NULL ORDER BY ask_at, id LIMIT ?5"
        };
        let values = [app_id.into(), now.into(), asks.into(), forgotten.into(), limit.into()];
        let due = |row: &Row| {
            Ok(Self {
                message: row.int(0)?,
                carrier_id: row.optional_text(1)?,
                asks: row.int(2)?,
                ask_at: row.int(3)?,
            })
        };
        tx.query(sql, &values)?.iter().map(due).collect()
    }

    /// Whether the message still is as it was when it was found.
    pub fn is_still(&self, message: &Message) -> bool {
        message.awaited.ask_at == Some(self.ask_at) && message.awaited.asks == self.asks
    }

    /// Takes it: of several nodes that see it one asks. The next question comes later, whatever becomes of this one.
    /// Answers whether it is ours.
    ///
    /// # Errors
    /// Of the store.
    pub fn take(
        &self,
        tx: &mut Transaction<'_>,
        now: i64,
        ask_after: Duration,
    ) -> Result<bool, StorageError> {
        let next = now.saturating_add(micros(pause(ask_after, self.asks)));
        let taken = tx.execute(
            "UPDATE messages SET ask_at = ?3, asks = asks + 1 WHERE id = ?1 AND ask_at = ?2 AND asks = ?4",
            &[self.message.into(), self.ask_at.into(), next.into(), self.asks.into()],
        )?;
        Ok(taken > 0)
    }
}

/// The pause after a question that followed on so many others: twice, four times, … the first one's.
fn pause(ask_after: Duration, asks: i64) -> Duration {
    let doublings = u32::try_from(asks.saturating_add(1)).unwrap_or(u32::MAX).min(30);
    ask_after.saturating_mul(2_u32.pow(doublings)).min(LONGEST.max(ask_after))
}

impl Message {
    /// The OUTBOUND message with the carrier's id.
    ///
    /// # Errors
    /// Of the store.
    pub fn by_carrier_id(
        tx: &mut Transaction<'_>,
        app_id: &str,
        carrier_id: &str,
    ) -> Result<Option<Self>, StorageError> {
        let row = tx.query_one(
            "SELECT id FROM messages WHERE app_id = ?1 AND telnyx_message_id = ?2 AND direction = 'OUTBOUND'",
            &[app_id.into(), carrier_id.into()],
        )?;
        match row {
            Some(row) => Self::by_row_to_change(tx, row.int(0)?),
            None => Ok(None),
        }
    }

    /// Stores what the carrier said of the message: everything but its status.
    ///
    /// # Errors
    /// Of the store.
    pub fn save_carrier_facts(&self, tx: &mut Transaction<'_>) -> Result<(), StorageError> {
        tx.execute(
            "UPDATE messages SET telnyx_message_id = ?2, parts = ?3, encoding = ?4, cost = ?5, error = ?6, \
             is_unconfirmed = ?7, carrier_status = ?8, reported_at = ?9, is_settled = ?10, ask_at = ?11, asks = ?12, \
             recipients = ?13 WHERE id = ?1",
            &[
                self.id.into(),
                self.telnyx_message_id.clone().into(),
                self.parts.into(),
                self.encoding.clone().into(),
                self.cost.clone().into(),
                self.error.clone().into(),
                self.is_unconfirmed.into(),
                self.carrier_status.clone().into(),
                self.awaited.reported_at.into(),
                self.awaited.is_settled.into(),
                self.awaited.ask_at.into(),
                self.awaited.asks.into(),
                (!self.recipients.is_empty()).then(|| serde_json::json!(self.recipients).to_string()).into(),
            ],
        )?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_day() {
        let minutes = |asks| pause(Duration::from_mins(15), asks).as_secs() / 60;
        assert_eq!([0, 1, 2, 3, 4, 5, 6].map(minutes), [30, 60, 120, 240, 480, 960, 1440]);
        assert_eq!(minutes(i64::MAX), 1440);
        assert_eq!(pause(Duration::from_hours(24), 3), Duration::from_hours(24));
    }

    #[test]
    fn a_question_is_put_off_by_no_further_news() {
        let mut awaited = Awaited::default();
        awaited.await_report(1, Duration::from_secs(1));
        awaited.await_report(500, Duration::from_secs(1));
        assert_eq!(awaited.ask_at, Some(1_000_001));
        awaited.settle();
        awaited.await_report(500, Duration::from_secs(1));
        assert_eq!((awaited.ask_at, awaited.is_settled), (None, true));
    }
}
