//! Files that come with messages from outside: each is copied, whatever it is, and no browser runs it.

use serde_json::{Value, json};

use super::attachments::get;
use crate::harness::databases::postgres;
use crate::harness::http::Response;
use crate::harness::messaging::{ANN, OUTSIDE, RECEIVED, Router, Setup, never, text};
use crate::harness::portal::{Portal, Reply};
use crate::harness::ws::WsClient;

const READY: &str = r"App\Events\AttachmentReady";
const IMAGE: &[u8] = b"\x89PNG\r\n\x1a\n, as far as anybody here looks";

/// With a server that may copy from this machine.
fn copying() -> Setup {
    Router::setup().routing("attachments.allow_private_addresses", true)
}

/// An answer with a file and these lines in its head, beside the length.
fn raw(status: u16, lines: &[String], content: &[u8]) -> Reply {
    let mut head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n", content.len());
    lines.iter().for_each(|line| head.push_str(&format!("{line}\r\n")));
    Reply::Raw([head.as_bytes(), b"\r\n", content].concat())
}

/// A message from outside with this file.
async fn inbound_with(router: &Router, file: Value) {
    router.carrier.inbound(json!({"from": OUTSIDE, "to": ANN, "text": "Look", "media": [file]})).await;
}

/// A message from outside with a file at this address.
async fn inbound(router: &Router, url: &str) {
    inbound_with(router, json!({"url": url, "content_type": "image/png"})).await;
}

/// The next file that was copied, and the answer to a browser that opens it.
async fn copied(router: &Router, ann: &mut WsClient) -> (Value, Response) {
    let ready = ann.wait_for(READY).await.json();
    let file = get(router, &text(&ready["attachment"]["url"])).await.expect_status(200);
    (ready["attachment"].clone(), file)
}

/// Rows of `data/media-types.tsv`.
async fn files_that_phones_send_are_kept(setup: Setup) {
    let source = Portal::start().await;
    let router = setup.start().await;
    let mut ann = router.listen("user.1").await;
    for row in include_str!("../data/media-types.tsv").lines().filter(|line| !line.starts_with('#')) {
        let columns: Vec<&str> = row.split('\t').collect();
        let [header, told, end, stored, name, how, _source] = columns[..] else { panic!("{row}") };
        let line = (header != "-").then(|| format!("Content-Type: {header}"));
        source.answers_next(raw(200, &Vec::from_iter(line), IMAGE));
        let content_type = (told != "-").then_some(told);
        let url = format!("http://{}/media/{end}", source.addr());
        inbound_with(&router, json!({"url": url, "content_type": content_type})).await;
        let (attachment, file) = copied(&router, &mut ann).await;
        let expected = [("content_type", json!(stored)), ("name", json!(name)), ("size", json!(IMAGE.len()))];
        for (field, expected) in expected {
            assert_eq!(attachment[field], expected, "{row}");
        }
        assert_eq!((file.header("content-type"), &file.body[..]), (Some(stored), IMAGE), "{row}");
        let disposition = file.header("content-disposition").expect("a disposition");
        assert!(disposition.starts_with(&format!("{how}; ")), "{row}: {disposition}");
    }
}

#[tokio::test]
async fn files_that_phones_send_are_kept_and_shown_or_saved() {
    files_that_phones_send_are_kept(copying()).await;
}

#[tokio::test]
async fn files_that_phones_send_are_kept_and_shown_or_saved_on_postgresql() {
    let database = postgres().await;
    files_that_phones_send_are_kept(copying().store(&database.url)).await;
}

