//! How a number was typed: its text in plain ASCII, judged before any library sees it.
//!
//! The library is lenient: it skips what it does not know, maps or drops letters and cuts extensions off.
//! An SMS must not go to what is left over, so only digits, one plus and the usual punctuation pass.

use super::{InvalidNumber, MAX_INPUT_CHARACTERS};

/// The zeros of the decimal digits that people type: Arabic-Indic, Persian, N'Ko, Devanagari, Bengali,
/// Gurmukhi, Gujarati, Odia, Tamil, Telugu, Kannada, Malayalam, Thai, Lao, Tibetan, Myanmar, Khmer,
/// Mongolian, full-width.
const ZEROS: [u32; 19] = [
    0x0660, 0x06F0, 0x07C0, 0x0966, 0x09E6, 0x0A66, 0x0AE6, 0x0B66, 0x0BE6, 0x0C66, 0x0CE6, 0x0D66, 0x0E50,
    0x0ED0, 0x0F20, 0x1040, 0x17E0, 0x1810, 0xFF10,
];

/// Punctuation inside of numbers, besides spaces.
const PUNCTUATION: &[char] = &['-', '.', '(', ')', '[', ']', '/'];

/// A typed number in ASCII: digits, [`PUNCTUATION`], single spaces, perhaps letters, and at most one plus,
/// in front of all digits.
pub(super) struct Spelling {
    text: String,
    /// Whether there is a plus; the text then begins with it.
    pub(super) is_international: bool,
}

impl Spelling {
    /// Trims, refuses what can't be a number, and writes the rest in ASCII.
    pub(super) fn read(input: &str) -> Result<Self, InvalidNumber> {
        let input = input.trim_matches(|c: char| c.is_whitespace() || is_invisible(c));
        if input.is_empty() {
            return Err(InvalidNumber::Empty);
        }
        if input.chars().any(char::is_control) {
            return Err(InvalidNumber::ControlCharacter);
        }
        if input.chars().count() > MAX_INPUT_CHARACTERS {
            return Err(InvalidNumber::TooLong);
        }
        let text: String = input.chars().filter(|c| !is_invisible(*c)).map(to_ascii).collect();
        if has_extension_mark(&text) {
            return Err(InvalidNumber::Extension);
        }
        if let Some(strange) = text.chars().find(|c| !is_known(*c)) {
            let fault =
                if strange.is_alphabetic() { InvalidNumber::Letters } else { InvalidNumber::Character };
            return Err(fault);
        }
        let Some(plus) = text.find('+') else { return Ok(Self { text, is_international: false }) };
        let (front, rest) = text.split_at(plus);
        if rest[1..].contains('+') || front.contains(|c: char| c.is_ascii_alphanumeric()) {
            return Err(InvalidNumber::Character);
        }
        Ok(Self { text: rest.to_owned(), is_international: true })
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    pub(super) fn has_letters(&self) -> bool {
        self.text.contains(|c: char| c.is_ascii_alphabetic())
    }

    /// The same with the digits of a telephone's keys for letters (ITU-T E.161); `None` with less than
    /// three of them, which is more likely a slip than a word.
    pub(super) fn with_letters_as_digits(&self) -> Option<Self> {
        let letters = self.text.chars().filter(char::is_ascii_alphabetic).count();
        (letters >= 3).then(|| Self { text: self.text.chars().map(key).collect(), ..*self })
    }

    /// All digits, as typed.
    pub(super) fn digits(&self) -> String {
        self.text.chars().filter(char::is_ascii_digit).collect()
    }

    /// Whether digits in brackets begin with 0: a trunk prefix, which is no part of the number.
    pub(super) fn has_trunk_prefix(&self) -> bool {
        ["(0", "[0"].iter().any(|prefix| self.text.contains(prefix))
    }

    /// Whether a number without plus was typed as it is dialled abroad: the result with a prefix before it, which the
    /// library understood.
    pub(super) fn is_dialled(&self, e164: &str) -> bool {
        let digits = self.digits();
        let prefix = digits.strip_suffix(e164.trim_start_matches('+'));
        !self.is_international && prefix.is_some_and(|prefix| !prefix.is_empty())
    }

    /// The guard: whether a result's digits are the digits typed. The one difference tolerated is a
    /// trunk zero in brackets straight after the country calling code, `+33 (0)1 …`.
    pub(super) fn agrees_with(&self, e164: &str, country_code: &str) -> bool {
        let result = e164.trim_start_matches('+');
        if self.digits() == result {
            return true;
        }
        let Some((code, rest)) = self.text.split_once("(0)") else { return false };
        let [code, rest] =
            [code, rest].map(|part| part.chars().filter(char::is_ascii_digit).collect::<String>());
        code == country_code && format!("{code}{rest}") == result
    }
}

/// Marks that programs put around pasted numbers, and that nobody sees: zero-width and direction marks (U+061C is the
/// one that ICU writes in `ar-EG`), soft hyphens, joiners, variation selectors. Those are the characters with Unicode's
/// property `Default_Ignorable_Code_Point` (DerivedCoreProperties 16.0).
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{AD}' | '\u{34F}' | '\u{61C}' | '\u{115F}'..='\u{1160}' | '\u{17B4}'..='\u{17B5}' | '\u{180B}'..='\u{180F}'
        | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{3164}' | '\u{FE00}'..='\u{FE0F}'
        | '\u{FEFF}' | '\u{FFA0}' | '\u{FFF0}'..='\u{FFF8}' | '\u{1BCA0}'..='\u{1BCA3}' | '\u{1D173}'..='\u{1D17A}'
        | '\u{E0000}'..='\u{E0FFF}')
}

