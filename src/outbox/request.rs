//! The request that tells an endpoint of an event: signed as Pusher's webhooks are, so that a backend's
//! Pusher library verifies it (`webhook()` in the server SDKs).

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use serde::Serialize;
use serde_json::value::RawValue;

use super::claim::Task;
use super::{Endpoint, Event, Target};
use crate::config::CallbackData;

const KEY: HeaderName = HeaderName::from_static("x-pusher-key");
const SIGNATURE: HeaderName = HeaderName::from_static("x-pusher-signature");
const AGENT: &str = concat!("switchboard/", env!("CARGO_PKG_VERSION"));

#[derive(Serialize)]
struct Body<T> {
    time_ms: i64,
    events: T,
}

/// An event's `name` and `data` are those of Pusher's webhooks. `channel` is empty: PHP's library reads it and
/// fails where there is none.
#[derive(Serialize)]
struct BodyEvent<'a> {
    name: &'a str,
    channel: &'static str,
    id: String,
    seq: i64,
    data: Data<'a>,
}

/// Go's and .NET's libraries take nothing but a string for `data`.
#[derive(Serialize)]
#[serde(untagged)]
enum Data<'a> {
    Text(&'a str),
    Json(&'a RawValue),
}

impl<'a> Data<'a> {
    fn of(event: &'a Event, form: CallbackData) -> Self {
        match form {
            CallbackData::String => Self::Text(event.data.get()),
            CallbackData::Object => Self::Json(&event.data),
        }
    }
}

/// The event's id for receivers: the same for every try, never that of another event, also not after a
/// store was lost and its rows count from 1 again.
pub(super) fn event_id(target: &Target, row: i64, created_at: i64) -> String {
    format!("{}-{created_at}-{row}", target.app_id)
}

/// The body: the same bytes for every try. Receivers refuse a `time_ms` that is old (Python's library:
/// 300 s), so it starts anew when a person has the event sent again.
pub(super) fn body(
    target: &Target,
    task: &Task,
    event: &Event,
    form: CallbackData,
) -> serde_json::Result<Bytes> {
    let time_ms = task.queued_at / 1_000;
    if event.is_list {
        return serde_json::to_vec(&Body { time_ms, events: &event.data }).map(Bytes::from);
    }
    let id = event_id(target, task.id, task.created_at);
    let data = Data::of(event, form);
    let event = BodyEvent { name: &event.name, channel: "", id, seq: task.id, data };
    serde_json::to_vec(&Body { time_ms, events: [event] }).map(Bytes::from)
}

/// The headers. Libraries compare the content type and (PHP's) the names letter by letter: no charset, and
/// a client that writes names in title case. The endpoint's own headers come first, so that they cannot
/// cover these.
pub(super) fn headers(endpoint: &Endpoint, body: &[u8]) -> HeaderMap {
    let (app, mut headers) = (&endpoint.app, endpoint.headers.clone());
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(AGENT));
    for (name, value) in [(KEY, app.keys.key()), (SIGNATURE, &app.keys.sign(&[body]))] {
        match HeaderValue::from_str(value) {
            Ok(value) => drop(headers.insert(name, value)),
            Err(_) => tracing::error!(
                app = app.settings.id,
                "requests to an endpoint lack the X-Pusher-Key header: the app's key can't stand in a header"
            ),
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::super::claim::Group;
    use super::*;
    use crate::apps::App;
    use crate::config::AppSettings;

    /// Bodies and signatures that the SDKs' own verifiers accept.
    #[test]
    fn bodies_are_those_of_pusher_webhooks_byte_by_byte() {
        let app = App::new(AppSettings::new("1", "sb-key", "sb-secret"));
        let endpoint = Endpoint::of(app, "http://portal.example/");
        let target = Target { app_id: "1".to_owned(), kind: "webhook:x".to_owned() };
        for (events, signature) in [
            (
                r#"[{"name":"channel_occupied","channel":"private-user.42"}]"#,
                "d629fbc44c21036bb8db76f70227bcc39052084e259a64dd50e9ced7e6f87a04",
            ),
            (
                r#"[{"name":"channel_occupied","channel":"presence-room"},{"name":"member_added","channel":"presence-room","user_id":"42"}]"#,
                "464e82ff52fa8c38f233388a9b412d98f568e1b9f885074f6c988e7fd706c59b",
            ),
            (
                r#"[{"name":"client_event","channel":"presence-room","event":"client-typing","data":"{\"n\":1}","socket_id":"1234.5678","user_id":"42"}]"#,
                "5a71d9afd7a517edf6fd1ced9cc7e338082ab3bf608dec33c29f05ca3a028ccb",
            ),
        ] {
            let data = RawValue::from_string(events.to_owned()).expect("JSON");
            let event = Event { name: "x".to_owned(), data, is_list: true, about: None };
            let task = Task {
                id: 1,
                lane: "l".to_owned(),
                payload: String::new(),
                attempts: 3,
                created_at: 0,
                queued_at: 1_767_225_600_000_999,
                group: Group::ALL[0],
            };
            let body = body(&target, &task, &event, CallbackData::String).expect("written");
            assert_eq!(body, format!(r#"{{"time_ms":1767225600000,"events":{events}}}"#));
            assert_eq!(headers(&endpoint, &body)["x-pusher-signature"], signature);
        }
    }

    #[test]
    fn the_signature_is_that_of_pusher_webhooks() {
        let app = App::new(AppSettings::new("1", "sb-key", "sb-secret"));
        let mut own = HeaderMap::new();
        for (name, value) in [("x-env", "prod"), ("x-pusher-key", "mine"), ("content-type", "text/plain")] {
            own.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let endpoint = Endpoint { headers: own, ..Endpoint::of(app, "http://portal.example/") };
        let body = br#"{"time_ms":1767225600000,"events":[{"name":"channel_occupied","channel":"private-user.42"}]}"#;
        let headers = headers(&endpoint, body);
        let signature = "d629fbc44c21036bb8db76f70227bcc39052084e259a64dd50e9ced7e6f87a04";
        for (name, value) in [
            ("x-pusher-key", "sb-key"),
            ("x-pusher-signature", signature),
            ("content-type", "application/json"),
            ("x-env", "prod"),
        ] {
            assert_eq!(headers[name], value);
        }
    }
}
