//! Tells conversations whether their contact is online.
//!
//! A user is online while a connection of this node is signed in as the user or subscribed to the user's
//! channel, and for `features.offline_grace` after the last one ended. Whether that is so is asked of the
//! hub; what was observed only says about whom to ask. So nothing is miscounted, whatever gets lost.
//!
//! `ContactPresence` is stored nowhere: it goes to the conversations that are open at the moment, and a
//! conversation that is opened gets the present state once.

mod greetings;
mod online;
mod views;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use greetings::{Greetings, Place};
pub use online::Person;
use online::{Edge, Online};
use views::{Opened, View};

use super::Router;
use super::events::{self, Audience};
use super::json::{Id, carbon};
use crate::config::{ChannelMode, DirectoryMode, RoutingSettings};
use crate::hub::AppHub;
use crate::protocol::channel::ChannelName;
use crate::storage::{self, StorageError};

/// Users whose conversations are looked up by one job.
const CHUNK: usize = 64;
/// How often `users_seen` is written.
const WRITE_SEEN: Duration = Duration::from_secs(1);

/// Who is online, as far as conversations were told.
pub struct ContactPresence {
    router: Router,
    online: Online,
    greetings: Greetings,
    seen: Arc<Seen>,
}

/// When users were last seen, not written yet.
#[derive(Default)]
pub struct Seen(Mutex<HashMap<Person, i64>>);

/// Somebody came online or went offline.
struct Change {
    person: Person,
    is_online: bool,
    seen: i64,
}

impl ContactPresence {
    /// Nobody is online yet.
    pub fn new(router: Router, seen: Arc<Seen>) -> Self {
        Self { router, online: Online::default(), greetings: Greetings::default(), seen }
    }

    /// Looks at users of whom something was observed, and tells what changed.
    pub async fn look(&mut self, people: impl IntoIterator<Item = Person>, now: Instant) {
        let wall = storage::now();
        let mut changes = Vec::new();
        for person in people {
            let Some(app) = self.router.inner.hub.app_by_id(&person.app) else {
                self.online.forget(&person);
                continue;
            };
            let settings = app.app();
            let settings = &settings.settings.routing;
            if !is_told(settings) {
                self.online.forget(&person);
                continue;
            }
            let is_connected = is_connected(&app, settings, &person.user);
            let grace = settings.features.offline_grace;
            match self.online.look(&person, is_connected, grace, now, wall) {
                Some(Edge::Came) => {
                    self.seen.note(&person, wall);
                    changes.push(Change { person, is_online: true, seen: wall });
                }
                Some(Edge::Leaving) => self.seen.note(&person, wall),
                None => {}
            }
        }
        self.tell(changes).await;
    }

    /// Tells of those whose grace is over, and conversations that were opened again of their contact.
    pub async fn tick(&mut self, now: Instant) {
        let due = self.greetings.take_due(now);
        self.greet_now(due).await;
        let hub = &self.router.inner.hub;
        let is_still_connected = |person: &Person| {
            hub.app_by_id(&person.app)
                .is_some_and(|app| is_connected(&app, &app.app().settings.routing, &person.user))
        };
        let gone = self.online.gone(now, is_still_connected);
        let gone = gone.into_iter().map(|(person, seen)| Change { person, is_online: false, seen });
        self.tell(gone.collect()).await;
    }

    /// Looks at everybody, after observations were lost.
    pub async fn look_at_all(&mut self, now: Instant) {
        let mut people: Vec<Person> = self.online.people().cloned().collect();
        for app in self.router.inner.hub.apps() {
            let settings = app.app();
            let settings = &settings.settings.routing;
            if is_told(settings) {
                let signed_in = app.signed_in_users();
                people.extend(signed_in.iter().map(|user| Person::new(app.id(), user.as_str())));
                for prefix in user_prefixes(settings) {
                    let channels = app.channels(prefix);
                    let users = channels.keys().filter_map(|channel| channel.strip_prefix(prefix));
                    people.extend(users.map(|user| Person::new(app.id(), user)));
                }
            }
        }
        self.look(people, now).await;
    }

