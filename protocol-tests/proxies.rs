//! The server behind real proxies: the blocks of docs/deployment.md as they stand there, and short time limits.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;

use crate::clients::{PusherJs, user};
use crate::documentation;
use crate::harness::http::{HttpConnection, Request};
use crate::harness::names::unique;
use crate::harness::proxy::{Kind, Proxy, Site};
use crate::harness::server::{Config, TestServer, run};
use crate::harness::ws::WsClient;
use crate::harness::{DEADLINE, within};

/// Makes `mod $test` with one test for each proxy, which runs `$test(Kind::…)`.
macro_rules! each_proxy {
    ($($test:ident: $($name:ident $kind:ident)+;)+) => {$(
        mod $test {
            $(#[tokio::test]
            async fn $name() {
                super::$test(super::Kind::$kind).await;
            })+
        }
    )+};
}

each_proxy! {
    pages_and_signed_calls_go_through_the_documented_block: nginx Nginx caddy Caddy haproxy HaProxy apache Apache;
    the_documented_block_tells_address_and_scheme_of_the_client: nginx Nginx caddy Caddy haproxy HaProxy apache Apache;
    silent_and_listening_pages_outlive_the_time_limits: nginx Nginx caddy Caddy haproxy HaProxy apache Apache lighttpd Lighttpd varnish Varnish;
}

async fn pages_and_signed_calls_go_through_the_documented_block(kind: Kind) {
    // The largest batch, ten events of 200 KB, is more than a connection may leave unread by default.
    let settings = Config::new().server("backlog_limit = \"8MB\"");
    let server = settings.app("1001", "tls_only = true\nevent_size = \"200KB\"").start();
    let proxy = documented(kind, server.public.port());
    let mut page = PusherJs::trusting("v8", &proxy.site().certificate());
    let port = proxy.address().port();
    let options = json!({"wsHost": "localhost", "wsPort": port, "wssPort": port, "forceTLS": true});
    page.open_with("ann", server.app(), user("ann"), options).await;
    page.reaches("ann", "connected").await;
    let channel = unique("news-");
    page.subscribe("ann", &channel).await;
    let data = "x".repeat(200 * 1024);
    let event = |n| json!({"name": "Posted", "channel": channel, "data": format!("{n}{}", &data[1..])});
    let body = json!({"batch": (0..10).map(event).collect::<Vec<_>>()}).to_string();
    assert!(body.len() > 2_000_000);
    let target = Request::post(server.app(), "/apps/1001/batch_events", body.clone()).target();
    let answer =
        curl(&proxy, &target, &["--data-binary", "@-", "-H", "Content-Type: application/json"], &body);
    assert_eq!(answer, "{}");
    for n in 0..10 {
        let text = page.event("ann", &channel, "Posted").await;
        assert!(text.as_str().is_some_and(|text| text.starts_with(&n.to_string())));
    }
    // A path with an encoded character, signed as it is sent.
    let target = Request::get(server.app(), "/apps/1001/channels/presence-a%2Cb").target();
    let answer = curl(&proxy, &target, &[], "");
    assert!(answer.starts_with("{\"occupied\":false"), "{answer}");
}

async fn the_documented_block_tells_address_and_scheme_of_the_client(kind: Kind) {
    let server = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let proxy = documented(kind, server.local_addr().expect("bound").port());
    let answering = tokio::spawn(async move {
        loop {
            let (mut connection, _) = server.accept().await.expect("a connection");
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                match connection.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(_) => break,
                }
            }
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nOK";
            let _ = connection.write_all(answer).await;
            let head = String::from_utf8_lossy(&head).to_lowercase();
            // Proxies ask for themselves, too.
            if head.starts_with("get /asked") {
                return head;
            }
        }
    });
    let asking = tokio::task::spawn_blocking(move || curl(&proxy, "/asked", &[], ""));
    let head = within(DEADLINE, "a request", answering).await.expect("no panic");
    assert_eq!(asking.await.expect("no panic"), "OK");
    let lines: Vec<&str> = head.lines().collect();
    for line in ["x-forwarded-for: 127.0.0.1", "x-forwarded-proto: https"] {
        assert!(lines.contains(&line), "no {line:?} in {head}");
    }
}

