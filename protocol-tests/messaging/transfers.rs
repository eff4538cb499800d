//! Files on their way: slow ones arrive, idle ones end, and none keeps the others from theirs.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::sleep;

use super::attachments::{ask, get};
use crate::harness::messaging::{ANN, BOB, OUTSIDE, Router, Setup, text};
use crate::harness::{DEADLINE, within};

const READY: &str = r"App\Events\AttachmentReady";
const WINDOW: Duration = Duration::from_secs(3);

/// A file without a pattern that would hide a part in the wrong place.
fn content(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at % 251) as u8 ^ (at / 65_536) as u8).collect()
}

/// Announces a text of user 1 for the conversation with Bob.
async fn announce(router: &Router, conversation: &Value) -> Value {
    let file = json!({"user_id": 1, "conversation_id": conversation, "name": "long.txt",
        "content_type": "text/plain"});
    router.ok("/attachments", file).await
}

async fn conversation(router: &Router) -> Value {
    router.thread(1, BOB).await.id
}

fn upload_url(announced: &Value) -> String {
    text(&announced["upload"]["url"])
}

fn file_url(announced: &Value) -> String {
    text(&announced["attachment"]["url"])
}

/// Brings a file at once.
async fn bring(router: &Router, announced: &Value, content: &[u8]) {
    let headers = [("Content-Type", "text/plain")];
    ask(router, "PUT", &upload_url(announced), &headers, content).await.expect_status(200);
}

/// A connection over which this was asked, with little room for what the server sends, and with segments as on a network:
/// the loopback's of 64 KB let a small window open once in seconds only.
async fn connection(router: &Router, method: &str, url: &str, length: usize) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(16 * 1024).expect("set");
    socket2::SockRef::from(&socket).set_tcp_mss(1_460).expect("set");
    let mut stream = socket.connect(router.server().public).await.expect("connected");
    let path = url.splitn(4, '/').nth(3).expect("a whole URL");
    let head = format!(
        "{method} /{path} HTTP/1.1\r\nHost: files\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("written");
    stream
}

/// The status of an answer that begins.
async fn status(stream: &mut TcpStream) -> String {
    let mut start = [0; 12];
    within(DEADLINE, "an answer", stream.read_exact(&mut start)).await.expect("an answer");
    String::from_utf8_lossy(&start[9..]).into_owned()
}

async fn files_of_many_parts_are_whole_and_ranges_have_their_bytes(setup: Setup) {
    let router = setup.start().await;
    let conversation = conversation(&router).await;
    // On both sides of the ends of parts, too.
    for size in [131_071, 131_072, 131_073, 700_000] {
        let (announced, content) = (announce(&router, &conversation).await, content(size));
        bring(&router, &announced, &content).await;
        let url = file_url(&announced);
        let whole = get(&router, &url).await.expect_status(200);
        assert!(whole.body == content, "{size}: {} bytes that differ", whole.body.len());
        for (asked, first, last) in [
            ("bytes=0-0".to_owned(), 0, 0),
            ("bytes=131000-131100".to_owned(), 131_000, 131_100.min(size - 1)),
            ("bytes=1-".to_owned(), 1, size - 1),
            ("bytes=-70000".to_owned(), size - 70_000, size - 1),
        ] {
            let part = ask(&router, "GET", &url, &[("Range", &asked)], b"").await.expect_status(206);
            assert!(part.body == content[first..=last], "{size} {asked}: {} bytes", part.body.len());
            assert_eq!(part.header("content-range"), Some(format!("bytes {first}-{last}/{size}").as_str()));
        }
    }
}

async fn a_slow_upload_arrives_and_an_idle_one_ends(setup: Setup) {
    let router = setup.start().await;
    let conversation = conversation(&router).await;
    let (announced, content) = (announce(&router, &conversation).await, content(200_000));
    let mut slow = connection(&router, "PUT", &upload_url(&announced), content.len()).await;
    // Slowly, through several windows.
    for piece in content.chunks(10_000) {
        slow.write_all(piece).await.expect("the server reads");
        sleep(WINDOW / 5).await;
    }
    assert_eq!(status(&mut slow).await, "200");
    assert!(get(&router, &file_url(&announced)).await.expect_status(200).body == content);

    let announced = announce(&router, &conversation).await;
    for pieces in [0, 3] {
        let mut idle = connection(&router, "PUT", &upload_url(&announced), content.len()).await;
        for piece in content.chunks(50_000).take(pieces) {
            idle.write_all(piece).await.expect("the server reads");
        }
        let since = Instant::now();
        assert_eq!(status(&mut idle).await, "408");
        assert!(since.elapsed() < 4 * WINDOW, "{:?}", since.elapsed());
    }
    // One byte now and then is no transfer either.
    let mut dripping = connection(&router, "PUT", &upload_url(&announced), content.len()).await;
    let since = Instant::now();
    while since.elapsed() < 6 * WINDOW && dripping.write_all(b"x").await.is_ok() {
        sleep(WINDOW / 10).await;
        let mut answer = [0; 12];
        if let Ok(read) = dripping.try_read(&mut answer)
            && read > 0
        {
            assert_eq!(&answer[9..], b"408");
            return;
        }
    }
    panic!("still there after {:?}", since.elapsed());
}