    async fn tell(&self, changes: Vec<Change>) {
        for chunk in changes.chunks(CHUNK) {
            if let Err(error) = self.tell_chunk(chunk).await {
                tracing::warn!(%error, users = chunk.len(), "the router can't announce to contacts that users went online or offline");
            }
        }
    }

    async fn tell_chunk(&self, changes: &[Change]) -> Result<(), StorageError> {
        let hub = &self.router.inner.hub;
        let told: Vec<(&Change, Arc<AppHub>)> = changes
            .iter()
            .filter_map(|change| Some((change, hub.app_by_id(&change.person.app)?)))
            .filter(|(_, app)| is_told(&app.app().settings.routing))
            .collect();
        let questions: Vec<(Person, DirectoryMode)> = told
            .iter()
            .map(|(change, app)| (change.person.clone(), app.app().settings.routing.directory.mode))
            .collect();
        if questions.is_empty() {
            return Ok(());
        }
        let views = self.router.database().read(move |tx| {
            let of = |(person, mode): &(Person, DirectoryMode)| {
                views::of_contact(tx, &person.app, &person.user, *mode)
            };
            questions.iter().map(of).collect::<Result<Vec<_>, StorageError>>()
        });
        for ((change, app), views) in told.iter().zip(views.await?) {
            for view in &views {
                publish(app, view, change.is_online, Some(change.seen))?;
            }
        }
        Ok(())
    }

    /// Tells the present state to conversations that were opened, each once a second.
    pub async fn greet(&mut self, opened: impl IntoIterator<Item = Place>, now: Instant) {
        let admitted = self.greetings.admit(opened, now);
        self.greet_now(admitted).await;
    }

    async fn greet_now(&self, opened: Vec<Place>) {
        let opened: Vec<_> =
            opened.into_iter().filter_map(|(app, channel)| self.question(&app, channel)).collect();
        for chunk in opened.chunks(CHUNK) {
            if let Err(error) = self.greet_chunk(chunk).await {
                tracing::warn!(%error, conversations = chunk.len(), "the router can't send a user the presence of their contacts");
            }
        }
    }

    /// What there is to look up for a channel, if it is one where presence is told and somebody is there.
    fn question(&self, app: &str, channel: ChannelName) -> Option<Greeting> {
        let app = self.router.inner.hub.app_by_id(app)?;
        let settings = app.app();
        let settings = &settings.settings.routing;
        let prefixes = conversation_prefixes(settings);
        let conversation =
            prefixes.iter().find_map(|prefix| channel.as_str().strip_prefix(prefix))?.to_owned();
        let mode = settings.directory.mode;
        (is_told(settings) && app.is_occupied(&channel)).then_some(Greeting {
            app,
            channel,
            conversation,
            mode,
        })
    }

    async fn greet_chunk(&self, greetings: &[Greeting]) -> Result<(), StorageError> {
        let questions: Vec<_> = greetings
            .iter()
            .map(|greeting| (greeting.app.id().to_owned(), greeting.conversation.clone(), greeting.mode))
            .collect();
        let found = self.router.database().read(move |tx| {
            let of = |(app, conversation, mode): &(String, String, DirectoryMode)| {
                views::of_channel(tx, app, conversation, *mode)
            };
            questions.iter().map(of).collect::<Result<Vec<_>, StorageError>>()
        });
        for (greeting, opened) in greetings.iter().zip(found.await?) {
            for opened in &opened {
                self.greet_one(greeting, opened)?;
            }
        }
        Ok(())
    }

