//! Which pages may connect, and apps that accept TLS only.

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
    for headers in [
        &[][..],
        &[("X-Forwarded-Proto", "http")],
        &[("X-Forwarded-Proto", "")],
        &[("X-Forwarded-Proto", "httpsx")],
    ] {
        open(&server, TLS_ONLY, headers).await.expect_refusal(4000, "TLS").await;
    }
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
    open(&server, "1002", &[("X-Forwarded-Proto", "https")]).await.expect_refusal(4000, "TLS").await;
}

#[tokio::test]
async fn other_apps_take_both() {
    let server = shared();
    for scheme in ["https", "http"] {
        open(&server, MAIN, &[("X-Forwarded-Proto", scheme)]).await.established().await;
    }
}
