//! The seam to the number library, a port of Google's libphonenumber. Nothing else names it, so that it
//! can be replaced, and what it says is checked by the caller and by the corpus of the tests.

use rlibphonenumber::{
    NumberLengthType, PHONE_NUMBER_UTIL, ParseError, PhoneNumber, PhoneNumberFormat as Format, Region,
    ValidationError,
};

/// A number as the library understood it.
pub(super) struct Parsed(PhoneNumber);

/// Why the library understood nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// No such country calling code, or none at all and no region.
    CountryCode,
    /// Too few or too many digits.
    Length,
    /// Nothing like a number.
    NotANumber,
}

/// How the count of digits fits the numbering plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    /// Can be dialled from anywhere.
    Possible,
    /// The area code is missing.
    LocalOnly,
    /// Too few or too many digits.
    Impossible,
}

/// Reads `text`, without `+` as a number of `region` (two letters, ISO 3166).
pub(super) fn parse(text: &str, region: Option<&str>) -> Result<Parsed, Fault> {
    let region = region.and_then(|code| Region::from_code(code).ok());
    PhoneNumber::parse(text, region).map(Parsed).map_err(|error| match error {
        ParseError::InvalidCountryCode => Fault::CountryCode,
        ParseError::NotANumber(_) => Fault::NotANumber,
        ParseError::TooShortAfterIdd | ParseError::TooShortNsn | ParseError::TooLongNsn => Fault::Length,
    })
}

/// The region of a number in E.164 (two letters, ISO 3166), or the main one of its country calling code.
pub(super) fn region_of(e164: &str) -> Option<String> {
    let number = PhoneNumber::parse(e164, None).ok()?;
    let region = number.get_region_code();
    let region = region.or_else(|| PHONE_NUMBER_UTIL.get_region_for_country_code(number.country_code));
    Some(region?.as_region_str().as_str().to_owned())
}

impl Parsed {
    /// `+` and digits.
    pub(super) fn e164(&self) -> String {
        self.0.format_as(Format::E164).into_owned()
    }

    /// The country calling code's digits.
    pub(super) fn country_code(&self) -> String {
        self.0.country_code.to_string()
    }

    /// The digits after the country calling code.
    pub(super) fn significant(&self) -> String {
        self.0.get_national_significant_number()
    }

    /// As written within the country, `(312) 555-0101`.
    pub(super) fn national(&self) -> String {
        self.0.format_as(Format::National).into_owned()
    }

    /// As written for abroad, `+1 312-555-0101`.
    pub(super) fn international(&self) -> String {
        self.0.format_as(Format::International).into_owned()
    }

    pub(super) fn length(&self) -> Length {
        match self.0.is_possible_with_reason() {
            Ok(NumberLengthType::IsPossible) => Length::Possible,
            Ok(NumberLengthType::IsPossibleLocalOnly) => Length::LocalOnly,
            Err(
                ValidationError::InvalidCountryCode
                | ValidationError::TooShort
                | ValidationError::InvalidLength
                | ValidationError::TooLong,
            ) => Length::Impossible,
        }
    }

    /// Whether the number is in a range known to be in use.
    pub(super) fn is_valid(&self) -> bool {
        self.0.is_valid()
    }

    /// Whether the library cut an extension off.
    pub(super) fn has_extension(&self) -> bool {
        self.0.extension.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Default region or `-`, input, E.164 or `ERR`, `possible`, `valid`; its first line has the source.
    const CORPUS: &str = include_str!("../e164-cases.tsv");

    #[test]
    fn the_library_agrees_with_googles_on_the_whole_corpus() {
        let mut wrong = Vec::new();
        let mut count = 0;
        for (at, line) in CORPUS.lines().enumerate().skip(1) {
            let fields: Vec<&str> = line.split('\t').collect();
            let [region, input, ..] = fields[..] else { panic!("line {}: {line}", at + 1) };
            let region = (region != "-").then_some(region);
            let found = match parse(input, region) {
                Ok(parsed) => {
                    let possible = parsed.length() != Length::Impossible;
                    let length = if possible { "possible" } else { "impossible" };
                    let range = if parsed.is_valid() { "valid" } else { "invalid" };
                    [parsed.e164(), length.to_owned(), range.to_owned()]
                }
                Err(_) => ["ERR", "-", "-"].map(str::to_owned),
            };
            if found[..] != fields[2..] {
                wrong.push(format!("line {}: {line}: {found:?}", at + 1));
            }
            count += 1;
        }
        assert_eq!(count, 2_601);
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
