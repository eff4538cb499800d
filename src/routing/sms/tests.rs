use proptest::prelude::*;

use super::replacements::replaced;
use super::*;

/// Texts and what others count for them; its first line says what the columns are.
const TABLE: &str = include_str!("../../../protocol-tests/data/sms.tsv");

fn parts(text: &str) -> (&'static str, u32) {
    let measure = measure(text);
    (measure.encoding.as_str(), measure.parts)
}

#[test]
fn every_row_of_the_table_is_counted_as_it_says() {
    let mut count = 0;
    for line in TABLE.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [case, text, encoding, units, exact, formula, listed, most, source] = fields[..] else {
            panic!("{line}")
        };
        let text: String = serde_json::from_str(text).expect("a JSON string");
        let number = |field: &str| field.parse::<u32>().expect("a number");
        let found = Alphabet::Standard.exact(&text);
        assert_eq!((found.encoding.as_str(), found.parts), (encoding, number(exact)), "{case}: {text:?}");
        let total: usize = Alphabet::Standard.widths(&text, found.encoding).sum();
        assert_eq!(total.to_string(), units, "{case}: {text:?}");
        assert_eq!(Alphabet::Standard.by_formula(&text).parts, number(formula), "{case}: {text:?}");
        let found = Alphabet::Telnyx.exact(&text);
        assert_eq!((found.encoding.as_str(), found.parts), (listed, number(most)), "{case}: {text:?}");
        assert_eq!(most_parts(&text, Towards::Number), number(most), "{case}: {text:?}");
        assert!(fewest_parts(&text, Towards::Number).parts <= number(formula), "{case}: {text:?}");
        assert!(!source.is_empty(), "{case}");
        count += 1;
    }
    assert_eq!(count, 182);
}

#[test]
fn the_alphabet_is_that_of_the_standard() {
    let width = |c: char| Alphabet::Standard.width(c);
    let all = || (0..=0x10_FFFF).filter_map(char::from_u32);
    // 128 places, one of them the escape.
    assert_eq!(all().filter(|c| width(*c) == Some(1)).count(), 127);
    assert_eq!(all().filter(|c| width(*c) == Some(2)).count(), 10);
    for c in "ç`´“”’–…\t\u{a0}\u{1b}🙂áíóúêâ".chars() {
        assert_eq!(width(c), None, "{c:?}");
    }
    let left_out: String = all().filter(|c| width(*c) != Alphabet::Telnyx.width(*c)).collect();
    assert_eq!(left_out, "\u{c}¤ÇΓΔΘΛΞΠΣΦΨΩ");
}

#[test]
fn parts_are_counted_exactly() {
    for (text, count, expected) in [
        ("", 1, ("GSM-7", 1)),
        ("a", 160, ("GSM-7", 1)),
        ("a", 161, ("GSM-7", 2)),
        ("a", 306, ("GSM-7", 2)),
        ("a", 307, ("GSM-7", 3)),
        ("a", 1_530, ("GSM-7", 10)),
        ("a", 1_531, ("GSM-7", 11)),
        ("€", 80, ("GSM-7", 1)),
        ("€", 81, ("GSM-7", 2)),
        ("€", 152, ("GSM-7", 2)),
        // 306 units, which would be two parts if `€` could be cut.
        ("€", 153, ("GSM-7", 3)),
        ("ç", 70, ("UCS-2", 1)),
        ("ç", 71, ("UCS-2", 2)),
        ("ç", 134, ("UCS-2", 2)),
        ("ç", 135, ("UCS-2", 3)),
        ("ç", 670, ("UCS-2", 10)),
        ("ç", 671, ("UCS-2", 11)),
        ("🙂", 35, ("UCS-2", 1)),
        ("🙂", 36, ("UCS-2", 2)),
        ("🙂", 66, ("UCS-2", 2)),
        // 134 units.
        ("🙂", 67, ("UCS-2", 3)),
    ] {
        assert_eq!(parts(&text.repeat(count)), expected, "{count} times {text:?}");
    }
    // Outside of GSM-7 the brackets cost one unit again.
    assert_eq!(parts(&format!("{}“", "[".repeat(69))), ("UCS-2", 1));
    // A two-unit character at the border of a part goes over as a whole.
    assert_eq!(parts(&format!("{}€{}", "a".repeat(152), "a".repeat(151))), ("GSM-7", 2));
    assert_eq!(parts(&format!("{}€{}", "a".repeat(152), "a".repeat(152))), ("GSM-7", 3));
}

