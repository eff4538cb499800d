use std::io::{Read, Write};
use std::net::TcpListener;

use hyper::header::{HeaderName, HeaderValue};

use super::test_server::{Behaviour, TestServer};
use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn client() -> HttpClient {
    HttpClient::new(HttpOptions { connect_timeout: SECOND, ..HttpOptions::default() })
}

async fn post(client: &HttpClient, url: &str, timeout: Duration) -> Result<HttpAnswer, HttpFailure> {
    let uri = url.parse().expect("a URL");
    client.post(&uri, HeaderMap::new(), Bytes::from_static(b"{\"a\":1}"), timeout, 20).await
}

fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nX-One: 1\r\n\r\n{body}", body.len())
}

async fn outcome_of(behaviour: Behaviour, timeout: Duration) -> Result<HttpAnswer, HttpFailure> {
    let server = TestServer::start(vec![behaviour]).await;
    let result = post(&client(), &server.url("/path?q=1"), timeout).await;
    assert_eq!(server.requests().len(), 1, "nothing is tried again");
    result
}

#[tokio::test]
async fn every_status_is_an_answer_and_redirects_are_not_followed() {
    for status in ["200 OK", "404 Not Found", "302 Found", "503 Service Unavailable"] {
        let behaviour = Behaviour::Answer(answer(&format!("{status}\r\nLocation: /other"), "hello"));
        let got = outcome_of(behaviour, SECOND).await.expect("an answer");
        assert_eq!(got.status.as_str(), &status[..3]);
        assert_eq!(got.headers["x-one"], "1");
        assert_eq!(&got.body[..], b"hello");
    }
}

#[tokio::test]
async fn a_long_answer_is_cut() {
    let got =
        outcome_of(Behaviour::Answer(answer("200 OK", &"x".repeat(50))), SECOND).await.expect("an answer");
    assert_eq!(&got.body[..], "x".repeat(20).as_bytes());
}

#[tokio::test]
async fn what_fails_after_the_request_left_is_unclear() {
    let cut = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345".to_owned();
    let cut_chunk = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n".to_owned();
    let cases = [
        (Behaviour::Reset, ""),
        (Behaviour::AnswerAndClose(String::new()), ""),
        (Behaviour::AnswerAndClose("HTTP/1.1 20".to_owned()), ""),
        (Behaviour::AnswerAndClose("nonsense\r\n\r\n".to_owned()), ""),
        (Behaviour::AnswerAndClose(cut), "HTTP 200, then the answer broke off"),
        (Behaviour::AnswerAndClose(cut_chunk), "HTTP 200, then the answer broke off"),
    ];
    for (behaviour, expected) in cases {
        let failure = outcome_of(behaviour.clone(), SECOND).await.expect_err("no answer");
        let HttpFailure::Unclear(reason) = &failure else { panic!("{behaviour:?} gave {failure:?}") };
        assert!(reason.starts_with(expected), "{reason}");
        assert!(!reason.contains("127.0.0.1"), "{reason}");
    }
}

#[tokio::test]
async fn silence_after_the_request_or_amid_the_answer_is_unclear() {
    let short = Duration::from_millis(50);
    let failure = outcome_of(Behaviour::Hang, short).await.expect_err("no answer");
    assert_eq!(failure, HttpFailure::Unclear("no answer within 50 ms".to_owned()));
    let half = Behaviour::Answer("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n123".to_owned());
    let failure = outcome_of(half, short).await.expect_err("no answer");
    let expected = "HTTP 200, then no complete answer within 50 ms";
    assert_eq!(failure, HttpFailure::Unclear(expected.to_owned()));
}

