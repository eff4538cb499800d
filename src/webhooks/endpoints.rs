//! Who wants to be told what, as the settings say now.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use hyper::Uri;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest, Sha256};
use wildmatch::WildMatch;

use super::FAMILY;
use super::room::Limits;
use crate::apps::App;
use crate::config::{AppSettings, CallbackData, WebhookEvent, WebhookSettings};
use crate::http_client::{self, Reach};
use crate::outbox::{Endpoint, Target};
use crate::protocol::channel::ChannelName;

/// Requests that were given up and are kept.
const MAX_FAILED: i64 = 100_000;

/// All apps' webhooks.
#[derive(Default)]
pub(super) struct Endpoints {
    apps: HashMap<String, Arc<AppWebhooks>>,
}

/// One app's.
pub(super) struct AppWebhooks {
    pub id: Arc<str>,
    /// How long what is gone may come back unnoticed.
    pub delay: Duration,
    pub webhooks: Vec<Webhook>,
    /// Events that some webhook wants, and those that must be seen for their sake.
    watched: Events,
}

/// One endpoint.
pub(super) struct Webhook {
    /// What people call it.
    pub name: String,
    pub target: Target,
    pub is_batching: bool,
    /// What may wait for it.
    pub limits: Limits,
    events: Events,
    channels: Vec<WildMatch>,
    url: Uri,
    timeout: Duration,
    give_up_after: Duration,
    headers: HeaderMap,
    reach: Reach,
}

/// A set of events, a bit for each.
#[derive(Clone, Copy, Default)]
struct Events(u16);

impl Events {
    fn with(self, event: WebhookEvent) -> Self {
        Self(self.0 | 1 << event as u8)
    }

    fn pushers() -> Self {
        WebhookEvent::all().filter(|event| event.is_pushers()).fold(Self::default(), Self::with)
    }

    fn has(self, event: WebhookEvent) -> bool {
        self.0 & 1 << event as u8 != 0
    }
}

/// Events that undo each other: whoever wants one must see both.
const PAIRS: [[WebhookEvent; 2]; 4] = [
    [WebhookEvent::ChannelOccupied, WebhookEvent::ChannelVacated],
    [WebhookEvent::MemberAdded, WebhookEvent::MemberRemoved],
    [WebhookEvent::UserOnline, WebhookEvent::UserOffline],
    [WebhookEvent::ConnectionOpened, WebhookEvent::ConnectionClosed],
];

impl Endpoints {
    /// From the settings of all apps.
    pub fn new(apps: &[AppSettings]) -> Self {
        let with_webhooks = apps.iter().filter(|app| !app.webhooks.is_empty());
        Self { apps: with_webhooks.map(|app| (app.id.clone(), Arc::new(AppWebhooks::new(app)))).collect() }
    }

    pub fn app(&self, id: &str) -> Option<&Arc<AppWebhooks>> {
        self.apps.get(id)
    }

    /// How many apps have webhooks.
    pub fn count(&self) -> usize {
        self.apps.len()
    }

    /// In the order of their ids.
    pub fn apps(&self) -> Vec<Arc<AppWebhooks>> {
        let mut apps: Vec<_> = self.apps.values().cloned().collect();
        apps.sort_by(|a, b| a.id.cmp(&b.id));
        apps
    }

    pub fn webhook(&self, target: &Target) -> Option<&Webhook> {
        self.app(&target.app_id)?.webhooks.iter().find(|webhook| webhook.target == *target)
    }
}

impl AppWebhooks {
    fn new(app: &AppSettings) -> Self {
        let same_before = |at: usize| {
            let this = &app.webhooks[at];
            app.webhooks[..at].iter().filter(|it| it.name.is_empty() && it.url == this.url).count()
        };
        let name = |at: usize, settings: &WebhookSettings| match same_before(at) {
            _ if !settings.name.is_empty() => settings.name.clone(),
            0 => digits(settings),
            earlier => format!("{}-{}", digits(settings), earlier + 1),
        };
        // The configuration has checked names and URLs.
        let webhooks: Vec<Webhook> = (app.webhooks.iter().enumerate())
            .filter_map(|(at, settings)| Webhook::new(&app.id, name(at, settings), settings))
            .collect();
        let mut watched = webhooks.iter().fold(Events(0), |all, webhook| Events(all.0 | webhook.events.0));
        for pair in PAIRS {
            if pair.iter().any(|event| watched.has(*event)) {
                watched = watched.with(pair[0]).with(pair[1]);
            }
        }
        Self { id: app.id.as_str().into(), delay: app.webhook_delay, webhooks, watched }
    }

    /// Whether this kind of event is of any interest.
    pub fn watches(&self, event: WebhookEvent) -> bool {
        self.watched.has(event)
    }

