//! What pages of other origins may do, seen by a real browser.

use serde_json::{Value, json};

use crate::clients::{Driver, RECONNECT_LIMIT, chromium};
use crate::harness::messaging::{BOB, Router, Setup, text};

/// What libraries put into every request of a page.
const TRACED: [(&str, &str); 7] = [
    // Laravel Echo, into those of axios, jQuery and Turbo.
    ("X-Socket-Id", "123.456"),
    ("X-Requested-With", "XMLHttpRequest"),
    ("X-XSRF-TOKEN", "abc"),
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ("sentry-trace", "771a43a4192642f0b136d5159a501700-b7ad6b7169203331-1"),
    ("baggage", "sentry-environment=production"),
    ("X-Datadog-Trace-Id", "1"),
];

/// Chromium with a page of its own origin.
struct Page {
    browser: Driver,
    origin: String,
}

impl Page {
    async fn open() -> Self {
        let mut browser = Driver::node("cors-page.mjs", &[]);
        let opening = browser.ask_within(RECONNECT_LIMIT, "open", json!({"executable": chromium()}));
        let origin = text(&opening.await);
        Self { browser, origin }
    }

    async fn fetch(&mut self, url: &str, method: &str, headers: &[(&str, &str)], body: Value) -> Value {
        self.fetch_from("page", url, method, headers, body).await
    }

    async fn fetch_from(
        &mut self,
        from: &str,
        url: &str,
        method: &str,
        headers: &[(&str, &str)],
        body: Value,
    ) -> Value {
        let headers: serde_json::Map<String, Value> = TRACED
            .iter()
            .chain(headers)
            .map(|(name, value)| ((*name).to_owned(), Value::from(*value)))
            .collect();
        let mut options = json!({"method": method, "headers": headers});
        let mut command = json!({"from": from, "url": url, "read": ["retry-after", "content-range", "etag"]});
        match body {
            // So many characters.
            Value::Number(size) => command["size"] = Value::Number(size),
            Value::Null => {}
            body => options["body"] = body,
        }
        command["options"] = options;
        self.browser.ask_within(RECONNECT_LIMIT, "call", command).await
    }
}

fn setup(origins: &[&str]) -> Setup {
    let lines = format!("allowed_origins = {}", json!(origins));
    Router::setup().app("1001", &lines).routing("tokens.enabled", true)
}

fn address(router: &Router, path: &str) -> String {
    format!("http://{}{}", router.server().public, router.app.path(&format!("messaging{path}")))
}

#[tokio::test]
async fn a_page_makes_calls_with_whatever_headers_its_libraries_add_and_reads_every_answer() {
    let mut page = Page::open().await;
    let router = setup(&[&page.origin]).routing("send.user_rate", 1).start().await;
    let token = text(&router.ok("/user_tokens", json!({"user_id": 1})).await["token"]);
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];

    let send = json!(json!({"to": BOB, "text": "from the page"}).to_string());
    let sent = page.fetch(&address(&router, "/messages"), "POST", &headers, send.clone()).await;
    assert_eq!(sent["status"], 200, "{sent}");
    let list = page.fetch(&address(&router, "/conversations"), "GET", &headers, Value::Null).await;
    assert_eq!(list["status"], 200, "{list}");

    // Errors can be read as well, and when to come back.
    let limited = page.fetch(&address(&router, "/messages"), "POST", &headers, send).await;
    assert_eq!(limited["status"], 429, "{limited}");
    assert!(text(&limited["body"]).contains("rate_limited"), "{limited}");
    assert!(limited["headers"]["retry-after"].is_string(), "{limited}");
    let altered = [("Authorization", "Bearer a.b"), headers[1]];
    for (path, method, headers, body, status, code) in [
        ("/conversations", "GET", &altered, Value::Null, 401, "bad_signature"),
        ("/messages", "POST", &headers, json!(1_100_000), 413, "too_large"),
        ("/messages", "POST", &headers, json!("{"), 400, "bad_json"),
        ("/nowhere", "GET", &headers, Value::Null, 404, "not_found"),
        ("/messages", "PUT", &headers, json!("{}"), 405, "method_not_allowed"),
        ("/user_tokens", "POST", &headers, json!("{}"), 401, "bad_signature"),
    ] {
        let answer = page.fetch(&address(&router, path), method, headers, body).await;
        assert_eq!(answer["status"], status, "{method} {path}: {answer}");
        assert!(text(&answer["body"]).contains(code), "{method} {path}: {answer}");
    }
}

