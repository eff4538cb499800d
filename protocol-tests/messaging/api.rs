//! The HTTP API: its callers, its signatures, its refusals.

use serde_json::{Value, json};

use super::own::includes;
use crate::clients::Sdk;
use crate::harness::http::{Request, exchange};
use crate::harness::messaging::{ANN, BOB, OUTSIDE, RECEIVED, Router, SENT, plain};
use crate::harness::sign::{hmac_hex, now};

#[tokio::test]
async fn t35_the_node_sdk_sends_and_lists() {
    let post = |path: &str, body: Value| ("post", json!([{"path": path, "body": body, "params": {}}]));
    let get = |path: &str, params: Value| ("get", json!([{"path": path, "params": params}]));
    an_sdk_sends_and_lists(Sdk::node(), post, get, "Gr").await;
}

#[tokio::test]
async fn t35_the_python_sdk_sends_and_lists() {
    let post = |path: &str, body: Value| ("POST", json!([path, body]));
    let get = |path: &str, params: Value| ("GET", json!([path, params]));
    an_sdk_sends_and_lists(Sdk::python(), post, get, "Gr").await;
}

#[tokio::test]
async fn t35_requests_of_php_send_and_list() {
    let post = |path: &str, body: Value| ("post", json!([path, body]));
    let get = |path: &str, params: Value| ("get", json!([path, params]));
    an_sdk_sends_and_lists(Sdk::php(), post, get, "Grüße / 👋 + & =").await;
}

#[tokio::test]
async fn t35_requests_of_ruby_send_and_list() {
    let post = |path: &str, body: Value| ("post", json!([path, body]));
    let get = |path: &str, params: Value| ("get", json!([path, params]));
    an_sdk_sends_and_lists(Sdk::ruby_itself(), post, get, "Grüße / 👋 + & =").await;
}

