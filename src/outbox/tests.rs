//! The outbox with a real store, hub and backends.

mod broadcasts;
mod drain;
mod faults;

use std::collections::HashMap;
use std::sync::Mutex;

use serde_json::value::to_raw_value;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::testing::{Backend, Got, Published, Reply, hub, store};
use super::*;
use crate::config::AppSettings;
use crate::storage;

const OK: Reply = Reply::Status("200 OK", "");
const MILLISECOND: Duration = Duration::from_millis(1);
const PACE: Pace =
    Pace { backoff: Duration::from_millis(2), hold: Duration::from_secs(600), reconnect: Duration::ZERO };

/// Endpoints by app; answers' ids take the place of channels' ends.
#[derive(Default)]
struct Portal {
    endpoints: Mutex<HashMap<String, Endpoint>>,
    answers: Mutex<Vec<(About, String)>>,
    /// How often it is still to panic when an app's endpoint is asked for.
    panics: Mutex<HashMap<String, u32>>,
    /// Whether no answer can be stored.
    refuses_answers: std::sync::atomic::AtomicBool,
}

impl Portal {
    fn panics_still(&self, app: &str) -> u32 {
        self.panics.lock().expect("not poisoned").get(app).copied().unwrap_or(0)
    }
}

impl Receivers for Portal {
    fn endpoint(&self, target: &Target) -> Option<Endpoint> {
        let still = self.panics_still(&target.app_id);
        if still > 0 {
            self.panics.lock().expect("not poisoned").insert(target.app_id.clone(), still - 1);
            panic!("a fault of ours");
        }
        self.endpoints.lock().expect("not poisoned").get(&target.app_id).cloned()
    }

    fn answered(&self, _: &mut Transaction<'_>, about: About, body: &[u8]) -> Result<(), StorageError> {
        assert!(!self.refuses_answers.load(std::sync::atomic::Ordering::Relaxed), "a fault of ours");
        let body = String::from_utf8_lossy(body).into_owned();
        self.answers.lock().expect("not poisoned").push((about, body));
        Ok(())
    }

    fn amend(&self, _: &mut Transaction<'_>, broadcast: &mut Broadcast) -> Result<(), StorageError> {
        for publication in &mut broadcast.publications {
            let answers = self.answers.lock().expect("not poisoned");
            let answer = answers.iter().find(|(about, _)| Some(*about) == publication.about);
            if let Some((_, answer)) = answer {
                publication.channel = format!("messenger.{answer}");
            }
        }
        Ok(())
    }
}

struct World {
    folder: TempDir,
    portal: Arc<Portal>,
    outbox: Outbox,
    published: Published,
    running: JoinHandle<()>,
}

fn target(app: &str) -> Target {
    Target { app_id: app.to_owned(), kind: "callback".to_owned() }
}

fn failed_after(after: i64) -> Listing {
    Listing { state: EventState::Failed, after, since: 0, limit: 10 }
}

impl World {
    fn new() -> Self {
        Self::with_pace(PACE)
    }

