//! A part of the broadcaster that stands still: one of the server's two shards is frozen as a debugger
//! does it, so that nothing is written to its connections.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::DEADLINE;
use crate::harness::http::{HttpConnection, Request, Response, get};
use crate::harness::messaging::{BOB, OUTSIDE, RECEIVED, Router, SENT, never, plain, text};
use crate::harness::ws::WsClient;

/// Data of an event as big as events may be.
const BIG: usize = 10_000;
/// Events in one request.
const BATCH: usize = 10;
/// Time in which a row that is done with is deleted, and more.
const LONG_ENOUGH: Duration = Duration::from_secs(2);

/// A thread of the server that stands still until this is dropped. Its tracer is a thread of ours, and only that
/// one can let it go on.
struct Frozen {
    thaw: Option<mpsc::Sender<()>>,
    tracer: Option<JoinHandle<()>>,
}

impl Frozen {
    fn shard(server: u32, shard: usize) -> Self {
        let thread = Pid::from_raw(thread_of(server, &format!("shard-{shard}")));
        let (thaw, thawed) = mpsc::channel();
        let (stopped, is_stopped) = mpsc::channel();
        let tracer = std::thread::spawn(move || {
            ptrace::seize(thread, ptrace::Options::empty()).expect("children can be traced");
            ptrace::interrupt(thread).expect("it is traced");
            waitpid(thread, Some(WaitPidFlag::__WALL)).expect("it stops");
            stopped.send(()).expect("awaited");
            // Fails when the other end is dropped, which thaws as well.
            let _ = thawed.recv();
            if ptrace::detach(thread, None).is_err() {
                // The server was killed; its end can be waited for when this thread's was.
                let _ = waitpid(thread, Some(WaitPidFlag::__WALL));
            }
        });
        is_stopped.recv_timeout(DEADLINE).expect("the shard stands still");
        Self { thaw: Some(thaw), tracer: Some(tracer) }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.thaw.take();
        if let Some(tracer) = self.tracer.take() {
            let _ = tracer.join();
        }
    }
}

fn thread_of(process: u32, name: &str) -> i32 {
    let tasks = PathBuf::from(format!("/proc/{process}/task"));
    let threads = tasks.read_dir().expect("it runs").map(|task| task.expect("readable").path());
    let has_name =
        |task: &PathBuf| std::fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim_end() == name);
    let task = threads.into_iter().find(has_name).unwrap_or_else(|| panic!("no thread {name}"));
    task.file_name().and_then(|id| id.to_str()).and_then(|id| id.parse().ok()).expect("a number")
}

/// Open sockets of each shard.
async fn sockets(admin: SocketAddr) -> [usize; 2] {
    let metrics = get(admin, "/metrics").await.expect_status(200).text();
    [0, 1].map(|shard| {
        let name = format!("switchboard_shard_sockets{{shard=\"{shard}\"}} ");
        let value = metrics.lines().find_map(|line| line.strip_prefix(&name)).expect("a metric");
        value.parse().expect("a number")
    })
}

/// The server with two shards, and what is connected to which: new connections go where there are fewer.
struct World {
    router: Router,
    /// Requests go to the shard that works.
    api: HttpConnection,
    /// On the other one.
    listener: WsClient,
    ballast: WsClient,
    /// Keeps new connections away from that one.
    _others: Vec<WsClient>,
}

impl World {
    async fn start() -> Self {
        let setup = Router::setup().server("shards = 2\n").routing("send.user_rate", 0);
        let router = setup.start().await;
        let admin = router.server().admin;
        let start = Instant::now();
        while sockets(admin).await != [0, 0] {
            assert!(start.elapsed() < DEADLINE, "connections of the preparations stay open");
        }
        let api = HttpConnection::connect(router.server().public).await;
        let (mut on_first, mut on_second) = (Vec::new(), Vec::new());
        while on_second.len() < 4 {
            let before = sockets(admin).await;
            let client = WsClient::connect_to(router.server(), &router.app).await;
            let after = sockets(admin).await;
            if after[1] > before[1] { on_second.push(client) } else { on_first.push(client) }
        }
        let mut world = Self {
            router,
            api,
            listener: on_second.remove(0),
            ballast: on_second.remove(0),
            _others: on_second,
        };
        for client in on_first {
            client.close().await;
        }
        // One request, so that its connection is counted.
        world.get("/status").await;
        world
    }

