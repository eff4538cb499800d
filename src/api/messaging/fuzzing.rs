//! What must hold for any body of a call, any query, and any header of a request for a file.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::attachments::AnnounceRequest;
use super::call::Input;
use super::conversations::{ConversationsRequest, MessagesRequest, ReadRequest, TypingRequest};
use super::files::{presentation, range_of};
use super::messages::{DeleteRequest, EditRequest};
use super::operations::{NameRequest, OptOutRequest};
use super::phone_numbers::{AssignRequest, SaveRequest};
use crate::config::{RoutingSettings, media_type};
use crate::protocol::http_auth::Query;
use crate::routing::draft::{Draft, SendRequest};
use crate::routing::phone_number::Destination;
use crate::routing::text::{MAX_MEDIA, MAX_MEDIA_URL_CHARACTERS};
use crate::routing::{Code, RoutingError, fuzzing};

/// Digits that no message repeats.
const CANARY: &str = "3125550142";

/// The body of a call, or its query: is read or refused with a code, and a refusal does not say what came.
pub(crate) fn body(text: &str) {
    for input in
        [Input::of_body(Bytes::copy_from_slice(text.as_bytes())), Input::of_query(&Query::parse(text))]
    {
        read::<EditRequest>(&input);
        read::<DeleteRequest>(&input);
        read::<ConversationsRequest>(&input);
        read::<MessagesRequest>(&input);
        read::<ReadRequest>(&input);
        read::<TypingRequest>(&input);
        read::<NameRequest>(&input);
        read::<OptOutRequest>(&input);
        read::<SaveRequest>(&input);
        read::<AssignRequest>(&input);
        read::<AnnounceRequest>(&input);
        if let Some(request) = read::<SendRequest>(&input) {
            message(&request, text);
        }
    }
}

fn read<T: DeserializeOwned>(input: &Input) -> Option<T> {
    let read = input.read();
    read.map_err(|error| {
        assert!(matches!(error.code, Code::BadJson | Code::InvalidField), "{error:?}");
        refused(&error);
    })
    .ok()
}

fn refused(error: &RoutingError) {
    assert!(!error.message.is_empty() && !error.message.contains(CANARY), "{}", error.message);
    assert!((400..500).contains(&error.code.status()));
}

fn message(request: &SendRequest, text: &str) {
    let Some(draft) = draft(request) else { return };
    assert!(draft.media_urls.len() <= MAX_MEDIA);
    for url in &draft.media_urls {
        assert!(url.chars().count() <= MAX_MEDIA_URL_CHARACTERS);
        let uri: hyper::Uri = url.parse().expect("bug: accepted, but no URI");
        assert!(
            matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|it| !it.is_empty())
        );
    }
    for short in [&draft.reference, &draft.subject, &draft.idempotency_key].into_iter().flatten() {
        assert!((1..=255).contains(&short.chars().count()) && !short.chars().any(char::is_control));
    }
    assert!(draft.text.as_ref().is_none_or(|text| !text.trim().is_empty()));
    assert_eq!(draft.user_id.trim(), draft.user_id);
    for is_internal in [true, false] {
        if let Err(error) = draft.check_text(is_internal) {
            refused(&error);
        } else {
            assert!(!draft.text.as_ref().is_some_and(|text| text.contains('\0')));
        }
    }
    // A repetition that is written otherwise is the same message.
    if let Ok(document) = serde_json::from_str::<Value>(text) {
        let written = Bytes::from(serde_json::to_vec_pretty(&document).expect("bug: JSON is written"));
        let again =
            Input::of_body(written).read::<SendRequest>().ok().and_then(|request| self::draft(&request));
        assert_eq!(again.map(|draft| draft.hash()), Some(draft.hash()));
    }
}

fn draft(request: &SendRequest) -> Option<Draft> {
    let settings = RoutingSettings::default();
    let to = request.to.as_ref()?.one().inspect_err(refused).ok()?;
    let to = Destination::parse(to, &settings.numbers, Some("US"));
    let to = to.inspect_err(|error| assert!(!error.to_string().contains(CANARY))).ok()?;
    Draft::new(request, to, &settings).inspect_err(refused).ok()
}

/// `Range`, `Content-Type` and the names of files.
pub(crate) fn file_headers(text: &str) {
    for size in [0, 1, 10, u64::MAX] {
        if let Some(Ok(range)) = range_of(text, size) {
            assert!(range.start < range.end && range.end <= size, "{range:?} of {size}");
        }
    }
    if let Some(stored) = media_type::stored(text) {
        assert_eq!(media_type::stored(&stored).as_deref(), Some(stored.as_str()));
        assert!(stored.len() <= 127 && stored.is_ascii() && stored.matches('/').count() == 1);
        assert!(!stored.bytes().any(|byte| byte.is_ascii_uppercase() || byte.is_ascii_whitespace()));
    }
    let (content_type, how) = presentation(text);
    assert!(hyper::header::HeaderValue::from_str(&content_type).is_ok());
    assert!(
        !media_type::can_run(&content_type) && (how == "attachment" || media_type::is_shown(&content_type))
    );
    fuzzing::names(text);
}
