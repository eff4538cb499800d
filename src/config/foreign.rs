//! Settings of the servers this one replaces: what to write instead of them.

mod table;

use wildmatch::WildMatch;

/// What to do about a setting of another server.
#[derive(Clone, Copy, Debug)]
pub(super) enum Advice {
    /// A key of ours takes its place; what to know about its value, or nothing.
    Use(&'static str, &'static str),
    /// Nothing takes its place, and why.
    Needless(&'static str),
}

/// The advice about a key of a file, given by its path without indices (`apps.capacity`).
pub(super) fn key(path: &str) -> Option<Advice> {
    let path = squeezed(path);
    let fits = |name: &str| match name.strip_prefix('^') {
        Some(whole) => path == whole,
        None => path.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')),
    };
    let row = table::KEYS.iter().find(|(names, _)| names.iter().any(|name| fits(name)));
    // A key without advice of its own has that of its section.
    row.map(|(_, advice)| *advice).or_else(|| key(path.rsplit_once('.')?.0))
}

/// The advice about an environment variable.
pub(super) fn variable(name: &str) -> Option<Advice> {
    let fits = |pattern: &str| WildMatch::new(pattern).matches(name);
    let row = table::VARIABLES.iter().find(|(patterns, _)| patterns.iter().any(|pattern| fits(pattern)));
    row.map(|(_, advice)| *advice)
}

/// Lower case without `_` and `-`: `maxConnections` and `max_connections` are one name.
pub(super) fn squeezed(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '_' | '-')).map(|c| c.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::schema;
    use super::*;

    #[test]
    fn every_key_that_is_advised_exists() {
        for (names, advice) in table::KEYS.iter().chain(table::VARIABLES) {
            match advice {
                Advice::Use(key, _) => assert!(schema::key(key).is_some(), "{names:?}: {key}"),
                Advice::Needless(why) => assert!(!why.is_empty() && !why.ends_with('.'), "{names:?}"),
            }
        }
        for (names, _) in table::KEYS {
            assert!(names.iter().all(|name| squeezed(name) == **name), "{names:?}");
        }
    }

    #[test]
    fn keys_of_other_servers_are_found_however_they_are_spelt() {
        let ours = |path: &str| match key(path) {
            Some(Advice::Use(key, _)) => key,
            Some(Advice::Needless(_)) => "needless",
            None => "unknown",
        };
        for (path, expected) in [
            ("apps.enableClientMessages", "apps.client_events"),
            ("apps.enable_client_messages", "apps.client_events"),
            ("apps.capacity", "apps.max_connections"),
            ("apps.rate_limiting.max_attempts", "apps.client_event_rate"),
            ("apps.options.useTLS", "needless"),
            ("presence.maxMembersPerChannel", "apps.presence_members"),
            ("maxRequestSizeInKb", "apps.event_size"),
            ("app_id", "apps.id"),
            ("ssl", "needless"),
            ("ssl.certPath", "needless"),
            ("adapter.redis.prefix", "needless"),
            ("database.mysql.port", "needless"),
            ("server.bnid", "unknown"),
        ] {
            assert_eq!(ours(path), expected, "{path}");
        }
        assert!(matches!(variable("SOKETI_PORT"), Some(Advice::Use("server.port", ""))));
        assert!(matches!(variable("SOKETI_SSL_CERT"), Some(Advice::Needless(_))));
        // Understood, or for clients.
        for name in
            ["SOKETI_DEFAULT_APP_ID", "REVERB_APP_KEY", "REVERB_HOST", "REVERB_PORT", "PUSHER_APP_CLUSTER"]
        {
            assert!(variable(name).is_none(), "{name}");
        }
    }
}
