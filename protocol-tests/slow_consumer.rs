//! A client that stops reading: it loses its connection, and nobody else anything.

use serde_json::json;
use tokio::time::timeout;

use crate::harness::DEADLINE;
use crate::harness::http::{HttpConnection, Request};
use crate::harness::names::unique;
use crate::harness::raw_ws::{RawWs, TEXT};
use crate::harness::server::{Config, TestServer};
use crate::harness::shared::SharedServer;
use crate::harness::ws::{Event, WsClient};

/// Gives a reader up that left 256 KB unread.
static SMALL_BACKLOG: SharedServer = SharedServer::new(|| {
    Config::new().server("shards = 2\nbacklog_limit = \"256KB\"\nbacklog_max_age = \"60s\"")
});

/// Gives a reader up that has left something unread for two seconds.
static SHORT_PATIENCE: SharedServer = SharedServer::new(|| {
    Config::new().server("shards = 2\nbacklog_limit = \"256MB\"\nbacklog_max_age = \"2s\"")
});

/// Gives no reader up within the time of a test.
static PATIENT: SharedServer = SharedServer::new(|| {
    Config::new().server("shards = 2\nbacklog_limit = \"256MB\"\nbacklog_max_age = \"60s\"")
});

/// More than kernels put between two ends of a connection on one machine.
const MORE_THAN_KERNELS_BUFFER: usize = 16 << 20;

/// Publishes numbered events of 32 KB.
struct Publisher<'a> {
    server: &'a TestServer,
    connection: HttpConnection,
    channel: String,
    published: u64,
}

const PADDING: usize = 32 * 1024;

impl<'a> Publisher<'a> {
    async fn new(server: &'a TestServer, channel: &str) -> Self {
        let connection = HttpConnection::connect(server.public).await;
        Self { server, connection, channel: channel.to_owned(), published: 0 }
    }

    async fn publish(&mut self) {
        self.published += 1;
        let data = format!("{}:{}", self.published, "x".repeat(PADDING));
        let body = json!({"name": "n", "channel": self.channel, "data": data});
        Request::trigger(self.server.app(), &body).send_over(&mut self.connection).await.expect_ok("{}");
    }
}

fn number(event: &Event) -> u64 {
    assert_eq!(event.event, "n", "{}", event.text);
    let (number, padding) = event.data().split_once(':').expect("a number");
    assert_eq!(padding.len(), PADDING);
    number.parse().expect("a number")
}

/// A client in a presence channel, whose leaving others see, and subscribed to `channel`. Its buffer is
/// small and it reads nothing by itself.
async fn sleeper(server: &TestServer, presence: &str, channel: &str) -> RawWs {
    let mut client = RawWs::connect_with_small_buffer(server.public, server.app(), 16 * 1024).await;
    let socket_id = client.established().await;
    let channel_data = r#"{"user_id":"sleeper"}"#;
    let auth = server.app().presence_auth(&socket_id, presence, channel_data);
    let data = json!({"auth": auth, "channel": presence, "channel_data": channel_data});
    client.write_text(&json!({"event": "pusher:subscribe", "data": data}).to_string()).await;
    client.expect_text().await;
    let data = json!({"channel": channel});
    client.write_text(&json!({"event": "pusher:subscribe", "data": data}).to_string()).await;
    client.expect_text().await;
    client
}

/// Reads what a sleeper was sent, who comes back while the server still waits for the answer to its
/// Close: events from 1 without a gap, the error, Close 4100. Returns the last number.
async fn expect_no_gap_before_the_close(mut client: RawWs) -> u64 {
    let mut last = 0;
    loop {
        let frame = client.next(DEADLINE).await.expect("a Close before the end");
        match frame.opcode {
            TEXT => {
                let event = Event::read(frame.text());
                if event.event == "pusher:error" {
                    assert_eq!(event.code(), Some(4100), "{}", event.text);
                    let close = client.next(DEADLINE).await.expect("a Close before the end");
                    assert_eq!(close.close_code(), Some(4100), "{close:?}");
                    return last;
                }
                assert_eq!(number(&event), last + 1, "a gap");
                last += 1;
            }
            other => panic!("opcode {other} without an error before it"),
        }
    }
}

