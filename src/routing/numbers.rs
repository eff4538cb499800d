//! The server's own directory: the portal tells which number belongs to whom.
//!
//! Where the portal's tables are the directory, they are changed there, and only looked up here.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::{Code, RoutingError};
use super::json::{Id, carbon};
use super::phone_number::{PhoneNumber, mask, spellings};
use super::{Router, unrouted, user_tokens};
use crate::apps::App;
use crate::config::{DirectoryMode, RoutingSettings};
use crate::storage::{self, Row, StorageError, Transaction, Value};

/// Numbers with two owners that are named at start.
const MAX_NAMED: i64 = 20;

/// What a number is to the portal. Only one that is assigned makes messages internal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NumberStatus {
    /// A user has it.
    Assigned,
    /// Nobody has it.
    Available,
    /// Nobody is to have it for now.
    Reserved,
    /// Its user may not use it for now.
    Suspended,
    /// It was given back.
    Released,
}

/// A number of the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryNumber {
    /// The row's id.
    pub id: i64,
    /// E.164.
    pub number: String,
    /// Who has it.
    pub user_id: Option<String>,
    /// What it is to the portal.
    pub status: NumberStatus,
    /// What the portal calls it.
    pub label: Option<String>,
    /// Whether its user sends from it when nothing else is said.
    pub is_default: bool,
    /// The carrier's profile, where it is not the app's.
    pub messaging_profile_id: Option<String>,
    /// Microseconds since 1970.
    pub created_at: i64,
    /// When it last changed.
    pub updated_at: i64,
}

/// A number of the directory.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct PhoneNumberJson {
    /// Identifies it.
    pub id: Id,
    /// E.164.
    pub number: String,
    /// Who has it.
    pub user_id: Option<Id>,
    /// What it is to the portal.
    pub status: NumberStatus,
    /// What the portal calls it.
    pub label: Option<String>,
    /// Whether its user sends from it when nothing else is said.
    pub is_default: bool,
    /// The carrier's profile, where it is not the app's.
    pub messaging_profile_id: Option<String>,
    /// When it was added.
    pub created_at: String,
    /// When it last changed.
    pub updated_at: String,
}

/// A number to be added or changed. What is `None` stays as it is.
#[derive(Clone, Debug)]
pub struct NumberChange {
    /// Which number.
    pub number: PhoneNumber,
    /// Who is to have it; `Some(None)`: nobody.
    pub user_id: Option<Option<String>>,
    /// What it is to be.
    pub status: Option<NumberStatus>,
    /// What the portal calls it.
    pub label: Option<Option<String>>,
    /// Whether its user sends from it when nothing else is said.
    pub is_default: Option<bool>,
    /// The carrier's profile.
    pub messaging_profile_id: Option<Option<String>>,
    /// Its place in a list, for errors.
    pub index: Option<usize>,
}

/// Which numbers to list.
#[derive(Clone, Debug, Default)]
pub struct NumberQuery {
    /// Of this user.
    pub user_id: Option<String>,
    /// In this state.
    pub status: Option<NumberStatus>,
    /// At most so many.
    pub limit: i64,
    /// Behind the one with this id.
    pub after: Option<i64>,
}

/// What sending to a number would mean.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Lookup {
    /// E.164.
    pub number: String,
    /// Whether a message to it reaches a portal user without the carrier.
    pub internal: bool,
    /// Its status in the directory; null when it is not there.
    pub status: Option<String>,
}

macro_rules! number_columns {
    () => {
        "id, number, user_id, status, label, is_default, messaging_profile_id, created_at, updated_at"
    };
}

impl NumberStatus {
    /// All of them, in lower case as they are stored.
    const ALL: [(Self, &'static str); 5] = [
        (Self::Assigned, "assigned"),
        (Self::Available, "available"),
        (Self::Reserved, "reserved"),
        (Self::Suspended, "suspended"),
        (Self::Released, "released"),
    ];

    /// As it is stored and stands in JSON.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(status, _)| *status == self).map_or("", |(_, text)| text)
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == text).map(|(status, _)| *status)
    }
}