    fn with_pace(pace: Pace) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (outbox, published, portal) = open(&folder, pace, Arc::default());
        let running = tokio::spawn(outbox.clone().run());
        Self { folder, portal, outbox, published, running }
    }

    /// As a crash and a new start do it.
    async fn restart(self) -> Self {
        let Self { folder, portal, outbox, published, running } = self;
        running.abort();
        let _ = running.await;
        let pace = outbox.pace;
        drop((outbox, published));
        let (outbox, published, portal) = open(&folder, pace, portal);
        let running = tokio::spawn(outbox.clone().run());
        Self { folder, portal, outbox, published, running }
    }

    fn set(&self, app: &str, backend: &Backend, timeout: Duration, give_up_after: Duration) {
        let settings = AppSettings::new(app, "the-key", "the-secret");
        let endpoint =
            Endpoint { timeout, give_up_after, ..Endpoint::of(App::new(settings), &backend.url()) };
        self.portal.endpoints.lock().expect("not poisoned").insert(app.to_owned(), endpoint);
    }

    async fn point(&self, app: &str, decide: impl Fn(&Got) -> Reply + Send + Sync + 'static) -> Backend {
        let backend = Backend::start(decide).await;
        self.set(app, &backend, Duration::from_secs(10), Duration::from_secs(3600));
        backend
    }

    /// Writes one event for each of these data, each in a transaction of its own.
    async fn post(&self, app: &str, lane: &str, data: impl IntoIterator<Item = Value>) -> Vec<i64> {
        let mut ids = Vec::new();
        for data in data {
            ids.push(self.post_at(app, lane, data, None, storage::now()).await);
        }
        ids
    }

    async fn post_at(&self, app: &str, lane: &str, data: Value, about: Option<About>, now: i64) -> i64 {
        let (outbox, target, lane) = (self.outbox.clone(), target(app), lane.to_owned());
        let post = move |tx: &mut Transaction<'_>| {
            let data = to_raw_value(&data).expect("JSON");
            outbox.post(
                tx,
                &target,
                &lane,
                &Event { name: "message_sent".to_owned(), data, is_list: false, about },
                now,
            )
        };
        self.outbox.database.write(post).await.expect("stored")
    }

    /// A broadcast to channel `name`, after these events of the same transaction.
    async fn broadcast(&self, lane: &str, name: &str, callbacks: &[i64], about: Option<About>) {
        let (outbox, lane, name) = (self.outbox.clone(), lane.to_owned(), name.to_owned());
        let callbacks = callbacks.to_vec();
        let add = move |tx: &mut Transaction<'_>| {
            let (now, mut after) = (storage::now(), Vec::new());
            for number in &callbacks {
                let event = Event {
                    name: "e".to_owned(),
                    data: to_raw_value(number).expect("JSON"),
                    is_list: false,
                    about,
                };
                after.push(outbox.post(tx, &target("a"), &lane, &event, now)?);
            }
            let data = to_raw_value(&json!({})).expect("JSON");
            let publication = Publication { channel: name.clone(), event: "E".to_owned(), data, about };
            let expires_at = now + 60_000_000;
            let broadcast = Broadcast {
                publications: vec![publication],
                except: None,
                expires_at,
                after,
                called_at: None,
            };
            outbox.broadcast(tx, "a", &lane, broadcast, now)
        };
        self.outbox.database.write(add).await.expect("stored");
    }

    async fn next_channel(&mut self) -> String {
        self.published.recv().await.expect("the hub is there").0
    }

    /// Waits until nothing of an app is left to be posted.
    async fn until_done(&self, app: &str) {
        self.until(app, "state <> 'failed'", 0).await;
    }

    /// Counters follow what is stored.
    async fn until_stats(&self, fits: impl Fn(OutboxStats) -> bool) {
        while !fits(self.outbox.stats()) {
            tokio::task::yield_now().await;
        }
    }

    async fn until(&self, app: &str, which: &'static str, count: i64) {
        while self.count(app, which).await != count {
            tokio::task::yield_now().await;
        }
    }

    async fn count(&self, app: &str, which: &'static str) -> i64 {
        let app = app.to_owned();
        let sql: &'static str = match which {
            "state <> 'failed'" => "SELECT COUNT(*) FROM outbox WHERE app_id = ?1 AND state <> 'failed'",
            "state = 'failed'" => "SELECT COUNT(*) FROM outbox WHERE app_id = ?1 AND state = 'failed'",
            "attempts > 0" => "SELECT COUNT(*) FROM outbox WHERE app_id = ?1 AND attempts > 0",
            _ => panic!("{which}"),
        };
        let count =
            move |tx: &mut Transaction<'_>| tx.query_one(sql, &[(&app).into()])?.expect("a row").int(0);
        self.outbox.database.read(count).await.expect("readable")
    }
}

fn open(folder: &TempDir, pace: Pace, portal: Arc<Portal>) -> (Outbox, Published, Arc<Portal>) {
    let (hub, published) = hub(vec![AppSettings::new("a", "the-key", "the-secret")]);
    let node = ulid::Ulid::generate().to_string().into();
    let receivers = Arc::clone(&portal) as Arc<dyn Receivers>;
    let outbox = Outbox::with_pace(store(folder.path()), hub, node, pace);
    outbox.serve("callback", receivers);
    (outbox, published, portal)
}

fn numbers(range: std::ops::Range<i64>) -> impl Iterator<Item = Value> {
    range.map(|number| json!(number))
}

