//! The desk with a real store, hub and backend.

mod room;

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinHandle;

use super::*;
use crate::config::{AppSettings, WebhookEvent, WebhookSettings};
use crate::hub::Observation;
use crate::outbox::testing::{Backend, Reply, hub, store};
use crate::outbox::{EventState, Listing};
use crate::protocol::channel::ChannelName;
use crate::protocol::id::{SocketId, UserId};

const OK: Reply = Reply::Status("200 OK", "");

struct World {
    webhooks: Webhooks,
    running: [JoinHandle<()>; 2],
}

fn settings(backend: &Backend, change: impl Fn(&mut WebhookSettings)) -> AppSettings {
    let mut webhook = WebhookSettings {
        url: crate::config::Secret::new(backend.url()),
        allow_private_addresses: true,
        ..Default::default()
    };
    change(&mut webhook);
    let app = AppSettings::new("1001", "key", "secret");
    AppSettings { webhooks: vec![webhook], webhook_delay: Duration::from_millis(50), ..app }
}

impl World {
    fn start(folder: &Path, app: AppSettings, node: &str) -> Self {
        let (hub, _) = hub(vec![app.clone()]);
        let outbox = Outbox::new(store(folder), hub.clone(), node.into());
        let webhooks = Webhooks::new(outbox.clone(), hub, &[app]);
        let running = [tokio::spawn(outbox.run()), tokio::spawn(webhooks.clone().run())];
        Self { webhooks, running }
    }

    fn see(&self, what: &Observation<'_>) {
        self.webhooks.inner.queue.see("1001", what);
    }

    /// As SIGKILL does it.
    async fn kill(self) {
        for task in self.running {
            task.abort();
            let _ = task.await;
        }
    }
}

fn socket() -> SocketId {
    SocketId::parse("1.1").expect("a form").expect("an id")
}

fn channel(name: &str) -> ChannelName {
    ChannelName::parse(name).expect(name)
}

fn events(body: &str) -> Vec<String> {
    let body: Value = serde_json::from_str(body).expect("JSON");
    let events = body["events"].as_array().expect("a list");
    let text = |event: &Value| format!("{} {}", event["name"], event["channel"]).replace('"', "");
    events.iter().map(text).collect()
}

async fn next(backend: &mut Backend) -> Vec<String> {
    events(&backend.next().await.body)
}

/// As [`next`], but what a crash had sent again is left out.
async fn next_but(told: &[&str], backend: &mut Backend) -> Vec<String> {
    loop {
        let next = next(backend).await;
        if !next.iter().all(|event| told.contains(&event.as_str())) {
            return next;
        }
    }
}

#[tokio::test]
async fn what_receivers_believe_survives_a_crash() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut backend = Backend::start(|_| OK).await;
    let app = settings(&backend, |_| {});
    let world = World::start(folder.path(), app.clone(), "one");
    let (stays, goes) = (channel("stays"), channel("goes"));
    for name in [&stays, &goes] {
        world.see(&Observation::ChannelOccupied(name, socket()));
        assert_eq!(next(&mut backend).await, [format!("channel_occupied {name}")]);
    }
    world.kill().await;

    let world = World::start(folder.path(), app, "two");
    world.see(&Observation::ChannelOccupied(&stays, socket()));
    // Ten seconds later, and nothing of the one that came back.
    let told = ["channel_occupied stays", "channel_occupied goes"];
    assert_eq!(next_but(&told, &mut backend).await, ["channel_vacated goes"]);
    world.see(&Observation::ChannelVacated(&stays));
    assert_eq!(next(&mut backend).await, ["channel_vacated stays"]);
    world.kill().await;
}

#[tokio::test]
async fn after_a_crash_members_are_gone_before_their_channel() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut backend = Backend::start(|_| OK).await;
    let app = settings(&backend, |webhook| webhook.batch = true);
    let world = World::start(folder.path(), app.clone(), "one");
    let room = channel("presence-room");
    let users = ["1", "2"].map(|user| UserId::member(user).expect("an id"));
    world.see(&Observation::ChannelOccupied(&room, socket()));
    users.iter().for_each(|user| world.see(&Observation::MemberAdded(&room, user)));
    assert_eq!(next(&mut backend).await.len(), 3);
    world.kill().await;
    let world = World::start(folder.path(), app, "two");
    let told = ["channel_occupied presence-room", "member_added presence-room"];
    let removed = "member_removed presence-room";
    let expected = [removed, removed, "channel_vacated presence-room"];
    assert_eq!(next_but(&told, &mut backend).await, expected);
    world.kill().await;
}

#[tokio::test]
async fn misses_that_go_on_are_told_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut backend = Backend::start(|_| OK).await;
    let app = settings(&backend, |webhook| webhook.events = vec![WebhookEvent::CacheMiss]);
    let world = World::start(folder.path(), app, "one");
    let prices = channel("cache-prices");
    let again = async {
        // Subscribers come more often than misses are told.
        let mut clock = tokio::time::interval(Duration::from_millis(100));
        loop {
            clock.tick().await;
            world.see(&Observation::CacheMiss(&prices, socket()));
        }
    };
    let two = async {
        for _ in 0..2 {
            assert_eq!(next(&mut backend).await, ["cache_miss cache-prices"]);
        }
    };
    tokio::select! {
        () = again => {}
        () = two => {}
    }
    world.kill().await;
}

