//! Who is the recipient: a portal user or somebody outside? And which number does the sender use? Pure.

use serde::{Deserialize, Serialize};

use super::directory::{OwnNumber, Owner};
use super::error::{Code, RoutingError};
use super::phone_number::{PhoneNumber, is_same_line};
use crate::config::{DirectoryMode, UnassignedOwnNumber};

/// Where a message goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// To this portal user; no carrier.
    Internal(String),
    /// Through the carrier.
    External,
}

/// A decision and its reason, stored with the message and never made again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Explanation {
    /// `internal` or `external`.
    pub route: String,
    /// `assigned`: the number belongs to a portal user. `not_in_directory`: nobody of the portal has it.
    /// `not_assigned`: it is the portal's, but no user's. `group`: a message to a group is always external.
    pub reason: String,
    /// The number's status in the directory.
    pub number_status: Option<String>,
    /// `own` or `sql`: which directory was asked.
    pub directory: String,
    /// How the sender's number was found: `request`, `only_number`, `last_used`, `default`.
    pub from: String,
}

impl Explanation {
    /// Why a message goes to `route`: `reason` as [`route`] gave it, what the directory of this kind said of the
    /// recipient, and how the sender's number was found.
    pub fn new(
        route: &Route,
        reason: &str,
        recipient: Option<&Owner>,
        directory: DirectoryMode,
        from: impl Into<String>,
    ) -> Self {
        Self {
            route: if *route == Route::External { "external" } else { "internal" }.to_owned(),
            reason: reason.to_owned(),
            number_status: recipient.map(|owner| owner.status.clone()),
            directory: directory.as_str().to_owned(),
            from: from.into(),
        }
    }
}

/// Whether the recipient's number belongs to a portal user.
///
/// # Errors
/// The number is the portal's own, nobody has it, and such are refused.
pub fn route(
    recipient: Option<&Owner>,
    rule: UnassignedOwnNumber,
) -> Result<(Route, &'static str), RoutingError> {
    match recipient {
        None => Ok((Route::External, "not_in_directory")),
        Some(Owner { is_assigned: true, user_id: Some(user), .. }) => {
            Ok((Route::Internal(user.clone()), "assigned"))
        }
        Some(_) if rule == UnassignedOwnNumber::External => Ok((Route::External, "not_assigned")),
        Some(_) => {
            let message = "the recipient's number is one of the portal's own, but it is assigned to nobody";
            Err(RoutingError::new(Code::RecipientUnassigned, message).at("to"))
        }
    }
}

/// The number a user sends from, and how it was found.
///
/// # Errors
/// `from` is not the user's, or it must be given.
pub fn sender<'a>(
    requested: Option<&PhoneNumber>,
    own: &'a [OwnNumber],
    last_used: Option<&str>,
) -> Result<(&'a OwnNumber, &'static str), RoutingError> {
    let owned = |number: &str| {
        let exactly = own.iter().find(|own| own.number == number);
        exactly.or_else(|| own.iter().find(|own| is_same_line(&own.number, number)))
    };
    if let Some(requested) = requested {
        let not_owned = || {
            let message = "the number in from is not assigned to this user";
            RoutingError::new(Code::FromNotOwned, message).at("from")
        };
        return owned(requested.as_str()).map(|own| (own, "request")).ok_or_else(not_owned);
    }
    let mut defaults = own.iter().filter(|own| own.is_default);
    match (own, last_used.and_then(owned), (defaults.next(), defaults.next())) {
        ([], ..) => {
            let message = "no phone number is assigned to this user";
            Err(RoutingError::new(Code::FromRequired, message).at("from"))
        }
        ([only], ..) => Ok((only, "only_number")),
        (_, Some(last_used), _) => Ok((last_used, "last_used")),
        (_, None, (Some(default), None)) => Ok((default, "default")),
        _ => {
            let message = "this user has several phone numbers: say in from which one to use";
            Err(RoutingError::new(Code::FromRequired, message).at("from"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(status: &str, user: Option<&str>) -> Owner {
        Owner {
            number: "+13125550101".to_owned(),
            user_id: user.map(str::to_owned),
            status: status.to_owned(),
            is_assigned: status == "assigned",
            label: None,
        }
    }

    #[test]
    fn only_an_assigned_number_with_a_user_is_internal() {
        use UnassignedOwnNumber::{External, Reject};
        let internal = Route::Internal("7".to_owned());
        assert_eq!(route(None, Reject), Ok((Route::External, "not_in_directory")));
        assert_eq!(route(Some(&owner("assigned", Some("7"))), Reject), Ok((internal, "assigned")));
        for status in ["available", "reserved", "suspended", "released"] {
            for user in [None, Some("7")] {
                let owner = owner(status, user);
                assert_eq!(route(Some(&owner), External), Ok((Route::External, "not_assigned")), "{status}");
                let refused = route(Some(&owner), Reject).expect_err(status);
                assert_eq!((refused.code, refused.field.as_deref()), (Code::RecipientUnassigned, Some("to")));
            }
        }
        assert_eq!(route(Some(&owner("assigned", None)), External), Ok((Route::External, "not_assigned")));
    }

    #[test]
    fn the_sender_is_asked_for_only_when_it_is_not_obvious() {
        let number = |number: &str, is_default| OwnNumber {
            number: number.to_owned(),
            is_default,
            messaging_profile_id: None,
        };
        let (a, b) = ("+13125550101", "+13125550102");
        let (one, two) = ([number(a, false)], [number(a, false), number(b, false)]);
        let with_default = [number(a, false), number(b, true)];
        let both_default = [number(a, true), number(b, true)];
        for (own, last_used, expected) in [
            (&one[..], None, Ok((a, "only_number"))),
            (&two[..], Some(b), Ok((b, "last_used"))),
            (&with_default[..], None, Ok((b, "default"))),
            (&with_default[..], Some(a), Ok((a, "last_used"))),
            (&with_default[..], Some("+13125550999"), Ok((b, "default"))),
            (&two[..], None, Err(Code::FromRequired)),
            (&both_default[..], None, Err(Code::FromRequired)),
            (&[][..], None, Err(Code::FromRequired)),
        ] {
            let found = sender(None, own, last_used);
            let found = found.map(|(own, how)| (own.number.as_str(), how)).map_err(|error| error.code);
            assert_eq!(found, expected);
        }
    }
}
