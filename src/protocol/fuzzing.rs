//! What must hold for any frame of a client and any signed request.

use super::auth::AppKeys;
use super::client_event::ClientMessage;
use super::frame::Frame;
use super::http_auth::{HttpAuthError, Query, SignedRequest};
use super::{json, presence, server_event};

/// A text frame of a client: is read or refused, and what it leads to can be sent.
pub(crate) fn client_message(text: &str) {
    match ClientMessage::parse(text) {
        Ok(ClientMessage::Event(event)) => {
            let _ = json::decoded_len(&event.data);
            serde_json::from_str::<&serde_json::value::RawValue>(&event.data)
                .expect("bug: data of a client event is a JSON string");
        }
        Ok(ClientMessage::Subscribe(subscribe)) => {
            if let Ok(Some(data)) = &subscribe.channel_data {
                let _ = presence::Member::from_channel_data(data);
            }
        }
        Ok(ClientMessage::SignIn(Ok(sign_in))) => {
            let _ = presence::UserData::parse(&sign_in.user_data);
        }
        Err(error) | Ok(ClientMessage::SignIn(Err(error))) => {
            well_formed(&server_event::error(None, &error.to_string()));
        }
        Ok(_) => {}
    }
}

/// Method, path, query and body in four lines: an unsigned request is refused, and the same request with
/// the signature of its own query is accepted.
pub(crate) fn http_auth(text: &str) {
    let mut lines = text.splitn(4, '\n');
    let mut next = || lines.next().unwrap_or_default();
    let (method, path, query, body) = (next(), next(), next(), next().as_bytes());
    let keys = AppKeys::new("sb-key", ["sb-secret"]);
    let parsed = Query::parse(query);
    let _ = parsed.list("info");
    let request = SignedRequest { method, path, query: &parsed };
    let _ = request.verify_body(body);
    let refused = request.verify(&keys, 1_767_225_600);
    if let Err(HttpAuthError::SignatureMismatch { expected, .. }) = refused {
        let expected: String =
            serde_json::from_str(&expected).expect("bug: the text to sign is a JSON string");
        if expected.len() < 2_000 {
            let signature = keys.sign(&[expected.as_bytes()]);
            let unsigned: Vec<&str> = query
                .split('&')
                .filter(|pair| !Query::parse(pair).get("auth_signature").is_some_and(|_| true))
                .collect();
            let signed = format!("{}&auth_signature={signature}", unsigned.join("&"));
            let parsed = Query::parse(&signed);
            let request = SignedRequest { method, path, query: &parsed };
            assert_eq!(
                request.verify(&keys, 1_767_225_600),
                Ok(()),
                "what the refusal says to sign is accepted"
            );
        }
    }
}

fn well_formed(frame: &Frame) {
    serde_json::from_slice::<serde_json::Value>(frame.payload()).expect("bug: a frame that is no JSON");
}
