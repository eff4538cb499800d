//! Which pages may connect, and apps that accept TLS only.

use futures_util::future::join_all;

use crate::harness::DEADLINE;
use crate::harness::server::{Config, TestServer};
use crate::harness::shared::{MAIN, SharedServer, TLS_ONLY, shared};
use crate::harness::ws::WsClient;

static PICKY: SharedServer = SharedServer::new(|| {
    Config::new()
        .server("trusted_proxies = [\"10.0.0.0/8\"]")
        .app(
            "1001",
            "allowed_origins = [\"https://portal.example\", \"https://*.portal.example\", \"http://localhost:*\"]",
        )
        .app("1002", "tls_only = true")
});

async fn open(server: &TestServer, app_id: &str, headers: &[(&'static str, &str)]) -> WsClient {
    let app = server.app_with_id(app_id);
    WsClient::open(server.public, app, &format!("/app/{}?protocol=7", app.key), headers).await
}

#[tokio::test]
async fn listed_origins_connect() {
    let server = PICKY.get();
    for origin in [
        "https://portal.example",
        "HTTPS://Portal.Example",
        "https://a.portal.example",
        "https://a.b.portal.example",
        "http://localhost:5173",
    ] {
        open(&server, "1001", &[("Origin", origin)]).await.established().await.expect_nothing().await;
    }
}

#[tokio::test]
async fn other_origins_are_upgraded_and_refused_with_4009() {
    let server = PICKY.get();
    for origin in [
        "https://evil.example",
        "http://portal.example",
        "https://portal.example.evil",
        "https://portal.example:8443",
        "https://evilportal.example",
        "https://evil.example/?.portal.example:",
        "http://localhost",
        "null",
        "",
    ] {
        open(&server, "1001", &[("Origin", origin)]).await.expect_refusal(4009, "rigin").await;
    }
}

/// Sandboxed frames, pages from files, and the shells that apps of web technology run in.
#[tokio::test]
async fn null_and_the_origins_of_native_apps_connect_where_they_are_listed() {
    let listed = [
        "null",
        "file://",
        "capacitor://localhost",
        "ionic://localhost",
        "tauri://localhost",
        "http://localhost",
        "https://localhost",
        "app://.",
        "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
    ];
    let list = format!("allowed_origins = {}", serde_json::json!(listed));
    let server = Config::new().app("1001", &list).start();
    for origin in listed {
        open(&server, "1001", &[("Origin", origin)]).await.established().await;
    }
    for origin in ["https://null", "file:///x", "app://x", "chrome-extension://other", ""] {
        open(&server, "1001", &[("Origin", origin)]).await.expect_refusal(4009, "rigin").await;
    }
}

/// Native clients send none, so an app they use must not have a list.
#[tokio::test]
async fn no_origin_is_refused_where_there_is_a_list() {
    let server = PICKY.get();
    open(&server, "1001", &[]).await.expect_refusal(4009, "rigin").await;
}

#[tokio::test]
async fn without_a_list_any_origin_connects() {
    let server = shared();
    for origin in ["https://evil.example", "null", "file://", ""] {
        open(&server, MAIN, &[("Origin", origin)]).await.established().await;
    }
    open(&server, MAIN, &[]).await.established().await;
}

#[tokio::test]
async fn plain_connections_to_a_tls_app_are_refused_with_4000() {
    let server = shared();
    for (proto, client) in [("http", "203.0.113.1"), ("", "203.0.113.2"), ("httpsx", "203.0.113.3")] {
        let headers = [("X-Forwarded-Proto", proto), ("X-Forwarded-For", client)];
        open(&server, TLS_ONLY, &headers).await.expect_refusal(4000, "TLS").await;
    }
    open(&PICKY.get(), "1002", &[]).await.expect_refusal(4000, "TLS").await;
}

/// With 4000 its clients would come back over and over without a pause.
#[tokio::test]
async fn clients_of_a_proxy_that_does_not_say_how_they_came_are_to_wait() {
    let server = Config::new().app("1001", "tls_only = true").start();
    for _ in 0..3 {
        open(&server, "1001", &[]).await.expect_refusal(4100, "X-Forwarded-Proto").await;
    }
    let warnings: Vec<_> = lines_with(&server, "refused with 4100");
    let [warning] = &warnings[..] else { panic!("{warnings:?}") };
    for part in [
        "127.0.0.1",
        "proxy_set_header X-Forwarded-Proto $scheme;",
        "http-request set-header X-Forwarded-Proto https if { ssl_fc }",
        "RequestHeader set X-Forwarded-Proto",
    ] {
        assert!(warning.contains(part), "no {part:?} in {warning}");
    }
}

#[tokio::test]
async fn clients_of_a_proxy_that_is_not_trusted_are_to_wait_and_the_log_names_it() {
    let server =
        Config::new().server("trusted_proxies = [\"10.0.0.0/8\"]").app("1001", "tls_only = true").start();
    for proto in ["https", "http"] {
        open(&server, "1001", &[("X-Forwarded-Proto", proto)])
            .await
            .expect_refusal(4100, "trusted_proxies")
            .await;
    }
    let warnings = lines_with(&server, "trusted_proxies = [\"127.0.0.1\"]");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
}

#[tokio::test]
async fn a_client_that_was_sent_to_tls_and_comes_back_without_is_to_wait() {
    let server =
        Config::new().server("trusted_proxies = [\"10.0.0.0/8\"]").app("1001", "tls_only = true").start();
    // All at once, because what counts is how many come within two seconds.
    let attempts = (0..12).map(|_| async {
        let mut client = open(&server, "1001", &[]).await;
        u16::from(client.wait_for_close(DEADLINE).await.code)
    });
    let codes = join_all(attempts).await;
    let count = |code: u16| codes.iter().filter(|seen| **seen == code).count();
    assert!(count(4000) >= 3 && count(4100) >= 1 && count(4000) + count(4100) == 12, "{codes:?}");
    assert_eq!(lines_with(&server, "come back without it").len(), 1);
}

/// Lines of the log that contain `part`.
fn lines_with(server: &TestServer, part: &str) -> Vec<String> {
    server.output().lines().filter(|line| line.contains(part)).map(str::to_owned).collect()
}

#[tokio::test]
async fn a_trusted_proxy_tells_that_the_client_came_over_tls() {
    let server = shared();
    for scheme in ["https", "HTTPS"] {
        let headers = [("X-Forwarded-Proto", scheme), ("X-Forwarded-For", "203.0.113.7")];
        open(&server, TLS_ONLY, &headers).await.established().await.expect_nothing().await;
    }
}

#[tokio::test]
async fn anybody_else_is_not_believed() {
    let server = PICKY.get();
    open(&server, "1002", &[("X-Forwarded-Proto", "https")]).await.expect_refusal(4100, "TLS").await;
}

#[tokio::test]
async fn other_apps_take_both() {
    let server = shared();
    for scheme in ["https", "http"] {
        open(&server, MAIN, &[("X-Forwarded-Proto", scheme)]).await.established().await;
    }
}
