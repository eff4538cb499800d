//! Frames that a socket would not take yet: slices of the shared frames, never copies.

use std::collections::{HashMap, VecDeque};
use std::io::{self, IoSlice};

use bytes::{Buf, Bytes};

/// Pieces that leave in one `writev`.
const MAX_PIECES: usize = 64;

/// The pending bytes of one connection, in order.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    pieces: VecDeque<Piece>,
    bytes: usize,
    /// Pieces that have left.
    gone: u64,
    /// Where the newest piece is that tells the state of a channel: its number among all pieces that ever were here.
    states: HashMap<u64, u64, foldhash::fast::RandomState>,
    /// Whether the first piece is the rest of a frame that has begun to leave.
    is_mid_frame: bool,
    /// Whether a task waits for the socket to take more.
    pub has_drainer: bool,
}

#[derive(Debug)]
struct Piece {
    bytes: Bytes,
    /// Shard time (seconds).
    queued: u32,
}

/// What a write to the socket did.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Drained {
    /// Nothing is waiting any more.
    Empty,
    /// The socket takes no more for now.
    Blocked,
}

impl Backlog {
    /// Appends a whole frame, or the rest of one that has begun to leave. `now` is shard time.
    pub fn push(&mut self, bytes: Bytes, is_rest: bool, now: u32) {
        if is_rest {
            debug_assert!(self.pieces.is_empty());
            self.is_mid_frame = true;
        }
        self.bytes += bytes.len();
        self.pieces.push_back(Piece { bytes, queued: now });
    }

    /// Appends a whole frame. One that tells the state of something takes the place of the one before it, if that has not
    /// begun to leave. `now` is shard time.
    pub fn push_state(&mut self, bytes: Bytes, state: Option<u64>, now: u32) {
        let Some(state) = state else { return self.push(bytes, false, now) };
        let first = self.gone + u64::from(self.is_mid_frame);
        let known = self.states.get(&state).filter(|number| **number >= first);
        if let Some(piece) = known.and_then(|number| self.pieces.get_mut((number - self.gone) as usize)) {
            self.bytes = self.bytes - piece.bytes.len() + bytes.len();
            piece.bytes = bytes;
            return;
        }
        self.states.insert(state, self.gone + self.pieces.len() as u64);
        self.push(bytes, false, now);
    }

    /// Seconds that the oldest piece has been waiting.
    pub fn age(&self, now: u32) -> u32 {
        self.pieces.front().map_or(0, |oldest| now.saturating_sub(oldest.queued))
    }

    /// What waits.
    pub fn pieces(&self) -> impl Iterator<Item = &Bytes> {
        self.pieces.iter().map(|piece| &piece.bytes)
    }

    /// Bytes waiting.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Forgets all but the rest of a frame that has begun to leave.
    pub fn cut(&mut self) {
        self.pieces.truncate(usize::from(self.is_mid_frame));
        self.states.clear();
        self.bytes = self.pieces.iter().map(|piece| piece.bytes.len()).sum();
    }

    /// Writes until the socket blocks or nothing is left.
    pub fn drain(
        &mut self,
        mut write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<Drained> {
        while !self.pieces.is_empty() {
            let mut slices = [IoSlice::new(&[]); MAX_PIECES];
            let used = self.pieces.len().min(MAX_PIECES);
            for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
                *slice = IoSlice::new(&piece.bytes);
            }
            match write(&slices[..used]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Drained::Blocked),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Drained::Empty)
    }

    fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        while let Some(first) = self.pieces.front_mut() {
            if written < first.bytes.len() {
                first.bytes.advance(written);
                self.is_mid_frame |= written > 0;
                return;
            }
            written -= first.bytes.len();
            self.pieces.pop_front();
            self.gone += 1;
            self.is_mid_frame = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A socket that takes `room` bytes, then blocks.
    fn take(backlog: &mut Backlog, mut room: usize, out: &mut Vec<u8>) -> Drained {
        backlog
            .drain(|slices| {
                let mut written = 0;
                for slice in slices {
                    let n = slice.len().min(room);
                    out.extend_from_slice(&slice[..n]);
                    room -= n;
                    written += n;
                }
                if written == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(written) }
            })
            .expect("no error")
    }

    #[test]
    fn bytes_leave_in_order_however_they_are_cut() {
        let all: Vec<u8> = (0..=255).collect();
        for step in [1, 3, 7, 64, 300] {
            let mut backlog = Backlog::default();
            all.chunks(5).for_each(|piece| backlog.push(Bytes::copy_from_slice(piece), false, 0));
            let mut out = Vec::new();
            while take(&mut backlog, step, &mut out) == Drained::Blocked {}
            assert_eq!(out, all);
            assert_eq!(backlog.bytes(), 0);
        }
    }

    #[test]
    fn the_newest_state_takes_the_place_of_one_that_waits_but_not_of_one_that_leaves() {
        let mut backlog = Backlog::default();
        let push = |backlog: &mut Backlog, text: &'static str, state| {
            backlog.push_state(Bytes::from_static(text.as_bytes()), state, 0);
        };
        push(&mut backlog, "a1", Some(1));
        push(&mut backlog, "event", None);
        push(&mut backlog, "b1", Some(2));
        push(&mut backlog, "a2.", Some(1));
        let mut out = Vec::new();
        take(&mut backlog, 2, &mut out);
        push(&mut backlog, "a3", Some(1));
        push(&mut backlog, "b2", Some(2));
        take(&mut backlog, 1_000, &mut out);
        assert_eq!(String::from_utf8_lossy(&out), "a2.eventb2a3");
        (0..10_000).for_each(|_| push(&mut backlog, "a4", Some(1)));
        assert_eq!(backlog.bytes(), 2);
    }

    #[test]
    fn cutting_keeps_the_frame_that_has_begun() {
        let mut backlog = Backlog::default();
        backlog.push(Bytes::from_static(b"aaaa"), false, 0);
        backlog.push(Bytes::from_static(b"bbbb"), false, 0);
        let mut out = Vec::new();
        take(&mut backlog, 2, &mut out);
        backlog.cut();
        assert_eq!(backlog.bytes(), 2);
        let mut fresh = Backlog::default();
        fresh.push(Bytes::from_static(b"cccc"), false, 0);
        fresh.cut();
        assert_eq!(fresh.bytes(), 0);
    }
}
