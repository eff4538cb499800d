use std::sync::Mutex;

use socket2::SockRef;
use tokio::io::AsyncReadExt;

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
    app.directory.join(&news, 0, 0, None, Instant::now()).expect("joined");
    let publish = |times| (0..times).for_each(|_| app.publish(&news, "e", "\"{}\"", None));
    publish(10_000);
    assert!(!hub.is_calm());
    assert_eq!(app.check_room(), Ok(()));
    publish(60_000);
    assert_eq!(app.check_room(), Err(Overloaded));
    let mut parcels = Vec::new();
    hub.inner.mailboxes[0].take(&mut parcels);
    assert_eq!((parcels.len(), app.check_room(), hub.is_calm()), (70_000, Ok(()), true));
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
    far.directory.join(&prices, 0, 0, None, now).expect("joined");
    near.publish(&prices, "e", "\"1\"", None);
    let mut parcels = Vec::new();
    there.inner.mailboxes[0].take(&mut parcels);
    assert_eq!(parcels.len(), 1);
    assert!(far.channel(&prices).remembered.is_some(), "a cached event is known on every node");
    near.directory.join(&prices, 0, 0, None, now).expect("joined");
    near.directory.leave(&prices, 0, None, now);
    let interest = link.interest.lock().expect("no panic");
    assert_eq!(*interest, [("cache-prices".to_owned(), true), ("cache-prices".to_owned(), false)]);
}

const REFUSED: &str = r#"{"event":"pusher:subscribe","data":{"channel":"private-x"}}"#;
const NEWS: &str = r#"{"event":"pusher:subscribe","data":{"channel":"news"}}"#;

/// Refusals of several times what a shard collects before it sends, then a subscription.
fn refusals_then_news() -> Vec<u8> {
    testing::frames(std::iter::repeat_n(REFUSED, 900).chain([NEWS]))
}

#[test]
fn a_client_that_resets_amid_its_refusals_is_removed_and_the_others_go_on() {
    testing::run(async {
        let one = OneShard::new(testing::app());
        let app = one.hub.app_by_id("1001").expect("configured");
        let (near, far) = testing::narrow_pair().await;
        SockRef::from(&near).set_linger(Some(Duration::ZERO)).expect("set");
        drop(near);
        far.readable().await.expect("readable");
        one.attach(one.hub.admit(&app).expect("room"), far, &refusals_then_news());
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
        let (_near, far) = testing::narrow_pair().await;
        // Answers of more than a shard collects before it sends.
        let requests = testing::frames(std::iter::repeat_n(NEWS, 1950));
        one.attach(one.hub.admit(&app).expect("room"), far, &requests);
        assert_eq!(app.connections(), 1, "it has time to see why");
        assert_eq!(app.channel(&channel("news")).subscribers, 0);
    });
}

/// What the client of a connection is sent that is handed over after `meanwhile`.
async fn told_after(meanwhile: impl FnOnce(&Hub)) -> String {
    let one = OneShard::new(testing::app());
    let app = one.hub.app_by_id("1001").expect("configured");
    let admission = one.hub.admit(&app).expect("room");
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
