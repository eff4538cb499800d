//! One line, several spellings: where a numbering plan says that two numbers reach the same telephone.
//!
//! | country | one line | source |
//! |---|---|---|
//! | Mexico, +52 | ten digits, and the same ten after a 1 (`+52 55…`, `+52 1 55…`) | IFT, Plan Técnico Fundamental de Numeración of 2018-05-11: since 2019-08-03 every number has ten digits and the 1 of mobile lines is gone; ITU-T, national numbering plan of Mexico |
//! | Argentina, +54 | ten digits, the same after a 9, and with 15 behind the area code (`+54 11…`, `+54 9 11…`, `+54 11 15…`) | Plan Fundamental de Numeración Nacional (SC 46/97): a block of ten digits is either fixed or mobile; 9 (from abroad) and 15 (inland) only say which; ITU-T, national numbering plan of Argentina |
//! | Brazil, +55 | area code and eight digits that begin with 6, 8 or 9, and the same eight after a 9 | Anatel, Resolução 553/2010: the ninth digit of mobile lines, in all area codes since 2016-11-06. Not those that begin with 7, where trunking radio (Nextel) kept eight digits, and not 2 to 5, which are fixed lines |
//! | Benin, +229 | eight digits, and the same after 01 | ARCEP Bénin, Décision 2020-349: since 2024-11-30 every number has 01 in front |
//!
//! Where it depends on more than the digits (Côte d'Ivoire's prefixes are those of the operator that the line
//! had in 2021), nothing is said: two numbers are two lines.
//!
//! An address stays as it was written. This says which contact, user or opt-out it means.

use super::library;

/// Most spellings of one line.
pub const MAX_SPELLINGS: usize = 3;

/// A country whose lines have several spellings.
struct Plan {
    /// `+` and the country calling code.
    code: &'static str,
    /// All spellings of the line of a number after the country calling code, the one that stands for it first;
    /// `None`: it has no other, or it isn't certain.
    spellings: fn(&str) -> Option<Vec<String>>,
}

const PLANS: &[Plan] = &[
    Plan { code: "+52", spellings: mexico },
    Plan { code: "+54", spellings: argentina },
    Plan { code: "+55", spellings: brazil },
    Plan { code: "+229", spellings: benin },
];

/// Area codes of Brazil (Anatel: códigos nacionais).
const BRAZILIAN_AREAS: &[&str] = &[
    "11", "12", "13", "14", "15", "16", "17", "18", "19", "21", "22", "24", "27", "28", "31", "32", "33",
    "34", "35", "37", "38", "41", "42", "43", "44", "45", "46", "47", "48", "49", "51", "53", "54", "55",
    "61", "62", "63", "64", "65", "66", "67", "68", "69", "71", "73", "74", "75", "77", "79", "81", "82",
    "83", "84", "85", "86", "87", "88", "89", "91", "92", "93", "94", "95", "96", "97", "98", "99",
];

/// All spellings of an address's line, itself first. Of most addresses it is the only one.
pub fn spellings(address: &str) -> Vec<String> {
    let mut all = vec![address.to_owned()];
    all.extend(of_plan(address).into_iter().flatten().filter(|other| other != address));
    all
}

/// As [`spellings`], the last one repeated: values for a query that takes a fixed number of them.
pub fn spelling_values(address: &str) -> [String; MAX_SPELLINGS] {
    let all = spellings(address);
    std::array::from_fn(|at| all[at.min(all.len() - 1)].clone())
}

/// What stands for the line of an address: the same for all its spellings.
pub fn line(address: &str) -> String {
    let first = of_plan(address).and_then(|all| all.into_iter().next());
    first.unwrap_or_else(|| address.to_owned())
}

/// Whether two addresses reach the same telephone.
pub fn is_same_line(one: &str, other: &str) -> bool {
    one == other || line(one) == line(other)
}

/// Whether a number is of a plan with several spellings.
pub(super) fn is_known(number: &str) -> bool {
    of_plan(number).is_some()
}

fn of_plan(address: &str) -> Option<Vec<String>> {
    let plan = PLANS.iter().find(|plan| address.starts_with(plan.code))?;
    let national = &address[plan.code.len()..];
    if !national.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let all = (plan.spellings)(national)?;
    Some(all.into_iter().map(|national| format!("{}{national}", plan.code)).collect())
}

