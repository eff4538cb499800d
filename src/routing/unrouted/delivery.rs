//! Gives messages that were nobody's to the user who has their number now.
//!
//! In the own directory whoever gives a number to a user notes it in `unrouted_due`, in the same transaction and
//! also from another process (an import). The portal's own tables say nothing when they change, so the numbers
//! of waiting messages are looked up there again and again, a few at a time.
//!
//! A thread's messages are given in one transaction that holds the thread (see `inbox::threads`). A message that
//! comes in meanwhile finds the thread held, and one that comes first takes the older ones along.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use serde_json::json;
use tokio::sync::Notify;
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;

use super::since;
use crate::apps::App;
use crate::config::DirectoryMode;
use crate::routing::Router;
use crate::routing::carrier::CarrierEvent;
use crate::routing::directory;
use crate::routing::inbox::{self, Inbound, Receiver, Thread};
use crate::routing::numbers;
use crate::routing::phone_number::{PhoneNumber, spelling_values, spellings};
use crate::storage::{self, Row, StorageError, Transaction};

/// How often numbers are looked for that nobody woke us for: those of imports and of other nodes.
const POLL: Duration = Duration::from_secs(1);
/// How often the portal's tables are asked, and for how many numbers.
const ASK: Duration = Duration::from_secs(5);
const ASKED: usize = 20;
/// Numbers looked at in one round.
const PAGE: i64 = 100;
/// Waiting numbers of an app that are asked for in turn.
const MAX_NUMBERS: i64 = 1_000;
/// Messages given in one transaction.
const FEW: i64 = 100;
/// Age at which a number that nobody has is forgotten until somebody gets it, in microseconds: longer than the
/// transaction that may be giving it to somebody.
const FORGET: i64 = 30_000_000;

/// What wakes the worker.
#[derive(Default)]
pub struct Deliveries {
    wake: Notify,
}

impl Deliveries {
    /// A number may have an owner now.
    pub fn wake(&self) {
        self.wake.notify_one();
    }
}

/// Has a number's messages looked through: it was given to a user, or has a new message.
pub(super) fn note(
    tx: &mut Transaction<'_>,
    app_id: &str,
    number: &str,
    now: i64,
) -> Result<(), StorageError> {
    if PhoneNumber::from_stored(number).is_none() {
        return Ok(());
    }
    tx.execute(
        "INSERT INTO unrouted_due (app_id, number, noted_at) VALUES (?1, ?2, ?3) ON CONFLICT (app_id, number) \
         DO UPDATE SET noted_at = CASE WHEN excluded.noted_at > unrouted_due.noted_at THEN excluded.noted_at \
         ELSE unrouted_due.noted_at + 1 END",
        &[app_id.into(), number.into(), now.into()],
    )?;
    Ok(())
}

/// Notes that a number belongs to a user, if messages wait for that.
///
/// # Errors
/// Of the store.
pub fn note_owner(
    tx: &mut Transaction<'_>,
    app_id: &str,
    number: &str,
    now: i64,
) -> Result<(), StorageError> {
    let [first, second, third] = spelling_values(number);
    let waiting = tx.query_one(
        "SELECT 1 FROM unrouted_inbound WHERE app_id = ?1 AND own_number IN (?2, ?3, ?4) \
         AND delivered_at IS NULL LIMIT 1",
        &[app_id.into(), first.into(), second.into(), third.into()],
    )?;
    if waiting.is_some() { note(tx, app_id, number, now) } else { Ok(()) }
}

/// Gives waiting messages to the owners of their numbers until the process ends.
pub async fn run(router: &Router) {
    let (mut next_ask, turns) = (Instant::now() + ASK, Arc::new(Turns::default()));
    let (mut asking, mut busy) = (JoinSet::new(), HashMap::<Id, String>::new());
    loop {
        match assigned(router).await {
            Ok(0) => {}
            // There may be more.
            Ok(_) => continue,
            Err(error) => {
                tracing::error!(%error, "unrouted messages can't be given to their numbers' owners")
            }
        }
        if Instant::now() >= next_ask {
            while let Some(ended) = asking.try_join_next_with_id() {
                busy.remove(&ended.map_or_else(|error| error.id(), |(id, ())| id));
            }
            // Each in a task of its own: a slow one keeps back no other app, and no message of the own directory.
            for app in portals(router) {
                let id = app.settings.id.clone();
                if busy.values().all(|other| *other != id) {
                    let (router, turns) = (router.clone(), Arc::clone(&turns));
                    let task = asking.spawn(async move {
                        if let Err(error) = ask_portal(&router, &app, &turns).await {
                            tracing::error!(app = app.settings.id, %error, "unrouted messages can't be read");
                        }
                    });
                    busy.insert(task.id(), id);
                }
            }
            next_ask = Instant::now() + ASK;
        }
        let _ = tokio::time::timeout(POLL, router.inner.unrouted.wake.notified()).await;
    }
}

