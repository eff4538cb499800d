//! Fields that several requests have.

use schemars::JsonSchema;
use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serialize};

use crate::config::RoutingSettings;
use crate::routing::RoutingError;
use crate::routing::draft::{UserRef, invalid, parsed_number};
use crate::routing::phone_number::PhoneNumber;

/// A user's request that needs nothing else.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct UserRequest {
    /// Whose request it is.
    pub user_id: Option<UserRef>,
}

/// A request without fields.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct NoFields {}

/// An answer without fields.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Done {}

/// How many records a page has.
///
/// # Errors
/// `invalid_field`.
pub fn limit(given: Option<i64>, default: i64, most: i64) -> Result<i64, RoutingError> {
    let limit = given.unwrap_or(default);
    if (1..=most).contains(&limit) {
        Ok(limit)
    } else {
        Err(invalid("limit", &format!("limit must be between 1 and {most}")))
    }
}

/// A number that must be there.
///
/// # Errors
/// `invalid_number`, or `invalid_field` when it is missing.
pub fn number(text: Option<&str>, settings: &RoutingSettings) -> Result<PhoneNumber, RoutingError> {
    let number = parsed_number("number", text, settings)?;
    number.ok_or_else(|| invalid("number", "number is missing"))
}

/// A whole number, also as the text that it is in a query.
///
/// # Errors
/// It is none.
pub fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a whole number")]
    enum Whole {
        Number(i64),
        Text(String),
    }
    match Option::<Whole>::deserialize(deserializer)? {
        None => Ok(None),
        Some(Whole::Number(number)) => Ok(Some(number)),
        Some(Whole::Text(text)) => {
            text.trim().parse().map(Some).map_err(|_| D::Error::custom("expected a whole number"))
        }
    }
}

/// Tells `null`, which takes a value away, from a field that is not there and changes nothing.
///
/// # Errors
/// It is of another type.
pub fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}
