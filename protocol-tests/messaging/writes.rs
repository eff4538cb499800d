//! What one user makes the server do and store is counted, and a full store keeps its room for what was promised.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::sleep;

use super::attachments::{ask, get};
use crate::harness::http::{Response, exchange};
use crate::harness::messaging::{ANN, BOB, OUTSIDE, RECEIVED, Router, Setup, plain, text};
use crate::harness::{DEADLINE, on_a_large_stack};

/// Refused, with the time to wait.
fn over(answer: &Response) {
    answer.refused(429, "rate_limited");
    let wait: Option<u64> = answer.header("retry-after").and_then(|wait| wait.parse().ok());
    assert!(wait.is_some_and(|wait| (1..=3_600).contains(&wait)), "{wait:?}");
}

/// Bytes that no store makes smaller.
fn noise(size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..size.div_ceil(8)).flat_map(|_| next()).take(size).collect()
}

fn file(user: u64, conversation: &Value) -> Value {
    json!({"user_id": user, "conversation_id": conversation, "name": "x.txt", "content_type": "text/plain"})
}

async fn put(router: &Router, announced: &Value, content: &[u8]) -> Response {
    ask(router, "PUT", &text(&announced["upload"]["url"]), &[("Content-Type", "text/plain")], content).await
}

#[test]
fn edits_conversations_and_files_of_a_user_are_counted_and_others_go_on() {
    on_a_large_stack(async || edits_conversations_and_files_are_counted().await);
}

async fn edits_conversations_and_files_are_counted() {
    let setup = Router::setup().routing("limits.user_edits", 2).routing("limits.user_files", 2);
    let router = setup.routing("limits.user_conversations", 2).start().await;
    let sent = router.send(1, BOB, "one").await;
    let answer = router.send(2, ANN, "two").await;
    let edit = async |user: u64, sent: &Value, text: &str| {
        let path = format!("/messages/{}/edit", plain(&sent["message"]["id"]));
        router.post(&path, &json!({"user_id": user, "text": text})).await
    };
    edit(1, &sent, "a").await.expect_status(200);
    edit(1, &sent, "b").await.expect_status(200);
    over(&edit(1, &sent, "c").await);
    assert_eq!(router.message(1, &sent["message"]["id"]).await["body"], "b");
    edit(2, &answer, "a").await.expect_status(200);

    // The first is the one with Bob.
    let begin =
        async |user: u64, to: &str| router.post("/conversations", &json!({"user_id": user, "to": to})).await;
    begin(1, OUTSIDE).await.expect_status(200);
    over(&begin(1, "+13125550198").await);
    over(&router.post("/messages", &json!({"user_id": 1, "to": "+13125550198", "text": "x"})).await);
    // One that is there is opened as often as one likes.
    for _ in 0..5 {
        begin(1, OUTSIDE).await.expect_status(200);
    }
    begin(2, OUTSIDE).await.expect_status(200);

    let of_ann = file(1, &sent["conversation"]["id"]);
    for _ in 0..2 {
        router.ok("/attachments", of_ann.clone()).await;
    }
    over(&router.post("/attachments", &of_ann).await);
    router.ok("/attachments", file(2, &answer["conversation"]["id"])).await;
}