    fn greet_one(&self, greeting: &Greeting, opened: &Opened) -> Result<(), StorageError> {
        let app = &greeting.app;
        let person = Person::new(app.id(), &opened.user);
        let is_online = self.online.is_online(&person);
        let seen =
            if is_online { Some(storage::now()) } else { opened.last_seen_at.max(self.seen.get(&person)) };
        let data = event_data(&opened.view, is_online, seen);
        events::publish_to(app, &greeting.channel, EVENT, &data)
    }
}

/// A channel that was opened.
struct Greeting {
    app: Arc<AppHub>,
    channel: ChannelName,
    conversation: String,
    mode: DirectoryMode,
}

const EVENT: &str = "ContactPresence";

fn publish(app: &AppHub, view: &View, is_online: bool, seen: Option<i64>) -> Result<(), StorageError> {
    let id = view.channel_id();
    let audience = Audience::ConversationId(&id);
    // A user with many contacts comes and goes; few of them have the conversation open.
    if !events::is_heard(app, audience) {
        return Ok(());
    }
    events::publish_now(app, audience, EVENT, &event_data(view, is_online, seen))
}

fn event_data(view: &View, is_online: bool, seen: Option<i64>) -> Value {
    json!({
        "conversation_id": view.portal_id.as_deref().map_or_else(|| view.id.clone(), events::portal_id),
        "contact_id": view.contact_id,
        "online": is_online,
        "last_seen_at": seen.map(carbon),
    })
}

impl View {
    fn channel_id(&self) -> Id {
        self.portal_id.clone().map_or_else(|| self.id.clone(), Id::Text)
    }
}

/// Whether the app tells anybody who is online.
fn is_told(settings: &RoutingSettings) -> bool {
    settings.enabled && settings.features.contact_presence && settings.expose_internal
}

/// Only channels that the app uses count: in the private mode anybody may subscribe to the public ones.
fn user_prefixes(settings: &RoutingSettings) -> &'static [&'static str] {
    match settings.channels.mode {
        ChannelMode::Public => &["user."],
        ChannelMode::Private => &["private-user."],
        ChannelMode::Both => &["private-user.", "user."],
    }
}

fn conversation_prefixes(settings: &RoutingSettings) -> &'static [&'static str] {
    match settings.channels.mode {
        ChannelMode::Public => &["messenger."],
        ChannelMode::Private => &["private-messenger."],
        ChannelMode::Both => &["private-messenger.", "messenger."],
    }
}

fn is_connected(app: &AppHub, settings: &RoutingSettings, user: &str) -> bool {
    app.is_signed_in(user)
        || user_prefixes(settings).iter().any(|prefix| {
            ChannelName::parse(&format!("{prefix}{user}")).is_ok_and(|channel| app.is_occupied(&channel))
        })
}

impl Seen {
    fn note(&self, person: &Person, at: i64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(person.clone(), at);
    }

    fn get(&self, person: &Person) -> Option<i64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(person).copied()
    }

    fn take(&self) -> HashMap<Person, i64> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes what was noted.
    ///
    /// # Errors
    /// Of the store; what was noted is lost.
    async fn write(&self, router: &Router) -> Result<(), StorageError> {
        let mut seen: Vec<_> = self.take().into_iter().collect();
        // One order for all writers, so that none waits for another in a circle.
        seen.sort();
        for chunk in seen.chunks(1000) {
            let chunk = chunk.to_vec();
            let note = move |tx: &mut storage::Transaction<'_>| {
                chunk.iter().try_for_each(|(person, at)| views::note_seen(tx, &person.app, &person.user, *at))
            };
            router.database().write_lazily(note).await?;
        }
        Ok(())
    }
}

/// Writes down who was last seen when; never ends.
pub async fn write_seen(router: &Router, seen: &Seen) {
    let mut each_second = tokio::time::interval(WRITE_SEEN);
    each_second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        each_second.tick().await;
        if let Err(error) = seen.write(router).await {
            tracing::warn!(%error, "the router can't store when users were last online");
        }
    }
}
