//! A portal that keeps numbers, and conversations, in its own PostgreSQL or MariaDB.

use serde_json::{Value, json};

use super::own::includes;
use crate::harness::databases::{Database, mariadb, postgres};
use crate::harness::messaging::{ANN, BOB, OUTSIDE, RECEIVED, Router, SENT, Setup, never, plain};
use crate::harness::portal::Reply;
use crate::harness::ws::WsClient;

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
    with_a_query_that_is_wrong_the_server_does_not_start;
    the_portal_is_told_before_the_browsers_and_its_ids_are_used;
    a_portal_that_hangs_holds_up_no_browser_for_long;
    comparing_is_not_left_to_the_database;
    the_words_for_assigned_are_the_portals;
    a_look_up_takes_no_longer_than_its_time;
    no_more_connections_are_opened_than_the_pool_has;
    spellings_of_a_number_are_looked_for_and_two_owners_are_none;
    what_is_read_may_be_named_by_the_portals_ids;
    what_is_changed_may_be_named_by_the_portals_ids;
    a_name_that_two_records_have_is_none;
    a_send_may_name_the_portals_conversation;
}

/// A server that reads who has a number from a portal's table, in which users 1 and 2 have theirs.
pub(super) async fn directory(database: &Database) -> Setup {
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
        // A busy machine is no slow database.
        .routing("directory.timeout_ms", 10_000)
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

/// Without the column it would never be known who is a user, and each message would go to the carrier.
async fn with_a_query_that_is_wrong_the_server_does_not_start(database: Database) {
    for (query, wrong) in [
        ("SELECT phone_number AS number, status FROM phone_numbers WHERE phone_number = :number", "user_id"),
        ("SELECT 1 AS user_id, 2 AS number, 3 AS status FROM nowhere WHERE 1 = :number", "nowhere"),
    ] {
        let _ = database.run("DROP TABLE IF EXISTS phone_numbers; DROP TABLE IF EXISTS conversations").await;
        let setup = directory(&database).await.routing("directory.find_number", query);
        let ended = setup.refusal();
        let said = ended.stdout + &ended.stderr;
        assert_eq!(ended.code, Some(1), "{said}");
        assert!(said.contains("routing.directory.find_number") && said.contains(wrong), "{said}");
    }
}

async fn t11_a_slow_directory_is_not_waited_for(database: Database) {
    let is_postgres = database.url.starts_with("postgres");
    let mut setup = directory(&database).await;
    let slow = if is_postgres { "pg_sleep(30)::text" } else { "CAST(SLEEP(30) AS CHAR)" };
    setup = setup.routing(
        "directory.find_number",
        format!("SELECT {slow} AS user_id, :number AS number, 'assigned' AS status"),
    );
    setup = setup.routing("directory.timeout_ms", 500);
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

/// The portal's own words for a number that is in use, instead of `assigned`.
async fn the_words_for_assigned_are_the_portals(database: Database) {
    let setup = directory(&database).await;
    let router = setup.routing("directory.assigned_status", json!(["active", "Porting"])).start().await;
    let words = [("active", true), ("Porting", true), ("porting", false), ("assigned", false)];
    for (index, (status, is_internal)) in words.into_iter().enumerate() {
        let number = format!("+1312555018{index}");
        database.run(&format!("INSERT INTO phone_numbers VALUES (3, '{number}', '{status}', 0)")).await;
        assert_eq!(router.send(1, &number, "x").await["internal"], is_internal, "{status:?}");
    }
}

/// `find_number` with every answer late.
fn late(setup: Setup, database: &Database, seconds: &str) -> Setup {
    let (user, from, and) = if database.url.starts_with("postgres") {
        ("user_id::text", format!("phone_numbers, pg_sleep({seconds})"), String::new())
    } else {
        ("CAST(user_id AS CHAR)", "phone_numbers".to_owned(), format!("AND SLEEP({seconds}) = 0"))
    };
    let sql = format!(
        "SELECT {user} AS user_id, phone_number AS number, status FROM {from} \
         WHERE phone_number = :number {and}"
    );
    setup.routing("directory.find_number", sql)
}

async fn a_look_up_takes_no_longer_than_its_time(database: Database) {
    let setup = late(directory(&database).await, &database, "0.8");
    let mut router = setup.routing("directory.timeout_ms", 20_000).start().await;
    assert_eq!(router.send(1, BOB, "with patience").await["internal"], true);
    router
        .server()
        .reload(|text| text.replace("timeout_ms = 20000", "timeout_ms = 200"), "configuration reloaded")
        .await;
    let answer = router.post("/messages", &json!({"user_id": 1, "to": BOB, "text": "without"})).await;
    answer.refused(503, "directory_unavailable");
    router.kill();
}

async fn no_more_connections_are_opened_than_the_pool_has(database: Database) {
    let setup = late(directory(&database).await, &database, "0.2");
    let setup = setup.routing("directory.timeout_ms", 20_000).routing("directory.pool", 2);
    let router = std::sync::Arc::new(setup.start().await);
    let mut sends = tokio::task::JoinSet::new();
    for n in 0..8 {
        let router = std::sync::Arc::clone(&router);
        sends.spawn(async move { router.send(1, BOB, &n.to_string()).await });
    }
    assert_eq!(sends.join_all().await.len(), 8, "they wait for each other");
    assert_eq!(database.connections().await, 2);
}

async fn spellings_of_a_number_are_looked_for_and_two_owners_are_none(database: Database) {
    let setup = directory(&database).await;
    let user = if database.url.starts_with("postgres") { "user_id::text" } else { "CAST(user_id AS CHAR)" };
    let sql = format!(
        "SELECT {user} AS user_id, phone_number AS number, status FROM phone_numbers \
         WHERE phone_number IN (:candidates)"
    );
    let router = setup.routing("directory.find_number", sql).start().await;
    database.run("INSERT INTO phone_numbers VALUES (3, '(312) 555-0180', 'assigned', 1)").await;
    assert_eq!(router.send(1, "+13125550180", "found").await["internal"], true);
    database.run("INSERT INTO phone_numbers VALUES (4, '312-555-0180', 'assigned', 1)").await;
    let send = json!({"user_id": 1, "to": "+13125550180", "text": "whose?"});
    let answer = router.post("/messages", &send).await;
    assert_eq!(answer.json()["error"]["code"], "directory_ambiguous", "{}", answer.text());
    assert_eq!(router.carrier.sends().await.len(), 0);
}

/// Two messages of one conversation, the portal's 77, of which the portal calls the second as we call the
/// first: both sides count from 1.
struct Renamed {
    router: Router,
    bob: WsClient,
    first: Value,
    second: Value,
    /// The second message, as requests name it by the portal's id.
    named: String,
}

async fn renamed(database: &Database) -> Renamed {
    let mut router = directory(database).await.portal().start().await;
    let mut bob = router.listen("user.2").await;
    let first = router.send(1, BOB, "first").await;
    bob.wait_for(RECEIVED).await;
    let ours = &first["message"]["id"];
    let body = json!({"message": {"id": ours}, "conversation": {"id": 77}});
    router.portal().answers(200, &body.to_string());
    let second = router.send(1, BOB, "second").await;
    includes(&bob.wait_for(RECEIVED).await.json()["message"], &json!({"id": ours, "conversation_id": 77}));
    let named = format!("portal:{}", plain(ours));
    Renamed { router, bob, first, second, named }
}

async fn what_is_read_may_be_named_by_the_portals_ids(database: Database) {
    let Renamed { router, first, named, .. } = renamed(&database).await;
    let ours = plain(&first["message"]["id"]);
    for (user, id, text) in [("1", &ours, "first"), ("1", &named, "second"), ("2", &named, "second")] {
        let shown = router.get(&format!("/messages/{id}"), &[("user_id", user)]).await;
        includes(
            &shown["message"],
            &json!({"text": text, "user_id": user.parse::<u64>().expect("a number")}),
        );
    }
    let shown = router.get("/conversations/portal:77", &[("user_id", "1")]).await;
    assert_eq!(shown["conversation"]["id"], first["conversation"]["id"]);
    let before = [("user_id", "1"), ("before", named.as_str())];
    let page = router.get("/conversations/portal:77/messages", &before).await;
    assert_eq!(page["messages"].as_array().map(Vec::len), Some(1), "{page}");
    assert_eq!(page["messages"][0]["text"], "first");
    for (user, id) in
        [("3", named.as_str()), ("1", "portal:999"), ("1", "portal:"), ("1", "portal:portal:77")]
    {
        for path in [format!("/messages/{id}"), format!("/conversations/{id}")] {
            router.try_get(&path, &[("user_id", user)]).await.refused(404, "not_found");
        }
    }
}

async fn what_is_changed_may_be_named_by_the_portals_ids(database: Database) {
    let Renamed { router, second, named, .. } = renamed(&database).await;
    let read = json!({"user_id": 2, "up_to": named});
    assert_eq!(router.ok("/conversations/portal:77/read", read).await["marked"], 2);
    router.ok("/conversations/portal:77/typing", json!({"user_id": 1, "typing": true})).await;
    let edit = router.ok(&format!("/messages/{named}/edit"), json!({"user_id": 1, "text": "second!"})).await;
    assert_eq!(edit["message"]["id"], second["message"]["id"]);
    let delete = json!({"user_id": 1, "scope": "me"});
    let deleted = router.ok(&format!("/messages/{named}/delete"), delete).await;
    assert_eq!(deleted["message"]["id"], second["message"]["id"]);
}

/// Nothing is done to the wrong one.
async fn a_name_that_two_records_have_is_none(database: Database) {
    let Renamed { router, mut bob, named, .. } = renamed(&database).await;
    router.send(1, BOB, "third").await;
    bob.wait_for(RECEIVED).await;
    let delete = json!({"user_id": 1, "scope": "everyone"});
    router.post(&format!("/messages/{named}/delete"), &delete).await.refused(404, "not_found");
}

async fn a_send_may_name_the_portals_conversation(database: Database) {
    let router = directory(&database).await.start().await;
    let send = |id: Value| json!({"user_id": 1, "to": BOB, "text": "x", "conversation_id": id});
    let mut ids = Vec::new();
    for id in [json!(55), json!("portal:55"), json!("portal:56")] {
        let mut thread =
            router.listen(&format!("messenger.{}", plain(&id).trim_start_matches("portal:"))).await;
        ids.push(router.ok("/messages", send(id)).await["conversation"]["id"].take());
        thread.wait_for(SENT).await;
    }
    ids.dedup();
    assert_eq!(ids.len(), 1, "whatever the portal calls it");
    for wrong in ["a b", "portal:a:b", ""] {
        let error = router.post("/messages", &send(json!(wrong))).await.refused(422, "invalid_field");
        assert_eq!(error["field"], "conversation_id", "{wrong}");
    }
}