#[test]
fn the_counts_differ_where_the_carrier_has_a_choice() {
    for (text, towards, expected) in [
        // The alphabet.
        ("Ω".repeat(71), Towards::Number, (1, 1, 2)),
        ("Ç".repeat(160), Towards::Number, (1, 1, 3)),
        ("a\u{c}".repeat(36), Towards::Number, (1, 1, 2)),
        // The cut.
        ("€".repeat(153), Towards::Number, (2, 3, 3)),
        ("🙂".repeat(67), Towards::Number, (2, 3, 3)),
        // Smart encoding, which makes a text shorter or longer.
        (format!("“{}”", "a".repeat(150)), Towards::Number, (1, 3, 3)),
        ("…".repeat(70), Towards::Number, (1, 1, 2)),
        ("\t".repeat(60), Towards::Number, (1, 1, 3)),
        // A replaced text that has an emoji stays UCS-2, and may be shorter all the same.
        (format!("🙂{}", "\u{200b}".repeat(100)), Towards::Number, (1, 2, 2)),
        // Short codes.
        ("é".repeat(71), Towards::Number, (1, 1, 1)),
        ("é".repeat(71), Towards::ShortCode, (1, 1, 2)),
        ("[".repeat(160), Towards::Number, (3, 3, 3)),
        ("[".repeat(160), Towards::ShortCode, (1, 3, 3)),
        ("hello".to_owned(), Towards::ShortCode, (1, 1, 1)),
    ] {
        let sample: String = text.chars().take(3).collect();
        let counts = (fewest_parts(&text, towards).parts, measure(&text).parts, most_parts(&text, towards));
        assert_eq!(counts, expected, "{sample}…");
    }
    for (number, towards) in [("+13125550100", Towards::Number), ("75973", Towards::ShortCode)] {
        assert_eq!(Towards::of(number), towards);
    }
}

#[test]
fn smart_encoding_replaces_what_the_carrier_lists() {
    for (text, written) in [
        ("“It’s” – ‘so’ — good…\u{a0}!", "\"It's\" - 'so' - good... !"),
        ("½ ¼ ¾ ÷", "1/2 1/4 3/4 /"),
        ("ＡＺ，ａｚ０９！～｀", "AZ,az09!~｀"),
        ("Α\u{392}ΖΩ", "ABZΩ"),
        ("a\tb", "a       b"),
        ("a\u{200b}b\u{feff}c\u{2060}d\u{2028}e", "abcde"),
        ("\u{12}`", "'"),
        ("‼ „low‚ 〝x〞 ‹y›", "!! \"low, \"x\" <y>"),
        ("🙂 “x”", "🙂 \"x\""),
    ] {
        assert_eq!(replaced(text), written);
    }
    for text in ["", "plain ASCII ~^{}[]|\\ \r\n", "é ç 🙂 Ж 中"] {
        assert!(matches!(replaced(text), Cow::Borrowed(_)), "{text}");
    }
}

proptest! {
    #[test]
    fn parts_lie_between_what_the_units_allow(text in "[a€ç🙂]{0,400}") {
        let Measure { encoding, parts } = measure(&text);
        let units: usize = Alphabet::Standard.widths(&text, encoding).sum();
        let (whole, part) = encoding.units();
        if units <= whole {
            prop_assert_eq!(parts, 1);
        } else {
            prop_assert!(parts as usize >= units.div_ceil(part));
            prop_assert!(parts as usize <= units.div_ceil(part - 1));
        }
    }

    /// Whatever the carrier counts lies between the fewest and the most.
    #[test]
    fn no_count_of_the_carrier_lies_outside(text in "[a\\[€éçΩÇ…“½\t\u{a0}\u{200b}\u{c}🙂A\u{ff21}]{0,400}") {
        for towards in [Towards::Number, Towards::ShortCode] {
            let (fewest, most) = (fewest_parts(&text, towards).parts, most_parts(&text, towards));
            let exact = measure(&text).parts;
            prop_assert!(fewest <= exact && exact <= most, "{fewest} {exact} {most}");
            for written in [text.as_str(), &replaced(&text)] {
                for alphabet in towards.alphabets() {
                    for count in [alphabet.exact(written), alphabet.by_formula(written)] {
                        prop_assert!((fewest..=most).contains(&count.parts), "{count:?} not in {fewest}..={most}");
                    }
                }
            }
        }
    }

    /// The carrier's cut is at most one part off for each part.
    #[test]
    fn the_exact_count_is_never_below_the_formula(text in "\\PC{0,500}") {
        prop_assert!(measure(&text).parts >= Alphabet::Standard.by_formula(&text).parts);
    }
}
