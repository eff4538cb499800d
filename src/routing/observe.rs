//! What the router makes of what happens on the hub: who is online, who types.
//!
//! The hub's calls come on the shards' threads; they leave hints in a bounded queue, which
//! [`run`] works off on the service runtime. What does not fit is counted and lost, and
//! everybody's presence is looked at anew.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{self, Receiver, Sender};

use super::contact_presence::{self, ContactPresence, Person, Seen};
use super::records::Conversation;
use super::{Router, typing};
use crate::apps::App;
use crate::hub::{ClientEventSeen, Observation, Observer};
use crate::logging::seldom::Seldom;
use crate::protocol::channel::ChannelName;
use crate::storage::StorageError;

/// Hints that may wait.
const QUEUE: usize = 16 * 1024;
/// Hints that are worked off together.
const BATCH: usize = 512;
/// How often time alone is looked at.
const TICK: Duration = Duration::from_millis(250);
/// The same said again within this time is not passed on: clients repeat `client-typing` with each key.
const TYPING_PAUSE: Duration = Duration::from_secs(2);
/// Longest data of `client-typing` that is looked into; longer data counts as typing.
const MAX_TYPING_DATA: usize = 256;

/// Something happened on the hub.
#[derive(Debug)]
enum Hint {
    /// Something of this user changed.
    User(Person),
    /// A conversation's channel has a new subscriber.
    Opened(Arc<str>, ChannelName),
    /// Somebody types, or stopped, in the conversation of this channel id.
    Typing { app: Arc<str>, conversation: Box<str>, is_typing: bool },
}

/// The router's end of the queue.
pub struct Hints {
    lost: Arc<AtomicU64>,
    receiver: Mutex<Option<Receiver<Hint>>>,
}

/// The hub's end of the queue.
struct HintSender {
    sender: Sender<Hint>,
    lost: Arc<AtomicU64>,
}

/// An observer for the hub, and what it sees.
pub fn observer() -> (Arc<dyn Observer>, Hints) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let lost = Arc::default();
    let hints = Hints { lost: Arc::clone(&lost), receiver: Mutex::new(Some(receiver)) };
    (Arc::new(HintSender { sender, lost }), hints)
}

