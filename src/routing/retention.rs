//! Rows that have served: deleted after their time. Messages never are.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::Router;
use super::events::micros;
use crate::storage::{self, StorageError, Transaction};

/// After the start, when there is other work first.
const FIRST: Duration = Duration::from_secs(30);
const EVERY: Duration = Duration::from_hours(1);
/// How long an idempotency key is known.
const KEYS: Duration = Duration::from_hours(7 * 24);
/// How long it can be looked up what was asked of the carrier, and what it said; and how long a person can
/// have a message sent again.
const CARRIER: Duration = Duration::from_hours(30 * 24);
/// How long webhooks are kept that nothing could be done with.
const SET_ASIDE: Duration = Duration::from_hours(7 * 24);
/// How long messages to numbers of nobody are kept, whether somebody got them or not: as long as
/// `inbound.deliver_unrouted` may reach.
const UNROUTED: Duration = Duration::from_hours(365 * 24);
/// Rows looked at in one transaction: sends wait for it.
const PAGE: i64 = 1_000;

/// Deletes old rows until the process ends.
pub(super) async fn run(router: &Router) {
    let mut due = interval_at(Instant::now() + FIRST, EVERY);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        if !storage::clock_is_settled() {
            continue;
        }
        match clean(router, storage::now()).await {
            Ok(0) => {}
            Ok(deleted) => tracing::info!(deleted, "the router deleted old rows from the message store"),
            Err(error) => tracing::error!(%error, "the router can't delete old rows from the message store"),
        }
    }
}

async fn clean(router: &Router, now: i64) -> Result<u64, StorageError> {
    let carrier = now - micros(CARRIER);
    Ok(delete_pages(router, OLD_KEYS, now - micros(KEYS), PAGE).await?
        + delete_rows(router, &JOBS, carrier).await?
        + delete_rows(router, &INBOX, carrier).await?
        + delete_rows(router, &UNROUTED_INBOUND, now - micros(UNROUTED)).await?
        + delete_pages(router, VERSIONS, now, PAGE).await?
        + delete_pages(router, OLD_SET_ASIDE, now - micros(SET_ASIDE), PAGE).await?)
}

const OLD_KEYS: &str = "DELETE FROM idempotency WHERE (app_id, user_id, key) IN (SELECT app_id, user_id, key \
     FROM idempotency WHERE created_at < ?1 ORDER BY created_at LIMIT ?2)";

/// `not_before` of such a row is when it was set aside.
const OLD_SET_ASIDE: &str = "DELETE FROM inbox WHERE id IN (SELECT id FROM inbox \
     WHERE state IN ('set_aside', 'noted') AND state = 'set_aside' AND not_before < ?1 ORDER BY not_before LIMIT ?2)";

/// Texts that were replaced, as earlier versions kept them: nobody can read them.
const VERSIONS: &str = "DELETE FROM message_versions WHERE id IN (SELECT id FROM message_versions \
     WHERE replaced_at < ?1 ORDER BY id LIMIT ?2)";

/// Deletes rows from before `?1`, `?2` of them at a time.
async fn delete_pages(
    router: &Router,
    sql: &'static str,
    before: i64,
    page: i64,
) -> Result<u64, StorageError> {
    let mut total = 0;
    loop {
        let delete = move |tx: &mut Transaction<'_>| tx.execute(sql, &[before.into(), page.into()]);
        let deleted = router.database().write_lazily(delete).await?;
        total += deleted;
        if deleted < page.unsigned_abs() {
            return Ok(total);
        }
    }
}

/// A table whose ids grow with time: `?1` is the last row seen.
struct Table {
    /// Ids and ages of the next page, `?2` rows long.
    page: &'static str,
    /// What belongs to rows after `?1` up to `?2` that were finished before `?3`, then these rows.
    deletes: &'static [&'static str],
}

/// A held job is over as well: by then neither the carrier nor a person comes back to it.
const JOBS: Table = Table {
    page: "SELECT id, created_at FROM carrier_jobs WHERE id > ?1 ORDER BY id LIMIT ?2",
    deletes: &[
        "DELETE FROM carrier_attempts WHERE job_id IN (SELECT id FROM carrier_jobs \
         WHERE id > ?1 AND id <= ?2 AND state <> 'waiting' AND created_at < ?3)",
        "DELETE FROM carrier_jobs WHERE id > ?1 AND id <= ?2 AND state <> 'waiting' AND created_at < ?3",
    ],
};

const INBOX: Table = Table {
    page: "SELECT id, received_at FROM inbox WHERE id > ?1 ORDER BY id LIMIT ?2",
    deletes: &[
        "DELETE FROM inbox WHERE id > ?1 AND id <= ?2 AND state IN ('done', 'noted') AND received_at < ?3",
    ],
};

const UNROUTED_INBOUND: Table = Table {
    page: "SELECT id, created_at FROM unrouted_inbound WHERE id > ?1 ORDER BY id LIMIT ?2",
    deletes: &["DELETE FROM unrouted_inbound WHERE id > ?1 AND id <= ?2 AND created_at < ?3"],
};

