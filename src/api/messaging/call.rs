//! What a call is: a line of the table, who makes it, and what it is given.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use hyper::Method;
use schemars::{Schema, SchemaGenerator};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use serde_json::{Map, Value};

use crate::apps::App;
use crate::protocol::http_auth::Query;
use crate::routing::draft::{UserRef, invalid};
use crate::routing::{Code, Router, RoutingError};

/// One call of the API.
pub struct Call {
    /// GET or POST.
    pub method: Method,
    /// Below `messaging`; `{id}` stands for one segment.
    pub path: &'static str,
    /// What it does, a sentence.
    pub summary: &'static str,
    /// Who may make it.
    pub access: Access,
    /// Errors beside those that every call has.
    pub codes: &'static [Code],
    /// Name of the request's schema, and the schema.
    pub request: fn(&mut SchemaGenerator) -> Schema,
    /// The answer's.
    pub answer: fn(&mut SchemaGenerator) -> Schema,
    /// Carries it out.
    pub run: fn(Caller, Input) -> Running,
}

/// A call at work.
pub type Running = Pin<Box<dyn Future<Output = Result<Bytes, RoutingError>>>>;

/// Who may make a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The portal, which signs.
    Portal,
    /// Also a browser with a token, for its own user.
    User,
}

/// Who makes a call, and where it goes.
pub struct Caller {
    /// The message router.
    pub router: Router,
    /// The app.
    pub app: Arc<App>,
    /// What stands for `{id}` in the path; empty where there is none.
    pub id: String,
    /// The user of the token, when it is no signed request.
    pub token_user: Option<String>,
}

impl Caller {
    /// The user of a request. A token speaks for its own user only.
    pub fn user(&self, given: Option<&UserRef>) -> Result<String, RoutingError> {
        match (&self.token_user, given) {
            (None, given) => UserRef::required(given),
            (Some(own), None) => Ok(own.clone()),
            (Some(own), given @ Some(_)) if UserRef::required(given)? == *own => Ok(own.clone()),
            (Some(_), Some(_)) => Err(invalid("user_id", "the user token is another user's")),
        }
    }
}

/// What a call is given.
pub enum Input {
    /// A JSON text.
    Body(Bytes),
    /// Parameters of a query, as texts.
    Query(Map<String, Value>),
}

impl Input {
    /// The body of a POST.
    pub fn of_body(body: Bytes) -> Self {
        Self::Body(body)
    }

    /// The parameters of a GET, without those of the signature. Names in any case, the first of each.
    pub fn of_query(query: &Query<'_>) -> Self {
        let mut parameters = Map::new();
        for (name, value) in query.iter() {
            let name = name.to_ascii_lowercase();
            if !name.starts_with("auth_") && name != "body_md5" {
                parameters.entry(name).or_insert_with(|| Value::String(value.to_owned()));
            }
        }
        Self::Query(parameters)
    }

    /// The request.
    ///
    /// # Errors
    /// `bad_json`, or `invalid_field` with the field's path.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, RoutingError> {
        match self {
            Self::Body(body) => from_body(body),
            Self::Query(parameters) => {
                let read = serde_path_to_error::deserialize(Value::Object(parameters.clone()));
                read.map_err(|error| wrong_field(&error))
            }
        }
    }
}

