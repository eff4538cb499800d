//! The directory: which number belongs to whom.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::call::Caller;
use super::fields::{given, limit, number, whole};
use crate::config::RoutingSettings;
use crate::routing::draft::{UserRef, invalid};
use crate::routing::json::Id;
use crate::routing::numbers::{Lookup, NumberChange, NumberQuery, NumberStatus, PhoneNumberJson};
use crate::routing::{Code, RoutingError};

/// Numbers of one list.
const MAX_LIST: usize = 1_000;
/// Longest label and profile id, in characters.
const MAX_TEXT: usize = 255;

/// `GET /phone_numbers`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct PhoneNumbersRequest {
    /// Only those of this user.
    user_id: Option<UserRef>,
    /// Only those in this state.
    status: Option<NumberStatus>,
    /// At most so many, up to 1000; 100 if not given.
    #[serde(default, deserialize_with = "whole")]
    #[schemars(with = "Option<u32>")]
    limit: Option<i64>,
    /// `next` of the page before.
    #[serde(default, deserialize_with = "whole")]
    #[schemars(with = "Option<u64>")]
    after: Option<i64>,
}

/// A page of the directory, in the order in which numbers were added.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PhoneNumberList {
    /// The numbers.
    phone_numbers: Vec<PhoneNumberJson>,
    /// To be sent as `after` for the next page; null on the last one.
    next: Option<Id>,
}

/// A number to be added or changed. Fields that are not given stay as they are, null takes them away.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub struct NumberEntry {
    /// In any usual spelling.
    #[schemars(required)]
    number: Option<String>,
    /// Who has it.
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "Option<UserRef>")]
    user_id: Option<Option<UserRef>>,
    /// What it is to the portal; `assigned` if only `user_id` is given.
    status: Option<NumberStatus>,
    /// What the portal calls it: the name that new internal contacts of its user get.
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "Option<String>")]
    label: Option<Option<String>>,
    /// Whether its user sends from it when nothing else is said; the user's other numbers are not, then.
    is_default: Option<bool>,
    /// The carrier's messaging profile, where it is not the app's.
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "Option<String>")]
    messaging_profile_id: Option<Option<String>>,
}

/// `POST /phone_numbers`: one number, or a list, of which all are saved or none.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct SaveRequest {
    /// Up to 1000 numbers, instead of the other fields.
    phone_numbers: Option<Vec<NumberEntry>>,
    /// In any usual spelling.
    number: Option<String>,
    /// Who has it.
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "Option<UserRef>")]
    user_id: Option<Option<UserRef>>,
    /// What it is to the portal; `assigned` if only `user_id` is given.
    status: Option<NumberStatus>,
    /// What the portal calls it: the name that new internal contacts of its user get.
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "Option<String>")]
    label: Option<Option<String>>,
    /// Whether its user sends from it when nothing else is said; the user's other numbers are not, then.
    is_default: Option<bool>,
    /// The carrier's messaging profile, where it is not the app's.
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "Option<String>")]
    messaging_profile_id: Option<Option<String>>,
}

/// What was saved, in the form in which it was given.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SaveAnswer {
    /// The number.
    #[serde(skip_serializing_if = "Option::is_none")]
    phone_number: Option<PhoneNumberJson>,
    /// The list, in its order.
    #[serde(skip_serializing_if = "Option::is_none")]
    phone_numbers: Option<Vec<PhoneNumberJson>>,
}

/// `POST /phone_numbers/assign`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct AssignRequest {
    /// In any usual spelling.
    #[schemars(required)]
    number: Option<String>,
    /// Who gets it; whoever has it already if not given.
    user_id: Option<UserRef>,
}

/// A request about one number.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct NumberRequest {
    /// In any usual spelling.
    #[schemars(required)]
    number: Option<String>,
}

/// A number of the directory.
#[derive(Debug, Serialize, JsonSchema)]
pub struct NumberAnswer {
    /// As it is now.
    phone_number: PhoneNumberJson,
}

