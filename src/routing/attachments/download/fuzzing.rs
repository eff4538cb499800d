//! What must hold for whatever servers of files answer.

use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::config::RoutingSettings;

const MAX_SIZE: usize = 64;

/// Answers one after the other, the last one again and again.
struct Server {
    answers: Vec<(u16, HeaderMap, Bytes)>,
    asked: Mutex<Vec<(String, Option<HeaderValue>)>>,
}

impl Get for Server {
    fn get(
        &self,
        uri: &Uri,
        headers: HeaderMap,
        most: usize,
    ) -> impl Future<Output = Result<HttpAnswer, HttpFailure>> + Send {
        let mut asked = self.asked.lock().expect("bug: poisoned");
        let (status, headers_of, body) = &self.answers[asked.len().min(self.answers.len() - 1)];
        asked.push((uri.to_string(), headers.get(RANGE).cloned()));
        let status = StatusCode::from_u16(*status).expect("bug: no status");
        let body = body.slice(..body.len().min(most));
        std::future::ready(Ok(HttpAnswer { status, headers: headers_of.clone(), body }))
    }
}

/// Answers with a line `====` between them, each of a status, headers, an empty line and a body: a file is bounded and
/// made of what came, only `https` is asked, and the requests have an end.
pub(crate) fn download(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let answers: Vec<_> = text.split("\n====\n").filter_map(answer).take(20).collect();
    if answers.is_empty() {
        return;
    }
    let bodies: usize = answers.iter().map(|(_, _, body)| body.len()).sum();
    let last = answers.last().map_or(0, |(_, _, body)| body.len());
    let expected = text.len().is_multiple_of(3).then_some(10);
    let settings = AttachmentSettings { max_size: MAX_SIZE, ..RoutingSettings::default().attachments };
    let server = Server { answers, asked: Mutex::default() };
    let url = Url::parse("https://media.example/a/b?c=d").expect("bug: a URL");
    let mut run = std::pin::pin!(Download::new(&server, &settings, url, expected).run());
    let Poll::Ready(fetched) = run.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("it waits for something")
    };
    let asked = server.asked.lock().expect("bug: poisoned");
    assert!(asked.len() <= MAX_PARTS + MAX_REDIRECTS + 1, "{} requests", asked.len());
    for (uri, range) in &*asked {
        assert!(uri.starts_with("https://") && !uri.contains('@') | uri.contains(['?', '/']), "{uri}");
        let range = range.as_ref().map(|range| range.to_str().expect("bug: no text"));
        let first = range.map(|range| range.strip_prefix("bytes=").and_then(|it| it.strip_suffix('-')));
        assert!(
            first.is_none_or(|first| first.is_some_and(|first| first.parse::<usize>().is_ok())),
            "{range:?}"
        );
    }
    if let Ok(fetched) = fetched {
        let repeated = last * asked.len();
        assert!(fetched.content.len() <= bodies + repeated, "bytes that never came");
        assert!(fetched.content.len() <= 2 * MAX_SIZE + 1, "{} bytes", fetched.content.len());
    }
}

fn answer(text: &str) -> Option<(u16, HeaderMap, Bytes)> {
    let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
    let mut lines = head.lines();
    let status = lines.next()?.parse().ok().filter(|status| (200..600).contains(status))?;
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        let name = hyper::header::HeaderName::from_bytes(name.as_bytes()).ok()?;
        Some((name, HeaderValue::from_str(value.trim()).ok()?))
    };
    Some((status, lines.filter_map(header).collect(), Bytes::copy_from_slice(body.as_bytes())))
}
