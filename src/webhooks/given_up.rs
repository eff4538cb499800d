//! Keeps what receivers were told consistent when a request was given up: its comings and goings are noted, and
//! the opposite of each, which waits behind it or is yet to happen, is left out when it would go out.
//!
//! What is noted of a subject takes turns, as the subject does: if the same is to go out again, because a person
//! has it sent again, there is nothing to note any more.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::gaps::{self, Why};
use super::records::{Record, known};
use super::writer::{list, title};
use crate::outbox::{Amended, Event, Target};
use crate::storage::{StorageError, Transaction};

/// The keys of an event that say what it is about.
#[derive(Deserialize)]
struct Written<'a> {
    #[serde(borrow)]
    name: std::borrow::Cow<'a, str>,
    #[serde(default)]
    channel: std::borrow::Cow<'a, str>,
    #[serde(default)]
    user_id: Option<std::borrow::Cow<'a, str>>,
    #[serde(default)]
    socket_id: Option<std::borrow::Cow<'a, str>>,
}

/// What an event says came or is gone; `None`: it says nothing of that kind.
fn change(app_id: &str, event: &RawValue) -> Option<(Record, bool)> {
    let event: Written<'_> = serde_json::from_str(event.get()).ok()?;
    let user = || event.user_id.as_deref().unwrap_or_default();
    let (kind, name, user, is_there) = match &*event.name {
        "channel_occupied" => ("channel", &*event.channel, "", true),
        "channel_vacated" => ("channel", &*event.channel, "", false),
        "member_added" => ("member", &*event.channel, user(), true),
        "member_removed" => ("member", &*event.channel, user(), false),
        "user_online" => ("user", "", user(), true),
        "user_offline" => ("user", "", user(), false),
        "connection_opened" => ("connection", event.socket_id.as_deref()?, "", true),
        "connection_closed" => ("connection", event.socket_id.as_deref()?, "", false),
        _ => return None,
    };
    known(app_id, kind, name, user).map(|(record, _)| (record, is_there))
}

fn events(event: &Event) -> Vec<Box<RawValue>> {
    serde_json::from_str(event.data.get()).unwrap_or_default()
}

/// A request was given up.
pub(super) fn note(tx: &mut Transaction<'_>, target: &Target, event: &Event) -> Result<(), StorageError> {
    for event in events(event) {
        let Some((record, is_there)) = change(&target.app_id, &event) else { continue };
        let known = gaps::take(tx, target, Why::GivenUp, &record)?;
        // Both that it came and that it is gone were given up: nothing is missing.
        if known.is_none_or(|known| known == is_there) {
            gaps::add(tx, target, Why::GivenUp, &record, is_there, None)?;
        }
    }
    Ok(())
}

/// A request goes out for the first time: without what makes no sense to its receiver.
pub(super) fn amend(
    tx: &mut Transaction<'_>,
    target: &Target,
    event: &mut Event,
) -> Result<Amended, StorageError> {
    let all = events(event);
    let mut kept = Vec::with_capacity(all.len());
    for event in &all {
        let known = match change(&target.app_id, event) {
            Some((record, is_there)) => {
                gaps::take(tx, target, Why::GivenUp, &record)?.is_none_or(|known| known == is_there)
            }
            None => true,
        };
        if known {
            kept.push(event.get());
        }
    }
    if kept.len() == all.len() {
        return Ok(Amended::Not);
    }
    if kept.is_empty() {
        return Ok(Amended::Away);
    }
    (event.name, event.data) = (title(&kept), list(&kept)?);
    Ok(Amended::Changed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::channel::ChannelName;
    use crate::protocol::id::UserId;
    use crate::webhooks::presence::Subject;

    #[test]
    fn events_name_what_came_and_what_is_gone() {
        let record = |subject| Some(Record::of("1001", &subject));
        let room = || ChannelName::parse("presence-room").expect("a name");
        let user = |id| UserId::member(id).expect("an id");
        for (json, expected, is_there) in [
            (
                r#"{"name":"channel_vacated","channel":"presence-room"}"#,
                record(Subject::Channel(room())),
                false,
            ),
            (
                r#"{"name":"member_added","channel":"presence-room","user_id":"\"7\""}"#,
                record(Subject::Member(room(), user("\"7\""))),
                true,
            ),
            (r#"{"name":"user_online","channel":"","user_id":"7"}"#, record(Subject::User(user("7"))), true),
            (
                r#"{"name":"connection_closed","channel":"","socket_id":"1.2","code":1006}"#,
                Some(Record::of_connection("1001", "1.2")),
                false,
            ),
            (r#"{"name":"client_event","channel":"presence-room","user_id":"7"}"#, None, false),
        ] {
            let raw = RawValue::from_string(json.to_owned()).expect("JSON");
            assert_eq!(change("1001", &raw), expected.map(|record| (record, is_there)), "{json}");
        }
    }
}