fn mexico(national: &str) -> Option<Vec<String>> {
    let ten = match national.len() {
        10 => national,
        11 => national.strip_prefix('1')?,
        _ => return None,
    };
    // No area code begins with 0 or 1.
    (!ten.starts_with(['0', '1'])).then(|| vec![ten.to_owned(), format!("1{ten}")])
}

fn argentina(national: &str) -> Option<Vec<String>> {
    let ten = match national.len() {
        10 => national.to_owned(),
        11 => national.strip_prefix('9')?.to_owned(),
        // The library knows how long area codes are.
        12 => {
            library::parse(&format!("+54{national}"), None).ok()?.significant().strip_prefix('9')?.to_owned()
        }
        _ => return None,
    };
    // All area codes do.
    if ten.len() != 10 || !ten.starts_with(['1', '2', '3']) {
        return None;
    }
    let mut all = vec![format!("9{ten}"), ten];
    all.extend(argentine_inland(&all[0]));
    // Twelve digits without 15 in its place are something else.
    all.iter().any(|one| one == national).then_some(all)
}

/// A mobile line with 15 behind the area code, as within the country: `9 11 2345 6789` is `11 15 2345 6789`.
fn argentine_inland(mobile: &str) -> Option<String> {
    let written = library::parse(&format!("+54{mobile}"), None).ok()?.national();
    let digits: String = written.chars().filter(char::is_ascii_digit).collect();
    digits.strip_prefix('0').filter(|inland| inland.len() == 12).map(str::to_owned)
}

fn brazil(national: &str) -> Option<Vec<String>> {
    let (area, subscriber) = national.split_at_checked(2)?;
    let eight = match subscriber.len() {
        8 => subscriber,
        9 => subscriber.strip_prefix('9')?,
        _ => return None,
    };
    let is_mobile = BRAZILIAN_AREAS.contains(&area) && eight.starts_with(['6', '8', '9']);
    is_mobile.then(|| vec![format!("{area}9{eight}"), format!("{area}{eight}")])
}

fn benin(national: &str) -> Option<Vec<String>> {
    let eight = match national.len() {
        8 => national,
        10 => national.strip_prefix("01")?,
        _ => return None,
    };
    Some(vec![format!("01{eight}"), eight.to_owned()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_line_are_known_from_each_of_them() {
        for all in [
            &["+525512345678", "+5215512345678"][..],
            &["+523312345678", "+5213312345678"],
            &["+5491123456789", "+541123456789", "+54111523456789"],
            &["+5492914123456", "+542914123456", "+54291154123456"],
            &["+5492966123456", "+542966123456", "+54296615123456"],
            &["+5511987654321", "+551187654321"],
            &["+5511996123456", "+551196123456"],
            &["+5531961234567", "+553161234567"],
            &["+5598981234567", "+559881234567"],
            &["+2290197001234", "+22997001234"],
            &["+2290121001234", "+22921001234"],
        ] {
            for one in all {
                assert_eq!(line(one), all[0], "{one}");
                let found = spellings(one);
                assert_eq!(found[0], **one);
                assert_eq!(found.len(), all.len(), "{one}: {found:?}");
                assert!(all.iter().all(|other| found.iter().any(|one| one == other)), "{one}: {found:?}");
                assert!(all.iter().all(|other| is_same_line(one, other)), "{one}");
            }
        }
    }

    #[test]
    fn other_numbers_are_lines_of_their_own() {
        for address in [
            "+13125550100",
            "+447911123456",
            // Fixed lines, trunking radio, and an area code that does not exist.
            "+551131234567",
            "+5511931234567",
            "+5511951234567",
            "+551178123456",
            "+5511978123456",
            "+552387654321",
            "+5511887654321",
            // Not of the plan.
            "+52155123456",
            "+5211512345678",
            "+5201512345678",
            "+54911234567",
            "+54412345678",
            "+544123456789",
            "+54112345678901",
            "+54111623456789",
            "+229012100123",
            "+2290221001234",
            // The operator's prefix.
            "+2250707070707",
            "+22507070707",
            "+52",
            "+75973",
            "5215512345678",
            "+52ACME",
            "+55é",
            "ACME",
            "",
        ] {
            assert_eq!(spellings(address), [address]);
            assert_eq!(line(address), address);
            assert_eq!(spelling_values(address), [address; 3]);
        }
        for (one, other) in [
            ("+551131234567", "+5511931234567"),
            ("+551178123456", "+5511978123456"),
            ("+525512345678", "+525512345679"),
            ("+525512345678", "+5491123456789"),
        ] {
            assert!(!is_same_line(one, other), "{one} {other}");
        }
    }
}
