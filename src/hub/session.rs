//! What a client's message does: the rules of the protocol, applied to one connection.

use std::borrow::Cow;
use std::time::Instant;

use super::budget::{self, Budget};
use super::connection::Subscription;
use super::directory::Joined;
use super::gate::Gate;
use super::observer::{ClientEventSeen, Observation};
use super::shard::{LocalChannel, ShardState, Subscriber};
use crate::apps::TokenBucket;
use crate::config::ClientEvents;
use crate::logging::traffic;
use crate::protocol::auth::AuthError;
use crate::protocol::channel::{ChannelKind, ChannelName};
use crate::protocol::client_event::{ClientEvent, ClientMessage, InvalidMessage, SignIn, Subscribe};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::id::check_event_name;
use crate::protocol::json;
use crate::protocol::presence::{Member, UserData};
use crate::protocol::server_event::{self, RefusalKind};

/// How many refusals a message counts as that nobody can make sense of.
const FAULT: u32 = 10;
/// Ids of a watchlist that are watched (Pusher docs, "Watchlist events").
const MAX_WATCHLIST: usize = 100;

/// Why a subscription is refused.
pub(super) struct Refused {
    kind: RefusalKind,
    /// The sentence for the client.
    message: String,
    /// What the log says instead, where the sentence repeats what was signed.
    cause: Option<&'static str>,
}

impl Refused {
    pub(super) fn new(kind: RefusalKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), cause: None }
    }

    fn auth(error: &AuthError) -> Self {
        Self { cause: Some(error.cause()), ..Self::new(RefusalKind::Auth, error.to_string()) }
    }

    fn cause(&self) -> Cow<'_, str> {
        self.cause.map_or_else(|| traffic::sentence(&self.message), Cow::Borrowed)
    }
}

/// As many channels as a connection may have.
pub(super) fn too_many_channels(limit: usize) -> Refused {
    Refused::new(RefusalKind::Limit, format!("Too many channels: a connection may be subscribed to {limit}"))
}

/// What gave a connection the right to subscribe.
fn why_allowed(channel: &ChannelName) -> &'static str {
    match channel.kind() {
        ChannelKind::Public => "the channel is public",
        ChannelKind::ServerToUser => "the connection is signed in as this user",
        _ => "the signature is valid",
    }
}

impl ShardState {
    /// Acts on one text frame.
    pub(super) fn on_text(&mut self, slot: u32, text: &str) {
        let message = ClientMessage::parse(text);
        if !self.afford(slot, &message) {
            return;
        }
        match message {
            Ok(ClientMessage::Ping) => self.reply(&server_event::pong()),
            Ok(ClientMessage::Pong) => {}
            Ok(ClientMessage::Subscribe(request)) => self.subscribe(slot, &request),
            Ok(ClientMessage::Unsubscribe(channel)) => self.unsubscribe(slot, &channel),
            Ok(ClientMessage::SignIn(request)) => self.sign_in(slot, request),
            Ok(ClientMessage::Event(event)) => self.client_event(slot, &event),
            Err(error) => {
                self.log_refusal(slot, "message refused", &error.to_string());
                self.fault(slot, &error.to_string());
            }
        }
    }

    /// Answers a message with `pusher:error`; the connection stays.
    fn reject(&mut self, code: Option<ErrorCode>, message: &str) {
        self.stats.faults += 1;
        self.reply(&server_event::error(code, message));
    }

    /// Answers a message that nobody can make sense of.
    fn fault(&mut self, slot: u32, message: &str) {
        self.reject(None, message);
        self.spend(slot, Budget::Refusals, FAULT);
    }

    /// Spends what a message costs before it is acted upon; whether the connection could. What a client event costs is
    /// known when it was looked at.
    fn afford(&mut self, slot: u32, message: &Result<ClientMessage<'_>, InvalidMessage>) -> bool {
        use ClientMessage::{Event, SignIn, Subscribe, Unsubscribe};
        if let Ok(Event(_)) = message {
            return true;
        }
        let is_subscription = matches!(message, Ok(Subscribe(_) | Unsubscribe(_) | SignIn(_)));
        self.spend(slot, Budget::Messages, 1)
            && (!is_subscription || self.spend(slot, Budget::Subscriptions, 1))
    }

