use super::*;
use proptest::prelude::*;

use InvalidNumber as No;

const POSSIBLE: NumberSettings =
    NumberSettings { check: NumberCheck::Possible, allow_letters: false, allow_short_codes: false };
const VALID: NumberSettings = NumberSettings { check: NumberCheck::Valid, ..POSSIBLE };
const LETTERS: NumberSettings = NumberSettings { allow_letters: true, ..POSSIBLE };
const SHORT_CODES: NumberSettings = NumberSettings { allow_short_codes: true, ..POSSIBLE };

fn parse(input: &str, region: Option<&str>) -> Result<String, InvalidNumber> {
    PhoneNumber::parse(input, &POSSIBLE, region).map(|number| number.as_str().to_owned())
}

#[test]
fn numbers_are_read_as_people_write_them() {
    for (region, input, e164) in [
        (None, "+15551234567", "+15551234567"),
        (Some("US"), "  +1 (555) 123-4567\n", "+15551234567"),
        (Some("US"), "(312) 555-0100", "+13125550100"),
        (Some("US"), "+1 - 3 1 2 - 5 5 5 - 0 - 1 - 0 0                  ", "+13125550100"),
        (Some("us"), "312.555.0100", "+13125550100"),
        (Some("US"), "1-312-555-0100", "+13125550100"),
        (Some("US"), "011 44 20 7183 8750", "+442071838750"),
        (Some("GB"), "020 7183 8750", "+442071838750"),
        (Some("GB"), "0044 20 7183 8750", "+442071838750"),
        (Some("US"), "+44 20 7183 8750", "+442071838750"),
        (Some("US"), "(+44) 20 7183 8750", "+442071838750"),
        (Some("US"), "+44 (0)20 7183 8750", "+442071838750"),
        (Some("US"), "+33 (0)1 42 76 49 78", "+33142764978"),
        (Some("US"), "＋33（０）1 42 76 49 78", "+33142764978"),
        (Some("US"), "+39 (0)6 6698 2123", "+390666982123"),
        (Some("US"), "+39 06 6698 2123", "+390666982123"),
        (Some("DE"), "030/1234567", "+49301234567"),
        (Some("US"), "+4915123456789", "+4915123456789"),
        (Some("US"), "+8613912345678", "+8613912345678"),
        (Some("US"), "＋１２１２５５５０１２３", "+12125550123"),
        (Some("US"), "+1٢١٢٥٥٥٠١٢٣", "+12125550123"),
        (Some("US"), "+1 २१२ ५५५ ०१२३", "+12125550123"),
        (Some("US"), "\u{202A}+1 312\u{2011}555\u{2011}0100\u{202C}", "+13125550100"),
        (Some("US"), "+1\u{a0}312\u{a0}555\u{a0}0100", "+13125550100"),
        (Some("FO"), "201234", "+298201234"),
        (None, "+298201234", "+298201234"),
    ] {
        assert_eq!(parse(input, region).as_deref(), Ok(e164), "{input:?} in {region:?}");
    }
}

