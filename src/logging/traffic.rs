//! Lines about single connections, subscriptions, events and requests: all at `debug`, under one target, so
//! that one directive (`switchboard::traffic=debug`) switches them on alone.
//!
//! The macros of `tracing` look at the level before they evaluate a field, so a line that is off costs one
//! load and one comparison. What costs more than passing a reference (a count, a copy) asks [`is_on`] first.

use std::borrow::Cow;

use tracing::Level;

/// The target of these lines.
pub const TARGET: &str = "switchboard::traffic";
/// Characters of a name (channel, event, user, key, address) that a line shows.
const NAME: usize = 80;
/// Characters of a sentence that a line shows.
const SENTENCE: usize = 240;
/// Channels of one event that a line names.
const CHANNELS: usize = 3;

/// Whether the lines are written.
pub fn is_on() -> bool {
    tracing::enabled!(target: TARGET, Level::DEBUG)
}

/// A name from outside, cut. The log's formats escape it.
pub fn name(text: &str) -> Cow<'_, str> {
    cut(text, NAME)
}

/// A sentence that may repeat something from outside, cut.
pub fn sentence(text: &str) -> Cow<'_, str> {
    cut(text, SENTENCE)
}

/// The channels of one event: the first three, and how many more there are.
pub fn channels<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = names.len().saturating_sub(CHANNELS);
    let shown: Vec<_> = names.take(CHANNELS).map(name).collect();
    let list = shown.join(",");
    if more == 0 { list } else { format!("{list} and {more} more") }
}

fn cut(text: &str, most: usize) -> Cow<'_, str> {
    match text.char_indices().nth(most) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_cut_between_characters() {
        assert_eq!(name("news"), "news");
        assert_eq!(name(&"ü".repeat(80)), "ü".repeat(80));
        assert_eq!(name(&"ü".repeat(81)), format!("{}…", "ü".repeat(80)));
        assert_eq!(sentence(&"a".repeat(1000)).chars().count(), SENTENCE + 1);
    }

    #[test]
    fn of_many_channels_the_first_are_named() {
        assert_eq!(channels(["a", "b", "c"].into_iter()), "a,b,c");
        assert_eq!(channels(["a", "b", "c", "d", "e"].into_iter()), "a,b,c and 2 more");
    }
}
