//! Public channels that are not for everybody: an app may have them checked by another part of this
//! process, which may need to look things up first.
//!
//! A subscription that can't be decided at once is *held*: the connection's other messages go on
//! meanwhile, and the subscription takes place, or is refused, in a step of its own. One that waits for the
//! connection to sign in is refused after [`SIGN_IN_WAIT`]: Echo subscribes as soon as it is connected, while
//! signing in takes a round trip to the backend. When the backend was slower and the connection signs in later, the
//! subscription takes place all the same: no client asks a second time for what was refused.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::task::spawn_local;

use super::connection::{Address, Connection};
use super::session::{Refused, too_many_channels};
use super::shard::ShardState;
use crate::apps::App;
use crate::protocol::channel::{ChannelKind, ChannelName};
use crate::protocol::id::UserId;
use crate::protocol::server_event::RefusalKind;

/// Seconds that a subscription waits for its connection to sign in; looked at once a second.
const SIGN_IN_WAIT: u32 = 3;
/// How long an answer may take. Long, as clients do not ask a second time for what was refused.
const ANSWER_WAIT: Duration = Duration::from_secs(60);

/// Decides who may subscribe to a public channel. Asked for apps with
/// `routing.channels.authenticated_public` only.
pub trait Gatekeeper: Send + Sync + 'static {
    /// Decides, or says what is missing. Called on the thread of the connection: it must be quick, and
    /// leave what takes time to [`Verdict::Ask`]. `user` is who the connection signed in as.
    fn check(&self, app: &App, channel: &ChannelName, user: Option<&UserId>) -> Verdict;
}

/// What a [`Gatekeeper`] says. Texts are for the client's developer.
pub enum Verdict {
    /// The subscription takes place.
    Allow,
    /// It does not.
    Refuse(String),
    /// Asked again when the connection has signed in; refused with this text if that does not happen soon.
    SignInFirst(String),
    /// The answer is the future's, which runs on the connection's thread.
    Ask(Pin<Box<dyn Future<Output = Result<(), String>>>>),
}

/// A subscription that is not decided yet.
pub(super) struct Held {
    channel: ChannelName,
    waits_for: WaitsFor,
}

enum WaitsFor {
    SignIn {
        /// Shard time (seconds) after which it is refused; `None` once it was.
        until: Option<u32>,
        refusal: String,
    },
    /// The client's next request for it: the subscription was refused, took place when the connection signed in after
    /// all, and was answered then.
    NextRequest,
    /// Kept until the answer is there, so that whoever subscribes and unsubscribes all the time has no
    /// more questions under way than channels.
    Answer { is_wanted: bool },
}

/// What the gate makes of a request.
pub(super) enum Gate {
    Open,
    /// Decided later.
    Held,
}

impl ShardState {
    /// Whether a connection may subscribe to a channel as far as the app's gatekeeper is concerned.
    pub(super) fn gate(&mut self, slot: u32, channel: &ChannelName) -> Result<Gate, Refused> {
        let connection = &self.connections[slot as usize];
        if channel.kind() != ChannelKind::Public {
            return Ok(Gate::Open);
        }
        let app = connection.app.app();
        let routing = &app.settings.routing;
        if !(routing.enabled && routing.channels.authenticated_public) {
            return Ok(Gate::Open);
        }
        let is_subscribed = self.subscription_index(slot, channel).is_some();
        let is_answered = self.connections[slot as usize].take_answered(channel);
        if is_subscribed {
            return Ok(if is_answered { Gate::Held } else { Gate::Open });
        }
        let Some(gatekeeper) = self.hub.gatekeeper() else { return Ok(Gate::Open) };
        let connection = &mut self.connections[slot as usize];
        // Its answer serves this request as well.
        if let Some(held) = connection.held.iter_mut().find(|held| held.channel == *channel) {
            match &mut held.waits_for {
                WaitsFor::Answer { is_wanted } => *is_wanted = true,
                // The client asks again after a refusal, and is answered again.
                WaitsFor::SignIn { until, .. } => {
                    until.get_or_insert(self.clock.now() + SIGN_IN_WAIT);
                }
                WaitsFor::NextRequest => {}
            }
            return Ok(Gate::Held);
        }
        let limit = self.limits.max_channels;
        if connection.subscriptions.len() + connection.held.len() >= limit {
            return Err(too_many_channels(limit));
        }
        let user = connection.user.as_deref().map(|user| &user.id);
        let verdict = gatekeeper.check(&app, channel, user);
        self.follow(slot, channel, verdict)
    }

