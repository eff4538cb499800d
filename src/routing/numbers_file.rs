//! The CSV file of `switchboard numbers import`: what a line may say, and everything that is wrong with it.
//!
//! All lines or none: a file with one bad line gives no rows, but every bad line. Whether the texts are
//! phone numbers, and whether two are the same, depends on the app and is the importer's question.

use csv::{ByteRecord, Position, ReaderBuilder};

/// Most characters of a user id, a label or a messaging profile id.
const MAX_FIELD_CHARACTERS: usize = 128;

const COLUMNS: [&str; 6] = ["number", "user_id", "status", "label", "is_default", "messaging_profile_id"];

/// What a bad header is told.
const EXPECTED: &str = "the first line names the columns number (required), user_id, status, label, \
                        is_default, messaging_profile_id";

const STATUSES: [&str; 5] = ["assigned", "available", "reserved", "suspended", "released"];

/// One number as the file gives it. Texts are trimmed, empty ones are `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumberRow {
    /// Where it stands, the header being line 1.
    pub line: u64,
    /// The number as written, not yet parsed; not empty.
    pub number: String,
    /// Who has it.
    pub user_id: Option<String>,
    /// `assigned` (only with a user), `available`, `reserved`, `suspended` or `released`. Where the file
    /// says nothing: `assigned` with a user, `available` without.
    pub status: &'static str,
    /// For people.
    pub label: Option<String>,
    /// Whether the user sends from it unless told otherwise.
    pub is_default: bool,
    /// Telnyx field `messaging_profile_id`.
    pub messaging_profile_id: Option<String>,
}

/// Why a line can't be imported. It holds what the file says, so it is for the person who imports and no log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {text}", text = described(.field.as_ref(), .message))]
pub struct LineError {
    /// Which line, the header being line 1.
    pub line: u64,
    /// Column and value, where one of them is at fault.
    pub field: Option<(&'static str, String)>,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl LineError {
    /// A fault of the whole line.
    pub fn new(line: u64, message: impl Into<String>) -> Self {
        Self { line, field: None, message: message.into() }
    }

    /// A fault of one of its fields.
    pub fn of(line: u64, column: &'static str, value: &str, message: impl Into<String>) -> Self {
        Self { line, field: Some((column, shortened(value))), message: message.into() }
    }

    /// Column, value and message.
    pub fn text(&self) -> String {
        described(self.field.as_ref(), &self.message)
    }
}

fn described(field: Option<&(&'static str, String)>, message: &str) -> String {
    match field {
        Some((column, value)) => format!("{column} {value:?}: {message}"),
        None => message.to_owned(),
    }
}

/// Enough of a value to find it.
fn shortened(value: &str) -> String {
    const MOST: usize = 40;
    if value.chars().count() <= MOST {
        value.to_owned()
    } else {
        value.chars().take(MOST).collect::<String>() + "…"
    }
}

/// Reads a whole file: UTF-8, with or without byte order mark, separated by commas or semicolons. The
/// header names the columns, in any order; `number` has to be there. Empty lines are skipped.
///
/// # Errors
/// Every bad line, in order; a bad header alone.
pub fn parse(file: &[u8]) -> Result<Vec<NumberRow>, Vec<LineError>> {
    let file = file.strip_prefix("\u{feff}".as_bytes()).unwrap_or(file);
    let mut reader =
        ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter(file)).from_reader(file);
    let mut record = ByteRecord::new();
    let mut lines = Lines { at: 0, line: 1 };
    let (mut columns, mut rows, mut errors) = (None, Vec::new(), Vec::new());
    loop {
        let line = lines.of_next(file, reader.position());
        match reader.read_byte_record(&mut record) {
            Ok(true) => {}
            Ok(false) => break,
            // Bytes in memory with any number of fields can't be misread; but a fault must not be a cut.
            Err(error) => {
                errors.push(LineError::new(line, error.to_string()));
                break;
            }
        }
        if record.iter().all(|field| field.trim_ascii().is_empty()) {
            continue;
        }
        let Some(columns) = &columns else {
            columns = Some(Columns::read(&record).map_err(|message| vec![LineError::new(line, message)])?);
            continue;
        };
        match columns.row(&record, line) {
            Ok(row) => rows.push(row),
            Err(error) => errors.push(error),
        }
    }
    if columns.is_none() {
        errors.push(LineError::new(1, format!("the file is empty: {EXPECTED}")));
    }
    if errors.is_empty() { Ok(rows) } else { Err(errors) }
}

/// Where each of [`COLUMNS`] stands in a line.
struct Columns {
    count: usize,
    places: [Option<usize>; COLUMNS.len()],
}

impl Columns {
    fn read(header: &ByteRecord) -> Result<Self, String> {
        let mut places = [None; COLUMNS.len()];
        for (place, field) in header.iter().enumerate() {
            let name = text(field)?.to_lowercase();
            let Some(column) = COLUMNS.iter().position(|column| *column == name) else {
                return Err(format!("unknown column {name:?}: {EXPECTED}"));
            };
            if places[column].replace(place).is_some() {
                return Err(format!("the column {name:?} stands there twice: remove one"));
            }
        }
        if places[0].is_none() {
            return Err(format!("the column \"number\" is missing: {EXPECTED}"));
        }
        Ok(Self { count: header.len(), places })
    }

