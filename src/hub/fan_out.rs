//! One turn of a shard's mailbox: every waiting publication to every subscriber, one write each.
//!
//! First each publication is linked to the connections that are to get it; then each linked connection
//! is visited once, and all its frames leave together. Links live in one vector that is reused, so a
//! delivery allocates nothing. Connections that get the same frames share one joined buffer.
//!
//! A visit may be put off by a pause (see [`super::shard`]); whatever else wants to write to a linked
//! connection delivers its links first, so that frames leave in the order in which they were produced.

use bytes::Bytes;

use super::connection::{Address, NO_LINK, Pieces, Written};
use super::mailbox::Parcel;
use super::shard::ShardState;

/// Bytes joined for one write.
const MAX_JOINED: usize = 64 * 1024;
/// Links made before connections are visited, which bounds the memory of a turn.
const MAX_LINKS: usize = 1 << 17;
/// Room that the vectors of a turn keep.
const KEPT_LINKS: usize = 1 << 16;

/// The publications of the current turn and who is to get them.
#[derive(Default)]
pub(super) struct Turn {
    parcels: Vec<Parcel>,
    /// Parcels before this one are linked.
    linked: usize,
    links: Vec<Link>,
    touched: Vec<u32>,
    visited: usize,
    /// Indices of the frames that `joined` holds.
    run: Vec<u32>,
    joined_run: Vec<u32>,
    joined: Vec<u8>,
}

/// "This connection gets that parcel"; the lists of one connection are chained by `next`.
struct Link {
    parcel: u32,
    next: u32,
}

/// Frames of one connection, by their indices.
struct Run<'a> {
    parcels: &'a [Parcel],
    run: &'a [u32],
}

impl Pieces for Run<'_> {
    fn len(&self) -> usize {
        self.run.len()
    }
    fn get(&self, index: usize) -> &Bytes {
        frame(&self.parcels[self.run[index] as usize]).expect("bug: a run holds frames only")
    }
    fn state_of(&self, index: usize) -> Option<u64> {
        match &self.parcels[self.run[index] as usize] {
            Parcel::Publication(publication) => publication.is_state.then_some(publication.channel),
            _ => None,
        }
    }
}

/// The bytes of a parcel that is a frame.
fn frame(parcel: &Parcel) -> Option<&Bytes> {
    match parcel {
        Parcel::Publication(publication) => Some(publication.frame.bytes()),
        Parcel::Direct(_, frame) => Some(frame.bytes()),
        Parcel::Close(..) | Parcel::Drain(..) | Parcel::CloseApp(..) | Parcel::Review(_) => None,
    }
}

impl ShardState {
    /// Takes what is in the mailbox; false when there is nothing.
    pub fn begin_turn(&mut self) -> bool {
        let mailbox = &self.hub.inner.mailboxes[self.index as usize];
        mailbox.take(&mut self.turn.parcels);
        let is_empty = self.turn.parcels.is_empty();
        if is_empty {
            mailbox.turn_is_over();
        }
        !is_empty
    }

    /// Works on the turn for up to `connections` visits; false when the turn is over.
    pub fn continue_turn(&mut self, connections: usize) -> bool {
        for _ in 0..connections {
            if self.turn.visited == self.turn.touched.len() && !self.link_more() {
                self.end_turn();
                return false;
            }
            if let Some(slot) = self.turn.touched.get(self.turn.visited).copied() {
                self.turn.visited += 1;
                self.deliver_links(slot);
            }
        }
        true
    }

    /// Links the next publications; false when all were linked and visited.
    fn link_more(&mut self) -> bool {
        self.turn.links.clear();
        self.turn.touched.clear();
        self.turn.visited = 0;
        while self.turn.linked < self.turn.parcels.len() && self.turn.links.len() < MAX_LINKS {
            let index = self.turn.linked;
            self.turn.linked += 1;
            self.link_parcel(index);
        }
        !self.turn.touched.is_empty() || self.turn.linked < self.turn.parcels.len()
    }

