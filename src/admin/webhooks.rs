//! The operators' view of webhooks: how they stand, what became of each request, sending again.
//!
//! | Call | Answer |
//! |---|---|
//! | `GET /webhooks` | `{webhooks: [{app, webhook, address, waiting, failed, oldest_seconds, held_back, dropped}]}` |
//! | `GET /webhooks/events?app&webhook&state&after&since&limit` | `{events: […], next}`; `state` is `failed` (default), `waiting` or `delivered`, `since` in Unix milliseconds |
//! | `GET /webhooks/attempts?app&webhook&id` | `{attempts: […]}` of the last 24 h |
//! | `POST /webhooks/resend {app, webhook, ids}` | `{resent}`: these, whether they were given up or delivered |
//! | `POST /webhooks/resend {app, webhook, state, since}` | `{resent}`: all of a state |

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::{Request, Response, StatusCode, Uri};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Admin, json_reply, text};
use crate::outbox::{EventState, Listing, Outbox, StoredEvent, Target};
use crate::storage::StorageError;
use crate::webhooks::Webhooks;

/// Longest request body.
const MAX_BODY: usize = 1 << 20;
/// Events of a list, unless the request says otherwise, and at most.
const LIMIT: (i64, i64) = (100, 1_000);

/// What is wrong, or the answer.
type Reply = Result<Value, (StatusCode, String)>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resend {
    app: String,
    webhook: String,
    #[serde(default)]
    ids: Option<Vec<i64>>,
    #[serde(default)]
    state: Option<String>,
    #[serde(default)]
    since: Option<i64>,
}

/// Answers a request whose path begins with `/webhooks`.
pub(super) async fn respond(admin: &Admin, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let reply = match (&admin.webhooks, &admin.outbox) {
        (Some(webhooks), Some(outbox)) => Calls { webhooks, outbox }.answer(request).await,
        _ => bad(StatusCode::NOT_FOUND, "No app has webhooks: set [[apps.webhooks]]"),
    };
    match reply {
        Ok(value) => json_reply(StatusCode::OK, &value),
        Err((status, message)) => text(status, message),
    }
}

fn bad<T>(status: StatusCode, message: impl Into<String>) -> Result<T, (StatusCode, String)> {
    Err((status, message.into()))
}

struct Calls<'a> {
    webhooks: &'a Webhooks,
    outbox: &'a Outbox,
}