#[test]
fn what_cannot_be_read_for_certain_is_refused() {
    for (region, input, fault) in [
        (Some("US"), "", No::Empty),
        (Some("US"), " \t\r\n\u{200e}", No::Empty),
        (Some("US"), "+1 312\t555 0100", No::ControlCharacter),
        (Some("US"), "+1312555\n0100", No::ControlCharacter),
        (Some("US"), "+1312555\u{0}0100", No::ControlCharacter),
        (Some("US"), "+1 - 3 - 1 - 2 - 5 - 5 - 5 - 0 1 0 0", No::TooLong),
        (Some("US"), "1-800-FLOWERS", No::Letters),
        (Some("US"), "tel:+1-212-555-0123", No::Character),
        (Some("US"), "+3367a829916", No::Letters),
        (Some("US"), "TELNYX", No::Letters),
        (Some("US"), "abc", No::Letters),
        (Some("US"), "é", No::Letters),
        (Some("US"), "2125550123; DROP", No::Character),
        (Some("US"), "+1 212 555 0123 ext. 5", No::Extension),
        (Some("US"), "+12125550123x5", No::Extension),
        (Some("US"), "+1 212 555 0123 # 5", No::Extension),
        (Some("US"), "(212) 555-0123,,5", No::Extension),
        (Some("US"), "+12125550123;ext=5", No::Extension),
        (Some("US"), "+1 212 555 0123 доб. 5", No::Extension),
        (Some("US"), "+12125550123~5", No::Extension),
        (Some("US"), "+12125550123#", No::Character),
        (Some("US"), "*12125550123", No::Character),
        (Some("US"), "++12125550123", No::Character),
        (Some("US"), "+1212555+0123", No::Character),
        (Some("US"), "1+2125550123", No::Character),
        (Some("US"), "+1212555😀0123", No::Character),
        (Some("US"), "+1212555²0123", No::Character),
        (Some("US"), "+", No::NotANumber),
        (Some("US"), "--", No::NotANumber),
        (Some("US"), "+1", No::NotANumber),
        (Some("US"), "911", No::Length),
        (Some("US"), "12345", No::ShortCode),
        (Some("US"), "123-456", No::ShortCode),
        (None, "12345", No::ShortCode),
        // Possible lengths in Germany start at four digits.
        (Some("DE"), "72345", No::ShortCode),
        (Some("DE"), "110", No::AreaCodeMissing),
        (None, "+75973", No::Length),
        (None, "12125550123", No::NoCountryCode),
        (Some("US"), "0044 20 7183 8750", No::Length),
        (Some("US"), "+0044 20 7183 8750", No::UnknownCountryCode),
        (Some("XX"), "3125550100", No::UnknownCountryCode),
        (Some("no region"), "3125550100", No::UnknownCountryCode),
        (Some("US"), "5550100", No::AreaCodeMissing),
        (Some("US"), "+15550100", No::AreaCodeMissing),
        (Some("US"), "+1212555012345678", No::Length),
        (Some("US"), "442071838750", No::Length),
        (Some("US"), "+49 123456789012345", No::Length),
    ] {
        assert_eq!(parse(input, region), Err(fault), "{input:?} in {region:?}");
    }
}

#[test]
fn numbers_of_a_plan_that_the_library_does_not_know_are_the_carriers_to_judge() {
    for (region, input, expected) in [
        // A plan that was, or will be: the count of digits.
        (None, "+5215512345678", Ok("+5215512345678")),
        (Some("US"), "+52 1 55 1234 5678", Ok("+5215512345678")),
        (None, "+22507070707", Ok("+22507070707")),
        (None, "+44791112345678", Ok("+44791112345678")),
        (None, "+3361234567", Ok("+3361234567")),
        (Some("US"), "011 225 07 07 07 07", Ok("+22507070707")),
        (Some("DE"), "00225 07 07 07 07", Ok("+22507070707")),
        // A country code.
        (None, "+9990000000", Ok("+9990000000")),
        (Some("US"), "+210 (12) 345-678", Ok("+21012345678")),
        (None, "\u{61c}+210\u{a0}12345678\u{200f}", Ok("+21012345678")),
        // Not E.164: 7 to 15 digits, the first of them not 0.
        (None, "+999000", Err(No::UnknownCountryCode)),
        (None, "+4315", Err(No::Length)),
        (None, "+9991234567890123", Err(No::UnknownCountryCode)),
        (None, "+0129990000000", Err(No::UnknownCountryCode)),
        // North America has ten digits.
        (None, "+1312555010", Err(No::Length)),
        (None, "+131255501001", Err(No::Length)),
        // A trunk prefix, and no country code.
        (None, "+54 9 (011) 2345-6789", Err(No::Ambiguous)),
        (None, "+999 (0)12345678", Err(No::UnknownCountryCode)),
        (Some("MX"), "1 55 1234 5678", Err(No::Length)),
        (Some("US"), "5215512345678", Err(No::Length)),
        (None, "5215512345678", Err(No::NoCountryCode)),
    ] {
        assert_eq!(parse(input, region).as_deref(), expected.as_deref(), "{input} in {region:?}");
        let valid = PhoneNumber::parse(input, &VALID, region);
        assert!(valid.is_err(), "{input} in {region:?}: ranges must be known");
    }
}

