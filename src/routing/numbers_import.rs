//! Puts the numbers of a file into the server's own directory.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Serialize;

use super::draft::UserRef;
use super::numbers::{DirectoryNumber, NumberStatus};
use super::numbers_file::{LineError, NumberRow};
use super::phone_number::PhoneNumber;
use crate::config::RoutingSettings;
use crate::storage::{self, Database, StorageError, Transaction};

/// Rows of one transaction: few enough that messages sent meanwhile do not wait long.
const PAGE: usize = 1_000;

/// Numbers that may be imported: every one of them makes sense.
#[derive(Clone, Debug)]
pub struct Numbers(Vec<DirectoryNumber>);

/// What an import does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Numbers that were not in the directory.
    pub new: usize,
    /// Numbers that were there with something else.
    pub changed: usize,
    /// Numbers that were there just so.
    pub unchanged: usize,
}

impl Numbers {
    /// Reads the numbers as the app reads them.
    ///
    /// # Errors
    /// Every line that can't be imported.
    pub fn new(rows: Vec<NumberRow>, settings: &RoutingSettings) -> Result<Self, Vec<LineError>> {
        let now = storage::now();
        let (mut numbers, mut errors) = (Vec::with_capacity(rows.len()), Vec::new());
        let (mut lines, mut defaults) = (HashMap::new(), HashMap::new());
        for row in rows {
            let (line, written) = (row.line, row.number.clone());
            match read(row, settings, now) {
                Ok(number) => {
                    if let Some(first) = lines.insert(number.number.clone(), line) {
                        let message = format!("stands in line {first}, too: remove one of the lines");
                        errors.push(LineError::of(line, "number", &written, message));
                    }
                    let user = number.user_id.clone().filter(|_| number.is_default);
                    if let Some(first) = user.and_then(|user| defaults.insert(user, line)) {
                        let message = format!(
                            "line {first} has a default number of the same user: leave one of them empty"
                        );
                        errors.push(LineError::of(line, "is_default", "1", message));
                    }
                    numbers.push(number);
                }
                Err((column, value, message)) => errors.push(LineError::of(line, column, &value, message)),
            }
        }
        if errors.is_empty() { Ok(Self(numbers)) } else { Err(errors) }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Writes them, a page at a time and in the order of the file; `dry_run` only counts. Messages that are sent
    /// afterwards see them. `go_on` hears after each page how many are done, and says whether to take the next.
    ///
    /// # Errors
    /// Of the store, with what was done before: whole pages. Importing again does the rest.
    pub async fn import(
        self,
        database: &Database,
        app_id: &str,
        dry_run: bool,
        mut go_on: impl FnMut(usize) -> bool,
    ) -> Result<Counts, (Counts, StorageError)> {
        let app_id: Arc<str> = app_id.into();
        let mut counts = Counts::default();
        let mut numbers = self.0.into_iter();
        loop {
            let page: Vec<_> = numbers.by_ref().take(PAGE).collect();
            if page.is_empty() || !go_on(counts.total()) {
                return Ok(counts);
            }
            let app_id = Arc::clone(&app_id);
            let work = move |tx: &mut Transaction<'_>| {
                let mut counts = Counts::default();
                page.iter().try_for_each(|number| put(tx, &app_id, number, dry_run, &mut counts))?;
                Ok::<_, StorageError>(counts)
            };
            let written = database.write(work).await;
            counts.add(written.map_err(|error| (counts, error))?);
        }
    }
}

impl Counts {
    /// How many were looked at.
    pub fn total(&self) -> usize {
        self.new + self.changed + self.unchanged
    }

    fn add(&mut self, other: Self) {
        self.new += other.new;
        self.changed += other.changed;
        self.unchanged += other.unchanged;
    }
}

