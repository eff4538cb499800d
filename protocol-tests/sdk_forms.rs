//! Requests as each server SDK writes them, byte by byte, and what its decoder demands of the answers: for SDKs
//! whose languages the tests do not install.
//!
//! Sources, read in the SDKs: pusher-http-go 5 (request_url.go, encoder.go, response_parsing.go), pusher-http-ruby 2
//! (request.rb, client.rb), pusher-http-java 1.3 (SignatureUtil.java, PusherAbstract.java, Result.java),
//! pusher-http-dotnet 5 (AuthenticatedRequestFactory.cs, TriggerBody.cs, TriggerResult.cs), pusher-http-php 7.2
//! (Pusher.php, the acceptance tests).

use serde_json::{Value, json};

use crate::harness::http::{HttpConnection, Response, exchange};
use crate::harness::names::unique;
use crate::harness::server::TestServer;
use crate::harness::shared::{COUNTING, DISABLED, shared};
use crate::harness::sign::{App, hmac_hex, md5_hex, now, string_to_sign};
use crate::harness::watcher::Watcher;
use crate::harness::ws::WsClient;

/// How an SDK writes requests.
#[derive(Clone, Copy, Debug)]
struct Form {
    name: &'static str,
    headers: &'static str,
    /// The order of the query's names; those that are not there are skipped.
    order: &'static [&'static str],
    /// A value of the query.
    encode: fn(&str) -> String,
    /// `POST /events`.
    event: Event,
    /// An event of a batch, likewise.
    batched: fn(&str, &str, &str, Option<&str>, Option<&str>) -> String,
}

/// Writes an event of these channels, with this name, data, connection left out, and `info`.
type Event = fn(&[&str], &str, &str, Option<&str>, Option<&str>) -> String;

