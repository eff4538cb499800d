//! What surrounds the router: callbacks, user tokens, the command line, metrics, readiness, documentation.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::own::includes;
use crate::harness::DEADLINE;
use crate::harness::databases::postgres;
use crate::harness::http::{Request, Response, exchange, get, get_until};
use crate::harness::messaging::{ANN, BOB, OUTSIDE, RECEIVED, Router, Setup, never, plain, text};
use crate::harness::portal::Reply;
use crate::harness::server::{binary, run};

#[tokio::test]
async fn callbacks_that_were_given_up_are_listed_and_sent_again() {
    let mut router = Router::setup()
        .portal()
        .routing("callbacks.timeout", "100ms")
        .routing("callbacks.give_up_after", "1s")
        .start()
        .await;
    router.portal().answers_next(Reply::Hang);
    router.portal().answers(500, "{}");
    router.send(1, BOB, "Hello").await;
    let start = std::time::Instant::now();
    let failed = loop {
        let list = router.get("/callbacks", &[]).await;
        let rows = list["callbacks"].as_array().expect("a list").clone();
        if rows.len() == 2 {
            assert_eq!(list["next"], Value::Null);
            break rows;
        }
        assert!(start.elapsed() < DEADLINE, "{list}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    for row in &failed {
        assert!(row["id"].is_i64() && row["event_id"].is_string() && row["error"].is_string(), "{row}");
        assert!(row["attempts"].as_i64() >= Some(1), "{row}");
        assert!(!row.to_string().contains("Hello"), "{row}");
    }
    router.portal().passed();
    router.portal().answers(200, "{}");
    for wrong in [json!({}), json!({"ids": [failed[0]["id"]], "all": true}), json!({"ids": "x"})] {
        router.post("/callbacks/resend", &wrong).await.refused(422, "invalid_field");
    }
    let answer = router.ok("/callbacks/resend", json!({"ids": [failed[0]["id"]]})).await;
    assert_eq!(answer, json!({"resent": 1}));
    assert_eq!(router.ok("/callbacks/resend", json!({"all": true})).await, json!({"resent": 1}));
    let start = std::time::Instant::now();
    while router.get("/status", &[]).await["callbacks"]["count"] != 0 {
        assert!(start.elapsed() < DEADLINE, "{}", router.get("/status", &[]).await);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(router.get("/callbacks", &[]).await["callbacks"], json!([]));
}

#[tokio::test]
async fn a_callback_that_is_not_answered_in_time_has_failed() {
    let mut router = Router::setup()
        .portal()
        .routing("callbacks.timeout", "100ms")
        .routing("callbacks.give_up_after", "1s")
        .start()
        .await;
    for _ in 0..20 {
        router.portal().answers_next(Reply::Hang);
    }
    router.send(1, BOB, "Hello").await;
    let start = std::time::Instant::now();
    loop {
        let list = router.get("/callbacks", &[]).await;
        if let [row, ..] = list["callbacks"].as_array().expect("a list").as_slice() {
            assert!(row["error"].as_str().is_some_and(|error| error.contains("100 ms")), "{row}");
            return;
        }
        assert!(start.elapsed() < DEADLINE, "{list}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// A call below `/messaging` as a browser makes it.
async fn browse(router: &Router, method: &str, path: &str, headers: &str, body: &str) -> Response {
    let path = router.app.path(&format!("messaging{path}"));
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nOrigin: https://portal.example\r\n{headers}\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    exchange(router.server().public, request).await
}

#[tokio::test]
async fn a_browser_with_a_token_speaks_for_its_user_only() {
    let router = Router::setup().routing("tokens.enabled", true).start().await;
    let minted = router.ok("/user_tokens", json!({"user_id": 1, "ttl": 60})).await;
    assert_eq!(minted["user_id"], 1);
    let bearer = format!("Authorization: Bearer {}\r\n", minted["token"].as_str().expect("a token"));
    let send = json!({"to": BOB, "text": "from the page"}).to_string();
    let sent = browse(&router, "POST", "/messages", &bearer, &send).await.expect_status(200);
    assert_eq!(sent.header("access-control-allow-origin"), Some("https://portal.example"));
    assert_eq!(sent.json()["message"]["user_id"], 1);
    let own = browse(&router, "GET", "/conversations", &bearer, "").await.expect_status(200).json();
    assert_eq!(own["conversations"].as_array().map(Vec::len), Some(1));

    let theirs = plain(&router.conversations(2).await[0]["id"]);
    let foreign = browse(&router, "GET", &format!("/conversations/{theirs}"), &bearer, "").await;
    foreign.refused(404, "not_found");
    let as_other = browse(&router, "GET", "/conversations?user_id=2", &bearer, "").await;
    assert!([403, 404, 422].contains(&as_other.status), "{}", as_other.text());
    for path in ["/user_tokens", "/phone_numbers", "/opt_outs", "/callbacks/resend"] {
        let answer = browse(&router, "POST", path, &bearer, r#"{"user_id":1}"#).await;
        assert!([401, 403].contains(&answer.status), "{path}: {}", answer.text());
    }
    let altered = bearer.replace("\r\n", "0\r\n");
    let refused = browse(&router, "GET", "/conversations", &altered, "").await;
    assert_eq!(refused.header("access-control-allow-origin"), Some("https://portal.example"));
    refused.refused(401, "bad_signature");

    let asks = "Access-Control-Request-Method: POST\r\n\
                Access-Control-Request-Headers: authorization,content-type\r\n";
    let preflight = browse(&router, "OPTIONS", "/messages", asks, "").await;
    assert_eq!(preflight.status, 204);
    assert_eq!(preflight.header("access-control-allow-origin"), Some("https://portal.example"));
    assert_eq!(preflight.header("access-control-allow-headers"), Some("authorization, content-type"));
    let varies: Vec<_> =
        preflight.headers.iter().filter(|(name, _)| name == "vary").map(|(_, on)| on).collect();
    assert_eq!(varies, ["access-control-request-headers", "origin"]);
    for ttl in [json!(0), json!(86_401), json!("soon")] {
        let answer = router.post("/user_tokens", &json!({"user_id": 1, "ttl": ttl})).await;
        assert_eq!(answer.refused(422, "invalid_field")["field"], "ttl");
    }
}

each_store! {
    Router::setup().routing("tokens.enabled", true) =>
    tokens_end_when_they_are_revoked_and_when_their_user_is_terminated_or_loses_a_number;
}

async fn tokens_end_when_they_are_revoked_and_when_their_user_is_terminated_or_loses_a_number(setup: Setup) {
    let router = setup.start().await;
    let mint = async || text(&router.ok("/user_tokens", json!({"user_id": 1})).await["token"]);
    let works = async |token: &str| {
        let bearer = format!("Authorization: Bearer {token}\r\n");
        browse(&router, "GET", "/conversations", &bearer, "").await.status == 200
    };
    let others = text(&router.ok("/user_tokens", json!({"user_id": 2})).await["token"]);
    let mut tokens = vec![mint().await];
    assert!(works(&tokens[0]).await);
    assert_eq!(router.ok("/user_tokens/revoke", json!({"user_id": 1})).await, json!({}));
    assert!(!works(&tokens[0]).await);

    tokens.push(mint().await);
    assert!(works(&tokens[1]).await, "a later one is valid");
    let path = router.app.path("users/1/terminate_connections");
    Request::post(&router.app, &path, "{}").send(router.server().public).await.expect_ok("{}");
    assert!(!works(&tokens[1]).await);

    tokens.push(mint().await);
    router.ok("/phone_numbers/suspend", json!({"number": ANN})).await;
    router.ok("/phone_numbers/assign", json!({"number": ANN})).await;
    assert!(works(&tokens[2]).await, "the number stayed with its user");
    router.ok("/phone_numbers/release", json!({"number": ANN})).await;
    assert!(!works(&tokens[2]).await);

    router.assign(ANN, 1).await;
    tokens.push(mint().await);
    router.assign(ANN, 3).await;
    for token in &tokens {
        assert!(!works(token).await);
    }
    assert!(works(&others).await, "another user's");
    for wrong in [json!({}), json!({"user_id": ""})] {
        router.post("/user_tokens/revoke", &wrong).await.refused(422, "invalid_field");
    }
}

#[tokio::test]
async fn an_unknown_app_answers_a_page_as_a_known_one_does() {
    // Its pages are those of one origin, and this one is not of it.
    let lines = "allowed_origins = [\"https://portal.example\"]";
    let router = Router::setup().app("1002", lines).routing("tokens.enabled", true).start().await;
    let asks = "Access-Control-Request-Method: POST\r\n";
    for (method, headers) in [
        ("GET", "Authorization: Bearer a.b\r\n"),
        ("POST", "Authorization: Bearer a.b\r\n"),
        ("GET", ""),
        ("OPTIONS", asks),
    ] {
        let of = async |id: &str| {
            let request = format!(
                "{method} /apps/{id}/messaging/conversations HTTP/1.1\r\nHost: x\r\nOrigin: https://evil.example\r\n\
                 {headers}Content-Length: 0\r\n\r\n"
            );
            let answer = exchange(router.server().public, request).await;
            let headers: Vec<_> = answer.headers.iter().filter(|(name, _)| name != "date").cloned().collect();
            (answer.status, headers, answer.text())
        };
        assert_eq!(of("1002").await, of("999999").await, "{method} {headers}");
    }
}

#[tokio::test]
async fn a_signed_query_has_one_reading() {
    let router = Router::start().await;
    let path = router.app.path("messaging/conversations");
    let ask = async |params: &[(&str, &str)]| {
        let request = Request::get(&router.app, &path);
        let request = params.iter().fold(request, |request, (name, value)| request.param(name, value));
        request.send(router.server().public).await
    };
    for (params, field) in [
        (&[("user_id", "1"), ("user_id", "1")][..], "user_id"),
        (&[("user_id", "1"), ("USER_ID", "2")], "user_id"),
        (&[("user_id", "1"), ("limit", "1"), ("limit", "2")], "limit"),
        // Signed as it is, it is the same text as a second user_id.
        (&[("search", "x&user_id=2"), ("user_id", "1")], "search"),
    ] {
        assert_eq!(ask(params).await.refused(400, "bad_query")["field"], field, "{params:?}");
    }
    for params in [&[("user_id", "1"), ("search", "AT&T")], &[("user_id", "1"), ("search", "a=b")]] {
        ask(params).await.expect_status(200);
    }
}

#[tokio::test]
async fn there_are_no_tokens_by_default() {
    let router = Router::start().await;
    router.post("/user_tokens", &json!({"user_id": 1})).await.refused(403, "messaging_disabled");
    let answer = browse(&router, "GET", "/conversations", "Authorization: Bearer a.b\r\n", "").await;
    assert_eq!(answer.header("access-control-allow-origin"), None);
    answer.refused(401, "bad_signature");
}

#[tokio::test]
async fn numbers_are_imported_and_listed_while_the_server_runs() {
    let router = Router::start().await;
    let folder = router.server().folder();
    let command = |args: &[&str]| {
        let mut command = binary();
        command.current_dir(&folder).args(args);
        run(command, "")
    };
    let number = "+13125550120";
    let file =
        format!("number,user_id,status,label\n(312) 555-0120,7,assigned,Reception\n{BOB},2,suspended,\n");
    std::fs::write(folder.join("numbers.csv"), file).expect("written");
    let dry = command(&["numbers", "import", "numbers.csv", "--dry-run"]);
    assert_eq!(dry.code, Some(0), "{dry:?}");
    assert_eq!(router.send(1, number, "before").await["internal"], false);
    let done = command(&["numbers", "import", "numbers.csv", "--json"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(serde_json::from_str::<Value>(&done.stdout).is_ok(), "{done:?}");
    let mut reception = router.listen("user.7").await;
    assert_eq!(router.send(1, number, "after").await["internal"], true);
    reception.wait_for(RECEIVED).await;
    assert_eq!(router.send(1, BOB, "suspended").await["internal"], false);

    let listed = command(&["numbers", "list", "--json"]);
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap_or_else(|_| panic!("{listed:?}"));
    assert_eq!(listed["phone_numbers"], router.get("/phone_numbers", &[]).await["phone_numbers"]);
    assert!(command(&["numbers", "list"]).stdout.contains("Reception"));

    std::fs::write(folder.join("wrong.csv"), "number,user_id\n+13125550130,1\n12,2\n").expect("written");
    let wrong = command(&["numbers", "import", "wrong.csv"]);
    assert_eq!(wrong.code, Some(1), "{wrong:?}");
    assert!(wrong.stderr.contains('3'), "the line is named: {wrong:?}");
    let lookup = router.ok("/phone_numbers/lookup", json!({"number": "+13125550130"})).await;
    assert_eq!(lookup["internal"], false, "all or nothing");
    let check = command(&["check"]);
    assert!(!format!("{check:?}").contains("KEY_TEST"), "{check:?}");
}

#[tokio::test]
async fn metrics_count_what_was_sent_and_name_nobody() {
    let router = Router::start().await;
    let mut thread = router.thread(1, OUTSIDE).await;
    router.send(1, BOB, "inside").await;
    let sent = router.send(1, OUTSIDE, "outside").await;
    if sent["message"]["status"] != "delivered" {
        thread.reaches(&sent["message"]["id"], "delivered").await;
    }
    let mut ann = router.listen("user.1").await;
    router.carrier.inbound(json!({"from": OUTSIDE, "to": ANN, "text": "back"})).await;
    ann.wait_for(RECEIVED).await;
    let metrics = get(router.server().admin, "/metrics").await.text();
    for line in [
        r#"switchboard_messages_total{kind="internal"} 1"#,
        r#"switchboard_messages_total{kind="external"} 1"#,
        r#"switchboard_messages_total{kind="inbound"} 1"#,
        "switchboard_internal_parts_saved_total 1",
        r#"switchboard_carrier_attempts_total{class="accepted"} 1"#,
        "switchboard_carrier_duplicates_total 0",
        "switchboard_broadcasts_expired_total 0",
        r#"switchboard_lanes_waiting{app="1001"} 0"#,
        r#"switchboard_deepest_lane{app="1001"} 0"#,
        r#"switchboard_throttle_waits_total{app="1001",by="number_rate"} 0"#,
        "# TYPE switchboard_messages_total counter",
    ] {
        assert!(metrics.lines().any(|other| other == line), "{line} not in\n{metrics}");
    }
    let name = "switchboard_send_to_broadcast_seconds";
    // Both sides of the internal message in one broadcast, and the external one's sender.
    for line in
        [format!(r#"{name}_count{{app="1001"}} 2"#), format!(r#"{name}_bucket{{app="1001",le="+Inf"}} 2"#)]
    {
        assert!(metrics.lines().any(|other| other == line), "{line} not in\n{metrics}");
    }
    assert!(metrics.contains(&format!("# TYPE {name} histogram")), "{metrics}");
    for number in [ANN, BOB, OUTSIDE, "31255501"] {
        assert!(!metrics.contains(number), "{number} in\n{metrics}");
    }
    let families: Vec<&str> = metrics.lines().filter(|line| line.starts_with("# TYPE")).collect();
    let mut once = families.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), families.len(), "each family stands there once");
}

#[tokio::test]
async fn metrics_tell_what_waits() {
    let router = Router::start().await;
    router.carrier.fault("rate_limited", 1, json!({"to": OUTSIDE})).await;
    router.send_on(1, OUTSIDE, "throttled").await;
    router.measures(r#"switchboard_throttle_waits_total{app="1001",by="carrier"} 1"#).await;
    router.carrier.wait("accepted=1").await;
    // Two are out and not answered; three wait behind one of them.
    let silence = json!({"preset": "timeout_before", "times": 2, "match": {"text": "no answer"}});
    router.carrier.fault_with(silence).await;
    for to in [OUTSIDE, "+13125550198"] {
        router.send_on(2, to, "no answer").await;
    }
    router.carrier.wait("sends=4").await;
    for text in ["one", "two", "three"] {
        router.send_on(2, OUTSIDE, text).await;
    }
    router.measures(r#"switchboard_lanes_waiting{app="1001"} 2"#).await;
    router.measures(r#"switchboard_deepest_lane{app="1001"} 4"#).await;
}

#[tokio::test]
async fn metrics_tell_what_came_twice_for_nobody_or_from_strangers() {
    let router = Router::start().await;
    let send = json!({"user_id": 1, "to": BOB, "text": "once", "idempotency_key": "k"});
    for _ in 0..3 {
        router.ok("/messages", send.clone()).await;
    }
    router.measures("switchboard_replayed_sends_total 2").await;
    let inbound = json!({"from": OUTSIDE, "to": ANN, "text": "twice", "duplicate": 1});
    router.carrier.inbound(inbound).await;
    router.measures(r#"switchboard_carrier_webhooks_total{result="repeated"} 1"#).await;
    router.carrier.inbound(json!({"from": OUTSIDE, "to": "+13125550177", "text": "for nobody"})).await;
    router.measures(r#"switchboard_messages_total{kind="unrouted"} 1"#).await;
    let forged = "POST /carriers/telnyx/1001 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}";
    assert_eq!(exchange(router.server().public, forged).await.status, 403);
    router.measures(r#"switchboard_carrier_webhooks_total{result="bad_signature"} 1"#).await;
    let metrics = get(router.server().admin, "/metrics").await.text();
    assert!(!metrics.contains("31255501"), "{metrics}");
}

/// Waits until `path` has this status on this port; answers its JSON.
async fn reaches(port: SocketAddr, path: &str, status: u16) -> Value {
    get_until(port, path, |answer| answer.status == status).await.json()
}

const BREAK: &str = "ALTER TABLE server_keys RENAME TO elsewhere";
const MEND: &str = "ALTER TABLE elsewhere RENAME TO server_keys";

#[tokio::test]
async fn a_broken_store_takes_the_router_out_and_leaves_the_broadcaster_in() {
    let database = postgres().await;
    let router = Router::setup().store(&database.url).start().await;
    let (public, admin) = (router.server().public, router.server().admin);
    let mut client = router.listen("news").await;
    for part in ["broadcasting", "router", "store"] {
        assert_eq!(reaches(admin, &format!("/ready/{part}"), 200).await["status"], "ready");
    }
    assert_eq!(get(admin, "/ready/webhooks").await.status, 404, "no app has any");

    database.run(BREAK).await;
    for part in ["router", "store"] {
        assert_eq!(reaches(admin, &format!("/ready/{part}"), 503).await["status"], "unavailable");
    }
    for port in [public, admin] {
        let ready = get(port, "/ready").await.expect_status(200).json();
        let parts = json!({"broadcasting": "ready", "router": "unavailable", "store": "unavailable"});
        assert_eq!(ready, json!({"status": "degraded", "parts": parts}));
    }
    assert_eq!(get(admin, "/ready/broadcasting").await.status, 200);
    assert_eq!(get(public, "/live").await.status, 200);
    router.server().publish("news", "headline", "{}").await;
    client.expect("headline").await;

    database.run(MEND).await;
    assert_eq!(reaches(admin, "/ready/router", 200).await["status"], "ready");
    assert_eq!(get(public, "/ready").await.json()["status"], "ready");
    assert_eq!(router.send(1, BOB, "all is well").await["internal"], true);
}

#[tokio::test]
async fn a_server_that_is_to_be_wholly_ready_is_not_without_its_store() {
    let database = postgres().await;
    let router = Router::setup().store(&database.url).server("ready = \"all\"\n").start().await;
    let (public, admin) = (router.server().public, router.server().admin);
    database.run(BREAK).await;
    for port in [public, admin] {
        let ready = reaches(port, "/ready", 503).await;
        assert_eq!(
            (&ready["status"], &ready["parts"]["broadcasting"]),
            (&json!("degraded"), &json!("ready"))
        );
        assert_eq!(get(port, "/live").await.status, 200);
    }
    database.run(MEND).await;
    reaches(public, "/ready", 200).await;
}

#[tokio::test]
async fn the_description_of_the_api_is_served() {
    let router = Router::start().await;
    let kept = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json"));
    let kept: Value = serde_json::from_str(&kept.expect("readable")).expect("JSON");
    for addr in [router.server().public, router.server().admin] {
        let answer = get(addr, "/openapi.json").await.expect_status(200);
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.json(), kept);
    }
}

#[tokio::test]
async fn a_group_message_names_its_other_recipients() {
    let router = Router::start().await;
    let (mut ann, mut bob) = (router.listen("user.1").await, router.listen("user.2").await);
    let group = json!({"from": OUTSIDE, "to": ANN, "cc": [BOB, "+13125550155"], "text": "all of you"});
    router.carrier.inbound(group).await;
    let received = ann.wait_for(RECEIVED).await.json();
    includes(&received["message"], &json!({"text": "all of you", "user_id": 1, "from_number": OUTSIDE}));
    includes(&received["message"], &json!({"group": true, "cc": [BOB, "+13125550155"]}));
    // The carrier reports each number's copy by itself.
    never(&mut bob, &router, RECEIVED).await;
}