/// A page of the directory.
pub async fn list(caller: Caller, request: PhoneNumbersRequest) -> Result<PhoneNumberList, RoutingError> {
    let user = request.user_id.as_ref();
    let query = NumberQuery {
        user_id: user.map(|user| UserRef::required(Some(user))).transpose()?,
        status: request.status,
        limit: limit(request.limit, 100, 1_000)?,
        after: request.after,
    };
    let Caller { router, app, .. } = caller;
    let (found, has_more) = router.phone_numbers(app.clone(), query).await?;
    let next = found.last().filter(|_| has_more).map(|last| Id::Number(last.id));
    let settings = &app.settings.routing;
    Ok(PhoneNumberList { phone_numbers: found.iter().map(|number| number.json(settings)).collect(), next })
}

/// Adds and changes numbers.
pub async fn save(caller: Caller, request: SaveRequest) -> Result<SaveAnswer, RoutingError> {
    let Caller { router, app, .. } = caller;
    let settings = &app.settings.routing;
    let (is_list, changes) = match request.phone_numbers {
        Some(entries) => (true, changes(entries, settings)?),
        None => {
            let SaveRequest { number, user_id, status, label, is_default, messaging_profile_id, .. } =
                request;
            let entry = NumberEntry { number, user_id, status, label, is_default, messaging_profile_id };
            (false, vec![entry.change(settings)?])
        }
    };
    let saved = router.save_phone_numbers(app.clone(), changes).await?;
    let mut saved: Vec<_> = saved.iter().map(|number| number.json(settings)).collect();
    Ok(if is_list {
        SaveAnswer { phone_number: None, phone_numbers: Some(saved) }
    } else {
        SaveAnswer { phone_number: saved.pop(), phone_numbers: None }
    })
}

/// Gives a number to a user.
pub async fn assign(caller: Caller, request: AssignRequest) -> Result<NumberAnswer, RoutingError> {
    let Caller { router, app, .. } = caller;
    let settings = &app.settings.routing;
    let number = number(request.number.as_deref(), settings)?;
    let user = request.user_id.as_ref().map(|user| UserRef::required(Some(user))).transpose()?;
    let assigned = router.assign_phone_number(app.clone(), number, user).await?;
    Ok(NumberAnswer { phone_number: assigned.json(settings) })
}

/// Takes a number out of use.
pub async fn release(caller: Caller, request: NumberRequest) -> Result<NumberAnswer, RoutingError> {
    let Caller { router, app, .. } = caller;
    let settings = &app.settings.routing;
    let number = number(request.number.as_deref(), settings)?;
    let released = router.release_phone_number(app.clone(), number).await?;
    Ok(NumberAnswer { phone_number: released.json(settings) })
}

/// Takes a number out of use for a while.
pub async fn suspend(caller: Caller, request: NumberRequest) -> Result<NumberAnswer, RoutingError> {
    let Caller { router, app, .. } = caller;
    let settings = &app.settings.routing;
    let number = number(request.number.as_deref(), settings)?;
    let suspended = router.suspend_phone_number(app.clone(), number).await?;
    Ok(NumberAnswer { phone_number: suspended.json(settings) })
}

/// What a message to this number would be.
pub async fn look_up(caller: Caller, request: NumberRequest) -> Result<Lookup, RoutingError> {
    let Caller { router, app, .. } = caller;
    let number = number(request.number.as_deref(), &app.settings.routing)?;
    router.look_up_phone_number(app, number).await
}

