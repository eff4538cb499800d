//! docs/messaging-api.md: each call of the table with a request that a server was given and its answer.
//!
//! `UPDATE_DOCS=1 cargo test --test protocol messaging::reference` writes the page.

mod layout;
mod page;
mod steady;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::documentation::read;
use crate::harness::DEADLINE;
use crate::harness::http::{Response, get};
use crate::harness::messaging::{ANN, BOB, OUTSIDE, Router, plain};

const PAGE: &str = "docs/messaging-api.md";

/// A request and its answer, ready to be printed.
struct Example {
    method: &'static str,
    /// As in the table of calls: `{id}` stands for an id.
    call: &'static str,
    /// As it was asked for, with the query.
    target: String,
    body: Option<Value>,
    answer: Value,
}

/// Makes requests and keeps them.
struct Recorder<'a> {
    router: &'a Router,
    examples: Vec<Example>,
}

impl<'a> Recorder<'a> {
    fn new(router: &'a Router) -> Self {
        Self { router, examples: Vec::new() }
    }

    /// A POST, whose `{id}` is `id`.
    async fn post(&mut self, call: &'static str, id: &str, body: Value) -> Value {
        let target = call.replace("{id}", id);
        let answer = Box::pin(self.router.ok(&target, body.clone())).await;
        self.keep("POST", call, target, Some(body), answer)
    }

    /// A GET, whose `{id}` is `id`.
    async fn get(&mut self, call: &'static str, id: &str, params: &[(&str, &str)]) -> Value {
        let path = call.replace("{id}", id);
        let answer = Box::pin(self.router.get(&path, params)).await;
        let query: Vec<_> = params.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mark = if query.is_empty() { "" } else { "?" };
        self.keep("GET", call, format!("{path}{mark}{}", query.join("&")), None, answer)
    }

    fn keep(
        &mut self,
        method: &'static str,
        call: &'static str,
        target: String,
        body: Option<Value>,
        answer: Value,
    ) -> Value {
        let kept = answer.clone();
        self.examples.push(Example { method, call, target, body, answer });
        kept
    }
}

#[tokio::test]
async fn the_page_of_the_api_shows_what_a_server_answers() {
    let router = Router::setup().routing("tokens.enabled", true).start().await;
    let mut recorder = Recorder::new(&router);
    // Apart, as all of them together are too large for a test's thread.
    Box::pin(messages(&mut recorder)).await;
    Box::pin(directory(&mut recorder)).await;
    let mut examples = recorder.examples;
    let refusal = router.post("/messages", &json!({"user_id": 1, "to": ANN, "text": "Hello"})).await;
    let document = get(router.server().public, "/openapi.json").await.expect_status(200).json();
    examples.extend(Box::pin(callbacks()).await);
    examples.extend(Box::pin(outside()).await);
    examples.iter_mut().for_each(steady::settle);

    let made = page::page(&document, &examples, &refused(&refusal));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
        std::fs::write(path, &made).expect("written");
    }
    let kept = read(PAGE).unwrap_or_default();
    let differs = made.lines().zip(kept.lines()).find(|(made, kept)| made != kept);
    assert!(
        made == kept,
        "{PAGE} is stale, first at {differs:?}: UPDATE_DOCS=1 cargo test --test protocol messaging::reference"
    );
}

fn refused(answer: &Response) -> Value {
    answer.refused(422, "self_message");
    answer.json()
}