    fn follow(&mut self, slot: u32, channel: &ChannelName, verdict: Verdict) -> Result<Gate, Refused> {
        let (waits_for, answer) = match verdict {
            Verdict::Allow => return Ok(Gate::Open),
            Verdict::Refuse(message) => return Err(Refused::new(RefusalKind::Auth, message)),
            Verdict::SignInFirst(refusal) => {
                (WaitsFor::SignIn { until: Some(self.clock.now() + SIGN_IN_WAIT), refusal }, None)
            }
            Verdict::Ask(answer) => (WaitsFor::Answer { is_wanted: true }, Some(answer)),
        };
        self.connections[slot as usize].held.push(Held { channel: channel.clone(), waits_for });
        if let Some(answer) = answer {
            self.await_answer(slot, channel.clone(), answer);
        }
        Ok(Gate::Held)
    }

    fn await_answer(
        &self,
        slot: u32,
        channel: ChannelName,
        answer: Pin<Box<dyn Future<Output = Result<(), String>>>>,
    ) {
        let this = self.this.clone();
        let address = self.address(slot);
        spawn_local(async move {
            let answer = tokio::time::timeout(ANSWER_WAIT, answer).await.unwrap_or_else(|_| {
                Err(format!("{channel}: the right to subscribe could not be checked in time, try again"))
            });
            if let Some(shard) = this.upgrade() {
                shard.state.borrow_mut().answered(address, &channel, answer);
            }
        });
    }

    fn answered(&mut self, address: Address, channel: &ChannelName, answer: Result<(), String>) {
        let slot = address.slot;
        if !self.is_same(address) || !self.settle(slot) {
            return;
        }
        let held = &mut self.connections[slot as usize].held;
        let Some(index) = held.iter().position(|held| held.channel == *channel) else { return };
        if let WaitsFor::Answer { is_wanted: true } = held.swap_remove(index).waits_for {
            let outcome = answer.map_err(|message| Refused::new(RefusalKind::Auth, message));
            if let Err(refused) = outcome.and_then(|()| self.enter(slot, channel, None)) {
                self.refuse(slot, channel.as_str(), &refused);
            }
            self.flush(slot);
        }
    }

    /// Asks again for what waited for the connection to sign in.
    pub(super) fn reconsider(&mut self, slot: u32) {
        let held = &mut self.connections[slot as usize].held;
        let waiting = held.extract_if(.., |held| matches!(held.waits_for, WaitsFor::SignIn { .. }));
        let waiting: Vec<Held> = waiting.collect();
        for Held { channel, waits_for } in waiting {
            let outcome = match self.gate(slot, &channel) {
                Ok(Gate::Open) => self.enter(slot, &channel, None),
                Ok(Gate::Held) => continue,
                Err(refused) => Err(refused),
            };
            match (outcome, waits_for) {
                (Err(refused), _) => self.refuse(slot, channel.as_str(), &refused),
                (Ok(()), WaitsFor::SignIn { until: None, .. }) => {
                    let held = Held { channel, waits_for: WaitsFor::NextRequest };
                    self.connections[slot as usize].held.push(held);
                }
                (Ok(()), _) => {}
            }
        }
    }

    /// Refuses what waited too long for the connection to sign in. Called once a second.
    pub(super) fn refuse_overdue(&mut self, slot: u32, now: u32) {
        let held = &mut self.connections[slot as usize].held;
        let overdue: Vec<_> = held.iter_mut().filter_map(|held| held.become_refused(now)).collect();
        for (channel, refusal) in overdue {
            if !self.settle(slot) {
                return;
            }
            self.refuse(slot, channel.as_str(), &Refused::new(RefusalKind::Auth, refusal));
            self.flush(slot);
        }
    }
}

impl Held {
    /// The channel and the text of the refusal, if the time to sign in is over and the client was not told yet.
    fn become_refused(&mut self, now: u32) -> Option<(ChannelName, String)> {
        match &mut self.waits_for {
            WaitsFor::SignIn { until, refusal } if until.is_some_and(|until| until < now) => {
                *until = None;
                Some((self.channel.clone(), refusal.clone()))
            }
            _ => None,
        }
    }
}

impl Connection {
    /// The client unsubscribed: it is not told any more what became of a held subscription.
    pub(super) fn forget_held(&mut self, channel: &ChannelName) {
        self.held.retain_mut(|held| match &mut held.waits_for {
            _ if held.channel != *channel => true,
            WaitsFor::Answer { is_wanted } => {
                *is_wanted = false;
                true
            }
            WaitsFor::SignIn { .. } | WaitsFor::NextRequest => false,
        });
    }

