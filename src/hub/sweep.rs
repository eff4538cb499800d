//! What time alone brings about, looked at once a second: pings, time-outs, backlogs that are too old.

use std::sync::Arc;

use bytes::Bytes;

use super::connection::{Connection, Phase};
use super::shard::{SLICE, ShardState};
use crate::protocol::error_code::ErrorCode;

/// Seconds that a client has to answer our Close frame.
const CLOSE_GRACE: u32 = 5;
/// Seconds that a client which does not read has to come back and see why it was closed.
const UNREAD_GRACE: u32 = 30;

impl ShardState {
    /// Looks after up to [`SLICE`] × 4 slots; returns where to go on.
    pub(super) fn sweep_from(&mut self, from: usize) -> Option<usize> {
        self.clock.tick();
        let end = (from + SLICE * 4).min(self.connections.capacity());
        for slot in from..end {
            if self.connections.contains(slot) {
                self.sweep_connection(slot as u32);
            }
        }
        (end < self.connections.capacity()).then_some(end)
    }

    pub(super) fn sweep_connection(&mut self, slot: u32) {
        let now = self.clock.now();
        let limits = Arc::clone(&self.limits);
        let connection = &mut self.connections[slot as usize];
        let silent = now.saturating_sub(connection.last_heard);
        match connection.phase {
            Phase::Closing(since) | Phase::Deaf(since) => {
                let is_unread = connection.backlog.is_some() && !self.hub.is_draining();
                let grace = if is_unread { UNREAD_GRACE } else { CLOSE_GRACE };
                if now.saturating_sub(since) > grace {
                    self.remove(slot);
                }
            }
            Phase::Open if is_older(connection, now, limits.backlog_max_age) => {
                self.close_slow_consumer(slot)
            }
            Phase::Open if connection.is_overdue(now) => {
                self.close_with_error(
                    slot,
                    ErrorCode::Unauthorized,
                    "Connection not authorized within timeout",
                );
            }
            Phase::Open if silent > limits.activity_timeout + limits.pong_timeout => {
                self.stats.timed_out += 1;
                self.close_with_error(slot, ErrorCode::PongNotReceived, "Pong reply not received");
            }
            Phase::Open if silent > limits.activity_timeout && !connection.is_pinged => {
                connection.is_pinged = true;
                self.reply_bytes(Bytes::from_static(&[0x89, 0]));
                self.flush(slot);
            }
            Phase::Open => {}
        }
        if self.connections.get(slot as usize).is_some_and(|connection| !connection.held.is_empty()) {
            self.refuse_overdue(slot, now);
        }
    }
}

impl Connection {
    /// Whether the app demands authorisation and the time for it is over.
    fn is_overdue(&self, now: u32) -> bool {
        let app = self.app.app();
        let settings = &app.settings;
        settings.authorized_connections
            && !self.is_authorized
            && u64::from(now.saturating_sub(self.opened)) > settings.authorization_timeout.as_secs()
    }
}

fn is_older(connection: &Connection, now: u32, max_age: u32) -> bool {
    connection.backlog.as_ref().is_some_and(|backlog| backlog.age(now) > max_age)
}