impl DirectoryNumber {
    /// As clients see it.
    pub fn json(&self, settings: &RoutingSettings) -> PhoneNumberJson {
        PhoneNumberJson {
            id: Id::Number(self.id),
            number: self.number.clone(),
            user_id: self.user_id.as_deref().map(|user| Id::of_user(user, settings.ids.user_json)),
            status: self.status,
            label: self.label.clone(),
            is_default: self.is_default,
            messaging_profile_id: self.messaging_profile_id.clone(),
            created_at: carbon(self.created_at),
            updated_at: carbon(self.updated_at),
        }
    }

    fn from_row(row: &Row) -> Result<Self, StorageError> {
        let status = row.text(3)?;
        Ok(Self {
            id: row.int(0)?,
            number: row.text(1)?,
            user_id: row.optional_text(2)?,
            status: NumberStatus::parse(&status)
                .ok_or_else(|| StorageError::Fault(format!("a phone number has the status {status}")))?,
            label: row.optional_text(4)?,
            is_default: row.flag(5)?,
            messaging_profile_id: row.optional_text(6)?,
            created_at: row.int(7)?,
            updated_at: row.int(8)?,
        })
    }

    /// A number that nothing is known of yet.
    pub(super) fn new(number: &PhoneNumber, now: i64) -> Self {
        Self {
            id: 0,
            number: number.as_str().to_owned(),
            user_id: None,
            status: NumberStatus::Available,
            label: None,
            is_default: false,
            messaging_profile_id: None,
            created_at: now,
            updated_at: now,
        }
    }

    /// A number of the directory, or the other spelling of the same line that is there: a line has one owner.
    pub(super) fn find(
        tx: &mut Transaction<'_>,
        app_id: &str,
        number: &str,
    ) -> Result<Option<Self>, StorageError> {
        for number in spellings(number) {
            let row = tx.query_one(
                concat!(
                    "SELECT ",
                    number_columns!(),
                    " FROM phone_numbers WHERE app_id = ?1 AND number = ?2 /* FOR UPDATE */"
                ),
                &[app_id.into(), number.into()],
            )?;
            if let Some(row) = row {
                return Self::from_row(&row).map(Some);
            }
        }
        Ok(None)
    }

    /// A page of an app's numbers, in the order in which they were added.
    ///
    /// # Errors
    /// Of the store.
    pub fn list(
        tx: &mut Transaction<'_>,
        app_id: &str,
        query: &NumberQuery,
    ) -> Result<Vec<Self>, StorageError> {
        let rows = tx.query(
            concat!(
                "SELECT ",
                number_columns!(),
                " FROM phone_numbers WHERE app_id = ?1 AND id > ?2 AND (?3 = '' OR user_id = ?3) \
                 AND (?4 = '' OR status = ?4) ORDER BY id LIMIT ?5"
            ),
            &[
                app_id.into(),
                query.after.unwrap_or(0).into(),
                query.user_id.as_deref().unwrap_or_default().into(),
                query.status.map_or("", NumberStatus::as_str).into(),
                query.limit.into(),
            ],
        )?;
        rows.iter().map(Self::from_row).collect()
    }

    /// Writes it, and takes the user's other numbers back to second place if this is the first.
    pub(super) fn save(&mut self, tx: &mut Transaction<'_>, app_id: &str) -> Result<(), StorageError> {
        if self.id != 0 {
            let user = self.user_id.as_deref();
            user_tokens::revoke_of_number(tx, app_id, &self.number, user, self.updated_at)?;
        }
        let row = tx.query_one(
            "INSERT INTO phone_numbers (app_id, number, user_id, status, label, is_default, messaging_profile_id, \
             created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) \
             ON CONFLICT (app_id, number) DO UPDATE SET user_id = excluded.user_id, status = excluded.status, \
             label = excluded.label, is_default = excluded.is_default, \
             messaging_profile_id = excluded.messaging_profile_id, updated_at = excluded.updated_at RETURNING id",
            &[
                app_id.into(),
                (&self.number).into(),
                self.user_id.clone().into(),
                self.status.as_str().into(),
                self.label.clone().into(),
                self.is_default.into(),
                self.messaging_profile_id.clone().into(),
                self.created_at.into(),
                self.updated_at.into(),
            ],
        )?;
        self.id = row.map_or(Ok(self.id), |row| row.int(0))?;
        if self.status == NumberStatus::Assigned && self.user_id.is_some() {
            unrouted::note_owner(tx, app_id, &self.number, self.updated_at)?;
        }
        let Some(user) = self.user_id.as_deref().filter(|_| self.is_default) else { return Ok(()) };
        let values: [Value; 4] = [app_id.into(), user.into(), self.id.into(), self.updated_at.into()];
        tx.execute(
            "UPDATE phone_numbers SET is_default = 0, updated_at = ?4 \
             WHERE app_id = ?1 AND user_id = ?2 AND id <> ?3 AND is_default = 1",
            &values,
        )?;
        Ok(())
    }
}

