//! Room for a few bodies of strangers at a time: the newest has it, whoever takes longest gives it up.

use std::cell::RefCell;
use std::collections::VecDeque;

use tokio::sync::oneshot;

/// The places of one shard.
pub struct Places {
    most: usize,
    taken: RefCell<VecDeque<oneshot::Sender<()>>>,
}

/// One of them, until it is dropped or needed for another.
pub struct Place(oneshot::Receiver<()>);

impl Places {
    /// So many places.
    pub fn new(most: usize) -> Self {
        Self { most, taken: RefCell::default() }
    }

    /// Takes one; if there is none left, from whoever has had one longest.
    pub fn take(&self) -> Place {
        let mut taken = self.taken.borrow_mut();
        taken.retain(|place| !place.is_closed());
        if taken.len() >= self.most {
            // Dropping it tells the holder.
            taken.pop_front();
        }
        let (given, place) = oneshot::channel();
        taken.push_back(given);
        Place(place)
    }
}

impl Place {
    /// The outcome of `work`, unless the place is needed for another before that is done.
    pub async fn hold<T>(self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            outcome = work => Some(outcome),
            _ = self.0 => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn whoever_takes_longest_gives_up_its_place() {
        let places = Places::new(2);
        let mut first = Box::pin(places.take().hold(pending::<()>()));
        let mut second = Box::pin(places.take().hold(pending::<()>()));
        assert_eq!(first.as_mut().now_or_never(), None);
        for _ in 0..10 {
            assert_eq!(places.take().hold(ready(7)).now_or_never(), Some(Some(7)), "it is done at once");
        }
        assert_eq!(first.now_or_never(), Some(None));
        // Those that were done gave their places back.
        assert_eq!(second.as_mut().now_or_never(), None);
        assert_eq!(places.taken.borrow().len(), 2);
    }
}
