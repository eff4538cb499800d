//! Who a sender is, for messages from outside.
//!
//! The same sender is always one contact and two senders are never the same, whatever the carrier calls them:
//!
//! - A phone number is its E.164 form, in whatever spelling it comes. One without `+` is read as a number of the
//!   country of the own number that the message came to, and else as one that only lacks the plus.
//! - `+` and digits that no numbering plan knows stay these digits.
//! - A short code is `+` and its five or six digits, as the carrier writes it.
//! - A name (an alphanumeric sender, an address of an e-mail gateway) is kept as it is, of any length, with upper and
//!   lower case told apart: networks transmit names letter by letter in the GSM alphabet (3GPP TS 23.040, 9.1.2.5),
//!   and no rule says that `ACME` and `Acme` are the same sender. Only what nobody sees goes: control and
//!   formatting characters, and blanks around.

use sha2::{Digest, Sha256};

use super::library;
use super::lines;
use super::spelling::{Spelling, visible};
use super::{PhoneNumber, short_code};
use crate::config::{NumberCheck, NumberSettings};

/// Bytes of an identity beyond which its digest stands for the rest: databases limit what an index holds
/// (PostgreSQL: 2,704 bytes), and no carrier's sender is as long.
const MAX_BYTES: usize = 512;
/// Characters that such an identity begins with.
const SHOWN: usize = 64;

const LENGTH_ONLY: NumberSettings =
    NumberSettings { check: NumberCheck::Possible, allow_letters: false, allow_short_codes: false };

/// Who an address is, where nothing else tells its country.
pub fn contact_identity(raw: &str) -> String {
    sender_identity(raw, None)
}

/// Who sent a message to `own`, an own number.
pub fn sender_identity(raw: &str, own: Option<&PhoneNumber>) -> String {
    let visible: String = visible(raw).chars().filter(|c| !c.is_control()).collect();
    let visible = visible.trim();
    // As it nearly always comes: it stays what it is.
    if PhoneNumber::from_stored(visible).is_some() {
        return visible.to_owned();
    }
    if let Ok(number) = PhoneNumber::parse(visible, &LENGTH_ONLY, None) {
        return number.as_str().to_owned();
    }
    if let Some(code) = short_code(visible) {
        return format!("+{code}");
    }
    let Some(typed) = Spelling::read(visible).ok().filter(|typed| !typed.has_letters()) else {
        return condensed(visible);
    };
    let digits = typed.digits();
    if typed.is_international && !digits.is_empty() {
        return format!("+{digits}");
    }
    let completed = own.and_then(|own| complete(visible, &digits, own));
    completed.map_or_else(|| condensed(visible), |number| number.as_str().to_owned())
}

/// A number without `+`: of the own number's country, or one in use that only lacks the plus.
fn complete(typed: &str, digits: &str, own: &PhoneNumber) -> Option<PhoneNumber> {
    let region = library::region_of(own.as_str());
    let national = region.and_then(|region| PhoneNumber::parse(typed, &LENGTH_ONLY, Some(&region)).ok());
    let completed = national.or_else(|| {
        let in_use = NumberSettings { check: NumberCheck::Valid, ..LENGTH_ONLY };
        PhoneNumber::parse(&format!("+{digits}"), &in_use, None).ok()
    });
    // As +52 1 55…, which the library's plans no longer have.
    let older = || Some(format!("+{digits}")).filter(|number| lines::is_known(number));
    completed.or_else(|| PhoneNumber::from_stored(&older()?))
}

fn condensed(name: &str) -> String {
    if name.len() <= MAX_BYTES {
        return name.to_owned();
    }
    let shown: String = name.chars().take(SHOWN).collect();
    format!("{shown}… {}", hex::encode(Sha256::digest(name.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(own: &str, raw: &str) -> String {
        sender_identity(raw, PhoneNumber::from_stored(own).as_ref())
    }

    #[test]
    fn names_are_kept_whole_and_apart() {
        let long = format!("{} of the north", "Incorporated ".repeat(10));
        for name in
            ["ACME", "Acme", "Acme Inc", "Ünïcode", "offers@shop.example", &long, "12AB", "1234", "1234567"]
        {
            assert_eq!(contact_identity(name), name.trim());
            assert_eq!(contact_identity(&format!(" \u{200b}{name}\u{200e}\t\u{feff} ")), name.trim());
        }
        assert_eq!(contact_identity("AC\u{ad}ME\u{0}"), "ACME");
        let endless = "x".repeat(5_000);
        let (one, other) = (format!("{endless}1"), format!("{endless}2"));
        assert_eq!(contact_identity(&one), contact_identity(&one));
        assert_ne!(contact_identity(&one), contact_identity(&other));
        assert!(contact_identity(&one).len() < MAX_BYTES);
    }

    #[test]
    fn numbers_are_one_contact_in_every_spelling() {
        for raw in ["+14155550199", "+1 (415) 555-0199", "\u{202a}+1 415 555 0199\u{202c}", "+1.415.555.0199"]
        {
            assert_eq!(contact_identity(raw), "+14155550199", "{raw}");
        }
        // No plan has them, and the carrier does.
        for (raw, digits) in [
            ("+5215512345678", "+5215512345678"),
            ("+52 1 55 1234 5678", "+5215512345678"),
            ("+99912", "+99912"),
        ] {
            assert_eq!(contact_identity(raw), digits, "{raw}");
        }
        for raw in ["75973", "+75973", " 75973 "] {
            assert_eq!(contact_identity(raw), "+75973", "{raw}");
        }
    }

    #[test]
    fn national_numbers_are_of_the_own_numbers_country() {
        for (own, raw, number) in [
            ("+13125550100", "4155550199", "+14155550199"),
            ("+13125550100", "(415) 555-0199", "+14155550199"),
            ("+13125550100", "14155550199", "+14155550199"),
            ("+13125550100", "1 415 555 0199", "+14155550199"),
            ("+13125550100", "011447911123456", "+447911123456"),
            ("+13125550100", "447911123456", "+447911123456"),
            ("+447700900123", "07911 123456", "+447911123456"),
            ("+447700900123", "447911123456", "+447911123456"),
            ("+447700900123", "0044 7911 123456", "+447911123456"),
            ("+390612345678", "0698765432", "+390698765432"),
            ("+33612345678", "06 98 76 54 32", "+33698765432"),
            ("+4915123456789", "0151 98765432", "+4915198765432"),
            ("+13125550100", "+447911123456", "+447911123456"),
            ("+525555555555", "55 1234 5678", "+525512345678"),
            ("+13125550100", "5215512345678", "+5215512345678"),
            ("+525555555555", "5215512345678", "+5215512345678"),
            // Nothing tells.
            ("+13125550100", "5550199", "5550199"),
            ("agent_1", "4155550199", "4155550199"),
            ("agent_1", "447911123456", "447911123456"),
        ] {
            assert_eq!(to(own, raw), number, "{raw} to {own}");
        }
    }
}
