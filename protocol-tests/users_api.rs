//! `POST /apps/{id}/users/{user}/terminate_connections`, and events for one user.

use serde_json::json;

use crate::harness::DEADLINE;
use crate::harness::http::Request;
use crate::harness::names::unique;
use crate::harness::server::TestServer;
use crate::harness::shared::{DEFAULTS, shared};
use crate::harness::sign::App;
use crate::harness::ws::WsClient;

const TERMINATED: &str =
    r#"{"event":"pusher:error","data":{"code":4009,"message":"You got disconnected by the app."}}"#;

async fn signed_in(server: &TestServer, app: &App, user: &str) -> WsClient {
    let mut client = WsClient::connect_to(server, app).await;
    client.sign_in(&json!({"id": user}).to_string()).await;
    client
}

fn terminate(app: &App, user: &str) -> Request {
    Request::post(app, &app.path(&format!("users/{user}/terminate_connections")), "{}")
}

async fn expect_terminated(client: &mut WsClient) {
    client.expect_text(TERMINATED).await;
    client.expect_close(4009).await;
}

#[tokio::test]
async fn every_connection_of_the_user_is_closed_and_no_other() {
    let server = shared();
    let app = server.app();
    let user = unique("u");
    let mut tabs = [signed_in(&server, app, &user).await, signed_in(&server, app, &user).await];
    let mut other = signed_in(&server, app, &unique("u")).await;
    let mut nobody = WsClient::connect(&server).await;
    let mut elsewhere = signed_in(&server, server.app_with_id(DEFAULTS), &user).await;
    terminate(app, &user).send(server.public).await.expect_ok("{}");
    for tab in &mut tabs {
        expect_terminated(tab).await;
    }
    for client in [&mut other, &mut nobody, &mut elsewhere] {
        client.expect_nothing().await;
    }
}

#[tokio::test]
async fn a_user_without_connections_is_terminated_all_the_same() {
    let server = shared();
    terminate(server.app(), &unique("u")).send(server.public).await.expect_ok("{}");
}

#[tokio::test]
async fn a_terminated_user_may_come_back() {
    let server = shared();
    let user = unique("u");
    let mut tab = signed_in(&server, server.app(), &user).await;
    terminate(server.app(), &user).send(server.public).await.expect_ok("{}");
    expect_terminated(&mut tab).await;
    let mut again = signed_in(&server, server.app(), &user).await;
    again.expect_nothing().await;
}

#[tokio::test]
async fn the_body_may_be_empty_or_absent() {
    let server = shared();
    let app = server.app();
    let user = unique("u");
    let path = app.path(&format!("users/{user}/terminate_connections"));
    for request in [Request::post(app, &path, ""), Request::new(app, "POST", &path)] {
        let mut tab = signed_in(&server, app, &user).await;
        request.send(server.public).await.expect_ok("{}");
        expect_terminated(&mut tab).await;
    }
}

