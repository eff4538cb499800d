//! Kinds of the message router's keys: words, regions, event names, the carrier's keys, queries.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::VerifyingKey;
use rlibphonenumber::{PHONE_NUMBER_UTIL, Region as KnownRegion};
use serde_json::Value;

use super::kind::{Kind, Words, text_kind};
use super::media_type;
use super::raw::Raw;
use super::{
    CallbackData, ChannelMode, ConversationKey, DirectoryMode, EVENTS, IdKind, Idempotency, NumberCheck,
    OnUnclear, Ordering, Payload, Secret, UnassignedOwnNumber, UserJson, sql,
};

/// Gives the words of an enum.
macro_rules! words {
    ($($name:ident: $($word:literal = $variant:ident),+;)+) => {
        $(impl Words for $name {
            const WORDS: &'static [(&'static str, Self)] = &[$(($word, Self::$variant)),+];
        })+
    };
}

words! {
    NumberCheck: "possible" = Possible, "valid" = Valid;
    UnassignedOwnNumber: "external" = External, "reject" = Reject;
    Payload: "full" = Full, "ids" = Ids;
    ConversationKey: "user+contact" = UserContact, "number+contact" = NumberContact;
    IdKind: "int" = Int, "ulid" = Ulid;
    UserJson: "auto" = Auto, "string" = String;
    ChannelMode: "public" = Public, "private" = Private, "both" = Both;
    DirectoryMode: "own" = Own, "sql" = Sql;
    Idempotency: "header" = Header, "off" = Off;
    OnUnclear: "retry_with_key" = RetryWithKey, "hold" = Hold, "resend" = Resend;
    CallbackData: "string" = String, "object" = Object;
    Ordering: "strict" = Strict, "relaxed" = Relaxed;
}

text_kind!(Namespace, "namespace", namespace);
text_kind!(Query, "SQL", query);
text_kind!(ProfileId, "text", profile_id);

/// Region that numbers without `+` belong to; empty: none.
pub(super) struct Region;

impl Kind for Region {
    type Value = Option<String>;

    fn describe() -> String {
        "two letters, `\"\"` = none".to_owned()
    }

    fn parse(raw: &Raw) -> Result<Option<String>, String> {
        let text = raw.text()?.trim();
        if text.is_empty() {
            return Ok(None);
        }
        let is_shaped = text.len() == 2 && text.bytes().all(|b| b.is_ascii_uppercase());
        let region = Some(text).filter(|_| is_shaped).and_then(|text| KnownRegion::from_code(text).ok());
        // A region without a calling code could parse no number.
        match region.and_then(|region| PHONE_NUMBER_UTIL.get_country_code_for_region(region)) {
            Some(_) => Ok(Some(text.to_owned())),
            None => Err(format!(
                "{text:?} is not a region: write two capital letters of ISO 3166 such as \"US\" or \"GB\", or \"\" for \
                 none"
            )),
        }
    }

    fn show(value: &Option<String>) -> Value {
        value.as_deref().unwrap_or_default().into()
    }
}

/// Without backslashes at its ends. Dots are Echo's way to write it.
fn namespace(text: &str) -> Result<String, String> {
    let inner = text.trim().replace('.', "\\");
    let inner = inner.trim_matches('\\');
    let is_fine = inner.is_empty() || inner.split('\\').all(is_class_name);
    if is_fine {
        Ok(inner.to_owned())
    } else {
        Err(format!("{text:?} is not a namespace such as \"App\\\\Events\""))
    }
}

fn is_class_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// `Old=New` for events.
pub(super) struct Renames;

impl Kind for Renames {
    type Value = Vec<(String, String)>;

    fn describe() -> String {
        "list of `Old=New`".to_owned()
    }

    fn parse(raw: &Raw) -> Result<Vec<(String, String)>, String> {
        let mut renames: Vec<(String, String)> = Vec::new();
        for item in raw.list()? {
            let (old, new) = rename(item.text()?)?;
            if renames.iter().any(|(other, _)| *other == old) {
                return Err(format!("{old} is renamed twice: remove one"));
            }
            renames.push((old, new));
        }
        Ok(renames)
    }

    fn show(value: &Vec<(String, String)>) -> Value {
        value.iter().map(|(old, new)| format!("{old}={new}")).collect()
    }
}