    /// Spends of a connection's budget, and closes the connection if it is used up. A page whose subscriptions are
    /// refused comes back with the same ones, so that a burst admits all its channels.
    pub(super) fn spend(&mut self, slot: u32, budget: Budget, tokens: u32) -> bool {
        let now = self.clock.steps();
        let connection = &mut self.connections[slot as usize];
        let limits = budget::limits(&connection.app.app().settings.client, self.limits.max_channels);
        let is_within = connection.budgets.spend(budget, tokens, now, &limits);
        if !is_within {
            self.close_over_budget(slot, budget);
        }
        is_within
    }

    fn subscribe(&mut self, slot: u32, request: &Subscribe) {
        if let Err(refused) = self.try_subscribe(slot, request) {
            self.refuse(slot, &request.channel, &refused);
            self.spend(slot, Budget::Refusals, 1);
        }
    }

    /// Tells that a subscription did not take place, on the channel and on the connection.
    pub(super) fn refuse(&mut self, slot: u32, channel: &str, refused: &Refused) {
        let connection = &self.connections[slot as usize];
        tracing::debug!(
            target: traffic::TARGET,
            app = connection.app.id(),
            socket = %connection.id,
            channel = &*traffic::name(channel),
            verdict = "refused",
            why = &*refused.cause(),
            "subscribe"
        );
        let channel: String = channel.chars().take(256).collect();
        self.reply(&server_event::subscription_error(&channel, refused.kind, &refused.message));
        self.reject(None, &refused.message);
    }

    fn log_subscribed(&self, slot: u32, channel: &ChannelName, verdict: &str, why: &str) {
        let connection = &self.connections[slot as usize];
        tracing::debug!(
            target: traffic::TARGET,
            app = connection.app.id(),
            socket = %connection.id,
            channel = &*traffic::name(channel.as_str()),
            verdict,
            why,
            "subscribe"
        );
    }

    fn try_subscribe(&mut self, slot: u32, request: &Subscribe) -> Result<(), Refused> {
        let channel = ChannelName::parse(&request.channel)
            .map_err(|error| Refused::new(RefusalKind::Channel, error.to_string()))?;
        let member = self.authorize(slot, &channel, request)?;
        match self.gate(slot, &channel)? {
            Gate::Open => self.enter(slot, &channel, member),
            Gate::Held => {
                self.log_subscribed(
                    slot,
                    &channel,
                    "waits",
                    "the right to read the channel is being checked",
                );
                Ok(())
            }
        }
    }

    /// Subscribes a connection that has the right to.
    pub(super) fn enter(
        &mut self,
        slot: u32,
        channel: &ChannelName,
        member: Option<Member>,
    ) -> Result<(), Refused> {
        let connection = &mut self.connections[slot as usize];
        let known = connection.app.directory.local_index(channel, self.index);
        if known.is_some_and(|local| connection.subscriptions.iter().any(|it| it.local == local)) {
            let snapshot = member.map(|_| connection.app.directory.snapshot(channel));
            let data = snapshot.as_deref().unwrap_or("{}");
            self.reply(&server_event::subscription_succeeded(channel, data));
            self.log_subscribed(slot, channel, "accepted", "the connection was subscribed already");
            return Ok(());
        }
        let limit = self.limits.max_channels;
        if connection.subscriptions.len() >= limit {
            return Err(too_many_channels(limit));
        }
        let local = known.unwrap_or_else(|| {
            let name = channel.clone();
            self.channels.insert(LocalChannel { id: 0, name, subscribers: Vec::new() }) as u32
        });
        match self.join(slot, channel, local, member) {
            Ok(()) => {
                self.log_subscribed(slot, channel, "accepted", why_allowed(channel));
                Ok(())
            }
            Err(refused) => {
                if known.is_none() {
                    self.channels.remove(local as usize);
                }
                Err(refused)
            }
        }
    }

