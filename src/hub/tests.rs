use std::sync::Mutex;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::testing::OneShard;
use super::*;

fn hub(uplink: Arc<dyn Uplink>) -> Hub {
    let hub = Hub::new(1, ConnectionLimits::new(&ServerSettings::default()), uplink);
    hub.set_apps(vec![AppSettings::new("1001", "key", "secret")]);
    hub
}

fn channel(name: &str) -> ChannelName {
    ChannelName::parse(name).expect(name)
}

#[test]
fn publishing_is_refused_while_too_much_waits_and_clients_pause_long_before() {
    let hub = hub(Arc::new(Alone));
    let app = hub.app_by_id("1001").expect("added");
    let news = channel("news");
    app.directory.join(SocketId::random(), &news, 0, 0, None, Instant::now()).expect("joined");
    let publish = |times| (0..times).for_each(|_| app.publish(&news, "e", "\"{}\"", None));
    publish(10_000);
    assert_eq!([true, false].map(|is_busy| hub.is_calm(is_busy)), [false, true]);
    assert_eq!(app.check_room(), Ok(()));
    publish(60_000);
    assert_eq!(app.check_room(), Err(Overloaded));
    let mut parcels = Vec::new();
    hub.inner.mailboxes[0].take(&mut parcels);
    assert_eq!((parcels.len(), app.check_room(), hub.is_calm(true)), (70_000, Ok(()), true));
}

/// Carries publications to another hub, as a link between two nodes would.
#[derive(Default)]
struct Link {
    other: Mutex<Option<Hub>>,
    interest: Mutex<Vec<(String, bool)>>,
}

impl Uplink for Link {
    fn publish(&self, app_id: &str, publication: &RemotePublication) {
        if let Some(other) = &*self.other.lock().expect("no panic") {
            other.publish_remote(app_id, publication);
        }
    }

    fn interest(&self, _: &str, channel: &ChannelName, is_interested: bool) {
        self.interest.lock().expect("no panic").push((channel.to_string(), is_interested));
    }
}

#[test]
fn a_link_carries_publications_to_another_node_once_and_hears_of_interest() {
    let link = Arc::new(Link::default());
    let (here, there) = (hub(Arc::clone(&link) as Arc<dyn Uplink>), hub(Arc::new(Alone)));
    *link.other.lock().expect("no panic") = Some(there.clone());
    let prices = channel("cache-prices");
    let (near, far) = (here.app_by_id("1001").expect("added"), there.app_by_id("1001").expect("added"));
    let now = Instant::now();
    far.directory.join(SocketId::random(), &prices, 0, 0, None, now).expect("joined");
    near.publish(&prices, "e", "\"1\"", None);
    let mut parcels = Vec::new();
    there.inner.mailboxes[0].take(&mut parcels);
    assert_eq!(parcels.len(), 1);
    assert!(far.channel(&prices).remembered.is_some(), "a cached event is known on every node");
    near.directory.join(SocketId::random(), &prices, 0, 0, None, now).expect("joined");
    near.directory.leave(&prices, 0, None, now);
    let interest = link.interest.lock().expect("no panic");
    assert_eq!(*interest, [("cache-prices".to_owned(), true), ("cache-prices".to_owned(), false)]);
}

const REFUSED: &str = r#"{"event":"pusher:subscribe","data":{"channel":"private-x"}}"#;
const NEWS: &str = r#"{"event":"pusher:subscribe","data":{"channel":"news"}}"#;

#[test]
fn a_client_that_resets_amid_its_refusals_is_removed_and_the_others_go_on() {
    testing::run(async {
        let one = OneShard::new(testing::app());
        let app = one.hub.app_by_id("1001").expect("configured");
        let (near, far) = testing::narrow_pair().await;
        SockRef::from(&near).set_linger(Some(Duration::ZERO)).expect("set");
        drop(near);
        far.readable().await.expect("readable");
        let requests = testing::frames(std::iter::repeat_n(REFUSED, 900).chain([NEWS]));
        one.attach(one.hub.place(&app).expect("room"), far, &requests);
        assert_eq!((app.connections(), app.channel(&channel("news")).subscribers), (0, 0));
        one.connect().await.subscribe("news").await;
    });
}