/// Each proxy cuts after three seconds, counted its own way, and the server pings after one.
async fn silent_and_listening_pages_outlive_the_time_limits(kind: Kind) {
    let server = Config::new().server("ping_interval = \"1s\"").start();
    let proxy = hasty(kind, server.public.port());
    let path = format!("/app/{}?protocol=7", server.app().key);
    let open = || WsClient::open(proxy.address(), server.app(), &path, &[]);
    let (mut silent, mut listening) = (open().await.established().await, open().await.established().await);
    let channel = unique("busy-");
    listening.subscribe(&channel).await;
    let busy = async {
        // The listener reads and, like a browser, answers pings and sends nothing else.
        loop {
            server.publish(&channel, "tick", "1").await;
            assert_eq!(listening.expect("tick").await.data(), "1");
        }
    };
    let start = Instant::now();
    let waiting = async {
        while start.elapsed() < Duration::from_secs(6) {
            let message = silent.next_message(DEADLINE).await;
            assert!(matches!(message, Message::Ping(_)), "{message:?}");
        }
    };
    tokio::select! {
        () = within(DEADLINE, "six seconds of pings", waiting) => {}
        () = busy => {}
    }
    silent.expect_nothing().await;
    // A last event, behind one that may be under way.
    server.publish(&channel, "last", "2").await;
    while listening.next().await.event != "last" {}
}

/// What can be wrong between a client and an app for TLS only. Each made a client connect some twenty times a second.
#[tokio::test]
async fn a_page_never_reconnects_in_a_tight_loop() {
    for (trusted, sets, part) in [
        ("127.0.0.1", None, "proxy_set_header X-Forwarded-Proto $scheme;"),
        ("10.0.0.0/8", Some("$scheme"), "trusted_proxies = [\"127.0.0.1\"]"),
        ("127.0.0.1", Some("http"), "come back without it"),
        ("10.0.0.0/8", None, "come back without it"),
    ] {
        let trusted = format!("trusted_proxies = [\"{trusted}\"]");
        let server = Config::new().server(&trusted).app("1001", "tls_only = true").start();
        let site = Site::new();
        let block = block("nginx");
        let line = "        proxy_set_header X-Forwarded-Proto $scheme;\n";
        assert!(block.contains(line), "the page has another line");
        let other = sets.map(|value| format!("        proxy_set_header X-Forwarded-Proto {value};\n"));
        let config = block.replace(line, &other.unwrap_or_default());
        let config = on_this_machine(Kind::Nginx, &config, &site, server.public.port());
        let proxy = site.start(Kind::Nginx, &config);
        for version in ["v7", "v8"] {
            expect_pauses(&proxy, &server, version).await;
        }
        let log = server.output();
        let warnings: Vec<_> = log.lines().filter(|line| line.contains(part)).collect();
        assert_eq!(warnings.len(), 1, "{part:?}: {log}");
    }
}

/// A page that is refused three times with a code that has it wait connected only so often.
async fn expect_pauses(proxy: &Proxy, server: &TestServer, version: &str) {
    let log = proxy.site().path("access.log");
    let connections = || std::fs::read_to_string(&log).unwrap_or_default().matches("GET /app/").count();
    let before = connections();
    let start = Instant::now();
    let mut page = PusherJs::trusting(version, &proxy.site().certificate());
    let port = proxy.address().port();
    let options = json!({"wsHost": "localhost", "wsPort": port, "wssPort": port, "forceTLS": true});
    page.open_with("ann", server.app(), user("ann"), options).await;
    for _ in 0..3 {
        page.fails("ann", 4100).await;
    }
    let (count, elapsed) = (connections() - before, start.elapsed());
    // One a second, and three more in two seconds of those that are sent to TLS first.
    let most = 6 + 3 * elapsed.as_secs() as usize;
    assert!((2..=most).contains(&count), "{count} connections in {elapsed:?}");
}