#[tokio::test]
async fn an_event_is_posted_and_signed_as_pusher_webhooks_are() {
    let world = World::new();
    let mut backend = Backend::start(|_| OK).await;
    // Old, and not given up for that.
    world.set("a", &backend, Duration::from_secs(10), Duration::from_secs(u64::from(u32::MAX)));
    let created_at = 1_767_225_600_123_456;
    let id = world.post_at("a", "l", json!({"n": 1, "t": "ü"}), None, created_at).await;
    let got = backend.next().await;
    let expected = format!(
        r#"{{"time_ms":1767225600123,"events":[{{"name":"message_sent","channel":"","id":"a-{created_at}-{id}","seq":{id},"data":"{{\"n\":1,\"t\":\"ü\"}}"}}]}}"#
    );
    assert_eq!(got.body, expected);
    let signature =
        App::new(AppSettings::new("a", "the-key", "the-secret")).keys.sign(&[expected.as_bytes()]);
    let version = env!("CARGO_PKG_VERSION");
    for line in [
        "POST /hook HTTP/1.1".to_owned(),
        "Content-Type: application/json".to_owned(),
        "X-Pusher-Key: the-key".to_owned(),
        format!("X-Pusher-Signature: {signature}"),
        format!("User-Agent: switchboard/{version}"),
    ] {
        assert!(got.head.lines().any(|found| found == line), "{line} in {}", got.head);
    }
    world.until_done("a").await;
    world.until_stats(|stats| stats.delivered == 1).await;
    assert!(world.outbox.attempts(target("a"), id).await.expect("readable").is_empty());
}

#[tokio::test]
async fn a_lane_keeps_its_order_through_failures_and_others_go_on() {
    let world = World::new();
    let tries: Mutex<HashMap<String, usize>> = Mutex::default();
    let mut backend = world
        .point("a", move |got| {
            let mut tries = tries.lock().expect("not poisoned");
            let count = tries.entry(got.body.clone()).or_default();
            *count += 1;
            // Every third event fails twice.
            if got.data().as_i64().is_some_and(|number| number % 3 == 0) && *count <= 2 {
                return Reply::Status("500 Internal Server Error", "oops");
            }
            OK
        })
        .await;
    let mut ids = Vec::new();
    for lane in 0..4 {
        ids.extend(world.post("a", &format!("lane-{lane}"), numbers(lane * 100..lane * 100 + 12)).await);
    }
    world.until_done("a").await;
    let got = backend.rest();
    for lane in 0..4 {
        let mut seen: Vec<i64> = got.iter().filter_map(|got| got.data().as_i64()).collect();
        seen.retain(|number| number / 100 == lane);
        seen.dedup();
        assert_eq!(seen, (lane * 100..lane * 100 + 12).collect::<Vec<_>>(), "lane {lane}");
    }
    // The bytes of a try are those of the first.
    let bodies: std::collections::HashSet<&str> = got.iter().map(|got| got.body.as_str()).collect();
    assert_eq!(bodies.len(), 48);
    let attempts = world.outbox.attempts(target("a"), ids[0]).await.expect("readable");
    let said: Vec<_> = attempts.iter().map(|attempt| (attempt.status, attempt.answer.as_str())).collect();
    assert_eq!(said, [(Some(500), "oops"), (Some(500), "oops"), (Some(200), "")]);
}

#[tokio::test]
async fn a_lane_that_fails_and_an_endpoint_that_is_dead_delay_nobody_else() {
    let world = World::new();
    let mut backend = world
        .point("a", |got| if got.data() == "stuck" { Reply::Status("404 Not Found", "") } else { OK })
        .await;
    let dead = world.point("b", |_| Reply::Hang).await;
    for lane in 0..20 {
        world.post("b", &format!("lane-{lane}"), [json!(lane)]).await;
    }
    world.post("a", "stuck", [json!("stuck"), json!("behind")]).await;
    world.post("a", "free", numbers(0..20)).await;
    let mut seen = Vec::new();
    while seen.len() < 20 {
        let data = backend.next().await.data();
        assert_ne!(data, "behind");
        seen.extend(data.as_i64());
    }
    assert_eq!(seen, (0..20).collect::<Vec<_>>());
    assert_eq!(world.count("b", "state <> 'failed'").await, 20);
    drop(dead);
}