    fn link_parcel(&mut self, index: usize) {
        let Self { turn, channels, connections, .. } = self;
        match &turn.parcels[index] {
            Parcel::Publication(publication) => {
                let Some(channel) = channels
                    .get(publication.local as usize)
                    .filter(|channel| channel.id == publication.channel)
                else {
                    return;
                };
                for subscriber in &channel.subscribers {
                    let connection = &mut connections[subscriber.slot as usize];
                    if subscriber.since < publication.revision && publication.except != Some(connection.id) {
                        turn.links.push(Link { parcel: index as u32, next: NO_LINK });
                        link(&mut turn.links, &mut turn.touched, &mut connection.links, subscriber.slot);
                    }
                }
            }
            Parcel::Direct(address, _) | Parcel::Close(address, ..) => {
                let address: Address = *address;
                if let Some(connection) = connections.get_mut(address.slot as usize)
                    && connection.id == address.id
                {
                    turn.links.push(Link { parcel: index as u32, next: NO_LINK });
                    link(&mut turn.links, &mut turn.touched, &mut connection.links, address.slot);
                }
            }
            Parcel::Drain(window, code) => {
                let (window, code) = (*window, *code);
                self.begin_drain(window, code);
            }
            Parcel::CloseApp(id, code, reason) => {
                let (id, code, reason) = (id.clone(), *code, *reason);
                self.close_app(&id, code, reason);
            }
            Parcel::Review(review) => {
                let review = review.clone();
                self.review(&review);
            }
        }
    }

    /// Sends a connection what the turn has for it. Called before anything else is written to it.
    pub fn deliver_links(&mut self, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        let mut next = std::mem::replace(&mut connection.links, (NO_LINK, NO_LINK)).0;
        while next != NO_LINK {
            let mut len = 0;
            let mut close = None;
            self.turn.run.clear();
            while next != NO_LINK {
                let link = &self.turn.links[next as usize];
                match &self.turn.parcels[link.parcel as usize] {
                    Parcel::Close(_, code, reason) => {
                        close = Some((*code, *reason));
                        next = link.next;
                        break;
                    }
                    parcel => {
                        let more = frame(parcel).map_or(0, Bytes::len);
                        if len > 0 && len + more > MAX_JOINED {
                            break;
                        }
                        len += more;
                        self.turn.run.push(link.parcel);
                        next = link.next;
                    }
                }
            }
            self.write_run(slot);
            if let Some((code, reason)) = close {
                self.close_with_error(slot, code, reason);
            }
        }
    }

    fn write_run(&mut self, slot: u32) {
        let Self { turn, connections, limits, clock, stats, .. } = self;
        let Turn { parcels, run, joined, joined_run, .. } = turn;
        let Some(connection) = connections.get_mut(slot as usize) else { return };
        if run.is_empty() || !connection.is_open() {
            return;
        }
        let pieces = Run { parcels, run };
        let written = if run.len() == 1 {
            connection.write(&pieces, pieces.get(0), limits.backlog_limit, clock.now())
        } else {
            if joined_run != run {
                joined.clear();
                (0..pieces.len()).for_each(|index| joined.extend_from_slice(pieces.get(index)));
                joined_run.clone_from(run);
            }
            connection.write(&pieces, joined, limits.backlog_limit, clock.now())
        };
        stats.delivered += run.len() as u64;
        self.after_write(slot, written);
    }

    /// What a write demands besides.
    pub fn after_write(&mut self, slot: u32, written: Written) {
        match written {
            Written::All | Written::Queued => {}
            Written::BacklogBegun => self.drain_later(slot),
            Written::OverLimit => self.close_slow_consumer(slot),
            Written::Broken => self.remove(slot),
        }
    }

    fn end_turn(&mut self) {
        self.resume_readers();
        let turn = &mut self.turn;
        turn.parcels.clear();
        turn.linked = 0;
        turn.links.clear();
        turn.touched.clear();
        turn.visited = 0;
        turn.joined_run.clear();
        if turn.links.capacity() > KEPT_LINKS {
            turn.links.shrink_to(KEPT_LINKS);
            turn.touched.shrink_to(KEPT_LINKS);
        }
        turn.joined.shrink_to(MAX_JOINED);
        turn.parcels.shrink_to(1_024);
        self.hub.inner.mailboxes[self.index as usize].turn_is_over();
    }
}

/// Chains the newest link to a connection's list.
fn link(links: &mut [Link], touched: &mut Vec<u32>, ends: &mut (u32, u32), slot: u32) {
    let newest = links.len() as u32 - 1;
    if ends.0 == NO_LINK {
        ends.0 = newest;
        touched.push(slot);
    } else {
        links[ends.1 as usize].next = newest;
    }
    ends.1 = newest;
    debug_assert!(ends.0 <= newest && newest != NO_LINK);
}
