//! What must hold for names of files.

use hyper::header::{CONTENT_DISPOSITION, CONTENT_TYPE, HeaderMap, HeaderValue};

pub(crate) use super::download::fuzzing::download;
use super::names;

/// A name, an address and a header: what comes of it is one part of a path that reads as it is.
pub(crate) fn names(text: &str) {
    names::clean(text).iter().for_each(|name| good(name));
    names::of_url(text).iter().for_each(|name| good(name));
    let Ok(value) = HeaderValue::from_bytes(text.as_bytes()) else { return };
    for header in [CONTENT_DISPOSITION, CONTENT_TYPE] {
        names::of_headers(&HeaderMap::from_iter([(header, value.clone())]))
            .iter()
            .for_each(|name| good(name));
    }
}

fn good(name: &str) {
    assert!((1..=100).contains(&name.chars().count()), "{name:?}");
    assert!(!name.chars().any(|c| c.is_control() || matches!(c, '/' | '\\')), "{name:?}");
    assert!(name != "." && name != ".." && name.trim() == name, "{name:?}");
    assert_eq!(names::clean(name).as_deref(), Some(name));
    for content_type in ["image/jpeg", "application/octet-stream"] {
        let ended = names::with_ending(Some(name), content_type);
        assert!(ended.starts_with(name), "{ended:?}");
    }
}
