//! What happens when there is no room: nobody takes that of others, and receivers hear nothing that makes no sense.

use std::collections::HashMap;
use std::ops::Range;

use super::*;
use crate::outbox::testing::Got;

/// Room for 200 requests of public channels, 40 events of a channel, 4 of a user or connection.
const ROOM: usize = 400;
const AWAY: Reply = Reply::Status("503 Service Unavailable", "");

fn connection(number: usize) -> SocketId {
    SocketId::parse(&format!("7.{number}")).expect("a form").expect("an id")
}

fn user(id: &str) -> UserId {
    UserId::member(id).expect("an id")
}

impl World {
    /// How the only webhook stands.
    async fn standing(&self) -> Standing {
        self.webhooks.standings().await.expect("readable").remove(0)
    }

    /// Waits until all that was seen was written, or found no room.
    async fn settle(&self) {
        let marker = channel("private-marker");
        self.see(&Observation::ChannelOccupied(&marker, SocketId::random()));
        while !self.is_there(&marker).await {
            tokio::task::yield_now().await;
        }
        self.see(&Observation::ChannelVacated(&marker));
        while self.is_there(&marker).await {
            tokio::task::yield_now().await;
        }
    }

    async fn is_there(&self, channel: &ChannelName) -> bool {
        let name = channel.as_str().to_owned();
        let read = move |tx: &mut Transaction<'_>| {
            tx.query_one("SELECT 1 FROM webhook_presence WHERE name = ?1", &[(&name).into()])
        };
        self.webhooks.inner.outbox.database().read(read).await.expect("readable").is_some()
    }

    /// Waits until nothing waits, also for room.
    async fn drain(&self) {
        loop {
            let standing = self.standing().await;
            if (standing.waiting, standing.held_back) == (0, 0) {
                return;
            }
            // What failed is tried again after a second or more.
            let now = |tx: &mut Transaction<'_>| {
                tx.execute("UPDATE outbox SET not_before = 0 WHERE state = 'pending'", &[])
            };
            self.webhooks.inner.outbox.database().write(now).await.expect("stored");
            self.webhooks.inner.outbox.reconnect();
            self.webhooks.inner.outbox.serve(FAMILY, Arc::clone(&self.webhooks.inner) as Arc<dyn Receivers>);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Connections come to public channels of their own.
    fn churn(&self, channels: Range<usize>) {
        for number in channels.clone() {
            let channel = channel(&format!("junk-{number}"));
            self.see(&Observation::ChannelOccupied(&channel, connection(number / 50)));
        }
        for number in channels {
            self.see(&Observation::ChannelVacated(&channel(&format!("junk-{number}"))));
        }
    }
}

/// What a receiver believes is there after requests in this order, each once.
fn believed(requests: &[Got]) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    let mut there: HashMap<String, bool> = HashMap::new();
    for request in requests.iter().filter(|request| seen.insert(request.body.clone())) {
        let body: Value = serde_json::from_str(&request.body).expect("JSON");
        for event in body["events"].as_array().expect("a list") {
            let subject = format!("{} {}", event["channel"], event["user_id"]).replace('"', "");
            let comes = match event["name"].as_str().expect("a name") {
                "channel_occupied" | "member_added" => true,
                "channel_vacated" | "member_removed" => false,
                _ => continue,
            };
            let before = there.insert(subject.clone(), comes).unwrap_or(false);
            assert_ne!(before, comes, "{subject}: twice the same");
            let channel = format!("{} null", event["channel"]).replace('"', "");
            assert!(
                there.get(&channel) == Some(&true) || subject == channel,
                "{subject} without its channel"
            );
        }
    }
    let mut there: Vec<_> =
        there.into_iter().filter_map(|(subject, is_there)| is_there.then_some(subject)).collect();
    there.sort_unstable();
    there
}

