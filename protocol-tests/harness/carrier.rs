//! The carrier's stand-in (`carrier/README.md`): accepts messages as Telnyx does, misbehaves when told to,
//! and remembers everything it saw.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::DEADLINE;
use super::http::exchange;
use super::script::Script;
use crate::clients::installed;

/// A running stand-in. Dropping it ends the process.
#[derive(Debug)]
pub struct Carrier {
    /// Only kept running.
    _script: Script,
    addr: SocketAddr,
    /// What a program under test is given as the carrier's API.
    pub api_base: String,
    /// What it is given as the carrier's public key, base64.
    pub public_key: String,
}

/// The key the stand-in accepts.
pub const API_KEY: &str = "KEY_TEST";

impl Carrier {
    /// With all settings by default.
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// With these arguments (`fake_telnyx.py --help`). What can be changed while it runs is easier
    /// changed by [`Self::settings`].
    pub async fn with(args: &[&str]) -> Self {
        let mut command = Command::new(installed(".venv/bin/python"));
        command.arg(installed("carrier/fake_telnyx.py")).args(["--port", "0", "--while-stdin"]).args(args);
        let mut script = Script::spawn(command);
        let ready = script.next().await;
        assert_eq!(ready["event"], "ready", "{ready}");
        let text = |field: &str| ready[field].as_str().expect("a string in the ready line").to_owned();
        let addr = text("url").trim_start_matches("http://").parse().expect("an address");
        Self { _script: script, addr, api_base: text("api_base"), public_key: text("public_key") }
    }

    /// Changes running settings, named as in `GET /_settings`.
    pub async fn settings(&self, change: Value) {
        self.admin("POST", "/_settings", &change).await;
    }

    /// The next `times` messages (-1: all) that `only` matches (`to`, `from`, part of `text`; `{}`: any)
    /// meet this fault.
    pub async fn fault(&self, preset: &str, times: i64, only: Value) {
        self.fault_with(json!({"preset": preset, "times": times, "match": only})).await;
    }

    /// A fault in full: presets may be overridden field by field.
    pub async fn fault_with(&self, fault: Value) {
        self.admin("POST", "/_faults", &fault).await;
    }

    /// No faults from here on.
    pub async fn no_faults(&self) {
        self.admin("DELETE", "/_faults", &json!({})).await;
    }

    /// API requests seen, in their order; `query` as in the README: `to=+1…` must be encoded, `text=…`.
    pub async fn requests(&self, query: &str) -> Vec<Value> {
        self.list("requests", query).await
    }

    /// Attempts to send seen so far.
    pub async fn sends(&self) -> Vec<Value> {
        self.requests("method=POST").await
    }

    /// Accepted messages with their present state.
    pub async fn messages(&self) -> Vec<Value> {
        self.list("messages", "").await
    }

    /// Webhook events with each of their attempts.
    pub async fn events(&self, query: &str) -> Vec<Value> {
        self.list("events", query).await
    }

    async fn list(&self, what: &str, query: &str) -> Vec<Value> {
        let mut answer = self.admin("GET", &format!("/_{what}?{query}"), &Value::Null).await;
        match answer[what].take() {
            Value::Array(rows) => rows,
            other => panic!("{what} is no list: {other}"),
        }
    }

    pub async fn stats(&self) -> Value {
        self.admin("GET", "/_stats", &Value::Null).await
    }

    /// Waits until each count of [`Self::stats`] is reached (`accepted=3&events_delivered=6&idle=1`), and
    /// returns them all.
    pub async fn wait(&self, counts: &str) -> Value {
        self.wait_within(DEADLINE, counts).await
    }

    pub async fn wait_within(&self, limit: Duration, counts: &str) -> Value {
        let end = Instant::now() + limit;
        loop {
            // In pieces, as an answer over HTTP has a deadline of its own.
            let left = end.saturating_duration_since(Instant::now()).min(Duration::from_secs(5));
            let path = format!("/_wait?{counts}&timeout={}", left.as_secs_f32());
            let (status, stats) = self.call("GET", &path, &Value::Null).await;
            if status == 200 {
                return stats;
            }
            assert!(Instant::now() < end, "waited {limit:?} in vain for {counts}: {stats}");
        }
    }