/// Goes through the old rows only, whatever the size of the table: ids grow with time.
async fn delete_rows(router: &Router, table: &'static Table, before: i64) -> Result<u64, StorageError> {
    let (mut seen, mut total) = (0, 0);
    loop {
        let delete = move |tx: &mut Transaction<'_>| {
            let rows = tx.query(table.page, &[seen.into(), PAGE.into()])?;
            let Some(last) = rows.last() else { return Ok((seen, 0, true)) };
            let (last, age) = (last.int(0)?, last.int(1)?);
            let mut deleted = 0;
            for sql in table.deletes {
                deleted += tx.execute(sql, &[seen.into(), last.into(), before.into()])?;
            }
            let is_last = age >= before || (rows.len() as i64) < PAGE;
            Ok::<_, StorageError>((last, deleted, is_last))
        };
        let (last, deleted, is_last) = router.database().write_lazily(delete).await?;
        total += deleted;
        seen = last;
        if is_last {
            return Ok(total);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_support::Lab;
    use super::*;

    const DAY: i64 = 24 * 3_600 * 1_000_000;

    #[tokio::test]
    async fn only_what_is_old_and_finished_goes_and_messages_stay() {
        let lab = Lab::new().await;
        lab.send("7", "+13125550101", "hello").await;
        lab.sql("UPDATE messages SET created_at = 0").await;
        // More than a page of each.
        lab.sql(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1500) \
             INSERT INTO idempotency SELECT '1001', '7', 'k' || i, 'h', 1, 10 * 86400000000 FROM n",
        )
        .await;
        lab.sql(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1500) \
             INSERT INTO inbox (id, app_id, event_id, body, state, attempts, not_before, locked_by, locked_until, \
             received_at) SELECT i, '1001', 'e' || i, x'', CASE i WHEN 7 THEN 'pending' ELSE 'done' END, 0, 0, \
             NULL, 0, CASE WHEN i > 1400 THEN 36 ELSE 5 END * 86400000000 FROM n",
        )
        .await;
        lab.sql(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4) \
             INSERT INTO carrier_jobs (id, app_id, message_id, lane, own_number, body, idempotency_key, token, state, \
             attempts, not_before, valid_until, first_attempt_at, locked_by, locked_until, created_at) SELECT i, '1001', 900 + i, 'lane', '+1', x'', 'k', 't' || i, \
             CASE i WHEN 2 THEN 'waiting' WHEN 4 THEN 'held' ELSE 'done' END, 1, 0, 0, 1, NULL, 0, \
             CASE i WHEN 3 THEN 36 ELSE 5 END * 86400000000 FROM n",
        )
        .await;
        lab.sql(
            "INSERT INTO carrier_attempts (job_id, number, token, idempotency_key, body, started_at) \
             SELECT id, 1, token, 'k', x'', 1 FROM carrier_jobs",
        )
        .await;
        // The 17th day: keys of the 10th are just old enough, nothing else is.
        assert_eq!(clean(&lab.router, 17 * DAY).await, Ok(0));
        assert_eq!(clean(&lab.router, 17 * DAY + 1).await, Ok(1_500));
        // The 40th: what came on the 5th goes, and two attempts with their jobs.
        assert_eq!(clean(&lab.router, 40 * DAY).await, Ok(1_399 + 4));
        let left = "SELECT CAST(COUNT(*) AS TEXT) FROM inbox UNION ALL SELECT GROUP_CONCAT(id) FROM carrier_jobs \
                    UNION ALL SELECT GROUP_CONCAT(job_id) FROM carrier_attempts \
                    UNION ALL SELECT CAST(COUNT(*) AS TEXT) FROM messages";
        assert_eq!(lab.texts(left).await, ["101", "2,3", "2,3", "2"]);
        assert_eq!(clean(&lab.router, 40 * DAY).await, Ok(0));
    }

    #[tokio::test]
    async fn messages_of_nobody_go_after_a_year_and_replaced_texts_at_once() {
        let lab = Lab::new().await;
        lab.sql(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1500) \
             INSERT INTO unrouted_inbound (app_id, carrier_id, own_number, contact_number, media_urls, created_at) \
             SELECT '1001', 'c' || i, '+1', '+2', '[]', CASE WHEN i > 1400 THEN 16 ELSE 10 END * 86400000000 FROM n",
        )
        .await;
        lab.sql(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1500) \
             INSERT INTO message_versions (message_id, body, replaced_at) SELECT i, 'x', 1 FROM n",
        )
        .await;
        assert_eq!(clean(&lab.router, 375 * DAY).await, Ok(1_500), "replaced texts");
        assert_eq!(clean(&lab.router, 375 * DAY + 1).await, Ok(1_400));
        assert_eq!(clean(&lab.router, 381 * DAY + 1).await, Ok(100));
    }

    #[tokio::test]
    async fn webhooks_that_were_set_aside_go_after_a_week() {
        let lab = Lab::new().await;
        lab.sql(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1500) \
             INSERT INTO inbox (id, app_id, event_id, body, state, attempts, not_before, locked_by, locked_until, \
             received_at) SELECT i, '1001', 'e' || i, x'', CASE i WHEN 7 THEN 'pending' WHEN 8 THEN 'done' \
             ELSE 'set_aside' END, 0, CASE WHEN i > 1400 THEN 16 ELSE 10 END * 86400000000, NULL, 0, \
             10 * 86400000000 FROM n",
        )
        .await;
        assert_eq!(clean(&lab.router, 17 * DAY).await, Ok(0));
        assert_eq!(clean(&lab.router, 17 * DAY + 1).await, Ok(1_398));
        assert_eq!(clean(&lab.router, 23 * DAY + 1).await, Ok(100));
        assert_eq!(lab.texts("SELECT state FROM inbox ORDER BY id").await, ["pending", "done"]);
    }
}
