//! Tenants and users see nothing of each other, and one failure stays one.

use serde_json::json;

use super::own::includes;
use crate::clients::{Echo, user};
use crate::harness::messaging::{ANN, BOB, OUTSIDE, RECEIVED, Router, SENT, plain};
use crate::harness::portal::Reply;
use crate::harness::ws::WsClient;

#[tokio::test]
async fn t39_nobody_reads_or_writes_in_a_conversation_of_somebody_else() {
    let router = Router::setup().app("1002", "").start().await;
    let sent = router.send(1, BOB, "between us").await;
    let (conversation, message) = (plain(&sent["conversation"]["id"]), plain(&sent["message"]["id"]));
    for path in [
        format!("/conversations/{conversation}"),
        format!("/conversations/{conversation}/messages"),
        format!("/messages/{message}"),
    ] {
        for user in ["2", "3"] {
            router.try_get(&path, &[("user_id", user)]).await.refused(404, "not_found");
        }
        assert_eq!(router.try_get(&path, &[("user_id", "1")]).await.status, 200);
    }
    let other = router.server().app_with_id("1002").clone();
    for (path, more) in [
        (format!("/conversations/{conversation}/read"), json!({})),
        (format!("/conversations/{conversation}/typing"), json!({"typing": true})),
        (format!("/messages/{message}/edit"), json!({"text": "changed"})),
        (format!("/messages/{message}/delete"), json!({"scope": "everyone"})),
        (format!("/messages/{message}/retry"), json!({})),
        (format!("/messages/{message}/cancel"), json!({})),
    ] {
        let mut body = more;
        body["user_id"] = json!(2);
        router.post(&path, &body).await.refused(404, "not_found");
        body["user_id"] = json!(1);
        router.post_as(&other, &path, &body).await.refused(404, "not_found");
    }
    assert_eq!(router.message(1, &sent["message"]["id"]).await["text"], "between us");
}

#[tokio::test]
async fn t40_private_channels_need_the_portals_signature() {
    let router = Router::setup().routing("channels.mode", "private").start().await;
    let mut echo = Echo::start("2", "8", "reverb");
    echo.connect("bob", router.server(), user("2")).await;
    echo.chain("bob", json!([["private", "user.2"], ["listen", "MessageReceived"]])).await;
    echo.subscribed("bob", "private-user.2").await;
    let mut public = router.listen("user.2").await;
    let mut stranger = WsClient::connect_to(router.server(), &router.app).await;
    stranger.send_subscribe_with_auth("private-user.2", "sb-key-1001:00").await;
    stranger.expect_not_subscribed("private-user.2", "AuthError", 401, "").await;
    router.send(1, BOB, "in private").await;
    includes(&echo.heard("bob", "listen").await["message"], &json!({"text": "in private"}));
    public.expect_nothing_published(router.server()).await;
}

#[tokio::test]
async fn t40_both_kinds_of_channels_for_a_migration() {
    let router = Router::setup().routing("channels.mode", "both").start().await;
    let mut public = router.listen("user.2").await;
    let mut private = router.listen("private-user.2").await;
    router.send(1, BOB, "twice").await;
    let (one, other) = (public.wait_for(RECEIVED).await, private.wait_for(RECEIVED).await);
    assert_eq!(one.json(), other.json());
}