async fn a_slow_reader_gets_the_file_and_an_idle_one_is_left(setup: Setup) {
    let router = setup.start().await;
    let conversation = conversation(&router).await;
    let (announced, content) = (announce(&router, &conversation).await, content(2_000_000));
    bring(&router, &announced, &content).await;
    let url = file_url(&announced);
    let mut slow = connection(&router, "GET", &url, 0).await;
    let mut read = Vec::new();
    let mut buffer = [0; 10_000];
    let since = Instant::now();
    while since.elapsed() < 5 * WINDOW {
        let count = within(DEADLINE, "bytes", slow.read(&mut buffer)).await.expect("bytes");
        assert!(count > 0, "the server ended it after {:?} and {} bytes", since.elapsed(), read.len());
        read.extend_from_slice(&buffer[..count]);
        sleep(WINDOW / 5).await;
    }
    let end = |read: &[u8]| read.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
    while end(&read).is_none_or(|head| read.len() < head + content.len()) {
        let count = within(DEADLINE, "bytes", slow.read(&mut buffer)).await.expect("bytes");
        assert!(count > 0, "the server ended it after {} bytes", read.len());
        read.extend_from_slice(&buffer[..count]);
    }
    let head = end(&read).expect("a head");
    assert!(read[head..] == content);

    let mut idle = connection(&router, "GET", &url, 0).await;
    sleep(3 * WINDOW).await;
    let mut rest = Vec::new();
    // Cut off, or reset.
    let _ = within(DEADLINE, "the end", idle.read_to_end(&mut rest)).await;
    assert!(rest.len() < content.len(), "an idle reader was sent all");
}

/// Each has announced as much as a file may have, and nothing of it is there.
async fn idle_transfers_take_no_room_from_others(setup: Setup) {
    let router = setup.start().await;
    let conversation = conversation(&router).await;
    let [busy, other] = [announce(&router, &conversation).await, announce(&router, &conversation).await];
    let mut idle = Vec::new();
    for _ in 0..120 {
        let mut upload = connection(&router, "PUT", &upload_url(&busy), 5_000_000).await;
        upload.write_all(b"x").await.expect("written");
        idle.push(upload);
    }
    let content = content(2_000_000);
    let since = Instant::now();
    bring(&router, &other, &content).await;
    for _ in 0..60 {
        let mut reader = connection(&router, "GET", &file_url(&other), 0).await;
        assert_eq!(status(&mut reader).await, "200");
        idle.push(reader);
    }
    let another = announce(&router, &conversation).await;
    bring(&router, &another, &content).await;
    assert!(get(&router, &file_url(&another)).await.expect_status(200).body == content);
    assert!(since.elapsed() < Duration::from_secs(20), "{:?}", since.elapsed());
}

/// A server with files: `/slow` comes slowly, `/idle` begins and does not go on, all others come at once.
async fn source(content: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let content = content.clone();
            tokio::spawn(async move {
                let mut asked = [0; 1_024];
                let count = stream.read(&mut asked).await.unwrap_or(0);
                let asked = String::from_utf8_lossy(&asked[..count]).into_owned();
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", content.len());
                stream.write_all(head.as_bytes()).await?;
                for piece in content.chunks(10_000) {
                    stream.write_all(piece).await?;
                    match &asked {
                        asked if asked.contains("/slow") => sleep(WINDOW / 5).await,
                        asked if asked.contains("/idle") => std::future::pending().await,
                        _ => {}
                    }
                }
                std::io::Result::Ok(())
            });
        }
    });
    address
}

async fn a_slow_copy_arrives_and_an_idle_one_keeps_back_no_other(setup: Setup) {
    let content = content(200_000);
    let source = source(content.clone()).await;
    let router = setup.start().await;
    let mut ann = router.listen("user.1").await;
    let receive = async |name: &str| {
        let file = json!({"url": format!("http://{source}/{name}"), "content_type": "image/png"});
        let message = json!({"from": OUTSIDE, "to": ANN, "text": "Look", "media": [file]});
        router.carrier.inbound(message).await;
    };
    for _ in 0..5 {
        receive("idle.png").await;
    }
    receive("slow.png").await;
    receive("quick.png").await;
    for name in ["quick.png", "slow.png"] {
        let ready = ann.wait_for(READY).await.json();
        assert_eq!(ready["attachment"]["name"], name);
        let file = get(&router, &text(&ready["attachment"]["url"])).await.expect_status(200);
        assert!(file.body == content, "{name}: {} bytes", file.body.len());
    }
}

each_store! { Router::setup() =>
    files_of_many_parts_are_whole_and_ranges_have_their_bytes;
    idle_transfers_take_no_room_from_others;
}

// At least 4 KB a second, measured over three.
each_store! {
    Router::setup().routing("attachments.rate_window", "3s").routing("attachments.least_rate", "4KB") =>
    a_slow_upload_arrives_and_an_idle_one_ends;
    a_slow_reader_gets_the_file_and_an_idle_one_is_left;
}

each_store! {
    Router::setup()
        .routing("attachments.rate_window", "3s")
        .routing("attachments.least_rate", "4KB")
        .routing("attachments.allow_private_addresses", true) =>
    a_slow_copy_arrives_and_an_idle_one_keeps_back_no_other;
}