/// The blocks of this language in docs/deployment.md.
fn blocks(language: &str) -> Vec<String> {
    let page = documentation::read("docs/deployment.md").expect("the page");
    let start = format!("```{language}\n");
    let blocks = page.split(&start).skip(1);
    blocks.map(|rest| rest.split_once("\n```").expect("an end").0.to_owned() + "\n").collect()
}

/// The first of them.
fn block(language: &str) -> String {
    blocks(language).into_iter().next().unwrap_or_else(|| panic!("no {language} block"))
}

/// The documented proxy in front of a server on this port.
fn documented(kind: Kind, port: u16) -> Proxy {
    let language = match kind {
        Kind::Nginx => "nginx",
        Kind::Caddy => "caddyfile",
        Kind::HaProxy => "haproxy",
        Kind::Apache => "apache",
        Kind::Lighttpd | Kind::Varnish => unreachable!("not on the page"),
    };
    let site = Site::new();
    let config = on_this_machine(kind, &block(language), &site, port);
    site.start(kind, &config)
}

/// The same with ports, names and files that exist here.
fn on_this_machine(kind: Kind, block: &str, site: &Site, port: u16) -> String {
    let path = |file: &str| site.path(file).display().to_string();
    let (listen, own) = match kind {
        Kind::Nginx => ("listen 443", format!("listen 127.0.0.1:{}", site.port)),
        Kind::Caddy => (
            "ws.portal.example {",
            format!("https://localhost:{} {{\n\ttls {} {}", site.port, path("cert.pem"), path("key.pem")),
        ),
        Kind::HaProxy => ("bind :443", format!("bind 127.0.0.1:{}", site.port)),
        _ => ("*:443", format!("127.0.0.1:{}", site.port)),
    };
    assert!(block.contains(listen) && block.contains("127.0.0.1:6001"), "{block}");
    block
        .replace(listen, &own)
        .replace("127.0.0.1:6001", &format!("127.0.0.1:{port}"))
        .replace("/etc/ssl/ws.portal.example/fullchain.pem", &path("cert.pem"))
        .replace("/etc/ssl/ws.portal.example/privkey.pem", &path("key.pem"))
        .replace("/etc/ssl/ws.portal.example.pem", &path("both.pem"))
        .replace("ws.portal.example", "localhost")
}

/// A proxy without TLS that cuts connections after three seconds.
fn hasty(kind: Kind, server: u16) -> Proxy {
    let site = Site::new();
    let (port, folder) = (site.port, site.path("").display().to_string());
    let config = match kind {
        Kind::Nginx => format!(
            "server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{server}; \
             proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection \
             upgrade; proxy_read_timeout 3s; proxy_send_timeout 3s; }} }}"
        ),
        Kind::Caddy => format!("http://127.0.0.1:{port} {{\n\treverse_proxy 127.0.0.1:{server}\n}}\n"),
        Kind::HaProxy => format!(
            "defaults\n    mode http\n    timeout connect 3s\n    timeout client 3s\n    timeout server \
             3s\nlisten switchboard\n    bind 127.0.0.1:{port}\n    server s1 127.0.0.1:{server}\n"
        ),
        Kind::Apache => format!(
            "<VirtualHost 127.0.0.1:{port}>\nProxyPass / http://127.0.0.1:{server}/ upgrade=websocket nocanon \
             timeout=3\n</VirtualHost>\n"
        ),
        Kind::Lighttpd => format!(
            "server.document-root = \"{folder}\"\nserver.bind = \"127.0.0.1\"\nserver.port = {port}\n\
             server.modules += (\"mod_proxy\")\nserver.max-read-idle = 3\nproxy.server = (\"\" => ((\"host\" => \
             \"127.0.0.1\", \"port\" => {server})))\nproxy.header = (\"upgrade\" => \"enable\")\n"
        ),
        Kind::Varnish => format!(
            "vcl 4.1;\nbackend default {{ .host = \"127.0.0.1\"; .port = \"{server}\"; }}\nsub vcl_recv {{ if \
             (req.http.Upgrade ~ \"(?i)websocket\") {{ return (pipe); }} return (pass); }}\nsub vcl_pipe {{ set \
             bereq.http.Upgrade = req.http.Upgrade; set bereq.http.Connection = req.http.Connection; }}\n"
        ),
    };
    site.start(kind, &config)
}

