//! Media types of files that phones, carriers and browsers send: the name under which a type is stored, other
//! names of it, and the endings of files.
//!
//! Names are those that IANA registers, or what browsers write where it has none. Other names are those of Debian's
//! shared-mime-info 2.2, of Android's MMS library (`com.google.android.mms.ContentType`), of Apple's media frameworks, and
//! those that lists of MMS carriers name. A type that is not here is kept under its own name, and browsers save it.

/// One type.
struct MediaType {
    name: &'static str,
    aliases: &'static [&'static str],
    /// The first is given to a file whose name has none.
    endings: &'static [&'static str],
    /// Whether users may upload it unless the configuration says otherwise.
    is_uploaded: bool,
}

const fn uploaded(
    name: &'static str,
    aliases: &'static [&'static str],
    endings: &'static [&'static str],
) -> MediaType {
    MediaType { name, aliases, endings, is_uploaded: true }
}

const fn received(
    name: &'static str,
    aliases: &'static [&'static str],
    endings: &'static [&'static str],
) -> MediaType {
    MediaType { name, aliases, endings, is_uploaded: false }
}

/// What servers say of a file whose type they do not know.
const UNKNOWN: [&str; 12] = [
    "application/binary",
    "application/download",
    "application/force-download",
    "application/octet-stream",
    "application/octetstream",
    "application/unknown",
    "application/x-binary",
    "application/x-download",
    "application/x-octet-stream",
    "application/x-unknown",
    "binary/octet-stream",
    "unknown/unknown",
];

/// What a file is sent as whose type nobody knows, or must not be known by browsers.
pub const OCTETS: &str = "application/octet-stream";