const FORMS: [Form; 5] = [
    // Keys sorted, the signature among them; nothing percent-encoded; JSON's keys sorted.
    Form {
        name: "Go",
        headers: "User-Agent: Go-http-client/1.1\r\nContent-Type: application/json\r\nX-Pusher-Library: pusher-http-go 5.1.1\r\nAccept-Encoding: gzip\r\n",
        order: &[
            "auth_key",
            "auth_signature",
            "auth_timestamp",
            "auth_version",
            "body_md5",
            "filter_by_prefix",
            "info",
        ],
        encode: str::to_owned,
        event: |channels, name, data, socket_id, info| {
            html_escaped(&object(&[
                ("channels", Some(json!(channels))),
                ("data", Some(json!(data))),
                ("info", info.map(Value::from)),
                ("name", Some(json!(name))),
                ("socket_id", socket_id.map(Value::from)),
            ]))
        },
        batched: |channel, name, data, socket_id, info| {
            html_escaped(&object(&[
                ("channel", Some(json!(channel))),
                ("name", Some(json!(name))),
                ("data", Some(json!(data))),
                ("socket_id", socket_id.map(Value::from)),
                ("info", info.map(Value::from)),
            ]))
        },
    },
    // The caller's parameters, then the signature's; the caller's options before the event.
    Form {
        name: "Ruby",
        headers: "X-Pusher-Library: pusher-http-ruby 2.0.3\r\nContent-Type: application/json\r\nUser-Agent: HTTPClient/1.0 (2.8.3, ruby 3.1.2)\r\nAccept: */*\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n",
        order: &[
            "filter_by_prefix",
            "info",
            "body_md5",
            "auth_version",
            "auth_key",
            "auth_timestamp",
            "auth_signature",
        ],
        encode: form_encoded,
        event: |channels, name, data, socket_id, info| {
            object(&[
                ("socket_id", socket_id.map(Value::from)),
                ("info", info.map(Value::from)),
                ("name", Some(json!(name))),
                ("channels", Some(json!(channels))),
                ("data", Some(json!(data))),
            ])
        },
        batched: |channel, name, data, socket_id, info| {
            object(&[
                ("channel", Some(json!(channel))),
                ("name", Some(json!(name))),
                ("data", Some(json!(data))),
                ("info", info.map(Value::from)),
                ("socket_id", socket_id.map(Value::from)),
            ])
        },
    },
    // The order of a HashMap with these keys (OpenJDK 17); it cannot ask for info.
    Form {
        name: "Java",
        headers: "Content-Type: application/json; charset=UTF-8\r\nX-Pusher-Library: pusher-http-java 1.3.4\r\nUser-Agent: Apache-HttpClient/4.5.13 (Java/17.0.15)\r\nAccept-Encoding: gzip,deflate\r\n",
        order: &[
            "body_md5",
            "auth_signature",
            "filter_by_prefix",
            "auth_timestamp",
            "auth_key",
            "info",
            "auth_version",
        ],
        encode: form_encoded,
        event: |channels, name, data, socket_id, _| {
            object(&[
                ("channels", Some(json!(channels))),
                ("name", Some(json!(name))),
                ("data", Some(json!(data))),
                ("socket_id", socket_id.map(Value::from)),
            ])
        },
        batched: |channel, name, data, socket_id, _| {
            object(&[
                ("channel", Some(json!(channel))),
                ("name", Some(json!(name))),
                ("data", Some(json!(data))),
                ("socket_id", socket_id.map(Value::from)),
            ])
        },
    },
    // The signature first, the rest sorted; what is null left out; events of a batch cannot ask for info.
    Form {
        name: ".NET",
        headers: "Accept: application/json\r\nPusher-Library-Name: pusher-http-dotnet\r\nPusher-Library-Version: 5.0.0\r\nContent-Type: application/json; charset=utf-8\r\n",
        order: &[
            "auth_signature",
            "auth_key",
            "auth_timestamp",
            "auth_version",
            "body_md5",
            "filter_by_prefix",
            "info",
        ],
        encode: str::to_owned,
        event: |channels, name, data, socket_id, info| {
            object(&[
                ("name", Some(json!(name))),
                ("data", Some(json!(data))),
                ("channels", Some(json!(channels))),
                ("socket_id", socket_id.map(Value::from)),
                ("info", info.map(Value::from)),
            ])
        },
        batched: |channel, name, data, socket_id, _| {
            object(&[
                ("name", Some(json!(name))),
                ("data", Some(json!(data))),
                ("channel", Some(json!(channel))),
                ("socket_id", socket_id.map(Value::from)),
            ])
        },
    },
    // An empty socket_id where the caller leaves nobody out.
    Form {
        name: "C++",
        headers: "Content-Type: application/json\r\nAccept: */*\r\n",
        order: &[
            "auth_key",
            "auth_timestamp",
            "auth_version",
            "body_md5",
            "filter_by_prefix",
            "info",
            "auth_signature",
        ],
        encode: str::to_owned,
        event: |channels, name, data, socket_id, _| {
            object(&[
                ("channels", Some(json!(channels))),
                ("data", Some(json!(data))),
                ("name", Some(json!(name))),
                ("socket_id", Some(json!(socket_id.unwrap_or_default()))),
            ])
        },
        batched: |channel, name, data, socket_id, _| {
            object(&[
                ("channel", Some(json!(channel))),
                ("data", Some(json!(data))),
                ("name", Some(json!(name))),
                ("socket_id", Some(json!(socket_id.unwrap_or_default()))),
            ])
        },
    },
];

/// A JSON object with its keys in this order, without those that have no value.
fn object(members: &[(&str, Option<Value>)]) -> String {
    let members: Vec<String> = members
        .iter()
        .filter_map(|(key, value)| value.as_ref().map(|value| format!("{}:{value}", json!(key))))
        .collect();
    format!("{{{}}}", members.join(","))
}

/// As Go's encoder writes JSON.
fn html_escaped(json: &str) -> String {
    json.replace('<', r"\u003c").replace('>', r"\u003e").replace('&', r"\u0026")
}