#[test]
fn marks_that_nobody_sees_are_no_part_of_a_number() {
    let marks = "\u{ad}\u{34f}\u{61c}\u{180e}\u{200b}\u{200c}\u{200d}\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\u{202d}\
                 \u{202e}\u{2060}\u{2061}\u{2064}\u{2066}\u{2067}\u{2068}\u{2069}\u{206a}\u{206f}\u{fe0f}\u{feff}\u{e0020}";
    for mark in marks.chars() {
        for input in [
            format!("{mark}+1 312 555 0100"),
            format!("+{mark}1 312 555 0100"),
            format!("+1 312{mark} 555 0100{mark}"),
            format!("{mark}(312) 555{mark}-0100"),
        ] {
            assert_eq!(parse(&input, Some("US")).as_deref(), Ok("+13125550100"), "{input:?}");
        }
        assert_eq!(contact_identity(&format!("{mark}+1{mark} 415 555 0199{mark}")), "+14155550199");
        assert_eq!(contact_identity(&format!("{mark}AC{mark}ME")), "ACME", "{mark:?}");
        assert_eq!(contact_identity(&format!("{mark}75973{mark}")), "+75973", "{mark:?}");
    }
}

#[test]
fn a_stored_address_is_where_an_answer_goes() {
    for (stored, to, is_number) in [
        ("+13125550100", "+13125550100", true),
        ("+5215512345678", "+5215512345678", true),
        ("+75973", "75973", false),
        ("+7597", "+7597", false),
        ("4155550199", "4155550199", false),
        ("ACME", "ACME", false),
        ("offers@shop.example", "offers@shop.example", false),
    ] {
        let destination = Destination::stored(stored);
        assert_eq!((destination.as_str(), destination.number().is_some()), (to, is_number), "{stored}");
        assert_eq!(destination.identity(), stored);
    }
}

#[test]
fn a_number_with_plus_keeps_its_digits_or_is_refused() {
    for (input, expected) in [
        // The library would drop the trunk zero.
        ("+44 020 7183 8750", Err(No::Ambiguous)),
        ("+44 0 20 7183 8750", Err(No::Ambiguous)),
        ("+33 0142764978", Err(No::Ambiguous)),
        ("+44 [0]20 7183 8750", Err(No::Ambiguous)),
        // The prefix would be taken for the country's own.
        ("+1 1 212 555 0123", Err(No::Ambiguous)),
        ("+7 8 800 555 35 35", Err(No::Ambiguous)),
        // Mobile numbers as dialled inside of Argentina.
        ("+54 11 15-2345-6789", Err(No::Ambiguous)),
        ("+54 9 11 2345 6789", Ok("+5491123456789")),
    ] {
        assert_eq!(parse(input, Some("US")).as_deref(), expected.as_deref(), "{input}");
    }
}

#[test]
fn the_guard_holds_whatever_the_library_says() {
    for (input, result, code, agrees) in [
        ("+4915123456789", "+495123456789", "49", false),
        ("+8613912345678", "+863912345678", "86", false),
        ("+33142764978", "+3342764978", "33", false),
        ("+33142764978", "+33142764978", "33", true),
        ("+33 (0)1 42 76 49 78", "+33142764978", "33", true),
        ("+33 (0)1 42 76 49 78", "+33042764978", "33", false),
        ("+33 1 (0)42 76 49 78", "+33142764978", "33", false),
        ("+33 (0)(0)1 42 76 49 78", "+33142764978", "33", false),
        ("+33 (00)1 42 76 49 78", "+33142764978", "33", false),
        ("+39 (0)6 6982", "+39066982", "39", true),
        ("+٤٤ ٢٠ ٧١٨٣ ٨٧٥٠", "+442071838750", "44", true),
    ] {
        let typed = Spelling::read(input).expect(input);
        assert_eq!(typed.agrees_with(result, code), agrees, "{input} as {result}");
    }
}

