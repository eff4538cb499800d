//! The order of receipt: messages of one thread (own number and contact) are processed one after the other.
//!
//! The order in which messages of a thread come in is that of their rows in `inbox`. Whoever adds a row, or ends
//! one, holds the thread until its commit (PostgreSQL: an advisory lock, the one under which conversations are
//! made; SQLite has one writer), so that ids have the order of commits. A message that finds the thread free is
//! processed in the transaction that takes it in. One that finds another waiting there waits behind it: its row
//! is `queued`, and becomes `pending` when it is the first of all its threads (a group message may have
//! several). Threads don't wait for each other.

use super::inbound::Inbound;
use crate::apps::App;
use crate::routing::phone_number::spellings;
use crate::routing::unrouted;
use crate::storage::{StorageError, Transaction};

/// What there is in an inbound message's threads.
pub struct Look {
    /// Whether nothing waits in any of them.
    pub is_free: bool,
    /// Of each thread, whether messages that were nobody's can be given to the number's owner.
    pub has_unrouted: Vec<bool>,
}

/// Holds threads until the transaction ends. `threads`: in their order, so that two that hold several don't wait
/// for each other.
pub fn hold<'a>(
    tx: &mut Transaction<'_>,
    threads: impl IntoIterator<Item = &'a str>,
) -> Result<(), StorageError> {
    for thread in threads {
        tx.lock("SELECT pg_advisory_xact_lock(hashtextextended(?1, 0))", &[thread.into()])?;
    }
    Ok(())
}

/// Looks into a message's threads: one read for each of its own numbers.
pub fn look(tx: &mut Transaction<'_>, app: &App, inbound: &Inbound, now: i64) -> Result<Look, StorageError> {
    let since = unrouted::since(app, now);
    let mut look = Look { is_free: true, has_unrouted: Vec::with_capacity(inbound.threads.len()) };
    // Of most numbers there is one spelling, and this is one read.
    let contacts = spellings(&inbound.contact);
    for thread in &inbound.threads {
        let mut has_unrouted = false;
        for own in spellings(&thread.own) {
            for contact in &contacts {
                let row = tx.query_one(
                    "SELECT EXISTS (SELECT 1 FROM inbox_threads WHERE app_id = ?1 AND thread = ?2), \
                     EXISTS (SELECT 1 FROM unrouted_inbound WHERE app_id = ?1 AND own_number = ?3 \
                     AND contact_number = ?4 AND delivered_at IS NULL AND created_at >= ?5)",
                    &[
                        (&app.settings.id).into(),
                        (&thread.id).into(),
                        own.as_str().into(),
                        contact.into(),
                        since.into(),
                    ],
                )?;
                let row =
                    row.ok_or_else(|| StorageError::Fault("a question without an answer".to_owned()))?;
                look.is_free &= !row.flag(0)?;
                has_unrouted |= row.flag(1)?;
            }
        }
        look.has_unrouted.push(has_unrouted);
    }
    Ok(look)
}

/// Notes that an entry waits in these threads.
pub fn enter<'a>(
    tx: &mut Transaction<'_>,
    app_id: &str,
    entry: i64,
    threads: impl IntoIterator<Item = &'a str>,
) -> Result<(), StorageError> {
    for thread in threads {
        tx.execute(
            "INSERT INTO inbox_threads (app_id, thread, inbox_id) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
            &[app_id.into(), thread.into(), entry.into()],
        )?;
    }
    Ok(())
}

/// Holds the threads that an entry waits in, before anything is done to it.
pub fn hold_of(tx: &mut Transaction<'_>, entry: i64) -> Result<(), StorageError> {
    let rows =
        tx.query("SELECT thread FROM inbox_threads WHERE inbox_id = ?1 ORDER BY thread", &[entry.into()])?;
    let threads: Vec<String> = rows.iter().map(|row| row.text(0)).collect::<Result<_, _>>()?;
    hold(tx, threads.iter().map(String::as_str))
}

/// Ends an entry's wait, and lets those go that are the first of their threads now; answers whether there are
/// any. [`hold_of`] came before.
pub fn leave(tx: &mut Transaction<'_>, entry: i64, now: i64) -> Result<bool, StorageError> {
    let left =
        tx.query("DELETE FROM inbox_threads WHERE inbox_id = ?1 RETURNING app_id, thread", &[entry.into()])?;
    let mut next = std::collections::BTreeSet::new();
    for row in &left {
        let first = tx.query_one(
            "SELECT MIN(inbox_id) FROM inbox_threads WHERE app_id = ?1 AND thread = ?2",
            &[row.text(0)?.into(), row.text(1)?.into()],
        )?;
        next.extend(first.map_or(Ok(None), |first| first.optional_int(0))?);
    }
    let mut has_next = false;
    for id in next {
        // Another of its threads may be left at this moment: of the two that hold its row, the second sees both.
        tx.lock("SELECT id FROM inbox WHERE id = ?1 /* FOR UPDATE */", &[id.into()])?;
        has_next |= tx.execute(
            "UPDATE inbox SET state = 'pending', not_before = ?2 WHERE id = ?1 AND state = 'queued' \
             AND NOT EXISTS (SELECT 1 FROM inbox_threads mine JOIN inbox_threads before ON before.app_id = mine.app_id \
             AND before.thread = mine.thread AND before.inbox_id < mine.inbox_id WHERE mine.inbox_id = ?1)",
            &[id.into(), now.into()],
        )? > 0;
    }
    Ok(has_next)
}
