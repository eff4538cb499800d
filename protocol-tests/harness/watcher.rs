//! A connection that watches one channel, to see what a publish did and did not do.

use serde_json::json;

use super::server::TestServer;
use super::sign::App;
use super::ws::WsClient;

/// A subscriber of one channel of one app.
#[derive(Debug)]
pub struct Watcher {
    pub client: WsClient,
    pub channel: String,
}

impl Watcher {
    /// Watches a channel of the first app. Joins presence channels as user `watcher`.
    pub async fn on(server: &TestServer, channel: &str) -> Self {
        Self::on_app(server, server.app(), channel).await
    }

    /// As [`Self::on`], in this app.
    pub async fn on_app(server: &TestServer, app: &App, channel: &str) -> Self {
        let mut client = WsClient::connect_to(server, app).await;
        if channel.starts_with("presence-") {
            client.join_as(channel, "watcher").await;
        } else {
            client.subscribe(channel).await;
        }
        Self { client, channel: channel.to_owned() }
    }

    pub fn socket_id(&self) -> &str {
        &self.client.socket_id
    }

    /// The next frame, which must be this event of the watched channel with exactly this data.
    pub async fn expect(&mut self, name: &str, data: &str) {
        let frame = self.client.expect(name).await;
        assert_eq!(frame.channel(), self.channel);
        assert_eq!(frame.data(), data);
        assert_eq!(frame.user_id, None);
    }

    /// Fails when anything was published to the channel and not read yet: a marker published now must
    /// come next, as the order within a channel is kept.
    pub async fn expect_nothing(&mut self, server: &TestServer) {
        let marker = super::names::unique("marker-");
        let body = json!({"name": marker, "channel": self.channel, "data": ""});
        let app = self.client.app().clone();
        super::http::Request::trigger(&app, &body).send(server.public).await.expect_ok("{}");
        let frame = self.client.next().await;
        assert_eq!(frame.event, marker, "something was published: {}", frame.text);
    }
}
