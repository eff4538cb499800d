//! Kinds with rules of their own: path prefixes, origins, log filters, close codes.

use serde_json::Value;
use tracing_subscriber::EnvFilter;

use super::kind::{Kind, text_kind};
use super::raw::Raw;

text_kind!(PathPrefix, "path", path_prefix);
text_kind!(LogLevel, "level or filter", log_level);

fn path_prefix(text: &str) -> Result<String, String> {
    let inner = text.trim_matches('/');
    if inner.is_empty() {
        return Ok(String::new());
    }
    let segment_is_plain = |segment: &str| {
        !segment.is_empty() && segment.chars().all(|c| c.is_ascii_alphanumeric() || "-_.~".contains(c))
    };
    if !inner.split('/').all(segment_is_plain) {
        return Err(format!("{text:?} is not a path such as \"/ws\" (letters, digits, - _ . ~)"));
    }
    // "/app" before "/app/…" could not be told from the path it is put before.
    if matches!(inner.split('/').next(), Some("app" | "apps")) {
        return Err(format!(
            "{text:?} would hide the server's own paths /app and /apps: begin it with another word, as in \"/ws\""
        ));
    }
    Ok(format!("/{inner}"))
}

fn log_level(text: &str) -> Result<String, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    // EnvFilter takes any single word for a module name, so "inof" would switch all logs off.
    let is_level = |part: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(part));
    let parts_are_clear = text.split(',').map(str::trim).all(|part| is_level(part) || part.contains('='));
    // EnvFilter 0.3 panics on some text outside ASCII, such as " ¹=".
    if text.is_ascii() && parts_are_clear && EnvFilter::try_new(text).is_ok() {
        return Ok(text.to_owned());
    }
    Err(format!(
        "{text:?} is neither error, warn, info, debug, trace nor a filter such as \"info,switchboard::api=debug\""
    ))
}

/// Close codes of a drain that let clients come back.
pub(super) struct CloseCode;

impl Kind for CloseCode {
    type Value = u16;

    fn describe() -> String {
        "`4200` or `4100`".to_owned()
    }

    fn parse(raw: &Raw) -> Result<u16, String> {
        match raw.integer()? {
            4200 => Ok(4200),
            4100 => Ok(4100),
            other => Err(format!("must be 4200 (reconnect at once) or 4100 (after a second), not {other}")),
        }
    }

    fn show(value: &u16) -> Value {
        (*value).into()
    }
}

/// Patterns for the `Origin` header.
pub(super) struct Origins;

impl Kind for Origins {
    type Value = Vec<String>;

    fn describe() -> String {
        "list of origins".to_owned()
    }

    fn parse(raw: &Raw) -> Result<Vec<String>, String> {
        raw.list()?.iter().map(|item| origin(item.text()?)).collect()
    }

    fn show(value: &Vec<String>) -> Value {
        value.iter().map(String::as_str).collect()
    }
}

/// Browsers send scheme, host and a port other than the scheme's own, in lower case, nothing else
/// (RFC 6454, section 6.2); a pattern of another shape could never match.
fn origin(text: &str) -> Result<String, String> {
    if text == "*" {
        return Err("\"*\" is not needed: leave the list empty, as in [], to allow every origin".to_owned());
    }
    // Pages without an origin of their own: sandboxed frames and pages from files; Chromium's WebSockets and
    // Electron say `file://` for the latter.
    if matches!(text, "null" | "file://") {
        return Ok(text.to_owned());
    }
    let shape = || {
        let meant = meant_origin(text).map_or(String::new(), |meant| format!("; write {meant:?}"));
        format!("{text:?} does not look like scheme://host or scheme://host:port (* allowed), or null{meant}")
    };
    let (scheme, rest) = text.split_once("://").ok_or_else(shape)?;
    // A colon inside brackets belongs to an IPv6 address.
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (rest, None),
    };
    let scheme_is_plain = scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.*".contains(c));
    let bare_host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host_is_plain = match bare_host {
        Some(address) => address.chars().all(|c| c.is_ascii_hexdigit() || ":.*".contains(c)),
        None => host.chars().all(|c| c.is_ascii_alphanumeric() || "-._*".contains(c)),
    };
    let port_is_plain = port.is_none_or(|port| port == "*" || port.parse::<u16>().is_ok());
    if scheme.is_empty() || host.is_empty() || !scheme_is_plain || !host_is_plain || !port_is_plain {
        return Err(shape());
    }
    if text.chars().any(|c| c.is_ascii_uppercase()) {
        return Err(format!(
            "{text:?} must be in lower case, as browsers send it: {:?}",
            text.to_lowercase()
        ));
    }
    if matches!((scheme, port), ("http", Some("80")) | ("https", Some("443"))) {
        let meant = text.rsplit_once(':').map_or(text, |(origin, _)| origin);
        return Err(format!("{text:?} must be without its port, as browsers send it: {meant:?}"));
    }
    Ok(text.to_owned())
}

