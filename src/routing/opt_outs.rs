//! Numbers that want no messages, per app and carrier profile.
//!
//! The carrier blocks them itself (a person texts STOP); what is known of that is kept here, so that no
//! call is wasted and people see it. Internal messages are not subject to it. An opt-out holds for the
//! number's line, in whatever spelling it came.

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::carrier::Telnyx;
use super::directory::OwnNumber;
use super::error::{Code, RoutingError};
use super::events::Events;
use super::json::carbon;
use super::phone_number::{Destination, contact_identity, line, spelling_values};
use super::records::Conversation;
use super::{Router, callbacks};
use crate::apps::App;
use crate::storage::{self, StorageError, Transaction};

/// How long after the start the carrier is asked for its list.
const TAKE_OVER_AFTER: Duration = Duration::from_secs(30);
/// Entries of that list noted in one transaction.
const PAGE: usize = 500;
/// What the portal says itself; the other sources are the carrier's.
const API: &str = "api";

/// A number that wants no messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct OptOut {
    /// E.164, or a short code.
    pub number: String,
    /// The carrier's messaging profile whose messages are not wanted; empty: of none.
    pub profile_id: String,
    /// How it became known: `stop_message`, `carrier_40300`, `carrier_list`, `api`.
    pub source: String,
    /// When.
    pub created_at: String,
}

impl Router {
    /// All numbers that want no messages of an app, the last noted first.
    ///
    /// # Errors
    /// Of the store.
    pub async fn opt_outs(&self, app: Arc<App>) -> Result<Vec<OptOut>, RoutingError> {
        self.database().read(move |tx| Ok(list(tx, &app.settings.id)?)).await
    }

    /// Notes that a number wants no messages from any of the app's numbers; answers all that do.
    ///
    /// # Errors
    /// `invalid_number`.
    pub async fn add_opt_out(&self, app: Arc<App>, number: String) -> Result<Vec<OptOut>, RoutingError> {
        let (router, number) = (self.clone(), parsed(&app, &number)?);
        self.database()
            .write(move |tx| {
                note(tx, &router, &app, "", &number, API, storage::now())?;
                Ok(list(tx, &app.settings.id)?)
            })
            .await
    }

    /// Forgets that a number wants no messages, whatever the source; answers the others. A block of the
    /// carrier's remains: only a START from the handset lifts that.
    ///
    /// # Errors
    /// `invalid_number`.
    pub async fn remove_opt_out(&self, app: Arc<App>, number: String) -> Result<Vec<OptOut>, RoutingError> {
        let (router, number) = (self.clone(), parsed(&app, &number)?);
        self.database()
            .write(move |tx| {
                forget(tx, &router, &app, &number, storage::now())?;
                Ok(list(tx, &app.settings.id)?)
            })
            .await
    }
}

/// Takes over the carrier's list of each app some time after the start: who opted out while the server was
/// not there, or before it was. Not at once, so that a server that comes up has other things done first.
pub(super) async fn take_over(router: &Router) {
    tokio::time::sleep(TAKE_OVER_AFTER).await;
    for app in router.inner.hub.apps().iter().map(|app| app.app()) {
        if !app.settings.routing.enabled || app.settings.routing.telnyx.api_key.is_none() {
            continue;
        }
        if let Err(error) = take_over_of(router, &app).await {
            tracing::warn!(
                app = app.settings.id,
                error,
                "the router can't import the carrier's list of opt-outs"
            );
        }
    }
}

async fn take_over_of(router: &Router, app: &Arc<App>) -> Result<(), String> {
    let telnyx = Telnyx::new(&app.settings.routing.telnyx).map_err(|error| error.to_string())?;
    let listed = telnyx.opt_outs().await.map_err(|error| error.to_string())?;
    let count = listed.len();
    for page in listed.chunks(PAGE) {
        let (in_job, app, page) = (router.clone(), Arc::clone(app), page.to_vec());
        let noted = router.database().write(move |tx| {
            for one in &page {
                let number = contact_identity(&one.number);
                let profile = one.profile_id.as_deref().unwrap_or_default();
                note(tx, &in_job, &app, profile, &number, "carrier_list", storage::now())?;
            }
            Ok::<_, StorageError>(())
        });
        noted.await.map_err(|error| error.to_string())?;
    }
    tracing::info!(app = app.settings.id, count, "the router imported the carrier's list of opt-outs");
    Ok(())
}

fn parsed(app: &App, number: &str) -> Result<String, RoutingError> {
    let settings = &app.settings.routing;
    Destination::parse(number, &settings.numbers, settings.default_region.as_deref())
        .map(|number| number.identity())
        .map_err(|error| RoutingError::new(Code::InvalidNumber, error.to_string()).at("number"))
}