#[tokio::test]
async fn whatever_is_no_2xx_in_time_fails() {
    let cases: [(Reply, &str); 5] = [
        (Reply::Status("301 Moved Permanently\r\nLocation: /ok", ""), "HTTP 301"),
        (Reply::Status("404 Not Found", ""), "HTTP 404"),
        (Reply::Status("503 Service Unavailable", ""), "HTTP 503"),
        (Reply::Hang, "no answer within"),
        (Reply::Close, "outcome unclear"),
    ];
    let world = World::new();
    for (reply, error) in cases {
        let tries = std::sync::atomic::AtomicUsize::new(0);
        let decide = move |_: &Got| match tries.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0 => reply.clone(),
            _ => OK,
        };
        let mut backend = Backend::start(decide).await;
        let timeout = if error.starts_with("no answer") { MILLISECOND * 100 } else { MILLISECOND * 10_000 };
        world.set("a", &backend, timeout, Duration::from_secs(3600));
        let id = world.post("a", "l", [json!(1)]).await[0];
        let (first, second) = (backend.next().await, backend.next().await);
        assert_eq!(first.body, second.body);
        assert!(second.head.starts_with("POST /hook "));
        world.until_done("a").await;
        let attempts = world.outbox.attempts(target("a"), id).await.expect("readable");
        assert_eq!(attempts.len(), 2);
        let found = attempts[0].error.as_deref().unwrap_or_default();
        assert!(found.contains(error), "{found}");
        assert_eq!((attempts[1].status, &attempts[1].error), (Some(200), &None));
    }
}

#[tokio::test]
async fn a_2xx_settles_it_whatever_becomes_of_its_body() {
    let world = World::new();
    let backend = world.point("a", |_| Reply::Head("202 Accepted")).await;
    world.post("a", "l", [json!(1)]).await;
    world.until_stats(|stats| stats.delivered == 1).await;
    // Where its ids are of interest it has until the time-out.
    world.set("a", &backend, MILLISECOND * 500, Duration::from_secs(3600));
    let about = About { message: Some(4), conversation: None };
    world.post_at("a", "l", json!(2), Some(about), storage::now()).await;
    world.until_stats(|stats| stats.delivered == 2).await;
    assert_eq!(world.outbox.stats().failed_tries, 0);
    assert_eq!(*world.portal.answers.lock().expect("not poisoned"), [(about, String::new())]);
}

#[tokio::test]
async fn what_fails_waits_for_its_own_next_try_and_delays_nothing_new() {
    let world = World::with_pace(Pace { backoff: Duration::from_secs(600), ..PACE });
    let mut backend = world.point("a", |_| Reply::Status("500 Internal Server Error", "")).await;
    const LANES: i64 = 40;
    for lane in 0..LANES {
        world.post("a", &format!("lane-{lane}"), [json!("head"), json!("behind")]).await;
    }
    // Each is tried at once, however many others failed, and once.
    world.until_stats(|stats| stats.failed_tries == LANES as u64).await;
    assert_eq!(world.count("a", "attempts > 0").await, LANES);
    assert!(backend.rest().iter().all(|got| got.data() == "head"));

    backend.change(|_| OK);
    world.post("a", "new", numbers(0..20)).await;
    world.until_stats(|stats| stats.delivered == 20).await;
    assert_eq!(backend.rest().iter().map(Got::data).collect::<Vec<_>>(), numbers(0..20).collect::<Vec<_>>());
    assert_eq!(world.count("a", "attempts > 0").await, LANES, "a success of others hurries nobody");

    // A restart does not hurry them either. When their time has come, all that is behind them follows.
    let world = world.restart().await;
    let due =
        |tx: &mut Transaction<'_>| tx.execute("UPDATE outbox SET not_before = 0 WHERE attempts > 0", &[]);
    world.outbox.database.write(due).await.expect("stored");
    world.outbox.couriers.wake(&target("a"));
    world.until_done("a").await;
    assert_eq!(backend.rest().len() as i64, 2 * LANES);
}

/// Whether these try again what failed, or go on after it was given up.
#[tokio::test]
async fn lanes_that_hang_leave_room_for_those_that_do_not() {
    // A next try after a minute would be too late for the former.
    for (backoff, give_up_after) in [(60, 30), (0, 3600)] {
        let give_up_after = Duration::from_secs(give_up_after);
        let world = World::with_pace(Pace { backoff: Duration::from_secs(backoff), ..PACE });
        let tries: Mutex<HashMap<String, usize>> = Mutex::default();
        let decide = move |got: &Got| match got.data().as_str() {
            Some(lane) => {
                let mut tries = tries.lock().expect("not poisoned");
                let count = tries.entry(lane.to_owned()).or_default();
                *count += 1;
                if *count == 1 { Reply::Status("500 Internal Server Error", "") } else { Reply::Hang }
            }
            None => OK,
        };
        let mut backend = Backend::start(decide).await;
        world.set("a", &backend, Duration::from_secs(3600), give_up_after);
        const LANES: usize = 60;
        // In one transaction, so that each lane has a second event when the first is given up.
        let outbox = world.outbox.clone();
        let post = move |tx: &mut Transaction<'_>| {
            for lane in (0..LANES * 2).map(|number| format!("lane-{}", number % LANES)) {
                let data = to_raw_value(&lane).expect("JSON");
                let event = Event { name: "message_sent".to_owned(), data, is_list: false, about: None };
                outbox.post(tx, &target("a"), &lane, &event, storage::now())?;
            }
            Ok::<_, StorageError>(())
        };
        world.outbox.database.write(post).await.expect("stored");
        world.until_stats(|stats| stats.failed_tries == LANES as u64).await;
        // All failed once; now as many of them hang as may.
        let mut hanging = 0;
        let mut seen = std::collections::HashSet::new();
        while hanging < 8 {
            hanging += usize::from(!seen.insert(backend.next().await.data().to_string()));
        }
        for number in 0..100 {
            world.post("a", &format!("good-{number}"), [json!(number)]).await;
        }
        world.until_stats(|stats| stats.delivered == 100).await;
    }
}