/// Column, value and fault of a row that can't be imported.
type Fault = (&'static str, String, String);

fn read(row: NumberRow, settings: &RoutingSettings, now: i64) -> Result<DirectoryNumber, Fault> {
    let number = PhoneNumber::parse(&row.number, &settings.numbers, settings.default_region.as_deref())
        .map_err(|error| ("number", row.number.clone(), error.to_string()))?;
    // An id is compared with those of requests, so it obeys the same rules.
    let written = row.user_id.clone().unwrap_or_default();
    let user_id = row.user_id.map(|user| UserRef::required(Some(&UserRef::Text(user)))).transpose();
    let user_id = user_id.map_err(|error| ("user_id", written, error.to_string()))?;
    if row.is_default && user_id.is_none() {
        let message = "needs a user_id, whose default number it is: add one, or write 0";
        return Err(("is_default", "1".to_owned(), message.to_owned()));
    }
    Ok(DirectoryNumber {
        user_id,
        status: NumberStatus::parse(row.status).unwrap_or(NumberStatus::Available),
        label: row.label,
        is_default: row.is_default,
        messaging_profile_id: row.messaging_profile_id,
        ..DirectoryNumber::new(&number, now)
    })
}

fn put(
    tx: &mut Transaction<'_>,
    app_id: &str,
    number: &DirectoryNumber,
    dry_run: bool,
    counts: &mut Counts,
) -> Result<(), StorageError> {
    let mut wanted = number.clone();
    match DirectoryNumber::find(tx, app_id, &number.number)? {
        None => counts.new += 1,
        Some(found) => {
            let DirectoryNumber { id, created_at, updated_at, .. } = found;
            // Also where that is another spelling of the same line.
            wanted.number.clone_from(&found.number);
            if found == (DirectoryNumber { id, created_at, updated_at, ..wanted.clone() }) {
                counts.unchanged += 1;
                return Ok(());
            }
            wanted.created_at = created_at;
            counts.changed += 1;
        }
    }
    if dry_run { Ok(()) } else { wanted.save(tx, app_id) }
}

#[cfg(test)]
mod tests {
    use super::super::numbers::NumberQuery;
    use super::super::numbers_file;
    use super::*;
    use crate::config::StoreSettings;

    fn numbers(file: &str) -> Result<Numbers, Vec<String>> {
        let rows = numbers_file::parse(file.as_bytes()).expect("a readable file");
        let texts = |errors: Vec<LineError>| errors.iter().map(LineError::to_string).collect();
        Numbers::new(rows, &RoutingSettings::default()).map_err(texts)
    }

    #[test]
    fn every_line_that_makes_no_sense_is_told() {
        let file = "number,user_id,is_default\n\
                    (312) 555-0100,7,1\n+13125550100,8,\nnone,7,\n+13125550101,a/b,\n\
                    +13125550102,7,yes\n+13125550103,,yes\n+13125550104,7,\n";
        let errors = numbers(file).expect_err("bad lines");
        let begins = [
            "line 3: number \"+13125550100\": stands in line 2, too",
            "line 4: number \"none\": ",
            "line 5: user_id \"a/b\": ",
            "line 6: is_default \"1\": line 2 has a default number of the same user",
            "line 7: is_default \"1\": needs a user_id",
        ];
        assert_eq!(errors.len(), begins.len(), "{errors:?}");
        for (error, begin) in errors.iter().zip(begins) {
            assert!(error.starts_with(begin), "{error}");
        }
    }

    #[tokio::test]
    async fn an_import_counts_and_can_be_repeated() {
        let folder = tempfile::tempdir().expect("folder");
        let database = Database::open(&StoreSettings::default(), folder.path()).expect("opened");
        let many: String = (0..2_500).map(|n| format!("+1312556{n:04},{n},\n")).collect();
        let file = format!("number,user_id,is_default\n+13125550100,7,1\n{many}");
        let import = async |file: &str, dry_run| {
            let numbers = numbers(file).expect("all good");
            numbers.import(&database, "1", dry_run, |_| true).await.expect("imported")
        };
        let all_new = Counts { new: 2_501, ..Counts::default() };
        assert_eq!(import(&file, true).await, all_new);
        assert_eq!(import(&file, false).await, all_new);
        let again = Counts { unchanged: 2_501, ..Counts::default() };
        assert_eq!(import(&file, false).await, again);

        // The default moves: the user has one.
        let file = "number,user_id,is_default,label\n+13125550102,7,1,\n+13125560000,,,Spare\n";
        assert_eq!(import(file, false).await, Counts { new: 1, changed: 1, unchanged: 0 });
        let query = NumberQuery { limit: 10_000, ..NumberQuery::default() };
        let found = database.read(move |tx| DirectoryNumber::list(tx, "1", &query)).await.expect("read");
        let of = |number: &str| found.iter().find(|found| found.number == number).expect(number);
        assert!(of("+13125550102").is_default && !of("+13125550100").is_default);
        let spare = of("+13125560000");
        assert_eq!((spare.status, spare.user_id.as_deref()), (NumberStatus::Available, None));
        assert_eq!(spare.label.as_deref(), Some("Spare"));
    }
}
