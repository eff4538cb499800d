//! Bad input: whatever a client sends, it gets the documented answer and disturbs nobody else.

use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::DEADLINE;
use crate::harness::names::unique;
use crate::harness::raw_ws::{
    CLOSE, CONTINUATION, PING, PONG, RawWs, TEXT, frame, frame_with_first_byte, head_claiming, unmasked,
};
use crate::harness::server::TestServer;
use crate::harness::shared::{DEFAULTS, Shared, shared};
use crate::harness::ws::WsClient;

const PUSHER_PING: &[u8] = br#"{"event":"pusher:ping","data":{}}"#;
const PUSHER_PONG: &[u8] = br#"{"event":"pusher:pong","data":"{}"}"#;

/// A bystander with one subscription of each kind.
struct Witness {
    server: Shared,
    client: WsClient,
    channels: [String; 3],
}

impl Witness {
    async fn new(server: Shared) -> Self {
        let mut client = WsClient::connect(&server).await;
        let channels = [unique("public-"), unique("private-"), unique("presence-")];
        client.subscribe(&channels[0]).await;
        client.subscribe(&channels[1]).await;
        client.join_as(&channels[2], "witness").await;
        Self { server, client, channels }
    }

    async fn expect_undisturbed(mut self) {
        self.client.expect_nothing_published(&self.server).await;
        for channel in &self.channels {
            self.server.publish(channel, "still-here", "{}").await;
            let event = self.client.expect("still-here").await;
            assert_eq!(event.channel(), channel);
        }
    }
}

async fn raw(server: &TestServer) -> RawWs {
    let mut client = RawWs::connect(server.public, server.app()).await;
    client.established().await;
    client
}