/// A number to look at.
struct Due {
    app_id: String,
    number: String,
    noted_at: i64,
    /// Whether a user has it.
    is_assigned: bool,
}

/// Looks at noted numbers; answers how many were done.
async fn assigned(router: &Router) -> Result<usize, StorageError> {
    let due = router.database().read(|tx| {
        let rows = tx.query(
            "SELECT d.app_id, d.number, d.noted_at, EXISTS (SELECT 1 FROM phone_numbers p WHERE p.app_id = d.app_id \
             AND p.number = d.number AND p.status = 'assigned' AND p.user_id IS NOT NULL) FROM unrouted_due d \
             ORDER BY d.noted_at LIMIT ?1",
            &[PAGE.into()],
        )?;
        let read = |row: &Row| {
            let (app_id, number) = (row.text(0)?, row.text(1)?);
            Ok(Due { app_id, number, noted_at: row.int(2)?, is_assigned: row.flag(3)? })
        };
        let mut due = rows.iter().map(read).collect::<Result<Vec<_>, StorageError>>()?;
        // The directory may have another spelling of the line.
        for due in due.iter_mut().filter(|due| !due.is_assigned && spellings(&due.number).len() > 1) {
            (due.is_assigned, _) = numbers::own_state(tx, &due.app_id, &due.number)?;
        }
        Ok::<_, StorageError>(due)
    });
    let mut done = 0;
    for due in due.await? {
        let app = router.inner.hub.app_by_id(&due.app_id).map(|app| app.app());
        let app = app.filter(|app| app.settings.routing.directory.mode == DirectoryMode::Own);
        match app {
            Some(app) if due.is_assigned => deliver_number(router, &app, &due.number, None).await?,
            Some(_) if storage::now() - due.noted_at < FORGET => continue,
            _ => {}
        }
        forget(router, due).await?;
        done += 1;
    }
    Ok(done)
}

/// A number that was noted anew meanwhile stays.
async fn forget(router: &Router, due: Due) -> Result<(), StorageError> {
    let forget = router.database().write(move |tx| {
        tx.execute(
            "DELETE FROM unrouted_due WHERE app_id = ?1 AND number = ?2 AND noted_at = ?3",
            &[(&due.app_id).into(), (&due.number).into(), due.noted_at.into()],
        )
    });
    forget.await.map(drop)
}

/// Whose turn it is to be looked up, by app: the last number that was.
type Turns = DashMap<String, String>;

/// Apps whose directory is the portal's.
fn portals(router: &Router) -> Vec<Arc<App>> {
    let apps = router.inner.hub.apps();
    let of_portal = |app: &Arc<App>| {
        let routing = &app.settings.routing;
        routing.enabled && routing.directory.mode == DirectoryMode::Sql
    };
    apps.iter().map(|app| app.app()).filter(of_portal).collect()
}

async fn ask_portal(router: &Router, app: &Arc<App>, turns: &Turns) -> Result<(), StorageError> {
    let asked = Arc::clone(app);
    let numbers = router.database().read(move |tx| waiting_numbers(tx, &asked)).await?;
    let last = turns.remove(&app.settings.id).map_or_else(String::new, |(_, last)| last);
    let start = numbers.partition_point(|number| *number <= last);
    let in_turn = numbers[start..].iter().chain(&numbers[..start]).take(ASKED);
    for number in in_turn {
        let Some(parsed) = PhoneNumber::from_stored(number) else { continue };
        let Ok(directory) = router.portal_directory(app) else { return Ok(()) };
        // Its failure is logged there; the next round asks again.
        let Ok(owner) = directory.find_owner(&parsed).await else { return Ok(()) };
        turns.insert(app.settings.id.clone(), number.clone());
        if let Some(user) = owner.filter(|owner| owner.is_assigned).and_then(|owner| owner.user_id) {
            deliver_number(router, app, number, Some(user)).await?;
        }
    }
    Ok(())
}

fn waiting_numbers(tx: &mut Transaction<'_>, app: &App) -> Result<Vec<String>, StorageError> {
    let since = since(app, storage::now());
    let rows = tx.query(
        "SELECT DISTINCT own_number FROM unrouted_inbound WHERE app_id = ?1 AND delivered_at IS NULL \
         AND created_at >= ?2 AND own_number LIKE '+%' ORDER BY own_number LIMIT ?3",
        &[(&app.settings.id).into(), since.into(), MAX_NUMBERS.into()],
    )?;
    rows.iter().map(|row| row.text(0)).collect()
}

