//! Names of files that come from elsewhere. Phones and computers go by the ending of a name, and people read it, so
//! neither may mislead: a name is one part of a path, its characters are seen and stand in the order in which they are
//! read, and no system takes it for something else than a file.

use hyper::header::{CONTENT_DISPOSITION, CONTENT_TYPE, HeaderMap};
use percent_encoding::percent_decode_str;

use crate::config::media_type;

/// Longest name, in characters.
const MAX: usize = 100;
/// Longest ending that a long name keeps, without its dot.
const MAX_ENDING: usize = 10;
/// Of a file without a name.
const NAMELESS: &str = "attachment";

/// The name in a URL: the last part of its path.
pub fn of_url(url: &str) -> Option<String> {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let (_, name) = path.split_once("://").map_or(path, |(_, rest)| rest).rsplit_once('/')?;
    clean(&decoded(name))
}

/// The name that an answer gives its file: that of `Content-Disposition` (RFC 6266), or of `Content-Type`, where mail
/// and MMS gateways put it.
pub fn of_headers(headers: &HeaderMap) -> Option<String> {
    let of = |header, extended, plain| {
        let text = String::from_utf8_lossy(headers.get(header).map(hyper::header::HeaderValue::as_bytes)?)
            .into_owned();
        let parameters = parameters(&text);
        let value = |name: &str| parameters.iter().find(|(other, _)| other == name).map(|(_, value)| value);
        let extended = value(extended).and_then(|value| extended_value(value));
        extended.as_deref().and_then(clean).or_else(|| clean(&decoded(value(plain)?)))
    };
    of(CONTENT_DISPOSITION, "filename*", "filename").or_else(|| of(CONTENT_TYPE, "name*", "name"))
}

/// The name of a file of this type, with an ending if it is known.
pub fn with_ending(name: Option<&str>, content_type: &str) -> String {
    let name = name.unwrap_or(NAMELESS);
    let has_one = name.rsplit_once('.').is_some_and(|(stem, ending)| {
        let is_short = (1..=MAX_ENDING).contains(&ending.len());
        !stem.is_empty() && is_short && ending.bytes().all(|b| b.is_ascii_alphanumeric())
    });
    match media_type::ending(content_type) {
        Some(ending) if !has_one => format!("{name}.{ending}"),
        _ => name.to_owned(),
    }
}

/// A name that is safe ([`safe`]) and of bounded length; `None`: nothing is left.
pub fn clean(name: &str) -> Option<String> {
    safe(name).map(|name| shortened(&name))
}

/// One part of a path, without what can't be seen or changes the order of reading, which no system hides (a leading
/// dot), shortens (dots and spaces at the end) or takes for a device (`NUL.txt`); `None`: nothing is left.
pub fn safe(name: &str) -> Option<String> {
    let name = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let name: String = name
        .chars()
        .filter(|c| !c.is_control() && !is_unseen(*c) && *c != '\u{fffd}')
        .map(|c| if is_like_a_path(c) { '_' } else { c })
        .collect();
    let name = name.trim_matches(|c: char| c.is_whitespace() || c == '.');
    let ending = &name[stem(name).len()..];
    match name {
        "" => None,
        _ if is_device(stem(name)) => Some(format!("{}_{ending}", stem(name).trim_end())),
        _ => Some(name.to_owned()),
    }
}

/// What stands before the first dot.
fn stem(name: &str) -> &str {
    name.split('.').next().unwrap_or_default()
}

/// Names of devices on Windows, whatever their ending.
fn is_device(stem: &str) -> bool {
    const DEVICES: [&str; 6] = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"];
    let stem = stem.trim_end().to_ascii_uppercase();
    let port = stem.strip_prefix("COM").or_else(|| stem.strip_prefix("LPT"));
    let is_port = port.is_some_and(|port| {
        let mut digits = port.chars();
        matches!(digits.next(), Some('0'..='9' | '¹' | '²' | '³')) && digits.next().is_none()
    });
    is_port || DEVICES.contains(&stem.as_str())
}

/// Characters without a glyph: marks that change the direction in which text is read, so that `gpj.exe` looks like
/// `exe.jpg`, characters without a width, which make two names look alike, and breaks of lines.
fn is_unseen(c: char) -> bool {
    matches!(
        c,
        '\u{AD}'
            | '\u{34F}'
            | '\u{61C}'
            | '\u{115F}'..='\u{1160}'
            | '\u{17B4}'..='\u{17B5}'
            | '\u{180B}'..='\u{180F}'
            | '\u{200B}'..='\u{200F}'
            | '\u{2028}'..='\u{202E}'
            | '\u{2060}'..='\u{206F}'
            | '\u{3164}'
            | '\u{FEFF}'
            | '\u{FFA0}'
            | '\u{FFF0}'..='\u{FFFB}'
            | '\u{1D173}'..='\u{1D17A}'
            | '\u{E0000}'..='\u{E0FFF}'
    )
}

