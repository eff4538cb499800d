//! Who is online: connected, or gone for less than the grace.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A user of an app.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Person {
    /// The app's id.
    pub app: Arc<str>,
    /// The portal's id of the user.
    pub user: Arc<str>,
}

impl Person {
    /// A user of an app.
    pub fn new(app: &str, user: &str) -> Self {
        Self { app: app.into(), user: user.into() }
    }
}

/// What a look at somebody found new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// Online now, offline before.
    Came,
    /// Not connected any more; online until the grace is over.
    Leaving,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Connected,
    Leaving { due: Instant, since: i64 },
}

/// Everybody who is online.
#[derive(Debug, Default)]
pub struct Online {
    people: HashMap<Person, State>,
    leaving: BTreeSet<(Instant, Person)>,
}

impl Online {
    /// Takes in whether somebody is connected. `wall` is now in microseconds since 1970.
    pub fn look(
        &mut self,
        person: &Person,
        is_connected: bool,
        grace: Duration,
        now: Instant,
        wall: i64,
    ) -> Option<Edge> {
        match (self.people.get(person).copied(), is_connected) {
            (None, true) => {
                self.people.insert(person.clone(), State::Connected);
                Some(Edge::Came)
            }
            (Some(State::Leaving { due, .. }), true) => {
                self.leaving.remove(&(due, person.clone()));
                self.people.insert(person.clone(), State::Connected);
                None
            }
            (Some(State::Connected), false) => {
                let due = now + grace;
                self.leaving.insert((due, person.clone()));
                self.people.insert(person.clone(), State::Leaving { due, since: wall });
                Some(Edge::Leaving)
            }
            _ => None,
        }
    }

    /// Those whose grace is over, and when they left. They are asked for once more: who is connected after
    /// all stays online.
    pub fn gone(&mut self, now: Instant, is_connected: impl Fn(&Person) -> bool) -> Vec<(Person, i64)> {
        let mut gone = Vec::new();
        while self.leaving.first().is_some_and(|(due, _)| *due <= now) {
            let Some((_, person)) = self.leaving.pop_first() else { break };
            if is_connected(&person) {
                self.people.insert(person, State::Connected);
            } else if let Some(State::Leaving { since, .. }) = self.people.remove(&person) {
                gone.push((person, since));
            }
        }
        gone
    }

    /// Whether somebody counts as online.
    pub fn is_online(&self, person: &Person) -> bool {
        self.people.contains_key(person)
    }

    /// Everybody who counts as online.
    pub fn people(&self) -> impl Iterator<Item = &Person> {
        self.people.keys()
    }

    /// Nobody asks for this person any more.
    pub fn forget(&mut self, person: &Person) {
        if let Some(State::Leaving { due, .. }) = self.people.remove(person) {
            self.leaving.remove(&(due, person.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(10);

    #[test]
    fn a_change_of_page_is_no_edge_and_the_end_comes_after_the_grace() {
        let (mut online, ann, start) = (Online::default(), Person::new("1001", "7"), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(online.look(&ann, false, GRACE, at(0), 0), None, "never seen");
        assert_eq!(online.look(&ann, true, GRACE, at(0), 1), Some(Edge::Came));
        assert_eq!(online.look(&ann, true, GRACE, at(1), 2), None, "a second tab");
        assert_eq!(online.look(&ann, false, GRACE, at(2), 3), Some(Edge::Leaving));
        assert_eq!(online.look(&ann, true, GRACE, at(5), 4), None);
        assert!(online.gone(at(60), |_| false).is_empty(), "back within the grace");
        assert_eq!(online.look(&ann, false, GRACE, at(60), 5), Some(Edge::Leaving));
        assert_eq!(online.look(&ann, false, GRACE, at(61), 6), None);
        assert!(online.gone(at(69), |_| false).is_empty());
        assert!(online.is_online(&ann));
        assert_eq!(online.gone(at(70), |_| false), [(ann.clone(), 5)]);
        assert!(!online.is_online(&ann) && online.leaving.is_empty());
    }

    #[test]
    fn who_is_connected_when_the_grace_ends_stays_although_nobody_said_so() {
        let (mut online, ann, start) = (Online::default(), Person::new("1001", "7"), Instant::now());
        online.look(&ann, true, GRACE, start, 1);
        online.look(&ann, false, GRACE, start, 2);
        assert!(online.gone(start + GRACE, |_| true).is_empty());
        assert!(online.is_online(&ann));
        online.look(&ann, false, GRACE, start, 3);
        online.forget(&ann);
        assert!(online.people().next().is_none() && online.leaving.is_empty());
    }
}