    /// Fails when more than `count` attempts to send have come after `time`. For what must not happen
    /// although nothing marks the moment at which it would have.
    pub async fn stays_at(&self, count: usize, time: Duration) {
        let path = format!("/_wait?sends={}&timeout={}", count + 1, time.as_secs_f32());
        let (status, stats) = self.call("GET", &path, &Value::Null).await;
        assert_eq!(status, 408, "more than {count} sends: {stats}");
        assert_eq!(stats["sends"], count, "{stats}");
    }

    /// Fails when any text went out twice, or not `distinct` ones did.
    pub async fn sent_once(&self, distinct: usize) {
        let stats = self.stats().await;
        assert_eq!(stats["sent_twice"], json!([]), "{stats}");
        assert_eq!(stats["distinct"], distinct, "{stats}");
    }

    /// Somebody texts an own number; `{"from", "to", "text", …}`. Returns `{"event_id", "message_id", …}`.
    pub async fn inbound(&self, message: Value) -> Value {
        self.admin("POST", "/_inbound", &message).await
    }

    /// Any other event, signed: `{"event_type", "payload", …}`.
    pub async fn event(&self, event: Value) -> Value {
        self.admin("POST", "/_event", &event).await
    }

    /// Delivers an event again.
    pub async fn redeliver(&self, event_id: &str, times: u64) {
        self.admin("POST", &format!("/_events/{event_id}/redeliver"), &json!({"times": times})).await;
    }

    /// A final state: with the setting `manual_finalize`, or a second one that contradicts the first.
    pub async fn finalize(&self, message_id: &str, status: &str, errors: &[&str]) {
        let change = json!({"id": message_id, "status": status, "errors": errors});
        self.admin("POST", "/_finalize", &change).await;
    }

    /// The final state of one recipient of a group.
    pub async fn finalize_one(&self, message_id: &str, to: &str, status: &str, errors: &[&str]) {
        let change = json!({"id": message_id, "to": to, "status": status, "errors": errors});
        self.admin("POST", "/_finalize", &change).await;
    }

    async fn admin(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, answer) = self.call(method, path, body).await;
        assert_eq!(status, 200, "{method} {path} {body}: {answer}");
        answer
    }

    async fn call(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: carrier\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = exchange(self.addr, request).await;
        (answer.status, answer.json())
    }
}

#[tokio::test]
async fn harness_carrier_accepts_signs_and_misbehaves() {
    let mut portal = super::portal::Portal::start().await;
    let carrier = Carrier::with(&["--random-seed", "1"]).await;
    carrier.settings(json!({"webhook_url": portal.url()})).await;
    carrier.fault("unavailable", 1, json!({"to": "+13125550199"})).await;
    let send = async |text: &str| {
        let body = json!({"from": "+13125550100", "to": "+13125550199", "text": text}).to_string();
        let request = format!(
            "POST /v2/messages HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {API_KEY}\r\n\
             Content-Type: application/json\r\nIdempotency-Key: a\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        exchange(carrier.addr, request).await
    };
    assert_eq!(send("one").await.status, 503);
    let accepted = send("one").await.json();
    assert_eq!(send("one").await.header("idempotent-replayed"), Some("true"));
    let stats = carrier.wait("accepted=1&events_delivered=2&idle=1").await;
    assert_eq!((&stats["sends"], &stats["replayed"]), (&json!(3), &json!(1)));
    for _ in 0..2 {
        let event = portal.next().await;
        assert_eq!(event.json()["data"]["payload"]["id"], accepted["data"]["id"]);
        assert!(event.header("telnyx-signature-ed25519").is_some());
    }
    carrier.stays_at(3, Duration::from_millis(50)).await;
    carrier.sent_once(1).await;
    assert_eq!(carrier.sends().await[0]["idempotency_key"], "a");
    let inbound = carrier.inbound(json!({"from": "+75973", "to": "+13125550100", "text": "STOP"})).await;
    assert_eq!(inbound["autoresponse_type"], "STOP");
    assert_eq!(portal.next().await.json()["data"]["id"], inbound["event_id"]);
}