    /// Whether a request for this channel was answered before it came.
    fn take_answered(&mut self, channel: &ChannelName) -> bool {
        let is_answered =
            |held: &Held| matches!(held.waits_for, WaitsFor::NextRequest) && held.channel == *channel;
        let position = self.held.iter().position(is_answered);
        position.is_some_and(|position| {
            self.held.swap_remove(position);
            true
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};

    use tokio::sync::oneshot;
    use tokio::task::yield_now;

    use super::*;
    use crate::config::{AppSettings, ServerSettings};
    use crate::hub::testing::{self, Client, OneShard};

    const REFUSED: [&str; 2] = ["pusher:subscription_error", "pusher:error"];

    /// `user.N` for user N, `ask.N` when the test says so, everything else for everybody.
    #[derive(Default)]
    struct Doorman {
        asked: Mutex<VecDeque<oneshot::Sender<Result<(), String>>>>,
    }

    impl Gatekeeper for Doorman {
        fn check(&self, _: &App, channel: &ChannelName, user: Option<&UserId>) -> Verdict {
            match (channel.as_str().split_once('.'), user) {
                (Some(("user", _)), None) => Verdict::SignInFirst("sign in".to_owned()),
                (Some(("user", owner)), Some(user)) if owner != user.as_str() => {
                    Verdict::Refuse("not yours".to_owned())
                }
                (Some(("ask", _)), _) => {
                    let (sender, receiver) = oneshot::channel();
                    self.asked.lock().expect("no panic").push_back(sender);
                    Verdict::Ask(Box::pin(async move { receiver.await.expect("answered") }))
                }
                _ => Verdict::Allow,
            }
        }
    }

    impl Doorman {
        fn answer(&self, answer: Result<(), String>) {
            let sender = self.asked.lock().expect("no panic").pop_front().expect("a question");
            sender.send(answer).expect("still waiting");
        }

        fn questions(&self) -> usize {
            self.asked.lock().expect("no panic").len()
        }
    }

    fn guarded() -> AppSettings {
        let mut app = testing::app();
        app.routing.channels.authenticated_public = true;
        app
    }

    fn start(app: AppSettings) -> (OneShard, Arc<Doorman>) {
        let server = ServerSettings { max_channels_per_connection: 3, ..ServerSettings::default() };
        let one = OneShard::with(app, server);
        let doorman = Arc::new(Doorman::default());
        one.hub.guard(Arc::clone(&doorman) as Arc<dyn Gatekeeper>);
        (one, doorman)
    }

    fn succeeded(channel: &str) -> String {
        format!("pusher_internal:subscription_succeeded {channel}")
    }

    async fn refused(client: &mut Client) -> String {
        let error = client.data(REFUSED[0]).await;
        assert_eq!((&error["type"], &error["status"]), (&"AuthError".into(), &401.into()));
        assert_eq!(client.names(1).await, [REFUSED[1]]);
        error["error"].as_str().expect("a text").to_owned()
    }

    #[test]
    fn a_subscription_waits_for_the_sign_in_and_nothing_else_waits_for_it() {
        testing::run(async {
            let (one, _) = start(guarded());
            let mut client = one.connect().await;
            client.ask_for("user.7").await;
            client.ask_for("user.8").await;
            client.subscribe("news").await;
            client.sign_in("7").await;
            assert_eq!(client.names(2).await, ["pusher:signin_success".to_owned(), succeeded("user.7")]);
            assert_eq!(refused(&mut client).await, "not yours");
            client.ask_for("user.8").await;
            assert_eq!(refused(&mut client).await, "not yours");
            client.subscribe("user.7").await;
        });
    }

    #[test]
    fn who_does_not_sign_in_is_refused_in_the_end() {
        testing::run(async {
            let (one, _) = start(guarded());
            let mut client = one.connect().await;
            client.ask_for("user.7").await;
            client.ask_for("user.8").await;
            client.send("pusher:unsubscribe", serde_json::json!({"channel": "user.8"})).await;
            assert!(client.names_until_now().await.is_empty());
            one.shard.state.borrow_mut().refuse_overdue(0, SIGN_IN_WAIT);
            assert!(client.names_until_now().await.is_empty(), "not yet");
            one.shard.state.borrow_mut().refuse_overdue(0, 100);
            assert_eq!(refused(&mut client).await, "sign in");
            assert!(client.names_until_now().await.is_empty(), "user.8 was given up by the client");
            one.shard.state.borrow_mut().refuse_overdue(0, 200);
            assert!(client.names_until_now().await.is_empty(), "told once");
            client.ask_for("user.7").await;
            one.shard.state.borrow_mut().refuse_overdue(0, 100);
            assert_eq!(refused(&mut client).await, "sign in");
        });
    }

    #[test]
    fn a_late_sign_in_is_in_time_for_what_was_refused() {
        testing::run(async {
            let (one, _) = start(guarded());
            let mut client = one.connect().await;
            client.ask_for("user.7").await;
            client.ask_for("user.8").await;
            client.send("pusher:unsubscribe", serde_json::json!({"channel": "user.8"})).await;
            assert!(client.names_until_now().await.is_empty());
            one.shard.state.borrow_mut().refuse_overdue(0, 100);
            assert_eq!(refused(&mut client).await, "sign in");
            client.sign_in("7").await;
            assert_eq!(client.names(2).await, ["pusher:signin_success".to_owned(), succeeded("user.7")]);
            client.ask_for("user.7").await;
            assert!(client.names_until_now().await.is_empty(), "answered already");
            client.ask_for("user.7").await;
            assert_eq!(client.names(1).await, [succeeded("user.7")]);
        });
    }

    #[test]
    fn an_answer_ends_the_waiting_once_however_often_it_was_asked_for() {
        testing::run(async {
            let (one, doorman) = start(guarded());
            let mut client = one.connect().await;
            let unsubscribe = serde_json::json!({"channel": "ask.1"});
            client.ask_for("ask.1").await;
            client.ask_for("ask.1").await;
            client.send("pusher:unsubscribe", unsubscribe.clone()).await;
            client.ask_for("ask.1").await;
            assert!(client.names_until_now().await.is_empty());
            assert_eq!(doorman.questions(), 1);
            doorman.answer(Ok(()));
            assert_eq!(client.names(1).await, [succeeded("ask.1")]);
            client.send("pusher:unsubscribe", unsubscribe.clone()).await;
            client.ask_for("ask.1").await;
            client.send("pusher:unsubscribe", unsubscribe).await;
            assert!(client.names_until_now().await.is_empty());
            doorman.answer(Ok(()));
            assert!(client.names_until_now().await.is_empty(), "unsubscribed meanwhile");
            assert_eq!(one.hub.app_by_id("1001").expect("there").occupied_channels(), 0);
            client.ask_for("ask.1").await;
            assert!(client.names_until_now().await.is_empty());
            doorman.answer(Err("no".to_owned()));
            assert_eq!(refused(&mut client).await, "no");
        });
    }

    #[test]
    fn an_answer_for_a_connection_that_is_gone_is_for_nobody() {
        testing::run(async {
            let (one, doorman) = start(guarded());
            let mut client = one.connect().await;
            client.ask_for("ask.1").await;
            assert!(client.names_until_now().await.is_empty());
            drop(client);
            while one.hub.connections() > 0 {
                yield_now().await;
            }
            let mut next = one.connect().await;
            doorman.answer(Ok(()));
            assert!(next.names_until_now().await.is_empty(), "same place in the shard, another connection");
            assert_eq!(one.hub.app_by_id("1001").expect("there").occupied_channels(), 0);
        });
    }

    #[test]
    fn what_is_held_counts_as_channels() {
        testing::run(async {
            let (one, doorman) = start(guarded());
            let mut client = one.connect().await;
            for channel in ["ask.1", "ask.2", "user.7"] {
                client.ask_for(channel).await;
            }
            client.ask_for("ask.4").await;
            let error = client.data(REFUSED[0]).await;
            assert_eq!(error["type"], "LimitReached");
            assert_eq!((client.names(1).await, doorman.questions()), (vec![REFUSED[1].to_owned()], 2));
        });
    }

    #[test]
    fn only_public_channels_of_apps_with_the_setting_are_guarded() {
        testing::run(async {
            let (one, doorman) = start(testing::app());
            let mut client = one.connect().await;
            client.subscribe("user.7").await;
            client.subscribe("ask.1").await;
            assert_eq!(doorman.questions(), 0);
            let (one, doorman) = start(guarded());
            let mut client = one.connect().await;
            client.subscribe("private-ask.1").await;
            client.subscribe("news").await;
            assert_eq!(doorman.questions(), 0);
        });
    }
}
