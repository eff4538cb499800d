//! What a shard writes to one connection besides publications: replies, control frames, what a socket did not
//! take at first.

use std::net::Shutdown;
use std::rc::Rc;

use bytes::Bytes;
use socket2::SockRef;
use tokio::task::spawn_local;

use super::backlog::Drained;
use super::connection::Phase;
use super::shard::{SCRATCH, SLICE, ShardState};
use crate::protocol::frame::Frame;

impl ShardState {
    /// Queues a frame for the connection at work.
    pub(super) fn reply(&mut self, frame: &Frame) {
        self.reply_bytes(frame.bytes().clone());
    }

    pub(super) fn reply_bytes(&mut self, bytes: Bytes) {
        self.reply_bytes += bytes.len();
        self.replies.push(bytes);
    }

    /// Queues what the protocol engine wants to send.
    pub(super) fn reply_control(&mut self) {
        if !self.control.is_empty() {
            self.reply_bytes(Bytes::copy_from_slice(&self.control));
            self.control.clear();
        }
    }

    /// Sends the queued replies, behind what the fan-out has for this connection.
    pub(super) fn flush(&mut self, slot: u32) {
        self.deliver_links(slot);
        let mut replies = std::mem::take(&mut self.replies);
        if let Some(connection) = self.connections.get_mut(slot as usize)
            && !replies.is_empty()
        {
            let joined = match replies.as_slice() {
                [only] => only,
                several => {
                    self.joined.clear();
                    several.iter().for_each(|reply| self.joined.extend_from_slice(reply));
                    self.joined.as_slice()
                }
            };
            let written =
                connection.write(replies.as_slice(), joined, self.limits.backlog_limit, self.clock.now());
            self.after_write(slot, written);
        }
        replies.clear();
        replies.shrink_to(SLICE);
        self.joined.shrink_to(SCRATCH);
        self.replies = replies;
        self.reply_bytes = 0;
    }

    /// Drains a backlog as the socket becomes writable.
    pub(super) fn drain_later(&mut self, slot: u32) {
        let Some(shard) = self.this.upgrade() else { return };
        let address = self.address(slot);
        let connection = &mut self.connections[slot as usize];
        let socket = Rc::clone(&connection.socket);
        match &mut connection.backlog {
            Some(backlog) if !backlog.has_drainer => backlog.has_drainer = true,
            _ => return,
        }
        spawn_local(async move {
            while socket.writable().await.is_ok() {
                let mut state = shard.state.borrow_mut();
                if !state.is_same(address) {
                    return;
                }
                let connection = &mut state.connections[address.slot as usize];
                match connection.drain_backlog() {
                    Ok(Drained::Blocked) => {}
                    Ok(Drained::Empty) => {
                        if matches!(connection.phase, Phase::Deaf(_)) {
                            let _ = SockRef::from(&*connection.socket).shutdown(Shutdown::Write);
                        }
                        return;
                    }
                    Err(_) => return state.remove(address.slot),
                }
            }
            shard.state.borrow_mut().remove_if_same(address);
        });
    }
}