impl Calls<'_> {
    async fn answer(&self, request: Request<Incoming>) -> Reply {
        let (head, body) = request.into_parts();
        match (head.method.as_str(), head.uri.path()) {
            ("GET", "/webhooks") => self.standings().await,
            ("GET", "/webhooks/events") => self.events(&head.uri).await,
            ("GET", "/webhooks/attempts") => self.attempts(&head.uri).await,
            ("POST", "/webhooks/resend") => {
                // A web page can't send this type to another origin without being asked first.
                if head.headers.get(CONTENT_TYPE).is_none_or(|kind| kind != "application/json") {
                    return bad(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Content-Type must be application/json");
                }
                let body = Limited::new(body, MAX_BODY).collect().await;
                let body = body.or_else(|_| bad(StatusCode::BAD_REQUEST, "The body can't be read"))?;
                self.resend(&body.to_bytes()).await
            }
            _ => bad(
                StatusCode::NOT_FOUND,
                "Not found: known are GET /webhooks, /webhooks/events, /webhooks/attempts and POST /webhooks/resend",
            ),
        }
    }

    async fn standings(&self) -> Reply {
        let standings = self.webhooks.standings().await.or_else(unavailable)?;
        let webhooks: Vec<_> = standings
            .iter()
            .map(|webhook| {
                json!({
                    "app": webhook.target.app_id,
                    "webhook": webhook.name,
                    "address": webhook.address,
                    "waiting": webhook.waiting,
                    "failed": webhook.failed,
                    "oldest_seconds": webhook.oldest_seconds,
                    "held_back": webhook.held_back,
                    "dropped": webhook.dropped,
                })
            })
            .collect();
        Ok(json!({ "webhooks": webhooks }))
    }

    async fn events(&self, uri: &Uri) -> Reply {
        let target = self.target(&parameter(uri, "app"), &parameter(uri, "webhook"))?;
        let limit = number(uri, "limit")?.unwrap_or(LIMIT.0).clamp(1, LIMIT.1);
        let which = Listing {
            state: state(&parameter(uri, "state"))?,
            after: number(uri, "after")?.unwrap_or(0),
            since: number(uri, "since")?.unwrap_or(0).saturating_mul(1_000),
            limit: limit + 1,
        };
        let mut events = self.outbox.events(target, which).await.or_else(unavailable)?;
        let has_more = events.len() as i64 > limit;
        events.truncate(limit as usize);
        let next = events.last().filter(|_| has_more).map(|event| event.id);
        Ok(json!({ "events": events.iter().map(event_json).collect::<Vec<_>>(), "next": next }))
    }

    async fn attempts(&self, uri: &Uri) -> Reply {
        let target = self.target(&parameter(uri, "app"), &parameter(uri, "webhook"))?;
        let Some(id) = number(uri, "id")? else { return bad(StatusCode::BAD_REQUEST, "id is missing") };
        let attempts = self.outbox.attempts(target, id).await.or_else(unavailable)?;
        let attempts: Vec<_> = attempts
            .iter()
            .map(|attempt| {
                json!({
                    "at_ms": attempt.started_at / 1_000,
                    "latency_ms": attempt.latency_ms,
                    "status": attempt.status,
                    "answer": attempt.answer,
                    "error": attempt.error,
                })
            })
            .collect();
        Ok(json!({ "attempts": attempts }))
    }

    async fn resend(&self, body: &[u8]) -> Reply {
        let resend: Resend =
            serde_json::from_slice(body).or_else(|error| bad(StatusCode::BAD_REQUEST, error.to_string()))?;
        let target = self.target(&resend.app, &resend.webhook)?;
        let since = resend.since.unwrap_or(0).saturating_mul(1_000);
        let resent = match (resend.ids, resend.state) {
            (Some(ids), None) => self.outbox.resend(target, ids).await,
            (None, Some(name)) => match state(&name)? {
                EventState::Waiting => return bad(StatusCode::BAD_REQUEST, "what is waiting is sent anyway"),
                state => self.outbox.resend_all(target, state, since).await,
            },
            _ => return bad(StatusCode::BAD_REQUEST, "either ids or a state is needed"),
        };
        Ok(json!({ "resent": resent.or_else(unavailable)? }))
    }

    fn target(&self, app: &str, webhook: &str) -> Result<Target, (StatusCode, String)> {
        let target = self.webhooks.target(app, webhook);
        target.map_or_else(
            || {
                bad(
                    StatusCode::NOT_FOUND,
                    format!("App {app:?} has no webhook {webhook:?}: see GET /webhooks"),
                )
            },
            Ok,
        )
    }
}

fn unavailable<T>(error: StorageError) -> Result<T, (StatusCode, String)> {
    bad(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
}

fn state(name: &str) -> Result<EventState, (StatusCode, String)> {
    if name.is_empty() {
        return Ok(EventState::Failed);
    }
    let message = || bad(StatusCode::BAD_REQUEST, "state must be failed, waiting or delivered");
    EventState::parse(name).map_or_else(message, Ok)
}

fn event_json(event: &StoredEvent) -> Value {
    let data: Value = serde_json::from_str(&event.data).unwrap_or(Value::Null);
    json!({
        "id": event.id,
        "name": event.name,
        "events": data,
        "state": event.state,
        "attempts": event.attempts,
        "error": event.error,
        "created_ms": event.created_at / 1_000,
        "changed_ms": event.changed_at / 1_000,
    })
}

fn parameter(uri: &Uri, name: &str) -> String {
    let pairs = uri.query().unwrap_or_default().split('&');
    let value = pairs.filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name);
    let value = value.map_or("", |(_, value)| value);
    percent_encoding::percent_decode_str(value).decode_utf8_lossy().into_owned()
}

fn number(uri: &Uri, name: &str) -> Result<Option<i64>, (StatusCode, String)> {
    let text = parameter(uri, name);
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).or_else(|_| bad(StatusCode::BAD_REQUEST, format!("{name} must be a number")))
}
