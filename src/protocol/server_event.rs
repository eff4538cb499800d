//! What the server sends. `data` is always there and always a string that holds JSON, except in
//! `pusher:error`, where it is an object: the one form that every client library reads.
//!
//! Source: Pusher docs, "WebSocket protocol: events, double encoding".

use super::channel::ChannelName;
use super::error_code::ErrorCode;
use super::frame::{Frame, FrameBuilder};
use super::id::{SocketId, UserId};
use super::json;
use super::presence::Member;

/// First frame of every accepted connection. `activity_timeout` in seconds, never 0.
pub fn connection_established(socket_id: SocketId, activity_timeout: u64) -> Frame {
    Frame::text(&format!(
        r#"{{"event":"pusher:connection_established","data":"{{\"socket_id\":\"{socket_id}\",\"activity_timeout\":{activity_timeout}}}"}}"#
    ))
}

/// Answer to `pusher:ping`.
pub fn pong() -> Frame {
    Frame::text(r#"{"event":"pusher:pong","data":"{}"}"#)
}

/// An error of the connection; `None` is written as null and means that the connection stays as it is.
pub fn error(code: Option<ErrorCode>, message: &str) -> Frame {
    let mut frame = FrameBuilder::with_capacity(64 + message.len());
    frame.push(r#"{"event":"pusher:error","data":{"code":"#);
    match code {
        Some(code) => frame.push(&code.number().to_string()),
        None => frame.push("null"),
    };
    frame.push(r#","message":"#).push_json_string(message).push("}}");
    frame.finish()
}

/// A subscription went through; for a presence channel `data` holds the member list.
pub fn subscription_succeeded(channel: &ChannelName, data: &str) -> Frame {
    service_event("pusher_internal:subscription_succeeded", channel, data)
}

/// What kind of fault refuses a subscription, as pusher-js spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// The signature, or the lack of it.
    Auth,
    /// A limit of the channel.
    Limit,
    /// The channel's name.
    Channel,
}

/// A subscription was refused, told on the channel so that Echo's `.error()` runs.
pub fn subscription_error(channel: &str, kind: RefusalKind, message: &str) -> Frame {
    let (kind, status) = match kind {
        RefusalKind::Auth => ("AuthError", 401),
        RefusalKind::Limit => ("LimitReached", 4100),
        RefusalKind::Channel => ("InvalidChannel", 400),
    };
    let data = format!(r#"{{"type":"{kind}","error":{},"status":{status}}}"#, json::string(message));
    let mut frame = FrameBuilder::with_capacity(96 + data.len());
    frame.push(r#"{"event":"pusher:subscription_error","channel":"#);
    frame.push_json_string(channel).push(r#","data":"#).push_json_string(&data).push("}");
    frame.finish()
}

/// A cache channel holds nothing. The two characters `{}` matter: the Java client decrypts anything else.
pub fn cache_miss(channel: &ChannelName) -> Frame {
    service_event("pusher:cache_miss", channel, "{}")
}

/// A published event. `data` is the quoted JSON string as the publisher sent it, spliced in unread.
pub fn published(channel: &ChannelName, name: &str, data: &str) -> Frame {
    event(channel, name, data, None)
}

/// A client event for the other subscribers; `user_id` only on presence channels.
pub fn client_event(channel: &ChannelName, name: &str, data: &str, user_id: Option<&UserId>) -> Frame {
    event(channel, name, data, user_id)
}

/// A user's first connection joined a presence channel.
pub fn member_added(channel: &ChannelName, member: &Member) -> Frame {
    let data = format!(
        r#"{{"user_id":{},"user_info":{}}}"#,
        json::string(member.user_id.as_str()),
        member.user_info
    );
    service_event("pusher_internal:member_added", channel, &data)
}

/// A user's last connection left a presence channel.
pub fn member_removed(channel: &ChannelName, user_id: &UserId) -> Frame {
    let data = format!(r#"{{"user_id":{}}}"#, json::string(user_id.as_str()));
    service_event("pusher_internal:member_removed", channel, &data)
}

/// How many connections are subscribed.
pub fn subscription_count(channel: &ChannelName, count: u64) -> Frame {
    service_event(
        "pusher_internal:subscription_count",
        channel,
        &format!(r#"{{"subscription_count":{count}}}"#),
    )
}

/// A sign-in went through: the same `user_data` text that was signed.
pub fn signin_success(user_data: &str) -> Frame {
    let data = format!(r#"{{"user_data":{}}}"#, json::string(user_data));
    let mut frame = FrameBuilder::with_capacity(64 + data.len() * 2);
    frame.push(r#"{"event":"pusher:signin_success","data":"#).push_json_string(&data).push("}");
    frame.finish()
}

/// Who of a watchlist came or went; `None` when there is nothing to tell.
pub fn watchlist_events(online: &[UserId], offline: &[UserId]) -> Option<Frame> {
    let part = |name: &str, ids: &[UserId]| {
        let ids: Vec<String> = ids.iter().map(|id| json::string(id.as_str())).collect();
        (!ids.is_empty()).then(|| format!(r#"{{"name":"{name}","user_ids":[{}]}}"#, ids.join(",")))
    };
    let parts: Vec<String> =
        [part("online", online), part("offline", offline)].into_iter().flatten().collect();
    if parts.is_empty() {
        return None;
    }
    let data = format!(r#"{{"events":[{}]}}"#, parts.join(","));
    let mut frame = FrameBuilder::with_capacity(64 + data.len() * 2);
    frame.push(r#"{"event":"pusher_internal:watchlist_events","data":"#).push_json_string(&data).push("}");
    Some(frame.finish())
}

fn service_event(name: &str, channel: &ChannelName, data: &str) -> Frame {
    let mut frame =
        FrameBuilder::with_capacity(64 + name.len() + channel.as_str().len() + data.len() * 5 / 4);
    frame.push(r#"{"event":""#).push(name).push(r#"","channel":""#).push(channel.as_str());
    frame.push(r#"","data":"#).push_json_string(data).push("}");
    frame.finish()
}

fn event(channel: &ChannelName, name: &str, data: &str, user_id: Option<&UserId>) -> Frame {
    let mut frame = FrameBuilder::with_capacity(64 + name.len() + channel.as_str().len() + data.len());
    frame.push(r#"{"event":"#).push_json_string(name);
    frame.push(r#","channel":""#).push(channel.as_str()).push(r#"","data":"#).push(data);
    if let Some(user_id) = user_id {
        frame.push(r#","user_id":"#).push_json_string(user_id.as_str());
    }
    frame.push("}");
    frame.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(frame: &Frame) -> &str {
        std::str::from_utf8(frame.payload()).expect("UTF-8")
    }

    fn channel(name: &str) -> ChannelName {
        ChannelName::parse(name).expect(name)
    }

    #[test]
    fn texts_are_those_of_the_protocol() {
        let room = channel("presence-room");
        let ann =
            Member { user_id: UserId::member("42").expect("valid"), user_info: r#"{"name":"Ann"}"#.into() };
        for (frame, expected) in [
            (pong(), r#"{"event":"pusher:pong","data":"{}"}"#.to_owned()),
            (
                error(Some(ErrorCode::ClientEventRate), "slow down"),
                r#"{"event":"pusher:error","data":{"code":4301,"message":"slow down"}}"#.to_owned(),
            ),
            (error(None, "x"), r#"{"event":"pusher:error","data":{"code":null,"message":"x"}}"#.to_owned()),
            (
                subscription_succeeded(&channel("news"), "{}"),
                r#"{"event":"pusher_internal:subscription_succeeded","channel":"news","data":"{}"}"#.to_owned(),
            ),
            (
                member_added(&room, &ann),
                r#"{"event":"pusher_internal:member_added","channel":"presence-room","data":"{\"user_id\":\"42\",\"user_info\":{\"name\":\"Ann\"}}"}"#.to_owned(),
            ),
            (
                member_removed(&room, &ann.user_id),
                r#"{"event":"pusher_internal:member_removed","channel":"presence-room","data":"{\"user_id\":\"42\"}"}"#.to_owned(),
            ),
            (
                subscription_count(&channel("news"), 3),
                r#"{"event":"pusher_internal:subscription_count","channel":"news","data":"{\"subscription_count\":3}"}"#.to_owned(),
            ),
            (
                client_event(&room, "client-typing", r#""{\"n\":1}""#, Some(&ann.user_id)),
                r#"{"event":"client-typing","channel":"presence-room","data":"{\"n\":1}","user_id":"42"}"#.to_owned(),
            ),
            (
                signin_success(r#"{"id": "42"}"#),
                r#"{"event":"pusher:signin_success","data":"{\"user_data\":\"{\\\"id\\\": \\\"42\\\"}\"}"}"#.to_owned(),
            ),
        ] {
            assert_eq!(text(&frame), expected);
        }
    }

    #[test]
    fn payloads_pass_through_to_the_character() {
        let data = r#""{\"v\":1.0,\"n\":1152921504606846976,\"s\":\"\\u00e9\\\/\"}""#;
        let frame = published(&channel("user.7"), r"App\Events\X", data);
        assert_eq!(text(&frame), format!(r#"{{"event":"App\\Events\\X","channel":"user.7","data":{data}}}"#));
    }

    #[test]
    fn watchlist_events_leave_out_empty_lists() {
        let seven = [UserId::member("7").expect("valid")];
        let frame = watchlist_events(&seven, &[]).expect("something to tell");
        assert_eq!(
            text(&frame),
            r#"{"event":"pusher_internal:watchlist_events","data":"{\"events\":[{\"name\":\"online\",\"user_ids\":[\"7\"]}]}"}"#
        );
        assert!(watchlist_events(&[], &[]).is_none());
    }
}