/// What could run is kept, and given out so that nothing does.
#[tokio::test]
async fn what_could_run_is_only_saved() {
    let source = Portal::start().await;
    let router = copying().start().await;
    let mut ann = router.listen("user.1").await;
    for (content_type, name) in [
        ("text/html", "x.html"),
        ("application/xhtml+xml", "x.xhtml"),
        ("image/svg+xml; charset=utf-8", "x.svg"),
        ("text/xml", "x.xml"),
        ("TEXT/JavaScript", "x.js"),
        ("application/smil+xml", "x.smil"),
        ("multipart/related", "x.mht"),
    ] {
        let line = format!("Content-Type: {content_type}");
        source.answers_next(raw(200, &[line], b"<script>alert(1)</script>"));
        inbound(&router, &format!("http://{}/{name}", source.addr())).await;
        let (attachment, file) = copied(&router, &mut ann).await;
        let stored = content_type.split(';').next().expect("a type").to_ascii_lowercase();
        assert_eq!((&attachment["content_type"], &attachment["name"]), (&json!(stored), &json!(name)));
        for (header, value) in
            [("content-type", "application/octet-stream"), ("x-content-type-options", "nosniff")]
        {
            assert_eq!(file.header(header), Some(value), "{content_type}");
        }
        assert!(file.header("content-disposition").is_some_and(|how| how.starts_with("attachment; ")));
        assert!(file.header("content-security-policy").is_some_and(|policy| policy.starts_with("sandbox;")));
    }
}

#[tokio::test]
async fn redirects_of_all_forms_are_followed_hop_by_hop() {
    let mut source = Portal::start().await;
    let router = copying().start().await;
    let mut ann = router.listen("user.1").await;
    let host = source.addr();
    for location in [
        "/v2/b/c?token=1".to_owned(),
        "../d".to_owned(),
        "?e".to_owned(),
        format!("//{host}/f/photo"),
        format!("http://{host}/g/Größe.png#x"),
    ] {
        source.answers_next(raw(302, &[format!("Location: {location}")], b""));
    }
    source.answers_next(raw(200, &["Content-Type: image/png".to_owned()], IMAGE));
    inbound(&router, &format!("http://{host}/a")).await;
    assert_eq!(copied(&router, &mut ann).await.1.body, IMAGE);
    let mut asked = Vec::new();
    while asked.len() < 6 {
        asked.push(source.next().await.path);
    }
    assert_eq!(asked, ["/a", "/v2/b/c?token=1", "/v2/d", "/v2/d?e", "/f/photo", "/g/Gr%C3%B6%C3%9Fe.png"]);
}

#[tokio::test]
async fn an_answer_in_parts_is_put_together() {
    let mut source = Portal::start().await;
    let router = copying().start().await;
    let mut ann = router.listen("user.1").await;
    let size = IMAGE.len();
    let part = |first: usize, last: usize| {
        let range = format!("Content-Range: bytes {first}-{last}/{size}");
        raw(206, &[range, "Content-Type: image/png".to_owned()], &IMAGE[first..=last])
    };
    // All of it, as one part; then in two.
    for parts in [vec![(0, size - 1)], vec![(0, 9), (10, size - 1)]] {
        parts.iter().for_each(|(first, last)| source.answers_next(part(*first, *last)));
        inbound(&router, &format!("http://{}/photo.png", source.addr())).await;
        let (attachment, file) = copied(&router, &mut ann).await;
        assert_eq!((&attachment["size"], &file.body[..]), (&json!(size), IMAGE));
        for (first, _) in parts {
            let range = (first > 0).then(|| format!("bytes={first}-"));
            assert_eq!(source.next().await.header("range").map(str::to_owned), range);
        }
    }
}