fn from_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, RoutingError> {
    let bad = |reason: &str| {
        Err(RoutingError::new(Code::BadJson, format!("the body must be a JSON object: {reason}")))
    };
    // A struct could also be read from a list.
    match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{') => {}
        Some(_) => return bad("it begins with something else"),
        None => return bad("it is empty"),
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    match serde_path_to_error::deserialize(&mut json) {
        Ok(request) => match json.end() {
            Ok(()) => Ok(request),
            Err(error) => bad(&error.to_string()),
        },
        Err(error) if error.inner().classify() == Category::Data => Err(wrong_field(&error)),
        Err(error) => bad(&error.into_inner().to_string()),
    }
}

fn wrong_field(error: &serde_path_to_error::Error<serde_json::Error>) -> RoutingError {
    let (path, reason) = (error.path().to_string(), error.inner().to_string());
    // What was expected is enough: what came may be a phone number or a text. The place in the JSON
    // follows, which the path tells better.
    let reason = match reason.rsplit_once(", expected ") {
        Some((_, expected)) => format!("expected {expected}"),
        None => reason,
    };
    let reason = reason.rsplit_once(" at line ").map_or(reason.as_str(), |(reason, _)| reason);
    let error = RoutingError::new(Code::InvalidField, format!("{path}: {reason}"));
    if path == "." { error } else { error.at(path) }
}

/// An answer as JSON.
///
/// # Errors
/// It can't be written, a fault of ours.
pub fn written<T: Serialize>(answer: &T) -> Result<Bytes, RoutingError> {
    serde_json::to_vec(answer).map(Bytes::from).map_err(|error| {
        tracing::error!(%error, "bug: the messaging API can't write an answer as JSON");
        RoutingError::new(Code::StorageUnavailable, "the answer could not be written")
    })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::api::messaging::fields::whole;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Request {
        name: Option<String>,
        #[serde(default)]
        list: Vec<Item>,
        user_id: Option<UserId>,
        #[serde(default, deserialize_with = "whole")]
        limit: Option<i64>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Item {
        number: String,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(untagged, expecting = "expected a number or a string")]
    enum UserId {
        Number(i64),
        Text(String),
    }

    fn body(text: &str) -> Result<Request, (Code, Option<String>)> {
        let read = Input::of_body(Bytes::copy_from_slice(text.as_bytes())).read();
        read.map_err(|error| (error.code, error.field.map(std::borrow::Cow::into_owned)))
    }

    #[test]
    fn bodies_are_objects_and_wrong_types_are_named() {
        assert!(body(r#" {"name":"x","other":1} "#).is_ok());
        for text in ["", " ", "[]", "7", "null", "{", r#"{"name":"x"}}"#, r#"{"name":"\ud800"}"#, "{'a':1}"] {
            assert_eq!(body(text), Err((Code::BadJson, None)), "{text}");
        }
        for (text, field) in [
            (r#"{"name":7}"#, "name"),
            (r#"{"list":{}}"#, "list"),
            (r#"{"list":[{"number":"1"},{"number":2}]}"#, "list[1].number"),
            (r#"{"list":[{}]}"#, "list[0]"),
            (r#"{"user_id":[7]}"#, "user_id"),
            (r#"{"limit":"ten"}"#, "limit"),
        ] {
            assert_eq!(body(text), Err((Code::InvalidField, Some(field.to_owned()))), "{text}");
        }
    }

    #[test]
    fn the_message_says_what_was_expected_and_not_what_came() {
        for (body, message) in [
            (r#"{"user_id":[7]}"#, "user_id: expected a number or a string"),
            (r#"{"name":13125550100}"#, "name: expected a string"),
            (r#"{"limit":"+13125550100, expected at line 1"}"#, "limit: expected a whole number"),
            (r#"{"list":[{}]}"#, "list[0]: missing field `number`"),
        ] {
            let read: Result<Request, _> = Input::of_body(Bytes::from_static(body.as_bytes())).read();
            assert_eq!(read.expect_err(body).message, message);
        }
    }

    #[test]
    fn parameters_of_the_signature_are_no_input() {
        let query = Query::parse("auth_key=k&body_md5=0&Name=a+b&name=second&limit=20&user_id=7");
        let read: Request = Input::of_query(&query).read().expect("fits");
        let user_id = Some(UserId::Text("7".to_owned()));
        let expected = Request { name: Some("a b".to_owned()), list: Vec::new(), user_id, limit: Some(20) };
        assert_eq!(read, expected);
    }
}
