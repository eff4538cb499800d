//! Files: how people hand them over, what they read when one is refused, and links to those of earlier days.

use serde_json::json;

use super::Portal;
use crate::clients::{example, screenshot};
use crate::harness::http::exchange;
use crate::harness::messaging::{ANN, Router};
use crate::harness::server::TestServer;

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

/// Puts a file at the address of an upload.
async fn put(server: &TestServer, url: &str, content: &[u8]) {
    let path = url.split_once("127.0.0.1").and_then(|(_, rest)| rest.find('/').map(|at| &rest[at..]));
    let path = path.expect("a path");
    let head = format!(
        "PUT {path} HTTP/1.1\r\nHost: server\r\nContent-Type: image/png\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        content.len()
    );
    let answer = exchange(server.public, [head.as_bytes(), content].concat()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test]
async fn files_of_days_when_the_server_had_another_port_are_still_shown() {
    let mut portal = Portal::start().await.talking().await;
    let plan = std::fs::read(example("portal/demo/floor-plan.png")).expect("a picture");
    let conversation = portal.router.ok("/conversations", json!({"user_id": 2, "to": ANN})).await;
    let announced = portal.router.ok(
        "/attachments",
        json!({"user_id": 2, "conversation_id": conversation["conversation"]["id"], "name": "plan.png",
            "content_type": "image/png", "size": plan.len()}),
    );
    let announced = announced.await;
    put(portal.router.server(), announced["upload"]["url"].as_str().expect("an address"), &plan).await;
    let port = portal.router.server().public.port();
    let link = announced["attachment"]["url"].as_str().expect("a link");
    let old = link.replace(&format!(":{port}/"), ":9/");
    assert_ne!(link, old);
    let message = json!({"user_id": 2, "to": ANN, "text": "From before", "media_urls": [old]});
    portal.router.ok("/messages", message).await;
    portal.on("Ann", "pictures", json!({"name": "Attachment: plan.png"})).await;
    portal.on("Ann", "screenshot", json!({"path": screenshot("portal-old-link.png")})).await;
    portal.close(&["Ann", "Ben"]).await;
}