#[tokio::test]
async fn a_page_brings_and_gets_a_file_with_whatever_headers_its_libraries_add() {
    let mut page = Page::open().await;
    // The link is the permission: no origin has to be listed.
    let router = Router::setup().routing("attachments.max_size", "2KB").start().await;
    let conversation = router.thread(1, BOB).await.id;
    let file = json!({"user_id": 1, "conversation_id": conversation, "name": "note.txt",
        "content_type": "text/plain", "size": 12});
    let announced = router.ok("/attachments", file).await;
    let (upload, download) = (text(&announced["upload"]["url"]), text(&announced["attachment"]["url"]));
    let (upload, download) = (here(&router, &upload), here(&router, &download));
    let plain = [("Content-Type", "text/plain")];

    let large = page.fetch(&upload, "PUT", &plain, json!(3_000)).await;
    assert_eq!(large["status"], 413, "{large}");
    assert!(text(&large["body"]).contains("too_large"), "{large}");
    let brought = page.fetch(&upload, "PUT", &plain, json!("hello, files")).await;
    assert_eq!(brought["status"], 200, "{brought}");
    let part = page.fetch(&download, "GET", &[("Range", "bytes=0-4")], Value::Null).await;
    assert_eq!((&part["status"], &part["body"]), (&json!(206), &json!("hello")), "{part}");
    assert_eq!(part["headers"]["content-range"], "bytes 0-4/12");
    let head = page.fetch(&download, "HEAD", &[], Value::Null).await;
    assert_eq!(head["status"], 200, "{head}");
    assert!(head["headers"]["etag"].is_string(), "{head}");
    let altered = download.replace("signature=", "signature=0");
    let refused = page.fetch(&altered, "GET", &[], Value::Null).await;
    assert_eq!(refused["status"], 401, "{refused}");
    assert!(text(&refused["body"]).contains("bad_signature"), "{refused}");
    let from_nowhere = page.fetch_from("sandbox", &download, "GET", &[], Value::Null).await;
    assert_eq!(from_nowhere["body"], "hello, files", "{from_nowhere}");
}

#[tokio::test]
async fn a_sandboxed_frame_connects_and_calls_where_null_is_listed_and_others_do_not() {
    let mut page = Page::open().await;
    let router = setup(&["null"]).start().await;
    let token = text(&router.ok("/user_tokens", json!({"user_id": 1})).await["token"]);
    let bearer = format!("Bearer {token}");
    let socket = format!("ws://{}/app/{}?protocol=7", router.server().public, router.app.key);
    for (from, event, answer) in [
        ("sandbox", "pusher:connection_established", json!({"status": 200})),
        ("page", "pusher:error", json!({"refused": "TypeError"})),
    ] {
        let first = page.browser.ask("listen", json!({"from": from, "url": socket})).await;
        assert_eq!(first["event"], event, "{from}: {first}");
        let headers = [("Authorization", bearer.as_str())];
        let called =
            page.fetch_from(from, &address(&router, "/conversations"), "GET", &headers, Value::Null).await;
        for (name, value) in answer.as_object().expect("an object") {
            assert_eq!(&called[name], value, "{from}: {called}");
        }
    }
}

/// The address as this machine reaches it.
fn here(router: &Router, url: &str) -> String {
    let path = url.splitn(4, '/').nth(3).expect("a whole URL");
    format!("http://{}/{path}", router.server().public)
}
