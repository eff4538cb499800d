//! The texts that a client may have signed for the path and the query that arrived.
//!
//! SDKs differ in what they sign, and proxies on the way decode what a client encoded, or encode it again: nginx,
//! Apache and lighttpd decode paths, lighttpd queries. So the signature is tried over every spelling that says the
//! same as what was received. A path is only tried in spellings that are *read* as the received one is read, segment by
//! segment: `/channels/a%2Fusers` is one channel with an odd name and never stands for the users of `/channels/a`.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// A name and its value.
pub type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// Longest text that is spelled in other ways. The longest path with names of 200 characters, all encoded, is
/// shorter; longer texts come from nobody but those who want to keep the server busy.
const MAX_RESPELLED: usize = 4096;
/// `rawurlencode` of PHP, `Uri.EscapeDataString` of .NET.
const STRICT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// `encodeURIComponent` of JavaScript.
const COMPONENT: &AsciiSet = &STRICT.remove(b'!').remove(b'*').remove(b'\'').remove(b'(').remove(b')');
/// `quote` of Python.
const QUOTE: &AsciiSet = &STRICT.remove(b'/');
/// `url.PathEscape` of Go.
const PATH_ESCAPE: &AsciiSet =
    &STRICT.remove(b'$').remove(b'&').remove(b'+').remove(b'=').remove(b':').remove(b'@');

/// The path as received and without a proxy's prefix, each also decoded and encoded in the usual ways.
pub fn of_path(received: &str) -> Vec<Cow<'_, str>> {
    let mut forms = vec![Cow::Borrowed(received)];
    if let Some(start) = received.find("/apps/").filter(|start| *start > 0) {
        forms.push(Cow::Borrowed(&received[start..]));
    }
    if received.len() > MAX_RESPELLED || !received.bytes().any(is_encoded_by_some) {
        return forms;
    }
    for base in forms.clone() {
        let Some(names) = segments(&base) else { continue };
        let spell = |encode: &dyn Fn(&str) -> String| {
            names.iter().map(|name| encode(name)).collect::<Vec<_>>().join("/")
        };
        for spelling in [
            spell(&str::to_owned),
            spell(&encoder(STRICT)),
            spell(&|name| lower_case_digits(&encoder(STRICT)(name))),
            spell(&encoder(PATH_ESCAPE)),
        ] {
            let is_read_alike = segments(&spelling).as_ref() == Some(&names);
            if is_read_alike && !forms.iter().any(|form| *form == spelling) {
                forms.push(Cow::Owned(spelling));
            }
        }
    }
    forms
}

/// Key and value pairs as they enter the string to sign: decoded, with lists joined, with `+` as it is, and
/// encoded, as they were received and as they were before a proxy decoded them. `raw` is the query as received.
pub fn of_query(pairs: &[Pair<'_>], raw: &str) -> Vec<String> {
    let mut forms = vec![canonical(pairs)];
    let mut add = |form: String| {
        if !forms.contains(&form) {
            forms.push(form);
        }
    };
    let has_brackets = raw.contains('[') || raw.contains("%5B") || raw.contains("%5b");
    if has_brackets {
        add(canonical(&join_arrays(pairs)));
    }
    if raw.contains('+') {
        let literal: Vec<_> =
            split(raw).map(|(key, value)| (decode(key, false), decode(value, false))).collect();
        add(canonical(&literal));
        if has_brackets {
            add(canonical(&join_arrays(&literal)));
        }
    }
    if raw.contains('%') {
        let encoded: Vec<_> =
            split(raw).map(|(key, value)| (Cow::Borrowed(key), Cow::Borrowed(value))).collect();
        add(canonical(&encoded));
        // A proxy may write the digits of what it leaves encoded in upper case.
        let lower: Vec<Pair<'_>> =
            encoded.into_iter().map(|(key, value)| (key, Cow::Owned(lower_case_digits(&value)))).collect();
        add(canonical(&lower));
    }
    let is_encoded_by_some = pairs.iter().any(|(_, value)| value.bytes().any(is_encoded_by_some));
    if is_encoded_by_some && raw.len() <= MAX_RESPELLED {
        let mut add_encoded = |encode: &dyn Fn(&str) -> String| {
            let encoded: Vec<Pair<'_>> =
                pairs.iter().map(|(key, value)| (key.clone(), Cow::Owned(encode(value)))).collect();
            add(canonical(&encoded));
        };
        add_encoded(&encoder(COMPONENT));
        add_encoded(&encoder(STRICT));
        add_encoded(&encoder(QUOTE));
        add_encoded(&|value| encoder(STRICT)(value).replace("%20", "+"));
        add_encoded(&|value| lower_case_digits(&encoder(STRICT)(value)));
    }
    forms
}

/// Whether anybody encodes this byte, or it begins what is encoded.
fn is_encoded_by_some(byte: u8) -> bool {
    !(byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b'/'))
}