#[tokio::test]
async fn public_channels_can_be_kept_for_those_who_signed_in() {
    let router = Router::setup().routing("channels.authenticated_public", true).start().await;
    let mut client = WsClient::connect_to(router.server(), &router.app).await;
    client.send_subscribe("user.2").await;
    client.expect("pusher:subscription_error").await;
    client.expect("pusher:error").await;
    client.sign_in(r#"{"id":"2"}"#).await;
    client.subscribe("user.2").await;
    client.send_subscribe("user.1").await;
    client.expect("pusher:subscription_error").await;
    client.expect("pusher:error").await;
    router.send(1, BOB, "for the right one").await;
    client.wait_for(RECEIVED).await;
}

#[tokio::test]
async fn a_reload_that_guards_public_channels_ends_the_subscriptions_of_strangers() {
    let router = Router::setup().start().await;
    let (mut stranger, mut owner) = (router.listen("user.2").await, router.listen("user.2").await);
    let mut elsewhere = router.listen("news").await;
    owner.sign_in(r#"{"id":"2"}"#).await;
    let guarded = |text: String| text.replace("[routing]", "[routing]\nchannels.authenticated_public = true");
    router.server().reload(guarded, "new settings would refuse").await;
    stranger.expect_close(4200).await;
    router.send(1, BOB, "for the right one").await;
    owner.wait_for(RECEIVED).await;
    elsewhere.expect_nothing().await;
}

#[tokio::test]
async fn a_failing_portal_delays_no_message_and_is_told_later_in_order() {
    let mut router = Router::setup().portal().start().await;
    router.portal().refuse().await;
    let mut bob = router.listen("user.2").await;
    for n in 0..3 {
        router
            .ok(
                "/messages",
                json!({"user_id": 1, "to": BOB, "text": n.to_string(), "reference": n.to_string()}),
            )
            .await;
        assert_eq!(bob.wait_for(RECEIVED).await.json()["message"]["text"], n.to_string());
    }
    router.portal().accept().await;
    let app = router.app.clone();
    let mut sent = Vec::new();
    while sent.len() < 3 {
        let request = router.portal().next().await;
        request.expect_signed(&app);
        for event in request.callbacks() {
            if event["name"] == "message_sent" {
                sent.push(event["data"]["message"]["reference"].clone());
            }
        }
    }
    assert_eq!(sent, ["0", "1", "2"]);
}

#[tokio::test]
async fn a_callback_that_fails_is_repeated_with_the_same_id() {
    let mut router = Router::setup().portal().start().await;
    router.portal().answers_next(Reply::Status(500, "{}".to_owned()));
    router.portal().answers_next(Reply::Close);
    router.send(1, OUTSIDE, "hello").await;
    let mut ids = Vec::new();
    while ids.len() < 3 {
        for event in router.portal().next().await.callbacks() {
            if event["name"] == "message_sent" {
                ids.push(event["id"].clone());
            }
        }
    }
    assert!(ids.iter().all(|id| id == &ids[0]), "{ids:?}");
}

#[tokio::test]
async fn the_senders_own_connection_can_be_left_out() {
    let router = Router::start().await;
    let mut tab = router.thread(1, BOB).await;
    let mut other_tab = router.listen(&format!("messenger.{}", plain(&tab.id))).await;
    let send = json!({"user_id": 1, "to": BOB, "text": "to others", "socket_id": tab.client.socket_id});
    router.ok("/messages", send).await;
    other_tab.wait_for(SENT).await;
    tab.never(&router, SENT).await;
}

#[tokio::test]
async fn with_ids_only_no_event_carries_text_numbers_or_names() {
    let router = Router::setup().routing("payload", "ids").start().await;
    let mut bob = router.listen("user.2").await;
    let mut ann = router.thread(1, BOB).await;
    router.send(1, BOB, "confidential").await;
    for event in [bob.wait_for(RECEIVED).await, ann.hear(SENT).await] {
        for secret in ["confidential", ANN, BOB] {
            assert!(!event.text.contains(secret), "{secret} in {}", event.text);
        }
        let data = event.json();
        assert!(!data["message"]["id"].is_null() && !data["conversation"]["id"].is_null(), "{data}");
        assert!(data["message"]["status"].is_string(), "{data}");
    }
}

#[tokio::test]
async fn logs_show_neither_texts_nor_whole_numbers_nor_keys() {
    let router = Router::start().await;
    router.send(1, BOB, "confidential inside").await;
    router.send(1, OUTSIDE, "confidential outside").await;
    router.carrier.inbound(json!({"from": OUTSIDE, "to": ANN, "text": "confidential back"})).await;
    router.logged("Inbound message received", 1);
    let log = router.server().output();
    for secret in ["confidential", ANN, BOB, OUTSIDE, "KEY_TEST", router.app.secret.as_str()] {
        assert!(!log.contains(secret), "{secret} in\n{log}");
    }
    assert!(log.contains("+1312***0101"), "{log}");
}
