//! Exactly once and in order: the account of what every subscriber has received.
//!
//! A *stream* is one source of numbered messages on one channel: publishing connection × channel, or the
//! sender of client events. Messages of one stream are sent one after another, so each subscriber must see
//! 0, 1, 2, … of it. Different streams of a channel may interleave, but in the same way for every subscriber:
//! each subscriber's sequence is folded into a hash, and the hashes are compared when nothing is in flight.

use std::ops::Range;

/// Violations kept with their text; the rest is only counted.
const KEPT: usize = 5;

/// The mark each payload starts with: `#`, stream (4 digits), `:`, number (8 digits), `:`.
pub const MARK_SIZE: usize = 15;

/// A payload of `size` bytes for message `number` of `stream`.
pub fn payload(stream: u32, number: u32, size: usize) -> String {
    format!("{:x<size$}", format!("#{stream:04}:{number:08}:"))
}

/// Reads marks, remembering where the last one was: frames of one server have the same layout.
#[derive(Default)]
pub struct MarkReader {
    place: usize,
}

impl MarkReader {
    /// Stream and number of a frame's payload; `None` when it has no mark.
    pub fn read(&mut self, text: &[u8]) -> Option<(u32, u32)> {
        if text.get(self.place) != Some(&b'#') {
            self.place = text.iter().position(|&byte| byte == b'#')?;
        }
        let mark: &[u8; MARK_SIZE] = text.get(self.place..)?.first_chunk()?;
        Some((digits(&mark[1..5])?, digits(&mark[6..14])?))
    }
}

fn digits(text: &[u8]) -> Option<u32> {
    text.iter().try_fold(0, |value: u32, byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit < 10).then(|| 10 * value + u32::from(digit))
    })
}

/// What all subscribers have received.
#[derive(Default)]
pub struct Ledger {
    accounts: Vec<Account>,
    /// Next expected number, for each stream of each account.
    next: Vec<u32>,
    kept: Vec<String>,
    faults: usize,
}

struct Account {
    streams: Range<u32>,
    place: usize,
    /// Sum of the numbers it started at: those that differ in it have seen different parts.
    start: u64,
    /// Hash of all messages in the order they came.
    order: u64,
}

impl Ledger {
    /// Adds a subscriber that follows `streams`, where `starts` gives the number due next on each. Accounts are
    /// numbered from 0.
    pub fn add(&mut self, streams: Range<u32>, starts: &[u32]) {
        let place = self.next.len();
        self.next.extend_from_slice(starts);
        let order = starts.iter().map(|&start| u64::from(start)).sum();
        self.accounts.push(Account { streams, place, start: order, order });
    }

    /// Enters a received message; false when it was not a new one.
    pub fn enter(&mut self, subscriber: usize, stream: u32, number: u32) -> bool {
        let account = &mut self.accounts[subscriber];
        if !account.streams.contains(&stream) {
            self.fault(format!("subscriber {subscriber} got message {number} of foreign stream {stream}"));
            return false;
        }
        let next = &mut self.next[account.place + (stream - account.streams.start) as usize];
        let expected = *next;
        if number < expected {
            self.fault(format!(
                "subscriber {subscriber}, stream {stream}: {number} came again or late, after {}",
                expected - 1
            ));
            return false;
        }
        *next = number + 1;
        let message = u64::from(stream) << 32 | u64::from(number);
        account.order = (account.order ^ message).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
        if number > expected {
            self.fault(format!(
                "subscriber {subscriber}, stream {stream}: {number} came where {expected} was due (lost or reordered)"
            ));
        }
        true
    }

    /// Next number of the first stream that `subscriber` follows.
    pub fn expected(&self, subscriber: usize) -> u32 {
        self.next[self.accounts[subscriber].place]
    }

    /// Compares the order seen by neighbours that follow the same streams from the same start. Only meaningful
    /// when nothing is in flight.
    pub fn compare_orders(&mut self, subscribers: impl Iterator<Item = usize>) {
        let mut first: Option<usize> = None;
        for subscriber in subscribers {
            let leader = *first.get_or_insert(subscriber);
            let (own, model) = (&self.accounts[subscriber], &self.accounts[leader]);
            if own.streams != model.streams || own.start != model.start {
                first = Some(subscriber);
            } else if own.order != model.order {
                self.fault(format!(
                    "subscribers {leader} and {subscriber} saw one channel in different orders"
                ));
            }
        }
    }

    /// Records a broken promise.
    pub fn fault(&mut self, text: String) {
        self.faults += 1;
        if self.kept.len() < KEPT {
            self.kept.push(text);
        }
    }

    /// True when any promise was broken.
    pub fn has_faults(&self) -> bool {
        self.faults > 0
    }

    /// The first violations in words, and how many more there were.
    pub fn violations(&self) -> Vec<String> {
        let mut texts = self.kept.clone();
        if self.faults > KEPT {
            texts.push(format!("and {} more", self.faults - KEPT));
        }
        texts
    }
}
