//! Reads JSON that is almost right.
//!
//! The carrier's bodies carry what networks and handsets wrote: an emoji cut in half at the border of two
//! parts, a byte of another encoding, a raw control character. A strict parser refuses the whole document
//! for one such character, and the message would be lost. So the bytes are repaired first, in one pass over
//! them, and parsed then:
//!
//! | in the body | read as |
//! |---|---|
//! | half of a surrogate pair (`\ud83d` alone) | U+FFFD; whole pairs stay |
//! | bytes that are not UTF-8, U+0000 | U+FFFD |
//! | control characters in strings | themselves |
//! | a backslash before anything that is no escape | a backslash |
//! | values nested deeper than [`MAX_DEPTH`] | null |
//! | integers of more than 15 digits, numbers beyond a double, with a leading zero or plus | their text |
//! | other bare words (`NaN`, `undefined`) | null |
//! | a byte order mark; UTF-16 with one | nothing; its text |
//! | what follows the document | nothing |
//!
//! Of a key that is there twice the last one counts, as in JavaScript, Python and PHP (RFC 8259, section 4,
//! leaves it open).

use std::borrow::Cow;

use serde_json::Value;

/// Levels of lists and objects that are looked into; the carrier's bodies have six.
const MAX_DEPTH: usize = 64;
/// Digits of an integer that any reader keeps exactly.
const EXACT_DIGITS: usize = 15;
const REPLACEMENT: &str = "\u{fffd}";

/// Reads a document.
///
/// # Errors
/// There is none: no JSON, or one that was cut off.
pub(super) fn parse(body: &[u8]) -> Result<Value, serde_json::Error> {
    let text = decode(body);
    let repaired = Repair { rest: &text, out: String::with_capacity(text.len()), depth: 0 }.run();
    let mut documents = serde_json::Deserializer::from_str(&repaired).into_iter();
    documents.next().unwrap_or_else(|| serde_json::from_str(""))
}

/// The bytes as text, without a byte order mark.
fn decode(body: &[u8]) -> Cow<'_, str> {
    match body {
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8_lossy(rest),
        [0xff, 0xfe, rest @ ..] => Cow::Owned(utf16(rest, u16::from_le_bytes)),
        [0xfe, 0xff, rest @ ..] => Cow::Owned(utf16(rest, u16::from_be_bytes)),
        _ => String::from_utf8_lossy(body),
    }
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> String {
    let units = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
    char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

struct Repair<'a> {
    rest: &'a str,
    out: String,
    depth: usize,
}

