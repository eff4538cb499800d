//! What a message may say: length of texts in SMS parts, and addresses of media.
//!
//! The count of parts is an estimate for limits; what an external message costs is what the carrier's
//! answer says (Telnyx field `parts`), which may replace typographic characters on its way.

use hyper::Uri;

/// Most parts of an external message.
///
/// Source: Telnyx, "Message length": ten parts.
pub const MAX_PARTS: u32 = 10;

/// Most characters of an internal message.
pub const MAX_INTERNAL_CHARACTERS: usize = 10_000;

/// Most media of a message.
pub const MAX_MEDIA: usize = 10;

/// Most characters of a medium's address.
pub const MAX_MEDIA_URL_CHARACTERS: usize = 2_000;

/// The characters that GSM-7 writes with one unit, besides ASCII letters, digits, and most of ASCII's
/// punctuation.
///
/// Source: 3GPP TS 23.038, section 6.2.1.
const GSM7: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./:;<=>?¡ÄÖÑÜ§¿äöñüà";

/// The characters that GSM-7 writes with two: an escape and one more.
const GSM7_EXTENSION: &str = "\u{c}^{}\\[~]|€";

/// How a text is written on the air.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Seven bits a unit: 160 units in a part, 153 when there are more.
    Gsm7,
    /// Sixteen bits a unit: 70 units in a part, 67 when there are more. One character outside of GSM-7
    /// is enough.
    Ucs2,
}

/// What a text needs as SMS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measure {
    /// How it is written.
    pub encoding: Encoding,
    /// Messages it is cut into, at least 1.
    pub parts: u32,
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
        "The text is too long for an SMS: {parts} parts as {}, at most {MAX_PARTS} are allowed",
        .encoding.as_str()
    )]
    TooManyParts {
        /// What it would need.
        parts: u32,
        /// How it would be written.
        encoding: Encoding,
    },
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

impl Encoding {
    /// The name in JSON, as Telnyx field `encoding`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gsm7 => "GSM-7",
            Self::Ucs2 => "UCS-2",
        }
    }

    /// Units of a message that is not cut, and of each part of one that is.
    fn units(self) -> (usize, usize) {
        match self {
            Self::Gsm7 => (160, 153),
            Self::Ucs2 => (70, 67),
        }
    }

    /// Units of one character: 1 or 2, which stay together.
    fn width(self, c: char) -> usize {
        match self {
            Self::Gsm7 => 1 + usize::from(GSM7_EXTENSION.contains(c)),
            Self::Ucs2 => c.len_utf16(),
        }
    }
}

/// Counts the parts of a text. Exact, unlike units divided by 153: a character of two units is never cut
/// in half, so 153 times `€` are three parts.
pub fn measure(text: &str) -> Measure {
    let encoding = if text.chars().all(is_gsm7) { Encoding::Gsm7 } else { Encoding::Ucs2 };
    let (whole, part) = encoding.units();
    let (mut total, mut parts, mut used) = (0, 1, 0);
    for width in text.chars().map(|c| encoding.width(c)) {
        total += width;
        used += width;
        if used > part {
            parts += 1;
            used = width;
        }
    }
    Measure { encoding, parts: if total <= whole { 1 } else { parts } }
}