#[tokio::test]
async fn what_is_given_up_is_listed_and_can_be_sent_again() {
    let world = World::new();
    let mut backend = Backend::start(|got| match got.data().as_i64() {
        Some(2) => OK,
        _ => Reply::Status("422 Unprocessable Content", "no"),
    })
    .await;
    world.set("a", &backend, Duration::from_secs(10), MILLISECOND * 20);
    let ids = world.post("a", "l", numbers(0..3)).await;
    world.until("a", "state = 'failed'", 2).await;
    world.until_done("a").await;
    let failed = world.outbox.events(target("a"), failed_after(0)).await.expect("readable");
    let rows: Vec<i64> = failed.iter().map(|event| event.id).collect();
    assert_eq!(rows, ids[..2]);
    assert_eq!(failed[0].error.as_deref(), Some("HTTP 422"));
    assert_eq!(failed[0].name, "message_sent");
    assert!(failed[0].attempts > 0 && failed[0].changed_at > failed[0].created_at);
    let after = world.outbox.events(target("a"), failed_after(ids[0])).await.expect("readable");
    assert_eq!(after.iter().map(|event| event.id).collect::<Vec<_>>(), ids[1..2]);
    world.until_stats(|stats| stats.given_up == 2).await;
    assert!(
        world.outbox.events(target("b"), failed_after(0)).await.expect("readable").is_empty(),
        "another app's"
    );

    let first = backend.rest()[0].event()["id"].clone();
    backend.change(|_| OK);
    world.set("a", &backend, Duration::from_secs(10), Duration::from_secs(3600));
    assert_eq!(world.outbox.resend(target("b"), ids.clone()).await, Ok(0), "another app's");
    assert_eq!(world.outbox.resend(target("a"), vec![ids[1], ids[2], 999]).await, Ok(1));
    assert_eq!(backend.next().await.data(), 1);
    assert_eq!(world.outbox.resend_all(target("a"), EventState::Failed, 0).await, Ok(1));
    let again = backend.next().await;
    assert_eq!((again.data(), &again.event()["id"]), (json!(0), &first));
    world.until_done("a").await;
    assert_eq!(world.outbox.resend_all(target("a"), EventState::Failed, 0).await, Ok(0));
}

#[tokio::test]
async fn a_restart_loses_nothing_and_keeps_the_order() {
    let world = World::new();
    let mut backend = world.point("a", |_| Reply::Hang).await;
    for lane in ["x", "y"] {
        world.post("a", lane, numbers(0..10)).await;
    }
    let (first, second) = (backend.next().await, backend.next().await);
    assert_eq!((first.data(), second.data()), (json!(0), json!(0)), "one of each lane");
    backend.change(|_| OK);
    let world = world.restart().await;
    world.until_done("a").await;
    let all: Vec<i64> = backend.rest().iter().filter_map(|got| got.data().as_i64()).collect();
    assert_eq!(all.len(), 20);
    let mut next = [0, 0];
    for number in all {
        let lane = next.iter_mut().find(|next| **next == number).expect("in the order of a lane");
        *lane += 1;
    }
}