/// Characters that some system takes for the end of a folder's or a drive's name: full-width and other forms of a slash
/// become one where names are converted to an older character set.
fn is_like_a_path(c: char) -> bool {
    matches!(
        c,
        ':' | '\u{2044}'
            | '\u{2215}'
            | '\u{2216}'
            | '\u{29F5}'
            | '\u{29F8}'
            | '\u{29F9}'
            | '\u{FE55}'
            | '\u{FE68}'
            | '\u{FF0F}'
            | '\u{FF1A}'
            | '\u{FF3C}'
    )
}

fn shortened(name: &str) -> String {
    if name.chars().count() <= MAX {
        return name.to_owned();
    }
    let ending = name.rsplit_once('.').map(|(_, ending)| ending);
    match ending.filter(|ending| ending.chars().count() <= MAX_ENDING) {
        Some(ending) => {
            let room = MAX - ending.chars().count() - 1;
            name.chars().take(room).chain(['.']).chain(ending.chars()).collect()
        }
        None => name.chars().take(MAX).collect(),
    }
}

/// Without percent signs, where they hide UTF-8: browsers read names so, wherever they stand.
fn decoded(name: &str) -> String {
    percent_decode_str(name).decode_utf8().map_or_else(|_| name.to_owned(), std::borrow::Cow::into_owned)
}

/// `UTF-8''Gr%C3%B6%C3%9Fe.png` (RFC 8187).
fn extended_value(value: &str) -> Option<String> {
    let mut parts = value.splitn(3, '\'');
    let (charset, _, text) = (parts.next()?, parts.next()?, parts.next()?);
    let bytes = percent_decode_str(text);
    match charset.to_ascii_lowercase().as_str() {
        "utf-8" => bytes.decode_utf8().ok().map(std::borrow::Cow::into_owned),
        "iso-8859-1" => Some(bytes.map(char::from).collect()),
        _ => None,
    }
}

