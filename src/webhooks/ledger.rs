//! Keeps the room of webhooks: counts what waits where a limit may be reached, tells receivers later of what is
//! there and found no room when it came, and says seldom that there was none.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::endpoints::AppWebhooks;
use super::gaps::{self, Why};
use super::records::Record;
use super::room::Rooms;
use super::told::Told;
use super::writer;
use crate::outbox::{Outbox, Target};
use crate::storage::{StorageError, Transaction};

/// How often receivers are told of what found no room.
const CATCH_UP: Duration = Duration::from_secs(1);
/// The same where another process may have found no room, or is gone.
const CATCH_UP_SHARED: Duration = Duration::from_secs(5);
/// How often a line says that events found no room.
const LINE: Duration = Duration::from_mins(1);

pub(super) struct Ledger {
    outbox: Outbox,
    rooms: Arc<Mutex<Rooms>>,
    /// When what found no room was last looked at; `None`: not yet, and a process before this one may have left
    /// something.
    looked: Option<Instant>,
    /// Behind what the next look begins.
    cursors: HashMap<Target, Record>,
    /// When a line last said how many events of a webhook found no room, and how many that were.
    lines: HashMap<Target, (Instant, u64)>,
}

impl Ledger {
    pub fn new(outbox: Outbox) -> Self {
        Self { outbox, rooms: Arc::default(), looked: None, cursors: HashMap::new(), lines: HashMap::new() }
    }

    pub fn rooms(&self) -> &Arc<Mutex<Rooms>> {
        &self.rooms
    }

    fn lock(&self) -> MutexGuard<'_, Rooms> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When there is something to do.
    pub fn next(&self) -> Option<Instant> {
        let Some(looked) = self.looked else { return Some(Instant::now()) };
        if self.lock().have_gaps() {
            return Some(looked + CATCH_UP);
        }
        self.outbox.database().is_shared().then(|| looked + CATCH_UP_SHARED)
    }

    /// Counts what waits for the webhooks that these are for, where their room may not do.
    ///
    /// # Errors
    /// Of the store.
    pub async fn count(&self, told: &[Told]) -> Result<(), StorageError> {
        let apps: HashMap<&str, &AppWebhooks> = told.iter().map(|told| (&*told.app.id, &*told.app)).collect();
        for webhook in apps.values().flat_map(|app| &app.webhooks) {
            let is_for = |told: &&Told| {
                *told.app.id == *webhook.target.app_id
                    && told.event.is_some_and(|event| webhook.wants(event, told.channel.as_ref()))
            };
            let next: Vec<_> = told.iter().filter(is_for).map(|told| told.owners).collect();
            let wants = |rooms: &mut Rooms| {
                rooms.of(&webhook.target).wants_count(&next, &webhook.limits, Instant::now())
            };
            if !next.is_empty() && wants(&mut self.lock()) {
                let target = webhook.target.clone();
                let room = self.outbox.database().read(move |tx| writer::count(tx, &target)).await?;
                self.lock().set(&webhook.target, room);
            }
        }
        Ok(())
    }

    /// Tells receivers of what is there and found no room when it came, as far as there is room now, when it is
    /// time. What can't be done now is done later.
    pub async fn catch_up(&mut self, apps: &[Arc<AppWebhooks>]) {
        if self.next().is_none_or(|next| next > Instant::now()) {
            return;
        }
        self.looked = Some(Instant::now());
        for app in apps {
            for at in 0..app.webhooks.len() {
                if let Err(error) = self.catch_up_one(app, at).await {
                    tracing::error!(%error, "webhooks can't read what they are to tell when there is room");
                }
            }
        }
        self.log_dropped();
    }

    async fn catch_up_one(&mut self, app: &Arc<AppWebhooks>, at: usize) -> Result<(), StorageError> {
        let target = &app.webhooks[at].target;
        let of = target.clone();
        let database = self.outbox.database();
        let has_gaps = database.read(move |tx| gaps::has_any(tx, &of, Why::NoRoom)).await?;
        self.lock().of(target).has_gaps = has_gaps;
        // Other processes write into the same room.
        if has_gaps || database.is_shared() {
            let of = target.clone();
            let room = database.read(move |tx| writer::count(tx, &of)).await?;
            self.lock().set(target, room);
        }
        if !has_gaps {
            return Ok(());
        }
        let (outbox, rooms, app) = (self.outbox.clone(), Arc::clone(&self.rooms), Arc::clone(app));
        let after = self.cursors.remove(target);
        let tell = move |tx: &mut Transaction<'_>| {
            writer::catch_up(&outbox, tx, &app, &app.webhooks[at], after.as_ref(), &rooms)
        };
        if let Some(last) = database.write(tell).await? {
            self.cursors.insert(target.clone(), last);
        }
        Ok(())
    }

    fn log_dropped(&mut self) {
        let dropped = self.lock().dropped();
        for (target, count) in dropped {
            let last = self.lines.get(&target).copied();
            let is_time = last.is_none_or(|(at, known)| count > known && at.elapsed() >= LINE);
            if count > 0 && is_time {
                let webhook = target.kind.split_once(':').map_or("", |(_, name)| name);
                tracing::warn!(
                    app = target.app_id,
                    webhook,
                    events = count - last.map_or(0, |(_, known)| known),
                    "too much waits for a webhook: events found no room; see `switchboard webhooks list`"
                );
                self.lines.insert(target, (Instant::now(), count));
            }
        }
    }

    /// Deletes what nobody needs any more.
    pub async fn tidy(&self) {
        let tidy = |tx: &mut Transaction<'_>| {
            writer::forget_settled(tx)?;
            gaps::forget_old(tx)
        };
        if let Err(error) = self.outbox.database().write_lazily(tidy).await {
            tracing::warn!(%error, "webhooks can't delete old rows of theirs");
        }
    }
}