impl Hints {
    /// Observations that found no room.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl HintSender {
    fn push(&self, hint: Hint) {
        if self.sender.try_send(hint).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn user_of_channel(&self, app_id: &str, channel: &ChannelName) {
        let user = plain(channel).strip_prefix("user.").filter(|user| !user.is_empty());
        if let Some(user) = user {
            self.push(Hint::User(Person::new(app_id, user)));
        }
    }

    fn client_event(&self, app_id: &str, event: &ClientEventSeen<'_>) {
        if event.event == "client-typing"
            && let Some(conversation) = event.channel.as_str().strip_prefix("private-messenger.")
        {
            let is_typing = is_typing(event.data);
            self.push(Hint::Typing { app: app_id.into(), conversation: conversation.into(), is_typing });
        }
    }
}

/// A channel's name without `private-`.
fn plain(channel: &ChannelName) -> &str {
    let name = channel.as_str();
    name.strip_prefix("private-").unwrap_or(name)
}

impl Observer for HintSender {
    fn see(&self, app_id: &str, what: &Observation<'_>) {
        match what {
            // Each new subscriber is told, not just the first: a second tab knows nothing either.
            Observation::Subscribed(channel) if plain(channel).starts_with("messenger.") => {
                self.push(Hint::Opened(app_id.into(), (*channel).clone()));
            }
            Observation::ChannelOccupied(channel, _) | Observation::ChannelVacated(channel) => {
                self.user_of_channel(app_id, channel);
            }
            Observation::ClientEvent(event) => self.client_event(app_id, event),
            Observation::UserCame(user) | Observation::UserLeft(user) => {
                self.push(Hint::User(Person::new(app_id, user.as_str())));
            }
            _ => {}
        }
    }
}

/// Whether the data of `client-typing`, a quoted JSON text, tells of typing; only `{"typing":false}` does
/// not.
fn is_typing(data: &str) -> bool {
    #[derive(serde::Deserialize)]
    struct Typing {
        typing: bool,
    }
    if data.len() > MAX_TYPING_DATA {
        return true;
    }
    let text = serde_json::from_str::<String>(data);
    let typing = text.and_then(|text| serde_json::from_str::<Typing>(&text));
    typing.map_or(true, |data| data.typing)
}

/// Works off what is observed; never ends.
pub async fn run(router: &Router) {
    let receiver = router.inner.hints.receiver.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(receiver) = receiver else { return };
    let seen = Arc::<Seen>::default();
    let lookout = Lookout {
        router: router.clone(),
        presence: ContactPresence::new(router.clone(), Arc::clone(&seen)),
        typed: Typed::default(),
        lost: 0,
    };
    tokio::join!(lookout.run(receiver), contact_presence::write_seen(router, &seen));
}

/// What was observed so far.
struct Lookout {
    router: Router,
    presence: ContactPresence,
    typed: Typed,
    /// Of [`Hints::lost`], after which everybody was looked at.
    lost: u64,
}

impl Lookout {
    async fn run(mut self, mut receiver: Receiver<Hint>) {
        let mut hints = Vec::with_capacity(BATCH);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                count = receiver.recv_many(&mut hints, BATCH) => match count {
                    0 => return,
                    _ => self.take_in(&mut hints).await,
                },
                _ = tick.tick() => {
                    let lost = self.router.inner.hints.lost();
                    if std::mem::replace(&mut self.lost, lost) != lost {
                        static SELDOM: Seldom = Seldom::new();
                        if SELDOM.admit().is_some() {
                            tracing::warn!(lost, "the router missed some sign-ins and sign-outs and compares all users again");
                        }
                        self.presence.look_at_all(Instant::now()).await;
                    }
                    self.presence.tick(Instant::now()).await;
                }
            }
        }
    }

    /// What is said of one user or channel several times is looked at once.
    async fn take_in(&mut self, hints: &mut Vec<Hint>) {
        let now = Instant::now();
        let (mut people, mut opened, mut typing) = (HashSet::new(), HashSet::new(), Vec::new());
        for hint in hints.drain(..) {
            match hint {
                Hint::User(person) => drop(people.insert(person)),
                Hint::Opened(app, channel) => drop(opened.insert((app, channel))),
                Hint::Typing { app, conversation, is_typing } => {
                    if self.typed.is_news(&app, &conversation, is_typing, now) {
                        typing.push((app, conversation, is_typing));
                    }
                }
            }
        }
        self.presence.look(people, now).await;
        self.presence.greet(opened, now).await;
        for (app, conversation, is_typing) in typing {
            self.pass_on_typing(&app, &conversation, is_typing).await;
        }
    }

    async fn pass_on_typing(&self, app_id: &str, conversation: &str, is_typing: bool) {
        let Some(app) = self.router.inner.hub.app_by_id(app_id).map(|hub| hub.app()) else { return };
        if let Err(error) = self.router.typing_in(&app, conversation, is_typing).await {
            tracing::warn!(%error, app = app_id, "the router can't send who is typing");
        }
    }
}

impl Router {
    /// Tells the other half of an internal conversation that its owner types, or stopped. The conversation
    /// is found by the id in its channel's name. Where a channel belongs to several conversations the
    /// client's event has reached the other side already, and nothing is done.
    ///
    /// # Errors
    /// Of the store.
    pub(super) async fn typing_in(
        &self,
        app: &Arc<App>,
        conversation_id: &str,
        is_typing: bool,
    ) -> Result<(), StorageError> {
        let routing = &app.settings.routing;
        if !(routing.enabled && routing.features.typing) {
            return Ok(());
        }
        let (asked, id) = (Arc::clone(app), conversation_id.to_owned());
        let halves = self
            .database()
            .read(move |tx| match Conversation::of_channel(tx, &asked.settings.id, &id)?.as_slice() {
                [conversation] => {
                    let other = typing::listener(tx, &asked, conversation)?;
                    Ok::<_, StorageError>(other.map(|other| (conversation.clone(), other)))
                }
                _ => Ok(None),
            })
            .await?;
        if let Some((conversation, other)) = halves {
            typing::announce(self, app, &conversation, &other, is_typing);
        }
        Ok(())
    }
}

/// What was last said of who types where.
#[derive(Debug, Default)]
struct Typed {
    said: HashMap<(Arc<str>, Box<str>), (Instant, bool)>,
}

impl Typed {
    fn is_news(&mut self, app: &Arc<str>, conversation: &str, is_typing: bool, now: Instant) -> bool {
        let is_fresh = |at: Instant| now.saturating_duration_since(at) < TYPING_PAUSE;
        if self.said.len() >= 2 * BATCH {
            self.said.retain(|_, (at, _)| is_fresh(*at));
        }
        let place = (Arc::clone(app), Box::from(conversation));
        if let Some((at, said)) = self.said.get(&place)
            && *said == is_typing
            && is_fresh(*at)
        {
            return false;
        }
        self.said.insert(place, (now, is_typing));
        true
    }
}

#[cfg(test)]
mod tests;
