//! What must hold for files of numbers, and for what pages send back.

use std::collections::BTreeSet;

pub(crate) use super::attachments::fuzzing::{download, names};
pub(crate) use super::carrier::fuzzing::{answer as telnyx_answer, webhook as telnyx_webhook};
use super::numbers_file::{self, NumberRow};
use super::reading::Cursor;
use super::search::Needle;

/// A cursor, and below it what is searched for: a cursor that is read is written as one that is read the same; a text
/// is found in itself.
pub(crate) fn pages(text: &str) {
    let (cursor, search) = text.split_once('\n').unwrap_or((text, text));
    if let Ok(cursor) = Cursor::parse(cursor) {
        assert_eq!(Cursor::parse(&cursor.text()), Ok(cursor));
    }
    if let Ok(Some(needle)) = Needle::new(search) {
        for found in
            [search, &search.to_ascii_uppercase(), &search.to_ascii_lowercase(), &format!("a {search} b")]
        {
            assert!(needle.is_in(found), "{search:?} is not found in {found:?}");
        }
        assert!(!needle.is_in(""));
    }
}

/// A file of numbers: either rows or faults, in the order of their lines; rows that are written are read as they were.
pub(crate) fn numbers_csv(file: &[u8]) {
    let lines = file.split(|byte| matches!(byte, b'\n' | b'\r')).count() as u64;
    match numbers_file::parse(file) {
        Ok(rows) => {
            assert!(rows.is_sorted_by(|before, after| before.line < after.line));
            rows.iter().for_each(|row| good(row, lines));
            comes_back(&rows);
        }
        Err(faults) => {
            assert!(!faults.is_empty());
            let seen: BTreeSet<u64> = faults.iter().map(|fault| fault.line).collect();
            assert!(seen.len() == faults.len() && faults.is_sorted_by_key(|fault| fault.line));
            assert!(
                faults.iter().all(|fault| (1..=lines).contains(&fault.line) && !fault.message.is_empty())
            );
        }
    }
}

fn good(row: &NumberRow, lines: u64) {
    assert!((2..=lines).contains(&row.line), "{row:?} of {lines}");
    assert!(row.status != "assigned" || row.user_id.is_some());
    let texts =
        [Some(&row.number), row.user_id.as_ref(), row.label.as_ref(), row.messaging_profile_id.as_ref()];
    for text in texts.into_iter().flatten() {
        assert!(!text.is_empty() && text.trim() == text && text.chars().count() <= 128, "{text:?}");
        assert!(!text.chars().any(char::is_control), "{text:?}");
    }
}

fn comes_back(rows: &[NumberRow]) {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let header = ["number", "user_id", "status", "label", "is_default", "messaging_profile_id"];
    writer.write_record(header).expect("bug: memory is written to");
    for row in rows {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let is_default = row.is_default.to_string();
        let (user, label, profile) = (text(&row.user_id), text(&row.label), text(&row.messaging_profile_id));
        let record = [&row.number, &user, row.status, &label, &is_default, &profile];
        writer.write_record(record).expect("bug: memory is written to");
    }
    let written = writer.into_inner().expect("bug: memory is written to");
    let read = numbers_file::parse(&written).expect("bug: good rows are read");
    let expected = rows.iter().zip(2..).map(|(row, line)| NumberRow { line, ..row.clone() });
    assert_eq!(read, expected.collect::<Vec<_>>());
}