impl Repair<'_> {
    fn run(mut self) -> String {
        while let Some(first) = self.rest.bytes().next() {
            match first {
                b'"' => self.string(),
                b'{' | b'[' if self.depth >= MAX_DEPTH => self.skip_nested(),
                b'{' | b'[' => self.bracket(1),
                b'}' | b']' => self.bracket(-1),
                b',' | b':' | b' ' | b'\t' | b'\r' | b'\n' => self.keep(1),
                _ => self.word(),
            }
        }
        self.out
    }

    /// Takes so many bytes over.
    fn keep(&mut self, bytes: usize) {
        let (kept, rest) = self.rest.split_at(bytes);
        self.out.push_str(kept);
        self.rest = rest;
    }

    fn bracket(&mut self, step: isize) {
        self.depth = self.depth.saturating_add_signed(step);
        self.keep(1);
    }

    /// Leaves a value out with all that is in it.
    fn skip_nested(&mut self) {
        let kept = self.out.len();
        let mut depth = 0_usize;
        while let Some(first) = self.rest.bytes().next() {
            match first {
                // Brackets in strings are none.
                b'"' => self.string(),
                b'{' | b'[' => {
                    depth += 1;
                    self.rest = &self.rest[1..];
                }
                b'}' | b']' => {
                    depth -= 1;
                    self.rest = &self.rest[1..];
                    if depth == 0 {
                        break;
                    }
                }
                _ => self.rest = self.rest.trim_start_matches(|c| !matches!(c, '"' | '{' | '[' | '}' | ']')),
            }
            self.out.truncate(kept);
        }
        self.out.truncate(kept);
        self.out.push_str("null");
    }

    /// A number or a bare word.
    fn word(&mut self) {
        let is_end =
            |c: char| c.is_ascii_whitespace() || matches!(c, ',' | ':' | '{' | '}' | '[' | ']' | '"');
        let (word, rest) = self.rest.split_at(self.rest.find(is_end).unwrap_or(self.rest.len()));
        self.rest = rest;
        match word {
            "true" | "false" | "null" => self.out.push_str(word),
            // What is no document does not become one.
            _ if self.depth == 0 => self.out.push_str(word),
            _ if !word.bytes().any(|byte| byte.is_ascii_digit()) || !word.is_ascii() => {
                self.out.push_str("null")
            }
            _ if is_exact(word) => self.out.push_str(word),
            _ => self.out.push_str(&Value::from(word).to_string()),
        }
    }

    fn string(&mut self) {
        self.keep(1);
        loop {
            let plain = |byte: u8| byte >= 0x20 && byte != b'"' && byte != b'\\';
            let run = self.rest.bytes().take_while(|byte| plain(*byte)).count();
            self.keep(run);
            match self.rest.bytes().next() {
                None => return,
                Some(b'"') => return self.keep(1),
                Some(b'\\') => self.escape(),
                Some(control) => {
                    self.rest = &self.rest[1..];
                    self.control(control);
                }
            }
        }
    }

    fn control(&mut self, byte: u8) {
        if byte == 0 {
            self.out.push_str(REPLACEMENT);
        } else {
            self.out.push_str(&format!("\\u{byte:04x}"));
        }
    }

    fn escape(&mut self) {
        match self.rest.as_bytes().get(1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.keep(2),
            Some(b'u') => self.code_unit(),
            _ => {
                self.out.push_str("\\\\");
                self.rest = &self.rest[1..];
            }
        }
    }

    fn code_unit(&mut self) {
        match unit_at(self.rest) {
            None => {
                self.out.push_str("\\\\");
                self.rest = &self.rest[1..];
            }
            Some(0xd800..=0xdbff) if unit_at(&self.rest[6..]).is_some_and(|low| low >> 10 == 0x37) => {
                self.keep(12);
            }
            Some(0 | 0xd800..=0xdfff) => {
                self.out.push_str(REPLACEMENT);
                self.rest = &self.rest[6..];
            }
            Some(_) => self.keep(6),
        }
    }
}

/// The code unit of an escape that the text begins with.
fn unit_at(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| u16::from_str_radix(digits, 16).ok()).flatten()
}

