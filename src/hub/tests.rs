use std::sync::Mutex;

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
