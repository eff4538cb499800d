//! An orderly restart of a single server with the defaults, as its pages see it.
//!
//! `node benches/restart/measure.mjs` measures how long they are without events.

use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::process::Command;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::Signal;
use serde_json::json;

use crate::clients::{Driver, RECONNECT_LIMIT};
use crate::harness::DEADLINE;
use crate::harness::names::free_port;
use crate::harness::raw_ws::RawWs;
use crate::harness::server::{BINARY, Config, TestServer};
use crate::harness::sign::App;

/// Pages of each kind.
const PAGES: usize = 7;
const KINDS: [&str; 3] = ["pusher-js-7", "pusher-js-8", "echo-2"];

/// All pages, and how many events they were sent.
struct Fleet {
    drivers: Vec<Driver>,
    published: u64,
}

impl Fleet {
    async fn open(server: &TestServer) -> Self {
        let mut fleet = Self { drivers: KINDS.map(|kind| Driver::fleet(kind, PAGES)).into(), published: 0 };
        let command = json!({"key": server.app().key, "port": server.public.port()});
        for driver in &mut fleet.drivers {
            driver.ask("open", command.clone()).await;
        }
        fleet.is_subscribed().await;
        fleet
    }

    /// Waits until every page has been subscribed once more.
    async fn is_subscribed(&mut self) {
        for driver in &mut self.drivers {
            for page in 0..PAGES {
                let report = json!({"page": page, "subscribed": true});
                driver.report_within(RECONNECT_LIMIT, report).await;
            }
        }
    }

    /// Every page gets an event that is published now.
    async fn hears(&mut self, server: &TestServer) {
        self.published += 1;
        let n = self.published;
        server.publish("news", "Posted", &json!({"n": n}).to_string()).await;
        for driver in &mut self.drivers {
            driver.ask_within(DEADLINE, "heard", json!({"n": n})).await;
        }
    }

    /// Fails if a page gave up for good.
    async fn never_failed(&mut self) {
        for driver in &mut self.drivers {
            let histories = driver.ask("histories", json!({})).await;
            assert!(!histories.to_string().contains("failed"), "{histories}");
        }
    }
}

fn start(port: u16) -> TestServer {
    Config::new().app("1001", "").port(port).start()
}

#[tokio::test]
async fn after_three_restarts_every_page_is_back_and_gets_events() {
    let port = free_port();
    let mut server = start(port);
    let mut fleet = Fleet::open(&server).await;
    fleet.hears(&server).await;
    for _ in 0..3 {
        server.signal(Signal::TERM);
        assert_eq!(server.exit_status(DEADLINE).await.code(), Some(0));
        server = start(port);
        fleet.is_subscribed().await;
        fleet.hears(&server).await;
    }
    fleet.never_failed().await;
}

/// systemd keeps the socket of a `.socket` unit open while its service restarts.
#[tokio::test]
async fn clients_of_an_inherited_socket_wait_for_the_next_process() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    fcntl_setfd(&listener, FdFlags::empty()).expect("inherited from now on");
    let folder = tempfile::tempdir().expect("a folder");
    let app = App::new("1001", "sb-key-1001", "sb-secret-1001");
    let start = || {
        // As systemd does: descriptor 3, and the number of the process it is meant for.
        let script = format!("exec 3<&{}; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\"", listener.as_raw_fd());
        let mut command = Command::new("bash");
        command.args(["-c", &script, "bash", BINARY, "serve", "--json"]).current_dir(folder.path());
        command
            .env("SWITCHBOARD__ADMIN__BIND", "127.0.0.1:0")
            .env("SWITCHBOARD__SERVER__BIND", "127.0.0.1:1");
        for (name, value) in [("ID", &app.id), ("KEY", &app.key), ("SECRET", &app.secret)] {
            command.env(format!("PUSHER_APP_{name}"), value);
        }
        TestServer::launch(command, vec![app.clone()], None)
    };
    let server = start();
    assert_eq!(server.public, address, "not the one of the settings");
    let mut old = RawWs::connect(address, &app).await;
    old.established().await;
    server.signal(Signal::TERM);
    assert_eq!(old.wait_for_close(DEADLINE).await, 4100);
    assert_eq!(server.exit_status(DEADLINE).await.code(), Some(0));

    let app_of_client = app.clone();
    let client = tokio::spawn(async move {
        let mut client = RawWs::connect(address, &app_of_client).await;
        client.established().await
    });
    let _next = start();
    assert!(!client.await.expect("no panic").is_empty());
}
