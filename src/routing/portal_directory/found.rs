//! What the rows of the portal's tables mean. Databases compare loosely (MySQL ignores case, accents and
//! blanks at the end, and takes '7x' for 7), so everything is compared once more.

use super::super::directory::{OwnNumber, Owner};
use super::super::draft::UserRef;
use super::super::phone_number::{PhoneNumber, is_same_line, visible};
use super::fault::Fault;
use super::rows::Row;
use crate::config::{NumberCheck, NumberSettings, RoutingSettings};

/// Who has `wanted`: rows with other numbers do not count. Of rows with the same line in another spelling only if no
/// user has the very number.
pub(super) fn owner(
    rows: &[Row],
    wanted: &PhoneNumber,
    settings: &RoutingSettings,
) -> Result<Option<Owner>, Fault> {
    let mut owners = Vec::new();
    for row in rows {
        let [user_id, Some(number), status] = &row[..] else { continue };
        let number = stored_number(number, settings);
        let Some(number) = number.filter(|number| is_same_line(number.as_str(), wanted.as_str())) else {
            continue;
        };
        let status = status.clone().unwrap_or_default();
        owners.push(Owner {
            number: number.as_str().to_owned(),
            user_id: user(user_id.as_deref())?,
            is_assigned: settings.directory.assigned_status.contains(&status),
            status,
            label: None,
        });
    }
    if owners.is_empty() && !rows.is_empty() {
        let (number, rows) = (wanted.masked(), rows.len());
        tracing::warn!(number, rows, "the portal's directory returned other numbers than the one queried");
    }
    let is_exact = |owner: &Owner| owner.number == wanted.as_str();
    if owners.iter().any(|owner| is_exact(owner) && owner.is_in_use()) {
        owners.retain(is_exact);
    }
    let Some(chosen) = owners.iter().find(|owner| owner.is_in_use()) else {
        return Ok(owners.into_iter().next());
    };
    if owners.iter().any(|owner| owner.is_in_use() && owner.user_id != chosen.user_id) {
        return Err(Fault::Ambiguous);
    }
    Ok(Some(chosen.clone()))
}

/// A user's numbers, each once, the main one first.
pub(super) fn own_numbers(rows: &[Row], user_id: &str, settings: &RoutingSettings) -> Vec<OwnNumber> {
    let mut own: Vec<OwnNumber> = Vec::new();
    let mut unreadable = 0_usize;
    for row in rows {
        let [Some(number), is_default, owner, messaging_profile_id] = &row[..] else { continue };
        if owner.as_deref().is_some_and(|owner| owner.trim() != user_id) {
            continue;
        }
        let Some(number) = stored_number(number, settings) else {
            unreadable += 1;
            continue;
        };
        let is_default = is_default.as_deref().is_some_and(truth);
        match own.iter_mut().find(|own| own.number == number.as_str()) {
            Some(known) => known.is_default |= is_default,
            None => own.push(OwnNumber {
                number: number.as_str().to_owned(),
                is_default,
                messaging_profile_id: messaging_profile_id.clone().filter(|profile| !profile.is_empty()),
            }),
        }
    }
    if unreadable > 0 {
        tracing::warn!(
            user = user_id,
            unreadable,
            "the portal's directory returned numbers that are not phone numbers"
        );
    }
    own.sort_by_key(|own| !own.is_default);
    own
}

/// The id of the first conversation.
pub(super) fn conversation(rows: &[Row]) -> Result<Option<String>, Fault> {
    let id = rows.first().and_then(|row| row.first()).and_then(Option::as_deref);
    let id =
        checked(id, "routing.directory.find_conversation gives an id that can't be part of a channel name");
    Ok(id?.filter(|id| !id.is_empty()))
}

fn user(text: Option<&str>) -> Result<Option<String>, Fault> {
    checked(text, "routing.directory.find_number gives a user_id that can't be part of a channel name")
}

/// A text that becomes part of a channel name; `None` when there is none.
fn checked(text: Option<&str>, refusal: &str) -> Result<Option<String>, Fault> {
    let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else { return Ok(None) };
    let id = UserRef::required(Some(&UserRef::Text(text.to_owned())));
    id.map(Some).map_err(|_| Fault::Wrong(refusal.to_owned()))
}