#[rustfmt::skip]
static TYPES: &[MediaType] = &[
    uploaded("image/jpeg", &["image/jpg", "image/pjpeg", "image/jpe", "image/jfif", "image/x-jpeg", "image/x-jpg"],
        &["jpg", "jpeg", "jpe", "jfif"]),
    uploaded("image/png", &["image/x-png"], &["png"]),
    uploaded("image/gif", &["image/x-gif"], &["gif"]),
    uploaded("image/webp", &["image/x-webp"], &["webp"]),
    uploaded("image/heic", &["image/x-heic"], &["heic"]),
    uploaded("image/heif", &["image/x-heif"], &["heif", "hif"]),
    received("image/heic-sequence", &[], &["heics"]),
    received("image/heif-sequence", &[], &["heifs"]),
    uploaded("image/avif", &["image/avif-sequence", "image/x-avif"], &["avif"]),
    uploaded("image/bmp", &["image/x-bmp", "image/x-ms-bmp", "image/x-windows-bmp", "image/ms-bmp", "image/x-bitmap",
        "image/x-win-bitmap"], &["bmp", "dib"]),
    uploaded("image/tiff", &["image/tif", "image/x-tiff", "image/x-tif"], &["tif", "tiff"]),
    received("image/apng", &["image/vnd.mozilla.apng"], &["apng"]),

    uploaded("audio/mpeg", &["audio/mp3", "audio/x-mp3", "audio/mpeg3", "audio/x-mpeg3", "audio/x-mpeg-3", "audio/x-mpeg", "audio/mpg",
        "audio/x-mpg"], &["mp3", "mpga"]),
    uploaded("audio/mp4", &["audio/m4a", "audio/x-m4a", "audio/mp4a", "audio/mp4a-latm", "audio/mp4-latm", "audio/x-mp4"],
        &["m4a", "mp4a", "m4b", "f4a"]),
    uploaded("audio/aac", &["audio/x-aac", "audio/aacp", "audio/x-aacp", "audio/x-hx-aac-adts", "audio/vnd.dlna.adts"],
        &["aac", "adts"]),
    uploaded("audio/ogg", &["audio/x-ogg", "audio/vorbis", "audio/x-vorbis", "audio/x-vorbis+ogg", "audio/x-opus+ogg",
        "application/ogg"],
        &["ogg", "oga"]),
    received("audio/opus", &["audio/x-opus"], &["opus"]),
    uploaded("audio/amr", &["audio/x-amr", "audio/amr-nb"], &["amr"]),
    uploaded("audio/amr-wb", &["audio/x-amr-wb"], &["awb"]),
    received("audio/amr-wb+", &[], &[]),
    uploaded("audio/wav", &["audio/x-wav", "audio/wave", "audio/vnd.wave", "audio/vnd.wav", "audio/x-pn-wav"], &["wav", "wave"]),
    uploaded("audio/x-caf", &["audio/caf", "audio/vnd.apple.caf"], &["caf"]),
    uploaded("audio/3gpp", &["audio/3gp", "audio/x-3gpp"], &["3ga"]),
    uploaded("audio/3gpp2", &["audio/3g2", "audio/x-3gpp2"], &[]),
    received("audio/qcelp", &["audio/vnd.qcelp"], &["qcp"]),
    received("audio/evrc", &[], &["evc"]),
    uploaded("audio/webm", &["audio/x-webm"], &["weba"]),
    received("audio/flac", &["audio/x-flac"], &["flac"]),
    received("audio/midi", &["audio/mid", "audio/x-mid", "audio/x-midi", "audio/sp-midi"], &["mid", "midi"]),
    received("audio/basic", &["audio/au", "audio/x-au"], &["au", "snd"]),
    received("audio/aiff", &["audio/x-aiff"], &["aif", "aiff", "aifc"]),

    uploaded("video/mp4", &["video/x-m4v", "video/m4v", "video/mp4v-es", "video/x-mp4"], &["mp4", "m4v", "f4v"]),
    uploaded("video/quicktime", &["video/mov", "video/x-mov", "video/x-quicktime"], &["mov", "qt"]),
    uploaded("video/3gpp", &["video/3gp", "video/x-3gpp", "video/3gpp-encrypted"], &["3gp", "3gpp"]),
    uploaded("video/3gpp2", &["video/3g2", "video/3gp2", "video/x-3gpp2"], &["3g2", "3gp2", "3gpp2"]),
    uploaded("video/webm", &["video/x-webm"], &["webm"]),
    received("video/mpeg", &["video/mpg", "video/x-mpeg", "video/x-mpg", "video/mpeg2", "video/x-mpeg2"], &["mpg", "mpeg"]),
    received("video/ogg", &["video/x-ogg"], &["ogv"]),
    received("video/x-msvideo", &["video/avi", "video/msvideo", "video/x-avi", "video/vnd.avi"], &["avi"]),
    received("video/matroska", &["video/x-matroska"], &["mkv"]),

    uploaded("text/plain", &["text/txt"], &["txt"]),
    uploaded("text/vcard", &["text/x-vcard", "text/directory", "application/vcard", "application/x-vcard"],
        &["vcf", "vcard", "vct"]),
    uploaded("text/calendar", &["text/x-vcalendar", "text/vcalendar", "text/x-calendar", "application/ics",
        "application/calendar", "application/x-calendar"], &["ics", "vcs", "ical"]),
    received("text/csv", &["text/x-csv", "text/comma-separated-values", "text/x-comma-separated-values", "application/csv"],
        &["csv"]),
    uploaded("application/pdf", &["application/x-pdf", "application/acrobat", "application/vnd.pdf", "application/nappdf",
        "text/pdf", "text/x-pdf", "image/pdf"], &["pdf"]),
    received("application/rtf", &["text/rtf", "text/richtext", "application/x-rtf"], &["rtf"]),
];

/// The name that a type is stored under; `None`: the text names none, as `binary/octet-stream`, `image/*` or an empty
/// one. Case, parameters, quotes and whatever follows a comma don't count.
pub fn stored(text: &str) -> Option<String> {
    let text = text.split([';', ',']).next().unwrap_or_default();
    let text = text.trim().trim_matches(['"', '\'']).trim().to_ascii_lowercase();
    if !is_type(&text) || UNKNOWN.contains(&text.as_str()) {
        return None;
    }
    let known = TYPES.iter().find(|known| known.name == text || known.aliases.contains(&text.as_str()));
    Some(known.map_or(text, |known| known.name.to_owned()))
}

/// Two names of RFC 6838, section 4.2.
fn is_type(text: &str) -> bool {
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
    };
    text.len() <= 127 && text.split_once('/').is_some_and(|(kind, name)| is_name(kind) && is_name(name))
}

/// The type that a file's name tells by its ending.
pub fn of_name(name: &str) -> Option<&'static str> {
    let (_, ending) = name.rsplit_once('.')?;
    let ending = ending.to_ascii_lowercase();
    TYPES.iter().find(|known| known.endings.contains(&ending.as_str())).map(|known| known.name)
}

/// An ending for the name of a file of this type.
pub fn ending(name: &str) -> Option<&'static str> {
    known(name)?.endings.first().copied()
}

