//! Who may use the HTTP API: the signature over method, path, query and body, in every form SDKs send.
//!
//! The published vectors have a fixed time; here the same requests are signed with the current one.

use serde_json::json;

use crate::harness::http::{Request, Response, exchange};
use crate::harness::names::unique;
use crate::harness::server::{Config, TestServer};
use crate::harness::shared::{COUNTING, DISABLED, shared};
use crate::harness::sign::{App, hmac_hex, md5_hex, now, string_to_sign};
use crate::harness::watcher::Watcher;
use crate::harness::ws::WsClient;

const MD5_OF_NOTHING: &str = "d41d8cd98f00b204e9800998ecf8427e";

/// A request whose every parameter is chosen by the test, in the order given.
struct Handmade<'a> {
    app: &'a App,
    method: &'a str,
    path: String,
    params: Vec<(String, String)>,
    body: &'a str,
}

impl<'a> Handmade<'a> {
    fn get(app: &'a App, rest: &str) -> Self {
        Self { app, method: "GET", path: app.path(rest), params: auth_params(app), body: "" }
    }

    fn post(app: &'a App, rest: &str, body: &'a str) -> Self {
        let params = auth_params(app);
        Self { app, method: "POST", path: app.path(rest), params, body }
            .with("body_md5", &md5_hex(body.as_bytes()))
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.params.retain(|(known, _)| known != name);
        self.params.push((name.to_owned(), value.to_owned()));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.params.retain(|(known, _)| known != name);
        self
    }

    fn signature(&self) -> String {
        hmac_hex(&self.app.secret, &string_to_sign(self.method, &self.path, &self.params))
    }

    fn query(&self) -> String {
        self.params.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
    }

    async fn send(&self, server: &TestServer) -> Response {
        self.send_signed(server, &self.signature()).await
    }

    async fn send_signed(&self, server: &TestServer, signature: &str) -> Response {
        self.send_target(server, &format!("{}?{}&auth_signature={signature}", self.path, self.query())).await
    }

    async fn send_target(&self, server: &TestServer, target: &str) -> Response {
        let (method, body) = (self.method, self.body);
        let length = body.len();
        let head =
            format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
        exchange(server.public, head + body).await
    }
}