#[tokio::test]
async fn a_head_that_settles_it_needs_no_body() {
    for status in ["200 OK", "503 Service Unavailable"] {
        let half = format!("HTTP/1.1 {status}\r\nContent-Length: 10\r\n\r\n12345");
        for (behaviour, body) in [
            (Behaviour::Answer(half.clone()), ""),
            (Behaviour::AnswerAndClose(half), ""),
            (Behaviour::Answer(answer(status, "hello")), "hello"),
        ] {
            let server = TestServer::start(vec![behaviour]).await;
            let (uri, patience) = (server.url("/").parse().expect("a URL"), Duration::from_millis(50));
            let call =
                client().notify(&uri, HeaderMap::new(), Bytes::new(), SECOND * 3600, 20, patience).await;
            let got = call.expect("an answer");
            assert_eq!((got.status.as_str(), &got.body[..]), (&status[..3], body.as_bytes()));
        }
    }
    let silent = TestServer::start(vec![Behaviour::Hang]).await;
    let uri = silent.url("/").parse().expect("a URL");
    let (short, body) = (Duration::from_millis(50), Bytes::new());
    let failure =
        client().notify(&uri, HeaderMap::new(), body, short, 20, SECOND).await.expect_err("no head");
    assert_eq!(failure, HttpFailure::Unclear("no answer within 50 ms".to_owned()));
}

#[tokio::test]
async fn without_a_connection_nothing_was_sent() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound");
    let refused = post(&client(), &format!("http://{free}/"), SECOND).await.expect_err("nobody listens");
    assert!(matches!(&refused, HttpFailure::NotSent(reason) if reason.contains("refused")), "{refused:?}");

    let unknown = post(&client(), "http://no-such-host.invalid/", SECOND).await.expect_err("no such name");
    assert!(matches!(unknown, HttpFailure::NotSent(_)), "{unknown:?}");

    let plain = TestServer::start(vec![Behaviour::Answer(answer("200 OK", ""))]).await;
    let url = plain.url("/").replace("http:", "https:");
    let no_tls = post(&client(), &url, SECOND).await.expect_err("the server speaks no TLS");
    assert!(matches!(no_tls, HttpFailure::NotSent(_)), "{no_tls:?}");
    assert!(plain.requests().is_empty());
}

/// A listener that accepts (in the kernel) and never answers the TLS greeting.
#[tokio::test]
async fn a_time_out_while_connecting_means_not_sent_whichever_limit_hits_first() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("https://{}/", silent.local_addr().expect("bound"));
    let short = Duration::from_millis(50);
    for (connect_timeout, timeout) in [(short, SECOND), (SECOND, short)] {
        let client = HttpClient::new(HttpOptions { connect_timeout, ..HttpOptions::default() });
        let failure = post(&client, &url, timeout).await.expect_err("no handshake");
        let HttpFailure::NotSent(reason) = &failure else { panic!("{failure:?}") };
        assert!(reason.contains("no connection within 50 ms"), "{reason}");
    }
}

#[tokio::test]
async fn connections_are_kept_and_header_names_can_be_in_title_case() {
    for (title_case_headers, expected) in [(false, "x-pusher-key: k"), (true, "X-Pusher-Key: k")] {
        let server = TestServer::start(vec![Behaviour::Answer(answer("200 OK", "ok"))]).await;
        let client = HttpClient::new(HttpOptions { title_case_headers, ..HttpOptions::default() });
        let uri: Uri = server.url("/hook").parse().expect("a URL");
        let headers: HeaderMap =
            [(HeaderName::from_static("x-pusher-key"), HeaderValue::from_static("k"))].into_iter().collect();
        client.post(&uri, headers, Bytes::from_static(b"[]"), SECOND, 100).await.expect("an answer");
        client.get(&uri, HeaderMap::new(), SECOND, 100).await.expect("an answer");
        client.delete(&uri, HeaderMap::new(), SECOND, 100).await.expect("an answer");
        let requests = server.requests();
        assert!(requests[0].starts_with("POST /hook HTTP/1.1\r\n"), "{requests:?}");
        assert!(requests[0].contains(expected) && requests[0].ends_with("\r\n\r\n[]"), "{requests:?}");
        assert!(requests[1].starts_with("GET /hook "), "{requests:?}");
        assert!(requests[2].starts_with("DELETE /hook "), "{requests:?}");
    }
}

