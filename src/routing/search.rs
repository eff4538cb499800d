//! What a search finds: text without regard to case, in every script, and numbers however they are written.
//!
//! Both sides are folded the same way and compared here, in Rust, so that no store's idea of upper and lower case
//! matters: SQLite knows that of ASCII alone, PostgreSQL that of the database's locale, which may be `C`.
//!
//! Folding is Unicode's: compatibility forms become plain ones (NFKC: `é` typed as one character or as two, full-width
//! letters), then letters lose their case (`Straße` is found by `STRASSE`, final sigma by sigma). The four Turkish and
//! European letters I, i, İ and ı count as one, as nobody knows in which language a text is meant. Accents count: `e`
//! does not find `é`.

use unicode_normalization::UnicodeNormalization;

use super::RoutingError;
use super::draft::invalid;

/// Longest text that is searched for, in characters.
const MAX_SEARCH: usize = 100;
/// Fewest digits that are taken for part of a number.
const MIN_DIGITS: usize = 3;
/// What stays of İ when its dot is folded away.
const COMBINING_DOT: char = '\u{307}';

/// What is searched for, ready to compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needle {
    folded: String,
    /// The digits, of what looks like a part of a phone number.
    digits: Option<String>,
}

impl Needle {
    /// `None` when there is nothing to search for.
    ///
    /// # Errors
    /// `invalid_field`: the text is too long.
    pub fn new(text: &str) -> Result<Option<Self>, RoutingError> {
        let text = text.trim();
        if text.chars().count() > MAX_SEARCH {
            return Err(invalid("q", &format!("at most {MAX_SEARCH} characters can be searched for")));
        }
        let folded = fold(text);
        if folded.is_empty() {
            return Ok(None);
        }
        let digits: String = folded.chars().filter(char::is_ascii_digit).collect();
        let is_number = digits.len() >= MIN_DIGITS
            && folded.chars().all(|c| c.is_ascii_digit() || c.is_whitespace() || "+-.()/".contains(c));
        Ok(Some(Self { folded, digits: is_number.then_some(digits) }))
    }

    /// Whether the text holds it.
    pub fn is_in(&self, text: &str) -> bool {
        let folded = fold(text);
        folded.contains(&self.folded) || self.digits.as_ref().is_some_and(|digits| folded.contains(digits))
    }
}

/// The same text for all spellings that count as one.
fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    // Upper case and back is full case folding: ß becomes ss, ς becomes σ, ı becomes i. The capital ẞ gets there from its
    // lower case alone. Letter by letter, as the lower case of a word's last Σ is another one.
    let folded =
        text.nfkc().flat_map(char::to_lowercase).flat_map(char::to_uppercase).flat_map(char::to_lowercase);
    let mut plain = String::with_capacity(text.len());
    // Folding may leave what composes.
    for c in folded.nfkc() {
        if !(c == COMBINING_DOT && plain.ends_with('i')) {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_form_do_not_matter_and_accents_do() {
        for (text, searched, is_found) in [
            ("Élodie", "ÉLODIE", true),
            ("ÉLODIE", "élo", true),
            // One character, and a letter with an accent behind it.
            ("\u{c9}lodie", "e\u{301}lodie", true),
            ("E\u{301}lodie", "\u{e9}", true),
            ("Élodie", "elodie", false),
            ("Ирина", "ирина", true),
            ("ирина", "ИРИ", true),
            ("Straße", "STRASSE", true),
            ("STRASSE", "straße", true),
            ("Straße", "ẞ", true),
            ("ΟΔΥΣΣΕΥΣ", "οδυσσευς", true),
            ("İstanbul", "istanbul", true),
            ("istanbul", "İSTANBUL", true),
            ("ISPARTA", "ısparta", true),
            ("ısparta", "ISPARTA", true),
            ("ＭｙＢａｎｋ", "mybank", true),
            ("MyBank", "MYBANK", true),
            ("ﬁve", "FIVE", true),
            ("Ǆ", "ǆ", true),
            ("日本", "本", true),
            ("100% sure", "0% S", true),
            ("a_b", "a%b", false),
            ("a", "b", false),
        ] {
            let needle = Needle::new(searched).expect("short enough").expect("something");
            assert_eq!(needle.is_in(text), is_found, "{searched} in {text}");
        }
    }

    #[test]
    fn numbers_are_found_however_they_are_written() {
        for (text, searched, is_found) in [
            ("+13125550199", "(312) 555-01", true),
            ("+13125550199", "312/555 0199", true),
            ("+13125550199", "３１２", true),
            ("call (312) 555", "(312) 555", true),
            ("12", "12", true),
            ("4-5", "4-5", true),
            ("45", "4-5", false),
            ("+13125550199", "room 312", false),
        ] {
            let needle = Needle::new(searched).expect("short enough").expect("something");
            assert_eq!(needle.is_in(text), is_found, "{searched} in {text}");
        }
    }

    #[test]
    fn nothing_is_searched_for_without_a_text_and_too_much_is_refused() {
        assert_eq!(Needle::new("  "), Ok(None));
        assert!(Needle::new(&"é".repeat(MAX_SEARCH)).is_ok());
        assert!(Needle::new(&"é".repeat(MAX_SEARCH + 1)).is_err());
    }
}