#[test]
fn the_corpus_is_accepted_but_for_the_refusals_of_our_own() {
    let mut refused = Vec::new();
    for line in include_str!("../e164-cases.tsv").lines().skip(1) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [region, input, expected, length, _] = fields[..] else { panic!("{line}") };
        match parse(input, (region != "-").then_some(region)) {
            Ok(e164) if length == "possible" => assert_eq!(e164, expected, "{line}"),
            // Of a plan that the library doesn't know: digit by digit.
            Ok(e164) => {
                let typed: String = input.chars().filter(char::is_ascii_digit).collect();
                assert!(e164[1..] == typed && !e164.starts_with("+1"), "{line}: {e164}");
            }
            Err(fault) if length == "possible" => refused.push((input, fault)),
            Err(_) => {}
        }
    }
    assert_eq!(
        refused,
        [
            ("1-800-FLOWERS", No::Letters),
            ("+1 212 555 0123 ext. 5", No::Extension),
            ("tel:+1-212-555-0123", No::Character),
            ("+12125550123;phone-context=evil", No::Character),
        ]
    );
}

#[test]
fn settings_decide_on_ranges_letters_and_short_codes() {
    let number = |input, settings: &NumberSettings| {
        PhoneNumber::parse(input, settings, Some("US")).map(|number| number.as_str().to_owned())
    };
    assert_eq!(number("+15551234567", &VALID), Err(No::NotInUse));
    assert_eq!(number("+12125550123", &VALID).as_deref(), Ok("+12125550123"));

    for (input, expected) in [
        ("1-800-FLOWERS", Ok("+18003569377")),
        ("+1-800-FLOWERS", Ok("+18003569377")),
        ("+1 800 ＦＬＯＷＥＲＳ", Ok("+18003569377")),
        ("+3367a829916", Err(No::Letters)),
        ("+1 212 555 0123 ext. 5", Err(No::Extension)),
        ("1-800-FLOWERS x5", Err(No::Extension)),
        ("1-800-ÄPFELNN", Err(No::Letters)),
        ("TELNYX", Err(No::Letters)),
    ] {
        assert_eq!(number(input, &LETTERS).as_deref(), expected.as_deref(), "{input}");
    }
}

#[test]
fn short_codes_are_destinations_only_if_allowed() {
    let to = |input, settings: &NumberSettings, region| {
        Destination::parse(input, settings, region).map(|to| (to.as_str().to_owned(), to.number().is_some()))
    };
    for region in [Some("US"), Some("DE"), None] {
        assert_eq!(to("75973", &POSSIBLE, region), Err(No::ShortCode), "{region:?}");
        assert_eq!(to(" 75973 ", &SHORT_CODES, region), Ok(("75973".to_owned(), false)), "{region:?}");
    }
    assert_eq!(to("312345", &SHORT_CODES, Some("US")), Ok(("312345".to_owned(), false)));
    assert_eq!(to("759 73", &SHORT_CODES, Some("US")), Err(No::ShortCode));
    // As the carrier writes it, and so as a conversation shows it.
    assert_eq!(to("+75973", &SHORT_CODES, Some("US")), Ok(("75973".to_owned(), false)));
    assert_eq!(to("+75973", &POSSIBLE, Some("US")), Err(No::Length));
    assert_eq!(to("+7597", &SHORT_CODES, Some("US")), Err(No::Length));
    assert_eq!(to("7597", &SHORT_CODES, Some("US")), Err(No::Length));
    let whole = Ok(("+13125550100".to_owned(), true));
    assert_eq!(to("(312) 555-0100", &SHORT_CODES, Some("US")), whole);
    assert_eq!(to("+13125550100", &POSSIBLE, None), whole);
}