#[tokio::test]
async fn what_is_too_old_is_given_up_and_what_is_too_much_is_dropped() {
    let world = World::new();
    // No endpoint: they just wait.
    let old = storage::now() - 25 * 3_600_000_000;
    for number in 0..3 {
        world.post_at("a", "l", json!(number), None, old).await;
    }
    let claim = "UPDATE outbox SET locked_until = 0";
    world.outbox.database.write(move |tx| tx.execute(claim, &[])).await.expect("stored");
    let fresh = world.post("a", "l", numbers(3..8)).await;
    upkeep::tidy(&world.outbox, 100).await.expect("tidied");
    assert_eq!((world.count("a", "state = 'failed'").await, world.outbox.stats().given_up), (3, 3));
    let failed = world.outbox.events(target("a"), failed_after(0)).await.expect("readable");
    assert_eq!(failed[0].error.as_deref(), Some("never tried"));

    upkeep::tidy(&world.outbox, 3).await.expect("tidied");
    assert_eq!(
        (world.count("a", "state = 'failed'").await, world.count("a", "state <> 'failed'").await),
        (0, 3)
    );
    assert_eq!(world.outbox.stats().dropped, 5);
    let mut backend = world.point("a", |_| OK).await;
    world.outbox.couriers.wake(&target("a"));
    world.until_done("a").await;
    let seen: Vec<i64> = backend.rest().iter().filter_map(|got| got.event()["seq"].as_i64()).collect();
    assert_eq!(seen, fresh[2..]);
}

/// Only PostgreSQL is shared.
#[tokio::test]
async fn nodes_that_share_a_store_leave_nothing_behind_and_post_nothing_twice() {
    let world = World::new();
    if !world.outbox.database.is_shared() {
        return;
    }
    let (other, _published, _) = open(&world.folder, PACE, Arc::clone(&world.portal));
    let running = tokio::spawn(other.clone().run());
    let mut backend = world.point("a", |_| OK).await;
    let mut posts = tokio::task::JoinSet::new();
    for number in 0..400 {
        let outbox = if number % 2 == 0 { world.outbox.clone() } else { other.clone() };
        posts.spawn(async move {
            let of_job = outbox.clone();
            let post = move |tx: &mut Transaction<'_>| {
                let data = to_raw_value(&number).expect("JSON");
                let event = Event { name: "e".to_owned(), data, is_list: false, about: None };
                of_job.post(tx, &target("a"), &format!("lane-{}", number % 3), &event, storage::now())
            };
            outbox.database.write(post).await.expect("stored")
        });
    }
    posts.join_all().await;
    world.until_done("a").await;
    let mut seen: Vec<i64> = backend.rest().iter().filter_map(|got| got.data().as_i64()).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..400).collect::<Vec<_>>());
    running.abort();
}

/// What everybody may cause takes no place of others, however much there is and whatever becomes of it.
#[tokio::test]
async fn what_strangers_cause_delays_nobody_else() {
    let world = World::new();
    let decide = |got: &Got| if got.data() == "public" { Reply::Hang } else { OK };
    let mut backend = world.point("a", decide).await;
    let outbox = world.outbox.clone();
    let post = move |tx: &mut Transaction<'_>| {
        for number in 0..200 {
            let data = to_raw_value("public").expect("JSON");
            let event = Event { name: "message_sent".to_owned(), data, is_list: false, about: None };
            let lane = Lane { name: &format!("public-{number}"), is_public: true };
            outbox.post(tx, &target("a"), lane, &event, storage::now())?;
        }
        Ok::<_, StorageError>(())
    };
    world.outbox.database.write(post).await.expect("stored");
    assert_eq!(backend.next().await.data(), "public");
    for number in 0..40 {
        world.post("a", &format!("own-{number}"), [json!(number)]).await;
    }
    world.until_stats(|stats| stats.delivered == 40).await;
}

#[tokio::test]
async fn broadcasts_that_find_no_room_wait_in_bounded_memory_and_go_in_their_order() {
    let mut world = World::new();
    let hub = world.outbox.broadcasts.line_for_test().0.clone();
    let app = hub.app_by_id("a").expect("configured");
    let full = crate::protocol::channel::ChannelName::parse("full").expect("a name");
    app.occupy_for_test(&full);
    while app.check_room().is_ok() {
        app.publish(&full, "e", "\"{}\"", None);
    }
    for number in 0..300 {
        world.broadcast("lane", &format!("c{number}"), &[], None).await;
    }
    let (_, waiting, bytes) = world.outbox.broadcasts.line_for_test();
    assert!(waiting >= 299 && bytes < 17 << 10, "{waiting} wait with {bytes} bytes");
    hub.empty_for_test();
    for number in 0..300 {
        let next = async {
            loop {
                match world.next_channel().await {
                    name if name == "full" => {}
                    name => break name,
                }
            }
        };
        assert_eq!(next.await, format!("c{number}"));
    }
    world.until_done("a").await;
    assert_eq!(world.outbox.broadcasts.line_for_test().2, 0);
}