/// The text without what nobody sees.
pub fn visible(text: &str) -> String {
    text.chars().filter(|c| !is_invisible(*c)).collect()
}

fn is_known(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '+' || c == ' ' || PUNCTUATION.contains(&c)
}

/// The ASCII character that stands for `c`, or `c`.
fn to_ascii(c: char) -> char {
    match c {
        '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{30FC}' => '-',
        // Superscript and small plus.
        '\u{207A}' | '\u{FE62}' => '+',
        _ if c.is_whitespace() => ' ',
        '\u{FF21}'..='\u{FF3A}'
        | '\u{FF41}'..='\u{FF5A}'
        | '\u{FF01}'..='\u{FF0F}'
        | '\u{FF3B}'
        | '\u{FF3D}' => char::from_u32(u32::from(c) - 0xFEE0).unwrap_or(c),
        _ => digit(c).unwrap_or(c),
    }
}

fn digit(c: char) -> Option<char> {
    let value = ZEROS.iter().find_map(|zero| u32::from(c).checked_sub(*zero).filter(|value| *value < 10))?;
    char::from_digit(value, 10)
}

fn key(letter: char) -> char {
    match letter.to_ascii_uppercase() {
        'A'..='C' => '2',
        'D'..='F' => '3',
        'G'..='I' => '4',
        'J'..='L' => '5',
        'M'..='O' => '6',
        'P'..='S' => '7',
        'T'..='V' => '8',
        'W'..='Z' => '9',
        _ => letter,
    }
}

/// Whether a whole number, a mark such as `x`, `ext.`, `#` or `;ext=`, and some digits follow each other.
fn has_extension_mark(text: &str) -> bool {
    let text = text.trim_end_matches('#').trim_end();
    let before = text.trim_end_matches(|c: char| c.is_ascii_digit());
    let front = before.trim_end_matches(|c: char| !c.is_ascii_digit() && c != ')');
    let mark: String = before[front.len()..].chars().filter(|c| c.is_alphabetic()).collect();
    let is_mark = matches!(
        mark.to_lowercase().as_str(),
        "x" | "xt" | "ext" | "extn" | "extension" | "int" | "anexo" | "доб" | "durchwahl"
    ) || (mark.is_empty() && before[front.len()..].contains(['#', ';', ',', '~']));
    before.len() < text.len() && is_mark && front.chars().filter(char::is_ascii_digit).count() >= 5
}
