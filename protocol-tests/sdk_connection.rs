//! The life of a connection as pusher-js sees it: refusals, retries, restarts.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use rustix::process::Signal;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

use crate::clients::{PusherJs, RECONNECT_LIMIT, each_version, user};
use crate::harness::http::Request;
use crate::harness::names::unique;
use crate::harness::server::{Config, TestServer};
use crate::harness::shared::{DISABLED, shared};
use crate::harness::sign::App;
use crate::harness::{DEADLINE, within};

each_version! {
    an_unknown_key_and_a_disabled_app_stop_the_client_for_good: v4 v6 v7 v8;
    an_app_for_tls_only_sends_the_client_to_tls_at_once: v4 v6 v7 v8;
    a_path_that_ends_with_a_slash_connects: v6 v7 v8;
    a_connection_over_a_retried_quota_gets_in_when_there_is_room: v4 v6 v7 v8;
    a_page_comes_back_when_a_reload_enables_its_app_again: v7 v8;
    a_page_whose_backend_was_slow_to_authorise_comes_back: v7 v8;
    its_pings_are_answered_and_keep_the_connection: v4 v6 v7 v8;
    it_returns_with_its_channels_after_the_server_was_killed: v4 v6 v7 v8;
    it_returns_with_its_channels_after_a_restart_with_4100: v4 v6 v7 v8;
    it_moves_to_another_node_at_once_when_its_own_drains_with_4200: v4 v6 v7 v8;
    a_signed_in_user_is_signed_in_again_after_reconnecting: v7 v8;
    a_terminated_user_is_disconnected_for_good: v7 v8;
}

async fn an_unknown_key_and_a_disabled_app_stop_the_client_for_good(version: &str) {
    let server = shared();
    let mut page = PusherJs::start(version);
    let unknown = App::new("1", &unique("nokey"), "secret");
    for (app, code) in [(&unknown, 4001), (server.app_with_id(DISABLED), 4003)] {
        page.open(&app.key, &server, app, user("ann")).await;
        page.fails(&app.key, code).await;
        // `disconnected` has no timer: only the application can leave it.
        page.reaches(&app.key, "disconnected").await;
        page.0.never(json!({"on": app.key, "state": "connected"}));
    }
}

async fn an_app_for_tls_only_sends_the_client_to_tls_at_once(version: &str) {
    let server = direct_tls_only();
    let mut page = PusherJs::start(version);
    let tls = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let (plain, secure) = (server.public.port(), tls.local_addr().expect("bound").port());
    let ports = json!({"wsPort": plain, "wssPort": secure});
    page.open_with("ann", server.app(), user("ann"), ports).await;
    page.fails("ann", 4000).await;
    let hello = within(DEADLINE, "a TLS handshake", async {
        let (mut client, _) = tls.accept().await.expect("a connection");
        client.read_u8().await.expect("a first byte")
    });
    assert_eq!(hello.await, 0x16, "the record type of a TLS handshake");
}

/// A server with an app for TLS only and without a proxy in front.
fn direct_tls_only() -> TestServer {
    Config::new().server("trusted_proxies = [\"10.0.0.0/8\"]").app("1001", "tls_only = true").start()
}

async fn a_path_that_ends_with_a_slash_connects(version: &str) {
    let server = Config::new().server("path_prefix = \"/ws\"").start();
    let mut page = PusherJs::start(version);
    for path in ["/", "/ws/"] {
        let options = json!({"wsPort": server.public.port(), "wsPath": path});
        page.open_with(path, server.app(), user("ann"), options).await;
        page.reaches(path, "connected").await;
        let channel = unique("private-c");
        page.subscribe(path, &channel).await;
        server.publish(&channel, "Posted", "{}").await;
        page.event(path, &channel, "Posted").await;
    }
}

async fn a_connection_over_a_retried_quota_gets_in_when_there_is_room(version: &str) {
    let server = Config::new().app("1001", "max_connections = 1\nover_quota = \"retry\"").start();
    let mut page = PusherJs::start(version);
    page.connect("ann", &server, user("ann")).await;
    page.open("bob", &server, server.app(), user("bob")).await;
    page.fails("bob", 4100).await;
    page.0.ask("disconnect", json!({"on": "ann"})).await;
    page.reaches("bob", "connected").await;
}

async fn a_page_comes_back_when_a_reload_enables_its_app_again(version: &str) {
    let server = Config::new().start();
    let mut page = PusherJs::start(version);
    page.connect("ann", &server, user("ann")).await;
    let room = unique("private-room");
    page.subscribe("ann", &room).await;
    let disable = |text: String| text.replace("[[apps]]", "[[apps]]\nenabled = false");
    server.reload(disable, "configuration reloaded").await;
    // Closed, and refused once more while it is disabled.
    page.fails("ann", 4100).await;
    page.fails("ann", 4100).await;
    server.reload(|text| text.replace("enabled = false", ""), "configuration reloaded").await;
    page.event("ann", &room, "pusher:subscription_succeeded").await;
    server.publish(&room, "Posted", "{}").await;
    page.event("ann", &room, "Posted").await;
    page.0.never(json!({"on": "ann", "state": "disconnected"}));
}

/// The backend answers after the connection's time to authorise is over.
async fn a_page_whose_backend_was_slow_to_authorise_comes_back(version: &str) {
    let strict = "authorized_connections = true\nauthorization_timeout = \"1s\"";
    let server = Config::new().app("1001", strict).start();
    let mut page = PusherJs::start(version);
    page.connect("ann", &server, user("ann")).await;
    page.fails("ann", 4100).await;
    page.reaches("ann", "connected").await;
    let room = unique("private-room");
    page.subscribe("ann", &room).await;
    server.publish(&room, "Posted", "{}").await;
    page.event("ann", &room, "Posted").await;
    page.0.never(json!({"on": "ann", "state": "disconnected"}));
}

