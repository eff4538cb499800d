//! The ways in which a portal's own table may spell a number.

use super::{PhoneNumber, library, spellings};

struct Candidates(Vec<String>);

/// The usual spellings of a number, E.164 first, each once, then those of other numbers of the same line: what
/// `:candidates` stands for in the query of an existing database. Some fit numbers of other countries too
/// (`3125550101`), so what is found has to be parsed and compared again.
pub fn candidates(number: &PhoneNumber) -> Vec<String> {
    let mut found = Candidates(Vec::new());
    for number in spellings(number.as_str()) {
        found.add_all(&number);
    }
    found.0
}

impl Candidates {
    fn add_all(&mut self, number: &str) {
        let (found, digits) = (self, number.trim_start_matches('+'));
        found.add(number);
        found.add(digits);
        found.add(&format!("00{digits}"));
        let Ok(parsed) = library::parse(number, None) else { return };
        let (code, national, international) =
            (parsed.country_code(), parsed.national(), parsed.international());
        if code == "1" {
            found.add(&format!("011{digits}"));
        }
        found.add(&parsed.significant());
        found.add(&national);
        found.add(&format!("+{code} {national}"));
        found.add(&format!("{code} {national}"));
        found.add(&international);
        found.add(international.trim_start_matches('+'));

        let abroad = international.strip_prefix(&format!("+{code}")).unwrap_or(&international);
        let (inland, abroad) = (groups(&national), groups(abroad));
        found.add(&inland.concat());
        for separator in ["-", " ", "."] {
            let abroad = abroad.join(separator);
            found.add(&inland.join(separator));
            found.add(&abroad);
            found.add(&format!("+{code} {abroad}"));
            found.add(&format!("+{code}{separator}{abroad}"));
            found.add(&format!("{code}{separator}{abroad}"));
        }
    }

    fn add(&mut self, spelling: &str) {
        if !spelling.is_empty() && !self.0.iter().any(|known| known == spelling) {
            self.0.push(spelling.to_owned());
        }
    }
}

/// The runs of digits of a formatted number.
fn groups(formatted: &str) -> Vec<&str> {
    formatted.split(|c: char| !c.is_ascii_digit()).filter(|group| !group.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(e164: &str) -> Vec<String> {
        candidates(&PhoneNumber::from_stored(e164).expect(e164))
    }

    #[test]
    fn the_usual_spellings_are_there_each_once() {
        for (e164, spellings) in [
            (
                "+13125550101",
                &[
                    "13125550101",
                    "3125550101",
                    "(312) 555-0101",
                    "312-555-0101",
                    "312.555.0101",
                    "312 555 0101",
                    "1-312-555-0101",
                    "+1-312-555-0101",
                    "+1 312-555-0101",
                    "+1 (312) 555-0101",
                    "+1 312 555 0101",
                    "0013125550101",
                    "01113125550101",
                ][..],
            ),
            (
                "+442071838750",
                &["442071838750", "02071838750", "020 7183 8750", "+44 20 7183 8750", "00442071838750"],
            ),
            ("+390666982123", &["0666982123", "06 6698 2123", "+39 06 6698 2123"]),
            // Of all spellings of the line.
            ("+5215512345678", &["+525512345678", "525512345678", "55 1234 5678", "5215512345678"]),
            ("+541123456789", &["+5491123456789", "5491123456789", "011 15-2345-6789", "011 2345-6789"]),
            ("+551187654321", &["+5511987654321", "(11) 98765-4321", "1187654321"]),
        ] {
            let found = of(e164);
            assert_eq!(found[0], e164);
            for spelling in spellings {
                assert!(found.iter().any(|one| one == spelling), "{spelling} is missing in {found:?}");
            }
            let mut once = found.clone();
            once.sort();
            once.dedup();
            assert_eq!(once.len(), found.len(), "{found:?}");
            let lines = crate::routing::phone_number::spellings(e164).len();
            assert!(found.len() <= 40 * lines, "{}", found.len());
        }
    }

    #[test]
    fn a_number_of_no_known_country_has_its_digits() {
        assert_eq!(of("+9990000000"), ["+9990000000", "9990000000", "009990000000"]);
    }
}