fn rename(text: &str) -> Result<(String, String), String> {
    const MAX: usize = 100;
    let shape = || format!("{text:?} does not look like \"MessageSent=SmsSent\"");
    let (old, new) = text.split_once('=').ok_or_else(shape)?;
    let (old, new) = (old.trim(), new.trim());
    if !EVENTS.contains(&old) {
        return Err(format!("{old:?} is not an event; there are {}", EVENTS.join(", ")));
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || "_-.\\".contains(c);
    if new.is_empty() || new.len() > MAX || !new.chars().all(is_name) {
        return Err(shape());
    }
    Ok((old.to_owned(), new.to_owned()))
}

/// The carrier's keys: one, or two while it is being replaced. Public, but never quoted, as the usual mistake
/// is the other key.
pub(super) struct PublicKeys;

impl Kind for PublicKeys {
    type Value = Vec<String>;

    fn describe() -> String {
        "base64, or a list of two".to_owned()
    }

    fn parse(raw: &Raw) -> Result<Vec<String>, String> {
        let items = match raw {
            Raw::Text(_) => vec![raw.clone()],
            _ => raw.list()?,
        };
        let texts = items.iter().map(Raw::text).collect::<Result<Vec<_>, _>>()?;
        let keys: Vec<_> = texts.iter().map(|text| text.trim()).filter(|text| !text.is_empty()).collect();
        if keys.len() > 2 {
            return Err("takes two keys at most, the present and the next: remove the others".to_owned());
        }
        keys.into_iter().map(public_key).collect()
    }

    fn show(value: &Vec<String>) -> Value {
        match value.as_slice() {
            [] => "".into(),
            [key] => key.as_str().into(),
            keys => keys.iter().map(String::as_str).collect(),
        }
    }
}

fn public_key(text: &str) -> Result<String, String> {
    let bytes = STANDARD.decode(text).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    let key = bytes.and_then(|bytes| VerifyingKey::from_bytes(&bytes).ok()).filter(|key| !key.is_weak());
    key.map(|_| text.to_owned()).ok_or_else(|| {
        "is not an Ed25519 public key: write the carrier's public key, 44 characters of base64".to_owned()
    })
}

/// A secret that need not be given: `${NAME:-}` may be empty.
pub(super) struct ApiKey;

impl Kind for ApiKey {
    type Value = Option<Secret>;
    const SECRET: bool = true;

    fn describe() -> String {
        "secret".to_owned()
    }

    fn parse(raw: &Raw) -> Result<Option<Secret>, String> {
        match raw.text()? {
            "" => Ok(None),
            text if text.bytes().all(|b| b.is_ascii_graphic()) => Ok(Some(Secret::new(text.to_owned()))),
            _ => {
                Err("holds white space or other characters that no API key has: copy the key again"
                    .to_owned())
            }
        }
    }

    fn show(value: &Option<Secret>) -> Value {
        super::credential::Token::show(value)
    }
}

fn profile_id(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is not an id such as \"40019ab1-…\" (letters, digits, -)"))
}

fn query(text: &str) -> Result<String, String> {
    sql::statement(text)
}

/// At least one text, none empty.
pub(super) struct Texts;

impl Kind for Texts {
    type Value = Vec<String>;

    fn describe() -> String {
        "list of texts".to_owned()
    }

    fn parse(raw: &Raw) -> Result<Vec<String>, String> {
        let texts =
            raw.list()?.iter().map(|item| item.text().map(str::to_owned)).collect::<Result<Vec<_>, _>>()?;
        if texts.is_empty() || texts.iter().any(String::is_empty) {
            return Err("needs at least one text, and none may be empty".to_owned());
        }
        Ok(texts)
    }

    fn show(value: &Vec<String>) -> Value {
        value.iter().map(String::as_str).collect()
    }
}

/// Media types, under the names that they are stored under.
pub(super) struct MediaTypes;

impl Kind for MediaTypes {
    type Value = Vec<String>;

    fn describe() -> String {
        "list of media types".to_owned()
    }

    fn parse(raw: &Raw) -> Result<Vec<String>, String> {
        let mut types = Vec::new();
        for text in Texts::parse(raw)? {
            let name = media_type::stored(&text)
                .ok_or_else(|| format!("{text:?} is no media type: write one such as \"image/jpeg\""))?;
            if !types.contains(&name) {
                types.push(name);
            }
        }
        Ok(types)
    }