/// The names between the slashes; `None` where they are no text.
fn segments(path: &str) -> Option<Vec<String>> {
    path.split('/').map(|name| percent_decode_str(name).decode_utf8().ok().map(Cow::into_owned)).collect()
}

fn encoder(set: &'static AsciiSet) -> impl Fn(&str) -> String {
    move |text| utf8_percent_encode(text, set).to_string()
}

/// `%3d` for `%3D`.
fn lower_case_digits(encoded: &str) -> String {
    let mut digits = 0_u8;
    let lower = |c: char| {
        let is_digit = digits > 0;
        digits = if c == '%' { 2 } else { digits.saturating_sub(1) };
        if is_digit { c.to_ascii_lowercase() } else { c }
    };
    encoded.chars().map(lower).collect()
}

/// Names and values as they were sent.
pub fn split(raw: &str) -> impl Iterator<Item = (&str, &str)> {
    raw.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

pub fn decode(text: &str, plus_is_space: bool) -> Cow<'_, str> {
    // Nearly all texts of a signed query; the decoder is slow to find out.
    if !text.bytes().any(|byte| byte == b'%' || byte == b'+') {
        return Cow::Borrowed(text);
    }
    if plus_is_space && text.contains('+') {
        let spaced = text.replace('+', " ");
        return Cow::Owned(percent_decode_str(&spaced).decode_utf8_lossy().into_owned());
    }
    percent_decode_str(text).decode_utf8_lossy()
}

/// `info` of `info[0]`.
pub fn base_name(key: &str) -> &str {
    match key.split_once('[') {
        Some((base, rest)) if rest.ends_with(']') => base,
        _ => key,
    }
}

/// PHP's form of array parameters: one pair a name, values joined with commas in their order.
fn join_arrays<'a>(pairs: &[Pair<'a>]) -> Vec<Pair<'a>> {
    let mut joined: Vec<Pair<'a>> = Vec::with_capacity(pairs.len());
    for (key, value) in pairs {
        let base = base_name(key);
        match joined.iter_mut().find(|(known, _)| base != key.as_ref() && known == base) {
            Some((_, list)) => {
                list.to_mut().push(',');
                list.to_mut().push_str(value);
            }
            None => joined.push((Cow::Owned(base.to_owned()), value.clone())),
        }
    }
    joined
}

