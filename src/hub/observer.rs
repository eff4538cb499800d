//! What the hub tells other parts of this process: who came and went, what clients sent to each other.
//!
//! Nothing here lies on the way of a publication to its subscribers. Without observers, an edge costs one
//! look at an empty list.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::protocol::channel::ChannelName;
use crate::protocol::id::{SocketId, UserId};

/// Hears of what happens on this node; other nodes have observers of their own.
///
/// # Contract
/// Methods are called on the threads of the shards, some of them under the lock of the channel or user
/// they tell of: so two edges of one channel are told in their order, and an implementation that asks the
/// hub from within waits for itself. Look at the name, push into a bounded queue, return. What the queue
/// has no room for is lost unless the implementation looks for itself later: state is best read from
/// [`super::AppHub`], with these calls as hints when to look.
pub trait Observer: Send + Sync + 'static {
    /// The first subscriber of a channel came.
    fn channel_occupied(&self, app_id: &str, channel: &ChannelName) {
        let _ = (app_id, channel);
    }

    /// The last subscriber of a channel left. At once: a change of page is a vacated and an occupied.
    fn channel_vacated(&self, app_id: &str, channel: &ChannelName) {
        let _ = (app_id, channel);
    }

    /// A client's event was accepted and published to the other subscribers.
    fn client_event(&self, app_id: &str, event: &ClientEventSeen<'_>) {
        let _ = (app_id, event);
    }

    /// The first connection of a user signed in.
    fn user_came(&self, app_id: &str, user: &UserId) {
        let _ = (app_id, user);
    }

    /// The last signed-in connection of a user ended; without any grace.
    fn user_left(&self, app_id: &str, user: &UserId) {
        let _ = (app_id, user);
    }
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

    pub fn tell(&self, tell: impl Fn(&dyn Observer)) {
        self.0.load().iter().for_each(|observer| tell(&**observer));
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
        fn channel_occupied(&self, app_id: &str, channel: &ChannelName) {
            self.note(format!("{app_id} occupied {channel}"));
        }
        fn channel_vacated(&self, app_id: &str, channel: &ChannelName) {
            self.note(format!("{app_id} vacated {channel}"));
        }
        fn client_event(&self, app_id: &str, event: &ClientEventSeen<'_>) {
            let ClientEventSeen { channel, event, data, socket_id, user_id } = event;
            self.note(format!("{app_id} {event} {channel} {data} {socket_id} {user_id:?}"));
        }
        fn user_came(&self, app_id: &str, user: &UserId) {
            self.note(format!("{app_id} came {user}"));
        }
        fn user_left(&self, app_id: &str, user: &UserId) {
            self.note(format!("{app_id} left {user}"));
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
            assert_eq!(diary.take(), ["1001 came 7", "1001 occupied private-room"]);
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
            assert!(diary.take().is_empty());
            drop(second);
            while one.hub.connections() > 0 {
                yield_now().await;
            }
            assert_eq!(diary.take(), ["1001 vacated private-room", "1001 left 7"]);
        });
    }
}
