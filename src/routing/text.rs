//! What a message may say: length of texts, and addresses of media.
//!
//! Where the carrier may judge otherwise than we, the carrier judges: a text is refused only if no encoding lets it
//! through.

use hyper::Uri;

use super::error::{Code, RoutingError};
use super::sms::{self, Encoding, Measure, Towards};

/// Most parts of an SMS.
///
/// Source: Telnyx, "Message length": ten parts.
pub const MAX_PARTS: u32 = 10;

/// Most characters of an internal message.
pub const MAX_INTERNAL_CHARACTERS: usize = 10_000;

/// Most media of a message.
pub const MAX_MEDIA: usize = 10;

/// Most characters of a medium's address.
pub const MAX_MEDIA_URL_CHARACTERS: usize = 2_000;

/// The way that a text goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To a portal user.
    Internal,
    /// Through the carrier, in parts.
    Sms(Towards),
    /// Through the carrier, as one document in UTF-8.
    Mms,
}

impl Way {
    /// That of a message to this number.
    pub fn of(is_internal: bool, is_mms: bool, to: &str) -> Self {
        match (is_internal, is_mms) {
            (true, _) => Self::Internal,
            (false, true) => Self::Mms,
            (false, false) => Self::Sms(Towards::of(to)),
        }
    }
}

/// Why a text is refused; meant for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// U+0000 inside.
    #[error("The text contains a NUL character: remove it")]
    Nul,
    /// Characters of an internal message, more than [`MAX_INTERNAL_CHARACTERS`].
    #[error("The text is too long: {0} characters, at most {MAX_INTERNAL_CHARACTERS} are allowed")]
    TooLong(usize),
    /// An external message of more than [`MAX_PARTS`].
    #[error(
        "The text is too long for an SMS: at least {parts} parts as {}, at most {MAX_PARTS} are allowed",
        .encoding.as_str()
    )]
    TooManyParts {
        /// What it would need in the shortest form that the carrier may give it.
        parts: u32,
        /// How it would be written then.
        encoding: Encoding,
    },
}

impl TextError {
    /// As a refusal of a request.
    pub fn at(self, field: &'static str) -> RoutingError {
        let code = if self == Self::Nul { Code::InvalidField } else { Code::TooLong };
        RoutingError::new(code, self.to_string()).at(field)
    }
}

/// Why media are refused; meant for the client. Positions count from 1; addresses are not repeated, as
/// they may be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MediaError {
    /// More than [`MAX_MEDIA`].
    #[error("Too many media: {0}, at most {MAX_MEDIA} are allowed")]
    TooMany(usize),
    /// An address of more than [`MAX_MEDIA_URL_CHARACTERS`].
    #[error("Media URL {0} is too long: at most {MAX_MEDIA_URL_CHARACTERS} characters are allowed")]
    TooLong(usize),
    /// Not an absolute `http` or `https` URL with a host, or not properly escaped.
    #[error(
        "Media URL {0} is invalid: send an absolute http or https URL with a host, spaces and special characters percent-encoded"
    )]
    Invalid(usize),
}

/// Checks a text's characters and length. Emptiness is not judged: with media it is fine.
///
/// # Errors
/// [`TextError`], whose text is meant for the client.
pub fn check_text(text: &str, way: Way) -> Result<(), TextError> {
    if text.contains('\0') {
        return Err(TextError::Nul);
    }
    match way {
        Way::Internal => {
            let count = text.chars().count();
            if count > MAX_INTERNAL_CHARACTERS { Err(TextError::TooLong(count)) } else { Ok(()) }
        }
        Way::Sms(towards) => {
            let Measure { encoding, parts } = sms::fewest_parts(text, towards);
            if parts > MAX_PARTS { Err(TextError::TooManyParts { parts, encoding }) } else { Ok(()) }
        }
        // It has no parts. The carrier takes more (5 MB) than a request of ours can hold.
        Way::Mms => Ok(()),
    }
}

/// Checks the addresses of media. Nothing is fetched.
///
/// # Errors
/// [`MediaError`] of the first that is wrong.
pub fn check_media_urls(urls: &[String]) -> Result<(), MediaError> {
    if urls.len() > MAX_MEDIA {
        return Err(MediaError::TooMany(urls.len()));
    }
    for (at, url) in urls.iter().enumerate() {
        if url.chars().count() > MAX_MEDIA_URL_CHARACTERS {
            return Err(MediaError::TooLong(at + 1));
        }
        if !is_web_address(url) {
            return Err(MediaError::Invalid(at + 1));
        }
    }
    Ok(())
}

