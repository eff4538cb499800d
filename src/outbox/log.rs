//! What became of events: lists for operators, and sending again.
//!
//! An event that was given up is kept for 7 days. One that was taken is kept for 24 h where its endpoint
//! asks for that ([`super::Endpoint::keeps_log`]), and so are the tries of both.

use serde::Serialize;

use super::queue::{self, Attempt, PAGE};
use super::{Outbox, Target};
use crate::storage::StorageError;

/// Where an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EventState {
    /// To be posted, now or when those before it are.
    Waiting,
    /// Given up.
    Failed,
    /// Taken.
    Delivered,
}

impl EventState {
    /// The name of a state.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "waiting" => Self::Waiting,
            "failed" => Self::Failed,
            "delivered" => Self::Delivered,
            _ => return None,
        })
    }

    /// As it stands in the table; what is waiting has two words for it.
    pub(super) fn of_column(state: &str) -> Self {
        match state {
            "failed" => Self::Failed,
            "done" => Self::Delivered,
            _ => Self::Waiting,
        }
    }

    pub(super) fn columns(self) -> [&'static str; 2] {
        match self {
            Self::Waiting => ["pending", "queued"],
            Self::Failed => ["failed", "failed"],
            Self::Delivered => ["done", "done"],
        }
    }
}

/// An event as the table has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its row.
    pub id: i64,
    /// Its id for the receiver.
    pub event_id: String,
    /// Its name.
    pub name: String,
    /// What it says: `data`, or the whole list of events.
    pub data: String,
    /// Where it is.
    pub state: EventState,
    /// Tries so far.
    pub attempts: i64,
    /// What the last failed one came to.
    pub error: Option<String>,
    /// Microseconds since 1970.
    pub created_at: i64,
    /// When it was given up or taken; when it is to be tried next.
    pub changed_at: i64,
}

/// Which events.
#[derive(Clone, Copy, Debug)]
pub struct Listing {
    /// In this state.
    pub state: EventState,
    /// Behind this row.
    pub after: i64,
    /// Taken, given up or, if it waits, written at or after this time; microseconds since 1970.
    pub since: i64,
    /// At most so many.
    pub limit: i64,
}

impl Outbox {
    /// Events of a target, oldest first.
    ///
    /// # Errors
    /// Of the store.
    pub async fn events(&self, target: Target, which: Listing) -> Result<Vec<StoredEvent>, StorageError> {
        self.database.read(move |tx| queue::list(tx, &target, which)).await
    }

    /// Tries of one event, oldest first; kept for 24 h. Without a log, an event that was taken at once has
    /// none.
    ///
    /// # Errors
    /// Of the store.
    pub async fn attempts(&self, target: Target, event: i64) -> Result<Vec<Attempt>, StorageError> {
        self.database.read(move |tx| queue::attempts(tx, &target, event)).await
    }

    /// Has these events sent again, whether they were given up or taken; answers how many.
    ///
    /// # Errors
    /// Of the store.
    pub async fn resend(&self, target: Target, ids: Vec<i64>) -> Result<u64, StorageError> {
        let of = target.clone();
        let done = self.database.write(move |tx| queue::resend(tx, &of, &ids)).await?;
        self.couriers.wake(&target);
        Ok(done.len() as u64)
    }

    /// Has all events sent again that came into a state at or after `since`; answers how many.
    ///
    /// # Errors
    /// Of the store.
    pub async fn resend_all(
        &self,
        target: Target,
        state: EventState,
        since: i64,
    ) -> Result<u64, StorageError> {
        let (mut resent, mut after) = (0, 0);
        loop {
            let of = target.clone();
            let done = self
                .database
                .write(move |tx| {
                    let which = Listing { state, after, since, limit: PAGE };
                    let ids = queue::ids(tx, &of, which)?;
                    queue::resend(tx, &of, &ids)
                })
                .await?;
            resent += done.len() as u64;
            self.couriers.wake(&target);
            match done.last() {
                Some(last) => after = *last,
                None => return Ok(resent),
            }
        }
    }
}
