//! Answers of publishes that carried an idempotency key, so that a repeated request publishes nothing
//! and gets the same answer.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a key is remembered.
pub const WINDOW: Duration = Duration::from_secs(5 * 60);
/// Most keys remembered at once; beyond it the oldest is forgotten early.
const MAX_KEYS: usize = 100_000;
/// Most bytes of keys and answers remembered at once.
const MAX_BYTES: usize = 16 << 20;

/// The store of one app.
#[derive(Debug, Default)]
pub struct Idempotency(Mutex<Store>);

#[derive(Debug, Default)]
struct Store {
    answers: HashMap<String, Answer>,
    order: VecDeque<(Instant, String)>,
    bytes: usize,
}

#[derive(Debug)]
struct Answer {
    request: [u8; 32],
    body: String,
}

/// What [`Idempotency::record`] did.
#[derive(Debug, PartialEq, Eq)]
pub enum Recorded<E> {
    /// The key is new: the work was done, here is its answer.
    New(String),
    /// The same request was done before: its answer again.
    Replayed(String),
    /// The key was used for another request.
    Mismatch,
    /// The work failed; the key stays free.
    Failed(E),
}

impl Idempotency {
    /// Runs `work` unless `key` is known. `request` is a digest of what was asked. The store is locked
    /// meanwhile, so that two requests with one key at once do the work once.
    pub fn record<E>(
        &self,
        key: &str,
        request: [u8; 32],
        now: Instant,
        work: impl FnOnce() -> Result<String, E>,
    ) -> Recorded<E> {
        let mut store = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        store.forget(now);
        if let Some(known) = store.answers.get(key) {
            return if known.request == request {
                Recorded::Replayed(known.body.clone())
            } else {
                Recorded::Mismatch
            };
        }
        match work() {
            Ok(body) => {
                store.bytes += size_of_entry(key, &body);
                store.order.push_back((now, key.to_owned()));
                store.answers.insert(key.to_owned(), Answer { request, body: body.clone() });
                Recorded::New(body)
            }
            Err(error) => Recorded::Failed(error),
        }
    }
}

/// The key is held twice.
fn size_of_entry(key: &str, body: &str) -> usize {
    2 * key.len() + body.len()
}

impl Store {
    fn forget(&mut self, now: Instant) {
        while self.order.front().is_some_and(|(at, _)| {
            self.order.len() > MAX_KEYS
                || self.bytes > MAX_BYTES
                || now.saturating_duration_since(*at) >= WINDOW
        }) {
            if let Some((_, key)) = self.order.pop_front()
                && let Some(answer) = self.answers.remove(&key)
            {
                self.bytes -= size_of_entry(&key, &answer.body);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(answer: &str) -> Result<String, ()> {
        Ok(answer.to_owned())
    }

    #[test]
    fn a_known_key_replays_until_the_window_ends() {
        let store = Idempotency::default();
        let start = Instant::now();
        assert_eq!(store.record("a", [1; 32], start, || done("1")), Recorded::New("1".to_owned()));
        let later = start + WINDOW - Duration::from_millis(1);
        assert_eq!(store.record("a", [1; 32], later, || done("2")), Recorded::Replayed("1".to_owned()));
        assert_eq!(store.record("a", [2; 32], later, || done("2")), Recorded::Mismatch);
        assert_eq!(store.record("a", [2; 32], start + WINDOW, || done("3")), Recorded::New("3".to_owned()));
    }

    #[test]
    fn a_failure_leaves_the_key_free() {
        let store = Idempotency::default();
        let now = Instant::now();
        assert_eq!(store.record("a", [1; 32], now, || Err("no")), Recorded::Failed("no"));
        assert_eq!(
            store.record("a", [1; 32], now, || done("1").map_err(|()| "")),
            Recorded::New("1".to_owned())
        );
    }
}
