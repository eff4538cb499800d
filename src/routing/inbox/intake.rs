//! Takes a webhook in: verified, stored, and processed at once where that is possible.
//!
//! One transaction does all of it, so the carrier's 200 means that the message is in its conversation. What can't
//! be processed at once (the portal's directory has to be asked, an older message of the thread waits, a report
//! comes before the answer to its call) is stored to be processed from the table. What can't be read, or means
//! nothing here, is stored as well: the carrier sends nothing a second time that was answered with 200.

use std::sync::Arc;

use bytes::Bytes;
use hyper::HeaderMap;
use sha2::{Digest, Sha256};

use super::entry::{self, NewEntry, State};
use super::inbound::{Inbound, Storing};
use super::{RETRY, Verdict, WebhookRefusal, report, threads};
use crate::apps::App;
use crate::config::DirectoryMode;
use crate::logging::seldom::Seldom;
use crate::routing::Router;
use crate::routing::carrier::{CarrierEvent, EventType, SignatureError};
use crate::routing::counters::Counter;
use crate::storage::{self, StorageError, Transaction};

/// What is to be done with a webhook.
enum Plan {
    /// A message from outside.
    Inbound(Inbound),
    /// News of a message of ours.
    Report(CarrierEvent),
    /// Nothing here.
    Note,
    /// It can't be read, for this reason.
    SetAside(String),
}

impl Router {
    /// Whether a webhook may be the carrier's as far as its headers go, before its body is read.
    ///
    /// # Errors
    /// See [`WebhookRefusal`].
    pub fn check_carrier_webhook(&self, app: &App, headers: &HeaderMap) -> Result<(), WebhookRefusal> {
        let verifier = self.inner.inbox.verifier(app).ok_or(WebhookRefusal::NoKey)?;
        let checked = verifier.check_headers(headers, storage::now() / 1_000_000);
        Ok(checked.map(drop).inspect_err(|error| self.note_refusal(app, *error))?)
    }

    fn note_refusal(&self, app: &App, error: SignatureError) {
        self.counters().count(Counter::WebhookRefused);
        log_refusal(&app.settings.id, error.kind());
    }