impl NumberChange {
    /// A change of this number that changes nothing yet.
    pub fn new(number: PhoneNumber) -> Self {
        Self {
            number,
            user_id: None,
            status: None,
            label: None,
            is_default: None,
            messaging_profile_id: None,
            index: None,
        }
    }

    fn refused(&self, field: &str, message: &str) -> RoutingError {
        let error = RoutingError::new(Code::InvalidField, message);
        match self.index {
            Some(index) => error.at(format!("phone_numbers[{index}].{field}")),
            None => error.at(field.to_owned()),
        }
    }

    /// Makes the change to what is there.
    fn apply(&self, number: &mut DirectoryNumber, now: i64) -> Result<(), RoutingError> {
        let had = number.user_id.clone();
        if let Some(user) = &self.user_id {
            number.user_id.clone_from(user);
        }
        number.status = match (self.status, &self.user_id) {
            (Some(status), _) => status,
            (None, Some(Some(_))) => NumberStatus::Assigned,
            (None, Some(None)) if number.status == NumberStatus::Assigned => NumberStatus::Available,
            (None, _) => number.status,
        };
        if number.status == NumberStatus::Assigned && number.user_id.is_none() {
            return Err(self.refused("user_id", "an assigned number needs the user_id of who has it"));
        }
        if self.is_default == Some(true) && number.user_id.is_none() {
            return Err(
                self.refused("is_default", "only a number that a user has can be that user's default")
            );
        }
        // It was the default of who had it.
        number.is_default = self.is_default.unwrap_or(number.is_default && had == number.user_id);
        if let Some(label) = &self.label {
            number.label.clone_from(label);
        }
        if let Some(profile) = &self.messaging_profile_id {
            number.messaging_profile_id.clone_from(profile);
        }
        number.updated_at = now;
        Ok(())
    }
}

impl Router {
    /// A page of the directory, in the order in which numbers were added; whether there are more.
    ///
    /// # Errors
    /// `directory_read_only` where the directory is the portal's, or the store's.
    pub async fn phone_numbers(
        &self,
        app: Arc<App>,
        query: NumberQuery,
    ) -> Result<(Vec<DirectoryNumber>, bool), RoutingError> {
        check_own(&app)?;
        let limit = usize::try_from(query.limit).unwrap_or(0);
        let query = NumberQuery { limit: query.limit + 1, ..query };
        let mut found =
            self.database().read(move |tx| DirectoryNumber::list(tx, &app.settings.id, &query)).await?;
        let has_more = found.len() > limit;
        found.truncate(limit);
        Ok((found, has_more))
    }

    /// Adds and changes numbers: all of them or none. A message that is sent afterwards sees them.
    ///
    /// # Errors
    /// `invalid_field`, `directory_read_only`, or the store's.
    pub async fn save_phone_numbers(
        &self,
        app: Arc<App>,
        changes: Vec<NumberChange>,
    ) -> Result<Vec<DirectoryNumber>, RoutingError> {
        check_own(&app)?;
        let (written_app, router) = (Arc::clone(&app), self.clone());
        let saved = self
            .database()
            .write(move |tx| {
                let app = &written_app;
                router.look_for_unrouted(tx);
                let now = storage::now();
                let mut saved = Vec::with_capacity(changes.len());
                for change in &changes {
                    let app_id = &app.settings.id;
                    let found = DirectoryNumber::find(tx, app_id, change.number.as_str())?;
                    let mut number = found.unwrap_or_else(|| DirectoryNumber::new(&change.number, now));
                    change.apply(&mut number, now)?;
                    number.save(tx, app_id)?;
                    saved.push(number);
                }
                Ok::<_, RoutingError>(saved)
            })
            .await?;
        if !saved.is_empty() {
            self.warn_if_exposed(&app.settings);
        }
        Ok(saved)
    }

