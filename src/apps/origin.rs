//! Which web pages may connect.

use wildmatch::WildMatch;

/// Whether `origin` fits `pattern`, where `*` stands for any run of characters. Scheme and host are
/// compared without regard to case.
pub fn matches(pattern: &str, origin: &str) -> bool {
    WildMatch::new(&pattern.to_ascii_lowercase()).matches(&origin.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_origins() {
        for (pattern, origin, fits) in [
            ("https://portal.example", "https://portal.example", true),
            ("https://portal.example", "https://PORTAL.example", true),
            ("https://portal.example", "http://portal.example", false),
            ("https://portal.example", "https://portal.example.evil", false),
            ("https://portal.example", "https://portal.example:8443", false),
            ("https://*.portal.example", "https://a.b.portal.example", true),
            ("https://*.portal.example", "https://portal.example", false),
            ("http://localhost:*", "http://localhost:5173", true),
            ("null", "null", true),
            ("https://*", "null", false),
            ("*://*", "null", false),
            ("null", "https://null", false),
            ("app://.", "app://.", true),
            ("app://.", "app://x", false),
            ("https://a*b*c", "https://a-b-c", true),
            ("https://a*b*c", "https://a-c-b", false),
        ] {
            assert_eq!(matches(pattern, origin), fits, "{pattern} {origin}");
        }
    }
}
