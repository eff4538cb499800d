//! `channel_data` and `user_data`: who a connection says it is, once the signature has been verified.
//!
//! Source: Pusher docs, "Presence channels", "User authentication", "Watchlist events".

use serde::Deserialize;
use serde_json::value::RawValue;

use super::id::{InvalidUserId, UserId};
use super::json::{self, JsonType};

/// A presence member as announced to others.
#[derive(Clone, Debug)]
pub struct Member {
    /// Always text, also when the application signed a number.
    pub user_id: UserId,
    /// Any JSON, verbatim; `{}` when none was given.
    pub user_info: Box<str>,
}

/// A signed-in user.
#[derive(Clone, Debug)]
pub struct UserData {
    /// The user's id.
    pub id: UserId,
    /// Any JSON, verbatim; used when a presence subscription brings no data of its own.
    pub user_info: Box<str>,
    /// Ids the user wants to be told about, in order, each once.
    pub watchlist: Vec<UserId>,
}

/// Why `channel_data` or `user_data` is refused; the text is meant for the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUser {
    /// Not JSON or not an object.
    #[error("Invalid {field}: {reason}")]
    NotAnObject {
        /// `channel_data` or `user_data`.
        field: &'static str,
        /// What the parser says.
        reason: String,
    },
    /// The id is missing.
    #[error("Invalid {field}: missing {key}")]
    IdMissing {
        /// `channel_data` or `user_data`.
        field: &'static str,
        /// `user_id` or `id`.
        key: &'static str,
    },
    /// The id has a type that can't be one.
    #[error("Invalid {key}: expected {expected}, got {got}")]
    IdType {
        /// `user_id` or `id`.
        key: &'static str,
        /// What is accepted.
        expected: &'static str,
        /// What came.
        got: &'static str,
    },
    /// The id breaks a rule for ids.
    #[error("Invalid {key}: {reason}")]
    Id {
        /// `user_id` or `id`.
        key: &'static str,
        /// Which rule.
        reason: InvalidUserId,
    },
    /// `user_info` can't be forwarded.
    #[error("Invalid user_info: it holds half a surrogate pair")]
    Info,
    /// `watchlist` is no array of strings.
    #[error("Invalid watchlist: expected an array of strings")]
    Watchlist,
}

#[derive(Deserialize)]
struct ChannelData<'a> {
    #[serde(borrow)]
    user_id: Option<&'a RawValue>,
    #[serde(borrow)]
    user_info: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawUserData<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    user_info: Option<&'a RawValue>,
    #[serde(borrow)]
    watchlist: Option<&'a RawValue>,
}

impl Member {
    /// Reads the `channel_data` of a presence subscription. `user_id` is a non-empty string or an
    /// integer, which keeps its digits (PHP signs `42`); `user_info` may be any JSON.
    pub fn from_channel_data(text: &str) -> Result<Self, InvalidUser> {
        let data: ChannelData<'_> = json::object(text)
            .map_err(|reason| InvalidUser::NotAnObject { field: "channel_data", reason })?;
        let raw = data.user_id.ok_or(InvalidUser::IdMissing { field: "channel_data", key: "user_id" })?;
        let wrong_type =
            |got| InvalidUser::IdType { key: "user_id", expected: "a string or an integer", got };
        let id = match JsonType::of(raw) {
            JsonType::String => json::decode_string(raw).ok_or(wrong_type("a broken string"))?,
            JsonType::Number if is_integer(raw.get()) => raw.get().to_owned(),
            JsonType::Number => return Err(wrong_type("a fraction")),
            other => return Err(wrong_type(other.name())),
        };
        let user_id = UserId::member(&id).map_err(|reason| InvalidUser::Id { key: "user_id", reason })?;
        Ok(Self { user_id, user_info: info_or_empty(data.user_info)? })
    }
}