    /// Gives a number to a user, or back to the one who has it.
    ///
    /// # Errors
    /// `not_found`, `invalid_field`, `directory_read_only`, or the store's.
    pub async fn assign_phone_number(
        &self,
        app: Arc<App>,
        number: PhoneNumber,
        user: Option<String>,
    ) -> Result<DirectoryNumber, RoutingError> {
        let mut change = NumberChange::new(number);
        change.status = Some(NumberStatus::Assigned);
        change.user_id = user.map(Some);
        self.change_known(app, change).await
    }

    /// Takes a number out of use; nobody has it any more.
    ///
    /// # Errors
    /// `not_found`, `directory_read_only`, or the store's.
    pub async fn release_phone_number(
        &self,
        app: Arc<App>,
        number: PhoneNumber,
    ) -> Result<DirectoryNumber, RoutingError> {
        let mut change = NumberChange::new(number);
        change.status = Some(NumberStatus::Released);
        change.user_id = Some(None);
        self.change_known(app, change).await
    }

    /// Takes a number out of use for a while; it stays with its user.
    ///
    /// # Errors
    /// `not_found`, `directory_read_only`, or the store's.
    pub async fn suspend_phone_number(
        &self,
        app: Arc<App>,
        number: PhoneNumber,
    ) -> Result<DirectoryNumber, RoutingError> {
        let mut change = NumberChange::new(number);
        change.status = Some(NumberStatus::Suspended);
        self.change_known(app, change).await
    }

    async fn change_known(
        &self,
        app: Arc<App>,
        change: NumberChange,
    ) -> Result<DirectoryNumber, RoutingError> {
        check_own(&app)?;
        let router = self.clone();
        self.database()
            .write(move |tx| {
                router.look_for_unrouted(tx);
                let app_id = &app.settings.id;
                let Some(mut number) = DirectoryNumber::find(tx, app_id, change.number.as_str())? else {
                    let message = "the directory has no such number: add it with POST phone_numbers";
                    return Err(RoutingError::new(Code::NotFound, message).at("number"));
                };
                change.apply(&mut number, storage::now())?;
                number.save(tx, app_id)?;
                Ok(number)
            })
            .await
    }

    /// Messages may have waited for a number that is given to a user.
    fn look_for_unrouted(&self, tx: &mut Transaction<'_>) {
        let router = self.clone();
        tx.on_commit("", move || router.inner.unrouted.wake());
    }

    /// Whether a message to this number would be internal.
    ///
    /// # Errors
    /// `directory_unavailable`, `directory_ambiguous`, or the store's.
    pub async fn look_up_phone_number(
        &self,
        app: Arc<App>,
        number: PhoneNumber,
    ) -> Result<Lookup, RoutingError> {
        let (internal, status) = match app.settings.routing.directory.mode {
            DirectoryMode::Own => {
                let number = number.clone();
                self.database().read(move |tx| own_state(tx, &app.settings.id, number.as_str())).await?
            }
            DirectoryMode::Sql => match self.portal_directory(&app)?.find_owner(&number).await? {
                Some(owner) => (owner.is_assigned && owner.user_id.is_some(), Some(owner.status)),
                None => (false, None),
            },
        };
        Ok(Lookup { number: number.as_str().to_owned(), internal, status })
    }

    /// Warns of numbers that are assigned in more than one app: allowed, but hardly meant.
    ///
    /// # Errors
    /// Of the store.
    pub async fn report_shared_numbers(&self) -> Result<(), StorageError> {
        let numbers = self.database().read(shared_numbers).await?;
        for (number, apps) in numbers {
            let number = mask(&number);
            tracing::warn!(number, apps, "several apps have the same phone number assigned");
        }
        Ok(())
    }
}