    /// Takes in a webhook of the carrier. One that was stored before changes nothing.
    ///
    /// # Errors
    /// See [`WebhookRefusal`].
    pub async fn carrier_webhook(
        &self,
        app: Arc<App>,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<(), WebhookRefusal> {
        let verifier = self.inner.inbox.verifier(&app).ok_or(WebhookRefusal::NoKey)?;
        // Over the bytes as they came, whatever they say.
        let verified = verifier.verify(headers, &body, storage::now() / 1_000_000);
        verified.inspect_err(|error| self.note_refusal(&app, *error))?;
        let (entry, plan) = plan(self, &app, &body);
        let siblings = siblings(self, &app);
        let take = Arc::new(Intake { router: self.clone(), app, entry, plan, siblings });
        let mut taken = run(&take, true).await;
        if let Err(StorageError::Fault(error)) = &taken {
            // It is tried again from the table, which tells what is wrong with it.
            tracing::error!(
                app = take.app.settings.id,
                error,
                "the router can't process a carrier webhook at once; it tries again from the table"
            );
            taken = run(&take, false).await;
        }
        taken.map_err(|error| {
            tracing::error!(%error, "the router can't store a carrier webhook; the carrier sends it again");
            WebhookRefusal::Store
        })
    }
}

/// Other apps whose webhooks are signed with a key of this one's. A signature does not say which app it is for.
fn siblings(router: &Router, app: &App) -> Vec<String> {
    let keys = |app: &App| app.settings.routing.telnyx.public_key.clone();
    let own = keys(app);
    let apps = router.inner.hub.apps();
    let others = apps.iter().map(|other| other.app()).filter(|other| other.settings.id != app.settings.id);
    let shares = |other: &Arc<App>| keys(other).iter().any(|key| own.contains(key));
    others.filter(shares).map(|other| other.settings.id.clone()).collect()
}

/// Anybody can send such a request as often as they like, so only one a minute is a warning.
fn log_refusal(app: &str, reason: &str) {
    static SELDOM: Seldom = Seldom::new();
    match SELDOM.admit() {
        Some(suppressed) => tracing::warn!(app, reason, suppressed, "carrier webhook refused"),
        None => tracing::debug!(app, reason, "carrier webhook refused"),
    }
}

async fn run(intake: &Arc<Intake>, at_once: bool) -> Result<(), StorageError> {
    let job = Arc::clone(intake);
    intake.router.database().write(move |tx| job.store(tx, at_once)).await
}

fn plan(router: &Router, app: &App, body: &Bytes) -> (NewEntry, Plan) {
    let entry = |event_id: &str, kind: &str| NewEntry {
        app_id: app.settings.id.clone(),
        event_id: event_id.to_owned(),
        kind: kind.to_owned(),
        body: body.clone(),
    };
    let event = match CarrierEvent::parse(body) {
        Ok(event) => event,
        Err(error) => {
            // The same bytes are the same webhook, as far as that can be told.
            let id = format!("sha256:{}", hex::encode(Sha256::digest(body)));
            return (entry(&id, ""), Plan::SetAside(error.to_string()));
        }
    };
    let entry = entry(&event.event_id, event.event_type.as_str());
    let plan = match (&event.event_type, &event.message) {
        (EventType::Other(_), _) => Plan::Note,
        (_, None) => Plan::SetAside("the webhook has no payload.id".to_owned()),
        (EventType::Received, Some(_)) => match Inbound::of(router, app, event) {
            Some(inbound) => Plan::Inbound(inbound),
            None => Plan::Note,
        },
        _ => Plan::Report(event),
    };
    (entry, plan)
}

/// A webhook on its way into the store.
struct Intake {
    router: Router,
    app: Arc<App>,
    entry: NewEntry,
    plan: Plan,
    /// Apps that the same signature would be valid for.
    siblings: Vec<String>,
}

impl Intake {
    fn store(&self, tx: &mut Transaction<'_>, at_once: bool) -> Result<(), StorageError> {
        let now = storage::now();
        match &self.plan {
            Plan::Inbound(inbound) => self.inbound(tx, inbound, at_once, now),
            Plan::Report(event) => self.report(tx, event, at_once, now),
            Plan::Note => {
                if self.insert(tx, State::Noted, None, now)?.is_some() {
                    self.router.count_on_commit(tx, Counter::WebhookNoted);
                    let (app, kind) = (&self.app.settings.id, &self.entry.kind);
                    tracing::info!(
                        app,
                        kind,
                        "the router only keeps a carrier webhook: its event type is not used"
                    );
                }
                Ok(())
            }
            Plan::SetAside(reason) => {
                if self.insert(tx, State::SetAside, Some(reason), now)?.is_some() {
                    self.router.count_on_commit(tx, Counter::WebhookSetAside);
                    let app = &self.app.settings.id;
                    tracing::error!(app, reason, "the router set a carrier webhook aside: it can't be read");
                }
                Ok(())
            }
        }
    }

    fn inbound(
        &self,
        tx: &mut Transaction<'_>,
        inbound: &Inbound,
        at_once: bool,
        now: i64,
    ) -> Result<(), StorageError> {
        threads::hold(tx, inbound.thread_ids())?;
        let look = threads::look(tx, &self.app, inbound, now)?;
        // The portal's database is not waited for here: the carrier gives two seconds.
        let at_once = at_once && self.app.settings.routing.directory.mode == DirectoryMode::Own;
        let state = match (look.is_free, at_once) {
            (true, true) => State::Done,
            (true, false) => State::Pending,
            (false, _) => State::Queued,
        };
        let Some(id) = self.insert(tx, state, None, now)? else { return Ok(()) };
        if state != State::Done {
            threads::enter(tx, &self.app.settings.id, id, inbound.thread_ids())?;
            self.wake(tx);
            return Ok(());
        }
        let storing = Storing {
            router: &self.router,
            app: &self.app,
            inbound,
            body: &self.entry.body,
            owners: &None,
            has_unrouted: &look.has_unrouted,
            now,
        };
        storing.run(tx)
    }