#[test]
fn a_reader_that_is_closed_amid_its_requests_does_not_join_again() {
    testing::run(async {
        let server = ServerSettings { backlog_limit: 1024, ..ServerSettings::default() };
        let one = OneShard::with(testing::app(), server);
        let app = one.hub.app_by_id("1001").expect("configured");
        let prices = r#"{"event":"pusher:subscribe","data":{"channel":"cache-prices"}}"#;
        let no_prices = r#"{"event":"pusher:unsubscribe","data":{"channel":"cache-prices"}}"#;
        app.publish(&channel("cache-prices"), "e", &format!("\"{}\"", "x".repeat(40_000)), None);
        let (_near, far) = testing::narrow_pair().await;
        // The second answer with prices makes more than a shard collects before it sends, and than the reader may
        // leave unread.
        let requests = testing::frames(std::iter::repeat_n([prices, NEWS, no_prices], 5).flatten());
        one.attach(one.hub.place(&app).expect("room"), far, &requests);
        assert_eq!(app.channel(&channel("news")).subscribers, 0);
    });
}

/// What the client of a connection is sent that is handed over after `meanwhile`.
async fn told_after(meanwhile: impl FnOnce(&Hub)) -> String {
    let one = OneShard::new(testing::app());
    let app = one.hub.app_by_id("1001").expect("configured");
    let admission = one.hub.place(&app).expect("room");
    meanwhile(&one.hub);
    let (mut near, far) = testing::narrow_pair().await;
    one.attach(admission, far, &testing::frames([NEWS]));
    assert_eq!(app.channel(&channel("news")).subscribers, 0);
    let mut told = [0; 512];
    let len = near.read(&mut told).await.expect("read");
    String::from_utf8_lossy(&told[..len]).into_owned()
}

