//! Both kinds of ping, and what happens to a connection that is silent.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::http::{HttpConnection, Request};
use crate::harness::names::unique;
use crate::harness::raw_ws::{self, PING, PONG, RawFrame, RawWs, TEXT, frame};
use crate::harness::server::Config;
use crate::harness::shared::{SharedServer, shared};
use crate::harness::ws::{Event, WsClient};
use crate::harness::{DEADLINE, within};

const PUSHER_PONG: &str = r#"{"event":"pusher:pong","data":"{}"}"#;

/// Pings after a second without anything from the client and closes soon after. Clients are told another time.
static HASTY: SharedServer = SharedServer::new(|| {
    Config::new().server("shards = 2\nping_interval = \"1s\"\npong_timeout = \"100ms\"")
});

/// Pings after one second without anything from the client and closes after another.
static IMPATIENT: SharedServer =
    SharedServer::new(|| Config::new().server("shards = 2\nping_interval = \"1s\"\npong_timeout = \"1s\""));

#[tokio::test]
async fn pusher_ping_is_answered_whatever_its_data() {
    let server = shared();
    let mut client = WsClient::connect(&server).await;
    for ping in [
        r#"{"event":"pusher:ping","data":{}}"#,
        r#"{"event":"pusher:ping","data":"{}"}"#,
        r#"{"event": "pusher:ping"}"#,
        r#"{"event":"pusher:ping","data":null}"#,
        r#"{"event":"pusher:ping","data":[]}"#,
        r#"{"event":"pusher:ping","data":1}"#,
        r#"{"data":{},"event":"pusher:ping","channel":"news"}"#,
    ] {
        client.send_text(ping).await;
        assert_eq!(client.next().await.text, PUSHER_PONG, "{ping}");
    }
}