#[tokio::test]
async fn strangers_push_nothing_out_of_what_waits_and_receivers_end_with_the_truth() {
    for is_batching in [false, true] {
        let folder = tempfile::tempdir().expect("a folder");
        let taken: Arc<std::sync::Mutex<Vec<Got>>> = Arc::default();
        let backend = Backend::start(|_| AWAY).await;
        let app = settings(&backend, |webhook| {
            webhook.max_waiting = ROOM;
            webhook.batch = is_batching;
            webhook.retry_for = Duration::from_secs(24 * 3_600);
        });
        let world = World::start(folder.path(), app.clone(), "one");
        let (room, prices) = (channel("presence-room"), channel("private-cache-prices"));
        world.see(&Observation::ChannelOccupied(&room, socket()));
        world.see(&Observation::MemberAdded(&room, &user("before")));
        world.settle().await;
        for round in 0..4 {
            world.churn(round * 300..round * 300 + 300);
            world.settle().await;
        }
        world.see(&Observation::MemberAdded(&room, &user("after")));
        world.see(&Observation::CacheMiss(&prices, socket()));
        // One that stays is told of in the end, although there is no room for it now.
        let stays = channel("stays");
        world.see(&Observation::ChannelOccupied(&stays, connection(1)));
        world.settle().await;
        // A crash in between, and they come back.
        world.kill().await;
        let world = World::start(folder.path(), app, "two");
        world.see(&Observation::ChannelOccupied(&room, socket()));
        for name in ["before", "after"] {
            world.see(&Observation::MemberAdded(&room, &user(name)));
        }
        world.see(&Observation::ChannelOccupied(&stays, connection(1)));
        world.settle().await;
        let standing = world.standing().await;
        if !is_batching {
            assert!(standing.waiting <= ROOM as i64 * 2, "{standing:?}");
            assert!(standing.dropped > 500, "{standing:?}");
        }
        let of_receiver = Arc::clone(&taken);
        backend.change(move |got| {
            of_receiver.lock().expect("not poisoned").push(got.clone());
            OK
        });
        world.drain().await;
        let taken = taken.lock().expect("not poisoned").clone();
        let there = believed(&taken);
        let expected = ["presence-room after", "presence-room before", "presence-room null", "stays null"];
        assert_eq!(there, expected, "batching: {is_batching}");
        assert!(taken.iter().any(|got| got.body.contains("cache_miss")), "another channel's event");
        world.kill().await;
    }
}

#[tokio::test]
async fn one_user_with_many_connections_and_one_busy_channel_leave_room_for_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let backend = Backend::start(|_| AWAY).await;
    let app = settings(&backend, |webhook| webhook.max_waiting = ROOM);
    let world = World::start(folder.path(), app, "one");
    let send = |channel: &ChannelName, number: usize, user: Option<&UserId>| {
        world.see(&Observation::ClientEvent(crate::hub::ClientEventSeen {
            channel,
            event: "client-x",
            data: "\"{}\"",
            socket_id: connection(number),
            user_id: user,
        }));
    };
    let (busy, quiet) = (channel("presence-busy"), channel("presence-quiet"));
    // The user comes with a new connection each time; then many connections without a user.
    (0..200).for_each(|number| send(&busy, number, Some(&user("7"))));
    world.settle().await;
    assert_eq!(world.standing().await.dropped, 196);
    (0..200).for_each(|number| send(&channel("private-busy"), number, None));
    world.settle().await;
    assert_eq!(world.standing().await.dropped, 356);
    send(&quiet, 1_000, Some(&user("8")));
    world.settle().await;
    assert_eq!(world.standing().await.dropped, 356, "another user's in another channel");
    world.kill().await;
}

