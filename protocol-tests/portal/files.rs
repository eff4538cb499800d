//! Files: how people hand them over, what they read when one is refused, and links to those of earlier days.

use serde_json::json;

use super::Portal;
use crate::clients::{example, screenshot};
use crate::harness::http::exchange;
use crate::harness::messaging::{ANN, Router, text};

/// A picture of one pixel.
const PICTURE: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

#[tokio::test]
async fn the_paper_clip_opens_the_file_dialog_and_the_other_sees_the_picture() {
    let mut portal = Portal::start().await.talking().await;
    let file = json!({"name": "plan.png", "type": "image/png", "base64": PICTURE});
    portal.on("Ann", "upload", file).await;
    portal.screenshot("Ann", "portal-upload.png").await;
    portal.is_accessible("Ann").await;
    portal.write("Ann", "The plan").await;
    portal.on("Ben", "pictures", json!({"name": "Attachment: plan.png"})).await;
    portal.screenshot("Ben", "portal-uploaded.png").await;
    portal.close(&["Ann", "Ben"]).await;
}

#[tokio::test]
async fn files_can_be_dropped_on_the_conversation_and_pasted() {
    let mut portal = Portal::start().await.talking().await;
    for by in ["drop", "paste"] {
        let name = format!("{by}.png");
        let file = json!({"by": by, "name": name, "type": "image/png", "base64": PICTURE});
        portal.on("Ann", "hand_over", file).await;
        portal.write("Ann", &format!("by {by}")).await;
        portal.on("Ben", "pictures", json!({"name": format!("Attachment: {name}")})).await;
    }
    portal.close(&["Ann", "Ben"]).await;
}

#[tokio::test]
async fn a_refused_file_says_in_plain_words_why_and_what_is_allowed() {
    let setup = Router::setup().routing("attachments.max_size", "2000B");
    let mut portal = Portal::with(setup, "public").await.talking().await;
    let plan = example("portal/demo/floor-plan.png");
    portal.on("Ann", "upload", json!({"name": "plan.png", "type": "image/png", "path": plan})).await;
    portal.shows("Ann", "“plan.png” is too large (8.7 KB). The limit is 2 KB.").await;
    portal.on("Ann", "click", json!({"name": "Remove plan.png"})).await;
    let program = json!({"name": "setup.exe", "type": "application/x-msdownload", "base64": "TVo="});
    portal.on("Ann", "upload", program).await;
    portal.shows("Ann", "“setup.exe” cannot be sent: files of this kind are not allowed.").await;
    portal.screenshot("Ann", "portal-refused-file.png").await;
    portal.is_accessible("Ann").await;
    portal.close(&["Ann", "Ben"]).await;
}

#[tokio::test]
async fn an_upload_that_lost_its_connection_can_be_tried_again() {
    let mut portal = Portal::start().await.talking().await;
    portal.on("Ann", "lose_uploads", json!({})).await;
    let file = json!({"name": "plan.png", "type": "image/png", "base64": PICTURE});
    portal.on("Ann", "upload", file).await;
    portal.shows("Ann", "“plan.png” was not uploaded: the connection failed.").await;
    portal.on("Ann", "lose_uploads", json!({"lost": false})).await;
    portal.on("Ann", "click", json!({"name": "Try again"})).await;
    portal.on("Ann", "shows", json!({"text": "the connection failed", "gone": true})).await;
    portal.write("Ann", "At last").await;
    portal.on("Ben", "pictures", json!({"name": "Attachment: plan.png"})).await;
    portal.close(&["Ann", "Ben"]).await;
}

#[tokio::test]
async fn attachments_elsewhere_are_shown_by_their_link() {
    let mut portal = Portal::start().await.talking().await;
    let links = json!([format!("{}/icon.svg", portal.address), "https://files.example/contract.pdf"]);
    let message = json!({"user_id": 2, "to": ANN, "text": "Both", "media_urls": links});
    portal.router.ok("/messages", message).await;
    portal.on("Ann", "pictures", json!({"name": "Attachment: icon.svg"})).await;
    let both = portal.gets("Ann", "Both").await;
    assert!(both.contains("contract.pdf"), "{both}");
    portal.close(&["Ann", "Ben"]).await;
}

/// Uploads a file of user 2 for Ann; answers its link.
async fn uploaded(router: &Router, name: &str, content_type: &str, content: &[u8]) -> String {
    let conversation = router.ok("/conversations", json!({"user_id": 2, "to": ANN})).await;
    let file = json!({"user_id": 2, "conversation_id": conversation["conversation"]["id"], "name": name,
        "content_type": content_type, "size": content.len()});
    let announced = router.ok("/attachments", file).await;
    let url = text(&announced["upload"]["url"]);
    let path = url.split_once("127.0.0.1").and_then(|(_, rest)| rest.find('/').map(|at| &rest[at..]));
    let path = path.expect("a path");
    let head = format!(
        "PUT {path} HTTP/1.1\r\nHost: server\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        content.len()
    );
    let answer = exchange(router.server().public, [head.as_bytes(), content].concat()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    text(&announced["attachment"]["url"])
}

/// A tenth of a second of silence.
fn wav() -> Vec<u8> {
    let mut wav =
        b"RIFF\x44\x03\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x40\x1f\0\0\x01\0\x08\0data\x20\x03\0\0"
            .to_vec();
    wav.resize(wav.len() + 800, 0x80);
    wav
}

/// Phones send what many browsers can't show: that has a link, with its name.
#[tokio::test]
async fn files_that_the_browser_can_play_are_played_and_others_are_links() {
    let mut portal = Portal::start().await.talking().await;
    let mut links = vec![uploaded(&portal.router, "memo.wav", "audio/x-wav", &wav()).await];
    for (name, content_type) in [
        ("IMG_1.HEIC", "image/heic"),
        ("IMG_2.MOV", "video/quicktime"),
        ("voice.amr", "audio/amr"),
        ("Ann.vcf", "text/x-vcard"),
    ] {
        links.push(uploaded(&portal.router, name, content_type, b"nothing that a browser understands").await);
    }
    let message = json!({"user_id": 2, "to": ANN, "text": "All of it", "media_urls": links});
    portal.router.ok("/messages", message).await;
    portal.on("Ann", "plays", json!({"name": "Attachment: memo.wav"})).await;
    for name in ["IMG_1.HEIC", "IMG_2.MOV", "voice.amr", "Ann.vcf"] {
        portal.shows("Ann", name).await;
    }
    portal.screenshot("Ann", "portal-files.png").await;
    portal.is_accessible("Ann").await;
    portal.close(&["Ann", "Ben"]).await;
}

#[tokio::test]
async fn files_of_days_when_the_server_had_another_port_are_still_shown() {
    let mut portal = Portal::start().await.talking().await;
    let plan = std::fs::read(example("portal/demo/floor-plan.png")).expect("a picture");
    let link = uploaded(&portal.router, "plan.png", "image/png", &plan).await;
    let port = portal.router.server().public.port();
    let old = link.replace(&format!(":{port}/"), ":9/");
    assert_ne!(link, old);
    let message = json!({"user_id": 2, "to": ANN, "text": "From before", "media_urls": [old]});
    portal.router.ok("/messages", message).await;
    portal.on("Ann", "pictures", json!({"name": "Attachment: plan.png"})).await;
    portal.on("Ann", "screenshot", json!({"path": screenshot("portal-old-link.png")})).await;
    portal.close(&["Ann", "Ben"]).await;
}
