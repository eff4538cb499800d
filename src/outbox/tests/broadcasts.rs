//! Broadcasts, alone and behind callbacks.

use super::*;

#[tokio::test]
async fn a_broadcast_comes_after_its_callbacks_with_the_ids_of_their_answers() {
    let mut world = World::new();
    let mut backend = world.point("a", |_| Reply::Status("200 OK", "p-77")).await;
    let about = About { message: Some(4), conversation: Some(5) };
    world.broadcast("held", "messenger.5", &[1, 2], Some(about)).await;
    world.broadcast("held", "later", &[], None).await;
    assert_eq!(world.next_channel().await, "messenger.p-77");
    // Both came before it: it would have waited for ten minutes.
    let got: Vec<Value> = backend.rest().iter().map(Got::data).collect();
    assert_eq!(got, [1, 2]);
    assert_eq!(world.next_channel().await, "later");
}

#[tokio::test]
async fn a_broadcast_does_not_wait_for_a_second_try() {
    let mut world = World::with_pace(Pace { backoff: Duration::from_secs(600), ..PACE });
    let _backend = world.point("a", |_| Reply::Status("500 Internal Server Error", "")).await;
    world.broadcast("held", "first", &[1], None).await;
    assert_eq!(world.next_channel().await, "first");
}

#[tokio::test]
async fn a_broadcast_waits_for_a_slow_backend_for_a_time_only_and_other_lanes_do_not() {
    let mut world = World::with_pace(Pace { hold: Duration::from_millis(300), ..PACE });
    let mut backend = world.point("a", |_| Reply::Hang).await;
    let start = std::time::Instant::now();
    world.broadcast("held", "first", &[1], None).await;
    world.broadcast("held", "second", &[], None).await;
    world.broadcast("other", "third", &[], None).await;
    backend.next().await;
    for channel in ["third", "first", "second"] {
        assert_eq!(world.next_channel().await, channel);
    }
    assert!(start.elapsed() >= Duration::from_millis(300));
    world.broadcast("held", "fourth", &[], None).await;
    assert_eq!(world.next_channel().await, "fourth");
}

#[tokio::test]
async fn after_a_restart_a_broadcast_still_comes_after_its_callback() {
    let world = World::new();
    let mut backend = world.point("a", |_| Reply::Hang).await;
    let about = About { message: None, conversation: Some(5) };
    world.broadcast("held", "messenger.5", &[1], Some(about)).await;
    backend.next().await;
    backend.change(|_| Reply::Status("503 Service Unavailable", ""));
    let mut world = world.restart().await;
    assert_eq!(world.next_channel().await, "messenger.5");
    assert!(!backend.rest().is_empty());
}

/// The connection to the store was lost in the commit: nothing followed it.
#[tokio::test]
async fn a_broadcast_whose_commit_nobody_saw_is_published_by_the_running_process() {
    let mut world = World::new();
    world.broadcast("lane", "seen", &[], None).await;
    assert_eq!(world.next_channel().await, "seen");
    let node = world.outbox.node.to_string();
    let lost = move |tx: &mut Transaction<'_>| {
        let payload = json!({"publications": [{"channel": "lost", "event": "E", "data": {}}],
            "expires_at": storage::now() + 60_000_000});
        tx.execute(
            "INSERT INTO outbox (app_id, kind, lane, payload, state, attempts, not_before, locked_by, locked_until, \
             created_at) VALUES ('a', 'broadcast', 'lane', ?1, 'pending', 0, 0, ?2, 1, 0)",
            &[payload.to_string().into(), (&node).into()],
        )
    };
    world.outbox.database.write(lost).await.expect("stored");
    assert_eq!(world.next_channel().await, "lost");
    // Each once, and nothing is left.
    world.until_done("a").await;
    assert!(world.published.try_recv().is_err());
}