/// `application/x-www-form-urlencoded`: commas encoded, blanks as `+`.
fn form_encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'*' => {
                out.push(char::from(byte));
            }
            b' ' => out.push('+'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

impl Form {
    /// The whole request; `digit` replaces the last of the signature.
    fn request(
        &self,
        app: &App,
        method: &str,
        rest: &str,
        params: &[(&str, &str)],
        body: Option<&str>,
        digit: Option<char>,
    ) -> String {
        let path = app.path(rest);
        let mut all: Vec<(String, String)> =
            [("auth_key", app.key.as_str()), ("auth_timestamp", &now().to_string()), ("auth_version", "1.0")]
                .iter()
                .chain(params)
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect();
        if let Some(body) = body {
            all.push(("body_md5".to_owned(), md5_hex(body.as_bytes())));
        }
        let mut signature = hmac_hex(&app.secret, &string_to_sign(method, &path, &all));
        if let Some(digit) = digit {
            let last = signature.pop().expect("64 digits");
            signature.push(if last == digit { 'e' } else { digit });
        }
        all.push(("auth_signature".to_owned(), signature));
        let query: Vec<String> = self
            .order
            .iter()
            .filter_map(|name| all.iter().find(|(known, _)| known == name))
            .map(|(name, value)| format!("{name}={}", (self.encode)(value)))
            .collect();
        assert_eq!(query.len(), all.len(), "{all:?}");
        let body = body.unwrap_or_default();
        let length =
            if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        format!(
            "{method} {path}?{} HTTP/1.1\r\nHost: localhost\r\n{}{length}\r\n{body}",
            query.join("&"),
            self.headers
        )
    }

    async fn send(
        &self,
        server: &TestServer,
        app: &App,
        method: &str,
        rest: &str,
        params: &[(&str, &str)],
        body: Option<&str>,
    ) -> Response {
        exchange(server.public, self.request(app, method, rest, params, body, None)).await
    }
}

#[tokio::test]
async fn every_sdk_publishes_to_channels_and_leaves_a_connection_out() {
    let server = shared();
    let app = server.app();
    // What Go escapes in JSON, and characters beyond ASCII.
    let data = r#"{"text":"<a href='x'>ü & 👋</a>","price":1.0}"#;
    for form in FORMS {
        let (one, other) = (unique("private-c=@,.;"), unique("c"));
        let mut watcher = Watcher::on(&server, &other).await;
        let mut sender = WsClient::connect(&server).await;
        sender.subscribe(&one).await;
        sender.subscribe(&other).await;
        let socket_id = sender.socket_id.clone();
        for excluded in [None, Some(socket_id.as_str())] {
            let body = (form.event)(&[&one, &other], "Posted", data, excluded, None);
            let answer = form.send(&server, app, "POST", "events", &[], Some(&body)).await;
            assert_eq!((answer.status, answer.text()), (200, "{}".to_owned()), "{}", form.name);
            watcher.expect("Posted", data).await;
            let body = (form.batched)(&other, "Batched", data, excluded, None);
            let body = format!(r#"{{"batch":[{body}]}}"#);
            let answer = form.send(&server, app, "POST", "batch_events", &[], Some(&body)).await;
            assert_eq!((answer.status, answer.text()), (200, "{}".to_owned()), "{}", form.name);
            watcher.expect("Batched", data).await;
        }
        let heard = sender.published_so_far(&server).await;
        let heard: Vec<_> = heard.iter().map(|event| (event.event.as_str(), event.channel())).collect();
        assert_eq!(heard, [("Posted", &*one), ("Posted", &*other), ("Batched", &*other)], "{}", form.name);
    }
}

#[tokio::test]
async fn every_sdk_asks_for_channels_users_and_counts() {
    let server = shared();
    let app = server.app_with_id(COUNTING);
    let room = unique("presence-room");
    let mut client = WsClient::connect_to(&server, app).await;
    client.join_as(&room, "ann").await;
    let counts = json!({"user_count": 1, "subscription_count": 1});
    let both = ("info", "user_count,subscription_count");
    for form in FORMS {
        let get = async |rest: &str, params: &[(&str, &str)]| {
            let answer = form.send(&server, app, "GET", rest, params, None).await;
            assert_eq!(answer.status, 200, "{}: {}", form.name, answer.text());
            answer.json()
        };
        let mut channel = counts.clone();
        channel["occupied"] = true.into();
        assert_eq!(get(&format!("channels/{room}"), &[both]).await, channel);
        let list = get("channels", &[("filter_by_prefix", &room), both]).await;
        assert_eq!(list, json!({"channels": {room.as_str(): counts}}));
        assert_eq!(get(&format!("channels/{room}/users"), &[]).await, json!({"users": [{"id": "ann"}]}));
        let end =
            form.send(&server, app, "POST", "users/nobody/terminate_connections", &[], Some("{}")).await;
        assert_eq!((end.status, end.text()), (200, "{}".to_owned()), "{}", form.name);
    }
}

#[tokio::test]
async fn one_changed_digit_and_no_sdk_is_believed() {
    let server = shared();
    for form in FORMS {
        for (method, rest, params, body) in [
            ("POST", "events", vec![], Some((form.event)(&["c"], "E", "{}", None, None))),
            ("GET", "channels", vec![("filter_by_prefix", "presence-"), ("info", "user_count")], None),
        ] {
            let request = form.request(server.app(), method, rest, &params, body.as_deref(), Some('0'));
            exchange(server.public, request).await.expect_error(401, "Invalid signature");
        }
    }
}

/// What Go's structs, .NET's classes and PHP's declared types take: `channels` an object, `batch` an array,
/// counts whole numbers, ids strings.
#[tokio::test]
async fn answers_have_the_types_that_strict_decoders_demand() {
    let server = shared();
    let app = server.app_with_id(COUNTING);
    let (room, empty, public) = (unique("presence-room"), unique("presence-room"), unique("c"));
    let mut client = WsClient::connect_to(&server, app).await;
    client.join(&room, r#"{"user_id":7,"user_info":{"name":"Ann"}}"#).await;
    let info = Some("user_count,subscription_count");
    let go = FORMS[0];
    let body = (go.event)(&[&room, &empty, &public], "E", "{}", None, info);
    let answer = go.send(&server, app, "POST", "events", &[], Some(&body)).await.expect_status(200).json();
    let channels = answer["channels"].as_object().expect("an object, also for PHP's get_object_vars");
    let counts = |users: Option<u64>, subscribers: u64| (users, Some(subscribers));
    for (channel, expected) in
        [(&room, counts(Some(1), 1)), (&empty, counts(Some(0), 0)), (&public, counts(None, 0))]
    {
        let of = &channels[channel];
        let whole = |name: &str| of.get(name).map(|count| count.as_u64().expect("a whole number"));
        assert_eq!((whole("user_count"), whole("subscription_count")), expected, "{channel} in {answer}");
    }
    let batch: Vec<String> = [(&room, info), (&empty, None)]
        .map(|(channel, info)| (go.batched)(channel, "E", "{}", None, info))
        .to_vec();
    let body = format!(r#"{{"batch":[{}]}}"#, batch.join(","));
    let answer =
        go.send(&server, app, "POST", "batch_events", &[], Some(&body)).await.expect_status(200).json();
    let list = answer["batch"].as_array().expect("an array");
    assert_eq!(list.len(), 2);
    assert!(list.iter().all(Value::is_object), "{answer}");
    // PHP declares the answer an object, and what it finds in `channels` as well.
    let nobody = unique("nobody");
    let none = go.send(&server, app, "GET", "channels", &[("filter_by_prefix", &nobody)], None).await;
    none.expect_ok(r#"{"channels":{}}"#);
    let users = go.send(&server, app, "GET", &format!("channels/{room}/users"), &[], None).await;
    users.expect_ok(r#"{"users":[{"id":"7"}]}"#);
    let users = go.send(&server, app, "GET", &format!("channels/{empty}/users"), &[], None).await;
    users.expect_ok(r#"{"users":[]}"#);
    let unoccupied = go.send(&server, app, "GET", &format!("channels/{empty}"), &[], None).await;
    unoccupied.expect_ok(r#"{"occupied":false}"#);
}

/// .NET reads the answer to every POST as JSON, whatever its status, and finds `channels` and `event_ids` in it
/// where they are objects; Ruby and Python show the body, Go puts it into its error.
#[tokio::test]
async fn every_refusal_is_a_json_object_that_dotnet_can_read() {
    let server = shared();
    let (app, dotnet) = (server.app(), FORMS[3]);
    let big = (dotnet.event)(&["c"], "E", &"x".repeat(11 * 1024), None, None);
    let event = (dotnet.event)(&["c"], "E", "{}", None, None);
    let disabled = server.app_with_id(DISABLED);
    let stranger = App::new("1001", "nobody", "nothing");
    for (app, method, rest, body, status) in [
        (app, "POST", "events", "{}", 400),
        (app, "POST", "events", "[]", 400),
        (&stranger, "POST", "events", event.as_str(), 401),
        (disabled, "POST", "events", &event, 403),
        (app, "POST", "nowhere", &event, 404),
        (app, "GET", "events", "", 405),
        (app, "POST", "channels", &event, 405),
        (app, "POST", "events", &big, 413),
    ] {
        let body = (!body.is_empty()).then_some(body);
        let answer = dotnet.send(&server, app, method, rest, &[], body).await;
        assert_eq!(answer.status, status, "{rest}");
        answer.error();
    }
}

/// The phrases that the SDKs' own tests, or people who search for them, look for.
#[tokio::test]
async fn refusals_contain_the_phrases_of_hosted_pusher() {
    let server = shared();
    let app = server.app();
    let go = FORMS[0];
    let (room, public) = (unique("presence-room"), unique("c"));
    let event = (go.batched)(&public, "E", "{}", None, None);
    let eleven = format!(r#"{{"batch":[{}]}}"#, [event.as_str(); 11].join(","));
    let big = (go.event)(&[&public], "E", &"x".repeat(11 * 1024), None, None);
    let no_channel = r#"{"name":"E","data":"{}"}"#;
    let batch_without = format!(r#"{{"batch":[{no_channel}]}}"#);
    let asks = |info: &str| (go.event)(&[&public], "E", "{}", None, Some(info));
    let list = "info should be a comma separated list of attributes";
    let prefix = "user_count may only be requested for presence channels - please supply filter_by_prefix begining with presence-";
    for (rest, body, status, phrase) in [
        ("batch_events", eleven.as_str(), 400, "Batch too large"),
        ("events", &big, 413, "The data content of this event exceeds the allowed maximum (10240 bytes)"),
        ("events", no_channel, 400, "Missing required parameter: channel"),
        ("events", no_channel, 400, "Expected channel name to be a string"),
        ("batch_events", &batch_without, 400, "Missing required parameter: channel"),
        ("batch_events", "{}", 400, "Missing required parameter: batch"),
        ("events", r#"{"channel":"c","data":""}"#, 400, "Missing required parameter: name"),
        ("events", r#"{"channel":"c","data":""}"#, 400, "Expected name parameter to be a string"),
        ("events", r#"{"channel":"c","name":"E"}"#, 400, "Missing required parameter: data"),
        ("events", &asks("does-not-exist"), 400, list),
        ("events", r#"{"channel":"c","name":"E","data":"","info":["user_count"]}"#, 400, list),
    ] {
        let answer = go.send(&server, app, "POST", rest, &[], Some(body)).await;
        answer.expect_error(status, phrase);
    }
    for (rest, params, phrase) in [
        ("channels".to_owned(), vec![("info", "does-not-exist")], list),
        (format!("channels/{room}"), vec![("info", "does-not-exist")], list),
        ("channels".to_owned(), vec![("info", "user_count")], prefix),
        ("channels".to_owned(), vec![("info", "user_count"), ("filter_by_prefix", "test_")], prefix),
        (
            format!("channels/{public}"),
            vec![("info", "user_count")],
            "Cannot retrieve the user count unless the channel is a presence channel",
        ),
        (format!("channels/{public}/users"), vec![], "Users can only be retrieved for presence channels"),
    ] {
        let answer = go.send(&server, app, "GET", &rest, &params, None).await;
        answer.expect_error(400, phrase);
    }
}

/// Go, Ruby and .NET keep their connections for the next request.
#[tokio::test]
async fn a_connection_serves_the_requests_of_all_sdks_in_turn() {
    let server = shared();
    let mut connection = HttpConnection::connect(server.public).await;
    for form in FORMS {
        let body = (form.event)(&[&unique("c")], "E", "{}", None, None);
        connection.write(form.request(server.app(), "POST", "events", &[], Some(&body), None)).await;
        connection.response().await.expect_ok("{}");
        connection.write(form.request(server.app(), "GET", "channels/c", &[], None, None)).await;
        connection.response().await.expect_ok(r#"{"occupied":false}"#);
    }
}