#[tokio::test]
async fn files_are_called_as_their_server_says() {
    let source = Portal::start().await;
    let router = copying().start().await;
    let mut ann = router.listen("user.1").await;
    for (disposition, name) in [
        (r#"attachment; filename="Größe \"1\".png""#, r#"Größe "1".png"#),
        ("inline; filename=x.png; filename*=UTF-8''Gr%C3%B6%C3%9Fe.png", "Größe.png"),
        (r#"attachment; filename="../../etc/passwd""#, "passwd.png"),
        ("attachment", "1.png"),
    ] {
        let lines = ["Content-Type: image/png".to_owned(), format!("Content-Disposition: {disposition}")];
        source.answers_next(raw(200, &lines, IMAGE));
        inbound(&router, &format!("http://{}/media/1", source.addr())).await;
        assert_eq!(copied(&router, &mut ann).await.0["name"], name, "{disposition}");
    }
}

/// The end of a connection is no end of a file, as far as the carrier's figure goes.
#[tokio::test]
async fn a_file_that_broke_off_is_fetched_again_and_a_wrong_figure_is_not_believed() {
    let source = Portal::start().await;
    let router = copying().start().await;
    let mut ann = router.listen("user.1").await;
    let url = format!("http://{}/photo.png", source.addr());
    let file = |size: usize| json!({"url": url, "content_type": "image/png", "size": size});
    source.answers_next(Reply::RawThenClose([b"HTTP/1.0 200 X\r\n\r\n", &IMAGE[..10]].concat()));
    source.answers_next(raw(200, &[], IMAGE));
    inbound_with(&router, file(IMAGE.len())).await;
    assert_eq!(copied(&router, &mut ann).await.0["size"], IMAGE.len());
    // An answer that has its length is whole, whatever was said.
    for size in [1, 1_000_000] {
        source.answers_next(raw(200, &[], IMAGE));
        inbound_with(&router, file(size)).await;
        assert_eq!(copied(&router, &mut ann).await.0["size"], IMAGE.len(), "{size}");
    }
}

#[tokio::test]
async fn what_the_carrier_brings_is_copied_before_its_link_ends() {
    let source = Portal::start().await;
    let file = format!("http://{}/media/photo.png?token=x", source.addr());
    // It fails first, and then has moved.
    source.answers_next(Reply::Status(503, String::new()));
    let moved = format!("HTTP/1.1 302 X\r\nLocation: {file}\r\nContent-Length: 0\r\n\r\n");
    source.answers_next(Reply::Raw(moved.into_bytes()));
    source.answers_next(Reply::file("image/png", IMAGE));
    let mut router = copying().portal().start().await;
    let mut ann = router.listen("user.1").await;
    inbound(&router, &file).await;
    let received = ann.wait_for(RECEIVED).await.json();
    assert_eq!(received["message"]["media_urls"], json!([file]));

    let ready = ann.wait_for(READY).await.json();
    let attachment = &ready["attachment"];
    assert_eq!(ready["conversation_id"], received["conversation"]["id"]);
    assert_eq!(ready["message_id"], received["message"]["id"]);
    assert_eq!((&attachment["name"], &attachment["size"]), (&json!("photo.png"), &json!(IMAGE.len())));
    let copy = get(&router, &text(&attachment["url"])).await.expect_status(200);
    assert_eq!((&copy.body[..], copy.header("content-type")), (IMAGE, Some("image/png")));
    let message = router.message(1, &received["message"]["id"]).await;
    assert_eq!(message["media_urls"], json!([attachment["url"]]));
    let told = router.portal().event("message_updated").await;
    assert_eq!(told["data"]["message"]["media_urls"], json!([attachment["url"]]));
}

// The source answers while the log is waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_carrier_brings_stays_there_unless_copied() {
    let mut source = Portal::start().await;
    let file = format!("http://{}/media/photo.png", source.addr());
    // Copying is off; the address is private; the file is empty, not there, or too large.
    let gone = || Reply::Status(404, String::new());
    let large = vec![b'x'; 1_025];
    for (settings, reply) in [
        (vec![("attachments.copy_inbound", json!(false))], None),
        (vec![("attachments.allow_private_addresses", json!(false))], None),
        (vec![], Some(Reply::file("image/png", b""))),
        (vec![], Some(gone())),
        (vec![("attachments.max_size", json!("1KB"))], Some(Reply::file("image/png", &large))),
    ] {
        let is_asked = reply.is_some();
        source.answers_from_now_on();
        if let Some(reply) = reply {
            source.answers_next(reply);
        }
        let setup = settings.iter().fold(copying(), |setup, (key, value)| setup.routing(key, value.clone()));
        let router = setup.start().await;
        let mut ann = router.listen("user.1").await;
        inbound(&router, &file).await;
        let received = ann.wait_for(RECEIVED).await.json();
        if settings.first().is_none_or(|(key, _)| *key != "attachments.copy_inbound") {
            router.logged("the router gave up copying an inbound attachment", 1);
        }
        assert_eq!(source.was_asked(), is_asked, "{settings:?}");
        never(&mut ann, &router, READY).await;
        let message = router.message(1, &received["message"]["id"]).await;
        assert_eq!(message["media_urls"], json!([file]), "{settings:?}");
    }
}