#[test]
fn inbound_senders_keep_their_identity() {
    for (raw, identity) in [
        ("+13125550101", "+13125550101"),
        ("+1 312 555 0101", "+13125550101"),
        ("+75973", "+75973"),
        ("75973", "+75973"),
        (" 312345", "+312345"),
        ("7597", "7597"),
        (" TELNYX\n", "TELNYX"),
        ("My\u{7}Bank", "MyBank"),
        ("12125550123", "12125550123"),
        ("+5215512345678", "+5215512345678"),
        ("", ""),
        ("123456789 123456789 123456789 1 tail", "123456789 123456789 123456789 1 tail"),
    ] {
        assert_eq!(contact_identity(raw), identity, "{raw:?}");
    }
}

#[test]
fn a_destination_is_the_contact_that_answers() {
    for (to, answers_as) in
        [("75973", "+75973"), ("+75973", "75973"), ("312345", "+312345"), ("(312) 555-0100", "+13125550100")]
    {
        let destination = Destination::parse(to, &SHORT_CODES, Some("US")).expect(to);
        assert_eq!(destination.identity(), contact_identity(answers_as), "{to}");
    }
}

#[test]
fn stored_numbers_have_the_exact_shape() {
    for good in ["+1234567", "+13125550100", "+123456789012345"] {
        assert_eq!(PhoneNumber::from_stored(good).expect(good).as_str(), good);
    }
    for bad in
        ["", "+", "+123456", "+1234567890123456", "+0123456789", "13125550100", "+1312555010a", "+1 312"]
    {
        assert_eq!(PhoneNumber::from_stored(bad), None, "{bad}");
    }
    assert_eq!(PhoneNumber::from_stored("+1٣125550100"), None);
}

#[test]
fn logs_see_masked_numbers() {
    let number = PhoneNumber::from_stored("+13125550100").expect("E.164");
    assert_eq!(number.masked(), "+1312***0100");
    assert_eq!(format!("{number:?}"), "PhoneNumber(+1312***0100)");
    assert_eq!(format!("{:?}", Destination::Number(number)), "Destination(+1312***0100)");
    for (raw, masked) in [
        ("+123456789012345", "+1234***2345"),
        ("13125550100", "1312***0100"),
        ("+2982012345", "+29***45"),
        ("+1234567", "+12***67"),
        ("+75973", "+***"),
        ("TELNYX", "***"),
        ("MYBANKING", "MY***NG"),
        ("", "***"),
    ] {
        assert_eq!(mask(raw), masked, "{raw}");
    }
}

proptest! {
    #[test]
    fn no_input_panics_and_every_result_has_the_shape(input in ".{0,40}", region in "[A-Za-z0-9]{0,3}") {
        for settings in [&POSSIBLE, &LETTERS, &SHORT_CODES] {
            if let Ok(number) = PhoneNumber::parse(&input, settings, Some(&region)) {
                prop_assert!(PhoneNumber::from_stored(number.as_str()).is_some());
            }
            let _ = Destination::parse(&input, settings, Some(&region));
        }
        let identity = contact_identity(&input);
        prop_assert_eq!(contact_identity(&identity), identity);
    }

    #[test]
    fn typed_with_plus_the_digits_stay(input in "[+][-+0-9a-z(). ]{0,30}") {
        let typed: String = input.chars().filter(char::is_ascii_digit).collect();
        if let Ok(number) = PhoneNumber::parse(&input, &POSSIBLE, Some("US")) {
            prop_assert!(number.as_str()[1..] == typed || input.contains("(0)"), "{input}");
        }
    }
}