#[tokio::test]
async fn a_pusher_pong_from_the_client_is_taken_silently() {
    let server = shared();
    let mut client = WsClient::connect(&server).await;
    client.send_text(r#"{"event":"pusher:pong","data":{}}"#).await;
    client.expect_nothing().await;
}

#[tokio::test]
async fn a_control_ping_is_answered_with_its_own_payload() {
    let server = shared();
    let mut client = RawWs::connect(server.public, server.app()).await;
    client.established().await;
    for payload in [&b""[..], b"hello", &[0xff; 125]] {
        client.write(&frame(PING, true, payload)).await;
        client.expect_frame(PONG, payload).await;
    }
}

#[tokio::test]
async fn frequent_pings_count_against_no_limit() {
    let server = shared();
    let mut client = RawWs::connect(server.public, server.app()).await;
    client.established().await;
    let mut bytes = Vec::new();
    for _ in 0..500 {
        bytes.extend(frame(TEXT, true, br#"{"event":"pusher:ping","data":{}}"#));
    }
    client.write(&bytes).await;
    for _ in 0..500 {
        client.expect_frame(TEXT, PUSHER_PONG.as_bytes()).await;
    }
    for count in 0..500_u16 {
        client.write(&frame(PING, true, &count.to_be_bytes())).await;
        client.expect_frame(PONG, &count.to_be_bytes()).await;
    }
}

/// RFC 6455, 5.5.3: of several pings not answered yet, answering the last one is enough.
#[tokio::test]
async fn a_burst_of_control_pings_is_answered_at_least_once() {
    let server = shared();
    let mut client = RawWs::connect(server.public, server.app()).await;
    client.established().await;
    let burst: Vec<u8> = (0..500_u16).flat_map(|count| frame(PING, true, &count.to_be_bytes())).collect();
    client.write(&burst).await;
    let last = 499_u16.to_be_bytes();
    loop {
        let answer = client.next(DEADLINE).await.expect("an open connection");
        assert_eq!(answer.opcode, PONG);
        if answer.payload == last {
            break;
        }
    }
}

#[tokio::test]
async fn a_silent_client_that_answers_control_pings_stays() {
    let server = IMPATIENT.get();
    let mut client = WsClient::connect(&server).await;
    assert_eq!(client.activity_timeout, 120, "the server's own pings do not depend on it");
    for _ in 0..2 {
        // Reading on answers the ping; nothing but control pings comes, never `pusher:ping`.
        let message = client.next_message(DEADLINE).await;
        assert!(matches!(message, Message::Ping(_)), "{message:?}");
    }
    client.expect_nothing().await;
}

#[tokio::test]
async fn any_inbound_frame_proves_life() {
    let server = IMPATIENT.get();
    let ping = frame(TEXT, true, br#"{"event":"pusher:ping"}"#);
    let nonsense = frame(TEXT, true, b"nonsense");
    let proofs = [ping, nonsense, frame(PONG, true, b"unasked"), frame(PING, true, b"")];
    let lives = proofs.map(|proof| {
        let (addr, app) = (server.public, server.app().clone());
        tokio::spawn(async move {
            let mut client = RawWs::connect(addr, &app).await;
            client.established().await;
            let mut pings = 0;
            while pings < 2 {
                let received = client.next(DEADLINE).await.expect("an open connection");
                assert_ne!(received.opcode, raw_ws::CLOSE, "{received:?}");
                if received.opcode == PING {
                    pings += 1;
                    client.write(&proof).await;
                }
            }
        })
    });
    for life in lives {
        life.await.expect("no panic");
    }
}

#[tokio::test]
async fn a_client_that_answers_nothing_is_closed_with_4201_and_cut_off() {
    let server = IMPATIENT.get();
    let mut client = RawWs::connect(server.public, server.app()).await;
    let start = Instant::now();
    client.established().await;
    assert_eq!(client.next(DEADLINE).await, Some(RawFrame { opcode: PING, payload: Vec::new() }));
    assert!(start.elapsed() > Duration::from_millis(900), "not before the interval is over");
    let close = client.next(DEADLINE).await.expect("a Close before the end");
    assert_eq!(close.close_code(), Some(4201), "{close:?}");
    assert_eq!(&close.payload[2..], b"Pong reply not received");
    assert!(start.elapsed() > Duration::from_millis(1800), "not before the pong timeout");
    client.wait_for_end(DEADLINE).await;
}

/// However they fall between the seconds in which the server looks after everybody.
#[tokio::test]
async fn pings_and_closes_come_when_they_are_due() {
    let server = HASTY.get();
    let lives: Vec<_> = (0..8)
        .map(|n| {
            let (addr, app) = (server.public, server.app().clone());
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(n * 125)).await;
                let mut client = RawWs::connect(addr, &app).await;
                client.established().await;
                for _ in 0..2 {
                    let spoke = Instant::now();
                    client.write(&frame(PONG, true, b"")).await;
                    assert_eq!(client.next(DEADLINE).await.map(|frame| frame.opcode), Some(PING));
                    expect_elapsed(spoke, 1000);
                }
                let pinged = Instant::now();
                let close = client.next(DEADLINE).await.expect("a Close before the end");
                assert_eq!(close.close_code(), Some(4201), "{close:?}");
                expect_elapsed(pinged, 100);
            })
        })
        .collect();
    for life in lives {
        life.await.expect("no panic");
    }
}

/// Never early. Half a second late is what a busy machine may need.
fn expect_elapsed(since: Instant, millis: u64) {
    let elapsed = since.elapsed();
    let due = Duration::from_millis(millis);
    // Frames take a moment to arrive, so that two of them may be closer together than they were sent.
    assert!(elapsed > due - Duration::from_millis(20), "{elapsed:?} instead of {due:?}");
    assert!(elapsed < due + Duration::from_millis(500), "{elapsed:?} instead of {due:?}");
}

#[tokio::test]
async fn what_the_server_sends_does_not_prove_that_the_client_lives() {
    let server = IMPATIENT.get();
    let channel = unique("busy-");
    let mut client = RawWs::connect(server.public, server.app()).await;
    client.established().await;
    client.write_text(&format!(r#"{{"event":"pusher:subscribe","data":{{"channel":"{channel}"}}}}"#)).await;
    client.expect_text().await;
    let mut publisher = HttpConnection::connect(server.public).await;
    let event = Request::trigger(server.app(), &json!({"name": "tick", "channel": channel, "data": "1"}));
    let closed = async {
        loop {
            event.send_over(&mut publisher).await.expect_ok("{}");
            loop {
                let received = client.next(DEADLINE).await.expect("a Close before the end");
                match received.opcode {
                    TEXT => break,
                    PING => {}
                    _ => return received.close_code(),
                }
            }
        }
    };
    assert_eq!(within(DEADLINE, "a Close on a busy channel", closed).await, Some(4201));
}

/// Proxies that look at what clients send cut also listeners of busy channels.
#[tokio::test]
async fn a_listener_of_a_busy_channel_is_pinged_as_often_as_a_silent_one() {
    let server = IMPATIENT.get();
    let channel = unique("busy-");
    let mut client = RawWs::connect(server.public, server.app()).await;
    client.established().await;
    client.write_text(&format!(r#"{{"event":"pusher:subscribe","data":{{"channel":"{channel}"}}}}"#)).await;
    client.expect_text().await;
    let mut publisher = HttpConnection::connect(server.public).await;
    let event = Request::trigger(server.app(), &json!({"name": "tick", "channel": channel, "data": "1"}));
    let pinged = async {
        let mut pings = 0;
        while pings < 3 {
            event.send_over(&mut publisher).await.expect_ok("{}");
            loop {
                let received = client.next(DEADLINE).await.expect("an open connection");
                match received.opcode {
                    TEXT => break,
                    PING => {
                        pings += 1;
                        client.write(&frame(PONG, true, &received.payload)).await;
                    }
                    _ => panic!("{received:?}"),
                }
            }
        }
    };
    within(DEADLINE, "three pings on a busy channel", pinged).await;
}

#[tokio::test]
async fn a_timeout_is_a_leave_for_other_presence_members() {
    let server = IMPATIENT.get();
    let channel = unique("presence-");
    let mut witness = WsClient::connect(&server).await;
    witness.join_as(&channel, "witness").await;
    let mut ghost = RawWs::connect(server.public, server.app()).await;
    let socket_id = ghost.established().await;
    let channel_data = r#"{"user_id":"ghost"}"#;
    let auth = server.app().presence_auth(&socket_id, &channel, channel_data);
    let data = json!({"auth": auth, "channel": channel, "channel_data": channel_data});
    ghost.write_text(&json!({"event": "pusher:subscribe", "data": data}).to_string()).await;
    let roster = Event::read(&ghost.expect_text().await);
    assert_eq!(roster.json()["presence"]["count"], 2);
    witness.expect("pusher_internal:member_added").await;
    let left = witness.expect("pusher_internal:member_removed").await;
    assert_eq!(left.json(), json!({"user_id": "ghost"}));
}