/// Whether a number is in use by a user, and its status. It finds what [`directory::find`](super::directory::find)
/// finds, without holding it.
pub(super) fn own_state(
    tx: &mut Transaction<'_>,
    app_id: &str,
    number: &str,
) -> Result<(bool, Option<String>), StorageError> {
    let mut found = None;
    for number in spellings(number) {
        let row = tx.query_one(
            "SELECT status, user_id FROM phone_numbers WHERE app_id = ?1 AND number = ?2",
            &[app_id.into(), number.into()],
        )?;
        let Some(row) = row else { continue };
        let status = row.text(0)?;
        if status == NumberStatus::Assigned.as_str() && row.optional_text(1)?.is_some() {
            return Ok((true, Some(status)));
        }
        found = found.or(Some(status));
    }
    Ok((false, found))
}

fn shared_numbers(tx: &mut Transaction<'_>) -> Result<Vec<(String, i64)>, StorageError> {
    let rows = tx.query(
        "SELECT number, COUNT(*) FROM phone_numbers WHERE status = 'assigned' AND user_id IS NOT NULL \
         GROUP BY number HAVING COUNT(*) > 1 ORDER BY number LIMIT ?1",
        &[MAX_NAMED.into()],
    )?;
    rows.iter().map(|row| Ok((row.text(0)?, row.int(1)?))).collect()
}

fn check_own(app: &App) -> Result<(), RoutingError> {
    match app.settings.routing.directory.mode {
        DirectoryMode::Own => Ok(()),
        DirectoryMode::Sql => {
            let message = "the directory is the portal's own tables: numbers are listed and changed there";
            Err(RoutingError::new(Code::DirectoryReadOnly, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use NumberStatus::{Assigned, Available, Released, Reserved, Suspended};

    fn number() -> PhoneNumber {
        PhoneNumber::from_stored("+13125550100").expect("E.164")
    }

    fn at(status: NumberStatus, user: Option<&str>) -> DirectoryNumber {
        let user_id = user.map(str::to_owned);
        DirectoryNumber {
            status,
            is_default: user_id.is_some(),
            user_id,
            ..DirectoryNumber::new(&number(), 1)
        }
    }

    #[test]
    fn a_change_keeps_what_it_does_not_name() {
        let user = |user: &str| Some(Some(user.to_owned()));
        for (before, user_id, status, after) in [
            (at(Available, None), user("7"), None, (Assigned, Some("7"), false)),
            (at(Available, None), None, Some(Reserved), (Reserved, None, false)),
            (at(Assigned, Some("7")), None, None, (Assigned, Some("7"), true)),
            (at(Assigned, Some("7")), user("8"), None, (Assigned, Some("8"), false)),
            (at(Assigned, Some("7")), Some(None), None, (Available, None, false)),
            (at(Assigned, Some("7")), None, Some(Suspended), (Suspended, Some("7"), true)),
            (at(Suspended, Some("7")), None, Some(Assigned), (Assigned, Some("7"), true)),
            (at(Suspended, Some("7")), Some(None), None, (Suspended, None, false)),
            (at(Assigned, Some("7")), Some(None), Some(Released), (Released, None, false)),
        ] {
            let change = NumberChange { user_id, status, ..NumberChange::new(number()) };
            let mut found = before.clone();
            change.apply(&mut found, 2).expect("allowed");
            assert_eq!((found.status, found.user_id.as_deref(), found.is_default), after, "{before:?}");
            assert_eq!((found.created_at, found.updated_at), (1, 2));
        }
    }

    #[test]
    fn what_can_not_be_is_refused_with_its_place() {
        let assigned = NumberChange { status: Some(Assigned), ..NumberChange::new(number()) };
        let in_list = NumberChange { index: Some(3), ..assigned.clone() };
        let default = NumberChange { is_default: Some(true), ..NumberChange::new(number()) };
        for (change, field) in
            [(assigned, "user_id"), (in_list, "phone_numbers[3].user_id"), (default, "is_default")]
        {
            let error = change.apply(&mut at(Available, None), 2).expect_err(field);
            assert_eq!((error.code, error.field.as_deref()), (Code::InvalidField, Some(field)));
        }
    }

    #[test]
    fn states_are_written_as_they_are_read() {
        for (status, text) in NumberStatus::ALL {
            assert_eq!(NumberStatus::parse(text), Some(status));
            assert_eq!(serde_json::to_value(status).expect("JSON"), text);
        }
        assert_eq!(NumberStatus::parse("Assigned"), None);
    }
}
