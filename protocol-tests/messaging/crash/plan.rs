//! What is sent, what goes wrong and when the server ends, all from one seed.

use std::time::Duration;

use fastrand::Rng;

/// Users of the portal, each with a number.
const USERS: u64 = 5;
/// People outside that each user writes to.
const CONTACTS: u64 = 6;

/// After these nobody knows whether the carrier has the message, and it does.
const UNCLEAR: [&str; 5] =
    ["timeout_after", "reset_after", "truncated_after", "garbage_after", "no_id_after"];
/// After these the carrier does not have it.
const REFUSED_FOR_NOW: [&str; 6] =
    ["unavailable", "reset_before", "timeout_before", "server_error", "bad_gateway_html", "rate_limited"];
/// These make the webhooks difficult.
const WEBHOOKS: [&str; 3] = ["webhook_before_response", "duplicate_webhooks", "out_of_order_webhooks"];

/// The whole run.
#[derive(Debug)]
pub struct Plan {
    pub messages: Vec<Planned>,
    pub ends: Vec<End>,
}

/// A message of the portal.
#[derive(Clone, Debug)]
pub struct Planned {
    pub user: u64,
    pub to: String,
    /// Its own, so that it can be found anywhere.
    pub text: String,
    pub waits: bool,
    /// Faults of its first calls to the carrier.
    pub faults: Vec<&'static str>,
    /// Its last status.
    pub ends: &'static str,
    /// Pause of its sender before it.
    pub pause: Duration,
    /// Whether it is sent only while the observer is there: what others send to a server that has just
    /// started is told to nobody.
    pub is_heard: bool,
}

/// An end of the server.
#[derive(Clone, Debug)]
pub struct End {
    /// Since the last start.
    pub after: Duration,
    /// SIGTERM; otherwise SIGKILL.
    pub in_order: bool,
    /// Starts that are killed after this time, before the one that stays.
    pub starts_cut_off: Vec<Duration>,
}

impl Plan {
    pub fn new(seed: u64, sends: usize) -> Self {
        let mut rng = Rng::with_seed(seed);
        let messages = (0..sends).map(|n| Planned::new(&mut rng, n)).collect();
        let ends = (0..8).map(|n| End::new(&mut rng, n)).collect();
        Self { messages, ends }
    }

    /// The users and their numbers.
    pub fn users(&self) -> impl Iterator<Item = (u64, String)> {
        (1..=USERS).map(|user| (user, number_of(user)))
    }

    /// Whose number this is.
    pub fn user_of(&self, number: &str) -> u64 {
        self.users().find(|(_, own)| own == number).expect("a user's number").0
    }
}

fn number_of(user: u64) -> String {
    format!("+1312555010{}", user - 1)
}

impl Planned {
    fn new(rng: &mut Rng, n: usize) -> Self {
        let user = rng.u64(1..=USERS);
        let text = format!("crash {n:05}.");
        let (waits, pause) = (rng.bool(), Duration::from_millis(rng.u64(0..200)));
        let is_heard = rng.u8(..4) > 0;
        let message = |to, faults, ends| Self { user, to, text, waits, faults, ends, pause, is_heard };
        if rng.u8(..10) < 3 {
            let other = (user + rng.u64(1..USERS) - 1) % USERS + 1;
            return message(number_of(other), Vec::new(), "delivered");
        }
        let to = format!("+131255502{}{}", user, rng.u64(..CONTACTS));
        let mut faults = Vec::new();
        // A second one meets the repeated call.
        while faults.len() < 2 && rng.u8(..10) < 3 {
            let kind: &[&str] = match rng.u8(..6) {
                0..=2 => &UNCLEAR,
                3..=4 => &REFUSED_FOR_NOW,
                _ => &WEBHOOKS,
            };
            faults.push(kind[rng.usize(..kind.len())]);
        }
        // Only the call that is accepted decides how it ends, so this one must be the first.
        if faults.is_empty() && rng.u8(..20) == 0 {
            return message(to, vec!["undeliverable"], "failed");
        }
        message(to, faults, "delivered")
    }

    pub fn is_internal(&self) -> bool {
        (1..=USERS).any(|user| number_of(user) == self.to)
    }

    /// The sender's number.
    pub fn from(&self) -> String {
        number_of(self.user)
    }
}

impl End {
    fn new(rng: &mut Rng, n: usize) -> Self {
        let after = Duration::from_millis(match rng.u8(..4) {
            // Again before anything has come to rest.
            0 => rng.u64(..100),
            _ => rng.u64(100..2_500),
        });
        // Once: while requests come in, it takes its time.
        let in_order = n == 4;
        let cut_off = if n == 2 { 2 } else { usize::from(rng.u8(..4) == 0) };
        let starts_cut_off = (0..cut_off).map(|_| Duration::from_millis(rng.u64(..150))).collect();
        Self { after, in_order, starts_cut_off }
    }
}