    async fn get(&mut self, path: &str) -> Value {
        let path = self.router.app.path(&format!("messaging{path}"));
        let answer = Request::get(&self.router.app, &path).send_over(&mut self.api).await;
        answer.expect_status(200).json()
    }

    async fn send(&mut self, to: &str, text: &str) -> Value {
        let body = json!({"user_id": 1, "to": to, "text": text});
        let path = self.router.app.path("messaging/messages");
        let request = Request::post(&self.router.app, &path, body.to_string());
        request.send_over(&mut self.api).await.expect_status(200).json()["message"].take()
    }

    async fn publish(&mut self, channel: &str) -> Response {
        let event = json!({"name": "big", "channel": channel, "data": "x".repeat(BIG)});
        let body = json!({"batch": vec![event; BATCH]});
        let path = self.router.app.path("batch_events");
        let request = Request::post(&self.router.app, &path, body.to_string());
        request.send_over(&mut self.api).await
    }

    fn freeze(&self) -> Frozen {
        Frozen::shard(self.router.server().pid, 1)
    }
}

#[tokio::test]
async fn t38_a_message_is_taken_while_the_broadcaster_takes_nothing_and_is_told_afterwards() {
    let mut world = World::start().await;
    let thread = world.router.ok("/conversations", json!({"user_id": 1, "to": BOB})).await;
    world.listener.subscribe("user.2").await;
    world.listener.subscribe(&format!("messenger.{}", plain(&thread["conversation"]["id"]))).await;
    world.ballast.subscribe("ballast").await;

    let frozen = world.freeze();
    let start = Instant::now();
    loop {
        let answer = world.publish("ballast").await;
        if answer.status == 503 {
            break;
        }
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(start.elapsed() < DEADLINE * 4, "the broadcaster takes everything");
    }
    let texts = ["one", "two", "three"];
    for text in texts {
        assert_eq!(world.send(BOB, text).await["status"], "delivered");
    }
    world.send(OUTSIDE, "out").await;
    world.router.carrier.wait("accepted=1").await;
    assert_eq!(world.publish("ballast").await.status, 503, "it still takes nothing");

    drop(frozen);
    let mut heard = Vec::new();
    while heard.len() < 2 * texts.len() {
        let event = world.listener.next().await;
        if [SENT, RECEIVED].contains(&event.event.as_str()) {
            heard.push((event.event.clone(), text(&event.json()["message"]["text"])));
        }
    }
    let told = |name: &str| -> Vec<&str> {
        heard.iter().filter(|(event, _)| event == name).map(|(_, text)| text.as_str()).collect()
    };
    assert_eq!((told(SENT), told(RECEIVED)), (texts.to_vec(), texts.to_vec()));
    never(&mut world.listener, &world.router, RECEIVED).await;
}

/// What was handed to a shard is not told yet: a crash before it is written loses nothing.
#[tokio::test]
async fn t38_what_a_crash_kept_from_being_written_is_told_after_the_restart() {
    let mut world = World::start().await;
    world.listener.subscribe("user.2").await;
    let frozen = world.freeze();
    assert_eq!(world.send(BOB, "hello").await["status"], "delivered");
    tokio::time::sleep(LONG_ENOUGH).await;
    assert_eq!(world.get("/status").await["broadcasts"]["count"], 1);
    world.router.server().signal(Signal::KILL);
    drop(frozen);
    world.router.revive();
    let mut bob = world.router.listen("user.2").await;
    assert_eq!(bob.wait_for(RECEIVED).await.json()["message"]["text"], "hello");
}