fn auth_params(app: &App) -> Vec<(String, String)> {
    [("auth_key", app.key.as_str()), ("auth_timestamp", &now().to_string()), ("auth_version", "1.0")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
}

/// `text` with its last hex digit exchanged for another.
fn another_digit(text: &str) -> String {
    let digit = if text.ends_with('0') { '1' } else { '0' };
    format!("{}{digit}", &text[..text.len() - 1])
}

/// nginx with a URI in `proxy_pass`, Apache and lighttpd decode paths and encode them again, lighttpd queries, too.
#[tokio::test]
async fn paths_and_queries_verify_in_every_encoding_that_says_the_same() {
    let server = shared();
    let app = server.app();
    let names = ["presence-a=b@c,d;e", "presence-a%3Db%40c%2Cd%3Be", "presence-a%3db%40c%2cd%3be"];
    for signed in names {
        for received in names {
            for rest in ["", "/users"] {
                let request = Request::get(app, &app.path(&format!("channels/{signed}{rest}")));
                let target = request.target().replace(signed, received);
                request.send_with_target(server.public, &target).await.expect_status(200);
            }
        }
    }
    let end = Request::post(app, &app.path("users/a%40b%3Bc/terminate_connections"), "{}");
    let decoded = end.target().replace("a%40b%3Bc", "a@b;c");
    end.send_with_target(server.public, &decoded).await.expect_ok("{}");
    // A value that the caller encoded before it was signed.
    for signed in ["presence-a%2Cb%20c", "presence-a%2cb%20c", "presence-a%2Cb+c", "presence-a,b c"] {
        let list = Request::get(app, &app.path("channels")).param("filter_by_prefix", signed);
        let sent = list.target();
        let (start, rest) = sent.split_once("filter_by_prefix=").expect("there");
        let (_, rest) = rest.split_once('&').expect("the signature follows");
        for received in ["presence-a,b%20c", "presence-a%2Cb%20c", "presence-a%2Cb+c"] {
            let target = format!("{start}filter_by_prefix={received}&{rest}");
            list.send_with_target(server.public, &target).await.expect_status(200);
        }
    }
}

#[tokio::test]
async fn a_signature_fits_no_path_that_is_read_otherwise() {
    let server = shared();
    let app = server.app();
    for (signed, received) in [
        ("channels/presence-a/users", "channels/presence-a%2Fusers"),
        ("channels/presence-a%2Fusers", "channels/presence-a/users"),
        ("channels/a%2540b", "channels/a%40b"),
        ("channels/a%40b", "channels/a%2540b"),
        ("channels/a@b", "channels/a%2540b"),
        ("channels/a", "channels/b"),
    ] {
        let request = Request::get(app, &app.path(signed));
        let target = request.target().replace(signed, received);
        let answer = request.send_with_target(server.public, &target).await;
        answer.expect_error(401, "Invalid signature");
    }
}

#[tokio::test]
async fn every_request_of_the_sdks_is_accepted_and_no_altered_one_is() {
    let server = shared();
    let app = server.app();
    let event = r#"{"name": "MessageReceived", "channels": ["user.42"], "data": "{\"id\": 7, \"body\": \"h\u00e9\"}"}"#;
    let batch = r#"{"batch":[{"channel":"user.42","name":"MessageReceived","data":"{}"}]}"#;
    let (presence, count) = (("filter_by_prefix", "presence-"), ("info", "user_count"));
    for request in [
        Handmade::post(app, "events", event),
        Handmade::post(app, "batch_events", batch),
        Handmade::post(app, "users/42/terminate_connections", "{}"),
        Handmade::get(app, "channels").with(presence.0, presence.1).with(count.0, count.1),
        Handmade::get(app, "channels")
            .with("body_md5", MD5_OF_NOTHING)
            .with(presence.0, presence.1)
            .with(count.0, count.1),
        Handmade::get(app, "channels/presence-room").with(count.0, count.1),
        Handmade::get(app, "channels/presence-room").with("body_md5", MD5_OF_NOTHING).with(count.0, count.1),
        Handmade::get(app, "channels/presence-room/users"),
        Handmade::get(app, "connections"),
    ] {
        let shown = format!("{} {}?{}", request.method, request.path, request.query());
        let answer = request.send(&server).await;
        assert_eq!(answer.status, 200, "{shown}: {}", answer.text());

        let signature = request.signature();
        let altered = request.send_signed(&server, &another_digit(&signature)).await;
        altered.expect_error(401, "Invalid signature");
        request.send_signed(&server, &signature.to_uppercase()).await.expect_error(401, "Invalid signature");
        request.send_signed(&server, "").await.expect_error(401, "signature");
        let more = format!("{}?{}&x=1&auth_signature={signature}", request.path, request.query());
        request.send_target(&server, &more).await.expect_error(401, "Invalid signature");
        let earlier = request.query().replace(&format!("={}", now() / 10), &format!("={}", now() / 10 - 1));
        let earlier = format!("{}?{earlier}&auth_signature={signature}", request.path);
        request.send_target(&server, &earlier).await.expect_error(401, "Invalid signature");
    }
}

#[tokio::test]
async fn a_signature_holds_for_its_path_and_method_only() {
    let server = shared();
    let app = server.app();
    let request = Handmade::get(app, "channels/presence-a");
    let query = format!("{}&auth_signature={}", request.query(), request.signature());
    for path in ["channels/presence-b", "channels", "connections", "channels/presence-a/users"] {
        let target = format!("{}?{query}", app.path(path));
        request.send_target(&server, &target).await.expect_error(401, "Invalid signature");
    }
    let batch = Handmade::post(app, "batch_events", "{}");
    let target = format!("{}?{}&auth_signature={}", app.path("events"), batch.query(), batch.signature());
    batch.send_target(&server, &target).await.expect_error(401, "Invalid signature");
}

#[tokio::test]
async fn a_timestamp_may_be_ten_minutes_off_both_ways() {
    let server = shared();
    let app = server.app();
    // The exact bounds are tested with a frozen clock beside the verifier.
    for offset in [-595, 0, 595] {
        let request = Handmade::get(app, "connections").with("auth_timestamp", &(now() + offset).to_string());
        request.send(&server).await.expect_status(200);
    }
    for offset in [-100_000, -605, 605, 100_000] {
        let request = Handmade::get(app, "connections").with("auth_timestamp", &(now() + offset).to_string());
        let text = request.send(&server).await.expect_status(401).error();
        assert!(text.starts_with("Timestamp expired: Given timestamp ("), "{text}");
        assert!(text.contains("not within 600s of server time ("), "{text}");
    }
}

#[tokio::test]
async fn a_missing_or_odd_timestamp_is_refused() {
    let server = shared();
    let app = server.app();
    let missing = Handmade::get(app, "connections").without("auth_timestamp");
    missing.send(&server).await.expect_error(401, "Timestamp required");
    let fraction = format!("{}.5", now());
    let negative = format!("-{}", now());
    for odd in ["", "now", "0x10", "99999999999999999999999", &fraction, &negative] {
        let request = Handmade::get(app, "connections").with("auth_timestamp", odd);
        request.send(&server).await.expect_error(401, "Timestamp");
    }
}

#[tokio::test]
async fn only_version_1_0_is_supported() {
    let server = shared();
    let app = server.app();
    for version in ["2.0", "1", "1.00", "1.1"] {
        let request = Handmade::get(app, "connections").with("auth_version", version);
        request.send(&server).await.expect_error(401, "Version not supported");
    }
    let missing = Handmade::get(app, "connections").without("auth_version");
    missing.send(&server).await.expect_error(401, "Version required");
}

#[tokio::test]
async fn the_key_must_be_that_of_the_app_in_the_path() {
    let server = shared();
    let (app, other) = (server.app(), server.app_with_id(COUNTING));
    let others_key = App::new(&app.id, &other.key, &app.secret);
    let others_credentials = App::new(&app.id, &other.key, &other.secret);
    let unknown_key = App::new(&app.id, "nokey", &app.secret);
    for wrong in [&others_key, &others_credentials, &unknown_key] {
        Handmade::get(wrong, "channels").send(&server).await.expect_error(401, "Unknown auth_key");
        let body = r#"{"name":"e","channel":"c","data":"1"}"#;
        Handmade::post(wrong, "events", body).send(&server).await.expect_error(401, "Unknown auth_key");
    }
    let others_secret = App::new(&app.id, &app.key, &other.secret);
    Handmade::get(&others_secret, "channels").send(&server).await.expect_error(401, "Invalid signature");
}

#[tokio::test]
async fn a_request_without_any_authentication_is_refused() {
    let server = shared();
    let app = server.app();
    let channel = unique("c");
    let mut watcher = Watcher::on(&server, &channel).await;
    let body = json!({"name": "e", "channel": channel, "data": "1"}).to_string();
    let request = Handmade::post(app, "events", &body);
    request.send_target(&server, &request.path).await.expect_error(401, "Missing parameter: auth_key");
    let unsigned = format!("{}?{}", request.path, request.query());
    request.send_target(&server, &unsigned).await.expect_error(401, "auth_signature");
    watcher.expect_nothing(&server).await;
    for rest in ["channels", "channels/presence-x", "channels/presence-x/users", "connections"] {
        let request = Handmade::get(app, rest);
        request.send_target(&server, &request.path).await.expect_error(401, "Missing parameter: auth_key");
    }
}

#[tokio::test]
async fn an_unknown_app_answers_as_a_known_one_does_to_a_stranger() {
    let server = shared();
    let known = server.app();
    let unknown = App::new("999999", "nokey", "nosecret");
    let stranger = App::new(&known.id, "nokey", "nosecret");
    let body = r#"{"name":"e","channel":"c","data":"1"}"#;
    for (there, here) in [
        (Handmade::get(&unknown, "channels"), Handmade::get(&stranger, "channels")),
        (Handmade::post(&unknown, "events", body), Handmade::post(&stranger, "events", body)),
    ] {
        let (there_signed, here_signed) = (there.send(&server).await, here.send(&server).await);
        assert_eq!(there_signed.status, 401);
        assert_eq!(there_signed.text(), here_signed.text());
        assert!(there_signed.error().contains("auth_key"));
        let there_bare = there.send_target(&server, &there.path).await;
        let here_bare = here.send_target(&server, &here.path).await;
        assert_eq!((there_bare.status, there_bare.text()), (here_bare.status, here_bare.text()));
    }
}

#[tokio::test]
async fn an_app_id_is_matched_as_a_whole() {
    let server = shared();
    let app = server.app();
    for id in ["100", "10011", "1001%20", "01001", "1001x"] {
        let wrong = App::new(id, &app.key, &app.secret);
        Handmade::get(&wrong, "channels").send(&server).await.expect_error(401, "auth_key");
    }
}

#[tokio::test]
async fn the_order_case_and_encoding_of_parameters_do_not_matter() {
    let server = shared();
    let app = server.app();
    let room = unique("presence-room");
    let _watcher = Watcher::on(&server, &room).await;
    let request = Handmade::get(app, &format!("channels/{room}")).with("info", "user_count");
    let timestamp = &request.params[1].1;
    let (key, path, signature) = (&app.key, &request.path, request.signature());
    for query in [
        // .NET puts the signature first.
        format!(
            "auth_signature={signature}&info=user_count&auth_version=1.0&auth_timestamp={timestamp}&auth_key={key}"
        ),
        format!(
            "AUTH_KEY={key}&Auth_Timestamp={timestamp}&auth_VERSION=1.0&Info=user_count&Auth_Signature={signature}"
        ),
        format!(
            "auth%5Fkey={key}&auth_timestamp={timestamp}&auth_version=1%2E0&info=user%5fcount&auth_signature={signature}"
        ),
        format!(
            "&auth_key={key}&&auth_timestamp={timestamp}&auth_version=1.0&info=user_count&auth_signature={signature}&"
        ),
    ] {
        let answer = request.send_target(&server, &format!("{path}?{query}")).await;
        answer.expect_ok(r#"{"occupied":true,"user_count":1}"#);
    }
}

#[tokio::test]
async fn lists_are_signed_and_read_in_the_form_of_each_sdk() {
    let server = shared();
    let app = server.app_with_id(COUNTING);
    let room = unique("presence-room");
    let _watcher = Watcher::on_app(&server, app, &room).await;
    let request = Handmade::get(app, &format!("channels/{room}"));
    let (path, query) = (&request.path, request.query());
    let expected = r#"{"occupied":true,"user_count":1,"subscription_count":1}"#;
    let joined = "info=user_count,subscription_count";
    let ruby = "info[]=user_count&info[]=subscription_count";
    for (sent, signed) in [
        (joined, joined),
        // Guzzle encodes the comma.
        ("info=user_count%2Csubscription_count", joined),
        // PHP signs arrays joined.
        ("info[0]=user_count&info[1]=subscription_count", joined),
        ("info%5B0%5D=user_count&info%5B1%5D=subscription_count", joined),
        // Ruby signs them as they stand.
        (ruby, ruby),
        ("info%5B%5D=user_count&info%5B%5D=subscription_count", ruby),
        ("info[0]=user_count&info[1]=subscription_count", "info[0]=user_count&info[1]=subscription_count"),
    ] {
        let signature = hmac_hex(&app.secret, &format!("GET\n{path}\n{query}&{signed}"));
        let target = format!("{path}?{query}&{sent}&auth_signature={signature}");
        request.send_target(&server, &target).await.expect_ok(expected);
        let swapped = target.replace("user_count", "x_count");
        request.send_target(&server, &swapped).await.expect_error(401, "Invalid signature");
    }
}

#[tokio::test]
async fn a_plus_is_read_as_a_space() {
    let server = shared();
    let app = server.app();
    let request = Handmade::get(app, "channels").with("filter_by_prefix", "no such");
    let target = format!("{}?{}&auth_signature={}", request.path, request.query(), request.signature());
    let target = target.replace("no such", "no+such");
    request.send_target(&server, &target).await.expect_ok(r#"{"channels":{}}"#);
}

#[tokio::test]
async fn a_path_prefix_may_be_there_or_not_and_be_signed_or_not() {
    let server = Config::new().server("path_prefix = \"/ws\"").start();
    let app = server.app();
    for path in ["/app/sb-key-1001?protocol=7", "/ws/app/sb-key-1001?protocol=7"] {
        let mut client = WsClient::open(server.public, app, path, &[]).await.established().await;
        client.expect_nothing().await;
    }
    let mut watcher = Watcher::on(&server, "news").await;
    let body = r#"{"name":"e","channel":"news","data":"1"}"#;
    let request = Request::post(app, "/apps/1001/events", body);
    request.send(server.public).await.expect_ok("{}");
    request.clone().unsigned_prefix("/ws").send(server.public).await.expect_ok("{}");
    Request::post(app, "/ws/apps/1001/events", body).send(server.public).await.expect_ok("{}");
    for _ in 0..3 {
        watcher.expect("e", "1").await;
    }
    let python = "/users/42/terminate_connections";
    Request::post(app, python, "{}").send(server.public).await.expect_ok("{}");
    for wrong in ["/wsx", "/x", "/ws/ws"] {
        let answer = request.clone().unsigned_prefix(wrong).send(server.public).await;
        assert_eq!(answer.status, 404, "{wrong}: {}", answer.text());
    }
    watcher.expect_nothing(&server).await;
}

#[tokio::test]
async fn without_a_configured_prefix_there_is_none() {
    let server = shared();
    let body = r#"{"name":"e","channel":"c","data":"1"}"#;
    let request = Request::post(server.app(), "/apps/1001/events", body).unsigned_prefix("/ws");
    request.send(server.public).await.expect_error(404, "");
}

#[tokio::test]
async fn a_trailing_slash_is_part_of_the_signed_path_and_of_nothing_else() {
    let server = shared();
    let body = r#"{"name":"e","channel":"c","data":"1"}"#;
    let request = Request::post(server.app(), "/apps/1001/events/", body);
    request.send(server.public).await.expect_ok("{}");
    let target = request.target().replace("/events/?", "/events?");
    request.send_with_target(server.public, &target).await.expect_error(401, "Invalid signature");
}

#[tokio::test]
async fn body_md5_is_that_of_the_bytes_received() {
    let server = shared();
    let app = server.app();
    let channel = unique("c");
    let mut watcher = Watcher::on(&server, &channel).await;
    let body = format!(r#"{{"name":"e","channel":"{channel}","data":"1"}}"#);
    let other = md5_hex(b"something else");
    let right = md5_hex(body.as_bytes());

    Handmade::post(app, "events", &body).send(&server).await.expect_ok("{}");
    watcher.expect("e", "1").await;
    let wrong = Handmade::post(app, "events", &body).with("body_md5", &other);
    wrong.send(&server).await.expect_error(401, "body_md5");
    let missing = Handmade::post(app, "events", &body).without("body_md5");
    missing.send(&server).await.expect_error(401, "body_md5");
    let empty = Handmade::post(app, "events", &body).with("body_md5", "");
    empty.send(&server).await.expect_error(401, "body_md5");
    let upper = Handmade::post(app, "events", &body).with("body_md5", &right.to_uppercase());
    upper.send(&server).await.expect_error(401, "body_md5");
    // The same JSON in other bytes.
    let spaced = body.replace(':', ": ");
    let respaced = Handmade { body: &spaced, ..Handmade::post(app, "events", &body) };
    respaced.send(&server).await.expect_error(401, "body_md5");
    // The body is there, the parameter is that of no body.
    let nothing = Handmade::post(app, "events", &body).with("body_md5", MD5_OF_NOTHING);
    nothing.send(&server).await.expect_error(401, "body_md5");
    watcher.expect_nothing(&server).await;
}

#[tokio::test]
async fn a_get_may_have_the_md5_of_nothing_and_no_other() {
    let server = shared();
    let app = server.app();
    let python = Handmade::get(app, "connections").with("body_md5", MD5_OF_NOTHING);
    python.send(&server).await.expect_status(200);
    let wrong = Handmade::get(app, "connections").with("body_md5", &md5_hex(b"{}"));
    wrong.send(&server).await.expect_error(401, "body_md5");
}

#[tokio::test]
async fn a_wrong_signature_is_answered_with_what_to_sign_and_never_with_the_digest() {
    let server = shared();
    let app = server.app();
    let request = Handmade::post(app, "events", "{}");
    let right = request.signature();
    let wrong = another_digit(&right);
    let answer = request.send_signed(&server, &wrong).await.expect_status(401);
    let (key, timestamp) = (&app.key, &request.params[1].1);
    let md5 = md5_hex(b"{}");
    let expected = format!(
        r#"Invalid signature: you should have sent HmacSHA256Hex("POST\n/apps/1001/events\nauth_key={key}&auth_timestamp={timestamp}&auth_version=1.0&body_md5={md5}", your_secret_key), but you sent "{wrong}""#
    );
    assert_eq!(answer.error(), expected);
    assert!(!answer.text().contains(&right) && !answer.text().contains(&app.secret));
}

#[tokio::test]
async fn authentication_comes_before_anything_is_read() {
    let server = shared();
    let app = server.app();
    let wrong = App::new(&app.id, &app.key, "wrong");
    for body in ["{", "[]", "", "\0", r#"{"name":"pusher:x"}"#] {
        Handmade::post(&wrong, "events", body).send(&server).await.expect_error(401, "Invalid signature");
        Handmade::post(&wrong, "batch_events", body)
            .send(&server)
            .await
            .expect_error(401, "Invalid signature");
    }
    Handmade::get(&wrong, "channels/bad:name").send(&server).await.expect_error(401, "Invalid signature");
    let unknown = Handmade::get(&wrong, "channels").with("info", "colour");
    unknown.send(&server).await.expect_error(401, "Invalid signature");
}

#[tokio::test]
async fn a_disabled_app_is_forbidden_once_authenticated() {
    let server = shared();
    let app = server.app_with_id(DISABLED);
    let wrong = App::new(&app.id, &app.key, "wrong");
    let body = r#"{"name":"e","channel":"c","data":"1"}"#;
    Handmade::post(app, "events", body).send(&server).await.expect_error(403, "disabled");
    Handmade::get(app, "channels").send(&server).await.expect_error(403, "disabled");
    Handmade::post(&wrong, "events", body).send(&server).await.expect_error(401, "Invalid signature");
}

#[tokio::test]
async fn a_parameter_given_twice_is_signed_twice() {
    let server = shared();
    let app = server.app();
    let request = Handmade::get(app, "connections");
    let (path, query) = (&request.path, request.query());
    let signature = hmac_hex(&app.secret, &format!("GET\n{path}\n{query}&x=1&x=2"));
    let target = format!("{path}?{query}&x=1&x=2&auth_signature={signature}");
    request.send_target(&server, &target).await.expect_status(200);
    // A second key, appended by somebody else, is not covered by the signature.
    let doubled = format!("{path}?{query}&auth_signature={}&auth_key=other", request.signature());
    request.send_target(&server, &doubled).await.expect_error(401, "");
}
