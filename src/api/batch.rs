//! `POST /apps/{id}/batch_events`: several events in one request, published in order, all or none.
//!
//! Source: Pusher docs, "HTTP API reference: POST batch events".

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::header::HeaderMap;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::ApiError;
use super::access::Signed;
use super::trigger::{Event, RawEvent, body_text, idempotency_key, invalid_json, publish};
use crate::protocol::channel::ChannelName;
use crate::protocol::json;

#[derive(Deserialize)]
struct RawBatch<'a> {
    #[serde(borrow)]
    batch: Option<&'a RawValue>,
    #[serde(borrow)]
    idempotency_key: Option<&'a RawValue>,
}

/// Publishes a batch.
pub fn trigger(request: &Signed, headers: &HeaderMap) -> Result<Response<Full<Bytes>>, ApiError> {
    let raw: RawBatch<'_> = json::object(body_text(&request.body)?).map_err(invalid_json)?;
    let batch = raw.batch.ok_or_else(|| ApiError::bad_request("Missing required parameter: batch"))?;
    let items: Vec<&RawValue> = serde_json::from_str(batch.get())
        .map_err(|_| ApiError::bad_request("Expected batch parameter to be an array of events"))?;
    let limit = request.app.settings.max_batch;
    if items.len() > limit {
        let message =
            format!("Batch too large: it may hold {limit} events, got {} (setting max_batch)", items.len());
        return Err(ApiError::bad_request(message));
    }
    let events = items
        .into_iter()
        .enumerate()
        .map(|(index, item)| read(request, item).map_err(|error| error.within(&format!("batch[{index}]"))))
        .collect::<Result<Vec<_>, _>>()?;
    let key = idempotency_key(headers, raw.idempotency_key)?;
    publish(request, "batch_events", key.as_deref(), events.len(), || {
        for (channel, event) in &events {
            request.hub.publish(channel, &event.name, event.data, event.except);
        }
        answer(request, &events)
    })
}

fn read<'a>(request: &Signed, item: &'a RawValue) -> Result<(ChannelName, Event<'a>), ApiError> {
    let raw: RawEvent<'a> = json::object(item.get())
        .map_err(|reason| ApiError::bad_request(format!("Invalid event: {reason}")))?;
    Ok((raw.channel()?, raw.event(&request.app)?))
}

/// `{}`, or one object an event when at least one asked for `info`.
fn answer(request: &Signed, events: &[(ChannelName, Event<'_>)]) -> String {
    if events.iter().all(|(_, event)| event.info.is_none()) {
        return "{}".to_owned();
    }
    let objects: Vec<String> = events
        .iter()
        .map(|(channel, event)| {
            let counts =
                event.info.map(|info| info.counts(&request.app, channel, &request.hub.channel(channel)));
            format!("{{{}}}", counts.unwrap_or_default())
        })
        .collect();
    format!(r#"{{"batch":[{}]}}"#, objects.join(","))
}