    /// Reports have no order among themselves: each is held against what is known of its message.
    fn report(
        &self,
        tx: &mut Transaction<'_>,
        event: &CarrierEvent,
        at_once: bool,
        now: i64,
    ) -> Result<(), StorageError> {
        let Some(message) = event.message.as_ref().filter(|_| at_once) else {
            self.insert(tx, State::Pending, None, now)?;
            self.wake(tx);
            return Ok(());
        };
        let Some(id) = self.insert(tx, State::Done, None, now)? else { return Ok(()) };
        match report::apply(&self.router, tx, &self.app, event, message, now)? {
            Verdict::Done => Ok(()),
            Verdict::Unknown => entry::settle(tx, id, State::Pending, None, now + RETRY),
        }
    }

    fn insert(
        &self,
        tx: &mut Transaction<'_>,
        state: State,
        reason: Option<&str>,
        now: i64,
    ) -> Result<Option<i64>, StorageError> {
        // A message that is in its conversation is read from there; here it is only known again.
        let is_stored = state == State::Done && matches!(self.plan, Plan::Inbound(_));
        let body: &[u8] = if is_stored { &[] } else { &self.entry.body };
        let id = match self.is_siblings(tx)? {
            true => None,
            false => self.entry.insert(tx, body, state, reason, now)?,
        };
        if id.is_none() {
            self.router.count_on_commit(tx, Counter::WebhookRepeated);
        }
        Ok(id)
    }

    /// Whether the webhook counts for another app already: whoever saw it sent it here as well.
    fn is_siblings(&self, tx: &mut Transaction<'_>) -> Result<bool, StorageError> {
        for other in &self.siblings {
            let row = tx.query_one(
                "SELECT 1 FROM inbox WHERE app_id = ?1 AND event_id = ?2",
                &[other.into(), (&self.entry.event_id).into()],
            )?;
            if row.is_some() {
                let app = &self.entry.app_id;
                tracing::warn!(
                    app,
                    other,
                    "a carrier webhook of another app came to this one and changes nothing"
                );
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn wake(&self, tx: &mut Transaction<'_>) {
        let router = self.router.clone();
        tx.on_commit("", move || router.inner.inbox.wake.notify_one());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AppSettings;
    use crate::routing::test_support::Lab;

    /// The carrier's key is the account's, so its signature is valid for each app of the account.
    #[tokio::test]
    async fn a_signed_webhook_counts_for_one_app_only() {
        let lab = Lab::new().await;
        let settings = |id: &str, key: &str| {
            let mut settings = AppSettings::new(id, id, "secret");
            settings.routing.telnyx.public_key = vec![key.to_owned()];
            settings
        };
        let hub = &lab.router.inner.hub;
        hub.set_apps(vec![settings("one", "shared"), settings("two", "shared"), settings("three", "own")]);
        let body = Bytes::from_static(br#"{"data":{"id":"e1","event_type":"campaign.update"}}"#);
        for (id, expected) in
            [("one", vec!["two"]), ("two", vec!["one"]), ("three", vec![]), ("one", vec!["two"])]
        {
            let app = hub.app_by_id(id).expect("configured").app();
            let (entry, plan) = plan(&lab.router, &app, &body);
            let siblings = siblings(&lab.router, &app);
            assert_eq!(siblings, expected, "{id}");
            let take = Arc::new(Intake { router: lab.router.clone(), app, entry, plan, siblings });
            run(&take, true).await.expect("taken");
        }
        assert_eq!(lab.texts("SELECT app_id FROM inbox ORDER BY id").await, ["one", "three"]);
        assert_eq!(lab.router.counters().get(Counter::WebhookRepeated), 2);
    }
}