type Call = fn(&str, Value) -> (&'static str, Value);

/// `search` has what the SDK can put into a query: Node's and Python's do not encode it.
async fn an_sdk_sends_and_lists(mut sdk: Sdk, post: Call, get: Call, search: &str) {
    let router = Router::start().await;
    let (server, app) = (router.server(), &router.app);
    let send = json!({"user_id": 1, "to": "(312) 555-0101", "text": "Grüße / 👋 + & ="});
    let (method, args) = post("/messaging/messages", send);
    let sent = sdk.call(server, app, method, args).await;
    includes(&sent["message"], &json!({"text": "Grüße / 👋 + & =", "status": "delivered"}));

    let (method, args) = get("/messaging/conversations", json!({"user_id": "1", "limit": "10"}));
    let listed = sdk.call(server, app, method, args).await;
    assert_eq!(listed["conversations"], json!([sent["conversation"]]));
    let (method, args) = get("/messaging/conversations", json!({"user_id": "1", "q": search}));
    let found = sdk.call(server, app, method, args).await;
    assert_eq!(found["conversations"], listed["conversations"], "{search}");
    let path = format!("/messaging/conversations/{}/messages", plain(&sent["conversation"]["id"]));
    let (method, args) = get(&path, json!({"user_id": "1"}));
    assert_eq!(sdk.call(server, app, method, args).await["messages"], json!([sent["message"]]));

    let (method, args) = post("/messaging/messages", json!({"user_id": 1, "to": ANN, "text": "me"}));
    let refusal = sdk.try_call(server, app, method, args).await.expect_err("refused");
    assert!(refusal.to_string().contains("self_message"), "{refusal}");
}

#[tokio::test]
async fn each_call_answers_with_what_its_callers_read() {
    let router = Router::start().await;
    let sent = router.send(1, BOB, "Hello").await;
    let (message, conversation) = (plain(&sent["message"]["id"]), plain(&sent["conversation"]["id"]));
    router.carrier.fault("invalid_number", 1, json!({})).await;
    let failed = plain(&router.send(1, OUTSIDE, "refused").await["message"]["id"]);
    let in_an_hour = (time::OffsetDateTime::now_utc() + time::Duration::hours(1))
        .format(&time::format_description::well_known::Rfc3339)
        .expect("a time");
    let later = json!({"user_id": 1, "to": BOB, "text": "later", "send_at": in_an_hour});
    let later = plain(&router.ok("/messages", later).await["message"]["id"]);
    let (user, number) = (json!({"user_id": 1}), json!({"number": "+13125550170"}));
    let posts = [
        (
            "/messages",
            json!({"user_id": 1, "to": BOB, "text": "x"}),
            "conversation internal message replayed",
        ),
        (
            "/conversations",
            json!({"user_id": 1, "to": BOB}),
            "conversation created internal message replayed",
        ),
        (&format!("/conversations/{conversation}/read"), user.clone(), "conversation marked"),
        (&format!("/conversations/{conversation}/typing"), json!({"user_id": 1, "typing": true}), ""),
        (&format!("/messages/{message}/edit"), json!({"user_id": 1, "text": "Hi"}), "message"),
        (&format!("/messages/{message}/delete"), json!({"user_id": 1, "scope": "me"}), "message"),
        (&format!("/messages/{failed}/retry"), user.clone(), "message"),
        (&format!("/messages/{later}/cancel"), user, "message"),
        ("/phone_numbers", number.clone(), "phone_number"),
        ("/phone_numbers", json!({"phone_numbers": [number]}), "phone_numbers"),
        ("/phone_numbers/assign", json!({"number": "+13125550170", "user_id": 3}), "phone_number"),
        ("/phone_numbers/suspend", number.clone(), "phone_number"),
        ("/phone_numbers/release", number.clone(), "phone_number"),
        ("/phone_numbers/lookup", number.clone(), "internal number status"),
        ("/contacts", json!({"user_id": 1, "number": BOB, "name": "Bob"}), "contact"),
        ("/opt_outs", number.clone(), "opt_outs"),
        ("/opt_outs/remove", number, "opt_outs"),
        ("/callbacks/resend", json!({"all": true}), "resent"),
    ];
    for (path, body, fields) in posts {
        assert_eq!(names(&router.ok(path, body).await), fields, "POST {path}");
    }
    let gets = [
        ("/conversations", "conversations next unread_total"),
        (&format!("/conversations/{conversation}"), "conversation"),
        (&format!("/conversations/{conversation}/messages"), "messages next"),
        (&format!("/messages/{failed}"), "message"),
        (&format!("/messages/{failed}/decision"), "decision"),
        ("/phone_numbers", "next phone_numbers"),
        ("/opt_outs", "opt_outs"),
        ("/callbacks", "callbacks next"),
        ("/status", "broadcasts callbacks carrier directory inbox"),
    ];
    for (path, fields) in gets {
        assert_eq!(names(&router.get(path, &[("user_id", "1")]).await), fields, "GET {path}");
    }
    let status = router.get("/status", &[]).await;
    assert_eq!(status["directory"], "own");
    assert_eq!(names(&status["carrier"]), "breaker configured paused_until unconfirmed waiting");
    for queue in
        [&status["broadcasts"], &status["callbacks"], &status["inbox"], &status["carrier"]["waiting"]]
    {
        assert_eq!(names(queue), "count oldest_seconds", "{status}");
    }
}

/// The names of an object's fields, in their order.
fn names(object: &Value) -> String {
    let names: std::collections::BTreeSet<&str> =
        object.as_object().expect("an object").keys().map(String::as_str).collect();
    names.into_iter().collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn t36_each_form_in_which_sdks_sign_a_query_is_accepted() {
    let router = Router::start().await;
    let (app, addr) = (&router.app, router.server().public);
    let path = app.path("messaging/conversations");
    let cases = [
        // (as signed, as sent)
        ("q=a b", "q=a%20b"),
        ("q=%2B1312", "q=%2B1312"),
        ("q=+1312", "q=+1312"),
        ("q=+1312", "q=%2B1312"),
        ("q=a b", "q=a+b"),
        ("q=a,b", "q=a%2Cb"),
    ];
    for (signed, sent) in cases {
        for md5 in ["", "&body_md5=d41d8cd98f00b204e9800998ecf8427e"] {
            let start = format!("auth_key={}&auth_timestamp={}&auth_version=1.0{md5}", app.key, now());
            let text = format!("GET\n{path}\n{start}&{signed}&user_id=1");
            let signature = hmac_hex(&app.secret, &text);
            let target = format!("{path}?{start}&{sent}&user_id=1&auth_signature={signature}");
            let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
            let answer = exchange(addr, request).await;
            assert_eq!(answer.status, 200, "{signed} sent as {sent}: {}", answer.text());
        }
    }
    // None of which makes a wrong signature right.
    let wrong = Request::get(app, &path).param("user_id", "1").target().replace("user_id=1", "user_id=2");
    Request::get(app, &path).send_with_target(addr, &wrong).await.refused(401, "bad_signature");
}

#[tokio::test]
async fn t37_every_refusal_has_its_status_and_code() {
    let router = Router::start().await;
    let message = |more: Value| {
        let mut body = json!({"user_id": 1, "to": BOB, "text": "x"});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        body
    };
    let eleven = vec!["https://media.example/a.png"; 11];
    let cases: Vec<(&str, Value, u16, &str, &str)> = vec![
        ("/messages", message(json!({"to": "nobody"})), 422, "invalid_number", "to"),
        ("/messages", message(json!({"from": "nobody"})), 422, "invalid_number", "from"),
        ("/messages", message(json!({"from": BOB, "to": OUTSIDE})), 403, "from_not_owned", "from"),
        ("/messages", message(json!({"to": ANN})), 422, "self_message", "to"),
        ("/messages", message(json!({"text": ""})), 422, "no_content", ""),
        ("/messages", message(json!({"text": " \n "})), 422, "no_content", ""),
        ("/messages", message(json!({"text": "x".repeat(10_001)})), 422, "too_long", "text"),
        ("/messages", message(json!({"to": OUTSIDE, "text": "x".repeat(1_531)})), 422, "too_long", "text"),
        ("/messages", message(json!({"media_urls": eleven})), 422, "too_many_media", "media_urls"),
        ("/conversations/999999/read", json!({"user_id": 1}), 404, "not_found", ""),
        ("/messages/999999/edit", json!({"user_id": 1, "text": "x"}), 404, "not_found", ""),
    ];
    for (path, body, status, code, field) in cases {
        let error = router.post(path, &body).await.refused(status, code);
        if !field.is_empty() {
            assert_eq!(error["field"], field, "{path} {body}");
        }
    }

    let app = &router.app;
    let path = app.path("messaging/messages");
    let addr = router.server().public;
    for body in ["{", "[]", "\"text\"", "{\"user_id\":1,\"to\":\"\\ud800\"}"] {
        Request::post(app, &path, body).send(addr).await.refused(400, "bad_json");
    }
    let body = message(json!({})).to_string();
    let mut stranger = app.clone();
    stranger.secret = "wrong".to_owned();
    Request::post(&stranger, &path, body.clone()).send(addr).await.refused(401, "bad_signature");
    Request::post(app, &path, body.clone())
        .timestamp(now() - 700)
        .send(addr)
        .await
        .refused(401, "stale_timestamp");
    let unsigned = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    exchange(addr, unsigned).await.refused(401, "bad_signature");

    let external = router.send(1, OUTSIDE, "cannot be taken back").await;
    let id = plain(&external["message"]["id"]);
    let edit = json!({"user_id": 1, "text": "changed"});
    router.post(&format!("/messages/{id}/edit"), &edit).await.refused(409, "not_editable");
    router
        .post(&format!("/messages/{id}/cancel"), &json!({"user_id": 1}))
        .await
        .refused(409, "not_cancellable");
    assert_eq!(router.carrier.sends().await.len(), 1);
}

#[tokio::test]
async fn t37_unassigned_own_numbers_can_be_refused() {
    let router = Router::setup().routing("unassigned_own_number", "reject").start().await;
    router.ok("/phone_numbers/suspend", json!({"number": BOB})).await;
    let send = json!({"user_id": 1, "to": BOB, "text": "x"});
    router.post("/messages", &send).await.refused(422, "recipient_unassigned");
    assert_eq!(router.carrier.sends().await.len(), 0);
}

#[tokio::test]
async fn t37_too_many_messages_are_refused_for_a_while() {
    let router = Router::setup().routing("send.user_rate", 3).start().await;
    for n in 0..3 {
        router.send(1, BOB, &n.to_string()).await;
    }
    let answer = router.post("/messages", &json!({"user_id": 1, "to": BOB, "text": "4"})).await;
    let seconds: u64 = answer.header("retry-after").and_then(|text| text.parse().ok()).expect("seconds");
    assert!((1..=60).contains(&seconds), "{seconds}");
    answer.refused(429, "rate_limited");
    router.send(2, ANN, "others may").await;
}

#[tokio::test]
async fn t37_an_app_without_a_router_has_no_messaging() {
    let router = Router::setup().app("1002", "[apps.routing]\nenabled = false").start().await;
    let other = router.server().app_with_id("1002").clone();
    let send = json!({"user_id": 1, "to": OUTSIDE, "text": "x"});
    router.post_as(&other, "/messages", &send).await.refused(403, "messaging_disabled");
}

#[tokio::test]
async fn t42_an_event_over_the_limit_is_shortened_and_not_lost() {
    let router = Router::setup().app("1001", "event_size = \"10KB\"").start().await;
    let mut ann = router.thread(1, BOB).await;
    let mut bob = router.listen("user.2").await;
    let text = "é".repeat(6_000);
    let sent = router.send(1, BOB, &text).await;
    for event in [ann.hear(SENT).await, bob.wait_for(RECEIVED).await] {
        let data = event.json();
        assert!(event.data().len() <= 10_240);
        assert_eq!(data["message"]["truncated"], true, "{data}");
        assert!(data["message"]["text"].is_null(), "{data}");
        for field in ["id", "conversation_id", "status", "direction"] {
            assert!(!data["message"][field].is_null(), "{field} in {data}");
        }
        assert_eq!(data["conversation"], json!({"id": data["message"]["conversation_id"]}));
    }
    assert_eq!(router.message(1, &sent["message"]["id"]).await["text"], text);
}

#[tokio::test]
async fn lists_go_page_by_page() {
    let router = Router::start().await;
    for n in 0..5 {
        router.send(1, BOB, &n.to_string()).await;
    }
    let conversation = router.conversations(1).await[0]["id"].clone();
    let path = format!("/conversations/{}/messages", plain(&conversation));
    let (mut texts, mut before) = (Vec::new(), None::<String>);
    loop {
        let mut params = vec![("user_id", "1"), ("limit", "2")];
        params.extend(before.as_deref().map(|before| ("before", before)));
        let page = router.get(&path, &params).await;
        let messages = page["messages"].as_array().expect("a list");
        texts.extend(messages.iter().map(|message| message["text"].clone()));
        if page["next"].is_null() {
            break;
        }
        before = Some(plain(&page["next"]));
    }
    assert_eq!(texts, ["4", "3", "2", "1", "0"]);
}