#[tokio::test]
async fn faulty_messages_are_answered_with_a_reason_and_the_connection_stays() {
    let witness = Witness::new(shared()).await;
    let mut client = WsClient::connect(&witness.server).await;
    for (text, part) in [
        ("", "Received invalid JSON"),
        ("nonsense", "Received invalid JSON"),
        ("{", "Received invalid JSON"),
        (r#"{"event":"pusher:ping"}}"#, "Received invalid JSON"),
        (r#"{"event":"pusher:ping",}"#, "Received invalid JSON"),
        (r#"{"event":"\ud800","channel":"private-x"}"#, ""),
        ("[]", "Received invalid JSON"),
        (r#"["pusher:ping"]"#, "Received invalid JSON"),
        (r#""pusher:ping""#, "Received invalid JSON"),
        ("1", "Received invalid JSON"),
        ("null", "Received invalid JSON"),
        ("{}", "Missing parameter: event"),
        (r#"{"event":null}"#, "Missing parameter: event"),
        (r#"{"event":1}"#, "event must be a string"),
        (r#"{"event":{}}"#, "event must be a string"),
        (r#"{"event":["pusher:ping"]}"#, "event must be a string"),
        (r#"{"event":""}"#, ""),
        (r#"{"event":"pusher:subscribe"}"#, "Missing parameter: data"),
        (r#"{"event":"pusher:subscribe","data":null}"#, "Missing parameter: data"),
        (r#"{"event":"pusher:subscribe","data":{}}"#, "Missing parameter: channel"),
        (r#"{"event":"pusher:subscribe","data":"{}"}"#, "Missing parameter: channel"),
        (r#"{"event":"pusher:subscribe","data":"nonsense"}"#, "Received invalid JSON"),
        (r#"{"event":"pusher:subscribe","data":[]}"#, "data must be an object"),
        (r#"{"event":"pusher:subscribe","data":7}"#, "data must be an object"),
        (r#"{"event":"pusher:subscribe","data":{"channel":null}}"#, "Missing parameter: channel"),
        (r#"{"event":"pusher:subscribe","data":{"channel":1}}"#, "channel must be a string"),
        (r#"{"event":"pusher:subscribe","data":{"channel":["news"]}}"#, "channel must be a string"),
        (r#"{"event":"pusher:subscribe","channel":"news"}"#, "Missing parameter: data"),
        (r#"{"event":"pusher:unsubscribe"}"#, "Missing parameter: data"),
        (r#"{"event":"pusher:unsubscribe","data":{}}"#, "Missing parameter: channel"),
        (r#"{"event":"pusher:unsubscribe","data":{"channel":{}}}"#, "channel must be a string"),
        (r#"{"event":"client-x","data":{}}"#, "Missing parameter: channel"),
        (r#"{"event":"client-x","channel":5,"data":{}}"#, "channel must be a string"),
        (r#"{"event":"pusher:nonsense","data":{}}"#, "pusher:nonsense"),
        (r#"{"event":"pusher:error","data":{"code":4001,"message":"x"}}"#, "pusher:error"),
        (r#"{"event":"pusher:connection_established","data":"{}"}"#, "pusher:connection_established"),
        (r#"{"event":"PUSHER:PING","data":{}}"#, ""),
    ] {
        client.send_text(text).await;
        let error = client.expect_error(None, part).await;
        assert_eq!(error.channel, None, "an error of the connection names no channel");
    }
    client.expect_nothing().await;
    witness.expect_undisturbed().await;
}

#[tokio::test]
async fn what_is_not_the_clients_to_send_is_refused_and_reaches_nobody() {
    let witness = Witness::new(shared()).await;
    let [_, private, presence] = &witness.channels;
    let mut client = WsClient::connect(&witness.server).await;
    client.subscribe(private).await;
    for channel in &witness.channels {
        for event in [
            "pusher_internal:member_added",
            "pusher_internal:member_removed",
            "pusher_internal:subscription_succeeded",
            "pusher_internal:x",
            "pusher:subscription_succeeded",
            "pusher:cache_miss",
            "MessageReceived",
            "App\\Events\\MessageReceived",
            "xclient-typing",
            " client-typing",
            "Client-typing",
            "client",
        ] {
            client
                .send_json(&json!({"event": event, "channel": channel, "data": "{\"user_id\":\"1\"}"}))
                .await;
            client.expect_error(None, "").await;
        }
    }
    client.expect_nothing().await;
    assert!(presence.starts_with("presence-"));
    let mut witness = witness;
    witness.client.expect_nothing().await;
    witness.expect_undisturbed().await;
}

#[tokio::test]
async fn data_of_service_events_may_be_a_string_that_holds_json() {
    let server = shared();
    let mut client = WsClient::connect(&server).await;
    let channel = unique("private-");
    let auth = server.app().channel_auth(&client.socket_id, &channel);
    let data = json!({"auth": auth, "channel": channel}).to_string();
    client.send_json(&json!({"event": "pusher:subscribe", "data": data})).await;
    client.expect_subscribed(&channel).await;
    let data = json!({"channel": channel}).to_string();
    client.send_json(&json!({"event": "pusher:unsubscribe", "data": data})).await;
    let user_data = r#"{"id":"string-data"}"#;
    let data = json!({"auth": server.app().user_auth(&client.socket_id, user_data), "user_data": user_data});
    client.send_json(&json!({"event": "pusher:signin", "data": data.to_string()})).await;
    client.expect("pusher:signin_success").await;
    server.publish(&channel, "x", "{}").await;
    client.expect_nothing_published(&server).await;
}

#[tokio::test]
async fn unknown_fields_escapes_and_blanks_do_not_matter() {
    let server = shared();
    let mut client = WsClient::connect(&server).await;
    let channel = unique("news-");
    client
        .send_text(&format!(
            "\r\n\t{{ \"x\" : [1, {{}}], \"data\" : {{ \"channel_data\": null, \"auth\" : null, \"more\": {{}},\r\n \
             \"channel\" : \"{channel}\" }}, \"event\" : \"pusher\\u003asubscribe\" }}\n"
        ))
        .await;
    client.expect_subscribed(&channel).await;
}

#[tokio::test]
async fn deep_nesting_is_refused_or_read_and_harms_nothing() {
    let witness = Witness::new(shared()).await;
    let mut client = WsClient::connect(&witness.server).await;
    let (open, close) = ("[".repeat(9_000), "]".repeat(9_000));
    let objects = format!("{}1{}", r#"{"a":"#.repeat(4_000), "}".repeat(4_000));
    for text in [
        open.clone(),
        format!("{open}{close}"),
        objects.clone(),
        format!(r#"{{"event":"nonsense","data":{open}{close}}}"#),
        format!(r#"{{"event":"pusher:subscribe","data":{objects}}}"#),
        format!(r#"{{"x":{open}{close}}}"#),
    ] {
        client.send_text(&text).await;
        client.expect_error(None, "").await;
    }
    witness.expect_undisturbed().await;
}

#[tokio::test]
async fn a_binary_frame_is_closed_with_1003() {
    let witness = Witness::new(shared()).await;
    for payload in [PUSHER_PING.to_vec(), Vec::new(), vec![0; 1000]] {
        let mut client = WsClient::connect(&witness.server).await;
        client.send_message(Message::binary(payload)).await;
        client.expect_close(1003).await;
    }
    witness.expect_undisturbed().await;
}

#[tokio::test]
async fn a_large_subscribe_frame_is_read() {
    let server = shared();
    let app = server.app_with_id(DEFAULTS);
    let mut client = WsClient::connect_to(&server, app).await;
    let channel = unique("private-");
    let channel_data = format!(r#"{{"user_info":"{}"}}"#, "x".repeat(60_000));
    client.send_subscribe_presence(&channel, &channel_data).await;
    client.expect_subscribed(&channel).await;
}

#[tokio::test]
async fn an_oversized_message_is_closed_with_1009_without_being_read() {
    let witness = Witness::new(shared()).await;
    for claimed in [1_u64 << 24, 1 << 31, 1 << 40, (1 << 63) - 1] {
        let mut client = raw(&witness.server).await;
        client.write(&head_claiming(TEXT, claimed)).await;
        client.expect_close(1009).await;
    }
    witness.expect_undisturbed().await;
}

#[tokio::test]
async fn fragments_that_add_up_to_too_much_are_closed_with_1009() {
    let witness = Witness::new(shared()).await;
    let mut client = raw(&witness.server).await;
    let part = [b'x'; 16 * 1024];
    client.write(&frame(TEXT, false, &part)).await;
    // The default limit of 64 KiB and more; the server may close while we write.
    for _ in 0..64 {
        if !client.try_write(&frame(CONTINUATION, false, &part)).await {
            break;
        }
    }
    client.expect_close(1009).await;
    witness.expect_undisturbed().await;
}

#[tokio::test]
async fn text_that_is_not_utf8_is_closed_with_1007() {
    let witness = Witness::new(shared()).await;
    let overlong = b"{\"event\":\"\xc0\xaf\"}".as_slice();
    let surrogate = b"{\"event\":\"\xed\xa0\x80\"}".as_slice();
    let cut = b"{\"event\":\"\xf0\x9f\x90".as_slice();
    for payload in [overlong, surrogate, cut, b"\xff"] {
        let mut client = raw(&witness.server).await;
        client.write(&frame(TEXT, true, payload)).await;
        client.expect_close(1007).await;
    }
    let mut client = raw(&witness.server).await;
    client.write(&frame(TEXT, false, b"{\"event\":\"")).await;
    client.write(&frame(CONTINUATION, false, b"\xf0\x9f")).await;
    client.write(&frame(CONTINUATION, true, b"x\"}")).await;
    client.expect_close(1007).await;
    witness.expect_undisturbed().await;
}

#[tokio::test]
async fn violations_of_the_websocket_protocol_are_closed_with_1002() {
    let witness = Witness::new(shared()).await;
    let in_the_middle = [frame(TEXT, false, b"{"), frame(TEXT, true, PUSHER_PING)].concat();
    for (what, bytes) in [
        ("an unmasked frame", unmasked(TEXT, PUSHER_PING)),
        ("an unmasked ping", unmasked(PING, b"")),
        ("reserved bit 1", frame_with_first_byte(0x80 | 0x40 | TEXT, PUSHER_PING)),
        ("reserved bit 2", frame_with_first_byte(0x80 | 0x20 | TEXT, PUSHER_PING)),
        ("reserved bit 3", frame_with_first_byte(0x80 | 0x10 | PING, b"")),
        ("opcode 3", frame(0x3, true, b"")),
        ("opcode 7", frame(0x7, true, b"x")),
        ("opcode 11", frame(0xB, true, b"")),
        ("opcode 15", frame(0xF, true, b"")),
        ("a fragmented ping", frame(PING, false, b"")),
        ("a fragmented close", frame(CLOSE, false, &[3, 232])),
        ("a ping of 126 bytes", frame(PING, true, &[0; 126])),
        ("a pong of 1000 bytes", frame(PONG, true, &[0; 1000])),
        ("a continuation of nothing", frame(CONTINUATION, true, PUSHER_PING)),
        ("an unfinished continuation of nothing", frame(CONTINUATION, false, PUSHER_PING)),
        ("a message within a message", in_the_middle),
        ("a close of one byte", frame(CLOSE, true, &[3])),
        ("close code 999", frame(CLOSE, true, &999_u16.to_be_bytes())),
        ("close code 1005", frame(CLOSE, true, &1005_u16.to_be_bytes())),
        ("close code 1006", frame(CLOSE, true, &1006_u16.to_be_bytes())),
    ] {
        let mut client = raw(&witness.server).await;
        client.write(&bytes).await;
        let answer = client.next(DEADLINE).await.unwrap_or_else(|| panic!("{what}: no Close"));
        assert_eq!(answer.close_code(), Some(1002), "{what}: {answer:?}");
        assert_eq!(client.next(DEADLINE).await, None, "{what}: nothing follows a Close");
    }
    witness.expect_undisturbed().await;
}

#[tokio::test]
async fn a_fragmented_message_with_a_ping_in_between_is_read() {
    let server = shared();
    let mut client = raw(&server).await;
    client.write(&frame(TEXT, false, &PUSHER_PING[..5])).await;
    client.write(&frame(PING, true, b"between")).await;
    client.expect_frame(PONG, b"between").await;
    client.write(&frame(CONTINUATION, false, &PUSHER_PING[5..20])).await;
    client.write(&frame(CONTINUATION, false, b"")).await;
    client.write(&frame(CONTINUATION, true, &PUSHER_PING[20..])).await;
    client.expect_frame(TEXT, PUSHER_PONG).await;
}

#[tokio::test]
async fn a_character_may_be_split_between_fragments() {
    let server = shared();
    let mut client = raw(&server).await;
    client.write(&frame(TEXT, false, b"{\"event\":\"pusher:ping\",\"data\":\"\xf0\x9f")).await;
    client.write(&frame(CONTINUATION, true, b"\x90\x98\"}")).await;
    client.expect_frame(TEXT, PUSHER_PONG).await;
}

#[tokio::test]
async fn frames_may_arrive_byte_by_byte() {
    let server = shared();
    let mut client = raw(&server).await;
    for byte in [frame(TEXT, true, PUSHER_PING), frame(PING, true, b"slow")].concat() {
        client.write(&[byte]).await;
    }
    client.expect_frame(TEXT, PUSHER_PONG).await;
    client.expect_frame(PONG, b"slow").await;
}

#[tokio::test]
async fn frames_of_one_write_are_answered_in_order() {
    let server = shared();
    let mut client = raw(&server).await;
    let channel = unique("news-");
    let subscribe = format!(r#"{{"event":"pusher:subscribe","data":{{"channel":"{channel}"}}}}"#);
    let unsubscribe = format!(r#"{{"event":"pusher:unsubscribe","data":{{"channel":"{channel}"}}}}"#);
    let burst: Vec<u8> = [
        subscribe.as_bytes(),
        PUSHER_PING,
        b"nonsense",
        unsubscribe.as_bytes(),
        subscribe.as_bytes(),
        PUSHER_PING,
    ]
    .iter()
    .flat_map(|text| frame(TEXT, true, text))
    .collect();
    client.write(&burst).await;
    let succeeded = format!(
        r#"{{"event":"pusher_internal:subscription_succeeded","channel":"{channel}","data":"{{}}"}}"#
    );
    client.expect_frame(TEXT, succeeded.as_bytes()).await;
    client.expect_frame(TEXT, PUSHER_PONG).await;
    assert!(client.expect_text().await.contains("Received invalid JSON"));
    client.expect_frame(TEXT, succeeded.as_bytes()).await;
    client.expect_frame(TEXT, PUSHER_PONG).await;
}

#[tokio::test]
async fn a_close_of_the_client_is_answered_in_kind_and_ends_tcp() {
    let server = shared();
    for payload in [
        &b""[..],
        &1000_u16.to_be_bytes(),
        b"\x03\xe9going away",
        &3000_u16.to_be_bytes(),
        &4999_u16.to_be_bytes(),
    ] {
        let mut client = raw(&server).await;
        client.write(&frame(CLOSE, true, payload)).await;
        let answer = client.next(DEADLINE).await.expect("a Close");
        assert_eq!(answer.opcode, CLOSE);
        let sent_code = payload.get(..2).map(|code| u16::from_be_bytes([code[0], code[1]]));
        assert!([sent_code, Some(1000)].contains(&answer.close_code()), "{answer:?}");
        assert_eq!(client.next(DEADLINE).await, None, "nothing follows a Close");
    }
}

#[tokio::test]
async fn what_follows_a_close_is_ignored() {
    let witness = Witness::new(shared()).await;
    let mut client = raw(&witness.server).await;
    let data = json!({"channel": witness.channels[0]});
    let subscribe = json!({"event": "pusher:subscribe", "data": data}).to_string();
    let bytes =
        [frame(CLOSE, true, &1000_u16.to_be_bytes()), frame(TEXT, true, subscribe.as_bytes())].concat();
    client.write(&bytes).await;
    client.expect_close(1000).await;
    witness.expect_undisturbed().await;
}

#[tokio::test]
async fn an_unreasonable_number_of_faults_is_closed_with_4100() {
    let witness = Witness::new(shared()).await;
    let mut client = WsClient::connect(&witness.server).await;
    let mut faults = 0;
    while faults < 1000 && client.try_send_text("nonsense").await {
        faults += 1;
        let error = client.expect("pusher:error").await;
        if error.code().is_some() {
            assert_eq!(error.code(), Some(4100), "{}", error.text);
            break;
        }
        // The error that closes may follow the one for the last fault at once.
        assert!(faults < 1000, "still open after {faults} faults");
    }
    assert!(faults > 50, "{faults} faults are not unreasonable");
    client.expect_close(4100).await;
    witness.expect_undisturbed().await;
}

#[tokio::test]
async fn names_in_errors_are_cut() {
    let server = shared();
    let mut client = WsClient::connect(&server).await;
    let long = "x".repeat(30_000);
    for message in [
        json!({"event": long, "data": {}}),
        json!({"event": format!("pusher:{long}"), "data": {}}),
        json!({"event": "pusher:subscribe", "data": {"channel": long}}),
        json!({"event": "pusher:subscribe", "data": {"channel": "private-x", "auth": format!("{long}:{long}")}}),
        json!({"event": "pusher:subscribe", "data": {"channel": "private-x", "auth": format!("{}:{long}", server.app().key)}}),
    ] {
        client.send_json(&message).await;
        for answer in client.drain().await {
            assert!(answer.text.len() < 4096, "{} bytes: {}", answer.text.len(), &answer.text[..200]);
        }
    }
}
