use super::*;
use crate::config::{RoutingSettings, Secret};
use crate::http_client::test_server::{Behaviour, TestServer};
use crate::routing::carrier::Accepted;

const BODY: &[u8] = br#"{"from":"+13125550100","to":"+13125550101","text":"Hello"}"#;
const KEY: &str = "0190b6c2-7a5e-7c11-9d57-2f0c6f0e4a11";

fn settings(base_url: String) -> TelnyxSettings {
    TelnyxSettings {
        api_key: Some(Secret::new("KEY_TEST".to_owned())),
        base_url,
        connect_timeout: Duration::from_secs(1),
        timeout: Duration::from_secs(5),
        ..RoutingSettings::default().telnyx
    }
}

fn json(status: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
}

async fn send_to(behaviour: Behaviour, timeout: Duration) -> (Outcome, Vec<String>) {
    let server = TestServer::start(vec![behaviour]).await;
    let telnyx = Telnyx::new(&TelnyxSettings { timeout, ..settings(server.url("/v2/")) }).expect("fine");
    let outcome = telnyx.send(Call::Message, Bytes::from_static(BODY), Some(KEY)).await;
    (outcome, server.requests())
}

#[tokio::test]
async fn the_request_has_exactly_the_given_bytes_and_key() {
    let accepted = json("200 OK", r#"{"data":{"id":"m1","to":[{"status":"queued"}]}}"#);
    let (outcome, requests) = send_to(Behaviour::Answer(accepted.clone()), Duration::from_secs(5)).await;
    assert!(matches!(outcome, Outcome::Accepted(Accepted { carrier_id, .. }) if carrier_id == "m1"));
    let (head, body) = requests[0].split_once("\r\n\r\n").expect("a request");
    assert_eq!(body.as_bytes(), BODY);
    assert!(head.starts_with("POST /v2/messages HTTP/1.1\r\n"), "{head}");
    for line in [
        "authorization: Bearer KEY_TEST",
        "content-type: application/json",
        &format!("idempotency-key: {KEY}"),
        "accept: application/json",
    ] {
        assert!(head.lines().any(|seen| seen == line), "{line:?} is not in {head}");
    }

    let server = TestServer::start(vec![Behaviour::Answer(accepted)]).await;
    let telnyx = Telnyx::new(&settings(server.url("/v2"))).expect("fine");
    let _ = telnyx.send(Call::Message, Bytes::from_static(BODY), None).await;
    assert!(!server.requests()[0].contains("idempotency-key"));
}

#[tokio::test]
async fn a_message_to_a_group_has_a_call_of_its_own() {
    let answer = json("200 OK", r#"{"data":{"id":"m1","group_message_id":"g1","to":[{"status":"queued"}]}}"#);
    let server = TestServer::start(vec![Behaviour::Answer(answer)]).await;
    let telnyx = Telnyx::new(&settings(server.url("/v2"))).expect("fine");
    let outcome = telnyx.send(Call::Group, Bytes::from_static(BODY), Some(KEY)).await;
    assert!(server.requests()[0].starts_with("POST /v2/messages/group_mms HTTP/1.1\r\n"));
    assert!(matches!(outcome, Outcome::Accepted(Accepted { carrier_id, .. }) if carrier_id == "g1"));
}

#[tokio::test]
async fn each_way_to_fail_has_its_outcome_and_makes_one_request() {
    let error = |code: &str| format!(r#"{{"errors":[{{"code":"{code}","title":"T"}}]}}"#);
    let half = "HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{\"data\":{\"id\":\"m1\"";
    let html = "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>";
    let cases = [
        (Behaviour::Answer(json("409 Conflict", &error("40300"))), "refused"),
        (Behaviour::Answer(json("409 Conflict", &error("10036"))), "in_progress"),
        (Behaviour::Answer(json("429 Too Many", &error("10011"))), "throttled"),
        (Behaviour::Answer(json("429 Too Many", &error("40333"))), "config"),
        (Behaviour::Answer(json("401 Unauthorized", "")), "config"),
        (Behaviour::Answer(json("500 Oh", &error("10007"))), "unclear"),
        (Behaviour::Answer(json("302 Found\r\nLocation: /v2/other", "")), "unclear"),
        (Behaviour::Answer(html.to_owned()), "unclear"),
        (Behaviour::Answer(json("200 OK", r#"{"data":{"parts":1}}"#)), "unclear"),
        (Behaviour::Answer(json("200 OK", "garbage")), "unclear"),
        (Behaviour::AnswerAndClose(half.to_owned()), "unclear"),
        (Behaviour::AnswerAndClose(String::new()), "unclear"),
        (Behaviour::AnswerAndClose("not HTTP\r\n\r\n".to_owned()), "unclear"),
        (Behaviour::Reset, "unclear"),
    ];
    for (behaviour, class) in cases {
        let (outcome, requests) = send_to(behaviour.clone(), Duration::from_secs(5)).await;
        assert_eq!(outcome.class(), class, "{behaviour:?} gave {outcome:?}");
        assert_eq!(requests.len(), 1, "{behaviour:?}");
    }
    let (outcome, requests) = send_to(Behaviour::Hang, Duration::from_millis(50)).await;
    assert_eq!((outcome.class(), requests.len()), ("unclear", 1));
}

#[tokio::test]
async fn without_a_connection_nothing_was_sent() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound");
    let plain = TestServer::start(vec![Behaviour::Hang]).await;
    for base_url in [format!("http://{free}/v2"), plain.url("/v2").replace("http:", "https:")] {
        let telnyx = Telnyx::new(&settings(base_url.clone())).expect("fine");
        let outcome = telnyx.send(Call::Message, Bytes::from_static(BODY), Some(KEY)).await;
        assert_eq!(outcome.class(), "not_sent", "{base_url} gave {outcome:?}");
    }
}

#[tokio::test]
async fn cancelling_deletes_the_message() {
    let bare = json("200 OK", r#"{"id":"m-1","to":[{"status":"cancelled"}]}"#);
    let gone = json("404 Not Found", r#"{"errors":[{"code":"40303","title":"Message not found"}]}"#);
    let server = TestServer::start(vec![Behaviour::Answer(bare), Behaviour::Answer(gone)]).await;
    let telnyx = Telnyx::new(&settings(server.url("/v2"))).expect("fine");
    assert_eq!(telnyx.cancel("m-1").await, Cancellation::Cancelled);
    let again = telnyx.cancel("../m").await;
    assert!(matches!(again, Cancellation::Refused(error) if error.code == "40303"));
    assert!(server.requests()[0].starts_with("DELETE /v2/messages/m-1 HTTP/1.1\r\n"));
    assert!(server.requests()[1].starts_with("DELETE /v2/messages/%2E%2E%2Fm HTTP/1.1\r\n"));
}

#[tokio::test]
async fn the_opt_out_list_is_read_to_its_last_page() {
    let page = |number: &str, row: &str| {
        json("200 OK", &format!(r#"{{"data":[{row}],"meta":{{"page_number":{number},"total_pages":2}}}}"#))
    };
    let first = r#"{"from":null,"to":"+13125550101","keyword":"STOP","messaging_profile_id":"p1",
        "created_at":"2026-11-22T19:13:30Z"},{"to":null}"#;
    let second = r#"{"from":"+13125550100","to":"+13125550102"}"#;
    let pages = vec![Behaviour::Answer(page("1", first)), Behaviour::Answer(page("2", second))];
    let server = TestServer::start(pages).await;
    let telnyx = Telnyx::new(&settings(server.url("/v2"))).expect("fine");
    let list = telnyx.opt_outs().await.expect("a list");
    let seen: Vec<_> = list.iter().map(|entry| (entry.number.as_str(), entry.from.as_deref())).collect();
    assert_eq!(seen, [("+13125550101", None), ("+13125550102", Some("+13125550100"))]);
    assert_eq!(list[0].keyword.as_deref(), Some("STOP"));
    assert_eq!(list[0].profile_id.as_deref(), Some("p1"));
    assert_eq!(list[0].created_at_us, Some(1_795_374_810_000_000));
    let requests = server.requests();
    assert!(requests[1].starts_with("GET /v2/messaging_optouts?page%5Bnumber%5D=2&page%5Bsize%5D=250 "));
    assert_eq!(requests.len(), 2);

    let refusing =
        json("401 Unauthorized", r#"{"errors":[{"code":"10009","title":"Authentication failed"}]}"#);
    let server = TestServer::start(vec![Behaviour::Answer(refusing)]).await;
    let telnyx = Telnyx::new(&settings(server.url("/v2"))).expect("fine");
    let failed = telnyx.opt_outs().await.err().expect("refused");
    assert_eq!(failed.to_string(), "HTTP 401: 10009 Authentication failed");
}

#[test]
fn settings_that_allow_no_calls_are_refused_and_the_key_is_never_shown() {
    let fine = settings("https://api.telnyx.com/v2".to_owned());
    assert_eq!(format!("{:?}", Telnyx::new(&fine).expect("fine")), "Telnyx");
    let no_key = TelnyxSettings { api_key: None, ..fine.clone() };
    assert_eq!(Telnyx::new(&no_key).err(), Some(SetUpError::NoApiKey));
    let bad_key = TelnyxSettings { api_key: Some(Secret::new("a\nb".to_owned())), ..fine.clone() };
    assert_eq!(Telnyx::new(&bad_key).err(), Some(SetUpError::BadApiKey));
    for base_url in ["", "api.telnyx.com", "ftp://x/v2", "/v2", "https://"] {
        let bad = TelnyxSettings { base_url: base_url.to_owned(), ..fine.clone() };
        assert_eq!(Telnyx::new(&bad).err(), Some(SetUpError::BadBaseUrl), "{base_url}");
    }
}