fn list(tx: &mut Transaction<'_>, app_id: &str) -> Result<Vec<OptOut>, StorageError> {
    let rows = tx.query(
        "SELECT number, profile_id, source, created_at FROM opt_outs WHERE app_id = ?1 \
         ORDER BY created_at DESC, number, profile_id",
        &[app_id.into()],
    )?;
    let opt_out = |row: &storage::Row| {
        Ok(OptOut {
            number: row.text(0)?,
            profile_id: row.text(1)?,
            source: row.text(2)?,
            created_at: carbon(row.int(3)?),
        })
    };
    rows.iter().map(opt_out).collect()
}

/// Refuses a recipient who opted out. What was noted without a profile holds for all; a number whose profile
/// is not known here is held back by any. `field`: which one of the request names the recipient.
///
/// # Errors
/// `opted_out`.
pub fn check(
    tx: &mut Transaction<'_>,
    app: &App,
    own: &OwnNumber,
    to: &str,
    field: &'static str,
) -> Result<(), RoutingError> {
    let profile = profile(app, own);
    let [first, second, third] = spelling_values(to);
    let row = tx.query_one(
        "SELECT 1 FROM opt_outs WHERE app_id = ?1 AND number IN (?2, ?4, ?5) \
         AND (?3 = '' OR profile_id IN ('', ?3)) LIMIT 1",
        &[(&app.settings.id).into(), first.into(), profile.into(), second.into(), third.into()],
    )?;
    match row {
        None => Ok(()),
        Some(_) => {
            let message = "the recipient opted out of messages; only a START from their phone lifts that";
            Err(RoutingError::new(Code::OptedOut, message).at(field))
        }
    }
}

/// The carrier's profile of a number.
pub fn profile<'a>(app: &'a App, own: &'a OwnNumber) -> &'a str {
    own.messaging_profile_id.as_deref().unwrap_or(&app.settings.routing.telnyx.messaging_profile_id)
}

/// Notes that a number wants no messages of a carrier's profile (empty: of none). Tells users and backend
/// if it wanted some from all until now.
///
/// # Errors
/// Of the store.
pub fn note(
    tx: &mut Transaction<'_>,
    router: &Router,
    app: &App,
    profile_id: &str,
    number: &str,
    source: &str,
    now: i64,
) -> Result<(), StorageError> {
    let app_id = &app.settings.id;
    let was_out = is_noted(tx, app_id, number)?;
    let noted = tx.execute(
        "INSERT INTO opt_outs (app_id, profile_id, number, source, created_at) VALUES (?1, ?2, ?3, ?4, ?5) \
         ON CONFLICT DO NOTHING",
        &[app_id.into(), profile_id.into(), number.into(), source.into(), now.into()],
    )?;
    if noted == 0 || was_out {
        return Ok(());
    }
    Change { router, app, number, opted_out: true, source }.tell(tx, now)
}

/// Notes that a number wants messages of a carrier's profile again, also where that was noted for all
/// profiles. Tells users and backend if nothing is left against it.
///
/// # Errors
/// Of the store.
pub fn lift(
    tx: &mut Transaction<'_>,
    router: &Router,
    app: &App,
    profile_id: &str,
    number: &str,
    source: &str,
    now: i64,
) -> Result<(), StorageError> {
    let app_id = &app.settings.id;
    let [first, second, third] = spelling_values(number);
    let lifted = tx.execute(
        "DELETE FROM opt_outs WHERE app_id = ?1 AND number IN (?2, ?4, ?5) AND profile_id IN ('', ?3)",
        &[app_id.into(), first.into(), profile_id.into(), second.into(), third.into()],
    )?;
    if lifted == 0 || is_noted(tx, app_id, number)? {
        return Ok(());
    }
    Change { router, app, number, opted_out: false, source }.tell(tx, now)
}

/// [`lift`] for all profiles.
fn forget(
    tx: &mut Transaction<'_>,
    router: &Router,
    app: &App,
    number: &str,
    now: i64,
) -> Result<(), StorageError> {
    let app_id = &app.settings.id;
    let [first, second, third] = spelling_values(number);
    let sql = "DELETE FROM opt_outs WHERE app_id = ?1 AND number IN (?2, ?3, ?4)";
    if tx.execute(sql, &[app_id.into(), first.into(), second.into(), third.into()])? == 0 {
        return Ok(());
    }
    Change { router, app, number, opted_out: false, source: API }.tell(tx, now)
}

fn is_noted(tx: &mut Transaction<'_>, app_id: &str, number: &str) -> Result<bool, StorageError> {
    let [first, second, third] = spelling_values(number);
    let sql = "SELECT 1 FROM opt_outs WHERE app_id = ?1 AND number IN (?2, ?3, ?4) LIMIT 1";
    Ok(tx.query_one(sql, &[app_id.into(), first.into(), second.into(), third.into()])?.is_some())
}

/// A number opted out, or in again.
struct Change<'a> {
    router: &'a Router,
    app: &'a App,
    number: &'a str,
    opted_out: bool,
    source: &'a str,
}