/// The server closes while the client is not looking; the connection's task then finds the end of the
/// connection and the queued request at the same time.
#[test]
fn a_kept_connection_closed_before_the_request_means_not_sent() {
    // Looks for socket events after every step instead of every 61.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().event_interval(1).build();
    runtime.expect("a runtime").block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}/", listener.local_addr().expect("bound"));
        let (close, closing) = std::sync::mpsc::channel();
        let server = std::thread::spawn(move || answer_once(&listener, &closing));
        let client = client();
        post(&client, &url, SECOND).await.expect("an answer");
        // Lets the connection go back to the pool and its task come to rest.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        close.send(()).expect("the server waits");
        // Blocks the runtime's only thread, so that nobody notices yet.
        server.join().expect("the server ends");
        // Its step comes before the connection's, and the socket's event in between.
        tokio::spawn(async {});
        let failure = post(&client, &url, SECOND).await.expect_err("closed");
        let HttpFailure::NotSent(reason) = &failure else { panic!("{failure:?}") };
        assert!(reason.contains("Canceled"), "{reason}");
    });
}

fn answer_once(listener: &TcpListener, closing: &std::sync::mpsc::Receiver<()>) {
    let (mut stream, _) = listener.accept().expect("a connection");
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    while !bytes.ends_with(b"{\"a\":1}") {
        let length = stream.read(&mut buffer).expect("readable");
        assert!(length > 0, "the request is complete");
        bytes.extend_from_slice(&buffer[..length]);
    }
    stream.write_all(answer("200 OK", "ok").as_bytes()).expect("writable");
    closing.recv().expect("told to close");
}

#[test]
fn calls_can_be_made_from_any_thread() {
    fn is_send<T: Send>(_: &T) {}
    let (client, uri) = (client(), Uri::from_static("http://localhost/"));
    is_send(&client.get(&uri, HeaderMap::new(), SECOND, 1));
}

/// Answers one request over TLS with this certificate.
fn answer_over_tls(listener: &TcpListener, certificate: rcgen::CertifiedKey<rcgen::KeyPair>) {
    let key = rustls::pki_types::PrivateKeyDer::try_from(certificate.signing_key.serialize_der());
    let config = rustls::ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.cert.der().clone()], key.expect("a key"))
        .expect("a configuration");
    let config = std::sync::Arc::new(config);
    // A client that does not believe us says so and closes.
    for stream in listener.incoming().take(2) {
        let mut stream = stream.expect("a connection");
        let mut tls = rustls::ServerConnection::new(std::sync::Arc::clone(&config)).expect("a session");
        let mut connection = rustls::Stream::new(&mut tls, &mut stream);
        let mut request = [0; 4096];
        if connection.read(&mut request).is_ok_and(|read| read > 0) {
            connection.write_all(answer("200 OK", "private").as_bytes()).expect("written");
        }
    }
}

#[tokio::test]
async fn a_private_authority_is_believed_where_it_is_named_and_nowhere_else() {
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let folder = tempfile::tempdir().expect("a folder");
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, certificate.cert.pem()).expect("written");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("https://localhost:{}/", listener.local_addr().expect("bound").port());
    let server = std::thread::spawn(move || answer_over_tls(&listener, certificate));
    let reach = Reach { public_only: false, ca_file: Some(ca_file) };
    for (reach, expected) in [(Reach::default(), None), (reach, Some("private"))] {
        let client = HttpClient::within(&reach, HttpOptions::default()).expect("a client");
        let got = post(&client, &url, SECOND * 5).await;
        let failure = got.as_ref().err().map(ToString::to_string).unwrap_or_default();
        assert_eq!(
            got.ok().as_ref().map(|answer| &answer.body[..]),
            expected.map(str::as_bytes),
            "{failure}"
        );
    }
    server.join().expect("no panic");
}
