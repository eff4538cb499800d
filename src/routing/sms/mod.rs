//! How many parts a text needs as SMS.
//!
//! Nobody but the carrier knows for certain, since the count depends on its alphabet, on how it cuts, and on a
//! setting of the messaging profile:
//!
//! - The standard's alphabet (3GPP TS 23.038) has Greek letters, `Ç`, `¤` and form feed. Telnyx' list of characters
//!   ("Message Encoding") has none of them, Telnyx' own helper code has: one such character may turn a text into UCS-2.
//! - The standard never cuts a character of two units in half, Telnyx' formula divides the units by 153: 153 times
//!   `€` are three parts or two.
//! - A profile with smart encoding replaces typographic characters first, and counts then.
//! - Short codes have 7-bit ASCII.
//!
//! So there are three counts: [`measure`] by the standard, [`fewest_parts`] and [`most_parts`] over all that the
//! carrier may do. What a message costs is what the carrier's answer says (Telnyx field `parts`).

mod replacements;

use std::borrow::Cow;

use super::phone_number::PhoneNumber;
use replacements::replaced;

/// The characters that GSM-7 writes with one unit, besides ASCII letters, digits, and most of ASCII's
/// punctuation.
///
/// Source: 3GPP TS 23.038, section 6.2.1.
const GSM7: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./:;<=>?¡ÄÖÑÜ§¿äöñüà";

/// The characters that GSM-7 writes with two: an escape and one more.
///
/// Source: 3GPP TS 23.038, section 6.2.1.1.
const GSM7_EXTENSION: &str = "\u{c}^{}\\[~]|€";

/// Characters of GSM-7 that Telnyx' list leaves out.
///
/// Source: <https://developers.telnyx.com/docs/messaging/messages/message-encoding>, 2026-04-10.
const NOT_IN_TELNYX_LIST: &str = "ΔΦΓΛΩΠΨΣΘΞÇ¤\u{c}";

/// How a text is written on the air.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Seven bits a unit: 160 units in a part, 153 when there are more.
    Gsm7,
    /// Sixteen bits a unit: 70 units in a part, 67 when there are more. One character outside of GSM-7
    /// is enough.
    Ucs2,
}

/// What a text needs as SMS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measure {
    /// How it is written.
    pub encoding: Encoding,
    /// Messages it is cut into, at least 1.
    pub parts: u32,
}

/// Where a text goes, as far as the count depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Towards {
    /// A phone number.
    Number,
    /// A short code, for which the carrier may use ASCII in place of GSM-7.
    ShortCode,
}

/// Which characters are written with seven bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Alphabet {
    Standard,
    Telnyx,
    /// All of ASCII, with one unit each.
    Ascii,
}

impl Encoding {
    /// The name in JSON, as Telnyx field `encoding`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gsm7 => "GSM-7",
            Self::Ucs2 => "UCS-2",
        }
    }

    /// Units of a message that is not cut, and of each part of one that is.
    fn units(self) -> (usize, usize) {
        match self {
            Self::Gsm7 => (160, 153),
            Self::Ucs2 => (70, 67),
        }
    }
}

impl Alphabet {
    /// Units of a character, 1 or 2; `None`: it is not in the alphabet.
    fn width(self, c: char) -> Option<usize> {
        match self {
            Self::Ascii => c.is_ascii().then_some(1),
            Self::Telnyx if NOT_IN_TELNYX_LIST.contains(c) => None,
            _ if c.is_ascii_alphanumeric() || GSM7.contains(c) => Some(1),
            _ => GSM7_EXTENSION.contains(c).then_some(2),
        }
    }

    /// How a text is written.
    fn encoding(self, text: &str) -> Encoding {
        let fits = text.chars().all(|c| self.width(c).is_some());
        if fits { Encoding::Gsm7 } else { Encoding::Ucs2 }
    }

    /// The units of each character of a text that is written so.
    fn widths(self, text: &str, encoding: Encoding) -> impl Iterator<Item = usize> {
        text.chars().map(move |c| match encoding {
            Encoding::Gsm7 => self.width(c).unwrap_or(1),
            Encoding::Ucs2 => c.len_utf16(),
        })
    }

    /// The parts when a character of two units is never cut in half, as the standard wants it.
    fn exact(self, text: &str) -> Measure {
        let encoding = self.encoding(text);
        let (whole, part) = encoding.units();
        let (mut total, mut parts, mut used) = (0, 1, 0);
        for width in self.widths(text, encoding) {
            total += width;
            used += width;
            if used > part {
                parts += 1;
                used = width;
            }
        }
        Measure { encoding, parts: if total <= whole { 1 } else { parts } }
    }

    /// The parts by Telnyx' formula: the units divided by those of a part.
    fn by_formula(self, text: &str) -> Measure {
        let encoding = self.encoding(text);
        let (whole, part) = encoding.units();
        let total: usize = self.widths(text, encoding).sum();
        let parts = if total <= whole { 1 } else { total.div_ceil(part) };
        Measure { encoding, parts: u32::try_from(parts).unwrap_or(u32::MAX) }
    }
}

impl Towards {
    /// What a number is, as a message has it.
    pub fn of(number: &str) -> Self {
        if PhoneNumber::from_stored(number).is_some() { Self::Number } else { Self::ShortCode }
    }

    /// The alphabets that the carrier may use.
    fn alphabets(self) -> &'static [Alphabet] {
        match self {
            Self::Number => &[Alphabet::Standard, Alphabet::Telnyx],
            Self::ShortCode => &[Alphabet::Standard, Alphabet::Telnyx, Alphabet::Ascii],
        }
    }
}

/// The parts of a text by the standard.
pub fn measure(text: &str) -> Measure {
    Alphabet::Standard.exact(text)
}

/// The least that the carrier may need for a text. If that is too much, no setting lets the text through.
pub fn fewest_parts(text: &str, towards: Towards) -> Measure {
    let fewest = |text: &str| {
        let counts = towards.alphabets().iter().map(|alphabet| alphabet.by_formula(text));
        counts.min_by_key(|measure| measure.parts).unwrap_or(measure(text))
    };
    let as_it_is = fewest(text);
    match replaced(text) {
        Cow::Borrowed(_) => as_it_is,
        Cow::Owned(replaced) => {
            let replaced = fewest(&replaced);
            if replaced.parts < as_it_is.parts { replaced } else { as_it_is }
        }
    }
}

/// The most parts that the carrier may need for a text, at least those of [`measure`].
pub fn most_parts(text: &str, towards: Towards) -> u32 {
    let most = |text: &str| {
        let counts = towards.alphabets().iter().map(|alphabet| alphabet.exact(text).parts);
        counts.max().unwrap_or(1)
    };
    match replaced(text) {
        Cow::Borrowed(_) => most(text),
        Cow::Owned(replaced) => most(text).max(most(&replaced)),
    }
}

#[cfg(test)]
mod tests;
