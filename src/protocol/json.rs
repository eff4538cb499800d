//! JSON texts that pass through unread: what the protocol forwards must keep its exact characters.

use serde::Deserialize;
use serde_json::value::RawValue;

/// Appends `text` as a quoted JSON string.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("bug: a string always serialises into memory");
}

/// `text` as a quoted JSON string.
pub fn string(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len() + 8);
    write_string(&mut out, text);
    String::from_utf8(out).expect("bug: JSON output is UTF-8")
}

/// What a raw JSON value is, told by its first character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonType {
    /// `{…}`
    Object,
    /// `[…]`
    Array,
    /// `"…"`
    String,
    /// A number.
    Number,
    /// `true` or `false`
    Boolean,
    /// `null`
    Null,
}

impl JsonType {
    /// Of a parsed value.
    pub fn of(value: &RawValue) -> Self {
        match value.get().as_bytes().first() {
            Some(b'{') => Self::Object,
            Some(b'[') => Self::Array,
            Some(b'"') => Self::String,
            Some(b't' | b'f') => Self::Boolean,
            Some(b'n') => Self::Null,
            _ => Self::Number,
        }
    }

    /// With its article, for sentences.
    pub fn name(self) -> &'static str {
        match self {
            Self::Object => "an object",
            Self::Array => "an array",
            Self::String => "a string",
            Self::Number => "a number",
            Self::Boolean => "a boolean",
            Self::Null => "null",
        }
    }
}

/// Parses an object into a struct. Unlike serde alone it refuses arrays in an object's place.
///
/// # Errors
/// A sentence for the sender.
pub fn object<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    if !text.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{') {
        return Err("expected a JSON object".to_owned());
    }
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// For `deserialize_with`: tells an explicit `null` from a missing field.
pub fn present<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(input).map(Some)
}

/// The decoded text of a raw JSON string; `None` when it is another type or holds a lone surrogate.
pub fn decode_string(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

/// UTF-8 bytes of a raw JSON string once decoded, without decoding it; `None` when it holds half a
/// surrogate pair, which is no text: strict clients could not read a frame with it.
///
/// `raw` must be a valid JSON string with its quotes.
pub fn decoded_len(raw: &str) -> Option<usize> {
    let bytes = raw.as_bytes();
    let inner = bytes.get(1..bytes.len().saturating_sub(1)).unwrap_or_default();
    if !inner.contains(&b'\\') {
        return Some(inner.len());
    }
    let mut len = 0;
    let mut rest = inner;
    while let Some((&byte, after)) = rest.split_first() {
        if byte != b'\\' {
            len += 1;
            rest = after;
        } else if let Some(unit) = unicode_escape(rest) {
            let has_low = || unicode_escape(&rest[6..]).is_some_and(|low| (0xDC00..0xE000).contains(&low));
            let (width, used) = match unit {
                0..0x80 => (1, 6),
                0x80..0x800 => (2, 6),
                0xD800..0xDC00 if has_low() => (4, 12),
                0xD800..0xE000 => return None,
                _ => (3, 6),
            };
            len += width;
            rest = &rest[used..];
        } else {
            len += 1;
            rest = rest.get(2..).unwrap_or_default();
        }
    }
    Some(len)
}

/// Whether some string in this JSON text holds half a surrogate pair, which strict clients can't read.
pub fn has_half_pair(text: &str) -> bool {
    // A backslash stands in strings only, so the whole text can be read as one string's inside.
    decoded_len(&format!("\"{text}\"")).is_none()
}

/// The code unit of a leading `\uXXXX`.
fn unicode_escape(text: &[u8]) -> Option<u32> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escapes_count_as_what_they_stand_for() {
        for (raw, len) in [
            (r#""""#, 0),
            (r#""abc""#, 3),
            (r#""h\u00e9""#, 3),
            (r#""\u4e2d""#, 3),
            (r#""\ud83d\ude00""#, 4),
            (r#""\/\"\\\n""#, 4),
            (r#""\\u00e9""#, 6),
        ] {
            assert_eq!(decoded_len(raw), Some(len), "{raw}");
        }
        for half in [r#""\ud83d""#, r#""\ud83d\u0041""#, r#""\ude00\ud83d""#, r#""a\udc00""#] {
            assert_eq!(decoded_len(half), None, "{half}");
        }
    }

    #[test]
    fn an_array_is_not_taken_for_an_object() {
        #[derive(serde::Deserialize)]
        struct One {
            #[allow(dead_code)]
            event: String,
        }
        assert!(object::<One>(r#"["x"]"#).is_err());
        assert!(object::<One>(r#" {"event":"x"}"#).is_ok());
    }

    proptest! {
        #[test]
        fn decoded_len_agrees_with_the_parser(text in any::<String>()) {
            prop_assert_eq!(decoded_len(&string(&text)), Some(text.len()));
        }
    }
}
