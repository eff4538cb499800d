//! Fetches a file from an address that is somebody else's word: only `https`, only addresses of the internet, only so
//! many bytes, and only while enough of them come. Redirects and answers in parts are followed, and each request is
//! checked as the first.

#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_RANGE, LOCATION,
    RANGE, TRANSFER_ENCODING, USER_AGENT,
};
use hyper::{StatusCode, Uri};
use url::Url;

use super::room::{Held, Parties, Room};
use crate::apps::{LeastRate, Pace};
use crate::config::AttachmentSettings;
use crate::http_client::{HttpAnswer, HttpClient, HttpFailure, HttpOptions, HttpStream, Reach};

/// Time for the head of an answer.
const TIMEOUT: Duration = Duration::from_secs(20);
/// How long a copy waits for its share of the memory; there are other tries.
const PATIENCE: Duration = Duration::from_mins(1);
/// Redirects that are followed.
const MAX_REDIRECTS: usize = 10;
/// Parts of one file.
const MAX_PARTS: usize = 100;
const AGENT: &str = concat!("switchboard/", env!("CARGO_PKG_VERSION"));

/// Why there is no file.
#[derive(Debug, PartialEq, Eq)]
pub enum Miss {
    /// It may be there later.
    NotNow(String),
    /// It never will.
    Never(String),
}

/// A file as it came.
#[derive(Debug)]
pub struct Fetched {
    /// Of the answer that brought it, or its first part.
    pub headers: HeaderMap,
    pub content: Bytes,
    /// The room that the content takes.
    pub held: Option<Held>,
}

/// Fetches the file at `url`. With `expected`, the bytes that it should have, an answer that may have broken off counts
/// as one.
pub async fn fetch(
    url: &str,
    expected: Option<usize>,
    settings: &AttachmentSettings,
    (room, parties): (&Arc<Room>, &Parties),
) -> Result<Fetched, Miss> {
    let reach = Reach { public_only: !settings.allow_private_addresses, ca_file: None };
    let client = HttpClient::within(&reach, HttpOptions::default()).map_err(Miss::Never)?;
    let url = Url::parse(url).map_err(|_| Miss::Never("its address is none".to_owned()))?;
    let least = LeastRate::new(settings.least_rate, settings.rate_window);
    let source = Source { client, least, room, parties, held: Mutex::default() };
    let fetched = Download::new(&source, settings, url, expected).run().await?;
    let fetched =
        Fetched { held: source.held.into_inner().unwrap_or_else(PoisonError::into_inner), ..fetched };
    if fetched.content.len() > settings.max_size || fetched.content.is_empty() {
        return Err(Miss::Never("it is empty, or larger than attachments.max_size".to_owned()));
    }
    Ok(fetched)
}

/// Makes one request.
trait Get: Sync {
    fn get(
        &self,
        uri: &Uri,
        headers: HeaderMap,
        most: usize,
    ) -> impl Future<Output = Result<HttpAnswer, HttpFailure>> + Send;
}

/// Reads answers as long as they are fast enough and there is room for them.
struct Source<'a> {
    client: HttpClient,
    least: LeastRate,
    room: &'a Arc<Room>,
    parties: &'a Parties,
    held: Mutex<Option<Held>>,
}

impl Source<'_> {
    /// The first bytes of an answer, at most `most`.
    async fn read(&self, stream: &mut HttpStream, most: usize) -> Result<Bytes, HttpFailure> {
        let (mut pace, mut body) = (Pace::new(self.least), BytesMut::new());
        while body.len() < most {
            let slow = |_| HttpFailure::Unclear("it comes too slowly (attachments.least_rate)".to_owned());
            let Some(data) = pace.of(stream.next()).await.map_err(slow)?? else { break };
            pace.moved(data.len());
            let more = self.room.take(self.parties, data.len(), PATIENCE).await;
            let more = more.map_err(|error| HttpFailure::Unclear(error.message))?;
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            match &mut *held {
                Some(held) => held.join(more),
                held => *held = Some(more),
            }
            body.extend_from_slice(&data[..data.len().min(most - body.len())]);
        }
        Ok(body.freeze())
    }
}