#[tokio::test]
async fn calls_with_a_users_token_are_counted_and_the_portals_are_not() {
    let setup = Router::setup().routing("tokens.enabled", true).routing("limits.user_calls", 1);
    let router = setup.start().await;
    let mint = async |user: u64| text(&router.ok("/user_tokens", json!({"user_id": user})).await["token"]);
    let call = async |token: &str, query: &str| {
        let path = router.app.path("messaging/conversations");
        let head = format!(
            "GET {path}{query} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        );
        exchange(router.server().public, head).await
    };
    let (ann, bob) = (mint(1).await, mint(2).await);
    // Ten at once, and calls that are refused count as well.
    let mut taken = 0;
    while call(&ann, if taken % 2 == 0 { "" } else { "?limit=x" }).await.status != 429 {
        taken += 1;
        assert!(taken < 60, "no limit");
    }
    assert!(taken >= 10, "{taken}");
    over(&call(&ann, "").await);
    // Another token of the same user is no way round.
    over(&call(&mint(1).await, "").await);
    call(&bob, "").await.expect_status(200);
    for _ in 0..30 {
        router.conversations(1).await;
    }
}

#[tokio::test]
async fn bytes_of_uploads_are_counted_also_of_those_that_fail() {
    let router = Router::setup().routing("limits.user_bytes", "500KB").start().await;
    let sent = router.send(1, BOB, "one").await;
    let announced = router.ok("/attachments", file(1, &sent["conversation"]["id"])).await;
    // Another type than the announced one is refused before a byte is taken.
    let other = [("Content-Type", "image/png")];
    let refused = ask(&router, "PUT", &text(&announced["upload"]["url"]), &other, &noise(300_000, 1)).await;
    refused.refused(415, "type_not_allowed");
    put(&router, &announced, &noise(300_000, 1)).await.expect_status(200);
    let second = router.ok("/attachments", file(1, &sent["conversation"]["id"])).await;
    over(&put(&router, &second, &noise(300_000, 2)).await);
    get(&router, &text(&second["attachment"]["url"])).await.refused(404, "not_found");
    // What came of it counts.
    over(&put(&router, &second, &noise(150_000, 2)).await);
    let answer = router.send(2, ANN, "two").await;
    let of_bob = router.ok("/attachments", file(2, &answer["conversation"]["id"])).await;
    put(&router, &of_bob, &noise(300_000, 3)).await.expect_status(200);
}

#[tokio::test]
async fn files_and_bytes_of_an_app_are_counted_for_all_its_users() {
    let setup = Router::setup().routing("limits.app_files", 3).routing("limits.app_bytes", "500KB");
    let router = setup.start().await;
    let of_ann = file(1, &router.send(1, BOB, "one").await["conversation"]["id"]);
    let of_bob = file(2, &router.send(2, ANN, "two").await["conversation"]["id"]);
    let mut announced = Vec::new();
    for file in [&of_ann, &of_ann, &of_bob] {
        announced.push(router.ok("/attachments", file.clone()).await);
    }
    over(&router.post("/attachments", &of_bob).await);
    put(&router, &announced[0], &noise(300_000, 1)).await.expect_status(200);
    over(&put(&router, &announced[2], &noise(300_000, 2)).await);
}

async fn a_file_that_no_message_names_is_deleted_after_its_window(setup: Setup) {
    let router = setup.start().await;
    let thread = router.send(1, BOB, "one").await["conversation"]["id"].clone();
    let mut urls = Vec::new();
    for content in ["named", "not named"] {
        let announced = router.ok("/attachments", file(1, &thread)).await;
        put(&router, &announced, content.as_bytes()).await.expect_status(200);
        urls.push(text(&announced["attachment"]["url"]));
    }
    let send = async |url: &str| {
        router.post("/messages", &json!({"user_id": 1, "to": BOB, "text": "x", "media_urls": [url]})).await
    };
    send(&urls[0]).await.expect_status(200);
    let since = Instant::now();
    while get(&router, &urls[1]).await.status != 404 {
        assert!(since.elapsed() < 2 * DEADLINE, "it is still there");
        sleep(Duration::from_millis(100)).await;
    }
    let error = send(&urls[1]).await.refused(422, "invalid_field");
    assert_eq!(error["field"], "media_urls[0]");
    assert_eq!(get(&router, &urls[0]).await.expect_status(200).body, b"named");
    // Whoever got it may send it on.
    router.ok("/messages", json!({"user_id": 2, "to": ANN, "media_urls": [urls[0]]})).await;
}

/// Uploads until the store is full.
async fn fill(router: &Router, conversation: &Value) {
    for seed in 0..30 {
        let announced = router.post("/attachments", &file(1, conversation)).await;
        if announced.status == 507 {
            return;
        }
        let announced = announced.expect_status(200).json();
        let put = put(router, &announced, &noise(3_000_000, seed)).await;
        if put.status == 507 {
            return;
        }
        put.expect_status(200);
    }
    panic!("the store takes more than it may have");
}

async fn a_full_store_refuses_what_is_new_and_keeps_what_was_promised(setup: Setup) {
    let router = setup.start().await;
    let mut ann = router.thread(1, OUTSIDE).await;
    let sent = router.send(1, OUTSIDE, "before").await["message"]["id"].clone();
    let carriers_id = text(&router.carrier.messages().await[0]["id"]);
    let keyed = json!({"user_id": 1, "to": BOB, "text": "once", "idempotency_key": "k"});
    let internal = router.ok("/messages", keyed.clone()).await;
    let conversation = internal["conversation"]["id"].clone();
    let waiting = router.ok("/attachments", file(1, &conversation)).await;
    let mut of_ann = router.listen("user.1").await;
    fill(&router, &conversation).await;
    router.measures("switchboard_store_full 1").await;

    let edit = format!("/messages/{}/edit", plain(&internal["message"]["id"]));
    for (path, body) in [
        ("/messages", json!({"user_id": 1, "to": BOB, "text": "new"})),
        ("/messages", json!({"user_id": 1, "to": OUTSIDE, "text": "new"})),
        ("/conversations", json!({"user_id": 1, "to": "+13125550188"})),
        ("/attachments", file(1, &conversation)),
        (edit.as_str(), json!({"user_id": 1, "text": "changed"})),
    ] {
        let answer = router.post(path, &body).await;
        answer.refused(507, "store_full");
        assert_eq!(answer.header("retry-after"), Some("60"), "{path}");
    }
    put(&router, &waiting, b"x").await.refused(507, "store_full");

    // What was accepted is reported, what others send arrives, and everything can be read.
    router.carrier.finalize(&carriers_id, "delivered", &[]).await;
    ann.reaches(&sent, "delivered").await;
    router.carrier.inbound(json!({"from": OUTSIDE, "to": ANN, "text": "from outside"})).await;
    of_ann.wait_for(RECEIVED).await;
    assert_eq!(router.ok("/messages", keyed).await["message"]["id"], internal["message"]["id"]);
    router.ok("/conversations", json!({"user_id": 1, "to": BOB})).await;
    router.ok(&format!("/conversations/{}/read", plain(&conversation)), json!({"user_id": 1})).await;
    let path = format!("/messages/{}/delete", plain(&internal["message"]["id"]));
    router.ok(&path, json!({"user_id": 1, "scope": "everyone"})).await;
}

#[test]
fn check_names_the_limit_of_the_store() {
    let check = |lines: &str| Router::setup().tables(&format!("[store]\n{lines}")).check("store.max_size");
    let (status, detail) = check("");
    assert_eq!(status, "ok");
    assert!(detail.contains("no limit") && detail.contains("store.max_size"), "{detail}");
    let (status, detail) = check("max_size = \"10GB\"");
    assert_eq!(status, "ok");
    assert!(detail.contains("10240 MB") && detail.contains("9216 MB"), "{detail}");
    let (status, detail) = check("min_free = \"1000000GB\"");
    assert_eq!(status, "warning", "{detail}");
}

/// A disk that is nearly full counts as a full store.
#[tokio::test]
async fn nothing_new_is_taken_while_the_disk_is_nearly_full() {
    let router = Router::setup().env("SWITCHBOARD__STORE__MIN_FREE", "1000000GB").start().await;
    router.measures("switchboard_store_full 1").await;
    let body = json!({"user_id": 1, "to": BOB, "text": "new"});
    router.post("/messages", &body).await.refused(507, "store_full");
    router.carrier.inbound(json!({"from": OUTSIDE, "to": ANN, "text": "from outside"})).await;
    let since = Instant::now();
    while router.conversations(1).await.is_empty() {
        assert!(since.elapsed() < DEADLINE, "what came from outside is not stored");
        sleep(Duration::from_millis(20)).await;
    }
}

each_store! { Router::setup().routing("attachments.upload_window", "1s") =>
    a_file_that_no_message_names_is_deleted_after_its_window;
}

each_store! {
    Router::setup().env("SWITCHBOARD__STORE__MAX_SIZE", "40MB").carrier(&["--manual-finalize"]) =>
    a_full_store_refuses_what_is_new_and_keeps_what_was_promised;
}