    /// Joins and answers in one step, so that no event of the channel can come first.
    fn join(
        &mut self,
        slot: u32,
        channel: &ChannelName,
        local: u32,
        member: Option<Member>,
    ) -> Result<(), Refused> {
        let connection = &mut self.connections[slot as usize];
        let app = &connection.app;
        let limit = app.app().settings.presence_members;
        let joined = app
            .directory
            .join(
                connection.id,
                channel,
                self.index,
                local,
                member.as_ref().map(|member| (member, limit)),
                Instant::now(),
            )
            .map_err(|_| {
                let message = format!("Presence channel {channel} is full: at most {limit} members");
                Refused::new(RefusalKind::Limit, message)
            })?;
        let list = &mut self.channels[local as usize];
        list.id = joined.channel;
        let position = list.subscribers.len() as u32;
        list.subscribers.push(Subscriber { slot, since: joined.since });
        let member = member.map(|member| member.user_id);
        connection.subscriptions.push(Subscription { local, position, member });
        self.tell_joined(channel, joined);
        Ok(())
    }

    fn tell_joined(&mut self, channel: &ChannelName, joined: Joined) {
        let data = joined.snapshot.as_deref().unwrap_or("{}");
        self.reply(&server_event::subscription_succeeded(channel, data));
        match joined.remembered {
            Some(frame) => self.reply(&frame),
            None if channel.is_cache() => self.reply(&server_event::cache_miss(channel)),
            None => {}
        }
    }

    /// Checks the right to subscribe; the member for presence channels.
    fn authorize(
        &mut self,
        slot: u32,
        channel: &ChannelName,
        request: &Subscribe,
    ) -> Result<Option<Member>, Refused> {
        let connection = &self.connections[slot as usize];
        let user = connection.user.as_deref();
        match channel.kind() {
            ChannelKind::Public => Ok(None),
            ChannelKind::ServerToUser => {
                let is_own = user.is_some_and(|user| channel.server_to_user() == Some(user.id.as_str()));
                let refused =
                    || format!("Not authorized: {channel} is for connections signed in as that user");
                if is_own { Ok(None) } else { Err(Refused::new(RefusalKind::Auth, refused())) }
            }
            kind => {
                let is_presence = kind == ChannelKind::Presence;
                let unreadable = |error: &InvalidMessage| Refused::new(RefusalKind::Auth, error.to_string());
                let auth = request.auth.as_ref().map_err(unreadable)?.as_deref();
                let data = request.channel_data.as_ref().map_err(unreadable)?.as_deref();
                let keys = &connection.app.app().keys;
                let secret = keys
                    .verify_channel(auth, connection.id, channel.as_str(), data, is_presence)
                    .map_err(|error| Refused::auth(&error))?;
                self.connections[slot as usize].authorization.add(secret);
                if is_presence { self.member(slot, data).map(Some) } else { Ok(None) }
            }
        }
    }

    /// Who joins a presence channel: `channel_data`, or the signed-in user.
    fn member(&self, slot: u32, channel_data: Option<&str>) -> Result<Member, Refused> {
        let connection = &self.connections[slot as usize];
        let member = match (channel_data, connection.user.as_deref()) {
            (Some(data), _) => Member::from_channel_data(data)
                .map_err(|error| Refused::new(RefusalKind::Auth, error.to_string()))?,
            (None, Some(user)) => Member { user_id: user.id.clone(), user_info: user.user_info.clone() },
            (None, None) => {
                let message = "Missing parameter: channel_data with a user_id, or sign in first";
                return Err(Refused::new(RefusalKind::Auth, message));
            }
        };
        let limit = connection.app.app().settings.presence_member_size;
        if member.user_info.len() > limit {
            let message =
                format!("user_info has {} bytes, at most {limit} are allowed", member.user_info.len());
            return Err(Refused::new(RefusalKind::Limit, message));
        }
        Ok(member)
    }

