//! What must hold for any pattern of an origin.

use super::origin::matches;

/// A pattern and an origin in two lines: they match exactly if the stars of the pattern can stand for something.
pub(crate) fn origins(text: &str) {
    let (pattern, origin) = text.split_once('\n').unwrap_or((text, ""));
    // The longest that browsers and configurations have, and more.
    if pattern.len() > 300 || origin.len() > 300 {
        return;
    }
    let lower = |text: &str| text.to_ascii_lowercase().chars().collect::<Vec<_>>();
    assert_eq!(matches(pattern, origin), fits(&lower(pattern), &lower(origin)), "{pattern:?} {origin:?}");
    assert!(matches(pattern, &pattern.to_ascii_uppercase()));
}

/// As the documentation says it, without regard to speed.
fn fits(pattern: &[char], origin: &[char]) -> bool {
    // Which beginnings of the origin the pattern so far can stand for.
    let mut ends = vec![false; origin.len() + 1];
    ends[0] = true;
    for c in pattern {
        let mut next = vec![false; origin.len() + 1];
        for at in 0..=origin.len() {
            next[at] = match c {
                '*' => ends[at] || (at > 0 && next[at - 1]),
                c => at > 0 && ends[at - 1] && (*c == '?' || origin[at - 1] == *c),
            };
        }
        ends = next;
    }
    ends[origin.len()]
}
