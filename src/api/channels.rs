//! Reads: channels, one channel, its users, the number of connections.
//!
//! Source: Pusher docs, "HTTP API reference: channels, channel, users".

use std::time::Instant;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;

use super::access::Signed;
use super::info::Info;
use super::trigger::channel_name;
use super::{ApiError, reply};
use crate::hub::ChannelInfo;
use crate::protocol::channel::ChannelKind;
use crate::protocol::http_auth::Query;
use crate::protocol::json;

/// `GET /apps/{id}/channels`
pub fn list(request: &Signed, query: &Query<'_>) -> Result<Response<Full<Bytes>>, ApiError> {
    let app = &request.app;
    let prefix = query.get("filter_by_prefix").unwrap_or_default();
    let info = Info::parse(query.list("info").unwrap_or_default())?;
    if info.user_count && !prefix.starts_with("presence-") {
        return Err(ApiError::bad_request(
            // The misspelling is hosted Pusher's.
            "user_count may only be requested for presence channels - please supply filter_by_prefix begining with presence-",
        ));
    }
    if info.cache {
        return Err(ApiError::bad_request("cache is only available for a single channel"));
    }
    info.check_subscription_count(app)?;
    let channels = request.hub.channels(prefix);
    let members: Vec<String> = channels
        .iter()
        .filter_map(|(name, facts)| {
            let channel = channel_name(name).ok()?;
            Some(format!(r#""{name}":{{{}}}"#, info.counts(app, &channel, facts)))
        })
        .collect();
    Ok(reply::json(format!(r#"{{"channels":{{{}}}}}"#, members.join(","))))
}

/// `GET /apps/{id}/channels/{name}`
pub fn show(request: &Signed, query: &Query<'_>, name: &str) -> Result<Response<Full<Bytes>>, ApiError> {
    let app = &request.app;
    let channel = channel_name(name)?;
    let info = Info::parse(query.list("info").unwrap_or_default())?;
    info.check(app, &channel)?;
    let facts = request.hub.channel(&channel);
    let mut body = format!(r#"{{"occupied":{}"#, facts.subscribers > 0);
    let counts = info.counts(app, &channel, &facts);
    if !counts.is_empty() {
        body.push(',');
        body.push_str(&counts);
    }
    if info.cache {
        body.push_str(&cache_member(&facts));
    }
    body.push('}');
    Ok(reply::json(body))
}

/// `,"cache":{"data":…,"ttl":seconds}`, or null.
fn cache_member(facts: &ChannelInfo) -> String {
    match &facts.remembered {
        None => r#","cache":null"#.to_owned(),
        Some(remembered) => {
            let ttl = remembered.expires.saturating_duration_since(Instant::now()).as_secs();
            let data = String::from_utf8_lossy(&remembered.data);
            format!(r#","cache":{{"data":{data},"ttl":{ttl}}}"#)
        }
    }
}

/// `GET /apps/{id}/channels/{name}/users`
pub fn users(request: &Signed, name: &str) -> Result<Response<Full<Bytes>>, ApiError> {
    let channel = channel_name(name)?;
    if channel.kind() != ChannelKind::Presence {
        return Err(ApiError::bad_request("Users can only be retrieved for presence channels"));
    }
    let ids: Vec<String> = request
        .hub
        .channel_users(&channel)
        .iter()
        .map(|id| format!(r#"{{"id":{}}}"#, json::string(id.as_str())))
        .collect();
    Ok(reply::json(format!(r#"{{"users":[{}]}}"#, ids.join(","))))
}

/// `GET /apps/{id}/connections`: as Laravel Reverb offers it.
pub fn connections(request: &Signed) -> Response<Full<Bytes>> {
    reply::json(format!(r#"{{"connections":{}}}"#, request.hub.connections()))
}