/// `x; name=value; other="a \"value\""`, names in lower case.
fn parameters(header: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = header.split_once(';').map_or("", |(_, rest)| rest);
    while let Some((name, after)) = rest.split_once('=') {
        // A parameter without a value may stand before it.
        let name = name.rsplit(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let (value, behind) = match after.trim_start().strip_prefix('"') {
            Some(quoted) => unquoted(quoted),
            None => {
                let (value, behind) = after.split_once(';').unwrap_or((after, ""));
                (value.trim().to_owned(), behind)
            }
        };
        found.push((name, value));
        rest = behind;
    }
    found
}

/// A quoted value and what stands behind it. A backslash before anything but a quote or a backslash belongs to a path
/// that somebody forgot to escape.
fn unquoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices().peekable();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return (value, &text[at + 1..]),
            '\\' => match characters.peek() {
                Some((_, next @ ('"' | '\\'))) => {
                    value.push(*next);
                    characters.next();
                }
                _ => value.push('\\'),
            },
            _ => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn names_are_the_ends_of_paths() {
        for (url, name) in [
            ("https://media.example/a/photo.jpg?x=1/2", Some("photo.jpg")),
            ("https://media.example/a/Gr%C3%B6%C3%9Fe%201.png#x", Some("Größe 1.png")),
            ("https://media.example/a/..%2F..%2Fpasswd", Some("passwd")),
            ("https://media.example/a/%E9.jpg", Some("%E9.jpg")),
            ("https://media.example/a/", None),
            ("https://media.example", None),
            ("", None),
        ] {
            assert_eq!(of_url(url).as_deref(), name, "{url}");
        }
    }

    #[test]
    fn answers_give_names_in_all_forms() {
        for (header, name) in [
            ("attachment; filename=photo.jpg", Some("photo.jpg")),
            ("attachment; filename=\"a; b \\\"c\\\".jpg\"; size=3", Some("a; b \"c\".jpg")),
            ("ATTACHMENT;FILENAME=\"Größe.png\"", Some("Größe.png")),
            ("inline; filename=\"plain.jpg\"; filename*=UTF-8''Gr%C3%B6%C3%9Fe.jpg", Some("Größe.jpg")),
            ("inline; filename*=utf-8'de'%e2%82%ac.jpg; filename=x.jpg", Some("€.jpg")),
            ("inline; filename*=iso-8859-1'en'%A3.jpg", Some("£.jpg")),
            ("inline; filename*=UTF-16''x; filename=y.jpg", Some("y.jpg")),
            ("inline; filename*=UTF-8''%FF; filename=y.jpg", Some("y.jpg")),
            ("attachment; filename=\"Gr%C3%B6%C3%9Fe.png\"", Some("Größe.png")),
            ("attachment; filename=\"C:\\photos\\x.jpg\"", Some("x.jpg")),
            ("attachment; filename=\"../../etc/passwd\"", Some("passwd")),
            ("attachment; filename=\"a\u{202e}gpj.exe\"", Some("agpj.exe")),
            ("attachment; filename=\"unfinished.jpg", Some("unfinished.jpg")),
            ("attachment; odd; filename=x.jpg", Some("x.jpg")),
            ("attachment; filename=\"\"", None),
            ("attachment; filename=\"..\"", None),
            ("attachment", None),
            ("", None),
        ] {
            let value = HeaderValue::from_bytes(header.as_bytes()).expect("a value");
            let headers = HeaderMap::from_iter([(CONTENT_DISPOSITION, value)]);
            assert_eq!(of_headers(&headers).as_deref(), name, "{header}");
        }
        let value = HeaderValue::from_static("image/jpeg; charset=x; name=\"IMG_1.jpg\"");
        assert_eq!(of_headers(&HeaderMap::from_iter([(CONTENT_TYPE, value)])).as_deref(), Some("IMG_1.jpg"));
    }

    #[test]
    fn names_do_not_mislead_people_or_systems() {
        for (name, expected) in [
            ("a\u{202e}gpj.exe", Some("agpj.exe")),
            ("\u{2066}a\u{2069}\u{200f}b\u{61c}.jpg", Some("ab.jpg")),
            ("pay\u{200b}pal\u{feff}\u{2060}\u{ad}.pdf", Some("paypal.pdf")),
            ("a\u{2028}b\u{85}c\u{0}d.txt", Some("abcd.txt")),
            ("tag\u{e0041}.txt", Some("tag.txt")),
            ("../../etc/passwd", Some("passwd")),
            ("..\\..\\boot.ini", Some("boot.ini")),
            ("C:evil.txt", Some("C_evil.txt")),
            ("..\u{ff0f}..\u{ff0f}x.txt", Some("_.._x.txt")),
            ("a\u{2215}b\u{ff3c}c", Some("a_b_c")),
            (".htaccess", Some("htaccess")),
            (". . .jpg", Some("jpg")),
            ("\u{200e}.profile", Some("profile")),
            ("invoice.exe. .", Some("invoice.exe")),
            ("NUL", Some("NUL_")),
            ("con.txt", Some("con_.txt")),
            ("Com1 .tar.gz", Some("Com1_.tar.gz")),
            ("lpt\u{b9}.txt", Some("lpt\u{b9}_.txt")),
            ("console.txt", Some("console.txt")),
            ("COM10.txt", Some("COM10.txt")),
            ("Größe 1 (2).png", Some("Größe 1 (2).png")),
            ("😀.png", Some("😀.png")),
            ("\u{202e}\u{200b}", None),
            ("...", None),
            ("a/", None),
            ("", None),
        ] {
            assert_eq!(safe(name).as_deref(), expected, "{name:?}");
            // What is safe stays as it is.
            assert_eq!(expected.and_then(safe).as_deref(), expected, "{name:?}");
        }
    }

    #[test]
    fn names_get_the_ending_that_they_lack() {
        for (name, content_type, expected) in [
            (None, "image/heic", "attachment.heic"),
            (None, "application/x-new", "attachment"),
            (Some("5d1c-11ef"), "video/3gpp", "5d1c-11ef.3gp"),
            (Some("photo.JPG"), "image/png", "photo.JPG"),
            (Some("Dr. No"), "image/png", "Dr. No.png"),
            (Some(".jpg"), "image/jpeg", ".jpg.jpg"),
        ] {
            assert_eq!(with_ending(name, content_type), expected);
        }
    }

    #[test]
    fn long_names_keep_their_ending() {
        let long = clean(&format!("{}.jpeg", "ö".repeat(300))).expect("a name");
        assert_eq!((long.chars().count(), long.ends_with("ö.jpeg")), (100, true));
        assert_eq!(clean(&"x".repeat(101)).map(|name| name.len()), Some(100));
        assert_eq!(clean(&format!("a.{}", "x".repeat(300))).map(|name| name.len()), Some(100));
    }
}