impl Change<'_> {
    fn tell(&self, tx: &mut Transaction<'_>, now: i64) -> Result<(), StorageError> {
        let app_id = &self.app.settings.id;
        for conversation in Conversation::set_opted_out(tx, app_id, self.number, self.opted_out, now)? {
            let mut events = Events::new(self.app);
            events.conversation_updated(&conversation)?;
            self.router.publish(tx, self.app, &conversation.thread_id, events, None, now)?;
        }
        let data = json!({"number": self.number, "opted_out": self.opted_out, "source": self.source});
        let lane = format!("opt_out:{}", line(self.number));
        callbacks::other(self.router, tx, self.app, "opt_out", &lane, data, now)
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_support::Lab;
    use super::*;
    use crate::http_client::test_server::{Behaviour, TestServer};

    const OUTSIDE: &str = "+13125559999";

    async fn change(lab: &Lab, is_out: bool, profile: &'static str, source: &'static str) {
        let (router, app) = (lab.router.clone(), Arc::clone(&lab.app));
        lab.write(move |tx| {
            let now = storage::now();
            if is_out {
                note(tx, &router, &app, profile, OUTSIDE, source, now)
            } else {
                lift(tx, &router, &app, profile, OUTSIDE, source, now)
            }
        })
        .await
    }

    #[tokio::test]
    async fn an_opt_out_is_told_to_every_owner_of_the_contact_and_refuses_sends() {
        let lab = Lab::new().await;
        lab.send("7", OUTSIDE, "hello").await;
        lab.send("8", OUTSIDE, "hello").await;
        lab.events();
        let listed =
            lab.router.add_opt_out(Arc::clone(&lab.app), "(312) 555-9999".to_owned()).await.expect("noted");
        assert_eq!((listed.len(), listed[0].number.as_str(), listed[0].source.as_str()), (1, OUTSIDE, "api"));
        let mut events = lab.events();
        events.sort_by(|one, other| one.channel.cmp(&other.channel));
        assert_eq!(events.iter().map(|told| told.channel.as_str()).collect::<Vec<_>>(), ["user.7", "user.8"]);
        assert!(events.iter().all(|told| told.data["conversation"]["opted_out"] == true));
        assert_eq!(lab.try_send("7", OUTSIDE, "again").await.expect_err("refused").code, Code::OptedOut);
        lab.send("7", "+13125550101", "internal messages are not subject to it").await;
        lab.events();
        change(&lab, true, "", "stop_message").await;
        assert!(lab.events().is_empty());
        let listed = lab.router.remove_opt_out(Arc::clone(&lab.app), OUTSIDE.to_owned()).await;
        assert_eq!(listed.expect("removed"), []);
        assert_eq!(lab.events().len(), 2);
        lab.send("7", OUTSIDE, "again").await;
        let wrong =
            lab.router.add_opt_out(Arc::clone(&lab.app), "x".to_owned()).await.expect_err("no number");
        assert_eq!((wrong.code, wrong.field.as_deref()), (Code::InvalidNumber, Some("number")));
    }

    #[tokio::test]
    async fn the_carriers_list_is_taken_over_and_told() {
        let list =
            r#"{"data":[{"to":"+13125559999","messaging_profile_id":"mp-1"}],"meta":{"total_pages":1}}"#;
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{list}", list.len());
        let server = TestServer::start(vec![Behaviour::Answer(answer)]).await;
        let lab = Lab::with(|routing| routing.telnyx.base_url = server.url("/v2")).await;
        lab.send("7", OUTSIDE, "hello").await;
        lab.events();
        take_over_of(&lab.router, &lab.app).await.expect("taken over");
        assert_eq!(lab.events().len(), 1);
        assert_eq!(lab.try_send("7", OUTSIDE, "again").await.expect_err("refused").code, Code::OptedOut);
    }

    #[tokio::test]
    async fn each_profile_has_its_own_and_the_last_one_lifted_is_told() {
        let lab = Lab::with(|routing| routing.telnyx.messaging_profile_id = "mp-1".to_owned()).await;
        let steps = [
            (true, "mp-2", "carrier_list", 1),
            (true, "mp-1", "stop_message", 0),
            (true, "mp-1", "carrier_40300", 0),
            (false, "mp-3", "start_message", 0),
            (false, "mp-1", "start_message", 0),
            (false, "mp-2", "start_message", 1),
        ];
        lab.send("7", OUTSIDE, "hello").await;
        lab.events();
        for (is_out, profile, source, told) in steps {
            change(&lab, is_out, profile, source).await;
            assert_eq!(lab.events().len(), told, "{profile} {source}");
            let refused = lab.try_send("7", OUTSIDE, "x").await.is_err();
            let own = lab.texts("SELECT profile_id FROM opt_outs WHERE profile_id = 'mp-1'").await;
            assert_eq!(refused, !own.is_empty(), "only the profile of the number counts");
            lab.events();
        }
        assert!(lab.router.opt_outs(Arc::clone(&lab.app)).await.expect("listed").is_empty());
    }
}
