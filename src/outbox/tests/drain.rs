//! How fast an endpoint that was away is told of what waited.

use std::time::Instant;

use super::*;

/// Events of which the rate is measured.
const MEASURED: u64 = 2_000;

/// Fills the outbox as a night without an answer does: each lane has failed, and is due again.
async fn fill(world: &World, sql: &'static str, count: i64) {
    let fill = move |tx: &mut Transaction<'_>| tx.execute(sql, &[count.into()]);
    world.outbox.database.write(fill).await.expect("stored");
}

/// Events that are taken in a second while so many wait.
async fn rate(sql: &'static str, count: i64) -> f64 {
    let world = World::new();
    let _backend = world.point("a", |_| OK).await;
    fill(&world, sql, count).await;
    let start = Instant::now();
    world.outbox.couriers.wake(&target("a"));
    while world.outbox.stats().delivered < MEASURED {
        tokio::time::sleep(MILLISECOND).await;
    }
    MEASURED as f64 / start.elapsed().as_secs_f64()
}

/// Prints figures: `cargo test --lib drains -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, which takes a minute"]
async fn an_endpoint_drains_100000_waiting_events_at_the_rate_it_takes_them() {
    const LANES: &str = "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?1) \
         INSERT INTO outbox (app_id, kind, lane, payload, attempts, locked_until, created_at, queued_at, state, \
         not_before, last_error, is_public) SELECT 'a', 'callback', 'l' || n, '{\"name\":\"e\",\"data\":1}', 1, 0, \
         9000000000000000, 9000000000000000, 'pending', 1, 'HTTP 503', n % 2 FROM numbers";
    const BEHIND: &str = "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?1) \
         INSERT INTO outbox (app_id, kind, lane, payload, attempts, locked_until, created_at, queued_at, state, \
         not_before, last_error, is_public) SELECT 'a', 'callback', 'l' || n % 50, '{\"name\":\"e\",\"data\":1}', 0, 0, \
         9000000000000000, 9000000000000000, CASE WHEN n <= 50 THEN 'pending' ELSE 'queued' END, 1, NULL, 0 FROM numbers";
    for (shape, sql) in [("each in a lane of its own that failed", LANES), ("50 lanes", BEHIND)] {
        let few = rate(sql, MEASURED as i64).await;
        let many = rate(sql, 100_000).await;
        println!("{shape}: {few:.0}/s of {MEASURED}, {many:.0}/s of 100,000: {:.2}", many / few);
    }
}