impl Get for Source<'_> {
    async fn get(&self, uri: &Uri, headers: HeaderMap, most: usize) -> Result<HttpAnswer, HttpFailure> {
        let mut stream = self.client.open(uri, headers, TIMEOUT).await?;
        let body = self.read(&mut stream, most).await?;
        Ok(HttpAnswer { status: stream.status, headers: stream.headers, body })
    }
}

struct Download<'a, G> {
    client: &'a G,
    settings: &'a AttachmentSettings,
    /// Where it is, as far as is known by now.
    url: Url,
    redirects: usize,
    expected: Option<usize>,
    /// The first bytes, and the headers that they came with.
    parts: BytesMut,
    headers: Option<HeaderMap>,
}

impl<'a, G: Get> Download<'a, G> {
    fn new(client: &'a G, settings: &'a AttachmentSettings, url: Url, expected: Option<usize>) -> Self {
        Self { client, settings, url, redirects: 0, expected, parts: BytesMut::new(), headers: None }
    }

    async fn run(mut self) -> Result<Fetched, Miss> {
        let mut from = None;
        for _ in 0..MAX_PARTS {
            let answer = self.ask(from).await?;
            match answer.status {
                StatusCode::PARTIAL_CONTENT => {
                    if self.add(answer, from)? {
                        return Ok(self.complete());
                    }
                }
                StatusCode::RANGE_NOT_SATISFIABLE => return Ok(self.complete()),
                _ if self.may_have_broken_off(&answer) => return Err(broken_off()),
                _ => return Ok(Fetched { headers: answer.headers, content: answer.body, held: None }),
            }
            from = Some(self.parts.len());
        }
        Err(Miss::NotNow(format!("it comes in more than {MAX_PARTS} parts")))
    }

    fn complete(self) -> Fetched {
        Fetched { headers: self.headers.unwrap_or_default(), content: self.parts.freeze(), held: None }
    }

    /// Only the end of the connection says that an answer without a length is over.
    fn may_have_broken_off(&self, answer: &HttpAnswer) -> bool {
        let has_length =
            [CONTENT_LENGTH, TRANSFER_ENCODING].iter().any(|name| answer.headers.contains_key(name));
        !has_length && self.expected.is_some_and(|expected| answer.body.len() < expected)
    }

    /// Adds a part; answers whether it was the last. Some servers send parts although nobody asked for one, and some
    /// call the whole file a part.
    fn add(&mut self, answer: HttpAnswer, from: Option<usize>) -> Result<bool, Miss> {
        let HttpAnswer { headers, body, .. } = answer;
        let have = self.parts.len();
        let range = ContentRange::of(&headers);
        let range = range.unwrap_or(ContentRange { first: 0, last: None, total: None });
        if from.is_some_and(|from| from != range.first) {
            return Err(Miss::NotNow("the server sends another part of it than was asked for".to_owned()));
        }
        if range.total.is_some_and(|total| total > self.settings.max_size) {
            return Err(Miss::Never("it is larger than attachments.max_size".to_owned()));
        }
        // A first answer that is not the beginning is asked for anew.
        if range.first == have {
            let length =
                range.last.map_or(body.len(), |last| last.saturating_add(1).saturating_sub(range.first));
            let bytes = &body[..body.len().min(length)];
            if bytes.is_empty() {
                return Err(broken_off());
            }
            self.parts.extend_from_slice(bytes);
            self.headers.get_or_insert(headers);
        }
        let have = self.parts.len();
        Ok(match (range.total, range.last, self.expected) {
            _ if have > self.settings.max_size => true,
            (Some(total), ..) => have >= total,
            (None, _, Some(expected)) => have >= expected,
            // Whether there is more, only another request can tell, if the server knows parts at all.
            (None, last, None) => last.is_none(),
        })
    }