/// Ann writes to Bob and to somebody outside the portal.
async fn messages(recorder: &mut Recorder<'_>) {
    let to_bob =
        json!({"user_id": 1, "to": "(312) 555-0101", "text": "Hello", "idempotency_key": "order-4711"});
    let sent = recorder.post("/messages", "", to_bob).await;
    let (message, thread) = (plain(&sent["message"]["id"]), plain(&sent["conversation"]["id"]));
    let user = [("user_id", "1")];
    recorder.get("/messages/{id}", &message, &user).await;
    recorder.get("/messages/{id}/decision", &message, &user).await;
    recorder.post("/messages/{id}/edit", &message, json!({"user_id": 1, "text": "Hello Bob"})).await;
    recorder.post("/messages/{id}/delete", &message, json!({"user_id": 1, "scope": "everyone"})).await;
    recorder.router.carrier.fault("invalid_number", 1, json!({})).await;
    let refused = recorder.router.send(1, OUTSIDE, "Are you there?").await;
    assert_eq!(refused["message"]["status"], "failed", "{refused}");
    recorder.post("/messages/{id}/retry", &plain(&refused["message"]["id"]), json!({"user_id": 1})).await;
    let in_an_hour = (OffsetDateTime::now_utc() + time::Duration::hours(1)).format(&Rfc3339).expect("a time");
    let later = json!({"user_id": 1, "to": BOB, "text": "Later", "send_at": in_an_hour});
    let later = recorder.router.ok("/messages", later).await;
    recorder.post("/messages/{id}/cancel", &plain(&later["message"]["id"]), json!({"user_id": 1})).await;

    let answered = recorder.router.send(2, ANN, "Hello Ann").await;
    assert_eq!(answered["internal"], true);
    recorder.post("/conversations", "", json!({"user_id": 1, "to": BOB, "contact": {"name": "Bob"}})).await;
    recorder.get("/conversations", "", &[("user_id", "1"), ("limit", "1")]).await;
    recorder.get("/conversations/{id}", &thread, &user).await;
    recorder.get("/conversations/{id}/messages", &thread, &[("user_id", "1"), ("limit", "1")]).await;
    recorder.post("/conversations/{id}/read", &thread, json!({"user_id": 1})).await;
    recorder.post("/conversations/{id}/typing", &thread, json!({"user_id": 1, "typing": true})).await;
    let file = json!({"user_id": 1, "conversation_id": sent["conversation"]["id"], "name": "plan.png",
        "content_type": "image/png", "size": 51_200});
    recorder.post("/attachments", "", file).await;
}

/// The portal keeps its numbers, contacts and opt-outs, and looks after them.
async fn directory(recorder: &mut Recorder<'_>) {
    let (new, number) = ("+13125550170", json!({"number": "+13125550170"}));
    recorder.post("/phone_numbers", "", json!({"number": new, "label": "Front desk"})).await;
    recorder.post("/phone_numbers/assign", "", json!({"number": new, "user_id": 3})).await;
    recorder.get("/phone_numbers", "", &[("user_id", "3")]).await;
    recorder.post("/phone_numbers/lookup", "", json!({"number": "(312) 555-0170"})).await;
    recorder.post("/phone_numbers/suspend", "", number.clone()).await;
    recorder.post("/phone_numbers/release", "", number).await;
    recorder.post("/contacts", "", json!({"user_id": 1, "number": OUTSIDE, "name": "Carol"})).await;
    recorder.post("/opt_outs", "", json!({"number": OUTSIDE})).await;
    recorder.get("/opt_outs", "", &[]).await;
    recorder.post("/opt_outs/remove", "", json!({"number": OUTSIDE})).await;
    recorder.get("/status", "", &[]).await;
    recorder.post("/user_tokens", "", json!({"user_id": 1})).await;
    recorder.post("/user_tokens/revoke", "", json!({"user_id": 1})).await;
}

/// Webhooks of the carrier: a message to a number without a user, and one without an id.
async fn outside() -> Vec<Example> {
    let router = Router::setup().own_webhooks().start().await;
    let unrouted = json!({"data": {"event_type": "message.received", "id": "event-1", "payload": {
        "id": "message-1", "type": "SMS", "from": {"phone_number": OUTSIDE},
        "to": [{"phone_number": "+13125550166"}], "text": "Are you open?",
        "received_at": "2026-01-01T09:00:00.000+00:00"}}});
    router.webhook(&unrouted).await;
    router.webhook_bytes(r#"{"data":{"event_type":"message.received","id":"event-2","payload":{}}}"#).await;
    let mut recorder = Recorder::new(&router);
    recorder.get("/unrouted_messages", "", &[("state", "waiting")]).await;
    let kept = recorder.get("/carrier_events", "", &[("state", "set_aside")]).await;
    let id = plain(&kept["carrier_events"][0]["id"]);
    recorder.get("/carrier_events/{id}", &id, &[]).await;
    recorder.post("/carrier_events/{id}/retry", &id, json!({})).await;
    recorder.examples
}

/// A portal that refuses callbacks until they are given up.
async fn callbacks() -> Vec<Example> {
    let mut router = Router::setup().portal().routing("callbacks.give_up_after", "1s").start().await;
    router.portal().answers(500, "{}");
    router.send(1, BOB, "Hello").await;
    let start = Instant::now();
    while router.get("/callbacks", &[]).await["callbacks"].as_array().is_none_or(|rows| rows.len() < 2) {
        assert!(start.elapsed() < DEADLINE, "no callback was given up");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut recorder = Recorder::new(&router);
    recorder.get("/callbacks", "", &[("state", "failed"), ("limit", "1")]).await;
    recorder.post("/callbacks/resend", "", json!({"all": true})).await;
    recorder.examples
}