    fn unsubscribe(&mut self, slot: u32, channel: &str) {
        let Ok(channel) = ChannelName::parse(channel) else { return };
        self.connections[slot as usize].forget_held(&channel);
        if let Some(index) = self.subscription_index(slot, &channel) {
            let subscription = self.connections[slot as usize].subscriptions.swap_remove(index);
            self.leave_channel(slot, &subscription);
            let connection = &self.connections[slot as usize];
            tracing::debug!(
                target: traffic::TARGET,
                app = connection.app.id(),
                socket = %connection.id,
                channel = &*traffic::name(channel.as_str()),
                "unsubscribe"
            );
        }
    }

    pub(super) fn subscription_index(&self, slot: u32, channel: &ChannelName) -> Option<usize> {
        let connection = &self.connections[slot as usize];
        let local = connection.app.directory.local_index(channel, self.index)?;
        connection.subscriptions.iter().position(|subscription| subscription.local == local)
    }

    fn sign_in(&mut self, slot: u32, request: Result<SignIn, InvalidMessage>) {
        let request = request.map_err(|error| Refused::new(RefusalKind::Auth, error.to_string()));
        if let Err(refused) = request.and_then(|request| self.try_sign_in(slot, &request)) {
            self.log_refusal(slot, "sign-in refused", &refused.cause());
            self.reject(Some(ErrorCode::Unauthorized), &refused.message);
            self.spend(slot, Budget::Refusals, 1);
        }
    }

    fn log_refusal(&self, slot: u32, what: &str, why: &str) {
        let connection = &self.connections[slot as usize];
        tracing::debug!(
            target: traffic::TARGET,
            app = connection.app.id(),
            socket = %connection.id,
            why = &*traffic::sentence(why),
            "{what}"
        );
    }

    fn try_sign_in(&mut self, slot: u32, request: &SignIn) -> Result<(), Refused> {
        let connection = &self.connections[slot as usize];
        let app = connection.app.app();
        let secret = app
            .keys
            .verify_user(request.auth.as_deref(), connection.id, &request.user_data)
            .map_err(|error| Refused::auth(&error))?;
        let user = UserData::parse(&request.user_data)
            .map_err(|error| Refused::new(RefusalKind::Auth, error.to_string()))?;
        match connection.user.as_deref() {
            Some(known) if known.id != user.id => {
                let message = format!("Connection is already signed in as user {}", known.id);
                Err(Refused::new(RefusalKind::Auth, message))
            }
            _ => {
                self.connections[slot as usize].authorization.add(secret);
                self.begin_user_session(slot, user, &request.user_data);
                Ok(())
            }
        }
    }

    /// Takes over what the sign-in says, also from the same user again: info and watchlist may have changed.
    fn begin_user_session(&mut self, slot: u32, mut user: UserData, user_data: &str) {
        self.reply(&server_event::signin_success(user_data));
        let address = self.address(slot);
        let connection = &mut self.connections[slot as usize];
        tracing::debug!(
            target: traffic::TARGET,
            app = connection.app.id(),
            socket = %connection.id,
            user = &*traffic::name(user.id.as_str()),
            "sign-in"
        );
        if !connection.app.app().settings.watchlist {
            user.watchlist.clear();
        }
        let listed = user.watchlist.len();
        user.watchlist.truncate(MAX_WATCHLIST);
        if let Some(before) = connection.user.take() {
            connection.app.users.unwatch(&before.watchlist, address);
        }
        connection.app.users.sign_in(&user.id, address);
        let (online, offline) = connection.app.users.watch(&user.watchlist, address);
        connection.user = Some(Box::new(user));
        if let Some(frame) = server_event::watchlist_events(&online, &offline) {
            self.reply(&frame);
        }
        if listed > MAX_WATCHLIST {
            let message =
                format!("Watchlist limit exceeded: {listed} ids, the first {MAX_WATCHLIST} are watched");
            self.reply(&server_event::error(Some(ErrorCode::WatchlistLimit), &message));
        }
        self.reconsider(slot);
    }