/// Whether a number is JSON's and stays what it is.
fn is_exact(word: &str) -> bool {
    let is_integer = word.trim_start_matches('-').bytes().all(|byte| byte.is_ascii_digit());
    (!is_integer || word.len() <= EXACT_DIGITS) && serde_json::from_str::<serde_json::Number>(word).is_ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn string(body: &str) -> Value {
        parse(format!("{{\"a\":\"{body}\"}}").as_bytes()).expect("a document")["a"].take()
    }

    #[test]
    fn halves_of_surrogate_pairs_are_replaced_and_whole_ones_kept() {
        for (body, read) in [
            (r"cut \ud83d", "cut \u{fffd}"),
            (r"\ude00 cut", "\u{fffd} cut"),
            (r"\ud83d\ude00", "😀"),
            (r"\uD83D\uDE00", "😀"),
            (r"\ud83d\ud83d\ude00", "\u{fffd}😀"),
            (r"\ud83d\ude00\ude00", "😀\u{fffd}"),
            (r"\ud83dA", "\u{fffd}A"),
            (r"\ud83d\u0041", "\u{fffd}A"),
            (r"\ud83d\n", "\u{fffd}\n"),
            (r"\ud83d\\ude00", "\u{fffd}\\ude00"),
            (r"\\ud83d", r"\ud83d"),
            (r"\\\ud83d", "\\\u{fffd}"),
            (r"\\\\ud83d", r"\\ud83d"),
            (r"\ud83d😀", "\u{fffd}😀"),
            (r"\u00e9\u0000", "é\u{fffd}"),
            (r"\ud8", r"\ud8"),
            (r"\u", r"\u"),
            (r"\u00g0 \q \'", r"\u00g0 \q \'"),
        ] {
            assert_eq!(string(body), read, "{body}");
        }
    }

    #[test]
    fn bytes_of_other_encodings_and_control_characters_do_no_harm() {
        for (body, read) in [
            (&b"{\"a\":\"caf\xe9\"}"[..], "caf\u{fffd}"),
            (b"{\"a\":\"\xf0\x9f\x98\"}", "\u{fffd}"),
            (b"{\"a\":\"x\x01\x1b\ty\r\n\x00\"}", "x\u{1}\u{1b}\ty\r\n\u{fffd}"),
            (b"\xef\xbb\xbf{\"a\":\"bom\"}", "bom"),
            (b"\xff\xfe{\0\"\0a\0\"\0:\0\"\0\xe9\0\"\0}\0", "é"),
            (b"\xfe\xff\0{\0\"\0a\0\"\0:\0\"\0\xe9\0\"\0}", "é"),
            (b" {\"a\":\"more\"}\0\0 x", "more"),
        ] {
            assert_eq!(parse(body).expect("a document")["a"], read);
        }
        assert_eq!(parse(b"{\"\\ud83d\":1}").expect("a document"), json!({"\u{fffd}": 1}));
    }

    #[test]
    fn numbers_keep_their_digits() {
        for (number, read) in [
            ("7", json!(7)),
            ("-0.5e2", json!(-50.0)),
            ("4e-7", json!(4e-7)),
            ("999999999999999", json!(999_999_999_999_999_i64)),
            ("123456789012345678901", json!("123456789012345678901")),
            ("1e999", json!("1e999")),
            ("007", json!("007")),
            ("+13125550100", json!("+13125550100")),
            ("NaN", json!(null)),
            ("-Infinity", json!(null)),
            ("undefined", json!(null)),
            ("true", json!(true)),
        ] {
            assert_eq!(parse(format!("[{number}, 1]").as_bytes()).expect(number), json!([read, 1]));
        }
    }

    #[test]
    fn what_is_nested_deeply_is_left_out_and_the_rest_read() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let (open, close) = (open.repeat(60_000), close.repeat(60_000));
            let body = format!("{{\"deep\":{open}\"}} [ \\\" {{\"{close},\"text\":\"hello\"}}");
            assert_eq!(parse(body.as_bytes()).expect("a document")["text"], "hello");
        }
        let body = format!("{}1{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH));
        let mut value = &parse(body.as_bytes()).expect("a document");
        while let Some(inner) = value.get(0) {
            value = inner;
        }
        assert_eq!(*value, 1);
    }

    #[test]
    fn the_last_of_two_equal_keys_counts() {
        assert_eq!(parse(br#"{"a":1,"a":2,"b":0}"#).expect("a document"), json!({"a": 2, "b": 0}));
    }

    #[test]
    fn what_is_no_document_is_an_error() {
        for body in ["", " ", "<html>", "{\"a\":", "{\"a\":\"b", "[1,", "{a:1}", "}", "\u{feff}", "{\"a\" 1}"]
        {
            assert!(parse(body.as_bytes()).is_err(), "{body}");
        }
        assert!(parse(&[b'['; 100_000]).is_err());
        assert!(parse(&[0xff, 0xfe, 0]).is_err());
    }
}