#[tokio::test]
async fn a_channel_with_more_members_than_its_share_is_told_of_all_when_there_is_room() {
    let folder = tempfile::tempdir().expect("a folder");
    let taken: Arc<std::sync::Mutex<Vec<Got>>> = Arc::default();
    let backend = Backend::start(|_| AWAY).await;
    let app = settings(&backend, |webhook| webhook.max_waiting = ROOM);
    let world = World::start(folder.path(), app, "one");
    let room = channel("presence-room");
    world.see(&Observation::ChannelOccupied(&room, socket()));
    let members: Vec<UserId> = (0..300).map(|number| user(&format!("u{number:03}"))).collect();
    members.iter().for_each(|user| world.see(&Observation::MemberAdded(&room, user)));
    world.settle().await;
    // 39 beside the channel itself.
    let standing = world.standing().await;
    assert_eq!((standing.held_back, standing.dropped), (261, 0), "{standing:?}");
    // Half of them leave: of those that were not told of nothing is told.
    members.iter().step_by(2).for_each(|user| world.see(&Observation::MemberRemoved(&room, user)));
    world.settle().await;
    let standing = world.standing().await;
    assert_eq!((standing.held_back, standing.dropped), (131, 260), "{standing:?}");
    let of_receiver = Arc::clone(&taken);
    backend.change(move |got| {
        of_receiver.lock().expect("not poisoned").push(got.clone());
        OK
    });
    world.drain().await;
    let there = believed(&taken.lock().expect("not poisoned"));
    let mut expected: Vec<_> =
        (0..300).skip(1).step_by(2).map(|n| format!("presence-room u{n:03}")).collect();
    expected.insert(0, "presence-room null".to_owned());
    assert_eq!(there, expected);
    world.kill().await;
}

#[tokio::test]
async fn what_is_held_back_is_forgotten_if_nobody_wants_it_any_more_or_it_is_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    let backend = Backend::start(|_| AWAY).await;
    let of = |pattern: &str| {
        settings(&backend, |webhook| {
            webhook.max_waiting = ROOM;
            webhook.name = "main".to_owned();
            webhook.channels = vec![pattern.to_owned()];
        })
    };
    let world = World::start(folder.path(), of("p*"), "one");
    for number in 0..10 {
        let channel = channel(&format!("private-{number}"));
        world.see(&Observation::ChannelOccupied(&channel, connection(1)));
    }
    world.settle().await;
    assert_eq!(world.standing().await.held_back, 6);
    // On the hub of this test nobody is there, so all leave when the settings change; nothing is told of them.
    world.webhooks.configure(&[of("q*")]);
    while world.standing().await.held_back > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(world.standing().await.waiting, 6, "as many as had room, and two of the marker");
    world.kill().await;
}

/// The receiver is away for longer than a request is repeated.
#[tokio::test]
async fn what_was_given_up_is_not_undone_and_comes_once() {
    for is_batching in [false, true] {
        let folder = tempfile::tempdir().expect("a folder");
        let taken: Arc<std::sync::Mutex<Vec<Got>>> = Arc::default();
        let of_receiver = Arc::clone(&taken);
        let takes = move |got: &Got| {
            of_receiver.lock().expect("not poisoned").push(got.clone());
            OK
        };
        let backend = Backend::start(takes.clone()).await;
        let patience = |seconds| {
            settings(&backend, |webhook| {
                webhook.batch = is_batching;
                webhook.retry_for = Duration::from_secs(seconds);
            })
        };
        let world = World::start(folder.path(), patience(3_600), "one");
        let (kept, lost) = (channel("kept"), channel("lost"));
        world.see(&Observation::ChannelOccupied(&kept, socket()));
        world.settle().await;
        world.drain().await;
        // It hears neither that one came nor that the other is gone.
        backend.change(|_| AWAY);
        world.webhooks.configure(&[patience(0)]);
        world.see(&Observation::ChannelOccupied(&lost, socket()));
        world.see(&Observation::ChannelVacated(&kept));
        world.settle().await;
        while world.standing().await.waiting > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // The opposite of both makes no sense to it then.
        world.webhooks.configure(&[patience(3_600)]);
        backend.change(takes.clone());
        world.see(&Observation::ChannelVacated(&lost));
        world.see(&Observation::ChannelOccupied(&kept, socket()));
        world.settle().await;
        world.drain().await;
        let of = |taken: &[Got]| {
            taken
                .iter()
                .flat_map(|got| events(&got.body))
                .filter(|event| !event.contains("marker"))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            of(&taken.lock().expect("not poisoned")),
            ["channel_occupied kept"],
            "batching: {is_batching}"
        );
        // From here on both are told of as before.
        world.see(&Observation::ChannelOccupied(&lost, socket()));
        world.see(&Observation::ChannelVacated(&kept));
        world.settle().await;
        world.drain().await;
        assert_eq!(believed(&taken.lock().expect("not poisoned")), ["lost null"]);
        world.kill().await;
    }
}