/// Gives a number's messages to its owner; `owner`: as the portal's tables say.
async fn deliver_number(
    router: &Router,
    app: &Arc<App>,
    number: &str,
    owner: Option<String>,
) -> Result<(), StorageError> {
    let (asked, of) = (Arc::clone(app), number.to_owned());
    let contacts = router.database().read(move |tx| {
        let [first, second, third] = spelling_values(&of);
        let since = since(&asked, storage::now());
        let rows = tx.query(
            "SELECT contact_number FROM unrouted_inbound WHERE app_id = ?1 AND own_number IN (?2, ?4, ?5) \
             AND delivered_at IS NULL AND created_at >= ?3 GROUP BY contact_number ORDER BY MAX(id)",
            &[(&asked.settings.id).into(), first.into(), since.into(), second.into(), third.into()],
        )?;
        rows.iter().map(|row| row.text(0)).collect::<Result<Vec<_>, StorageError>>()
    });
    for contact in contacts.await? {
        let thread = router.thread_id(&app.settings.id, number, &contact);
        let thread = Arc::new(Thread { own: number.to_owned(), id: thread });
        let mut given = FEW;
        while given == FEW {
            let (router_of, app, thread) = (router.clone(), Arc::clone(app), Arc::clone(&thread));
            let (contact, owner) = (contact.clone(), owner.clone());
            let job = router.database().write(move |tx| {
                inbox::hold_threads(tx, [thread.id.as_str()])?;
                let owner = match &owner {
                    Some(owner) => Some(owner.clone()),
                    None => owner_of(tx, &app, &thread.own)?,
                };
                let Some(user) = owner else { return Ok(0) };
                let receiver = Receiver { user: &user, thread: &thread, is_late: true };
                deliver(&router_of, tx, &app, &contact, &receiver, storage::now())
            });
            given = job.await?;
        }
    }
    Ok(())
}

fn owner_of(tx: &mut Transaction<'_>, app: &App, number: &str) -> Result<Option<String>, StorageError> {
    let owner = directory::find(tx, &app.settings.id, number)?;
    Ok(owner.filter(|owner| owner.is_assigned).and_then(|owner| owner.user_id))
}

/// Gives all messages of a thread that wait to the owner of its number, before one that comes now. The caller holds
/// the thread.
///
/// # Errors
/// Of the store.
pub fn deliver_all(
    router: &Router,
    tx: &mut Transaction<'_>,
    app: &App,
    contact: &str,
    receiver: &Receiver<'_>,
    now: i64,
) -> Result<(), StorageError> {
    let receiver = Receiver { is_late: true, ..*receiver };
    while deliver(router, tx, app, contact, &receiver, now)? == FEW {}
    Ok(())
}

/// Gives the oldest messages of a thread; answers how many.
fn deliver(
    router: &Router,
    tx: &mut Transaction<'_>,
    app: &App,
    contact: &str,
    receiver: &Receiver<'_>,
    now: i64,
) -> Result<i64, StorageError> {
    // In whatever spelling both numbers came.
    let ([own, own_2, own_3], [contact, contact_2, contact_3]) =
        (spelling_values(&receiver.thread.own), spelling_values(contact));
    let rows = tx.query(
        "SELECT id, event, carrier_id, body, media_urls, contact_number FROM unrouted_inbound WHERE app_id = ?1 \
         AND own_number IN (?2, ?6, ?7) AND contact_number IN (?3, ?8, ?9) AND delivered_at IS NULL \
         AND created_at >= ?4 ORDER BY id LIMIT ?5",
        &[
            (&app.settings.id).into(),
            own.into(),
            contact.into(),
            since(app, now).into(),
            FEW.into(),
            own_2.into(),
            own_3.into(),
            contact_2.into(),
            contact_3.into(),
        ],
    )?;
    for row in &rows {
        let id = row.int(0)?;
        let message = match inbound(router, app, row, &row.text(5)?, &receiver.thread.own)? {
            Some(inbound) => inbox::receive(router, tx, app, &inbound, receiver, now)?,
            None => None,
        };
        tx.execute(
            "UPDATE unrouted_inbound SET delivered_at = ?2, message_id = ?3 WHERE id = ?1",
            &[id.into(), now.into(), message.into()],
        )?;
    }
    Ok(rows.len() as i64)
}

/// The message of a row, in the thread in which it was kept.
fn inbound(
    router: &Router,
    app: &App,
    row: &Row,
    contact: &str,
    own: &str,
) -> Result<Option<Inbound>, StorageError> {
    let body = match row.bytes(1) {
        Ok(event) => event,
        // Of a version that did not keep the webhook.
        Err(_) => {
            let media: serde_json::Value = serde_json::from_str(&row.text(4)?).unwrap_or_default();
            let (id, text) = (row.text(2)?, row.optional_text(3)?);
            let payload = json!({"id": id, "direction": "inbound", "from": contact, "to": [own], "text": text,
                "media": media});
            json!({"data": {"id": id, "event_type": "message.received", "payload": payload}})
                .to_string()
                .into_bytes()
        }
    };
    let inbound = CarrierEvent::parse(&body).ok().and_then(|event| Inbound::of(router, app, event));
    Ok(inbound.map(|inbound| Inbound { contact: contact.to_owned(), ..inbound }))
}