impl UserData {
    /// Reads the `user_data` of a sign-in. `id` must be a non-empty string: pusher-js ignores the
    /// success of any other silently.
    pub fn parse(text: &str) -> Result<Self, InvalidUser> {
        let data: RawUserData<'_> =
            json::object(text).map_err(|reason| InvalidUser::NotAnObject { field: "user_data", reason })?;
        let raw = data.id.ok_or(InvalidUser::IdMissing { field: "user_data", key: "id" })?;
        let wrong_type = |got| InvalidUser::IdType { key: "id", expected: "a string", got };
        let id = match JsonType::of(raw) {
            JsonType::String => json::decode_string(raw).ok_or(wrong_type("a broken string"))?,
            other => return Err(wrong_type(other.name())),
        };
        let id = UserId::signed_in(&id).map_err(|reason| InvalidUser::Id { key: "id", reason })?;
        Ok(Self { id, user_info: info_or_empty(data.user_info)?, watchlist: read_watchlist(data.watchlist)? })
    }
}

/// Ids that can't belong to a signed-in user are left out: nobody of that name will ever be online.
fn read_watchlist(raw: Option<&RawValue>) -> Result<Vec<UserId>, InvalidUser> {
    let Some(raw) = raw.filter(|raw| JsonType::of(raw) != JsonType::Null) else { return Ok(Vec::new()) };
    let ids: Vec<String> = serde_json::from_str(raw.get()).map_err(|_| InvalidUser::Watchlist)?;
    let mut seen = std::collections::HashSet::new();
    Ok(ids.iter().filter_map(|id| UserId::signed_in(id).ok()).filter(|id| seen.insert(id.clone())).collect())
}

fn is_integer(number: &str) -> bool {
    !number.contains(['.', 'e', 'E'])
}

fn info_or_empty(raw: Option<&RawValue>) -> Result<Box<str>, InvalidUser> {
    match raw {
        Some(raw) if json::has_half_pair(raw.get()) => Err(InvalidUser::Info),
        Some(raw) if JsonType::of(raw) != JsonType::Null => Ok(raw.get().into()),
        _ => Ok("{}".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_text_with_all_their_digits() {
        for (text, id) in [
            (r#"{"user_id":10}"#, "10"),
            (r#"{"user_id":"10"}"#, "10"),
            (r#"{"user_id":9007199254740993}"#, "9007199254740993"),
            (r#"{"user_id":-1,"user_info":{}}"#, "-1"),
        ] {
            assert_eq!(Member::from_channel_data(text).expect(text).user_id.as_str(), id);
        }
    }

    #[test]
    fn user_info_is_kept_verbatim_and_never_missing() {
        for (text, info) in [
            (r#"{"user_id":"1"}"#, "{}"),
            (r#"{"user_id":"1","user_info":null}"#, "{}"),
            (r#"{"user_id":"1","user_info":[]}"#, "[]"),
            (r#"{"user_id":"1","user_info":true}"#, "true"),
            (r#"{"user_id":"1","user_info":{"n": 1.0, "s":"\u00e9\/"}}"#, r#"{"n": 1.0, "s":"\u00e9\/"}"#),
        ] {
            assert_eq!(&*Member::from_channel_data(text).expect(text).user_info, info);
        }
    }

    #[test]
    fn what_can_be_no_id_is_refused() {
        for text in [
            "",
            "[]",
            "{}",
            "nonsense",
            r#"{"user_id":null}"#,
            r#"{"user_id":true}"#,
            r#"{"user_id":1.5}"#,
            r#"{"user_id":1e3}"#,
            r#"{"user_id":"1","user_info":{"a":"\ud800"}}"#,
            r#"{"user_id":{}}"#,
            r#"{"user_id":""}"#,
        ] {
            assert!(Member::from_channel_data(text).is_err(), "{text}");
        }
        for text in
            [r#"{"id":42}"#, r#"{"id":""}"#, r#"{}"#, r#"{"id":"a b"}"#, r#"{"id":"1","watchlist":[1]}"#]
        {
            assert!(UserData::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn watchlists_keep_order_and_name_each_user_once() {
        let user =
            UserData::parse(r#"{"id":"1","watchlist":["3","2","3","bad id"],"name":"x"}"#).expect("valid");
        assert_eq!(user.watchlist.iter().map(UserId::as_str).collect::<Vec<_>>(), ["3", "2"]);
    }
}