    fn client_event(&mut self, slot: u32, event: &ClientEvent<'_>) {
        if let Err((code, message)) = self.try_client_event(slot, event) {
            let connection = &self.connections[slot as usize];
            tracing::debug!(
                target: traffic::TARGET,
                app = connection.app.id(),
                socket = %connection.id,
                channel = &*traffic::name(&event.channel),
                event = &*traffic::name(&event.name),
                why = &*traffic::sentence(&message),
                "client event refused"
            );
            self.reject(code, &message);
            let is_no_fault = matches!(code, Some(ErrorCode::ClientEventRate | ErrorCode::OverCapacity));
            if self.spend(slot, Budget::Messages, 1) && !is_no_fault {
                self.spend(slot, Budget::Refusals, 1);
            }
        }
    }

    fn try_client_event(
        &mut self,
        slot: u32,
        event: &ClientEvent<'_>,
    ) -> Result<(), (Option<ErrorCode>, String)> {
        let rejected = |reason: String| Err((None, format!("Client event rejected - {reason}")));
        let app = self.connections[slot as usize].app.app();
        let settings = &app.settings;
        if settings.client_events == ClientEvents::Off {
            let message = "To send client events, you must enable this feature for the app: client_events = \"members\"";
            return Err((None, message.to_owned()));
        }
        let channel = match ChannelName::parse(&event.channel) {
            Ok(channel) if channel.kind().needs_auth() => channel,
            _ => return rejected("only supported on private and presence channels".to_owned()),
        };
        if let Err(error) = check_event_name(&event.name) {
            return rejected(error.to_string());
        }
        let Some(index) = self.subscription_index(slot, &channel) else {
            return rejected(format!("you must be subscribed to {channel}"));
        };
        let Some(size) = json::decoded_len(&event.data) else {
            return rejected("data holds half a surrogate pair".to_owned());
        };
        if size > settings.event_size {
            let message = format!(
                "The data content of this event exceeds the allowed maximum ({} bytes): it has {size} bytes",
                settings.event_size
            );
            return Err((None, message));
        }
        self.take_event_rate(slot)?;
        let connection = &self.connections[slot as usize];
        if connection.app.check_room().is_err() {
            return Err((Some(ErrorCode::OverCapacity), "Client event rejected - over capacity".to_owned()));
        }
        let member = connection.subscriptions[index].member.as_ref();
        let subscribers =
            connection.app.publish_client_event(&channel, &event.name, &event.data, member, connection.id);
        tracing::debug!(
            target: traffic::TARGET,
            app = connection.app.id(),
            socket = %connection.id,
            channel = &*traffic::name(channel.as_str()),
            event = &*traffic::name(&event.name),
            // Its sender is subscribed, and does not get it.
            receivers = subscribers.saturating_sub(1),
            "client event"
        );
        let seen = ClientEventSeen {
            channel: &channel,
            event: &event.name,
            data: &event.data,
            socket_id: connection.id,
            user_id: member,
        };
        connection.app.tell(&Observation::ClientEvent(seen));
        Ok(())
    }

    fn take_event_rate(&mut self, slot: u32) -> Result<(), (Option<ErrorCode>, String)> {
        let connection = &mut self.connections[slot as usize];
        let Some(rate) = connection.app.app().settings.client_event_rate else { return Ok(()) };
        let now = Instant::now();
        let bucket = connection
            .event_bucket
            .get_or_insert_with(|| Box::new(TokenBucket::new(f64::from(rate.get()), now)));
        bucket.set_rate(f64::from(rate.get()), f64::from(rate.get()), now);
        bucket.take(1.0, now).map_err(|_| {
            let message = format!("Client event rejected: more than {rate} per second");
            (Some(ErrorCode::ClientEventRate), message)
        })
    }
}