fn is_web_address(url: &str) -> bool {
    // `Uri` lets characters beyond ASCII pass, which are to be percent-encoded (RFC 3986).
    if !url.bytes().all(|byte| byte.is_ascii_graphic()) {
        return false;
    }
    let Ok(uri) = url.parse::<Uri>() else { return false };
    matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn texts_are_limited() {
        for (text, internal, external) in [
            (String::new(), Ok(()), Ok(())),
            // No encoding lets these through; the shortest that there may be is told.
            ("“".repeat(1_531), Ok(()), Err(TextError::TooManyParts { parts: 11, encoding: Encoding::Gsm7 })),
            ("🙂".repeat(336), Ok(()), Err(TextError::TooManyParts { parts: 11, encoding: Encoding::Ucs2 })),
            // Some encoding does.
            ("“".repeat(1_530), Ok(()), Ok(())),
            ("…\u{a0}".repeat(350), Ok(()), Ok(())),
            ("🙂".repeat(335), Ok(()), Ok(())),
            ("€".repeat(765), Ok(()), Ok(())),
            ("Ω".repeat(1_530), Ok(()), Ok(())),
            ("a\0b".to_owned(), Err(TextError::Nul), Err(TextError::Nul)),
            ("a".repeat(1_530), Ok(()), Ok(())),
            ("a".repeat(1_531), Ok(()), Err(TextError::TooManyParts { parts: 11, encoding: Encoding::Gsm7 })),
            ("é".repeat(1_530), Ok(()), Ok(())),
            (
                "ç".repeat(10_000),
                Ok(()),
                Err(TextError::TooManyParts { parts: 150, encoding: Encoding::Ucs2 }),
            ),
            (
                "ç".repeat(10_001),
                Err(TextError::TooLong(10_001)),
                Err(TextError::TooManyParts { parts: 150, encoding: Encoding::Ucs2 }),
            ),
        ] {
            let sample: String = text.chars().take(3).collect();
            assert_eq!(check_text(&text, Way::Internal), internal, "{sample}…");
            assert_eq!(check_text(&text, Way::Sms(Towards::Number)), external, "{sample}…");
        }
        assert_eq!(
            TextError::TooManyParts { parts: 11, encoding: Encoding::Ucs2 }.to_string(),
            "The text is too long for an SMS: at least 11 parts as UCS-2, at most 10 are allowed"
        );
        assert_eq!(check_text(&"ç".repeat(100_000), Way::Mms), Ok(()), "no parts, no limit of parts");
        assert_eq!(check_text("a\0b", Way::Mms), Err(TextError::Nul));
        // ASCII has the brackets with one unit.
        assert_eq!(check_text(&"[".repeat(1_530), Way::Sms(Towards::ShortCode)), Ok(()));
        assert!(check_text(&"[".repeat(1_530), Way::Sms(Towards::Number)).is_err());
    }

    #[test]
    fn media_are_web_addresses() {
        let check = |url: &str| check_media_urls(&[url.to_owned()]);
        for good in [
            "https://cdn.example/a.jpg",
            "http://cdn.example:8080/a%20b.jpg?sig=x&y=%C3%A9",
            "HTTPS://CDN.example/a.jpg",
            "https://cdn.example",
            "https://[2001:db8::1]/a.jpg",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "cdn.example/a.jpg",
            "/a.jpg",
            "//cdn.example/a.jpg",
            "ftp://cdn.example/a.jpg",
            "file:///etc/passwd",
            "javascript:alert(1)",
            "data:image/png;base64,AAAA",
            "https://",
            "https:///a.jpg",
            "https://:443/a.jpg",
            "https:cdn.example/a.jpg",
            " https://cdn.example/a.jpg",
            "https://cdn.example/a b.jpg",
            "https://cdn.example/a.jpg\n",
            "https://cdn.example/\0",
            "https://cdn.example/é.jpg",
        ] {
            assert_eq!(check(bad), Err(MediaError::Invalid(1)), "{bad:?}");
        }
        let long = |length: usize| format!("https://cdn.example/{}", "a".repeat(length - 20));
        assert_eq!(check(&long(2_000)), Ok(()));
        assert_eq!(check(&long(2_001)), Err(MediaError::TooLong(1)));
        assert_eq!(check_media_urls(&vec![long(30); 10]), Ok(()));
        assert_eq!(check_media_urls(&vec![long(30); 11]), Err(MediaError::TooMany(11)));
        assert_eq!(check_media_urls(&[long(30), "no".to_owned()]), Err(MediaError::Invalid(2)));
    }
}