#[tokio::test]
async fn a_miss_is_not_told_again_before_it_was_taken() {
    for is_batching in [false, true] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut backend = Backend::start(|_| Reply::Status("503 Service Unavailable", "")).await;
        let app = settings(&backend, |webhook| {
            webhook.batch = is_batching;
            webhook.events = vec![WebhookEvent::CacheMiss, WebhookEvent::ChannelOccupied];
        });
        let world = World::start(folder.path(), app, "one");
        let (prices, marker) = (channel("cache-prices"), channel("marker"));
        // Twice as long as the time within which misses are one.
        for _ in 0..20 {
            world.see(&Observation::CacheMiss(&prices, socket()));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        world.see(&Observation::ChannelOccupied(&marker, socket()));
        let target = &world.webhooks.standings().await.expect("readable")[0].target;
        let waiting = Listing { state: EventState::Waiting, after: 0, since: 0, limit: 100 };
        let told = loop {
            let told = world.webhooks.inner.outbox.events(target.clone(), waiting).await.expect("readable");
            if told.iter().any(|request| request.data.contains("marker")) {
                break told;
            }
        };
        let misses = told.iter().filter(|request| request.data.contains("cache_miss"));
        assert_eq!(misses.count(), 1, "batching: {is_batching}");

        // Once it was taken, the next one is news.
        backend.change(|_| OK);
        while world.webhooks.standings().await.expect("readable")[0].waiting > 0 {
            tokio::task::yield_now().await;
        }
        backend.rest();
        world.see(&Observation::CacheMiss(&prices, socket()));
        assert_eq!(next(&mut backend).await, ["cache_miss cache-prices"]);
        world.kill().await;
    }
}

#[tokio::test]
async fn what_comes_while_settings_change_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut backend = Backend::start(|_| OK).await;
    let app = settings(&backend, |webhook| webhook.batch = true);
    let world = World::start(folder.path(), app.clone(), "one");
    let hub = world.webhooks.inner.hub.app_by_id("1001").expect("there");
    let (before, news) = (channel("before"), channel("news"));
    // Both are there when the task looks, and one of them came since it took the queue.
    for name in [&before, &news] {
        hub.occupy_for_test(name);
    }
    world.webhooks.inner.queue.take();
    world.see(&Observation::ChannelOccupied(&news, socket()));
    world.webhooks.configure(&[app]);
    assert_eq!(next(&mut backend).await, ["channel_occupied news"]);
    world.see(&Observation::ChannelVacated(&before));
    assert_eq!(next(&mut backend).await, ["channel_vacated before"]);
    world.kill().await;
}

#[tokio::test]
async fn what_could_not_be_followed_is_looked_at_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut backend = Backend::start(|_| OK).await;
    let app = settings(&backend, |webhook| webhook.batch = true);
    let world = World::start(folder.path(), app, "one");
    let gone = channel("gone");
    world.see(&Observation::ChannelOccupied(&gone, socket()));
    assert_eq!(next(&mut backend).await, ["channel_occupied gone"]);
    // Nobody is on the hub of this test, so whatever is believed to be there is not.
    world.webhooks.inner.queue.fill();
    let mut seen = Vec::new();
    while !seen.contains(&"channel_vacated gone".to_owned()) {
        seen = next(&mut backend).await;
        assert!(seen.len() <= 100, "a batch has at most 100 events");
    }
    assert!(world.webhooks.lost() > 0);
    world.kill().await;
}

#[tokio::test]
async fn clients_that_are_sent_away_are_not_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut backend = Backend::start(|_| OK).await;
    let app = settings(&backend, |webhook| {
        webhook.events = vec![WebhookEvent::UserOnline, WebhookEvent::UserOffline, WebhookEvent::CacheMiss];
    });
    let world = World::start(folder.path(), app.clone(), "one");
    let user = UserId::signed_in("7").expect("an id");
    world.see(&Observation::UserCame(&user));
    assert_eq!(next(&mut backend).await, ["user_online "]);
    world.webhooks.freeze();
    world.see(&Observation::UserLeft(&user));
    world.see(&Observation::CacheMiss(&channel("cache-a"), socket()));
    world.webhooks.stop(Duration::from_secs(10)).await;
    assert_eq!(next(&mut backend).await, ["cache_miss cache-a"], "what else happens is still told");
    world.kill().await;

    let world = World::start(folder.path(), app, "two");
    world.see(&Observation::UserCame(&user));
    world.see(&Observation::UserLeft(&user));
    assert_eq!(next(&mut backend).await, ["user_offline "]);
    world.kill().await;
}

#[tokio::test]
async fn other_settings_tell_nothing_of_what_is_there_already() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut backend = Backend::start(|_| OK).await;
    let app = settings(&backend, |webhook| webhook.channels = vec!["a*".to_owned()]);
    let world = World::start(folder.path(), app, "one");
    let (a, b) = (channel("a"), channel("b"));
    world.see(&Observation::ChannelOccupied(&a, socket()));
    world.see(&Observation::ChannelOccupied(&b, socket()));
    assert_eq!(next(&mut backend).await, ["channel_occupied a"]);
    let other = settings(&backend, |webhook| webhook.channels = vec!["b*".to_owned()]);
    world.webhooks.configure(&[other]);
    world.see(&Observation::ChannelVacated(&a));
    world.see(&Observation::CacheMiss(&b, socket()));
    assert_eq!(next(&mut backend).await, ["cache_miss b"], "nobody wants to know of the other any more");
    assert_eq!(world.webhooks.standings().await.expect("readable").len(), 1);
    world.kill().await;
}
