//! The server is killed again and again while clients come and go and the receiver misbehaves.

use std::collections::HashMap;
use std::time::Duration;

use super::Hooks;
use crate::harness::portal::{Received, Reply};
use crate::harness::ws::WsClient;

/// Channels of the test.
const CHANNELS: u32 = 12;
/// Ends of the server.
const ENDS: usize = 6;

/// What the receiver believes: for each channel whether it is occupied.
#[derive(Default)]
struct Belief {
    /// Events of each channel in the order in which they came first; repeats of a request left out.
    told: HashMap<String, Vec<String>>,
    seen: std::collections::HashSet<Vec<u8>>,
}

impl Belief {
    fn hear(&mut self, request: &Received) {
        // At least once: a repeat has the same bytes.
        if !self.seen.insert(request.body.clone()) {
            return;
        }
        for event in request.events() {
            let text = |name: &str| event[name].as_str().expect("text").to_owned();
            self.told.entry(text("channel")).or_default().push(text("name"));
        }
    }

    fn is_occupied(&self, channel: &str) -> bool {
        let last = self.told.get(channel).and_then(|events| events.last());
        last.is_some_and(|event| event == "channel_occupied")
    }
}

#[tokio::test]
async fn kills_and_faults_lose_nothing_and_leave_the_receiver_with_the_truth() {
    let seed = std::env::var("SWITCHBOARD_CRASH_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    eprintln!("SWITCHBOARD_CRASH_SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut hooks = Hooks::start("webhook_delay = \"200ms\"", "timeout = \"500ms\"").await;
    let mut belief = Belief::default();
    let mut present: HashMap<String, WsClient> = HashMap::new();
    for end in 0..ENDS {
        for _ in 0..30 {
            let channel = format!("room-{}", rng.u32(..CHANNELS));
            match present.remove(&channel) {
                Some(client) if rng.bool() => client.close().await,
                Some(client) => client.reset(),
                None => {
                    let mut client = WsClient::connect(hooks.server()).await;
                    client.subscribe(&channel).await;
                    present.insert(channel, client);
                }
            }
            if rng.u8(..6) == 0 {
                hooks.portal.answers_next(match rng.u8(..4) {
                    0 => Reply::Hang,
                    1 => Reply::Close,
                    2 => Reply::Status(500, String::new()),
                    _ => Reply::Status(404, String::new()),
                });
            }
        }
        if end + 1 < ENDS {
            hooks.revive();
            // Some come back, some do not.
            let channels: Vec<String> = std::mem::take(&mut present).into_keys().collect();
            for channel in channels.into_iter().filter(|_| rng.bool()) {
                let mut client = WsClient::connect(hooks.server()).await;
                client.subscribe(&channel).await;
                present.insert(channel, client);
            }
        }
    }
    hooks.portal.answers_from_now_on();
    let rooms: Vec<String> = (0..CHANNELS).map(|room| format!("room-{room}")).collect();
    let truth =
        |belief: &Belief| rooms.iter().all(|room| belief.is_occupied(room) == present.contains_key(room));
    while !truth(&belief) {
        belief.hear(&hooks.portal.next_within(Duration::from_secs(60)).await);
    }
    // And stays: after the longest time in which something could still be told to be gone.
    let mut marker = WsClient::connect(hooks.server()).await;
    marker.subscribe("marker").await;
    marker.unsubscribe("marker").await;
    while belief.told.get("marker").map_or(0, Vec::len) < 2 {
        belief.hear(&hooks.portal.next_within(Duration::from_secs(60)).await);
    }
    assert!(truth(&belief), "{:?}", belief.told);
    for (channel, events) in &belief.told {
        for (n, event) in events.iter().enumerate() {
            let expected = if n % 2 == 0 { "channel_occupied" } else { "channel_vacated" };
            assert_eq!(event, expected, "{channel}: {events:?}");
        }
    }
    let listed = hooks.server().output().matches("was given up").count();
    assert_eq!(listed, 0, "nothing was given up");
}