/// Checks a text's characters and length. Emptiness is not judged: with media it is fine.
///
/// # Errors
/// [`TextError`], whose text is meant for the client.
pub fn check_text(text: &str, is_internal: bool) -> Result<(), TextError> {
    if text.contains('\0') {
        return Err(TextError::Nul);
    }
    if is_internal {
        let count = text.chars().count();
        return if count > MAX_INTERNAL_CHARACTERS { Err(TextError::TooLong(count)) } else { Ok(()) };
    }
    let Measure { encoding, parts } = measure(text);
    if parts > MAX_PARTS { Err(TextError::TooManyParts { parts, encoding }) } else { Ok(()) }
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

fn is_gsm7(c: char) -> bool {
    c.is_ascii_alphanumeric() || GSM7.contains(c) || GSM7_EXTENSION.contains(c)
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
    use proptest::prelude::*;

    fn parts(text: &str) -> (&'static str, u32) {
        let measure = measure(text);
        (measure.encoding.as_str(), measure.parts)
    }

    #[test]
    fn the_alphabet_is_that_of_the_standard() {
        let basic = (0..=0x10_FFFF)
            .filter_map(char::from_u32)
            .filter(|c| is_gsm7(*c) && Encoding::Gsm7.width(*c) == 1)
            .count();
        // 128 places, one of them the escape.
        assert_eq!(basic, 127);
        assert_eq!(GSM7_EXTENSION.chars().count(), 10);
        for c in "ç`´“”’–…\t\u{a0}\u{1b}🙂áíóúêâ".chars() {
            assert!(!is_gsm7(c), "{c:?}");
        }
    }

    #[test]
    fn parts_are_counted_exactly() {
        for (text, count, expected) in [
            ("", 1, ("GSM-7", 1)),
            ("a", 160, ("GSM-7", 1)),
            ("a", 161, ("GSM-7", 2)),
            ("a", 306, ("GSM-7", 2)),
            ("a", 307, ("GSM-7", 3)),
            ("a", 1_530, ("GSM-7", 10)),
            ("a", 1_531, ("GSM-7", 11)),
            ("€", 80, ("GSM-7", 1)),
            ("€", 81, ("GSM-7", 2)),
            ("€", 152, ("GSM-7", 2)),
            // 306 units, which would be two parts if `€` could be cut.
            ("€", 153, ("GSM-7", 3)),
            ("ç", 70, ("UCS-2", 1)),
            ("ç", 71, ("UCS-2", 2)),
            ("ç", 134, ("UCS-2", 2)),
            ("ç", 135, ("UCS-2", 3)),
            ("ç", 670, ("UCS-2", 10)),
            ("ç", 671, ("UCS-2", 11)),
            ("🙂", 35, ("UCS-2", 1)),
            ("🙂", 36, ("UCS-2", 2)),
            ("🙂", 66, ("UCS-2", 2)),
            // 134 units.
            ("🙂", 67, ("UCS-2", 3)),
        ] {
            assert_eq!(parts(&text.repeat(count)), expected, "{count} times {text:?}");
        }
        // Outside of GSM-7 the brackets cost one unit again.
        assert_eq!(parts(&format!("{}“", "[".repeat(69))), ("UCS-2", 1));
        // A two-unit character at the border of a part goes over as a whole.
        assert_eq!(parts(&format!("{}€{}", "a".repeat(152), "a".repeat(151))), ("GSM-7", 2));
        assert_eq!(parts(&format!("{}€{}", "a".repeat(152), "a".repeat(152))), ("GSM-7", 3));
    }

    #[test]
    fn texts_are_limited() {
        for (text, internal, external) in [
            (String::new(), Ok(()), Ok(())),
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
            assert_eq!(check_text(&text, true), internal, "{sample}…");
            assert_eq!(check_text(&text, false), external, "{sample}…");
        }
        assert_eq!(
            TextError::TooManyParts { parts: 11, encoding: Encoding::Ucs2 }.to_string(),
            "The text is too long for an SMS: 11 parts as UCS-2, at most 10 are allowed"
        );
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

    proptest! {
        #[test]
        fn parts_lie_between_what_the_units_allow(text in "[a€ç🙂]{0,400}") {
            let Measure { encoding, parts } = measure(&text);
            let units: usize = text.chars().map(|c| encoding.width(c)).sum();
            let (whole, part) = encoding.units();
            if units <= whole {
                prop_assert_eq!(parts, 1);
            } else {
                prop_assert!(parts as usize >= units.div_ceil(part));
                prop_assert!(parts as usize <= units.div_ceil(part - 1));
            }
        }
    }
}