    /// Asks for the file, or for what is behind its first bytes, wherever redirects lead.
    async fn ask(&mut self, from: Option<usize>) -> Result<HttpAnswer, Miss> {
        loop {
            let uri = self.address()?;
            // One byte more, to see that it is too large.
            let most = self.settings.max_size + 1;
            let answer = self.client.get(&uri, self.request_headers(from), most).await;
            let answer = answer.map_err(|failure| match failure {
                HttpFailure::NotSent(reason) | HttpFailure::Unclear(reason) => Miss::NotNow(reason),
            })?;
            match answer.status.as_u16() {
                200 | 203 | 206 => return Ok(answer),
                416 if from.is_some_and(|from| from > 0) => return Ok(answer),
                301 | 302 | 303 | 307 | 308 => self.redirect(&answer)?,
                202 | 408 | 425 | 429 | 500.. => return Err(Miss::NotNow(format!("HTTP {}", answer.status))),
                _ => return Err(Miss::Never(format!("HTTP {}", answer.status))),
            }
        }
    }

    fn request_headers(&self, from: Option<usize>) -> HeaderMap {
        let mut headers = HeaderMap::from_iter([
            (ACCEPT, HeaderValue::from_static("*/*")),
            (ACCEPT_ENCODING, HeaderValue::from_static("identity")),
            (USER_AGENT, HeaderValue::from_static(AGENT)),
        ]);
        if let Some(from) = from {
            headers.insert(RANGE, range_from(from));
            let etag = self.headers.as_ref().and_then(|headers| headers.get(ETAG));
            // Of a file that has changed meanwhile, the server then sends all.
            if let Some(etag) = etag.filter(|etag| from > 0 && etag.as_bytes().starts_with(b"\"")) {
                headers.insert(IF_RANGE, etag.clone());
            }
        }
        headers
    }

    /// Follows a `Location`, which may be relative to the address that gave it (RFC 9110, section 10.2.2).
    fn redirect(&mut self, answer: &HttpAnswer) -> Result<(), Miss> {
        if self.redirects == MAX_REDIRECTS {
            return Err(Miss::Never("it is redirected too often".to_owned()));
        }
        self.redirects += 1;
        let location = answer.headers.get(LOCATION).map(HeaderValue::as_bytes).map(String::from_utf8_lossy);
        let next = location.and_then(|location| self.url.join(location.trim()).ok());
        self.url = next.ok_or_else(|| Miss::Never("it is redirected to no address".to_owned()))?;
        Ok(())
    }

    /// The present address, if it may be asked. To which addresses its host may resolve is the client's to check.
    fn address(&self) -> Result<Uri, Miss> {
        let is_allowed = match self.url.scheme() {
            "https" => true,
            "http" => self.settings.allow_private_addresses,
            _ => false,
        };
        if !is_allowed {
            return Err(Miss::Never("its address is not https".to_owned()));
        }
        let mut url = self.url.clone();
        url.set_fragment(None);
        // Names and passwords in it are for nobody.
        let _ = url.set_username("").and_then(|()| url.set_password(None));
        url.as_str().parse().map_err(|_| Miss::Never("its address is none".to_owned()))
    }
}

fn range_from(first: usize) -> HeaderValue {
    HeaderValue::from_str(&format!("bytes={first}-")).unwrap_or(HeaderValue::from_static("bytes=0-"))
}

fn broken_off() -> Miss {
    Miss::NotNow("the answer broke off".to_owned())
}

/// `Content-Range: bytes 0-99/200`.
#[derive(Debug, PartialEq, Eq)]
struct ContentRange {
    first: usize,
    /// `None`: as many bytes as there are.
    last: Option<usize>,
    /// `None`: the server does not know it either.
    total: Option<usize>,
}

