//! Broadcasts that come after callbacks: a page that an event makes reload from the portal's database must
//! find there what the portal learns from the callback.
//!
//! Each lane with such a broadcast has a queue of its own, in which its later broadcasts wait, too. The
//! first of a queue goes when its callbacks were tried, whatever came of it, or its time is over.
//!
//! What a crash left over waits here, too, until clients had time to come back.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::Outbox;
use super::broadcast::{Broadcast, Entry};
use crate::storage::StorageError;

/// Broadcasts that are let go at once.
const PAGE: usize = 256;

/// App and lane.
type Lane = (String, String);

pub(super) struct Held {
    time: Duration,
    /// How many there are: without any, nothing is locked.
    count: AtomicUsize,
    lanes: Mutex<Lanes>,
    wake: Notify,
}

#[derive(Default)]
struct Lanes {
    queues: HashMap<Lane, VecDeque<Waiting>>,
    /// Where a callback is awaited.
    awaited: HashMap<i64, Lane>,
}

struct Waiting {
    entry: Entry,
    after: Vec<i64>,
    /// It goes no earlier, whatever was tried.
    from: Instant,
    until: Instant,
}

impl Waiting {
    fn may_go(&self, now: Instant) -> bool {
        self.until <= now || (self.after.is_empty() && self.from <= now)
    }

    /// When it goes at the latest.
    fn deadline(&self) -> Instant {
        if self.after.is_empty() { self.from } else { self.until }
    }
}

impl Held {
    pub(super) fn new(time: Duration) -> Self {
        Self { time, count: AtomicUsize::new(0), lanes: Mutex::default(), wake: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an entry that must wait; gives back any other.
    pub(super) fn keep(&self, entry: Entry) -> Option<Entry> {
        if entry.broadcast.after.is_empty() && self.count.load(Ordering::Acquire) == 0 {
            return Some(entry);
        }
        let lane = (entry.app_id.clone(), entry.lane.clone());
        let lanes = self.lock();
        if entry.broadcast.after.is_empty() && !lanes.queues.contains_key(&lane) {
            return Some(entry);
        }
        self.line_up(lanes, lane, entry, Duration::ZERO);
        None
    }

    /// Keeps an entry for so long at least.
    pub(super) fn keep_for(&self, time: Duration, entry: Entry) {
        let lane = (entry.app_id.clone(), entry.lane.clone());
        self.line_up(self.lock(), lane, entry, time);
    }

    fn line_up(&self, mut lanes: MutexGuard<'_, Lanes>, lane: Lane, mut entry: Entry, time: Duration) {
        let after = std::mem::take(&mut entry.broadcast.after);
        for callback in &after {
            lanes.awaited.insert(*callback, lane.clone());
        }
        let now = Instant::now();
        let (from, until) = (now + time, now + self.time.max(time));
        lanes.queues.entry(lane).or_default().push_back(Waiting { entry, after, from, until });
        self.count.fetch_add(1, Ordering::AcqRel);
        drop(lanes);
        self.wake.notify_one();
    }

    /// A callback was tried.
    pub(super) fn tried(&self, callback: i64) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut lanes = self.lock();
        let Some(lane) = lanes.awaited.remove(&callback) else { return };
        let Some(queue) = lanes.queues.get_mut(&lane) else { return };
        for waiting in queue {
            waiting.after.retain(|awaited| *awaited != callback);
        }
        drop(lanes);
        self.wake.notify_one();
    }

    /// The first ones of lanes that may go now, and when others may.
    fn ready(&self) -> (Vec<(Lane, Broadcast)>, Option<Instant>) {
        let now = Instant::now();
        let lanes = self.lock();
        let firsts =
            || lanes.queues.iter().filter_map(|(lane, queue)| queue.front().map(|first| (lane, first)));
        let ready = firsts().filter(|(_, first)| first.may_go(now)).take(PAGE);
        let ready = ready.map(|(lane, first)| (lane.clone(), first.entry.broadcast.clone())).collect();
        (ready, firsts().map(|(_, first)| first.deadline()).min())
    }

    /// Takes the first one of a lane out and gives it to `go`. A later one of the lane can't come first: it
    /// needs the same lock.
    fn let_go(&self, lane: &Lane, broadcast: Broadcast, go: impl FnOnce(Entry)) {
        let mut lanes = self.lock();
        let Some(queue) = lanes.queues.get_mut(lane) else { return };
        let Some(first) = queue.pop_front() else { return };
        if queue.is_empty() {
            lanes.queues.remove(lane);
        }
        for callback in &first.after {
            lanes.awaited.remove(callback);
        }
        go(Entry { broadcast, ..first.entry });
        self.count.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Lets go what may go; never ends.
pub(super) async fn run(outbox: &Outbox) {
    let held = outbox.broadcasts.held();
    loop {
        let (ready, next) = held.ready();
        if ready.is_empty() {
            let time_is_over = async {
                match next {
                    Some(next) => tokio::time::sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = held.wake.notified() => {}
                () = time_is_over => {}
            }
            continue;
        }
        for (lane, broadcast) in amended(outbox, ready).await {
            held.let_go(&lane, broadcast, |entry| outbox.broadcasts.accept_now(entry));
        }
    }
}

/// With what the callbacks' answers said, if that can be read.
async fn amended(outbox: &Outbox, ready: Vec<(Lane, Broadcast)>) -> Vec<(Lane, Broadcast)> {
    let (receivers, original) = (outbox.all_receivers(), ready.clone());
    let amended = outbox
        .database
        .read(move |tx| {
            let mut amended = original.clone();
            for (_, broadcast) in &mut amended {
                receivers.iter().try_for_each(|receivers| receivers.amend(tx, broadcast))?;
            }
            Ok::<_, StorageError>(amended)
        })
        .await;
    amended.unwrap_or_else(|error| {
        tracing::error!(%error, "broadcasts lack the portal's own ids: the store can't be read");
        ready
    })
}
