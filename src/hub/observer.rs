//! What the hub tells other parts of this process: who came and went, what clients sent to each other.
//!
//! Nothing here lies on the way of a publication to its subscribers. Without observers, an edge costs one
//! look at an empty list.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::protocol::channel::ChannelName;
use crate::protocol::id::{SocketId, UserId};

/// Hears of what happens on this node; other nodes have observers of their own.
///
/// # Contract
/// [`Observer::see`] is called on the threads of the shards, mostly under the lock of the channel or user it
/// tells of: so two edges of one channel are told in their order, and an implementation that asks the
/// hub from within waits for itself. Look at the name, push into a bounded queue, return. What the queue
/// has no room for is lost unless the implementation looks for itself later: state is best read from
/// [`super::AppHub`], with the calls as hints when to look.
pub trait Observer: Send + Sync + 'static {
    /// Something happened in an app.
    fn see(&self, app_id: &str, what: &Observation<'_>);
}

/// What an observer sees.
#[derive(Clone, Copy, Debug)]
pub enum Observation<'a> {
    /// A connection subscribed to a channel; told before what else that changed.
    Subscribed(&'a ChannelName),
    /// The first subscriber of a channel came: this connection.
    ChannelOccupied(&'a ChannelName, SocketId),
    /// The last subscriber of a channel left. At once: a change of page is a vacated and an occupied.
    ChannelVacated(&'a ChannelName),
    /// The first connection of a user joined a presence channel; told after its `ChannelOccupied`.
    MemberAdded(&'a ChannelName, &'a UserId),
    /// The last connection of a user left a presence channel, without any grace; told before its
    /// `ChannelVacated`.
    MemberRemoved(&'a ChannelName, &'a UserId),
    /// A connection subscribed to a cache channel that remembers nothing.
    CacheMiss(&'a ChannelName, SocketId),
    /// Subscribers were told how many they are; 0 when the last one left. With the connection that came, if it
    /// was told at once.
    SubscriptionCount(&'a ChannelName, u64, Option<SocketId>),
    /// A client's event was accepted and published to the other subscribers.
    ClientEvent(ClientEventSeen<'a>),
    /// The first connection of a user signed in.
    UserCame(&'a UserId),
    /// The last signed-in connection of a user ended; without any grace.
    UserLeft(&'a UserId),
    /// A connection was established.
    ConnectionOpened(SocketId),
    /// A connection ended, or its close handshake began.
    ConnectionClosed(ConnectionEnd<'a>),
}

/// How a connection ended.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionEnd<'a> {
    /// The connection.
    pub socket_id: SocketId,
    /// Who was signed in on it.
    pub user_id: Option<&'a UserId>,
    /// How long it was open.
    pub lasted: Duration,
    /// Of the first Close frame of either side; 1006: it broke off without one (RFC 6455, section 7.1.5).
    pub code: u16,
    /// Of the same frame.
    pub reason: &'a str,
}

/// An accepted client event.
#[derive(Clone, Copy, Debug)]
pub struct ClientEventSeen<'a> {
    /// Where it was sent.
    pub channel: &'a ChannelName,
    /// Its name, `client-` included.
    pub event: &'a str,
    /// What the others get as `data`: a quoted JSON string.
    pub data: &'a str,
    /// The connection that sent it.
    pub socket_id: SocketId,
    /// Its member, on presence channels.
    pub user_id: Option<&'a UserId>,
}

/// All observers of a hub. Cloning shares the list.
#[derive(Clone, Default)]
pub(super) struct Observers(Arc<ArcSwap<Vec<Arc<dyn Observer>>>>);

impl Observers {
    pub fn add(&self, observer: &Arc<dyn Observer>) {
        self.0.rcu(|known| known.iter().chain([observer]).cloned().collect::<Vec<_>>());
    }

    pub fn tell(&self, app_id: &str, what: &Observation<'_>) {
        self.0.load().iter().for_each(|observer| observer.see(app_id, what));
    }
}

impl std::fmt::Debug for Observers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Observers({})", self.0.load().len())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use serde_json::json;
    use tokio::task::yield_now;

    use super::*;
    use crate::config::ClientEvents;
    use crate::hub::testing::{self, OneShard};

    #[derive(Default)]
    struct Diary(Mutex<Vec<String>>);

    impl Diary {
        fn note(&self, line: String) {
            self.0.lock().expect("no panic").push(line);
        }

        fn take(&self) -> Vec<String> {
            std::mem::take(&mut self.0.lock().expect("no panic"))
        }
    }

    impl Observer for Diary {
        fn see(&self, app_id: &str, what: &Observation<'_>) {
            let line = match what {
                Observation::Subscribed(channel) => format!("one more in {channel}"),
                Observation::ChannelOccupied(channel, _) => format!("occupied {channel}"),
                Observation::ChannelVacated(channel) => format!("vacated {channel}"),
                Observation::MemberAdded(channel, user) => format!("added {user} to {channel}"),
                Observation::MemberRemoved(channel, user) => format!("removed {user} from {channel}"),
                Observation::CacheMiss(channel, _) => format!("missed {channel}"),
                Observation::SubscriptionCount(channel, count, _) => format!("{count} in {channel}"),
                Observation::ClientEvent(event) => {
                    let ClientEventSeen { channel, event, data, socket_id, user_id } = event;
                    format!("{event} {channel} {data} {socket_id} {user_id:?}")
                }
                Observation::UserCame(user) => format!("came {user}"),
                Observation::UserLeft(user) => format!("left {user}"),
                Observation::ConnectionOpened(_) => "opened".to_owned(),
                Observation::ConnectionClosed(end) => {
                    format!("closed {:?} {} {}", end.user_id.map(UserId::as_str), end.code, end.reason)
                }
            };
            self.note(format!("{app_id} {line}"));
        }
    }

    #[test]
    fn firsts_and_lasts_and_accepted_client_events_are_told() {
        testing::run(async {
            let mut app = testing::app();
            app.client_events = ClientEvents::Members;
            let one = OneShard::new(app);
            let diary = Arc::new(Diary::default());
            one.hub.observe(&(Arc::clone(&diary) as Arc<dyn Observer>));
            let (mut first, mut second) = (one.connect().await, one.connect().await);
            for client in [&mut first, &mut second] {
                client.sign_in("7").await;
                assert_eq!(client.names(1).await, ["pusher:signin_success"]);
                client.subscribe("private-room").await;
            }
            let joined = "1001 one more in private-room";
            let came =
                ["1001 opened", "1001 opened", "1001 came 7", joined, "1001 occupied private-room", joined];
            assert_eq!(diary.take(), came);
            first.client_event("private-room", "client-typing", json!({"typing": true})).await;
            first.client_event("private-other", "client-typing", json!({})).await;
            assert_eq!(second.names(1).await, ["client-typing private-room"]);
            assert_eq!(first.names_until_now().await, ["pusher:error"]);
            let event = format!(r#"1001 client-typing private-room "{{\"typing\":true}}" {} None"#, first.id);
            assert_eq!(diary.take(), [event]);
            drop(first);
            while one.hub.connections() > 1 {
                yield_now().await;
            }
            assert_eq!(diary.take(), ["1001 closed Some(\"7\") 1006 "]);
            drop(second);
            while one.hub.connections() > 0 {
                yield_now().await;
            }
            let left = ["1001 closed Some(\"7\") 1006 ", "1001 vacated private-room", "1001 left 7"];
            assert_eq!(diary.take(), left);
        });
    }
}