impl ContentRange {
    fn of(headers: &HeaderMap) -> Option<Self> {
        let text = headers.get(CONTENT_RANGE)?.to_str().ok()?.trim();
        let (unit, rest) = text.split_at_checked(5)?;
        let (range, total) = rest.trim_start_matches([' ', '=']).split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let number = |text: &str| text.trim().parse::<usize>().ok();
        let (first, last) = (number(first)?, number(last)?);
        let total = if total.trim() == "*" { None } else { Some(number(total)?) };
        let is_one =
            unit.eq_ignore_ascii_case("bytes") && first <= last && total.is_none_or(|total| last < total);
        is_one.then_some(Self { first, last: Some(last), total })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::config::RoutingSettings;

    const FILE: &[u8] = b"0123456789";

    /// What was asked: the address, `Range` and `If-Range`.
    type Asked = (String, Option<String>, Option<String>);

    /// A server: answers by address and first byte that is asked for.
    struct Server<F> {
        answers: F,
        asked: Mutex<Vec<Asked>>,
    }

    impl<F: Fn(&str, Option<usize>) -> HttpAnswer + Sync> Get for Server<F> {
        fn get(
            &self,
            uri: &Uri,
            headers: HeaderMap,
            _most: usize,
        ) -> impl Future<Output = Result<HttpAnswer, HttpFailure>> + Send {
            let text =
                |name| headers.get(name).map(|value: &HeaderValue| value.to_str().expect("text").to_owned());
            let (range, if_range) = (text(RANGE), text(IF_RANGE));
            let first = range.as_deref().map(|range| {
                let first = range.strip_prefix("bytes=").and_then(|range| range.strip_suffix('-'));
                first.and_then(|first| first.parse().ok()).expect("a range to the end")
            });
            let answer = (self.answers)(&uri.to_string(), first);
            self.asked.lock().expect("not poisoned").push((uri.to_string(), range, if_range));
            std::future::ready(Ok(answer))
        }
    }

    fn answer(status: u16, headers: &[(&'static str, &str)], body: &[u8]) -> HttpAnswer {
        let headers = headers.iter().map(|(name, value)| {
            let name = hyper::header::HeaderName::from_static(name);
            (name, HeaderValue::from_bytes(value.as_bytes()).expect("a value"))
        });
        HttpAnswer {
            status: StatusCode::from_u16(status).expect("a status"),
            headers: headers.collect(),
            body: Bytes::copy_from_slice(body),
        }
    }

    fn settings() -> AttachmentSettings {
        AttachmentSettings { max_size: 20, ..RoutingSettings::default().attachments }
    }

    async fn run(
        answers: impl Fn(&str, Option<usize>) -> HttpAnswer + Sync,
        expected: Option<usize>,
    ) -> (Result<Bytes, Miss>, Vec<Asked>) {
        let server = Server { answers, asked: Mutex::default() };
        let url = Url::parse("https://media.example/a/b?c=d#e").expect("a URL");
        let fetched = Download::new(&server, &settings(), url, expected).run().await;
        (fetched.map(|fetched| fetched.content), server.asked.into_inner().expect("not poisoned"))
    }

    #[tokio::test]
    async fn redirects_are_followed_whatever_form_they_have() {
        for (location, expected) in [
            ("/x/y.jpg", "https://media.example/x/y.jpg"),
            ("y.jpg?q=1", "https://media.example/a/y.jpg?q=1"),
            ("../y.jpg", "https://media.example/y.jpg"),
            ("?q=1", "https://media.example/a/b?q=1"),
            ("//cdn.example/y.jpg", "https://cdn.example/y.jpg"),
            ("https://cdn.example:8443/y.jpg#z", "https://cdn.example:8443/y.jpg"),
            ("HTTPS://CDN.example/Größe 1.jpg", "https://cdn.example/Gr%C3%B6%C3%9Fe%201.jpg"),
            ("https://me:secret@cdn.example/y.jpg", "https://cdn.example/y.jpg"),
            ("https://bücher.example/", "https://xn--bcher-kva.example/"),
        ] {
            let first = |uri: &str, _: Option<usize>| match uri {
                "https://media.example/a/b?c=d" => answer(302, &[("location", location)], b""),
                _ => answer(200, &[], FILE),
            };
            let (fetched, asked) = run(first, None).await;
            assert_eq!(fetched.as_deref(), Ok(FILE), "{location}");
            assert_eq!(asked.last().map(|(uri, ..)| uri.as_str()), Some(expected), "{location}");
        }
    }

    #[tokio::test]
    async fn no_redirect_leads_out_of_the_web_or_in_circles() {
        for location in [
            "http://media.example/",
            "file:///etc/passwd",
            "ftp://media.example/x",
            "data:,x",
            "//",
            "https://",
        ] {
            let (fetched, asked) = run(|_, _| answer(301, &[("location", location)], b""), None).await;
            assert!(matches!(fetched, Err(Miss::Never(_))), "{location}: {fetched:?}");
            assert_eq!(asked.len(), 1, "{location}");
        }
        let (fetched, asked) = run(|_, _| answer(307, &[("location", "?again")], b""), None).await;
        assert_eq!(fetched, Err(Miss::Never("it is redirected too often".to_owned())));
        assert_eq!(asked.len(), MAX_REDIRECTS + 1);
        let (fetched, _) = run(|_, _| answer(302, &[], b""), None).await;
        assert_eq!(fetched, Err(Miss::Never("it is redirected to no address".to_owned())));
    }

    /// The first answer is made up; whatever it leads to is asked by the client that is used for all.
    #[tokio::test]
    async fn redirects_to_private_addresses_are_refused_at_each_hop() {
        struct Mixed<'a>(Source<'a>);
        impl Get for Mixed<'_> {
            async fn get(
                &self,
                uri: &Uri,
                headers: HeaderMap,
                most: usize,
            ) -> Result<HttpAnswer, HttpFailure> {
                match uri.host() {
                    Some("media.example") => {
                        Ok(answer(302, &[("location", uri.query().unwrap_or_default())], b""))
                    }
                    _ => Get::get(&self.0, uri, headers, most).await,
                }
            }
        }
        let reach = Reach { public_only: true, ca_file: None };
        let client = HttpClient::within(&reach, HttpOptions::default()).expect("a client");
        let (room, parties) = (Arc::default(), Parties::of_copy("1001", "7"));
        let least = LeastRate::new(1, TIMEOUT);
        let source = Source { client, least, room: &room, parties: &parties, held: Mutex::default() };
        let client = Mixed(source);
        for location in [
            "https://127.0.0.1:9/",
            "https://2130706433:9/",
            "https://0x7f.1:9/",
            "//[::1]:9/",
            "//localhost:9/",
        ] {
            let url = Url::parse(&format!("https://media.example/?{location}")).expect("a URL");
            let fetched = Download::new(&client, &settings(), url, None).run().await;
            let Err(Miss::NotNow(reason)) = fetched else { panic!("{location}: {fetched:?}") };
            assert!(reason.contains("allow_private_addresses"), "{location}: {reason}");
        }
    }

    #[tokio::test]
    async fn a_part_that_is_the_whole_is_taken_and_others_are_completed() {
        let part = |first: usize, last: usize, total: &str| {
            let range = format!("bytes {first}-{last}/{total}");
            answer(206, &[("content-range", &range), ("etag", "\"e\"")], &FILE[first..=last])
        };
        let (fetched, asked) = run(|_, _| part(0, 9, "10"), None).await;
        assert_eq!((fetched.as_deref(), asked.len()), (Ok(FILE), 1));
        // Without a range, as far as anybody knows: all of it.
        let (fetched, asked) = run(|_, _| answer(206, &[], FILE), None).await;
        assert_eq!((fetched.as_deref(), asked.len()), (Ok(FILE), 1));
        // In pieces of four bytes, of a known or an unknown total.
        for (total, requests) in [("10", 3), ("*", 4)] {
            let pieces = |_: &str, first: Option<usize>| match first.unwrap_or(0) {
                10 => answer(416, &[], b""),
                first => part(first, (first + 3).min(9), total),
            };
            let (fetched, asked) = run(pieces, None).await;
            assert_eq!((fetched.as_deref(), asked.len()), (Ok(FILE), requests), "{total}");
            assert_eq!(asked[0].1, None);
            assert_eq!((asked[1].1.as_deref(), asked[1].2.as_deref()), (Some("bytes=4-"), Some("\"e\"")));
        }
        // The carrier said how many there are.
        let (fetched, asked) =
            run(|_, first| part(first.unwrap_or(0), first.map_or(3, |_| 9), "*"), Some(10)).await;
        assert_eq!((fetched.as_deref(), asked.len()), (Ok(FILE), 2));
        // A first answer that is not the beginning, and one that is all of a file that has changed.
        let (fetched, _) =
            run(|_, first| if first.is_some() { part(0, 9, "10") } else { part(4, 9, "10") }, None).await;
        assert_eq!(fetched.as_deref(), Ok(FILE));
        let changed = |_: &str, first: Option<usize>| match first {
            None => part(0, 3, "10"),
            Some(_) => answer(200, &[], b"another"),
        };
        assert_eq!(run(changed, None).await.0.as_deref(), Ok(&b"another"[..]));
    }

    #[tokio::test]
    async fn what_does_not_end_or_fit_is_no_file() {
        let endless = |_: &str, first: Option<usize>| {
            let first = first.unwrap_or(0);
            answer(206, &[("content-range", &format!("bytes {first}-{first}/*"))], b"x")
        };
        assert!(run(endless, None).await.0.is_ok_and(|content| content.len() > settings().max_size));
        let stuck = |_: &str, _: Option<usize>| answer(206, &[("content-range", "bytes 0-3/10")], &FILE[..4]);
        assert!(matches!(run(stuck, None).await.0, Err(Miss::NotNow(_))));
        let large = |_: &str, _: Option<usize>| answer(206, &[("content-range", "bytes 0-3/21")], &FILE[..4]);
        assert!(matches!(run(large, None).await.0, Err(Miss::Never(_))));
        let empty = |_: &str, _: Option<usize>| answer(206, &[("content-range", "bytes 0-3/10")], b"");
        assert_eq!(run(empty, None).await.0, Err(broken_off()));
    }

    #[tokio::test]
    async fn an_answer_without_a_length_must_have_what_the_carrier_said() {
        let cut = |_: &str, _: Option<usize>| answer(200, &[], &FILE[..4]);
        assert_eq!(run(cut, Some(10)).await.0, Err(broken_off()));
        assert_eq!(run(cut, None).await.0.as_deref(), Ok(&FILE[..4]));
        // Where there is a length, the carrier's figure is just wrong.
        let whole = |_: &str, _: Option<usize>| answer(200, &[("content-length", "10")], FILE);
        for said in [1, 10, 1_024] {
            assert_eq!(run(whole, Some(said)).await.0.as_deref(), Ok(FILE), "{said}");
        }
    }

    #[tokio::test]
    async fn statuses_tell_whether_there_is_a_point_in_coming_back() {
        for (status, comes_back) in [
            (202, true),
            (408, true),
            (425, true),
            (429, true),
            (500, true),
            (503, true),
            (204, false),
            (400, false),
            (401, false),
            (403, false),
            (404, false),
            (410, false),
            (416, false),
        ] {
            let (fetched, _) = run(|_, _| answer(status, &[], b"no"), None).await;
            assert_eq!(matches!(fetched, Err(Miss::NotNow(_))), comes_back, "{status}");
            assert!(fetched.is_err(), "{status}");
        }
        assert_eq!(run(|_, _| answer(203, &[], FILE), None).await.0.as_deref(), Ok(FILE));
    }

    #[test]
    fn ranges_of_contents_are_read() {
        for (text, expected) in [
            ("bytes 0-99/200", Some((0, 99, Some(200)))),
            ("Bytes=0-99/*", Some((0, 99, None))),
            ("bytes  0 - 99 / 200", Some((0, 99, Some(200)))),
            ("bytes 0-200/200", None),
            ("bytes 9-0/200", None),
            ("bytes */200", None),
            ("lines 0-9/10", None),
            ("bytes", None),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_RANGE, HeaderValue::from_static(text))]);
            let found = ContentRange::of(&headers)
                .map(|range| (range.first, range.last.expect("an end"), range.total));
            assert_eq!(found, expected, "{text}");
        }
    }
}