    /// Whether somebody wants this event, or the one that undoes it.
    pub fn tracks(&self, event: WebhookEvent, channel: Option<&ChannelName>) -> bool {
        let pair = PAIRS.iter().find(|pair| pair.contains(&event));
        let events = pair.map_or(std::slice::from_ref(&event), |pair| &pair[..]);
        self.webhooks.iter().any(|webhook| events.iter().any(|event| webhook.wants(*event, channel)))
    }

    pub fn is_batching(&self) -> bool {
        self.webhooks.iter().any(|webhook| webhook.is_batching)
    }
}

impl Webhook {
    fn new(app_id: &str, name: String, settings: &WebhookSettings) -> Option<Self> {
        let mut headers = HeaderMap::new();
        for (name, value) in &settings.headers {
            headers.append(
                HeaderName::try_from(name.as_str()).ok()?,
                HeaderValue::from_str(value.expose()).ok()?,
            );
        }
        let events = settings.events.iter().fold(Events::default(), |all, event| all.with(*event));
        Some(Self {
            target: Target { app_id: app_id.to_owned(), kind: format!("{FAMILY}:{name}") },
            name,
            is_batching: settings.batch,
            limits: Limits::new(settings.max_waiting),
            events: if settings.events.is_empty() { Events::pushers() } else { events },
            channels: settings.channels.iter().map(|pattern| WildMatch::new(pattern)).collect(),
            url: settings.url.expose().parse().ok()?,
            timeout: settings.timeout,
            give_up_after: settings.retry_for,
            headers,
            reach: Reach {
                public_only: !settings.allow_private_addresses,
                ca_file: settings.ca_file.clone(),
            },
        })
    }

    pub fn wants(&self, event: WebhookEvent, channel: Option<&ChannelName>) -> bool {
        let fits = |channel: &ChannelName| {
            self.channels.is_empty() || self.channels.iter().any(|pattern| pattern.matches(channel.as_str()))
        };
        self.events.has(event) && channel.is_none_or(fits)
    }

    /// Where it is, without what may be a secret: path and query.
    pub fn address(&self) -> String {
        http_client::address(&self.url)
    }

    /// How the outbox reaches it.
    pub fn endpoint(&self, app: Arc<App>) -> Endpoint {
        Endpoint {
            name: self.name.clone(),
            app,
            url: self.url.clone(),
            timeout: self.timeout,
            give_up_after: self.give_up_after,
            headers: self.headers.clone(),
            reach: self.reach.clone(),
            data: CallbackData::String,
            keeps_log: true,
            max_rows: MAX_FAILED,
            drops_waiting: false,
        }
    }
}

/// A name that stays the same for as long as the URL does.
fn digits(settings: &WebhookSettings) -> String {
    hex::encode(&Sha256::digest(settings.url.expose())[..4])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn app(change: impl Fn(&mut WebhookSettings)) -> AppWebhooks {
        let mut settings = WebhookSettings {
            url: Secret::new("https://portal.example/x?token=1".to_owned()),
            ..Default::default()
        };
        change(&mut settings);
        let webhooks = vec![settings.clone(), settings];
        AppWebhooks::new(&AppSettings { webhooks, ..AppSettings::new("1001", "key", "secret") })
    }

    fn channel(name: &str) -> ChannelName {
        ChannelName::parse(name).expect(name)
    }

    #[test]
    fn without_a_list_pushers_events_are_wanted_and_no_others() {
        let app = app(|_| {});
        let room = channel("presence-room");
        assert!(app.webhooks[0].wants(WebhookEvent::SubscriptionCount, Some(&room)));
        assert!(!app.webhooks[0].wants(WebhookEvent::ConnectionOpened, None));
        assert!(!app.watches(WebhookEvent::UserOnline));
    }

    #[test]
    fn whoever_wants_an_end_sees_the_beginning_of_matching_channels() {
        let app = app(|settings| {
            settings.events = vec![WebhookEvent::MemberRemoved, WebhookEvent::UserOffline];
            settings.channels = vec!["presence-a*".to_owned(), "presence-b".to_owned()];
        });
        assert!(app.watches(WebhookEvent::MemberAdded) && !app.watches(WebhookEvent::ChannelVacated));
        for (name, expected) in [("presence-abc", true), ("presence-b", true), ("presence-bc", false)] {
            assert_eq!(app.tracks(WebhookEvent::MemberAdded, Some(&channel(name))), expected, "{name}");
        }
        assert!(!app.webhooks[0].wants(WebhookEvent::MemberAdded, Some(&channel("presence-b"))));
        assert!(app.tracks(WebhookEvent::UserOnline, None), "it has no channel");
    }

    #[test]
    fn webhooks_have_names_of_their_own_and_addresses_without_secrets() {
        let app = app(|_| {});
        let [first, second] = &app.webhooks[..] else { panic!("two webhooks") };
        assert_eq!(second.name, format!("{}-2", first.name));
        assert_eq!(first.target.kind, format!("webhook:{}", first.name));
        assert_eq!(first.address(), "https://portal.example");
    }
}
