//! What one connection may ask of the server: so many messages, subscriptions and refusals a second, and a burst of
//! each.
//!
//! The budgets are token buckets that share one time of the last look, in the steps of the shard's clock, so that
//! they cost 16 bytes of a connection and no allocation. They are looked at when a client's message is, never when
//! something is published.

use std::num::NonZeroU32;

use super::shard::STEPS_A_SECOND;
use crate::config::ClientSettings;

/// Bytes beyond those of its messages that a connection may have sent: the head of what is unfinished, and what the
/// engine has read ahead.
const SLACK: u32 = 4096;
/// Bytes of a message that are not its text: the longest head of a client's frame (RFC 6455, section 5.2).
const FRAME_HEAD: usize = 14;
/// Bytes beyond those of messages that cost as much as a message. The smallest frame has six.
const BYTES_A_MESSAGE: u32 = 8;
/// Messages, subscriptions and refusals spent beyond which a connection counts among those that cause load. A wrong
/// signature costs the most.
const BUSY: [u32; 3] = [16, 8, 2];

/// What a connection has a budget of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Budget {
    /// Frames of any kind, but for client events that their own rate admits.
    Messages,
    /// Requests to subscribe, unsubscribe and sign in.
    Subscriptions,
    /// Messages that were answered with an error.
    Refusals,
}

impl Budget {
    /// For metrics and the client.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Subscriptions => "subscriptions",
            Self::Refusals => "refusals",
        }
    }
}

/// What a connection may spend; see [`limits`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    /// Tokens a second; `None`: as many as it likes.
    rate: Option<NonZeroU32>,
    /// Tokens at once.
    burst: u32,
}

/// The limits in the order of [`Budget`]. A client that comes back subscribes to all its channels at once, so that no
/// burst is smaller than the number of channels that a connection may have.
pub(super) fn limits(settings: &ClientSettings, max_channels: usize) -> [Limit; 3] {
    [
        (settings.message_rate, settings.message_burst),
        (settings.subscription_rate, settings.subscription_burst),
        (settings.refusal_rate, settings.refusal_burst),
    ]
    .map(|(rate, burst)| Limit { rate, burst: u32::try_from(burst.max(max_channels)).unwrap_or(u32::MAX) })
}

/// The budgets of one connection.
#[derive(Debug)]
pub(super) struct Budgets {
    /// Shard time (steps) of the last look.
    looked: u32,
    /// What is spent and not regained, in parts of a token of which a second has [`STEPS_A_SECOND`].
    spent: [u32; 3],
}

impl Budgets {
    /// Nothing is spent at this shard time (steps).
    pub fn new(now: u32) -> Self {
        Self { looked: now, spent: [0; 3] }
    }

    /// Spends tokens at this shard time (steps); whether the budget had them.
    pub fn spend(&mut self, budget: Budget, tokens: u32, now: u32, limits: &[Limit; 3]) -> bool {
        self.regain(now, limits);
        let Limit { rate: Some(_), burst } = limits[budget as usize] else { return true };
        let spent = &mut self.spent[budget as usize];
        let after = spent.saturating_add(tokens.saturating_mul(STEPS_A_SECOND));
        let is_within = after <= burst.saturating_mul(STEPS_A_SECOND);
        if is_within {
            *spent = after;
        }
        is_within
    }

    fn regain(&mut self, now: u32, limits: &[Limit; 3]) {
        let elapsed = now.saturating_sub(self.looked);
        if elapsed == 0 {
            return;
        }
        self.looked = now;
        for (spent, limit) in self.spent.iter_mut().zip(limits) {
            let regained = limit.rate.map_or(u32::MAX, |rate| elapsed.saturating_mul(rate.get()));
            *spent = spent.saturating_sub(regained);
        }
    }

    /// Whether it spent so much of late that it counts among the connections that cause load.
    pub fn is_busy(&self) -> bool {
        self.spent.iter().zip(BUSY).any(|(spent, busy)| *spent > busy * STEPS_A_SECOND)
    }
}

/// Bytes that came in and are not accounted for by finished messages. A client that sends its messages in fragments of
/// a byte makes the server read seven bytes and a frame for each.
#[derive(Debug, Default)]
pub(super) struct Unfinished(u32);

