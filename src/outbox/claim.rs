//! What can be posted now: the first events of their lanes.
//!
//! An endpoint's events are in four groups: those of something that everybody may do and the others, and of both
//! those of lanes whose last try failed. Each group has places of its own, so that none waits for another. An
//! index has each group in the order of its times, and a claim reads no more of it than it may take, however
//! many wait.

use super::{LEASE, Target, micros};
use crate::storage::{self, Row, StorageError, Transaction, Value};

/// An event to be posted.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub id: i64,
    pub lane: String,
    pub payload: String,
    pub attempts: i64,
    pub created_at: i64,
    pub queued_at: i64,
    pub group: Group,
}

/// Events that are claimed apart from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// Whether they are of something that everybody may do who knows the app's key.
    pub is_public: bool,
    /// Whether their lanes' last tries failed.
    pub fails: bool,
}

impl Group {
    pub const ALL: [Self; 4] = [
        Self { is_public: false, fails: false },
        Self { is_public: false, fails: true },
        Self { is_public: true, fails: false },
        Self { is_public: true, fails: true },
    ];
}

/// What can be done now, and when there will be more.
#[derive(Debug, Default)]
pub(super) struct Due {
    pub tasks: Vec<Task>,
    pub next: Option<i64>,
}

/// Who claims, and how much.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub target: Target,
    /// Set where several nodes share the store.
    pub node: Option<String>,
    pub lease: std::time::Duration,
    /// How many of each of [`Group::ALL`].
    pub limits: [usize; 4],
    /// Events that the claimer has already; they are left out.
    pub known: Vec<i64>,
}

/// First events of lanes, without their payloads.
pub(super) const FIND: &str = "SELECT id, lane, attempts, created_at, queued_at FROM outbox AS o \
     WHERE app_id = ?1 AND kind = ?2 AND kind <> 'broadcast' AND state = 'pending' AND is_public = ?5 \
     AND CASE WHEN last_error IS NULL THEN 0 ELSE 1 END = ?6 AND not_before <= ?3 \
     AND NOT EXISTS (SELECT 1 FROM outbox AS e WHERE e.app_id = o.app_id AND e.kind = o.kind \
     AND e.lane = o.lane AND e.kind <> 'broadcast' AND e.state IN ('pending', 'queued') AND e.id < o.id) \
     ORDER BY not_before, id LIMIT ?4";

/// The same where several nodes share the store: others' are left out, and what is found is ours for a time.
pub(super) const TAKE: &str = "UPDATE outbox SET locked_by = ?7, locked_until = ?8 WHERE id IN (SELECT id FROM outbox AS o \
     WHERE app_id = ?1 AND kind = ?2 AND kind <> 'broadcast' AND state = 'pending' AND is_public = ?5 \
     AND CASE WHEN last_error IS NULL THEN 0 ELSE 1 END = ?6 AND not_before <= ?3 \
     AND (locked_until <= ?3 OR locked_by = ?7) \
     AND NOT EXISTS (SELECT 1 FROM outbox AS e WHERE e.app_id = o.app_id AND e.kind = o.kind \
     AND e.lane = o.lane AND e.kind <> 'broadcast' AND e.state IN ('pending', 'queued') AND e.id < o.id) \
     ORDER BY not_before, id LIMIT ?4) \
     AND state = 'pending' AND (locked_until <= ?3 OR locked_by = ?7) \
     RETURNING id, lane, attempts, created_at, queued_at";

/// When the next one of a group is due.
pub(super) const NEXT: &str = "SELECT not_before FROM outbox WHERE app_id = ?1 AND kind = ?2 AND kind <> 'broadcast' \
     AND state = 'pending' AND is_public = ?4 AND CASE WHEN last_error IS NULL THEN 0 ELSE 1 END = ?5 \
     AND not_before > ?3 ORDER BY not_before LIMIT 1";

/// Events that can be posted now: the first ones of their lanes, the longest due first.
pub(super) fn claim(tx: &mut Transaction<'_>, claim: &Claim) -> Result<Due, StorageError> {
    let now = storage::now();
    let mut due = Due::default();
    for (group, limit) in Group::ALL.into_iter().zip(claim.limits) {
        if limit > 0 {
            due.tasks.extend(of_group(tx, claim, group, limit, now)?);
        }
        let next = next_of(tx, &claim.target, group, now)?;
        due.next = due.next.into_iter().chain(next).min();
    }
    Ok(due)
}

fn next_of(
    tx: &mut Transaction<'_>,
    target: &Target,
    group: Group,
    now: i64,
) -> Result<Option<i64>, StorageError> {
    let values: [Value; 5] = [
        (&target.app_id).into(),
        (&target.kind).into(),
        now.into(),
        group.is_public.into(),
        group.fails.into(),
    ];
    tx.query_one(NEXT, &values)?.map(|row| row.int(0)).transpose()
}

fn of_group(
    tx: &mut Transaction<'_>,
    claim: &Claim,
    group: Group,
    limit: usize,
    now: i64,
) -> Result<Vec<Task>, StorageError> {
    let mut values: Vec<Value> = vec![
        (&claim.target.app_id).into(),
        (&claim.target.kind).into(),
        now.into(),
        (limit as i64).into(),
        group.is_public.into(),
        group.fails.into(),
    ];
    let rows = match &claim.node {
        // Nobody else claims, and the courier remembers what it has.
        None => tx.query(FIND, &values)?,
        Some(node) => {
            values.extend([node.into(), (now + micros(claim.lease) + LEASE).into()]);
            tx.query(TAKE, &values)?
        }
    };
    let mut tasks = Vec::new();
    for row in &rows {
        let id = row.int(0)?;
        // Payloads may be large, and what is under way stays first in its lane until it is settled.
        if !claim.known.contains(&id)
            && let Some(payload) = tx.query_one("SELECT payload FROM outbox WHERE id = ?1", &[id.into()])?
        {
            tasks.push(task(row, payload.text(0)?, group)?);
        }
    }
    // RETURNING promises no order.
    tasks.sort_by_key(|task| task.id);
    Ok(tasks)
}

fn task(row: &Row, payload: String, group: Group) -> Result<Task, StorageError> {
    Ok(Task {
        id: row.int(0)?,
        lane: row.text(1)?,
        payload,
        attempts: row.int(2)?,
        created_at: row.int(3)?,
        queued_at: row.int(4)?,
        group,
    })
}