#[tokio::test]
async fn any_other_body_must_be_a_json_object() {
    let server = shared();
    let app = server.app();
    let user = unique("u");
    let path = app.path(&format!("users/{user}/terminate_connections"));
    let mut tab = signed_in(&server, app, &user).await;
    for (body, part) in [
        (&b"[]"[..], "Invalid JSON in the request body"),
        (b"null", "Invalid JSON in the request body"),
        (b"{}}", "Invalid JSON in the request body"),
        (b"nonsense", "Invalid JSON in the request body"),
        (b"{\"\xff\":1}", "not valid UTF-8"),
    ] {
        Request::post(app, &path, body).send(server.public).await.expect_error(400, part);
    }
    tab.expect_nothing().await;
    Request::post(app, &path, r#" {"reason":[1]} "#).send(server.public).await.expect_ok("{}");
    expect_terminated(&mut tab).await;
}

#[tokio::test]
async fn a_user_id_may_be_percent_encoded() {
    let server = shared();
    let app = server.app();
    let user = unique("ann@example.com;,=_");
    let encoded = user.replace('@', "%40").replace(';', "%3B").replace(',', "%2C").replace('=', "%3D");
    for name in [&user, &encoded] {
        let mut tab = signed_in(&server, app, &user).await;
        terminate(app, name).send(server.public).await.expect_ok("{}");
        expect_terminated(&mut tab).await;
    }
    // Signed bare, encoded on the wire.
    let mut tab = signed_in(&server, app, &user).await;
    let request = terminate(app, &user);
    let target = request.target().replace(&user, &encoded);
    request.send_with_target(server.public, &target).await.expect_ok("{}");
    expect_terminated(&mut tab).await;
}

#[tokio::test]
async fn the_python_sdks_path_without_the_app_works() {
    let server = shared();
    let app = server.app();
    let user = unique("u");
    let path = format!("/users/{user}/terminate_connections");
    let mut tab = signed_in(&server, app, &user).await;
    let mut elsewhere = signed_in(&server, server.app_with_id(DEFAULTS), &user).await;
    Request::post(app, &path, "{}").send(server.public).await.expect_ok("{}");
    expect_terminated(&mut tab).await;
    elsewhere.expect_nothing().await;
}

#[tokio::test]
async fn the_python_sdks_path_is_authenticated_too() {
    let server = shared();
    let app = server.app();
    let user = unique("u");
    let mut tab = signed_in(&server, app, &user).await;
    let path = format!("/users/{user}/terminate_connections");
    let wrong_secret = App::new(&app.id, &app.key, "wrong");
    let unknown_key = App::new(&app.id, "unknown", &app.secret);
    Request::post(&wrong_secret, &path, "{}")
        .send(server.public)
        .await
        .expect_error(401, "Invalid signature");
    Request::post(&unknown_key, &path, "{}").send(server.public).await.expect_error(401, "auth_key");
    let unsigned = Request::post(app, &path, "{}").send_with_target(server.public, &path).await;
    unsigned.expect_error(401, "auth_key");
    terminate(&wrong_secret, &user).send(server.public).await.expect_error(401, "Invalid signature");
    tab.expect_nothing().await;
}

#[tokio::test]
async fn an_event_for_a_user_reaches_all_and_only_that_users_connections() {
    let server = shared();
    let app = server.app();
    let (user, other) = (unique("u"), unique("u"));
    let channel = format!("#server-to-user-{user}");
    let mut tabs = [signed_in(&server, app, &user).await, signed_in(&server, app, &user).await];
    let mut stranger = signed_in(&server, app, &other).await;
    let mut elsewhere = signed_in(&server, server.app_with_id(DEFAULTS), &user).await;
    for tab in &mut tabs {
        tab.subscribe(&channel).await;
    }
    elsewhere.subscribe(&channel).await;
    stranger.subscribe(&format!("#server-to-user-{other}")).await;
    // As the SDKs' sendToUser does it.
    let body = json!({"name": "App\\Events\\Mail", "channels": [channel], "data": "{\"id\":7}"});
    Request::trigger(app, &body).send(server.public).await.expect_ok("{}");
    for tab in &mut tabs {
        let frame = tab.next_within(DEADLINE, "the event").await;
        let expected = json!({"event": "App\\Events\\Mail", "channel": channel, "data": "{\"id\":7}"});
        assert_eq!(serde_json::from_str::<serde_json::Value>(&frame.text).expect("checked"), expected);
        tab.expect_nothing().await;
    }
    stranger.expect_nothing().await;
    elsewhere.expect_nothing().await;
}

#[tokio::test]
async fn an_event_for_several_users_reaches_each() {
    let server = shared();
    let app = server.app();
    let users = [unique("u"), unique("u")];
    let channels = users.each_ref().map(|user| format!("#server-to-user-{user}"));
    let mut clients = Vec::new();
    for (user, channel) in users.iter().zip(&channels) {
        let mut client = signed_in(&server, app, user).await;
        client.subscribe(channel).await;
        clients.push(client);
    }
    let body = json!({"name": "e", "channels": channels, "data": "1"});
    Request::trigger(app, &body).send(server.public).await.expect_ok("{}");
    for (client, channel) in clients.iter_mut().zip(&channels) {
        assert_eq!(client.expect("e").await.channel(), channel);
    }
}

#[tokio::test]
async fn an_event_for_an_absent_user_is_a_success() {
    let server = shared();
    let channel = format!("#server-to-user-{}", unique("u"));
    server.publish(&channel, "e", "1").await;
}

#[tokio::test]
async fn a_users_channel_cannot_be_asked_about_like_a_room() {
    let server = shared();
    let app = server.app();
    let user = unique("u");
    let mut client = signed_in(&server, app, &user).await;
    client.subscribe(&format!("#server-to-user-{user}")).await;
    let users = app.path(&format!("channels/%23server-to-user-{user}/users"));
    Request::get(app, &users).send(server.public).await.expect_error(400, "presence");
    let list = Request::get(app, &app.path("channels")).param("filter_by_prefix", "#");
    list.send(server.public).await.expect_ok(r#"{"channels":{}}"#);
}
