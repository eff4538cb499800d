//! Each message's own webhook URL, `<public_url>/carriers/telnyx/<app>/<token>`.
//!
//! The carrier repeats it inside the signed body of its webhooks, so the token tells which attempt a message
//! id belongs to even when the answer to that attempt was lost. The request path shows it too, but is not
//! signed: take the token from the body.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The URL for an attempt. `public_url` is this server's, with or without a slash at the end.
pub fn webhook_url(public_url: &str, app_id: &str, token: &str) -> String {
    let (base, app) = (public_url.trim_end_matches('/'), utf8_percent_encode(app_id, SEGMENT));
    format!("{base}/carriers/telnyx/{app}/{token}")
}

/// The token in a URL made by [`webhook_url`] for this app; `None` for any other URL.
pub fn token_of<'a>(webhook_url: &'a str, app_id: &str) -> Option<&'a str> {
    let path = webhook_url.split(['?', '#']).next()?;
    let (rest, token) = path.rsplit_once('/')?;
    let (rest, app) = rest.rsplit_once('/')?;
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let fits = rest.ends_with("/carriers/telnyx")
        && percent_decode_str(app).decode_utf8().is_ok_and(|app| app == app_id)
        && (1..=255).contains(&token.len())
        && token.bytes().all(is_token);
    fits.then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for app in ["1001", "my app/ü", "a%2Fb"] {
            for public in ["https://h.example", "https://h.example/ws/"] {
                let url = webhook_url(public, app, "tok_en-1");
                assert_eq!(token_of(&url, app), Some("tok_en-1"), "{url}");
                assert_eq!(token_of(&url, "other"), None, "{url}");
            }
        }
        assert_eq!(webhook_url("https://h/", "1 2", "t"), "https://h/carriers/telnyx/1%202/t");
    }

    #[test]
    fn other_urls_have_no_token() {
        let cases = [
            ("https://h/carriers/telnyx/1001/abc?x=/y#/z", Some("abc")),
            ("https://h/carriers/telnyx/1001/", None),
            ("https://h/carriers/telnyx/1001", None),
            ("https://h/carriers/other/1001/abc", None),
            ("https://h/telnyx/1001/abc", None),
            ("https://h/carriers/telnyx/1001/a%20b", None),
            ("", None),
            ("abc", None),
        ];
        for (url, token) in cases {
            assert_eq!(token_of(url, "1001"), token, "{url}");
        }
    }
}
