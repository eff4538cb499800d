//! What the store reads for a statement must not grow with the number of events that wait.

use rusqlite::{Connection, StatementStatus, ToSql, params};
use tempfile::TempDir;

use super::claim::{FIND, Group, NEXT};
use super::queue::{LOCK_FIRST, PROMOTE};
use super::testing::store;

/// Tables with rows that a test makes as it likes.
struct Table {
    connection: Connection,
    _folder: TempDir,
}

impl Table {
    /// `None` where the tests' store is PostgreSQL: its planner goes by what is in the tables, and tells no steps.
    fn new() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let database = store(folder.path());
        if database.is_shared() {
            return None;
        }
        drop(database);
        let connection = Connection::open(folder.path().join("store.db")).expect("a store");
        Some(Self { connection, _folder: folder })
    }

    /// Adds so many events for `kind`, each in the lane and with the other columns that SQL makes of its number `n`.
    fn fill(&self, kind: &str, count: i64, lane: &str, columns: &str) {
        let sql = format!(
            "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count}) \
             INSERT INTO outbox (app_id, kind, lane, payload, attempts, locked_until, created_at, queued_at, \
             state, not_before, last_error, is_public) SELECT 'a', '{kind}', {lane}, 'payload', 0, 0, 0, 0, {columns} FROM numbers"
        );
        self.connection.execute(&sql, []).expect("filled");
    }

    fn clear(&self) {
        self.connection.execute("DELETE FROM outbox", []).expect("deleted");
    }

    /// Steps of SQLite's machine for a statement: each row that is looked at takes some.
    fn steps(&self, sql: &str, values: &[&dyn ToSql]) -> i32 {
        let mut statement = self.connection.prepare(sql).expect("a statement");
        let mut rows = statement.query(values).expect("started");
        while rows.next().expect("readable").is_some() {}
        drop(rows);
        assert_eq!(statement.get_status(StatementStatus::Sort), 0, "{sql} sorts");
        assert_eq!(statement.get_status(StatementStatus::FullscanStep), 0, "{sql} looks at every row");
        statement.get_status(StatementStatus::VmStep)
    }

    /// Of a whole claim of 16 of each group.
    fn claim(&self) -> i32 {
        let of = |group: Group| {
            self.steps(FIND, params!["a", "hook", 1_000, 16, group.is_public, group.fails])
                + self.steps(NEXT, params!["a", "hook", 1_000, group.is_public, group.fails])
        };
        Group::ALL.into_iter().map(of).sum()
    }
}

#[test]
fn a_claim_reads_no_more_however_many_events_wait() {
    let Some(table) = Table::new() else { return };
    // Each as the columns `state, not_before, last_error, is_public`.
    for (shape, kind, lane, columns) in [
        ("all lanes can go", "hook", "'l' || n", "'pending', n % 1000, NULL, n % 2"),
        ("all lanes failed and can go again", "hook", "'l' || n", "'pending', n % 1000, 'HTTP 500', n % 2"),
        ("all lanes failed and wait", "hook", "'l' || n", "'pending', 1000 + n, 'HTTP 500', n % 2"),
        ("all lanes are of strangers", "hook", "'l' || n", "'pending', n % 1000, NULL, 1"),
        ("one lane", "hook", "'l'", "CASE WHEN n = 1 THEN 'pending' ELSE 'queued' END, 0, NULL, 0"),
        (
            "one lane of batches that failed",
            "hook",
            "'l'",
            "CASE WHEN n = 1 THEN 'pending' ELSE 'queued' END, 9000, CASE WHEN n = 1 THEN 'HTTP 500' END, 1",
        ),
        (
            "some lanes",
            "hook",
            "'l' || n % 20",
            "CASE WHEN n <= 20 THEN 'pending' ELSE 'queued' END, 0, NULL, 0",
        ),
        ("all were given up", "hook", "'l' || n", "'failed', 0, 'HTTP 500', 0"),
        ("all were taken", "hook", "'l' || n", "'done', 0, NULL, 0"),
        ("all are another endpoint's", "other", "'l' || n", "'pending', n % 1000, NULL, n % 2"),
    ] {
        let [few, many] = [1_000, 50_000].map(|count| {
            table.clear();
            table.fill(kind, count, lane, columns);
            table.fill("hook", 3, "'own' || n", "'pending', 999, NULL, 0");
            table.claim()
        });
        assert!(many <= few + few / 10, "{shape}: {few} steps among a thousand, {many} among many");
    }
}

#[test]
fn what_is_written_and_settled_reads_no_more_however_many_events_wait() {
    let Some(table) = Table::new() else { return };
    for lane in ["'l'", "'l' || n"] {
        let [few, many] = [1_000, 50_000].map(|count| {
            table.clear();
            table.fill("hook", count, lane, "'queued', 0, NULL, 0");
            let lane = if lane == "'l'" { "l" } else { "l7" };
            table.steps(LOCK_FIRST, params!["a", "hook", lane])
                + table.steps(PROMOTE, params!["a", "hook", lane, Option::<String>::None])
        });
        assert!(many <= few + few / 10, "{lane}: {few} steps among a thousand, {many} among many");
    }
}

/// With many rows each statement must find what it looks for by an index.
#[test]
fn statements_use_indices() {
    let Some(table) = Table::new() else { return };
    let explain = |sql: &str| {
        let mut statement =
            table.connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect("a statement");
        // Parameters without values are NULL.
        let mut rows = statement.raw_query();
        let mut plan = String::new();
        while let Some(row) = rows.next().expect("a plan") {
            plan += &format!("{}; ", row.get::<_, String>(3).expect("a text"));
        }
        plan
    };
    const AGE: &str = "SELECT id FROM outbox WHERE app_id = 'a' AND kind = 'b' \
         AND kind <> 'broadcast' AND state = 'failed' AND id > 3 ORDER BY id LIMIT 4";
    const TARGETS: &str = "SELECT app_id, kind FROM outbox WHERE kind <> 'broadcast' \
         AND (app_id, kind) > ('a', 'b') ORDER BY app_id, kind LIMIT 1";
    const LEFT_OVER: &str = "SELECT id FROM outbox WHERE kind = 'broadcast' AND state = 'pending' \
         AND locked_until < 3 AND (locked_by IS NULL OR locked_by <> 'n') ORDER BY id LIMIT 4";
    for (sql, index, may_sort) in [
        (LOCK_FIRST, "outbox_lane", false),
        (PROMOTE, "outbox_lane", false),
        (FIND, "outbox_due", false),
        (FIND, "outbox_lane", false),
        (NEXT, "outbox_due", false),
        (AGE, "outbox_age", false),
        (TARGETS, "outbox_age", false),
        (LEFT_OVER, "outbox_broadcasts", true),
    ] {
        let plan = explain(sql);
        assert!(plan.contains(index), "{sql}: {plan}");
        assert!(!plan.contains("SCAN") && (may_sort || !plan.contains("TEMP B-TREE")), "{sql}: {plan}");
    }
}