    fn show(value: &Vec<String>) -> Value {
        Texts::show(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Raw {
        Raw::Text(text.to_owned())
    }

    fn list(items: &[&str]) -> Raw {
        Raw::List(items.iter().map(|item| text(item)).collect())
    }

    #[test]
    fn regions_are_known_ones() {
        for region in ["US", "GB", "DE", "IN"] {
            assert_eq!(Region::parse(&text(region)), Ok(Some(region.to_owned())));
        }
        assert_eq!(Region::parse(&text("")), Ok(None));
        for bad in ["us", "UK", "USA", "ZZ", "00", "1", "ü"] {
            let message = Region::parse(&text(bad)).expect_err(bad);
            assert!(message.contains("is not a region"), "{bad}: {message}");
        }
    }

    #[test]
    fn namespaces_are_normalised() {
        for (given, kept) in [
            ("", ""),
            ("\\", ""),
            ("App\\Events", "App\\Events"),
            ("\\App\\Events\\", "App\\Events"),
            ("App.Events", "App\\Events"),
            (".App.Events", "App\\Events"),
            ("Events_2", "Events_2"),
        ] {
            assert_eq!(namespace(given), Ok(kept.to_owned()), "{given}");
        }
        for bad in ["App/Events", "App\\\\Events", "App Events", "2App", "App\\1"] {
            assert!(namespace(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn events_are_renamed_one_by_one() {
        let renames =
            Renames::parse(&list(&["MessageSent=SmsSent", "UserTyping = chat.typing"])).expect("valid");
        assert_eq!(
            Renames::show(&renames),
            serde_json::json!(["MessageSent=SmsSent", "UserTyping=chat.typing"])
        );
        for (bad, why) in [
            (&["MessageSent"][..], "does not look like"),
            (&["MessageSent="], "does not look like"),
            (&["MessageSent=a b"], "does not look like"),
            (&["MessageSend=X"], "\"MessageSend\" is not an event; there are MessageSent, "),
            (&["MessageSent=A", "MessageSent=B"], "MessageSent is renamed twice"),
        ] {
            let message = Renames::parse(&list(bad)).expect_err(why);
            assert!(message.contains(why), "{bad:?}: {message}");
        }
    }

    #[test]
    fn public_keys_are_one_or_two() {
        const KEY: &str = "0EqyMnQrtKs6E2i9RhXk5tAiSrcaAWuvhSCjMsl3hzc=";
        let keys = |raw: &Raw| PublicKeys::parse(raw).map(|keys| keys.len());
        let untyped = |text: &str| Raw::Untyped(text.to_owned(), ',');
        for (raw, count) in [
            (text(KEY), 1),
            (text(""), 0),
            (untyped(""), 0),
            (untyped(KEY), 1),
            (untyped(&format!("{KEY},{KEY}")), 2),
            (list(&[KEY, KEY]), 2),
            (list(&[KEY, ""]), 1),
            (list(&[]), 0),
        ] {
            assert_eq!(keys(&raw), Ok(count), "{raw:?}");
        }
        let weak = STANDARD.encode([&[1][..], &[0; 31]].concat());
        for raw in [text("KEY0123hidden"), text(&KEY[1..]), text(&weak), text("AAAA")] {
            let message = keys(&raw).expect_err("refused");
            assert!(message.starts_with("is not an Ed25519 public key") && !message.contains("hidden"));
        }
        assert!(keys(&list(&[KEY, KEY, KEY])).expect_err("three").contains("two keys at most"));
    }

    #[test]
    fn an_empty_api_key_is_none() {
        assert_eq!(ApiKey::parse(&text("")), Ok(None));
        assert_eq!(ApiKey::parse(&text("KEY1_a")), Ok(Some(Secret::new("KEY1_a".to_owned()))));
        for bad in ["hidden ", "hid\nden", "hidden ü"] {
            let message = ApiKey::parse(&text(bad)).expect_err(bad);
            assert!(!message.contains("hid"), "{message}");
        }
    }

    #[test]
    fn statuses_profiles_and_queries() {
        assert_eq!(Texts::parse(&list(&["assigned"])), Ok(vec!["assigned".to_owned()]));
        assert!(Texts::parse(&list(&[])).is_err() && Texts::parse(&list(&["a", ""])).is_err());
        let types = ["image/jpg", "IMAGE/JPEG; q=1", "application/x-new"];
        let stored = ["image/jpeg", "application/x-new"].map(str::to_owned).to_vec();
        assert_eq!(MediaTypes::parse(&list(&types)), Ok(stored));
        assert!(MediaTypes::parse(&list(&["image/*"])).is_err_and(|fault| fault.contains("image/*")));
        assert_eq!(profile_id(" 40019ab1-aa "), Ok("40019ab1-aa".to_owned()));
        assert!(profile_id("a b").is_err());
        assert_eq!(query(" SELECT 1; "), Ok("SELECT 1".to_owned()));
        assert_eq!(
            query("SELECT 1; SELECT 2"),
            Err("holds more than one statement: write one SELECT".to_owned())
        );
    }
}