#[test]
fn an_app_that_is_removed_during_a_handshake_does_not_keep_the_connection() {
    testing::run(async {
        let told = told_after(|hub| drop(hub.set_apps(Vec::new()))).await;
        assert!(told.contains(r#""code":4001"#), "{told}");
    });
}

#[test]
fn an_app_that_is_replaced_during_a_handshake_has_the_client_come_again() {
    testing::run(async {
        let replace = |hub: &Hub| {
            hub.set_apps(Vec::new());
            hub.set_apps(vec![testing::app()]);
        };
        let told = told_after(replace).await;
        assert!(told.contains(r#""code":4100"#), "{told}");
    });
}

const UNSUBSCRIBE: &str = r#"{"event":"pusher:unsubscribe","data":{"channel":"news"}}"#;
const PING: &str = r#"{"event":"pusher:ping"}"#;

/// An app with small messages and budgets that are used up apart from each other.
fn thrifty() -> AppSettings {
    let mut app = testing::app();
    app.event_size = 1000;
    (app.client.message_burst, app.client.subscription_burst) = (3_000, 2_000);
    app
}

/// All that a client is sent until the end, which sends these bytes behind its handshake.
async fn told_to(one: &OneShard, bytes: &[u8]) -> String {
    let app = one.hub.app_by_id("1001").expect("configured");
    let (near, far) = testing::pair().await;
    one.attach(one.hub.place(&app).expect("room"), far, b"");
    let (mut reader, mut writer) = near.into_split();
    let mut told = Vec::new();
    let _ = tokio::join!(writer.write_all(bytes), reader.read_to_end(&mut told));
    String::from_utf8_lossy(&told).into_owned()
}

/// A flood by this client is closed with 4100 for this budget, and a bystander goes on.
async fn is_closed_for(budget: &str, bytes: &[u8]) {
    let one = OneShard::new(thrifty());
    let mut bystander = one.connect().await;
    let told = told_to(&one, bytes).await;
    let reason = format!("Too many {budget} in a short time");
    assert!(
        told.contains(r#""code":4100"#) && told.contains(&reason),
        "{}",
        &told[told.len().saturating_sub(500)..]
    );
    let index = OVER_BUDGET.iter().position(|known| *known == budget).expect("known");
    assert_eq!(one.shard.state.borrow().stats.over_budget[index], 1);
    bystander.subscribe("news").await;
}

#[test]
fn floods_of_every_kind_are_closed_with_4100_and_a_bystander_goes_on() {
    testing::run(async {
        let times =
            |texts: &[&str], times| testing::frames(std::iter::repeat_n(texts, times).flatten().copied());
        is_closed_for("messages", &times(&[PING], 3_500)).await;
        is_closed_for("messages", &[0x89, 0x80, 0, 0, 0, 0].repeat(3_500)).await;
        is_closed_for("messages", &[0x8a, 0x80, 0, 0, 0, 0].repeat(3_500)).await;
        is_closed_for("subscriptions", &times(&[NEWS], 2_500)).await;
        is_closed_for("subscriptions", &times(&[NEWS, UNSUBSCRIBE], 1_250)).await;
        is_closed_for("refusals", &times(&[REFUSED], 1_500)).await;
        let sign_in = r#"{"event":"pusher:signin","data":{"auth":"key:00","user_data":"{}"}}"#;
        is_closed_for("refusals", &times(&[sign_in], 1_500)).await;
        let event = r#"{"event":"client-x","channel":"private-x","data":"{}"}"#;
        is_closed_for("refusals", &times(&[event], 1_500)).await;
        is_closed_for("refusals", &times(&["?"], 150)).await;
        let fragments =
            [&[1, 0x81, 0, 0, 0, 0, b'?'][..], &[0, 0x81, 0, 0, 0, 0, b'?'].repeat(25_000)].concat();
        is_closed_for("messages", &fragments).await;
        // Each text is finished, but its fragments are many.
        let padding = [0, 0x81, 0, 0, 0, 0, b' '].repeat(3_000);
        let texts =
            [&[1, 0x81, 0, 0, 0, 0, b'{'][..], &padding, &[0x80, 0x81, 0, 0, 0, 0, b'}']].concat().repeat(10);
        is_closed_for("messages", &texts).await;
    });
}

#[test]
fn a_client_that_comes_back_subscribes_to_all_channels_it_may_have_at_once() {
    testing::run(async {
        let one = OneShard::new(testing::app());
        let mut client = one.connect().await;
        for number in 0..1_000 {
            client.ask_for(&format!("private-{number}")).await;
        }
        let names = client.names(1_000).await;
        assert_eq!(names[999], "pusher_internal:subscription_succeeded private-999");
    });
}

#[test]
fn one_connection_has_a_few_messages_worked_off_before_the_others_get_their_turn() {
    testing::run(async {
        let mut settings = testing::app();
        settings.client.message_rate = None;
        let one = OneShard::new(settings);
        let app = one.hub.app_by_id("1001").expect("configured");
        let mut bystander = one.connect().await;
        let (near, far) = testing::pair().await;
        let pings = testing::frames(std::iter::repeat_n(PING, 10_000));
        one.attach(one.hub.place(&app).expect("room"), far, &pings);
        let received = || one.shard.state.borrow().stats.received;
        assert_eq!(received(), 16);
        bystander.subscribe("news").await;
        assert!(received() < 10_000, "the others were waited for");
        let mut client = testing::Client::of(near).await;
        assert!(
            client.names(10_000).await.iter().all(|name| name == "pusher:pong"),
            "all are answered in the end"
        );
    });
}

#[test]
fn an_app_has_budgets_of_its_own_which_a_reload_changes_for_living_connections() {
    testing::run(async {
        let one = OneShard::new(testing::app());
        let mut client = one.connect().await;
        client.subscribe("news").await;
        let mut settings = testing::app();
        settings.client.message_rate = None;
        settings.client.subscription_rate = None;
        one.hub.set_apps(vec![settings]);
        for _ in 0..3_000 {
            client.ask_for("news").await;
            client.next().await;
        }
    });
}

#[test]
fn a_strangers_coming_and_going_does_not_close_a_slow_reader() {
    testing::run(async {
        let server = ServerSettings { backlog_limit: 4096, ..ServerSettings::default() };
        let mut settings = testing::app();
        settings.subscription_count = true;
        let one = OneShard::with(settings, server);
        let app = one.hub.app_by_id("1001").expect("configured");
        let (_near, far) = testing::narrow_pair().await;
        one.attach(one.hub.place(&app).expect("room"), far, &testing::frames([NEWS]));
        let mut stranger = one.connect().await;
        for _ in 0..900 {
            stranger.ask_for("news").await;
            stranger.send("pusher:unsubscribe", serde_json::json!({"channel": "news"})).await;
        }
        stranger.names_until_now().await;
        assert_eq!((app.connections(), app.channel(&channel("news")).subscribers), (2, 1));
    });
}

#[test]
fn connections_that_send_much_wait_for_each_other_and_nobody_else_waits_for_them() {
    testing::run(async {
        let mut settings = testing::app();
        settings.client.message_burst = 1_000_000;
        let one = OneShard::new(settings);
        let app = one.hub.app_by_id("1001").expect("configured");
        let mut bystander = one.connect().await;
        let pings = testing::frames(std::iter::repeat_n(PING, 2_000));
        let mut floods = Vec::new();
        for _ in 0..20 {
            let (near, far) = testing::pair().await;
            one.attach(one.hub.place(&app).expect("room"), far, &pings);
            floods.push(near);
        }
        let received = || one.shard.state.borrow().stats.received;
        // From the second turn on each stands in the lane.
        while received() < 20 * 20 {
            tokio::task::yield_now().await;
        }
        let before = received();
        bystander.subscribe("news").await;
        let meanwhile = received() - before;
        assert!(
            meanwhile <= 16 * 12,
            "{meanwhile} messages of others were worked off before the bystander's one"
        );
        while received() < 20 * 2_000 {
            tokio::task::yield_now().await;
        }
    });
}
