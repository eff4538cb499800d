//! Webhooks of a carrier, signed by a key of the test's own, byte for byte as the test wants them.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer, SigningKey};
use serde_json::{Value, json};

use super::http::{Response, exchange};
use super::messaging::{Router, Setup};
use super::names::unique;

fn key() -> SigningKey {
    SigningKey::from_bytes(&[0x11; 32])
}

/// What the server is to believe.
pub fn public_key() -> String {
    STANDARD.encode(key().verifying_key().as_bytes())
}

/// An event with this payload, under an id of its own.
pub fn event(event_type: &str, payload: Value) -> Value {
    json!({"data": {"event_type": event_type, "id": unique("event-"), "record_type": "event",
        "occurred_at": "2026-11-30T10:00:00.000+00:00", "payload": payload}, "meta": {"attempt": 1}})
}

/// A text message from outside, under ids of its own.
pub fn inbound(from: &str, to: &str, text: &str) -> Value {
    let payload = json!({"record_type": "message", "direction": "inbound", "id": unique("message-"), "type": "SMS",
        "from": {"phone_number": from}, "to": [{"phone_number": to, "status": "webhook_delivered"}], "cc": [],
        "text": text, "media": [], "received_at": "2026-11-30T10:00:00.000+00:00", "sent_at": null});
    event("message.received", payload)
}

impl Setup {
    /// The carrier's key is the test's; what the stand-in sends is not believed.
    pub fn own_webhooks(self) -> Self {
        self.routing("carrier.telnyx.public_key", public_key())
    }
}

impl Router {
    /// The answer to a signed webhook of these bytes.
    pub async fn try_webhook(&self, body: &[u8]) -> Response {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
        let signed = [now.to_string().as_bytes(), b"|", body].concat();
        let signature = STANDARD.encode(key().sign(&signed).to_bytes());
        let head = format!(
            "POST /carriers/telnyx/1001 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
             telnyx-timestamp: {now}\r\ntelnyx-signature-ed25519: {signature}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        exchange(self.server().public, [head.as_bytes(), body].concat()).await
    }

    /// Sends a webhook of these bytes, which must be taken.
    pub async fn webhook_bytes(&self, body: impl AsRef<[u8]>) {
        self.try_webhook(body.as_ref()).await.expect_status(200);
    }

    /// Sends a webhook, which must be taken.
    pub async fn webhook(&self, event: &Value) {
        self.webhook_bytes(event.to_string()).await;
    }
}
