//! The operators' listener: Prometheus metrics and health.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use crate::harness::DEADLINE;
use crate::harness::http::{exchange, get};
use crate::harness::server::Config;
use crate::harness::shared::shared;
use crate::harness::watcher::Watcher;
use crate::harness::ws::WsClient;

/// Sample values by name with labels; checks the text format on the way.
///
/// Source: Prometheus docs, "Exposition formats: text-based format".
fn samples(text: &str) -> BTreeMap<String, f64> {
    assert!(text.ends_with('\n'), "the last line ends too");
    let mut types = BTreeMap::new();
    let mut samples = BTreeMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            assert!(["counter", "gauge", "histogram", "summary"].contains(&kind), "{line}");
            assert_eq!(types.insert(name, kind), None, "declared twice: {line}");
        } else if let Some(rest) = line.strip_prefix("# HELP ") {
            assert!(rest.contains(' '), "{line}");
        } else {
            let (name, value) = line.rsplit_once(' ').expect("a sample");
            let bare = name.split('{').next().expect("first part");
            assert!(bare.starts_with("switchboard_") || bare.starts_with("process_"), "{line}");
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| bare.strip_suffix(end));
            let kind =
                types.get(bare).or_else(|| types.get(family?)).unwrap_or_else(|| panic!("no type: {line}"));
            assert!(*kind != "counter" || bare.ends_with("_total"), "a counter ends in _total: {line}");
            let value = value.parse().unwrap_or_else(|e| panic!("{e}: {line}"));
            assert_eq!(samples.insert(name.to_owned(), value), None, "given twice: {line}");
        }
    }
    samples
}

async fn scrape(admin: SocketAddr) -> BTreeMap<String, f64> {
    let answer = get(admin, "/metrics").await.expect_status(200);
    let kind = answer.header("content-type").expect("a content type");
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    samples(&answer.text())
}

#[tokio::test]
async fn metrics_follow_what_happens() {
    let server = Config::new().app("1001", "").app("1002", "").start();
    let before = scrape(server.admin).await;
    assert_eq!(before["switchboard_connections"], 0.0);
    let mut one = Watcher::on(&server, "a").await;
    let mut other = Watcher::on(&server, "a").await;
    let _elsewhere = WsClient::connect_to(&server, server.app_with_id("1002")).await;
    server.publish("a", "e", "1").await;
    one.expect("e", "1").await;
    other.expect("e", "1").await;
    one.client.send_text("no json").await;
    one.client.expect_error(None, "").await;
    let expected = [
        ("switchboard_connections", 3.0),
        ("switchboard_app_connections{app=\"1001\"}", 2.0),
        ("switchboard_app_connections{app=\"1002\"}", 1.0),
        ("switchboard_app_channels{app=\"1001\"}", 1.0),
        ("switchboard_connections_opened_total", 3.0),
        ("switchboard_deliveries_total", 2.0),
        ("switchboard_client_faults_total", 1.0),
        ("switchboard_slow_consumers_total", 0.0),
        ("switchboard_over_budget_total{reason=\"messages\"}", 0.0),
    ];
    // Counters may be a second old.
    let start = Instant::now();
    loop {
        let now = scrape(server.admin).await;
        let wrong: Vec<_> = expected.iter().filter(|(name, value)| now.get(*name) != Some(value)).collect();
        if wrong.is_empty() {
            break;
        }
        assert!(start.elapsed() < DEADLINE, "not reached: {wrong:?} in {now:?}");
    }
    other.client.close().await;
    let start = Instant::now();
    while scrape(server.admin).await["switchboard_connections"] != 2.0 {
        assert!(start.elapsed() < DEADLINE, "the closed connection is still counted");
    }
}

#[tokio::test]
async fn metrics_are_not_on_the_public_port() {
    let server = shared();
    get(server.public, "/metrics").await.expect_error(404, "");
}

#[tokio::test]
async fn health_is_on_both_ports() {
    let server = shared();
    for addr in [server.public, server.admin] {
        for path in ["/live", "/up", "/"] {
            let answer = get(addr, path).await.expect_status(200);
            assert_eq!(answer.text().trim_end(), "OK", "{path}");
        }
        let ready = get(addr, "/ready").await.expect_status(200).json();
        assert_eq!((&ready["status"], &ready["parts"]["broadcasting"]), (&"ready".into(), &"ready".into()));
    }
}

#[tokio::test]
async fn the_operators_port_knows_nothing_else() {
    let server = shared();
    for path in ["/nope", "/app/sb-key-1001", "/apps/1001/channels"] {
        assert_eq!(get(server.admin, path).await.status, 404, "{path}");
    }
    let post = "POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
    let answer = exchange(server.admin, post).await.expect_status(405);
    assert!(answer.header("allow").is_some_and(|allow| allow.contains("GET")), "{answer:?}");
}

/// A page can make its own name point to the operator's machine; then its browser sends that name.
#[tokio::test]
async fn a_page_in_a_browser_gets_no_metrics() {
    let server = shared();
    let ask = async |host: &str| {
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\n\r\n");
        exchange(server.admin, request).await
    };
    for host in ["evil.example", "evil.example:9601", "127.0.0.1.evil.example", ""] {
        let answer = ask(host).await;
        assert!(answer.status == 403 && !answer.text().contains("switchboard_"), "{host}: {}", answer.text());
    }
    for host in ["localhost", "127.0.0.1:9601", "[::1]:9601"] {
        ask(host).await.expect_status(200);
    }
}

#[tokio::test]
async fn metrics_elsewhere_than_on_loopback_need_the_token() {
    let server = Config::new()
        .env("SWITCHBOARD__ADMIN__BIND", "0.0.0.0:0")
        .env("SWITCHBOARD__ADMIN__TOKEN", "operators-token")
        .start();
    let admin = SocketAddr::from(([127, 0, 0, 1], server.admin.port()));
    let request =
        |authorization: &str| format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\n{authorization}\r\n");
    for wrong in [
        "",
        "Authorization: Bearer wrong\r\n",
        "Authorization: Bearer \r\n",
        "Authorization: Bearer operators-toke\r\n",
        "Authorization: Bearer operators-tokenx\r\n",
        "Authorization: Basic operators-token\r\n",
        "Authorization: operators-token\r\n",
    ] {
        let answer = exchange(admin, request(wrong)).await;
        assert_eq!(answer.status, 401, "{wrong}");
        assert!(answer.header("www-authenticate").is_some_and(|how| how.starts_with("Bearer")));
        assert!(!answer.text().contains("switchboard_") && !answer.text().contains("operators-token"));
    }
    let right = exchange(admin, request("Authorization: Bearer operators-token\r\n")).await;
    assert!(samples(&right.expect_status(200).text()).contains_key("switchboard_connections"));
    // A balancer or container runtime has no token.
    for path in ["/live", "/ready"] {
        get(admin, path).await.expect_status(200);
    }
    assert!(!server.output().contains("operators-token"));
}