impl Unfinished {
    /// Takes in bytes that were read.
    pub fn read(&mut self, bytes: usize) {
        self.0 = self.0.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    /// How many they are.
    pub fn bytes(&self) -> usize {
        self.0 as usize
    }

    /// A message of this many bytes is finished; answers how many messages it costs.
    pub fn finish(&mut self, payload: usize) -> u32 {
        let own = u32::try_from(payload.saturating_add(FRAME_HEAD)).unwrap_or(u32::MAX);
        self.0 = self.0.saturating_sub(own);
        let beyond = self.0.saturating_sub(SLACK);
        self.0 -= beyond;
        1 + beyond / BYTES_A_MESSAGE
    }

    /// Whether a long message is on its way.
    pub fn is_long(&self) -> bool {
        self.0 > 4 * SLACK
    }

    /// Whether it is more than an unfinished message of at most `limit` bytes can be, in any sensible fragments.
    pub fn is_endless(&self, limit: usize) -> bool {
        self.0 as usize > limit.saturating_mul(2).saturating_add(SLACK as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u32 = STEPS_A_SECOND;

    fn settings() -> ClientSettings {
        ClientSettings {
            message_rate: NonZeroU32::new(10),
            message_burst: 20,
            subscription_rate: None,
            ..ClientSettings::default()
        }
    }

    #[test]
    fn budgets_cost_sixteen_bytes() {
        assert_eq!(size_of::<Budgets>(), 16);
        assert_eq!(size_of::<Unfinished>(), 4);
    }

    #[test]
    fn a_burst_passes_and_then_so_many_a_second() {
        let limits = limits(&settings(), 1);
        let mut budgets = Budgets::new(5);
        let mut spend = |now| budgets.spend(Budget::Messages, 1, now, &limits);
        assert!((0..20).all(|_| spend(5)));
        assert!(!spend(5));
        assert!(!spend(6), "half a message");
        assert!(spend(7), "a tenth of a second for each");
        assert!(!spend(7));
        assert!((0..20).all(|_| spend(7 + 10 * SECOND)), "and never more than the burst at once");
        assert!(!spend(7 + 10 * SECOND));
    }

    #[test]
    fn budgets_are_apart_and_one_without_a_rate_has_no_end() {
        let limits = limits(&settings(), 1);
        let mut budgets = Budgets::new(0);
        assert!(budgets.spend(Budget::Messages, 20, 0, &limits));
        assert!(!budgets.spend(Budget::Messages, 1, 0, &limits));
        assert!(budgets.spend(Budget::Subscriptions, 1_000_000, 0, &limits));
        assert!(budgets.spend(Budget::Refusals, 1, 0, &limits));
    }

    #[test]
    fn a_burst_admits_every_channel_that_a_connection_may_have() {
        let limits = limits(&settings(), 5_000);
        let mut budgets = Budgets::new(0);
        assert!((0..5_000).all(|_| budgets.spend(Budget::Messages, 1, 0, &limits)));
        assert!(!budgets.spend(Budget::Messages, 1, 0, &limits));
    }

    #[test]
    fn whoever_spends_is_busy_until_it_is_regained() {
        let limits = limits(&ClientSettings { message_burst: 1000, ..settings() }, 1);
        let mut budgets = Budgets::new(0);
        budgets.spend(Budget::Messages, BUSY[0], 0, &limits);
        assert!(!budgets.is_busy());
        budgets.spend(Budget::Messages, 1, 0, &limits);
        assert!(budgets.is_busy());
        budgets.spend(Budget::Messages, 1, SECOND, &limits);
        assert!(!budgets.is_busy());
    }

    #[test]
    fn a_message_costs_one_whatever_its_length_and_more_in_tiny_fragments() {
        let mut unfinished = Unfinished::default();
        for payload in [0, 10, 200_000, 70_000] {
            unfinished.read(payload + 8);
            assert!(!unfinished.is_endless(200_000));
            assert_eq!(unfinished.finish(payload), 1);
        }
        // The engine reads ahead: what belongs to later messages counts for them.
        unfinished.read(256);
        assert!((0..8).all(|_| unfinished.finish(20) == 1));
        unfinished.read(7 * 10_000);
        assert!(!unfinished.is_endless(100_000));
        assert_eq!(unfinished.finish(10_000), 1 + (60_000 - 14 - SLACK) / BYTES_A_MESSAGE);
        unfinished.read(7 * 100_000);
        assert!(unfinished.is_endless(100_000));
    }
}
