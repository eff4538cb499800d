//! What time alone brings about: pings, time-outs, backlogs that are too old.
//!
//! Every connection is looked after once a second. Pings and the wait for their answers are timed more
//! exactly: the sweep notes whose time comes before the next one, and these few are visited in between.

use std::cmp::Reverse;
use std::time::Instant;

use bytes::Bytes;

use super::connection::{Connection, Phase};
use super::shard::{SLICE, STEPS_A_SECOND, ShardState};
use crate::protocol::auth::Authorization;
use crate::protocol::error_code::ErrorCode;

/// Seconds that a client has to answer our Close frame.
const CLOSE_GRACE: u32 = 5;
/// Seconds that a client which does not read has to come back and see why it was closed.
const UNREAD_GRACE: u32 = 30;

impl ShardState {
    /// When time brings about something next.
    pub(super) fn next_look(&self) -> Instant {
        let due = self.due.peek().map_or(u32::MAX, |Reverse((at, _))| *at);
        self.clock.at(due.min(self.next_sweep))
    }

    /// Looks after up to [`SLICE`] × 4 connections whose time has come; whether there may be more.
    pub(super) fn sweep_due(&mut self) -> bool {
        self.clock.tick();
        for _ in 0..SLICE * 4 {
            match self.due.peek() {
                Some(Reverse((at, _))) if *at <= self.clock.steps() => {}
                _ => return false,
            }
            if let Some(Reverse((_, slot))) = self.due.pop()
                && self.connections.contains(slot as usize)
            {
                self.check_life(slot);
            }
        }
        true
    }

    /// Whether it is time to look after all connections.
    pub(super) fn begin_sweep(&mut self) -> bool {
        let now = self.clock.steps();
        let is_time = now >= self.next_sweep;
        if is_time {
            self.next_sweep = now + STEPS_A_SECOND;
        }
        is_time
    }

    /// Looks after up to [`SLICE`] × 4 slots; returns where to go on.
    pub(super) fn sweep_from(&mut self, from: usize) -> Option<usize> {
        self.clock.tick();
        let end = (from + SLICE * 4).min(self.connections.capacity());
        for slot in from..end {
            if self.connections.contains(slot) {
                self.sweep_connection(slot as u32);
            }
            self.held += self.connections.get(slot).map_or(0, |connection| connection.held());
        }
        (end < self.connections.capacity()).then_some(end)
    }

    pub(super) fn sweep_connection(&mut self, slot: u32) {
        let now = self.clock.now();
        let connection = &self.connections[slot as usize];
        match connection.phase {
            Phase::Closing(since) | Phase::Deaf(since) => {
                let is_unread = connection.backlog.is_some() && !self.hub.is_draining();
                let grace = if is_unread { UNREAD_GRACE } else { CLOSE_GRACE };
                if now.saturating_sub(since) > grace {
                    self.remove(slot);
                }
            }
            Phase::Open | Phase::Pinged(_) => {
                if is_older(connection, now, self.limits.backlog_max_age) {
                    self.close_slow_consumer(slot);
                } else if connection.is_overdue(now) {
                    // Hosted Pusher's 4009 would keep a page away for good whose backend was slow.
                    let reason = "Connection not authorized within timeout";
                    self.close_with_error(slot, ErrorCode::OverCapacity, reason);
                } else {
                    self.check_life(slot);
                }
            }
        }
        if self.connections.get(slot as usize).is_some_and(|connection| !connection.held.is_empty()) {
            self.refuse_overdue(slot, now);
        }
    }

    /// Pings a connection that was silent for `ping_interval`, closes one that did not answer. What was sent to it
    /// does not count: proxies cut connections from which nothing comes, also busy ones.
    fn check_life(&mut self, slot: u32) {
        let now = self.clock.steps();
        let (ping_interval, pong_timeout) = (self.limits.ping_interval, self.limits.pong_timeout);
        let connection = &mut self.connections[slot as usize];
        match connection.phase {
            Phase::Open => {
                let silence_ends = connection.last_heard + ping_interval;
                if now <= silence_ends {
                    return self.look_after(slot, silence_ends);
                }
                connection.phase = Phase::Pinged(now);
                self.reply_bytes(Bytes::from_static(&[0x89, 0]));
                self.flush(slot);
                self.look_after(slot, now + pong_timeout);
            }
            Phase::Pinged(since) if now <= since + pong_timeout => {
                self.look_after(slot, since + pong_timeout);
            }
            Phase::Pinged(_) => {
                self.stats.timed_out += 1;
                self.close_with_error(slot, ErrorCode::PongNotReceived, "Pong reply not received");
            }
            Phase::Closing(_) | Phase::Deaf(_) => {}
        }
    }

    /// Notes a connection for the step after this one, unless the next sweep is early enough.
    fn look_after(&mut self, slot: u32, step: u32) {
        if step < self.next_sweep {
            self.due.push(Reverse((step + 1, slot)));
        }
    }
}

impl Connection {
    /// Whether the app demands authorisation and the time for it is over.
    fn is_overdue(&self, now: u32) -> bool {
        let app = self.app.app();
        let settings = &app.settings;
        settings.authorized_connections
            && self.authorization == Authorization::None
            && u64::from(now.saturating_sub(self.opened)) > settings.authorization_timeout.as_secs()
    }
}

fn is_older(connection: &Connection, now: u32, max_age: u32) -> bool {
    connection.backlog.as_ref().is_some_and(|backlog| backlog.age(now) > max_age)
}