/// Whether a browser may show it by itself: pictures, sounds and films that can hold no program.
pub fn is_shown(name: &str) -> bool {
    known(name).is_some() && ["image/", "audio/", "video/"].iter().any(|kind| name.starts_with(kind))
}

/// Whether browsers may run what is in it, or what it leads to: pages, all of XML, scripts, styles, archives of
/// pages.
pub fn can_run(name: &str) -> bool {
    let words =
        ["html", "script", "xml", "xsl", "svg", "wasm", "flash", "css", "manifest", "mimearchive", "mathml"];
    words.iter().any(|word| name.contains(word))
        || name.starts_with("multipart/")
        || name.starts_with("message/")
}

/// What users may upload by default.
pub(super) fn uploads() -> Vec<String> {
    TYPES.iter().filter(|known| known.is_uploaded).map(|known| known.name.to_owned()).collect()
}

fn known(name: &str) -> Option<&'static MediaType> {
    TYPES.iter().find(|known| known.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_name_and_each_ending_stands_for_one_type() {
        let (mut names, mut endings) = (HashSet::new(), HashSet::new());
        for known in TYPES {
            for name in known.aliases.iter().chain([&known.name]) {
                assert!(is_type(name) && *name == name.to_ascii_lowercase(), "{name}");
                assert!(names.insert(*name) && !UNKNOWN.contains(name), "{name}");
                assert!(!can_run(name), "{name}");
            }
            for ending in known.endings {
                assert!(endings.insert(*ending), "{ending}");
            }
        }
    }

    #[test]
    fn types_have_one_name_however_they_are_written() {
        for (text, expected) in [
            ("image/jpeg", Some("image/jpeg")),
            ("IMAGE/JPG", Some("image/jpeg")),
            (" image/pjpeg ; name=\"a;b.jpg\"", Some("image/jpeg")),
            ("image/jpeg, image/jpeg", Some("image/jpeg")),
            ("\"image/png\"", Some("image/png")),
            ("text/x-vCard; charset=utf-8", Some("text/vcard")),
            ("text/directory;profile=vCard", Some("text/vcard")),
            ("audio/amr-nb", Some("audio/amr")),
            ("audio/AMR-WB+", Some("audio/amr-wb+")),
            ("application/vnd.apple.pkpass", Some("application/vnd.apple.pkpass")),
            ("image/svg+xml", Some("image/svg+xml")),
            ("", None),
            (";", None),
            ("image", None),
            ("image/", None),
            ("/jpeg", None),
            ("image/*", None),
            ("*/*", None),
            ("a/b/c", None),
            ("a b/c", None),
            ("Größe/x", None),
            ("binary/octet-stream", None),
            ("Application/Octet-Stream;x=y", None),
        ] {
            assert_eq!(stored(text).as_deref(), expected, "{text}");
        }
        assert_eq!(stored(&format!("a/{}", "b".repeat(126))), None);
    }

    #[test]
    fn endings_tell_types_and_types_endings() {
        for (name, expected) in [
            ("IMG_0042.HEIC", Some("image/heic")),
            ("a.b.jpeg", Some("image/jpeg")),
            ("Audio Message.caf", Some("audio/x-caf")),
            ("a.3g2", Some("video/3gpp2")),
            ("a.exe", None),
            ("jpg", None),
            ("a.", None),
        ] {
            assert_eq!(of_name(name), expected, "{name}");
        }
        assert_eq!(
            (ending("video/quicktime"), ending("audio/3gpp2"), ending("x/y")),
            (Some("mov"), None, None)
        );
    }

    #[test]
    fn browsers_show_what_runs_nothing() {
        for name in ["image/jpeg", "image/heic", "audio/amr", "video/quicktime"] {
            assert!(is_shown(name) && !can_run(name), "{name}");
        }
        for name in ["application/pdf", "text/plain", "text/vcard", "application/zip", "image/x-icon"] {
            assert!(!is_shown(name) && !can_run(name), "{name}");
        }
        for name in [
            "text/html",
            "application/xhtml+xml",
            "image/svg+xml",
            "text/xml",
            "application/xml",
            "text/javascript",
            "application/x-javascript",
            "text/ecmascript",
            "application/smil+xml",
            "application/rss+xml",
            "multipart/x-mixed-replace",
            "multipart/related",
            "message/rfc822",
            "application/x-shockwave-flash",
            "application/wasm",
            "text/css",
            "text/xsl",
        ] {
            assert!(!is_shown(name) && can_run(name), "{name}");
        }
    }
}