/// `key=value` pairs joined with `&`: keys in lower case and sorted, values decoded, no signature.
pub fn canonical(pairs: &[Pair<'_>]) -> String {
    let mut sorted: Vec<(Cow<'_, str>, &str)> = pairs
        .iter()
        .map(|(key, value)| (lower_case(key), value.as_ref()))
        .filter(|(key, _)| key != "auth_signature")
        .collect();
    sorted.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut text = String::with_capacity(sorted.iter().map(|(key, value)| key.len() + value.len() + 2).sum());
    for (key, value) in sorted {
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(&key);
        text.push('=');
        text.push_str(value);
    }
    text
}

fn lower_case(key: &str) -> Cow<'_, str> {
    if key.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(key.to_ascii_lowercase())
    } else {
        Cow::Borrowed(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(received: &str, signed: &str) -> bool {
        of_path(received).iter().any(|form| form == signed)
    }

    #[test]
    fn a_path_is_found_in_every_spelling_that_says_the_same() {
        let spellings = [
            "/apps/1/channels/presence-a=b@c,d;e",
            "/apps/1/channels/presence-a%3Db%40c%2Cd%3Be",
            "/apps/1/channels/presence-a%3db%40c%2cd%3be",
            // Go keeps some.
            "/apps/1/channels/presence-a=b@c%2Cd%3Be",
        ];
        for received in spellings {
            for signed in spellings {
                assert!(has(received, signed), "{received} signed as {signed}");
                assert!(has(&format!("/ws{received}"), signed), "/ws{received} signed as {signed}");
            }
        }
        assert!(has("/apps/1/channels/%23server-to-user-7", "/apps/1/channels/#server-to-user-7"));
        assert!(has("/users/gr%C3%BCn/terminate_connections", "/users/grün/terminate_connections"));
    }

    #[test]
    fn a_path_that_is_read_otherwise_is_another() {
        for (received, signed) in [
            // One name with a slash in it, and two names.
            ("/apps/1/channels/presence-a%2Fusers", "/apps/1/channels/presence-a/users"),
            ("/apps/1/channels/presence-a/users", "/apps/1/channels/presence-a%2Fusers"),
            ("/apps/1/messaging/messages/7%2fdelete", "/apps/1/messaging/messages/7/delete"),
            // Encoded twice and once.
            ("/apps/1/channels/a%2540b", "/apps/1/channels/a%40b"),
            ("/apps/1/channels/a%40b", "/apps/1/channels/a%2540b"),
            ("/apps/1/channels/a%2540b", "/apps/1/channels/a@b"),
            // No text.
            ("/apps/1/channels/a%FF", "/apps/1/channels/a\u{fffd}"),
            ("/apps/1/channels/a", "/apps/1/channels/A"),
            ("/apps/1/channels/a/", "/apps/1/channels/a"),
        ] {
            assert!(!has(received, signed), "{received} signed as {signed}");
        }
    }

    #[test]
    fn a_value_is_found_in_every_encoding_that_a_caller_may_have_chosen() {
        let spellings = ["grün/a,b (c)", "gr%C3%BCn%2Fa%2Cb%20%28c%29", "gr%c3%bcn%2fa%2cb%20%28c%29"];
        let others = ["gr%C3%BCn%2Fa%2Cb%20(c)", "gr%C3%BCn/a%2Cb%20%28c%29", "gr%C3%BCn%2Fa%2Cb+%28c%29"];
        let (decoded, pairs) = (spellings[0], |value: &'static str| vec![("q".into(), Cow::Borrowed(value))]);
        for received in spellings {
            for signed in spellings.iter().chain(&others) {
                let forms = of_query(&pairs(decoded), &format!("q={received}"));
                assert!(forms.contains(&format!("q={signed}")), "{received} signed as {signed}");
                assert!(!forms.contains(&format!("q={signed}x")), "{received} signed as {signed}x");
            }
        }
        assert!(of_query(&pairs("a b,c"), "q=a+b%2Cc").contains(&"q=a+b%2cc".to_owned()));
    }

    #[test]
    fn plain_and_overlong_texts_have_one_spelling() {
        assert_eq!(of_path("/apps/1/events"), ["/apps/1/events"]);
        let long = format!("/apps/1/channels/{}", "%40".repeat(MAX_RESPELLED));
        assert_eq!(of_path(&long), [long.as_str()]);
        assert_eq!(of_query(&[("a".into(), "b-_.~".into())], "a=b-_.~"), ["a=b-_.~"]);
    }
}
