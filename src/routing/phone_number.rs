//! Phone numbers: parsed once, at the edge, into E.164.
//!
//! A number that can't be read for certain is refused: it never becomes "some external number", which
//! would be an SMS to a stranger. `spelling` judges what was typed, `library` knows the numbering
//! plans, and a guard between them holds whatever the library does: the digits of a number typed with
//! `+` are the digits of the result.
//!
//! Numbers do not reach a log by accident: there is no `Display`, and `Debug` masks.

mod candidates;
mod identity;
mod library;
mod lines;
mod spelling;

use std::fmt;

use crate::config::{NumberCheck, NumberSettings};

pub use candidates::candidates;
pub use identity::{contact_identity, sender_identity};
use library::{Fault, Length, Parsed};
pub use lines::{is_same_line, line, spelling_values, spellings};
use spelling::Spelling;
pub use spelling::visible;

/// Most characters of a number as typed.
pub const MAX_INPUT_CHARACTERS: usize = 32;

/// The country calling code of North America, whose numbers have ten digits since 1947, and no other count.
const NORTH_AMERICA: &str = "1";

/// A phone number in E.164: `+` and 7 to 15 digits, the first of them not 0.
///
/// Source: ITU-T E.164, which allows at most 15 digits.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PhoneNumber(Box<str>);

/// Why a text is no phone number, and what to send instead. Meant for the client; never contains the
/// number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNumber {
    /// Nothing but blanks.
    #[error("The phone number is empty: send it in E.164 form, such as +13125550100")]
    Empty,
    /// More than [`MAX_INPUT_CHARACTERS`].
    #[error("The phone number is too long: at most {MAX_INPUT_CHARACTERS} characters are allowed")]
    TooLong,
    /// A line break, tab or the like inside.
    #[error("The phone number contains control characters: send digits only, with '+' in front")]
    ControlCharacter,
    /// A character that has no place in a number, or a plus that is not in front.
    #[error(
        "The phone number contains characters that do not belong there: use one '+' in front, digits, and spaces, dots, dashes or brackets between them"
    )]
    Character,
    /// Letters, while `numbers.allow_letters` is off; or less than three of them.
    #[error("The phone number contains letters: send the digits they stand for")]
    Letters,
    /// An extension, which an SMS can't reach.
    #[error("The phone number has an extension, which cannot receive messages: send the number without it")]
    Extension,
    /// A short code where only phone numbers are accepted.
    #[error(
        "This is a short code, not a phone number: send a number with country code, such as +13125550100"
    )]
    ShortCode,
    /// No `+`, and the app has no region to read national numbers with.
    #[error(
        "The phone number has no country code: begin it with '+' and the country code, such as +13125550100"
    )]
    NoCountryCode,
    /// The digits after `+` begin with no country's code.
    #[error("The phone number begins with a country code that does not exist: check the digits after '+'")]
    UnknownCountryCode,
    /// Nothing like a number.
    #[error("This is not a phone number: send it in E.164 form, such as +13125550100")]
    NotANumber,
    /// Too few or too many digits for the country.
    #[error("The phone number has too few or too many digits for its country: check that it is complete")]
    Length,
    /// A number that only works within its own area.
    #[error("The phone number has no area code: send the whole number with country and area code")]
    AreaCodeMissing,
    /// The guard: with `+` in front, but not to be read digit by digit.
    #[error(
        "The phone number cannot be read as it is written: after '+' send the country code and the number without the leading zero or prefix used inside the country"
    )]
    Ambiguous,
    /// Not in a range that is in use, while `numbers.check` is `valid`.
    #[error("The phone number is in no range that is in use: check the digits")]
    NotInUse,
}