/// Reads a number of the portal's tables, without the marks that nobody sees: as a number of the app's region, or else, when it is none, as
/// digits that lack their `+` (`442071838750`, `00442071838750`).
fn stored_number(text: &str, settings: &RoutingSettings) -> Option<PhoneNumber> {
    let rules = NumberSettings { check: NumberCheck::Possible, ..settings.numbers.clone() };
    let text = visible(text);
    let text = text.trim();
    let region = settings.default_region.as_deref();
    if let Ok(number) = PhoneNumber::parse(text, &rules, region) {
        return Some(number);
    }
    let digits = text.strip_prefix("00").unwrap_or(text);
    let is_bare = digits.bytes().all(|byte| byte.is_ascii_digit());
    is_bare.then(|| PhoneNumber::parse(&format!("+{digits}"), &rules, None).ok()).flatten()
}

fn truth(text: &str) -> bool {
    let text = text.trim().to_ascii_lowercase();
    matches!(text.as_str(), "t" | "true" | "y" | "yes" | "on") || text.parse::<i64>().is_ok_and(|n| n != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[&str]) -> Row {
        cells.iter().map(|cell| (*cell != "NULL").then(|| (*cell).to_owned())).collect()
    }

    fn wanted() -> PhoneNumber {
        PhoneNumber::from_stored("+13125550101").expect("E.164")
    }

    fn found(rows: &[[&str; 3]]) -> Result<Option<(Option<String>, String, bool)>, Fault> {
        let rows: Vec<Row> = rows.iter().map(|cells| row(cells)).collect();
        let owner = owner(&rows, &wanted(), &RoutingSettings::default())?;
        Ok(owner.map(|owner| (owner.user_id, owner.status, owner.is_assigned)))
    }

    #[test]
    fn only_rows_of_that_very_number_count() {
        let seven =
            |status: &str, is_assigned| Ok(Some((Some("7".to_owned()), status.to_owned(), is_assigned)));
        for (rows, expected) in [
            (&[][..], Ok(None)),
            (&[["7", "+13125550101", "assigned"]], seven("assigned", true)),
            (&[["7 ", "(312) 555-0101 ", "assigned"]], seven("assigned", true)),
            (&[["7", "3125550101", "assigned"]], seven("assigned", true)),
            (&[["7", "0013125550101", "assigned"]], seven("assigned", true)),
            (&[["7", "+13125550101", "Assigned"]], seven("Assigned", false)),
            (&[["7", "+13125550101", "assigned "]], seven("assigned ", false)),
            (&[["7", "+13125550101", "suspended"]], seven("suspended", false)),
            (&[["7", "+13125550101", "NULL"]], seven("", false)),
            (&[["7", "+13125550102", "assigned"]], Ok(None)),
            (&[["7", "NULL", "assigned"]], Ok(None)),
            (&[["7", "call me", "assigned"]], Ok(None)),
            (
                &[["8", "+33125550101", "assigned"], ["7", "+13125550101", "assigned"]],
                seven("assigned", true),
            ),
        ] {
            assert_eq!(found(rows), expected, "{rows:?}");
        }
        let nobody = Ok(Some((None, "assigned".to_owned(), true)));
        assert_eq!(found(&[["NULL", "+13125550101", "assigned"]]), nobody);
        assert_eq!(found(&[[" ", "+13125550101", "assigned"]]), nobody);
        assert!(matches!(found(&[["a/b", "+13125550101", "assigned"]]), Err(Fault::Wrong(_))));
    }

    #[test]
    fn two_users_with_one_number_are_an_error_unless_one_had_it_before() {
        let (e164, national) = ("+13125550101", "312-555-0101");
        for (rows, is_ambiguous) in [
            ([["7", e164, "assigned"], ["8", national, "assigned"]], true),
            ([["7", e164, "assigned"], ["7", national, "assigned"]], false),
            ([["8", e164, "released"], ["7", national, "assigned"]], false),
            ([["7", e164, "assigned"], ["NULL", national, "assigned"]], false),
            ([["7", e164, "assigned"], ["8", "+13125550102", "assigned"]], false),
        ] {
            match found(&rows) {
                Err(fault) => assert!(is_ambiguous && fault == Fault::Ambiguous, "{rows:?} {fault}"),
                Ok(owner) => {
                    assert!(!is_ambiguous, "{rows:?}");
                    assert_eq!(owner, Some((Some("7".to_owned()), "assigned".to_owned(), true)));
                }
            }
        }
    }

    #[test]
    fn a_row_with_another_spelling_of_the_line_counts_where_no_user_has_the_very_number() {
        let wanted = PhoneNumber::from_stored("+5215512345678").expect("E.164");
        let found = |rows: &[[&str; 3]]| {
            let rows: Vec<Row> = rows.iter().map(|cells| row(cells)).collect();
            let owner = owner(&rows, &wanted, &RoutingSettings::default())?;
            Ok::<_, Fault>(owner.map(|owner| (owner.user_id.unwrap_or_default(), owner.number)))
        };
        let (new, old) = ("+525512345678", "+5215512345678");
        let user = |user: &str, number: &str| Ok(Some((user.to_owned(), number.to_owned())));
        for (rows, expected) in [
            (&[["7", new, "assigned"]][..], user("7", new)),
            (&[["7", "525512345678", "assigned"]], user("7", new)),
            (&[["8", new, "assigned"], ["7", old, "assigned"]], user("7", old)),
            (&[["8", new, "assigned"], ["7", old, "released"]], user("8", new)),
            (&[["7", new, "assigned"], ["7", "+52 55 1234 5678", "assigned"]], user("7", new)),
            (&[["7", "+525512345679", "assigned"]], Ok(None)),
            (&[["7", new, "assigned"], ["8", "\u{61c}+52 55 1234 5678", "assigned"]], Err(Fault::Ambiguous)),
        ] {
            assert_eq!(found(rows), expected, "{rows:?}");
        }
    }

    #[test]
    fn numbers_stored_without_plus_are_read_if_they_are_none_of_the_region() {
        let settings = RoutingSettings::default();
        for (stored, number) in [
            ("442071838750", Some("+442071838750")),
            ("00442071838750", Some("+442071838750")),
            ("+44 20 7183 8750", Some("+442071838750")),
            ("13125550101", Some("+13125550101")),
            ("3125550101", Some("+13125550101")),
            ("\u{61c}\u{2066}442071838750\u{2069}", Some("+442071838750")),
            ("12", None),
            ("", None),
        ] {
            let found = stored_number(stored, &settings);
            assert_eq!(found.as_ref().map(PhoneNumber::as_str), number, "{stored}");
        }
    }

    #[test]
    fn own_numbers_are_each_once_and_the_main_one_is_first() {
        let rows = [
            row(&["+13125550101", "0", "7", "NULL"]),
            row(&["312-555-0102", "1", "NULL", ""]),
            row(&["+13125550102", "0", "7", "profile"]),
            row(&["+13125550103", "t", "8", "NULL"]),
            row(&["nonsense", "1", "7", "NULL"]),
            row(&["NULL", "1", "7", "NULL"]),
            row(&["+13125550104", "NULL", " 7 ", "profile"]),
        ];
        let own = own_numbers(&rows, "7", &RoutingSettings::default());
        let own: Vec<_> = own
            .iter()
            .map(|own| (own.number.as_str(), own.is_default, own.messaging_profile_id.as_deref()))
            .collect();
        let expected = [
            ("+13125550102", true, None),
            ("+13125550101", false, None),
            ("+13125550104", false, Some("profile")),
        ];
        assert_eq!(own, expected);
    }

    #[test]
    fn truth_in_many_words() {
        for (text, expected) in [
            ("1", true),
            ("TRUE", true),
            ("t", true),
            ("yes", true),
            ("-1", true),
            ("0", false),
            ("f", false),
            ("", false),
        ] {
            assert_eq!(truth(text), expected, "{text}");
        }
    }

    #[test]
    fn a_conversation_is_the_first_id() {
        assert_eq!(conversation(&[]), Ok(None));
        assert_eq!(conversation(&[row(&["NULL"])]), Ok(None));
        assert_eq!(conversation(&[row(&["12"]), row(&["13"])]), Ok(Some("12".to_owned())));
        assert!(matches!(conversation(&[row(&["1/2"])]), Err(Fault::Wrong(_))));
    }
}
