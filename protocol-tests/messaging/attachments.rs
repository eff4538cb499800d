//! Files that a page brings to a signed address, and how files are given out.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::databases::postgres;
use crate::harness::http::{Response, exchange};
use crate::harness::messaging::{BOB, OUTSIDE, RECEIVED, Router, Setup, Thread, plain, text};

const UPLOADED: &str = r"App\Events\AttachmentUploaded";
const IMAGE: &[u8] = b"\x89PNG\r\n\x1a\n, as far as anybody here looks";

/// A request without signature, as browsers and carriers make it.
pub async fn ask(
    router: &Router,
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Response {
    let path = url.splitn(4, '/').nth(3).expect("a whole URL");
    let mut head = format!("{method} /{path} HTTP/1.1\r\nHost: files\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    // Apart, as a test that asks often would be too large for its thread.
    Box::pin(exchange(router.server().public, [head.as_bytes(), body].concat())).await
}

pub async fn get(router: &Router, url: &str) -> Response {
    ask(router, "GET", url, &[], b"").await
}

/// Announces a PNG of user 1.
async fn announce(router: &Router, thread: &Thread) -> Value {
    let file = json!({"user_id": 1, "conversation_id": thread.id, "name": "Größe 1.png",
        "content_type": "image/png", "size": IMAGE.len()});
    router.ok("/attachments", file).await
}

async fn bring(router: &Router, announced: &Value) -> Response {
    let (url, headers) = (text(&announced["upload"]["url"]), &announced["upload"]["headers"]);
    assert_eq!(announced["upload"]["method"], "PUT");
    ask(router, "PUT", &url, &[("Content-Type", &text(&headers["content-type"]))], IMAGE).await
}

async fn a_file_is_brought_sent_and_deleted(setup: Setup) {
    let router = setup.start().await;
    let (mut thread, mut bob) = (router.thread(1, BOB).await, router.listen("user.2").await);
    let announced = announce(&router, &thread).await;
    let url = text(&announced["attachment"]["url"]);
    get(&router, &url).await.refused(404, "not_found");

    let brought = bring(&router, &announced).await.expect_status(200).json();
    let told = thread.hear(UPLOADED).await.json();
    assert_eq!(told, json!({"conversation_id": thread.id, "attachment": brought["attachment"]}));
    let expected = json!({"id": announced["attachment"]["id"], "url": url, "content_type": "image/png",
        "size": IMAGE.len(), "name": "Größe 1.png"});
    assert_eq!(brought["attachment"], expected);
    // The answer was lost: the page does it again.
    assert_eq!(bring(&router, &announced).await.expect_status(200).json(), brought);
    thread.never(&router, UPLOADED).await;

    let message = json!({"user_id": 1, "to": BOB, "media_urls": [url]});
    let sent = router.ok("/messages", message).await;
    let received = bob.wait_for(RECEIVED).await.json();
    assert_eq!(received["message"]["media_urls"], json!([url]));
    let file = get(&router, &url).await.expect_status(200);
    assert_eq!(file.body, IMAGE);

    let path = format!("/messages/{}/delete", plain(&sent["message"]["id"]));
    router.ok(&path, json!({"user_id": 1, "scope": "everyone"})).await;
    get(&router, &url).await.refused(404, "not_found");
}

#[tokio::test]
async fn a_page_brings_a_file_and_both_see_it() {
    a_file_is_brought_sent_and_deleted(Router::setup()).await;
}

#[tokio::test]
async fn a_page_brings_a_file_and_both_see_it_on_postgresql() {
    let database = postgres().await;
    a_file_is_brought_sent_and_deleted(Router::setup().store(&database.url)).await;
}

#[tokio::test]
async fn files_are_served_as_browsers_need_it_and_run_nothing() {
    let router = Router::start().await;
    let thread = router.thread(1, BOB).await;
    let announced = announce(&router, &thread).await;
    bring(&router, &announced).await.expect_status(200);
    let url = text(&announced["attachment"]["url"]);
    assert!(url.contains("/Gr%C3%B6%C3%9Fe%201.png?"), "{url}");

    let file = get(&router, &url).await.expect_status(200);
    for (name, value) in [
        ("content-type", "image/png"),
        ("content-disposition", "inline; filename*=UTF-8''Gr%C3%B6%C3%9Fe%201%2Epng"),
        ("x-content-type-options", "nosniff"),
        ("cross-origin-resource-policy", "cross-origin"),
        ("access-control-allow-origin", "*"),
        ("accept-ranges", "bytes"),
    ] {
        assert_eq!(file.header(name), Some(value), "{name}");
    }
    assert!(file.header("content-security-policy").is_some_and(|policy| policy.starts_with("sandbox;")));
    let etag = file.header("etag").expect("an ETag").to_owned();
    assert_eq!(ask(&router, "GET", &url, &[("If-None-Match", &etag)], b"").await.status, 304);

    let part = ask(&router, "GET", &url, &[("Range", "bytes=1-3")], b"").await.expect_status(206);
    let size = IMAGE.len();
    let range = format!("bytes 1-3/{size}");
    assert_eq!((&part.body[..], part.header("content-range")), (&b"PNG"[..], Some(range.as_str())));
    let beyond = ask(&router, "GET", &url, &[("Range", "bytes=99-")], b"").await.expect_status(416);
    assert_eq!(beyond.header("content-range"), Some(format!("bytes */{size}").as_str()));
    let asked = [("Origin", "https://portal.example"), ("Access-Control-Request-Method", "PUT")];
    let allowed = ask(&router, "OPTIONS", &text(&announced["upload"]["url"]), &asked, b"").await;
    assert_eq!((allowed.status, allowed.header("access-control-allow-origin")), (204, Some("*")));
    assert_eq!(allowed.header("access-control-allow-methods"), Some("GET, HEAD, POST, PUT"));
    let refused = ask(&router, "POST", &url, &[], b"").await;
    refused.refused(405, "method_not_allowed");
    assert_eq!(refused.header("allow"), Some("GET, HEAD, PUT, OPTIONS"));

    // What browsers don't show is saved.
    let card =
        json!({"user_id": 1, "conversation_id": thread.id, "name": "x.vcf", "content_type": "text/vcard"});
    let card = router.ok("/attachments", card).await;
    let headers = [("Content-Type", "text/vcard; charset=utf-8")];
    ask(&router, "PUT", &text(&card["upload"]["url"]), &headers, b"BEGIN:VCARD").await.expect_status(200);
    let card = get(&router, &text(&card["attachment"]["url"])).await;
    assert!(card.header("content-disposition").is_some_and(|how| how.starts_with("attachment; ")));
}

#[tokio::test]
async fn what_was_not_announced_is_refused() {
    let setup = Router::setup().routing("attachments.max_size", "1KB");
    let router = setup.routing("attachments.types", vec!["image/png", "text/plain"]).start().await;
    let mut thread = router.thread(1, BOB).await;
    let file = |change: Value| {
        let mut file = json!({"user_id": 1, "conversation_id": thread.id, "name": "a.txt",
            "content_type": "text/plain"});
        file.as_object_mut().expect("an object").extend(change.as_object().expect("an object").clone());
        file
    };
    for (change, status, code, field) in [
        (json!({"content_type": "image/svg+xml"}), 415, "type_not_allowed", "content_type"),
        (json!({"size": 1025}), 413, "too_large", "size"),
        (json!({"size": 0}), 422, "invalid_field", "size"),
        (json!({"name": " "}), 422, "invalid_field", "name"),
        (json!({"name": "a\nb"}), 422, "invalid_field", "name"),
        (json!({"name": ".\u{202e}\u{200b}"}), 422, "invalid_field", "name"),
        (json!({"name": null}), 422, "invalid_field", "name"),
        (json!({"content_type": null}), 422, "invalid_field", "content_type"),
        (json!({"conversation_id": null}), 422, "invalid_field", "conversation_id"),
        (json!({"conversation_id": 999}), 404, "not_found", "conversation_id"),
        (json!({"user_id": 2}), 404, "not_found", "conversation_id"),
        (json!({"socket_id": "x"}), 422, "invalid_field", "socket_id"),
    ] {
        let error = router.post("/attachments", &file(change.clone())).await.refused(status, code);
        assert_eq!(error["field"], field, "{change}");
    }
    let announced = router.ok("/attachments", file(json!({"size": 5}))).await;
    let url = text(&announced["upload"]["url"]);
    let put =
        async |kind: &str, body: &[u8]| ask(&router, "PUT", &url, &[("Content-Type", kind)], body).await;
    put("text/html", b"hello").await.refused(415, "type_not_allowed");
    put("text/plain", b"hell").await.refused(422, "invalid_field");
    put("text/plain", b"").await.refused(422, "invalid_field");
    put("text/plain", &[b'x'; 2_000]).await.refused(413, "too_large");
    thread.never(&router, UPLOADED).await;
    put("Text/Plain; charset=utf-8", b"hello").await.expect_status(200);
    thread.hear(UPLOADED).await;
}

/// Browsers differ in what they call a file, and some do not know; then its name tells.
#[tokio::test]
async fn uploads_may_be_called_by_any_name_of_their_type() {
    let router = Router::start().await;
    let thread = router.thread(1, BOB).await;
    for (name, content_type, brought_as, stored) in [
        ("a.jpg", "image/jpg", "image/pjpeg", "image/jpeg"),
        ("a.vcf", "text/x-vCard; charset=utf-8", "text/vcard", "text/vcard"),
        ("IMG_1.HEIC", "", "application/octet-stream", "image/heic"),
        ("memo.caf", "application/octet-stream", "audio/x-caf", "audio/x-caf"),
        ("film.mov", "video/quicktime", "video/quicktime", "video/quicktime"),
        ("date.ics", "text/calendar", "text/calendar", "text/calendar"),
    ] {
        let file =
            json!({"user_id": 1, "conversation_id": thread.id, "name": name, "content_type": content_type});
        let announced = router.ok("/attachments", file).await;
        assert_eq!(announced["upload"]["headers"]["content-type"], stored, "{name}");
        let headers = [("Content-Type", brought_as)];
        let url = text(&announced["upload"]["url"]);
        ask(&router, "PUT", &url, &headers, b"content").await.expect_status(200);
        let file = get(&router, &text(&announced["attachment"]["url"])).await;
        assert_eq!(file.header("content-type"), Some(stored), "{name}");
    }
    for (name, content_type) in [("a.exe", ""), ("a.html", "text/html"), ("a.svg", "image/svg+xml")] {
        let file =
            json!({"user_id": 1, "conversation_id": thread.id, "name": name, "content_type": content_type});
        router.post("/attachments", &file).await.refused(415, "type_not_allowed");
    }
}

#[tokio::test]
async fn links_end_and_serve_for_one_file_and_purpose() {
    let setup = Router::setup().routing("attachments.upload_window", "1s");
    let router = setup.start().await;
    let thread = router.thread(1, BOB).await;
    let first = announce(&router, &thread).await;
    bring(&router, &first).await.expect_status(200);
    let [url, upload] = [&first["attachment"]["url"], &first["upload"]["url"]].map(text);
    let second = announce(&router, &thread).await;
    let ids = [&first, &second].map(|announced| text(&announced["attachment"]["id"]));
    let ends = |url: &str| -> i64 {
        let (_, rest) = url.split_once("expires=").expect("an end");
        rest.split('&').next().and_then(|end| end.parse().ok()).expect("seconds")
    };
    let now = time::OffsetDateTime::now_utc().unix_timestamp();
    assert!((ends(&url) - now - 90 * 86_400).abs() <= 5, "kept for 90 days: {url}");
    for wrong in [
        url.replace(&ids[0], &ids[1]),
        url.replace("/1001/", "/1002/"),
        url.replace("expires=", "expires=9"),
        url.replace("signature=", "signature=0"),
        url.split('?').next().expect("a path").to_owned(),
        upload.clone(),
    ] {
        let answer = get(&router, &wrong).await;
        assert!([401, 404].contains(&answer.status), "{wrong}: {}", answer.text());
    }
    let swapped = ask(&router, "PUT", &url, &[("Content-Type", "image/png")], IMAGE).await;
    swapped.refused(401, "bad_signature");

    // The announced one that nobody brings within its second.
    let late = text(&second["upload"]["url"]);
    while time::OffsetDateTime::now_utc().unix_timestamp() <= ends(&late) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bring(&router, &second).await.refused(401, "bad_signature");

    let kept = Router::setup().routing("attachments.keep", "2h").start().await;
    let announced = announce(&kept, &kept.thread(1, BOB).await).await;
    assert!((ends(&text(&announced["attachment"]["url"])) - now - 7_200).abs() <= 60);
}

#[tokio::test]
async fn without_an_address_there_are_no_attachments() {
    let router = Router::setup().routing("carrier.telnyx.public_url", "").start().await;
    let thread = router.thread(1, BOB).await;
    let file =
        json!({"user_id": 1, "conversation_id": thread.id, "name": "a.png", "content_type": "image/png"});
    router.post("/attachments", &file).await.refused(409, "attachments_disabled");

    let setup = Router::setup().routing("attachments.public_url", "https://files.portal.example/ws");
    let router = setup.start().await;
    let announced = announce(&router, &router.thread(1, BOB).await).await;
    for url in [&announced["attachment"]["url"], &announced["upload"]["url"]] {
        assert!(text(url).starts_with("https://files.portal.example/ws/attachments/1001/"), "{url}");
    }
}

#[tokio::test]
async fn the_carrier_gets_links_that_it_can_fetch() {
    let router = Router::start().await;
    let thread = router.thread(1, OUTSIDE).await;
    let announced = announce(&router, &thread).await;
    bring(&router, &announced).await.expect_status(200);
    let message = json!({"user_id": 1, "to": OUTSIDE, "media_urls": [announced["attachment"]["url"]]});
    router.ok("/messages", message).await;
    let sent = router.carrier.messages().await;
    let url = text(&sent[0]["media"][0]["url"]);
    assert_eq!(get(&router, &url).await.expect_status(200).body, IMAGE);
}

/// A name with these in it shows a person something else than what a computer does with it.
#[tokio::test]
async fn names_of_files_hide_nothing_and_lead_nowhere() {
    let router = Router::start().await;
    let thread = router.thread(1, BOB).await;
    for (name, stored) in [
        ("a\u{202e}gpj.txt", "agpj.txt"),
        ("\u{2066}in\u{200b}voice\u{2069}\u{feff}.txt", "invoice.txt"),
        ("../../etc/..\\x.txt", "x.txt"),
        ("..\u{ff0f}x.txt", "_x.txt"),
        (".bashrc.txt", "bashrc.txt"),
        ("AUX.txt", "AUX_.txt"),
    ] {
        let file =
            json!({"user_id": 1, "conversation_id": thread.id, "name": name, "content_type": "text/plain"});
        let announced = router.ok("/attachments", file).await;
        assert_eq!(announced["attachment"]["name"], stored);
        let headers = [("Content-Type", "text/plain")];
        ask(&router, "PUT", &text(&announced["upload"]["url"]), &headers, b"x").await.expect_status(200);
        let file = get(&router, &text(&announced["attachment"]["url"])).await.expect_status(200);
        let disposition = file.header("content-disposition").expect("a name").to_owned();
        let (_, encoded) = disposition.split_once("filename*=UTF-8''").expect("a name");
        assert_eq!(
            percent_encoding::percent_decode_str(encoded).decode_utf8_lossy(),
            stored,
            "{disposition}"
        );
    }
}

/// A cache must not be told that it has a file that nobody ever brought.
#[tokio::test]
async fn a_file_that_never_came_is_not_unchanged() {
    let router = Router::start().await;
    let announced = announce(&router, &router.thread(1, BOB).await).await;
    let url = text(&announced["attachment"]["url"]);
    let etag = format!("\"{}\"", text(&announced["attachment"]["id"]));
    let weak = format!("\"x\", W/{etag}");
    for known in [etag.as_str(), weak.as_str(), "*"] {
        let answer = ask(&router, "GET", &url, &[("If-None-Match", known)], b"").await;
        answer.refused(404, "not_found");
    }
    bring(&router, &announced).await.expect_status(200);
    for known in [etag.as_str(), weak.as_str(), "*"] {
        let answer = ask(&router, "GET", &url, &[("If-None-Match", known)], b"").await.expect_status(304);
        assert_eq!((answer.body.len(), answer.header("etag")), (0, Some(etag.as_str())));
    }
    ask(&router, "GET", &url, &[("If-None-Match", "\"x\"")], b"").await.expect_status(200);
}