async fn its_pings_are_answered_and_keep_the_connection(version: &str) {
    let server = shared();
    let mut page = PusherJs::start(version);
    // 4.x spells its options with underscores.
    let impatient = json!({
        "wsPort": server.public.port(),
        "activityTimeout": 500,
        "activity_timeout": 500,
        "pongTimeout": 5000,
        "pong_timeout": 5000,
    });
    page.open_with("ann", server.app(), user("ann"), impatient).await;
    page.reaches("ann", "connected").await;
    for _ in 0..2 {
        page.0.report(json!({"on": "ann", "frame": "pusher:pong"})).await;
    }
    page.0.never(json!({"on": "ann", "state": "connecting"}));
}

/// One channel of each kind that is authorised differently.
fn channels() -> [String; 3] {
    ["", "private-", "presence-"].map(|kind| unique(&format!("{kind}room")))
}

async fn settle_in(page: &mut PusherJs, server: &TestServer, channels: &[String]) {
    page.connect("ann", server, user("ann")).await;
    for channel in channels {
        page.subscribe("ann", channel).await;
    }
}

async fn is_back_on(page: &mut PusherJs, server: &TestServer, channels: &[String]) {
    page.reaches("ann", "connected").await;
    for channel in channels {
        page.event("ann", channel, "pusher:subscription_succeeded").await;
        server.publish(channel, "Posted", "{\"n\":1}").await;
        assert_eq!(page.event("ann", channel, "Posted").await, json!({"n": 1}));
    }
}

/// The same configuration on the address of a server that has ended.
fn restart(config: Config, address: SocketAddr) -> TestServer {
    config.env("SWITCHBOARD__SERVER__BIND", &address.to_string()).start()
}

async fn it_returns_with_its_channels_after_the_server_was_killed(version: &str) {
    let config = Config::new().app("1001", "");
    let server = config.clone().start();
    let (mut page, channels) = (PusherJs::start(version), channels());
    settle_in(&mut page, &server, &channels).await;
    let address = server.public;
    drop(server);
    let server = restart(config, address);
    is_back_on(&mut page, &server, &channels).await;
}

async fn it_returns_with_its_channels_after_a_restart_with_4100(version: &str) {
    let config = Config::new().app("1001", "").drain("window = \"0s\"\nclose_code = 4100");
    let server = config.clone().start();
    let (mut page, channels) = (PusherJs::start(version), channels());
    settle_in(&mut page, &server, &channels).await;
    server.signal(Signal::TERM);
    assert!(server.exit_status(RECONNECT_LIMIT).await.success());
    let server = restart(config, server.public);
    page.fails("ann", 4100).await;
    is_back_on(&mut page, &server, &channels).await;
}

async fn it_moves_to_another_node_at_once_when_its_own_drains_with_4200(version: &str) {
    let config = Config::new().app("1001", "").drain("window = \"0s\"\nclose_code = 4200");
    let (old, new) = (config.clone().start(), config.start());
    let balancer = Balancer::to(old.public).await;
    let (mut page, channels) = (PusherJs::start(version), channels());
    page.open_with("ann", old.app(), user("ann"), json!({"wsPort": balancer.address.port()})).await;
    page.reaches("ann", "connected").await;
    for channel in &channels {
        page.subscribe("ann", channel).await;
    }
    balancer.turn_to(new.public);
    old.signal(Signal::TERM);
    page.fails("ann", 4200).await;
    is_back_on(&mut page, &new, &channels).await;
}

async fn a_signed_in_user_is_signed_in_again_after_reconnecting(version: &str) {
    let config = Config::new().app("1001", "");
    let server = config.clone().start();
    let mut page = PusherJs::start(version);
    page.connect("ann", &server, user("ann")).await;
    page.ask("signin", "ann", "").await;
    let signed_in = json!({"on": "ann", "frame": "pusher:signin_success"});
    page.0.report(signed_in.clone()).await;
    let address = server.public;
    drop(server);
    let _server = restart(config, address);
    page.0.report_within(RECONNECT_LIMIT, signed_in).await;
}

async fn a_terminated_user_is_disconnected_for_good(version: &str) {
    let server = shared();
    let mut page = PusherJs::start(version);
    let ann = unique("ann");
    page.connect("ann", &server, user(&ann)).await;
    page.connect("bob", &server, user("bob")).await;
    page.ask("signin", "ann", "").await;
    page.0.report(json!({"on": "ann", "frame": "pusher:signin_success"})).await;
    let path = server.app().path(&format!("users/{ann}/terminate_connections"));
    Request::post(server.app(), &path, "{}").send(server.public).await.expect_ok("{}");
    page.fails("ann", 4009).await;
    page.reaches("ann", "disconnected").await;
    assert_eq!(page.ask("state", "bob", "").await, "connected");
}

/// A TCP load balancer with one node behind it, which can be exchanged.
#[derive(Debug)]
struct Balancer {
    address: SocketAddr,
    node: Arc<Mutex<SocketAddr>>,
}

impl Balancer {
    async fn to(node: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let node = Arc::new(Mutex::new(node));
        let current = Arc::clone(&node);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let node = *current.lock().expect("not poisoned");
                tokio::spawn(async move {
                    if let Ok(mut server) = TcpStream::connect(node).await {
                        // Either side may reset; the connection is over then.
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        });
        Self { address, node }
    }

    /// New connections go to `node` from now on; the others stay.
    fn turn_to(&self, node: SocketAddr) {
        *self.node.lock().expect("not poisoned") = node;
    }
}