impl PhoneNumber {
    /// Reads a number as a person or a program wrote it: with `+` by itself, otherwise as a number of
    /// `default_region` (two letters, ISO 3166).
    ///
    /// # Errors
    /// [`InvalidNumber`], whose text is meant for the client (422 `invalid_number`).
    pub fn parse(
        input: &str,
        settings: &NumberSettings,
        default_region: Option<&str>,
    ) -> Result<Self, InvalidNumber> {
        let typed = Spelling::read(input)?;
        if typed.digits().is_empty() {
            let fault = if typed.has_letters() { InvalidNumber::Letters } else { InvalidNumber::NotANumber };
            return Err(fault);
        }
        let region = if typed.is_international { None } else { default_region };
        if !typed.has_letters() {
            return Self::judge(&typed, settings, region);
        }
        if !settings.allow_letters {
            return Err(InvalidNumber::Letters);
        }
        // Asked before letters become digits: afterwards an extension would be part of the number.
        if library::parse(typed.as_str(), region).is_ok_and(|parsed| parsed.has_extension()) {
            return Err(InvalidNumber::Extension);
        }
        let dialled = typed.with_letters_as_digits().ok_or(InvalidNumber::Letters)?;
        Self::judge(&dialled, settings, region)
    }

    /// A number that was stored or sent as E.164 already: exactly `+` and 7 to 15 ASCII digits, the first
    /// not 0. Numbering plans are not asked.
    pub fn from_stored(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('+')?;
        let fits = (7..=15).contains(&digits.len())
            && !digits.starts_with('0')
            && digits.bytes().all(|byte| byte.is_ascii_digit());
        fits.then(|| Self(text.into()))
    }

    /// The number itself, `+13125550100`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The number for logs, `+1312***0100`.
    pub fn masked(&self) -> String {
        mask(self.as_str())
    }

    /// The region whose plan it belongs to (two letters, ISO 3166); where the plan does not know it, the main one of
    /// its country calling code.
    pub fn region(&self) -> Option<String> {
        library::region_of(self.as_str())
    }

    fn judge(
        typed: &Spelling,
        settings: &NumberSettings,
        region: Option<&str>,
    ) -> Result<Self, InvalidNumber> {
        if !typed.is_international && region.is_none() {
            return Err(if is_short(typed) {
                InvalidNumber::ShortCode
            } else {
                InvalidNumber::NoCountryCode
            });
        }
        let parsed = match library::parse(typed.as_str(), region) {
            Ok(parsed) => parsed,
            Err(Fault::CountryCode) => {
                return Self::of_newer_plan(typed, settings, InvalidNumber::UnknownCountryCode);
            }
            Err(Fault::Length) => return Self::of_newer_plan(typed, settings, InvalidNumber::Length),
            Err(Fault::NotANumber) => return Err(InvalidNumber::NotANumber),
        };
        if parsed.has_extension() {
            return Err(InvalidNumber::Extension);
        }
        // In countries with numbers of any length a short code would pass as a number.
        if is_short(typed) && !parsed.is_valid() {
            return Err(InvalidNumber::ShortCode);
        }
        Self::accept(typed, &parsed, settings)
    }

    fn accept(typed: &Spelling, parsed: &Parsed, settings: &NumberSettings) -> Result<Self, InvalidNumber> {
        let e164 = parsed.e164();
        if typed.is_international && !typed.agrees_with(&e164, &parsed.country_code()) {
            return Err(InvalidNumber::Ambiguous);
        }
        match parsed.length() {
            Length::Possible => {}
            Length::LocalOnly => return Err(InvalidNumber::AreaCodeMissing),
            // Plans change, and the library knows those of its day: the carrier decides.
            Length::Impossible if settings.check == NumberCheck::Possible => {
                let is_whole = typed.is_international || typed.is_dialled(&e164);
                if !is_whole || parsed.country_code() == NORTH_AMERICA {
                    return Err(InvalidNumber::Length);
                }
                if typed.has_trunk_prefix() {
                    return Err(InvalidNumber::Ambiguous);
                }
            }
            Length::Impossible => return Err(InvalidNumber::Length),
        }
        if settings.check == NumberCheck::Valid && !parsed.is_valid() {
            return Err(InvalidNumber::NotInUse);
        }
        Self::from_stored(&e164).ok_or(InvalidNumber::Length)
    }
}

