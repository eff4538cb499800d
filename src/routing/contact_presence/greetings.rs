//! How often a conversation that is opened gets the state of its contact.
//!
//! The state goes to everybody who has the conversation open. Whoever opens and closes it all the time must not have
//! the others sent it each time: the first one goes at once, the next one a second later, for all who came meanwhile.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::protocol::channel::ChannelName;

/// Time between two greetings on one channel.
const PAUSE: Duration = Duration::from_secs(1);

/// A channel of an app, by the app's id.
pub type Place = (Arc<str>, ChannelName);

/// When channels were greeted last, and which are to be greeted again.
#[derive(Debug, Default)]
pub struct Greetings {
    greeted: HashMap<Place, Instant>,
    due: HashSet<Place>,
}

impl Greetings {
    /// Those of the opened channels that are greeted now; the others are due later.
    pub fn admit(&mut self, opened: impl IntoIterator<Item = Place>, now: Instant) -> Vec<Place> {
        let mut admitted = Vec::new();
        for place in opened {
            if self.greeted.get(&place).is_some_and(|at| is_recent(*at, now)) {
                self.due.insert(place);
            } else {
                self.greeted.insert(place.clone(), now);
                admitted.push(place);
            }
        }
        admitted
    }

    /// Those that are due and are greeted now. To be called several times a second.
    pub fn take_due(&mut self, now: Instant) -> Vec<Place> {
        self.greeted.retain(|_, at| is_recent(*at, now));
        let due: Vec<_> = self.due.extract_if(|place| !self.greeted.contains_key(place)).collect();
        self.greeted.extend(due.iter().map(|place| (place.clone(), now)));
        due
    }
}

fn is_recent(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) < PAUSE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_greeted_once_a_second_however_often_it_is_opened() {
        let (mut greetings, start) = (Greetings::default(), Instant::now());
        let place = |name| (Arc::from("1001"), ChannelName::parse(name).expect("valid"));
        let (one, other) = (place("messenger.1"), place("messenger.2"));
        assert_eq!(greetings.admit([one.clone()], start), std::slice::from_ref(&one));
        for _ in 0..100 {
            assert_eq!(greetings.admit([one.clone()], start), []);
        }
        assert_eq!(greetings.admit([other.clone()], start), [other], "others do not wait");
        assert_eq!(greetings.take_due(start + PAUSE / 2), []);
        assert_eq!(greetings.take_due(start + PAUSE), std::slice::from_ref(&one));
        assert_eq!(greetings.admit([one.clone()], start + PAUSE), []);
        assert_eq!(greetings.take_due(start + PAUSE * 2), [one]);
        assert_eq!(greetings.take_due(start + PAUSE * 4), []);
        assert!(greetings.greeted.is_empty() && greetings.due.is_empty());
    }
}