    fn row(&self, record: &ByteRecord, line: u64) -> Result<NumberRow, LineError> {
        if record.len() != self.count {
            let message = format!(
                "the line has {} fields, but the header has {}: put quotes around a value with a comma",
                record.len(),
                self.count
            );
            return Err(LineError::new(line, message));
        }
        let field = |column| self.field(record, column, line);
        let fault = |column: usize, text: Option<&str>| {
            let text = text.unwrap_or_default().to_owned();
            move |message: String| LineError::of(line, COLUMNS[column], &text, message)
        };
        let number = field(0)?.ok_or_else(|| LineError::new(line, "the number is missing"))?;
        let (user_id, written_status, written_flag) = (field(1)?, field(2)?, field(4)?);
        Ok(NumberRow {
            line,
            number: number.to_owned(),
            user_id: user_id.map(str::to_owned),
            status: status(written_status, user_id.is_some()).map_err(fault(2, written_status))?,
            label: field(3)?.map(str::to_owned),
            is_default: flag(written_flag).map_err(fault(4, written_flag))?,
            messaging_profile_id: field(5)?.map(str::to_owned),
        })
    }

    /// The text of a column, `None` if there is none.
    fn field<'a>(
        &self,
        record: &'a ByteRecord,
        column: usize,
        line: u64,
    ) -> Result<Option<&'a str>, LineError> {
        let Some(field) = self.places[column].and_then(|place| record.get(place)) else { return Ok(None) };
        let text =
            text(field).map_err(|message| LineError::new(line, format!("{}: {message}", COLUMNS[column])))?;
        let fault = |message: String| Err(LineError::of(line, COLUMNS[column], text, message));
        if text.chars().any(char::is_control) {
            return fault("holds control characters: write it without line breaks and tabs".to_owned());
        }
        if text.chars().count() > MAX_FIELD_CHARACTERS {
            return fault(format!("is longer than {MAX_FIELD_CHARACTERS} characters: write a shorter one"));
        }
        Ok((!text.is_empty()).then_some(text))
    }
}

fn text(field: &[u8]) -> Result<&str, String> {
    let text = str::from_utf8(field).map_err(|_| "the text is not UTF-8: save the file as \"CSV UTF-8\"")?;
    Ok(text.trim())
}

fn status(text: Option<&str>, has_user: bool) -> Result<&'static str, String> {
    let Some(text) = text else { return Ok(if has_user { "assigned" } else { "available" }) };
    let status = STATUSES
        .into_iter()
        .find(|status| text.eq_ignore_ascii_case(status))
        .ok_or_else(|| format!("is no status: write one of {}", STATUSES.join(", ")))?;
    if status == "assigned" && !has_user {
        return Err("needs a user_id: add one, or write available".to_owned());
    }
    Ok(status)
}

fn flag(text: Option<&str>) -> Result<bool, String> {
    match text.unwrap_or_default().to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" => Ok(true),
        "" | "0" | "false" | "no" => Ok(false),
        _ => Err("is neither true nor false: write 1 or 0".to_owned()),
    }
}

/// Semicolons, as spreadsheets write where the comma is for decimals, if the header has any.
fn delimiter(file: &[u8]) -> u8 {
    let header = file.trim_ascii_start().split(|byte| matches!(byte, b'\n' | b'\r')).next();
    if header.is_some_and(|header| header.contains(&b';')) { b';' } else { b',' }
}

/// Counts lines, which end with a line feed, a carriage return, or both.
struct Lines {
    at: usize,
    line: u64,
}