impl PhoneNumber {
    /// A number that the library can't take apart: with `+` in front it goes to the carrier as it is typed, which
    /// may know newer plans and country codes. Not where ranges must be known.
    fn of_newer_plan(
        typed: &Spelling,
        settings: &NumberSettings,
        fault: InvalidNumber,
    ) -> Result<Self, InvalidNumber> {
        let is_open = settings.check == NumberCheck::Possible && typed.is_international;
        if !is_open || typed.has_trunk_prefix() {
            return Err(fault);
        }
        Self::from_stored(&format!("+{}", typed.digits())).ok_or(fault)
    }
}

impl fmt::Debug for PhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PhoneNumber({})", self.masked())
    }
}

/// Where a message may go.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Destination {
    /// A phone number.
    Number(PhoneNumber),
    /// Five or six digits: a service of one country, always external. Without `+`.
    ShortCode(String),
    /// What else the carrier gave as a contact's address, such as a name: always external.
    Address(String),
}

impl Destination {
    /// Reads a recipient. With `allow_short_codes` five or six bare digits are a short code, whatever
    /// they would mean as a number, also behind the `+` that the carrier puts in front; everything else is
    /// read as by [`PhoneNumber::parse`].
    ///
    /// # Errors
    /// [`InvalidNumber`], whose text is meant for the client.
    pub fn parse(
        input: &str,
        settings: &NumberSettings,
        default_region: Option<&str>,
    ) -> Result<Self, InvalidNumber> {
        if settings.allow_short_codes {
            let typed = Spelling::read(input)?;
            if let Some(code) = short_code(typed.as_str()) {
                return Ok(Self::ShortCode(code.to_owned()));
            }
        }
        PhoneNumber::parse(input, settings, default_region).map(Self::Number)
    }

    /// The address of a contact, exactly as it is stored.
    pub fn stored(identity: &str) -> Self {
        if let Some(code) = short_code(identity) {
            return Self::ShortCode(code.to_owned());
        }
        PhoneNumber::from_stored(identity).map_or_else(|| Self::Address(identity.to_owned()), Self::Number)
    }

    /// As the carrier takes it: E.164, the short code's digits, or what the carrier itself wrote.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Number(number) => number.as_str(),
            Self::ShortCode(code) => code,
            Self::Address(address) => address,
        }
    }

    /// Who it is as a contact, as [`contact_identity`] says of what comes from there.
    pub fn identity(&self) -> String {
        match self {
            Self::Number(number) => number.as_str().to_owned(),
            Self::ShortCode(code) => format!("+{code}"),
            Self::Address(address) => address.clone(),
        }
    }

    /// The phone number, if it is one: only that can be internal.
    pub fn number(&self) -> Option<&PhoneNumber> {
        match self {
            Self::Number(number) => Some(number),
            Self::ShortCode(_) | Self::Address(_) => None,
        }
    }
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Destination({})", mask(self.as_str()))
    }
}

/// A number or other identity for logs: `+1312***0100`. At least three characters are hidden; of short
/// ones more is.
pub fn mask(raw: &str) -> String {
    let (plus, rest) = raw.strip_prefix('+').map_or(("", raw), |rest| ("+", rest));
    let rest: Vec<char> = rest.chars().filter(|c| !c.is_control()).collect();
    let shown = match rest.len() {
        11.. => 4,
        7..11 => 2,
        _ => 0,
    };
    let (first, last): (String, String) =
        (rest[..shown].iter().collect(), rest[rest.len() - shown..].iter().collect());
    format!("{plus}{first}***{last}")
}

/// The digits of a short code, which is written without `+`, or with the one that the carrier puts in front:
/// no phone number is that short.
fn short_code(text: &str) -> Option<&str> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    let is_code = (5..=6).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_code.then_some(digits)
}

/// Five or six digits without `+`.
fn is_short(typed: &Spelling) -> bool {
    !typed.is_international && (5..=6).contains(&typed.digits().len())
}

#[cfg(test)]
mod tables;
#[cfg(test)]
mod tests;