/// The body that a proxy answers a request with.
fn curl(proxy: &Proxy, target: &str, arguments: &[&str], body: &str) -> String {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--cacert"]).arg(proxy.site().certificate()).args(arguments);
    command.arg(format!("https://localhost:{}{target}", proxy.address().port()));
    let finished = run(command, body);
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    finished.stdout.trim_end().to_owned()
}

#[test]
fn the_documented_units_are_ones_that_systemd_takes() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("switchboard.service");
    // The program need not be where the page puts it.
    let [service, socket] = &blocks("systemd")[..] else { panic!("two units") };
    let service = service.replace("/usr/local/bin/switchboard", crate::harness::server::BINARY);
    std::fs::write(&file, service).expect("written");
    std::fs::write(folder.path().join("switchboard.socket"), socket).expect("written");
    let mut command = Command::new("systemd-analyze");
    command.arg("verify").arg("--man=no").arg(&file).arg(folder.path().join("switchboard.socket"));
    let finished = run(command, "");
    // It may complain about units of this machine, too.
    let ours: Vec<_> = finished.stderr.lines().filter(|line| line.contains("switchboard")).collect();
    assert_eq!((finished.code, ours), (Some(0), vec![]));
}

#[test]
fn the_documented_compose_file_is_well_formed() {
    let mut command = Command::new("ruby");
    command.args(["-ryaml", "-rjson", "-e", "puts YAML.safe_load($stdin.read).to_json"]);
    let finished = run(command, &block("yaml"));
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    let compose: Value = serde_json::from_str(&finished.stdout).expect("JSON");
    for (service, volume) in [("switchboard", "/var/lib/switchboard"), ("caddy", "/data")] {
        let mounted = compose["services"][service]["volumes"][0].as_str().expect("a volume");
        let (name, path) = mounted.split_once(':').expect("name and path");
        assert_eq!(path, volume);
        assert!(compose["volumes"].as_object().expect("volumes").contains_key(name));
    }
    let variables = compose["services"]["switchboard"]["environment"].as_object().expect("variables");
    let mut command = crate::harness::server::binary();
    command.args(["config", "show", "--json"]).env("PUSHER_APP_SECRET", "secret");
    for (name, value) in variables.iter().filter(|(name, _)| *name != "PUSHER_APP_SECRET") {
        command.env(name, value.as_str().expect("a text"));
    }
    let folder = tempfile::tempdir().expect("a folder");
    command.current_dir(folder.path());
    let shown = run(command, "");
    assert_eq!(shown.code, Some(0), "{}", shown.stderr);
    assert!(shown.stdout.contains("172.16.0.0/12"), "{}", shown.stdout);
}

#[test]
fn the_documented_settings_are_ones_that_the_server_takes() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("switchboard.toml");
    // The whole file, then what several servers need beside it.
    let [alone, several] = &blocks("toml")[..] else { panic!("two blocks") };
    std::fs::write(&file, format!("{alone}\n{several}")).expect("written");
    let mut command = crate::harness::server::binary();
    command.args(["config", "show", "--config"]).arg(&file).env("PORTAL_SECRET", "secret");
    let shown = run(command, "");
    assert_eq!(shown.code, Some(0), "{}", shown.stderr);
}

#[tokio::test]
async fn the_metrics_to_watch_exist() {
    let page = documentation::read("docs/deployment.md").expect("the page");
    let folder = tempfile::tempdir().expect("a folder");
    let config = Config::new().app("1001", "[[apps.webhooks]]\nurl = \"https://portal.example/hooks\"");
    let server = config.start_in(folder.path());
    let mut connection = HttpConnection::connect(server.admin).await;
    connection.write("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let metrics = connection.response().await.expect_status(200).text();
    let named = page.split('`').filter(|word| word.starts_with("switchboard_"));
    let missing: Vec<_> = named.filter(|name| !metrics.contains(&format!("# TYPE {name} "))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