impl Lines {
    /// The line on which the record after `position` begins. The reader stands before the rest of a line
    /// break and before empty lines.
    fn of_next(&mut self, file: &[u8], position: &Position) -> u64 {
        let is_break = |byte: &u8| matches!(byte, b'\n' | b'\r');
        let at = usize::try_from(position.byte()).unwrap_or(file.len()).min(file.len());
        let end = at + file[at..].iter().take_while(|byte| is_break(byte)).count();
        let ends_line = |at: &usize| match file[*at] {
            b'\r' => file.get(at + 1) != Some(&b'\n'),
            byte => byte == b'\n',
        };
        self.line += (self.at..end).filter(ends_line).count() as u64;
        self.at = end;
        self.line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(file: &[u8]) -> Vec<String> {
        parse(file).expect_err("bad lines").iter().map(LineError::to_string).collect()
    }

    #[test]
    fn lines_are_counted_whatever_ends_them() {
        for ends in ["\n", "\r\n", "\r"] {
            let rows = parse(["number", "1", "", "2"].join(ends).as_bytes()).expect("good");
            assert_eq!(rows.iter().map(|row| row.line).collect::<Vec<_>>(), [2, 4], "{ends:?}");
        }
    }

    fn row(line: u64, number: &str, user_id: Option<&str>, status: &'static str) -> NumberRow {
        NumberRow {
            line,
            number: number.to_owned(),
            user_id: user_id.map(str::to_owned),
            status,
            label: None,
            is_default: false,
            messaging_profile_id: None,
        }
    }

    #[test]
    fn columns_come_in_any_order_with_either_delimiter() {
        let expected = vec![
            NumberRow {
                label: Some("Sales, west; 2nd".to_owned()),
                is_default: true,
                messaging_profile_id: Some("40017f8e".to_owned()),
                ..row(2, "+13125550100", Some("42"), "assigned")
            },
            row(3, "(312) 555-0101", None, "available"),
        ];
        for delimiter in [",", ";"] {
            let file = "status|LABEL| number |user_id|messaging_profile_id|is_default\r\n\
                        |\"Sales, west; 2nd\"| +13125550100 |42|40017f8e|TRUE\r\n\
                        |||||\r\n"
                .replace("\r\n|||||", "\r\n||(312) 555-0101|||0")
                .replace('|', delimiter);
            assert_eq!(parse(file.as_bytes()), Ok(expected.clone()), "{delimiter}");
            assert_eq!(parse(format!("\u{feff}{file}").as_bytes()), Ok(expected.clone()), "{delimiter}");
        }
        assert_eq!(parse(b"number\n+13125550100"), Ok(vec![row(2, "+13125550100", None, "available")]));
        assert_eq!(parse(b"number,user_id\n"), Ok(Vec::new()));
    }

    #[test]
    fn the_status_follows_from_the_user_if_it_is_not_given() {
        for (fields, expected) in [
            ("42,", Ok("assigned")),
            (",", Ok("available")),
            ("42,Assigned", Ok("assigned")),
            ("42,reserved", Ok("reserved")),
            (",suspended", Ok("suspended")),
            (",released", Ok("released")),
            (",assigned", Err("line 2: status \"assigned\": needs a user_id: add one, or write available")),
            (
                "42,active",
                Err(
                    "line 2: status \"active\": is no status: write one of assigned, available, reserved, suspended, released",
                ),
            ),
        ] {
            let found = parse(format!("number,user_id,status\n+13125550100,{fields}").as_bytes());
            let found = found.map(|rows| rows[0].status).map_err(|errors| errors[0].to_string());
            assert_eq!(found, expected.map_err(str::to_owned), "{fields}");
        }
    }

    #[test]
    fn every_bad_line_is_reported_by_its_number() {
        let long = "u".repeat(129);
        let lines = [
            "number,user_id,is_default".to_owned(),
            "+13125550100,1,".to_owned(),
            String::new(),
            ",,".to_owned(),
            ",2,".to_owned(),
            "\"+1312\n555\",2,".to_owned(),
            "+13125550101,3".to_owned(),
            "+13125550102,3,,".to_owned(),
            "+13125550103,3,maybe".to_owned(),
            format!("+13125550104,{long},"),
            String::new(),
            "+13125550105,a\tb,".to_owned(),
        ];
        for end in ["\n", "\r\n"] {
            let mut file = lines.join(end).into_bytes();
            file.extend_from_slice(end.as_bytes());
            file.extend_from_slice(b"+13125550106,\xe9,");
            assert_eq!(
                errors(&file),
                [
                    "line 5: the number is missing",
                    "line 6: number \"+1312\\n555\": holds control characters: write it without line breaks and tabs",
                    "line 8: the line has 2 fields, but the header has 3: put quotes around a value with a comma",
                    "line 9: the line has 4 fields, but the header has 3: put quotes around a value with a comma",
                    "line 10: is_default \"maybe\": is neither true nor false: write 1 or 0",
                    &format!(
                        "line 11: user_id \"{}…\": is longer than 128 characters: write a shorter one",
                        "u".repeat(40)
                    ),
                    "line 13: user_id \"a\\tb\": holds control characters: write it without line breaks and tabs",
                    "line 14: user_id: the text is not UTF-8: save the file as \"CSV UTF-8\"",
                ]
            );
        }
    }

    #[test]
    fn a_bad_header_is_one_error() {
        for (file, message) in [
            ("", "line 1: the file is empty"),
            ("\n\n", "line 1: the file is empty"),
            ("+13125550100,42\n", "line 1: unknown column \"+13125550100\""),
            ("\nnumber,owner\n", "line 2: unknown column \"owner\""),
            ("user_id,label\n", "line 1: the column \"number\" is missing"),
            ("number,user_id,Number\n", "line 1: the column \"number\" stands there twice"),
            ("number\tuser_id\n", "line 1: unknown column \"number\\tuser_id\""),
        ] {
            let found = errors(file.as_bytes());
            assert!(found.len() == 1 && found[0].starts_with(message), "{file:?}: {found:?}");
        }
    }
}
