//! A portal that keeps numbers, and conversations, in its own PostgreSQL or MariaDB.

use serde_json::json;

use super::own::includes;
use crate::harness::databases::{Database, mariadb, postgres};
use crate::harness::messaging::{ANN, BOB, OUTSIDE, RECEIVED, Router, SENT, Setup, never};
use crate::harness::portal::Reply;

/// Makes a test of each for either database.
macro_rules! each_database {
    ($($test:ident;)+) => {$(
        mod $test {
            #[tokio::test]
            async fn postgres() {
                super::$test(super::postgres().await).await;
            }

            #[tokio::test]
            async fn mariadb() {
                super::$test(super::mariadb().await).await;
            }
        }
    )+};
}

each_database! {
    t11_without_a_directory_nothing_is_sent;
    t11_a_slow_directory_is_not_waited_for;
    the_portal_is_told_before_the_browsers_and_its_ids_are_used;
    a_portal_that_hangs_holds_up_no_browser_for_long;
    comparing_is_not_left_to_the_database;
}

/// A server that reads who has a number from a portal's table, in which users 1 and 2 have theirs.
async fn directory(database: &Database) -> Setup {
    database
        .run(&format!(
            "CREATE TABLE phone_numbers (user_id BIGINT, phone_number VARCHAR(20), status VARCHAR(20), \
             is_primary INT); \
             CREATE TABLE conversations (id BIGINT, user_id BIGINT, contact_number VARCHAR(20)); \
             INSERT INTO phone_numbers VALUES (1, '{ANN}', 'assigned', 1), (2, '{BOB}', 'assigned', 1)"
        ))
        .await;
    let is_postgres = database.url.starts_with("postgres");
    let cast = |column: &str| {
        if is_postgres { format!("{column}::text") } else { format!("CAST({column} AS CHAR)") }
    };
    let (user, id) = (cast("user_id"), cast("id"));
    Router::setup()
        .routing("directory.mode", "sql")
        .routing("directory.url", database.url.clone())
        .routing(
            "directory.find_number",
            format!(
                "SELECT {user} AS user_id, phone_number AS number, status FROM phone_numbers \
                 WHERE phone_number = :number"
            ),
        )
        .routing(
            "directory.own_numbers",
            format!(
                "SELECT phone_number AS number, is_primary AS is_default FROM phone_numbers \
                 WHERE {user} = :user_id AND status = 'assigned'"
            ),
        )
        .routing(
            "directory.find_conversation",
            format!(
                "SELECT {id} AS id FROM conversations WHERE {user} = :user_id AND contact_number = :contact"
            ),
        )
}

async fn t11_without_a_directory_nothing_is_sent(database: Database) {
    let router = directory(&database).await.start().await;
    assert_eq!(router.send(1, BOB, "inside").await["internal"], true);
    assert_eq!(router.send(1, OUTSIDE, "outside").await["internal"], false);
    assert_eq!(router.carrier.sends().await.len(), 1);
    database.run("ALTER TABLE phone_numbers RENAME TO gone").await;
    for to in [BOB, OUTSIDE] {
        let answer = router.post("/messages", &json!({"user_id": 1, "to": to, "text": "lost"})).await;
        answer.refused(503, "directory_unavailable");
    }
    assert_eq!(router.carrier.sends().await.len(), 1, "never external by default");
    assert_eq!(router.conversations(1).await.len(), 2, "what was there before can still be read");
}

async fn t11_a_slow_directory_is_not_waited_for(database: Database) {
    let is_postgres = database.url.starts_with("postgres");
    let mut setup = directory(&database).await;
    let slow = if is_postgres { "pg_sleep(30)::text" } else { "CAST(SLEEP(30) AS CHAR)" };
    setup = setup.routing(
        "directory.find_number",
        format!("SELECT {slow} AS user_id, :number AS number, 'assigned' AS status"),
    );
    let router = setup.start().await;
    let start = std::time::Instant::now();
    let answer = router.post("/messages", &json!({"user_id": 1, "to": BOB, "text": "lost"})).await;
    answer.refused(503, "directory_unavailable");
    assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
    assert_eq!(router.carrier.sends().await.len(), 0);
}

async fn the_portal_is_told_before_the_browsers_and_its_ids_are_used(database: Database) {
    let mut router = directory(&database).await.portal().start().await;
    database.run(&format!("INSERT INTO conversations VALUES (77, 1, '{BOB}'), (78, 2, '{ANN}')")).await;
    let mut ann = router.listen("messenger.77").await;
    let mut bob = router.listen("user.2").await;
    // One callback for each half. While they are not answered, no page may reload.
    let mut releases = Vec::new();
    for (message, conversation) in [(901, 77), (902, 78)] {
        let (release, held) = tokio::sync::oneshot::channel();
        let body = json!({"message": {"id": message}, "conversation": {"id": conversation}});
        router.portal().answers_next(Reply::Held(held, 200, body.to_string()));
        releases.push(release);
    }
    router.send(1, BOB, "Hello").await;
    router.portal().next().await;
    never(&mut bob, &router, RECEIVED).await;
    never(&mut ann, &router, SENT).await;
    drop(releases);
    let received = bob.wait_for(RECEIVED).await.json();
    includes(&received["conversation"], &json!({"id": 78}));
    includes(&ann.wait_for(SENT).await.json()["conversation"], &json!({"id": 77}));
    assert!([json!(901), json!(902)].contains(&received["message"]["id"]), "{received}");
}

async fn a_portal_that_hangs_holds_up_no_browser_for_long(database: Database) {
    let mut router = directory(&database).await.portal().start().await;
    router.portal().answers_next(Reply::Hang);
    router.portal().answers_next(Reply::Hang);
    let mut bob = router.listen("user.2").await;
    let start = std::time::Instant::now();
    router.send(1, BOB, "Hello").await;
    bob.wait_for(RECEIVED).await;
    let waited = start.elapsed();
    assert!((1..5).contains(&waited.as_secs()), "about 2 s: {waited:?}");
}

/// MySQL takes `ASSIGNED` for `assigned`, and both for what has blanks behind it.
async fn comparing_is_not_left_to_the_database(database: Database) {
    let router = directory(&database).await.start().await;
    for (index, status) in ["ASSIGNED", "assigned ", "available", ""].into_iter().enumerate() {
        let number = format!("+1312555018{index}");
        database.run(&format!("INSERT INTO phone_numbers VALUES (3, '{number}', '{status}', 0)")).await;
        assert_eq!(router.send(1, &number, "x").await["internal"], false, "{status:?}");
    }
}