fn changes(entries: Vec<NumberEntry>, settings: &RoutingSettings) -> Result<Vec<NumberChange>, RoutingError> {
    if entries.is_empty() || entries.len() > MAX_LIST {
        let message = format!("a list has between 1 and {MAX_LIST} numbers");
        return Err(invalid("phone_numbers", &message));
    }
    let mut seen = std::collections::HashSet::with_capacity(entries.len());
    let mut changes = Vec::with_capacity(entries.len());
    for (index, entry) in entries.into_iter().enumerate() {
        let change = entry.change(settings).map_err(|error| in_list(error, index))?;
        if !seen.insert(change.number.clone()) {
            let twice = invalid("number", "the list has this number twice");
            return Err(in_list(twice, index));
        }
        changes.push(NumberChange { index: Some(index), ..change });
    }
    Ok(changes)
}

/// The same failure, of an item of the list.
fn in_list(mut error: RoutingError, index: usize) -> RoutingError {
    let place = format!("phone_numbers[{index}]");
    error.field = Some(error.field.map_or(place.clone(), |field| format!("{place}.{field}")).into());
    error
}

impl NumberEntry {
    fn change(self, settings: &RoutingSettings) -> Result<NumberChange, RoutingError> {
        let user_id = match self.user_id {
            None => None,
            Some(None) => Some(None),
            Some(Some(user)) => Some(Some(UserRef::required(Some(&user))?)),
        };
        Ok(NumberChange {
            user_id,
            status: self.status,
            label: short("label", self.label)?,
            is_default: self.is_default,
            messaging_profile_id: short("messaging_profile_id", self.messaging_profile_id)?,
            ..NumberChange::new(number(self.number.as_deref(), settings)?)
        })
    }
}

fn short(field: &'static str, text: Option<Option<String>>) -> Result<Option<Option<String>>, RoutingError> {
    let trimmed = text.map(|text| text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()));
    let is_fine = |text: &str| text.chars().count() <= MAX_TEXT && !text.chars().any(char::is_control);
    match &trimmed {
        Some(Some(text)) if !is_fine(text) => {
            let message = format!("{field} has at most {MAX_TEXT} printable characters");
            Err(RoutingError::new(Code::InvalidField, message).at(field))
        }
        _ => Ok(trimmed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(json: serde_json::Value) -> Result<Vec<NumberChange>, (Code, Option<String>)> {
        let entries = serde_json::from_value(json).expect("entries");
        changes(entries, &RoutingSettings::default())
            .map_err(|error| (error.code, error.field.map(std::borrow::Cow::into_owned)))
    }

    #[test]
    fn entries_tell_null_from_nothing() {
        let list = serde_json::json!([
            {"number": "(312) 555-0100", "user_id": 7, "label": " Ann "},
            {"number": "+13125550101", "user_id": null, "label": ""},
            {"number": "+13125550102"},
        ]);
        let changes = entries(list).expect("fits");
        let found: Vec<_> = changes
            .iter()
            .map(|change| {
                (change.number.as_str(), change.user_id.clone(), change.label.clone(), change.index)
            })
            .collect();
        let text = |text: &str| Some(Some(text.to_owned()));
        assert_eq!(
            found,
            [
                ("+13125550100", text("7"), text("Ann"), Some(0)),
                ("+13125550101", Some(None), Some(None), Some(1)),
                ("+13125550102", None, None, Some(2)),
            ]
        );
    }

    #[test]
    fn what_is_wrong_in_a_list_is_named_with_its_place() {
        for (list, code, field) in [
            (serde_json::json!([]), Code::InvalidField, "phone_numbers"),
            (serde_json::json!([{}]), Code::InvalidField, "phone_numbers[0].number"),
            (
                serde_json::json!([{"number": "+13125550100"}, {"number": "12"}]),
                Code::InvalidNumber,
                "phone_numbers[1].number",
            ),
            (
                serde_json::json!([{"number": "+13125550100"}, {"number": "312-555-0100"}]),
                Code::InvalidField,
                "phone_numbers[1].number",
            ),
            (
                serde_json::json!([{"number": "+13125550100", "label": "x".repeat(256)}]),
                Code::InvalidField,
                "phone_numbers[0].label",
            ),
        ] {
            assert_eq!(entries(list).expect_err(field), (code, Some(field.to_owned())));
        }
    }
}
