//! Encrypted channels: the server authorises them like private ones and never looks inside.

use serde_json::json;

use crate::harness::http::Request;
use crate::harness::names::unique;
use crate::harness::shared::shared;
use crate::harness::ws::WsClient;

const CIPHERTEXT: &str = r#"{"nonce":"4sVYwy4j/8dCcjyxtPCWyk19GaaViaW9","ciphertext":"/GMESnFGlbNn01BuBjp31XYa3i9vZsGKR8fgR9EDhXKx3lzGiUD501A="}"#;

#[tokio::test]
async fn they_are_authorised_like_private_channels() {
    let server = shared();
    for prefix in ["private-encrypted-", "private-encrypted-cache-"] {
        let channel = unique(prefix);
        let mut client = WsClient::connect(&server).await;
        client.send_subscribe(&channel).await;
        client.expect_not_subscribed(&channel, "AuthError", 401, "").await;
        let plain = channel.replacen("encrypted-", "", 1);
        client
            .send_subscribe_with_auth(&channel, &server.app().channel_auth(&client.socket_id, &plain))
            .await;
        client.expect_not_subscribed(&channel, "AuthError", 401, "Invalid signature").await;
        client.send_subscribe_private(&channel).await;
        assert_eq!(client.expect_subscribed(&channel).await.data(), "{}");
    }
}

#[tokio::test]
async fn cipher_text_passes_unread() {
    let server = shared();
    let channel = unique("private-encrypted-");
    let mut client = WsClient::connect(&server).await;
    client.subscribe(&channel).await;
    for data in [CIPHERTEXT, "not what the libraries can decrypt", "", r#"{"nonce":1}"#] {
        server.publish(&channel, "x", data).await;
        assert_eq!(client.expect("x").await.data(), data);
    }
}

/// The Java client decrypts every event of such a channel unless its data is exactly `{}`.
#[tokio::test]
async fn a_cache_miss_is_exactly_two_braces() {
    let server = shared();
    let channel = unique("private-encrypted-cache-");
    let mut client = WsClient::connect(&server).await;
    client.subscribe(&channel).await;
    assert_eq!(
        client.next().await.text,
        format!(r#"{{"event":"pusher:cache_miss","channel":"{channel}","data":"{{}}"}}"#)
    );
}

#[tokio::test]
async fn cipher_text_is_remembered_as_it_is() {
    let server = shared();
    let channel = unique("private-encrypted-cache-");
    server.publish(&channel, "x", CIPHERTEXT).await;
    let mut client = WsClient::connect(&server).await;
    client.subscribe(&channel).await;
    assert_eq!(client.expect("x").await.data(), CIPHERTEXT);
}

#[tokio::test]
async fn one_cipher_text_cannot_go_to_several_channels() {
    let server = shared();
    let (encrypted, cached) = (unique("private-encrypted-"), unique("private-encrypted-cache-"));
    let public = unique("news-");
    let mut client = WsClient::connect(&server).await;
    client.subscribe(&public).await;
    client.subscribe(&encrypted).await;
    for channels in [[&public, &encrypted], [&cached, &public], [&encrypted, &cached]] {
        let body = json!({"name": "x", "channels": channels, "data": CIPHERTEXT});
        Request::trigger(server.app(), &body).send(server.public).await.expect_error(400, "encrypted");
    }
    client.expect_nothing_published(&server).await;
    let body = json!({"name": "x", "channels": [encrypted], "data": CIPHERTEXT});
    Request::trigger(server.app(), &body).send(server.public).await.expect_ok("{}");
    client.expect("x").await;
}

#[tokio::test]
async fn a_batch_may_hold_events_for_several_encrypted_channels() {
    let server = shared();
    let channels = [unique("private-encrypted-"), unique("private-encrypted-")];
    let mut client = WsClient::connect(&server).await;
    for channel in &channels {
        client.subscribe(channel).await;
    }
    let batch =
        channels.each_ref().map(|channel| json!({"name": "x", "channel": channel, "data": CIPHERTEXT}));
    let path = server.app().path("batch_events");
    let body = json!({"batch": batch}).to_string();
    Request::post(server.app(), &path, body).send(server.public).await.expect_status(200);
    for channel in &channels {
        assert_eq!(client.expect("x").await.channel(), channel);
    }
}
