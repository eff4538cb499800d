//! What RCS and WhatsApp messages say: their content is an object, `payload.body`, in place of `text` and
//! `media`.
//!
//! RCS: `{text}`, `{suggestion_response: {text}}`, `{user_file: {payload: {file_uri, mime_type}}}`,
//! `{location: {latitude, longitude}}`. WhatsApp: `{type, text: {body}}`, or under the type's name an object with
//! `link` and `caption`, with coordinates, with the button that was tapped, or a list of contacts.
//!
//! Sources: <https://developers.telnyx.com/docs/messaging/messages/receiving-rcs-webhooks>,
//! <https://developers.facebook.com/docs/whatsapp/cloud-api/webhooks/payload-examples>

use serde_json::Value;

use super::fields;
use super::webhook::Media;

/// Kinds of WhatsApp's files.
const FILES: [&str; 5] = ["image", "video", "audio", "document", "sticker"];

/// The text of a body: what a person would read in it. Empty if there is none.
pub(super) fn text(body: &Value) -> String {
    let direct = [
        &body["text"],
        &body["text"]["body"],
        &body["suggestion_response"]["text"],
        &body["button"]["text"],
        &body["interactive"]["button_reply"]["title"],
        &body["interactive"]["list_reply"]["title"],
        &body["reaction"]["emoji"],
    ];
    let captions = FILES.iter().map(|kind| &body[kind]["caption"]);
    let found = fields::text(body).or_else(|| direct.into_iter().chain(captions).find_map(fields::text));
    found.or_else(|| location(&body["location"])).or_else(|| contacts(&body["contacts"])).unwrap_or_default()
}

/// Its files.
pub(super) fn media(body: &Value) -> Vec<Media> {
    let rcs = &body["user_file"];
    let rcs = [rcs, &rcs["payload"]].into_iter().filter_map(|file| media_at(file, "file_uri"));
    let whatsapp = FILES.iter().filter_map(|kind| {
        let file = &body[kind];
        media_at(file, "link").or_else(|| media_at(file, "url"))
    });
    rcs.chain(whatsapp).collect()
}

fn media_at(file: &Value, link: &str) -> Option<Media> {
    let size =
        [&file["file_size_bytes"], &file["file_size"], &file["size"]].into_iter().find_map(fields::count);
    let content_type = [&file["mime_type"], &file["content_type"]].into_iter().find_map(fields::text);
    let name = ["filename", "file_name", "name"].into_iter().find_map(|name| fields::text(&file[name]));
    Some(Media { url: fields::text(&file[link])?, content_type, size, name })
}

/// A place as lines: its name, its address, and a `geo:` link (RFC 5870).
fn location(place: &Value) -> Option<String> {
    let latitude = fields::text(&place["latitude"])?;
    let longitude = fields::text(&place["longitude"])?;
    let named = [&place["name"], &place["address"]].into_iter().filter_map(fields::text);
    Some(named.chain([format!("geo:{latitude},{longitude}")]).collect::<Vec<_>>().join("\n"))
}

/// Address book entries, one a line: the name and the numbers.
fn contacts(list: &Value) -> Option<String> {
    let line = |contact: &Value| {
        let name =
            fields::text(&contact["name"]["formatted_name"]).or_else(|| fields::text(&contact["name"]));
        let phones = contact["phones"].as_array().into_iter().flatten();
        let numbers = phones.filter_map(|phone| fields::text(&phone["phone"]));
        let words: Vec<String> = name.into_iter().chain(numbers).collect();
        (!words.is_empty()).then(|| words.join(" "))
    };
    let lines: Vec<String> = list.as_array()?.iter().filter_map(line).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_text_is_found_wherever_the_kind_of_message_has_it() {
        for (body, read) in [
            (json!({"text": "hi rcs"}), "hi rcs"),
            (json!({"suggestion_response": {"postback_data": "yes", "text": "Yes"}}), "Yes"),
            (json!({"type": "text", "text": {"body": "hi"}}), "hi"),
            (json!({"type": "button", "button": {"text": "No", "payload": "n"}}), "No"),
            (json!({"interactive": {"button_reply": {"id": "1", "title": "Later"}}}), "Later"),
            (json!({"interactive": {"list_reply": {"id": "1", "title": "Monday"}}}), "Monday"),
            (json!({"reaction": {"message_id": "m", "emoji": "👍"}}), "👍"),
            (json!({"type": "image", "image": {"link": "https://c/a", "caption": "Look"}}), "Look"),
            (json!({"location": {"latitude": 48.85, "longitude": 2.29}}), "geo:48.85,2.29"),
            (
                json!({"location": {"latitude": "1", "longitude": "2", "name": "Shop", "address": "Road 1"}}),
                "Shop\nRoad 1\ngeo:1,2",
            ),
            (
                json!({"contacts": [{"name": {"formatted_name": "Ann"}, "phones": [{"phone": "+1"}, {"phone": "+2"}]},
                    {"name": "Bob"}, {}]}),
                "Ann +1 +2\nBob",
            ),
            (json!("plain"), "plain"),
            (json!({"type": "unsupported"}), ""),
            (json!(null), ""),
        ] {
            assert_eq!(text(&body), read, "{body}");
        }
    }

    #[test]
    fn files_are_found_too() {
        let file = |url: &str, content_type: Option<&str>, size| Media {
            url: url.to_owned(),
            content_type: content_type.map(str::to_owned),
            size,
            name: None,
        };
        for (body, read) in [
            (
                json!({"user_file": {"payload": {"mime_type": "image/png", "file_uri": "https://g/1",
                    "file_size_bytes": "12"}, "thumbnail": {"file_uri": "https://g/2"}}}),
                vec![file("https://g/1", Some("image/png"), Some(12))],
            ),
            (
                json!({"type": "document", "document": {"link": "https://w/1", "filename": "a.pdf"}}),
                vec![Media { name: Some("a.pdf".to_owned()), ..file("https://w/1", None, None) }],
            ),
            (
                json!({"audio": {"url": "https://w/2", "mime_type": "audio/ogg"}}),
                vec![file("https://w/2", Some("audio/ogg"), None)],
            ),
            (json!({"image": {"id": "only an id"}}), vec![]),
        ] {
            assert_eq!(media(&body), read, "{body}");
        }
    }
}