/// What a host without a scheme, or an address with a path, means.
fn meant_origin(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let is_local = host.starts_with("localhost") || host.starts_with("127.") || host.starts_with("[::1]");
    let scheme = match scheme {
        "" if is_local => "http",
        "" | "wss" => "https",
        "ws" => "http",
        other => other,
    };
    let meant = format!("{scheme}://{host}").to_ascii_lowercase();
    let is_whole = meant != text && (host.contains(['.', ':', '*']) || is_local);
    (is_whole && origin(&meant).is_ok()).then_some(meant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_prefixes_are_normalised() {
        for (given, kept) in [("", ""), ("/", ""), ("ws", "/ws"), ("/ws/", "/ws"), ("/a/b", "/a/b")] {
            assert_eq!(path_prefix(given), Ok(kept.to_owned()), "{given}");
        }
        for bad in ["/a//b", "/a b", "/a?b", "/app", "apps/x"] {
            assert!(path_prefix(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn origins_look_like_what_browsers_send() {
        for good in [
            "https://portal.example",
            "http://localhost:5173",
            "https://*.portal.example",
            "http://127.0.0.1:*",
            "http://[::1]:5173",
            "http://[::1]",
            "capacitor://localhost",
            "ionic://localhost",
            "tauri://localhost",
            "http://tauri.localhost",
            "http://localhost",
            "app://.",
            "app://obsidian.md",
            "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
            "moz-extension://0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0",
            "vscode-webview://*",
            "file://",
            "null",
            "*://portal.example",
        ] {
            assert_eq!(origin(good), Ok(good.to_owned()));
        }
        for (bad, why) in [
            ("*", "leave the list empty"),
            ("portal.example", "scheme://host"),
            ("https://", "scheme://host"),
            ("https://portal.example/", "scheme://host"),
            ("https://portal.example/path", "scheme://host"),
            ("https://a b", "scheme://host"),
            ("https://portal.example:http", "scheme://host"),
            ("https://portal.example:70000", "scheme://host"),
            ("Null", "scheme://host"),
            ("file:///", "scheme://host"),
            ("file:///index.html", "scheme://host"),
            ("chrome-extension://", "scheme://host"),
            ("https://Portal.example", "lower case"),
            ("https://portal.example:443", "without its port"),
        ] {
            let message = origin(bad).expect_err(bad);
            assert!(message.contains(why), "{bad}: {message}");
        }
    }

    #[test]
    fn a_refused_origin_names_the_right_one() {
        for (wrong, right) in [
            ("portal.example", "https://portal.example"),
            ("localhost:5173", "http://localhost:5173"),
            ("*.portal.example", "https://*.portal.example"),
            ("https://portal.example/", "https://portal.example"),
            ("https://portal.example/path?x", "https://portal.example"),
            ("wss://portal.example/", "https://portal.example"),
            ("https://Portal.example", "https://portal.example"),
            ("https://portal.example:443", "https://portal.example"),
        ] {
            let message = origin(wrong).expect_err(wrong);
            assert!(message.ends_with(&format!("{right:?}")), "{message}");
        }
        assert!(!origin("nothing at all").expect_err("no host").contains("; write"));
    }

    #[test]
    fn close_codes_let_clients_come_back() {
        assert_eq!(CloseCode::parse(&Raw::Integer(4200)), Ok(4200));
        assert_eq!(CloseCode::parse(&Raw::Integer(4100)), Ok(4100));
        for wrong in [4000, 4101, 4202, 1001, -1] {
            assert!(CloseCode::parse(&Raw::Integer(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn log_levels_and_filters() {
        for good in ["info", "WARN", "info,switchboard::api=debug", "switchboard=trace", "off"] {
            assert_eq!(log_level(good), Ok(good.to_owned()));
        }
        for bad in ["", "inof", "info,,debug", "a=b=c", "switchboard=loud", " ¹="] {
            assert!(log_level(bad).is_err(), "{bad}");
        }
    }
}