/// Waits until `witness` hears that the sleeper has left; then it wakes up at once, as the server waits for
/// its Close a few seconds only.
async fn wake_when_given_up(mut witness: WsClient, sleeper: RawWs) -> u64 {
    let left = witness.expect_event("pusher_internal:member_removed", 4 * DEADLINE).await;
    assert_eq!(left.json(), json!({"user_id": "sleeper"}));
    expect_no_gap_before_the_close(sleeper).await
}

#[tokio::test]
async fn too_many_unread_bytes_end_a_connection_and_leave_the_others_alone() {
    let server = SMALL_BACKLOG.get();
    let (presence, channel) = (unique("presence-"), unique("news-"));
    let mut witness = WsClient::connect(&server).await;
    witness.join_as(&presence, "witness").await;
    let sleeper = sleeper(&server, &presence, &channel).await;
    witness.expect("pusher_internal:member_added").await;
    let waking = tokio::spawn(wake_when_given_up(witness, sleeper));
    let mut readers = Vec::new();
    for _ in 0..4 {
        let mut reader = WsClient::connect(&server).await;
        reader.subscribe(&channel).await;
        readers.push(reader);
    }
    let mut publisher = Publisher::new(&server, &channel).await;
    while publisher.published < (MORE_THAN_KERNELS_BUFFER / PADDING) as u64 {
        publisher.publish().await;
        for reader in &mut readers {
            assert_eq!(number(&reader.next().await), publisher.published);
        }
    }
    let last = waking.await.expect("no panic");
    assert!((1..publisher.published).contains(&last), "{last} of {} arrived", publisher.published);
    publisher.publish().await;
    for reader in &mut readers {
        assert_eq!(number(&reader.next().await), publisher.published);
        reader.expect_nothing_published(&server).await;
    }
}

#[tokio::test]
async fn something_unread_for_too_long_ends_a_connection() {
    let server = SHORT_PATIENCE.get();
    let (presence, channel) = (unique("presence-"), unique("news-"));
    let mut witness = WsClient::connect(&server).await;
    witness.join_as(&presence, "witness").await;
    let sleeper = sleeper(&server, &presence, &channel).await;
    witness.expect("pusher_internal:member_added").await;
    let waking = tokio::spawn(wake_when_given_up(witness, sleeper));
    let mut publisher = Publisher::new(&server, &channel).await;
    while publisher.published < (MORE_THAN_KERNELS_BUFFER / PADDING) as u64 {
        publisher.publish().await;
    }
    let last = waking.await.expect("no panic");
    assert!((1..publisher.published).contains(&last), "{last} of {} arrived", publisher.published);
}

#[tokio::test]
async fn a_reader_that_catches_up_in_time_misses_nothing() {
    let server = PATIENT.get();
    let (presence, channel) = (unique("presence-"), unique("news-"));
    let mut sleeper = sleeper(&server, &presence, &channel).await;
    let mut publisher = Publisher::new(&server, &channel).await;
    for _ in 0..(MORE_THAN_KERNELS_BUFFER / PADDING / 2) {
        publisher.publish().await;
    }
    for expected in 1..=publisher.published {
        assert_eq!(number(&Event::read(&sleeper.expect_text().await)), expected);
    }
    publisher.publish().await;
    assert_eq!(number(&Event::read(&sleeper.expect_text().await)), publisher.published);
}

/// Answers pile up like events when nobody reads them.
#[tokio::test]
async fn answers_that_nobody_reads_end_a_connection_as_well() {
    let server = SMALL_BACKLOG.get();
    let presence = unique("presence-");
    let mut witness = WsClient::connect(&server).await;
    witness.join_as(&presence, "witness").await;
    let mut sleeper = sleeper(&server, &presence, &unique("news-")).await;
    witness.expect("pusher_internal:member_added").await;
    let ping = crate::harness::raw_ws::frame(TEXT, true, br#"{"event":"pusher:ping"}"#).repeat(1000);
    let flooding = async {
        loop {
            // Blocks or fails once the server has stopped to read.
            match timeout(DEADLINE, sleeper.try_write(&ping)).await {
                Ok(true) => {}
                Ok(false) | Err(_) => return,
            }
        }
    };
    tokio::select! {
        () = flooding => { witness.expect("pusher_internal:member_removed").await; }
        event = witness.next() => assert_eq!(event.event, "pusher_internal:member_removed"),
    }
    server.expect_alive();
}
