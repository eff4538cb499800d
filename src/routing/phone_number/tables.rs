//! Numbers as tables: each row of `protocol-tests/data/*.tsv` says where it comes from.

use super::*;

const NUMBERS: &str = include_str!("../../../protocol-tests/data/numbers.tsv");
const AREA_CODES: &str = include_str!("../../../protocol-tests/data/nanp-area-codes.tsv");

const POSSIBLE: NumberSettings =
    NumberSettings { check: NumberCheck::Possible, allow_letters: false, allow_short_codes: false };
const VALID: NumberSettings = NumberSettings { check: NumberCheck::Valid, ..POSSIBLE };

/// A table's rows, each with at least so many columns.
fn rows(table: &str, columns: usize) -> Vec<Vec<&str>> {
    let rows: Vec<Vec<&str>> = table.lines().skip(1).map(|line| line.split('\t').collect()).collect();
    assert!(rows.iter().all(|row| row.len() == columns), "a row has another count of columns");
    assert!(rows.iter().all(|row| !row[columns - 1].is_empty()), "a row has no source");
    rows
}

#[test]
fn every_number_of_the_table_is_read_as_the_table_says() {
    let mut wrong = Vec::new();
    let rows = rows(NUMBERS, 7);
    assert_eq!(rows.len(), 207);
    for row in &rows {
        let [region, input, by_library, _, _, expected, _] = row[..] else { panic!("{row:?}") };
        let input: String = serde_json::from_str(input).expect("a JSON string");
        let region = Some(region).filter(|region| *region != "-");
        let found = match PhoneNumber::parse(&input, &POSSIBLE, region) {
            Ok(number) => number.as_str().to_owned(),
            Err(fault) => format!("ERR {fault:?}"),
        };
        // A number that is read at all is read as the library reads it, unless that refuses a space it doesn't know.
        let agrees = found.starts_with("ERR") || by_library == "ERR" || found == by_library;
        if found != expected || !agrees {
            wrong
                .push(format!("{input:?} in {region:?}: {found}, not {expected}; the library: {by_library}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Fails when the crate's metadata learns one of them: then `docs/messaging.md` and this list have one code less.
#[test]
fn the_area_codes_in_service_that_the_metadata_lacks_are_known() {
    let mut lacking = Vec::new();
    for row in rows(AREA_CODES, 9) {
        let (code, service) = (row[0], row[7]);
        let number = format!("+1{code}5550123");
        let sent = PhoneNumber::parse(&number, &POSSIBLE, None).map(|number| number.as_str().to_owned());
        assert_eq!(sent.as_deref(), Ok(number.as_str()), "{code} can be sent to");
        match PhoneNumber::parse(&number, &VALID, None) {
            Ok(_) => {}
            Err(fault) => {
                assert_eq!(fault, InvalidNumber::NotInUse, "{code}");
                lacking.extend((service == "in service").then_some(code));
            }
        }
    }
    assert_eq!(lacking, ["357", "457", "679"]);
}
